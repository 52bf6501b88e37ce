/* What a layer writes: Q, K, V and heads wherever the caller has room for them, as a cache of keys by heads;
   and nothing at all where it is refused. */
#include "support/fixture.h"
#include "support/layers.h"
#include "support/plans.h"
#include "core/problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static attend_context *context;

/* ---- layouts ---- */

/* Strides of [batch, seqlen, heads, dim] in memory for it, as a caller's cache of `capacity` tokens may lie.
 */
typedef enum layout { TOKENS, HEADS, WIDE, LAYOUT_COUNT } layout;
static const char *const layout_names[] = {"[batch, seqlen, heads, dim]", "[batch, heads, seqlen, dim]",
                                           "heads apart"};

static const struct layout_case {
    const char *name;
    attend_problem problem;
} layout_cases[] = {
    {"one row",
     {.batch = 1, .seqlen_q = 1, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .hidden_size = 40}},
    {"f32",
     {.batch = 2,
      .seqlen_q = 37,
      .num_heads = 4,
      .num_kv_heads = 2,
      .head_dim = 24,
      .head_dim_v = 40,
      .hidden_size = 64,
      .output_size = 56,
      .causal = ATTEND_CAUSAL_TOP_LEFT}},
    {"bf16, turned",
     {.batch = 2,
      .seqlen_q = 33,
      .num_heads = 6,
      .num_kv_heads = 3,
      .head_dim = 16,
      .hidden_size = 48,
      .dtype = ATTEND_BF16,
      .rotary = ATTEND_ROTARY_HALVES}},
    {"f16, odd widths",
     {.batch = 1, .seqlen_q = 20, .num_heads = 3, .head_dim = 10, .hidden_size = 33, .dtype = ATTEND_F16}},
};

static attend_tensor room(test_layer *l, layout how, int64_t seqlen, int64_t heads, int64_t dim)
{
    const int64_t batch = attend_tensor_batch(&l->p), capacity = seqlen + 5;
    attend_tensor t;
    switch (how) {
    case HEADS:
        t = test_layer_tensor(l, l->p.dtype, 4, (int64_t[]){batch, heads, capacity, dim});
        memcpy(t.stride, (int64_t[]){heads * capacity * dim, dim, capacity * dim, 1}, sizeof t.stride);
        break;
    case WIDE: /* room for one more head, and eight more columns of each: rows stay aligned */
        t = test_layer_tensor(l, l->p.dtype, 4, (int64_t[]){batch, capacity, heads + 1, dim + 8});
        break;
    default: t = test_layer_tensor(l, l->p.dtype, 4, (int64_t[]){batch, seqlen, heads, dim});
    }
    memcpy(t.shape, (int64_t[]){batch, seqlen, heads, dim}, sizeof t.shape);
    return t;
}

static void give_room(test_layer *l, layout how)
{
    const attend_problem *p = &l->p;
    l->args.q = room(l, how, p->seqlen_q, p->num_heads, p->head_dim);
    l->args.k = room(l, how, p->seqlen_k, p->num_kv_heads, p->head_dim);
    l->args.v = room(l, how, p->seqlen_k, p->num_kv_heads, p->head_dim_v);
    l->args.heads = room(l, how, p->seqlen_q, p->num_heads, p->head_dim_v);
}

static void expect_same(const char *name, const char *where, const attend_tensor *a, const attend_tensor *b)
{
    const size_t element = attend_dtype_bytes(a->dtype);
    for (int64_t i = 0; i < a->shape[0] * a->shape[1] * a->shape[2] * a->shape[3]; i++) {
        int64_t at[] = {0, 0}, rest = i;
        for (int d = 3; d >= 0; rest /= a->shape[d], d--)
            at[0] += rest % a->shape[d] * a->stride[d], at[1] += rest % a->shape[d] * b->stride[d];
        if (memcmp((char *)a->data + (size_t)at[0] * element, (char *)b->data + (size_t)at[1] * element,
                   element))
            fail_msg("%s, %s: element %lld differs", name, where, (long long)i);
    }
}

