/* Checks tensor views: the requirements of every argument, and their messages. */
#include "core/tensor.h"
#include "core/status.h"
#include "shared/dtype.h"

#include <inttypes.h>
#include <stdio.h>

size_t attend_dtype_bytes(attend_dtype dtype)
{
    return (unsigned)dtype < ATTEND_DTYPES ? (size_t)attend_dtypes[dtype].bytes : 4;
}

const char *attend_dtype_name(attend_dtype dtype)
{
    return (unsigned)dtype < ATTEND_DTYPES ? attend_dtypes[dtype].name : "unknown dtype";
}

int64_t attend_tensor_elements(const attend_tensor *tensor)
{
    int64_t elements = 1;
    for (int axis = 0; axis < tensor->rank; axis++) elements *= tensor->shape[axis];
    return elements;
}

static bool is_empty(const attend_tensor *tensor)
{
    for (int axis = 0; axis < tensor->rank; axis++)
        if (tensor->shape[axis] == 0) return true;
    return false;
}

bool attend_tensor_extent(const attend_tensor *tensor, uintptr_t *begin, uintptr_t *end)
{
    *begin = *end = (uintptr_t)tensor->data;
    if (is_empty(tensor)) return true;
    int64_t last = 0, bytes;
    for (int axis = 0; axis < tensor->rank; axis++) {
        int64_t step;
        if (!attend_multiply(tensor->shape[axis] - 1, tensor->stride[axis], &step)) return false;
        if (__builtin_add_overflow(last, step, &last)) return false;
    }
    if (__builtin_add_overflow(last, 1, &last)) return false;
    if (!attend_multiply(last, (int64_t)attend_dtype_bytes(tensor->dtype), &bytes)) return false;
    return !__builtin_add_overflow(*begin, (uintptr_t)bytes, end);
}

/* "[2, 128, 8, 64]" */
static const char *shape_text(char text[96], int rank, const int64_t *shape)
{
    int length = snprintf(text, 96, "[");
    for (int axis = 0; axis < rank; axis++)
        length += snprintf(text + length, 96 - (size_t)length, "%s%" PRId64, axis ? ", " : "", shape[axis]);
    snprintf(text + length, 96 - (size_t)length, "]");
    return text;
}

static attend_status check_shape(const char *name, const attend_tensor *tensor, int rank,
                                 const int64_t *shape)
{
    if (tensor->rank != rank)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s has rank %d, expected %d", name, tensor->rank, rank);
    for (int axis = 0; axis < rank; axis++) {
        if (tensor->shape[axis] == shape[axis]) continue;
        char actual[96], expected[96];
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s has shape %s, expected %s", name,
                           shape_text(actual, rank, tensor->shape), shape_text(expected, rank, shape));
    }
    return ATTEND_OK;
}

/* The address of an empty tensor given as NULL, so that offsets, which are never dereferenced, are not
   computed from NULL. Aligned for every kernel. */
static _Alignas(64) char nowhere[64];

/* Strides that reach no element, along an axis of extent 1 or in an empty tensor, become those of a
   contiguous tensor, so that later computations with them are valid. */
static void settle_strides(attend_tensor *tensor)
{
    const bool empty = is_empty(tensor);
    int64_t inside = 1;
    for (int axis = tensor->rank - 1; axis >= 0; axis--) {
        if (empty || tensor->shape[axis] == 1) tensor->stride[axis] = inside;
        if (!attend_multiply(tensor->stride[axis], tensor->shape[axis], &inside)) inside = 0;
    }
}

/* An output must not overlap itself: sorted by stride, each axis must step over everything that the axes
   before it span. */
static attend_status check_not_folded(const char *name, const attend_tensor *tensor)
{
    int order[ATTEND_MAX_RANK], count = 0;
    for (int axis = 0; axis < tensor->rank; axis++) {
        if (tensor->shape[axis] <= 1) continue;
        int place = count++;
        for (; place > 0 && tensor->stride[order[place - 1]] > tensor->stride[axis]; place--)
            order[place] = order[place - 1];
        order[place] = axis;
    }
    int64_t span = 1;
    for (int i = 0; i < count; i++) {
        int64_t stride = tensor->stride[order[i]];
        if (stride < span)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "%s overlaps itself: stride[%d] is %" PRId64
                               ", but the axes inside span %" PRId64 " elements",
                               name, order[i], stride, span);
        span += stride * (tensor->shape[order[i]] - 1);
    }
    return ATTEND_OK;
}

static attend_status check_strides(const char *name, const attend_tensor *tensor, attend_tensor_role role)
{
    for (int axis = tensor->rank - 1; axis >= 0; axis--)
        if (tensor->stride[axis] < 0)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "%s has a negative stride[%d] (%" PRId64 ")", name,
                               axis, tensor->stride[axis]);
    uintptr_t begin, end;
    if (!attend_tensor_extent(tensor, &begin, &end))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s reaches beyond the address space: check its shape and strides", name);
    return role == ATTEND_OUTPUT && !is_empty(tensor) ? check_not_folded(name, tensor) : ATTEND_OK;
}

