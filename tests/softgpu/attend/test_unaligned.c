/* 16-bit layers whose x, weights and biases lie on the device at odd elements, as in a file's blob or in
   slices of fused weights: each stage is within its bound, and the plan reports the cost of their
   alignment. */
#include "support/plans.h"
#include <attend/attend.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tool/values.h"

typedef struct unaligned_case {
    const char *name;
    int64_t heads, kv_heads, dim, hidden;
    int64_t first;   /* first element of every tensor within its memory */
    int64_t padding; /* elements between rows of x, and of the weights */
    bool fused;      /* Q, K and V are columns of one matrix, as in GPT-2's Conv1D */
    bool aligned;    /* as the plan should report */
} unaligned_case;

static const unaligned_case cases[] = {
    {"all at multiples of 16 bytes", 2, 1, 16, 48, 8, 8, false, true},
    {"at odd elements", 2, 1, 16, 48, 1, 0, false, false},
    {"rows of an odd width", 2, 2, 16, 48, 8, 1, false, false},
    {"slices of 40 bytes", 2, 2, 20, 48, 8, 0, true, false},
    {"slices of 40 bytes at odd elements", 3, 3, 20, 40, 3, 5, true, false},
    {"slices of 10 bytes", 2, 1, 5, 16, 1, 0, true, false},
};
enum { CASES = sizeof cases / sizeof *cases, BATCH = 2, SEQLEN = 9, BLOCKS = 16 };

typedef struct subject {
    const unaligned_case *c;
    attend_problem p;
    void *blocks[BLOCKS];
    int count;
    uint64_t seed;
    attend_layer_weights weights;
    attend_layer_args args;
} subject;

/* Managed memory, which counts as device memory and which the comparison can read. */
static void *block(subject *s, int64_t elements)
{
    void *data;
    const size_t bytes = (size_t)(elements + s->c->first) * 2;
    assert_int_equal(cudaMallocManaged(&data, bytes, cudaMemAttachGlobal), cudaSuccess);
    memset(data, 0xff, bytes);
    s->blocks[s->count++] = data;
    return (char *)data + s->c->first * 2;
}

static attend_tensor filled(subject *s, attend_tensor t, double size)
{
    attend_values_gauss(s->seed++, (float)size, &t);
    return t;
}

static attend_tensor rows(subject *s, int64_t width)
{
    const int64_t step = width + s->c->padding;
    attend_tensor t = attend_tensor_3d(block(s, BATCH * SEQLEN * step), s->p.dtype, BATCH, SEQLEN, width);
    t.stride[0] = SEQLEN * step, t.stride[1] = step, t.stride[2] = 1;
    return t;
}

static attend_tensor heads(subject *s, int64_t count)
{
    return attend_tensor_4d(block(s, BATCH * SEQLEN * count * s->c->dim), s->p.dtype, BATCH, SEQLEN, count, s->c->dim);
}

static attend_tensor by_rows(subject *s, int64_t out, int64_t in)
{
    attend_tensor t = attend_tensor_2d(block(s, out * (in + s->c->padding)), s->p.dtype, out, in);
    t.stride[0] = in + s->c->padding, t.stride[1] = 1;
    return filled(s, t, 1 / sqrt((double)in));
}

static attend_tensor slice(subject *s, void *data, int64_t first, int64_t line, int64_t out)
{
    attend_tensor t = attend_tensor_2d((char *)data + first * 2, s->p.dtype, out, s->c->hidden);
    t.stride[0] = 1, t.stride[1] = line;
    return filled(s, t, 1 / sqrt((double)s->c->hidden));
}

static void make(subject *s, const unaligned_case *c, attend_dtype dtype)
{
    const int64_t q = c->heads * c->dim, kv = c->kv_heads * c->dim, line = q + 2 * kv + c->padding;
    *s = (subject){.c = c, .seed = 1};
    s->p = (attend_problem){.batch = BATCH, .seqlen_q = SEQLEN, .num_heads = c->heads, .num_kv_heads = c->kv_heads,
                            .head_dim = c->dim, .hidden_size = c->hidden, .dtype = dtype};
    if (c->fused) {
        void *data = block(s, c->hidden * line);
        s->weights.wq = slice(s, data, 0, line, q), s->weights.wk = slice(s, data, q, line, kv);
        s->weights.wv = slice(s, data, q + kv, line, kv);
    } else {
        s->weights.wq = by_rows(s, q, c->hidden), s->weights.wk = by_rows(s, kv, c->hidden);
        s->weights.wv = by_rows(s, kv, c->hidden);
    }
    s->weights.wo = by_rows(s, c->hidden, q);
    s->weights.bk = attend_tensor_1d(block(s, kv), dtype, kv);
    s->weights.bk.stride[0] = 1;
    filled(s, s->weights.bk, 0.3);
    s->args = (attend_layer_args){.x = filled(s, rows(s, c->hidden), 1), .out = rows(s, c->hidden), .q = heads(s, c->heads),
                                  .k = heads(s, c->kv_heads), .v = heads(s, c->kv_heads), .heads = heads(s, c->heads)};
}

static void layers_at_any_element_are_right(void **state)
{
    (void)state;
    attend_context *context;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context), ATTEND_OK);
    for (int i = 0; i < 2 * CASES; i++) {
        const unaligned_case *c = &cases[i / 2];
        subject s;
        attend_plan *plan;
        attend_layer_comparison r;
        attend_explanation e;
        make(&s, c, i % 2 ? ATTEND_BF16 : ATTEND_F16);
        if (test_layer_plan(context, &s.p, &s.weights, &plan) || attend_plan_explain(plan, NULL, &e) ||
            attend_layer_forward(plan, &s.args) || attend_synchronize(context) ||
            attend_layer_compare(&s.p, &s.weights, &s.args, NULL, &r))
            fail_msg("%s: %s", c->name, attend_error_message());
        if (!r.passed)
            fail_msg("%s: q %.3g, k %.3g, v %.3g, attention %.3g, output %.3g", c->name, r.projection_ratio[0], r.projection_ratio[1],
                     r.projection_ratio[2], r.attention.bound_ratio, r.output_ratio);
        if ((strstr(e.projection_library, "16 bytes") == NULL) != c->aligned) fail_msg("%s: %s", c->name, e.projection_library);
        attend_plan_destroy(plan);
        for (int b = 0; b < s.count; b++) assert_int_equal(cudaFree(s.blocks[b]), cudaSuccess);
    }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layers_at_any_element_are_right)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