static void inner_tensors_lie_as_the_caller_likes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof layout_cases / sizeof *layout_cases; i++) {
        test_layer plain;
        test_layer_make(&plain, &layout_cases[i].problem);
        give_room(&plain, TOKENS);
        test_layer_go(&plain, context);
        for (int how = HEADS; how < LAYOUT_COUNT; how++) {
            test_layer l;
            test_layer_make(&l, &layout_cases[i].problem);
            give_room(&l, (layout)how);
            test_layer_go(&l, context);
            const attend_tensor *is[] = {&l.args.q, &l.args.k, &l.args.v, &l.args.heads},
                                *wanted[] = {&plain.args.q, &plain.args.k, &plain.args.v, &plain.args.heads};
            for (int t = 0; t < 4; t++)
                expect_same(layout_cases[i].name, layout_names[how], is[t], wanted[t]);
            size_t bytes =
                (size_t)(l.p.batch * l.p.seqlen_q * l.p.output_size) * attend_dtype_bytes(l.p.dtype);
            assert_memory_equal(l.args.out.data, plain.args.out.data, bytes);
            test_layer_free(&l);
        }
        test_layer_free(&plain);
    }
}

/* ---- refusals ---- */

static const int64_t too_long[] = {3, 99}, backwards[] = {0, 9, 8}, starts_late[] = {0, 99};
static const int32_t beyond[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 40};

#define SELF .batch = 2, .seqlen_q = 5, .num_heads = 2, .head_dim = 8, .hidden_size = 16

static const struct refusal {
    const char *name;
    attend_problem problem;
    const int64_t *seqlens_q, *seqlens_k, *starts_k, *cu_seqlens_q;
    bool positions;
} refusals[] = {
    {"seqlens_q", {SELF}, .seqlens_q = too_long},
    {"seqlens_k", {SELF}, .seqlens_k = too_long},
    {"seqlens_k, turned", {SELF, .rotary = ATTEND_ROTARY_HALVES}, .seqlens_k = too_long},
    {"starts_k", {SELF, .left_padded = true}, .starts_k = starts_late},
    {"cu_seqlens_q", {SELF, .packed = true, .total_q = 8}, .cu_seqlens_q = backwards},
    {"positions", {SELF, .absolute = ATTEND_ABSOLUTE_LEARNED, .max_positions = 10}, .positions = true},
    {"positions counted",
     {SELF, .absolute = ATTEND_ABSOLUTE_LEARNED, .max_positions = 10, .first_position = 6},
     .positions = false},
};

static void a_refused_run_writes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        attend_plan *plan;
        test_layer l;
        test_layer_make(&l, &r->problem);
        const int64_t batch = attend_tensor_batch(&l.p), rows = attend_rows_q(&l.p),
                      inner = batch * rows * 2 * 8, written = l.count - 2;
        attend_feature_args features = {.seqlens_q = r->seqlens_q,
                                        .seqlens_k = r->seqlens_k,
                                        .starts_k = r->starts_k,
                                        .cu_seqlens_q = r->cu_seqlens_q};
        l.args.features = &features;
        if (r->positions) features.positions = attend_tensor_2d((void *)beyond, ATTEND_I32, 2, 5);
        attend_tensor *outputs[] = {&l.args.q, &l.args.k, &l.args.v, &l.args.heads};
        for (int t = 0; t < 4; t++)
            *outputs[t] = test_layer_tensor(&l, ATTEND_F32, 4, (int64_t[]){batch, rows, 2, 8});
        if (test_layer_plan(context, &l.given, &l.weights, &plan))
            fail_msg("%s: %s", r->name, attend_error_message());
        if (attend_layer_forward(plan, &l.args) != ATTEND_INVALID_ARGUMENT)
            fail_msg("%s is not refused", r->name);
        for (int64_t b = written; b < l.count; b++) /* out, lse, q, k, v, heads: zeros, as they were made */
            for (int64_t n = 0; n < (b == written + 1 ? batch * rows * 2 : inner); n++)
                if (((const float *)l.blocks[b])[n] != 0)
                    fail_msg("%s: tensor %d was written", r->name, (int)(b - written));
        attend_plan_destroy(plan);
        test_layer_free(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(inner_tensors_lie_as_the_caller_likes),
                                       cmocka_unit_test(a_refused_run_writes_nothing)};
    context = test_context();
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    attend_context_destroy(context);
    return failed;
}