attend_status attend_tensor_resolve(const char *name, const attend_tensor *tensor, attend_tensor_role role,
                                    attend_dtype dtype, int rank, const int64_t *shape,
                                    attend_tensor *resolved)
{
    *resolved = *tensor;
    if (!tensor->data && tensor->rank == 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is missing", name);
    ATTEND_TRY(check_shape(name, tensor, rank, shape));
    if ((unsigned)tensor->dtype > ATTEND_I64)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s has dtype %d, which is none of attend_dtype, expected %s", name,
                           (int)tensor->dtype, attend_dtype_name(dtype));
    if (tensor->dtype != dtype)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is %s, expected %s", name,
                           attend_dtype_name(tensor->dtype), attend_dtype_name(dtype));
    if (!tensor->data && !is_empty(tensor)) return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is NULL", name);
    if ((uintptr_t)tensor->data % attend_dtype_bytes(dtype))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is not aligned to its %zu-byte elements", name,
                           attend_dtype_bytes(dtype));
    if (!tensor->data) resolved->data = nowhere;
    settle_strides(resolved);
    return check_strides(name, resolved, role);
}

attend_status attend_tensor_check_rows(const char *name, const attend_tensor *tensor)
{
    const int64_t stride = tensor->stride[tensor->rank - 1];
    if (stride == 1 || tensor->shape[tensor->rank - 1] <= 1) return ATTEND_OK;
    return attend_fail(ATTEND_INVALID_ARGUMENT,
                       "%s has last stride %" PRId64 ", but rows must be contiguous (stride 1)%s", name,
                       stride, stride ? "" : "; attend_tensor_row_major() fills in strides");
}

/* The bytes spanned by axes with strides below `period`; 0 if a larger stride is not a multiple of it. */
static uintptr_t span_within(const attend_tensor *tensor, uintptr_t period)
{
    uintptr_t element = attend_dtype_bytes(tensor->dtype), span = element;
    for (int axis = 0; axis < tensor->rank; axis++) {
        uintptr_t step = (uintptr_t)tensor->stride[axis] * element;
        if (tensor->shape[axis] <= 1) continue;
        if (step < period)
            span += step * (uintptr_t)(tensor->shape[axis] - 1);
        else if (step % period)
            return 0;
    }
    return span;
}

/* Whether two tensors interleave without touching, as Q, K and V do in fused QKV: both repeat with one
   period, and occupy different bytes of it. */
static bool interleave(const attend_tensor *a, const attend_tensor *b)
{
    for (int axis = 0; axis < a->rank; axis++) {
        uintptr_t period = (uintptr_t)a->stride[axis] * attend_dtype_bytes(a->dtype);
        if (a->shape[axis] <= 1 || period == 0) continue;
        uintptr_t span_a = span_within(a, period), span_b = span_within(b, period);
        uintptr_t from_a = (uintptr_t)b->data >= (uintptr_t)a->data
                               ? ((uintptr_t)b->data - (uintptr_t)a->data) % period
                               : period - 1 - ((uintptr_t)a->data - (uintptr_t)b->data - 1) % period;
        if (span_a && span_b && from_a >= span_a && span_b <= period && from_a <= period - span_b)
            return true;
    }
    return false;
}

static bool overlap(const attend_tensor *a, const attend_tensor *b)
{
    uintptr_t a_begin, a_end, b_begin, b_end;
    attend_tensor_extent(a, &a_begin, &a_end);
    attend_tensor_extent(b, &b_begin, &b_end);
    return a_begin < b_end && b_begin < a_end && !interleave(a, b);
}

attend_status attend_tensors_disjoint(const attend_named_tensor *tensors, int count)
{
    for (int i = 0; i < count; i++) {
        if (tensors[i].role != ATTEND_OUTPUT || !tensors[i].tensor->data) continue;
        for (int j = 0; j < count; j++)
            if (j != i && tensors[j].tensor->data && overlap(tensors[i].tensor, tensors[j].tensor))
                return attend_fail(ATTEND_INVALID_ARGUMENT, "%s overlaps %s in memory", tensors[i].name,
                                   tensors[j].name);
    }
    return ATTEND_OK;
}

attend_tensor attend_tensor_one_head(const attend_tensor *t)
{
    attend_tensor rows = attend_tensor_4d(t->data, t->dtype, t->shape[0], t->shape[1], 1, t->shape[2]);
    const int64_t stride[] = {t->stride[0], t->stride[1], t->shape[2], t->stride[2]};
    for (int axis = 0; axis < 4; axis++) rows.stride[axis] = stride[axis];
    return rows;
}

attend_tensor attend_tensor_transposed(const attend_tensor *matrix)
{
    attend_tensor t = *matrix;
    t.shape[0] = matrix->shape[1], t.shape[1] = matrix->shape[0];
    t.stride[0] = matrix->stride[1], t.stride[1] = matrix->stride[0];
    return t;
}
