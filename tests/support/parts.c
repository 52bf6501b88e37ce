/* States and keys for runs over ranges of keys; see parts.h. */
#include "support/parts.h"
#include "support/forget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

test_state test_state_make(const attend_problem *p, bool gaps)
{
    const int64_t b = p->batch, n = p->seqlen_q, h = p->num_heads, d = p->head_dim_v, gap = gaps ? 3 : 0;
    const int64_t row = d + gap, query = h * row + gap, rows = b * n * query, numbers = b * h * (n + gap) + 8;
    test_state s = {.memory = malloc((size_t)(rows + 2 * numbers) * sizeof(float))};
    assert_non_null(s.memory);
    memset(s.memory, 0xff, (size_t)(rows + 2 * numbers) * sizeof(float));
    s.state.out = attend_tensor_4d(s.memory, ATTEND_F32, b, n, h, d);
    s.state.max = attend_tensor_3d(s.memory + rows, ATTEND_F32, b, h, n);
    s.state.sum = attend_tensor_3d(s.memory + rows + numbers, ATTEND_F32, b, h, n);
    if (!gaps) return s;
    memcpy(s.state.out.stride, (int64_t[]){n * query, query, row, 1}, sizeof s.state.out.stride);
    memcpy(s.state.max.stride, (int64_t[]){h * (n + gap), n + gap, 1, 0}, sizeof s.state.max.stride);
    memcpy(s.state.sum.stride, (int64_t[]){h * n, 1, h, 0}, sizeof s.state.sum.stride); /* queries vary slower than heads */
    return s;
}

void test_state_free(test_state *s) { free(s->memory); }

/* A copy of rows [first, end) of t in separate pages between inaccessible ones, at their end or beginning;
   seqlen or heads outermost. */
static attend_tensor copy_rows(const attend_tensor *t, int64_t first, int64_t end, bool heads_first, void **map, size_t *mapped)
{
    const int64_t b = t->shape[0], n = end - first, h = t->shape[2], d = t->shape[3], element = (int64_t)attend_dtype_bytes(t->dtype);
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (size_t)(b * n * h * d * element), room = (bytes + page) / page * page;
    *mapped = room + 2 * page;
    char *pages = mmap(NULL, *mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + page, room, PROT_READ | PROT_WRITE), 0);
    memset(pages + page, 0xff, room); /* NaN */
    *map = pages;
    attend_tensor part = attend_tensor_4d(pages + page + (heads_first ? 0 : room - bytes), t->dtype, b, n, h, d);
    if (heads_first) memcpy(part.stride, (int64_t[]){h * n * d, d, n * d, 1}, sizeof part.stride);
    for (int64_t i = 0; i < b * n * h; i++) {
        const int64_t at[] = {i / h / n, i / h % n, i % h};
        memcpy((char *)part.data + (at[0] * part.stride[0] + at[1] * part.stride[1] + at[2] * part.stride[2]) * element,
               (const char *)t->data + (at[0] * t->stride[0] + (first + at[1]) * t->stride[1] + at[2] * t->stride[2]) * element,
               (size_t)(d * element));
    }
    return part;
}

test_part test_part_make(const test_fixture *f, int64_t first, int64_t end, const attend_state *from, const attend_state *into)
{
    test_part part = {.args = f->args};
    part.args.k = copy_rows(&f->k.tensor, first, end, first % 3 == 1, &part.maps[0], &part.bytes[0]);
    part.args.v = copy_rows(&f->v.tensor, first, end, first % 3 != 1, &part.maps[1], &part.bytes[1]);
    part.args.first_key = first, part.args.end_key = first < end && end == f->problem.seqlen_k ? 0 : end;
    part.args.from = from, part.args.into = into;
    if (into) part.args.out = part.args.lse = (attend_tensor){0};
    return part;
}

/* A view of what lies behind the first rows. */
static attend_tensor rows_of(const attend_tensor *t, int axis, int64_t first, int64_t end)
{
    attend_tensor part = *t;
    if (!t->data) return part;
    part.data = (char *)t->data + first * t->stride[axis] * (int64_t)attend_dtype_bytes(t->dtype);
    part.shape[axis] = end - first;
    return part;
}

void test_part_take_queries(test_part *part, const test_fixture *f, int64_t first, int64_t end)
{
    part->args.q = copy_rows(&f->q.tensor, first, end, first % 3 == 1, &part->maps[2], &part->bytes[2]);
    if (!part->args.into) {
        part->args.out = rows_of(&f->out.tensor, 1, first, end);
        part->args.lse = rows_of(&f->lse.tensor, 2, first, end);
    }
    part->args.first_query = first, part->args.end_query = first < end && end == f->problem.seqlen_q ? 0 : end;
}

void test_part_free(test_part *part)
{
    for (int i = 0; i < 3; i++)
        if (part->maps[i]) munmap(part->maps[i], part->bytes[i]);
}

void test_part_run_block(attend_plan *plan, attend_context *context, const test_fixture *f, const int64_t queries[2],
                         const int64_t keys[2], const attend_state *from, const attend_state *into)
{
    char text[TEST_CASE_TEXT];
    test_part part = test_part_make(f, keys[0], keys[1], from, into);
    test_part_take_queries(&part, f, queries[0], queries[1]);
    test_forget_runs(plan);
    if (attend_attention_forward(plan, &part.args) || attend_synchronize(context))
        fail_msg("%s, queries %lld to %lld, keys %lld to %lld: %s", test_case_text(&f->c, text), (long long)queries[0], (long long)queries[1],
                 (long long)keys[0], (long long)keys[1], attend_error_message());
    test_part_free(&part);
}

void test_part_run(attend_plan *plan, attend_context *context, const test_fixture *f, int64_t first, int64_t end,
                   const attend_state *from, const attend_state *into)
{
    test_part_run_block(plan, context, f, (int64_t[]){0, f->problem.seqlen_q}, (int64_t[]){first, end}, from, into);
}
