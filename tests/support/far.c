/* Spreads, copies and compares tensors, element by element; see far.h. */
#include "support/far.h"

#include <string.h>
#include <sys/mman.h>

static const int64_t FAR = ((int64_t)1 << 31) + 64;

/* Small pages: a huge page for each element would use real memory. */
static void *reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    return memory;
}

static void release(void *memory, size_t bytes) { munmap(memory, bytes); }

const test_far_memory test_far_host = {reserve, release, INT64_MAX};

static void make_strides_explicit(attend_tensor *t)
{
    int64_t stride = 1;
    for (int axis = 0; axis < t->rank; axis++)
        if (t->stride[axis]) return;
    for (int axis = t->rank - 1; axis >= 0; axis--) t->stride[axis] = stride, stride *= t->shape[axis];
}

/* The axis whose stride becomes large; -1: none. */
static int choose_axis(const test_far_field *f, int variation)
{
    const attend_tensor *t = f->tensor;
    int may[ATTEND_MAX_RANK], count = 0;
    for (int axis = 0; axis < t->rank - f->kept; axis++)
        if (t->shape[axis] > 1 && t->stride[axis] != 0) may[count++] = axis;
    return count ? may[variation % count] : -1;
}

static char *element(const attend_tensor *t, const int64_t *at)
{
    int64_t offset = 0;
    for (int axis = 0; axis < t->rank; axis++) offset += at[axis] * t->stride[axis];
    return (char *)t->data + offset * (int64_t)attend_dtype_bytes(t->dtype);
}

/* Advances an element's indices in row-major order; false behind the last element. */
static bool next(const attend_tensor *t, int64_t *at)
{
    for (int axis = t->rank - 1; axis >= 0; axis--) {
        if (++at[axis] < t->shape[axis]) return true;
        at[axis] = 0;
    }
    return false;
}

bool test_far_spread(test_far_field *f, int variation, const test_far_memory *memory)
{
    attend_tensor *t = f->tensor, near;
    int64_t at[ATTEND_MAX_RANK] = {0}, inner = 1, bytes = (int64_t)attend_dtype_bytes(t->dtype);
    f->memory = NULL;
    if (!t->data) return true;
    make_strides_explicit(t);
    const int far = choose_axis(f, variation);
    if (far < 0) return true;
    near = *t;
    for (int axis = t->rank - 1; axis >= 0; axis--) {
        if (axis == far || near.stride[axis] == 0) continue;
        t->stride[axis] = inner, inner *= t->shape[axis];
    }
    const int64_t steps = t->shape[far] - 1;
    t->stride[far] = steps * FAR * bytes <= memory->most ? FAR : (FAR / steps + 63) / 64 * 64 + 64;
    f->bytes = (size_t)((steps * t->stride[far] + inner) * bytes);
    t->data = f->memory = memory->reserve(f->bytes);
    if (!f->memory) return false;
    if (f->output) return true;
    do memcpy(element(t, at), element(&near, at), (size_t)bytes);
    while (next(t, at));
    return true;
}

void test_far_free(test_far_field *f, const test_far_memory *memory)
{
    if (f->memory) memory->release(f->memory, f->bytes);
    f->memory = NULL;
}

bool test_far_equal(const attend_tensor *a, const attend_tensor *b)
{
    int64_t at[ATTEND_MAX_RANK] = {0};
    for (int axis = 0; axis < a->rank; axis++)
        if (a->shape[axis] == 0) return true;
    do
        if (memcmp(element(a, at), element(b, at), attend_dtype_bytes(a->dtype))) return false;
    while (next(a, at));
    return true;
}
