/* Layers on activations that are views: gaps between rows and between batch entries, rows of x that overlap or
   are one, value dims other than head_dim. Nothing between rows is read or written; and each plan runs twice
   with other work between, so that what the first run overwrites shows in the second. */
#include "support/fixture.h"
#include "support/forget.h"
#include "support/plans.h"
#include "core/problem.h"
#include "core/tensor.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#ifdef ATTEND_TEST_MANAGED /* memory that a device reads where it lies */
#include <cuda_runtime_api.h>
static void *reserve(size_t bytes)
{
    void *memory;
    return cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal) ? NULL : memory;
}
static void release(void *memory) { cudaFree(memory); }
#else
static void *reserve(size_t bytes) { return malloc(bytes); }
static void release(void *memory) { free(memory); }
#endif

/* Strides of x (and of the context tensor, with its own width) in elements: rows `row` more than a row is wide,
   entries `batch` more than their rows take; the same of out. Negative ones make rows of x overlap. */
typedef struct view_case {
    const char *name;
    attend_problem problem;
    int64_t x_row, x_batch, out_row, out_batch;
} view_case;

#define LAYER .batch = 3, .seqlen_q = 5, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .hidden_size = 24
#define CROSS LAYER, .seqlen_k = 9, .context_hidden_size = 16

static const view_case cases[] = {
    {"gaps between rows", {LAYER}, 3, 0, 5, 0},
    {"gaps between entries", {LAYER}, 0, 7, 0, 9},
    {"gaps everywhere, f16", {LAYER, .dtype = ATTEND_F16}, 8, 16, 1, 3},
    {"gaps everywhere, bf16, positions",
     {LAYER, .dtype = ATTEND_BF16, .absolute = ATTEND_ABSOLUTE_SINUSOIDAL},
     5,
     3,
     8,
     8},
    {"gaps, cross-attention", {CROSS, .dtype = ATTEND_F16}, 8, 24, 8, 0},
    {"rows that overlap", {LAYER}, -17, 2, 4, 0},
    {"rows that overlap, cross-attention, f16", {CROSS, .dtype = ATTEND_F16}, -8, 1, 0, 0},
    {"one row for all", {LAYER}, -24, 24, 0, 0},
    {"one row for all, positions", {LAYER, .absolute = ATTEND_ABSOLUTE_SINUSOIDAL}, -24, 25, 3, 1},
    {"entries that overlap", {LAYER}, 0, -5 * 24 + 24, 0, 1},
    {"wide values", {LAYER, .head_dim_v = 24}, 0, 0, 0, 0},
    {"wide values, gaps, f16", {LAYER, .head_dim_v = 40, .dtype = ATTEND_F16}, 8, 3, 8, 3},
    {"wide values, cross-attention", {CROSS, .head_dim_v = 32}, 1, 2, 3, 4},
    {"narrow values, bf16", {LAYER, .head_dim_v = 3, .dtype = ATTEND_BF16}, 0, 8, 0, 0},
    /* Copies of weights whose sizes are multiples of what memory is given out in lie side by side by chance. */
    {"wide values, weights of 4 KB",
     {.batch = 2, .seqlen_q = 9, .num_heads = 2, .head_dim = 16, .head_dim_v = 24, .hidden_size = 32},
     0,
     0,
     0,
     0},
};
enum { CASES = sizeof cases / sizeof *cases, MEMORY = 1 << 15, BLOCKS = 16 };

typedef struct layer {
    attend_problem p; /* resolved */
    attend_layer_weights weights;
    attend_layer_args args;
    void *blocks[BLOCKS];
    int blocks_used;
    uint64_t seed;
} layer;

/* Memory full of NaN. */
static void *block(layer *l)
{
    void *made = l->blocks[l->blocks_used++] = reserve(MEMORY);
    assert_non_null(made);
    memset(made, 0xff, MEMORY);
    return made;
}

static attend_tensor view(layer *l, int64_t rows, int64_t width, int64_t row_more, int64_t batch_more)
{
    attend_tensor t = attend_tensor_3d(block(l), l->p.dtype, l->p.batch, rows, width);
    t.stride[2] = 1, t.stride[1] = width + row_more < 0 ? 0 : width + row_more;
    t.stride[0] = rows * t.stride[1] + batch_more;
    return t;
}

static attend_tensor matrix(layer *l, int64_t out, int64_t in)
{
    attend_tensor t = attend_tensor_2d(block(l), l->p.dtype, out, in);
    t.stride[0] = in, t.stride[1] = 1;
    attend_values_gauss(l->seed++, 0.3f, &t);
    return t;
}

static attend_tensor heads(layer *l, int64_t rows, int64_t count, int64_t dim)
{
    return attend_tensor_4d(block(l), l->p.dtype, l->p.batch, rows, count, dim);
}

static void make(layer *l, const view_case *c)
{
    *l = (layer){.seed = 100};
    if (attend_problem_resolve(&c->problem, sizeof c->problem, ATTEND_LAYER, &l->p))
        fail_msg("%s: %s", c->name, attend_error_message());
    const attend_problem *p = &l->p;
    const bool cross = p->context_hidden_size > 0;
    const int64_t source = cross ? p->context_hidden_size : p->hidden_size;
    l->weights.wq = matrix(l, p->num_heads * p->head_dim, p->hidden_size);
    l->weights.wk = matrix(l, p->num_kv_heads * p->head_dim, source);
    l->weights.wv = matrix(l, p->num_kv_heads * p->head_dim_v, source);
    l->weights.wo = matrix(l, p->output_size, p->num_heads * p->head_dim_v);
    l->args = (attend_layer_args){
        .x = view(l, p->seqlen_q, p->hidden_size, c->x_row, c->x_batch),
        .out = view(l, p->seqlen_q, p->output_size, c->out_row, c->out_batch),
        .q = heads(l, p->seqlen_q, p->num_heads, p->head_dim),
        .k = heads(l, p->seqlen_k, p->num_kv_heads, p->head_dim),
        .v = heads(l, p->seqlen_k, p->num_kv_heads, p->head_dim_v),
        .heads = heads(l, p->seqlen_q, p->num_heads, p->head_dim_v),
    };
    attend_values_gauss(l->seed++, 1, &l->args.x);
    if (!cross) return;
    l->args.context = view(l, p->seqlen_k, source, c->x_row, c->x_batch);
    attend_values_gauss(l->seed++, 1, &l->args.context);
}

/* Whatever lies in the block of out but its elements is as block() left it. */
static void expect_gaps_untouched(const layer *l, const char *name)
{
    const attend_tensor *t = &l->args.out;
    const size_t element = attend_dtype_bytes(t->dtype);
    unsigned char *copy = malloc(MEMORY);
    assert_non_null(copy);
    memcpy(copy, t->data, MEMORY);
    for (int64_t b = 0; b < t->shape[0]; b++)
        for (int64_t i = 0; i < t->shape[1]; i++)
            memset(copy + (size_t)(b * t->stride[0] + i * t->stride[1]) * element, 0xff,
                   (size_t)t->shape[2] * element);
    for (size_t i = 0; i < MEMORY; i++)
        if (copy[i] != 0xff) fail_msg("%s: byte %zu between rows of out was written", name, i);
    free(copy);
}

static void forget_results(layer *l)
{
    attend_tensor *const results[] = {&l->args.out, &l->args.q, &l->args.k, &l->args.v, &l->args.heads};
    for (int i = 0; i < 5; i++) memset(results[i]->data, 0xff, MEMORY);
}

static void run(layer *l, attend_context *context, attend_plan *plan, const char *name)
{
    forget_results(l);
    test_forget_runs(plan);
    if (attend_layer_forward(plan, &l->args) || attend_synchronize(context))
        fail_msg("%s: %s", name, attend_error_message());
}

static void check(layer *l, attend_context *context, const view_case *c, const char *name)
{
    attend_layer_comparison r;
    if (attend_layer_compare(&c->problem, &l->weights, &l->args, NULL, &r))
        fail_msg("%s: %s", name, attend_error_message());
    /* The reference rounds nothing between its stages. */
    const bool unrounded = attend_context_device(context) == ATTEND_REFERENCE && l->p.dtype != ATTEND_F32;
    if (unrounded ? r.quality_ratio > 1 : !r.passed)
        fail_msg("%s: projections %.3g, %.3g, %.3g, attention %.3g, output %.3g, end to end %.3g", name,
                 r.projection_ratio[0], r.projection_ratio[1], r.projection_ratio[2], r.attention.bound_ratio,
                 r.output_ratio, r.quality_ratio);
    expect_gaps_untouched(l, name);
}

static void views_are_read_and_written_as_they_lie(void **state)
{
    (void)state;
    attend_context *context = test_context();
    layer before;
    attend_plan *plan_before = NULL, *plan;
    for (int i = 0; i < CASES; i++) {
        layer l;
        char name[96];
        unsigned char *first = malloc(MEMORY);
        assert_non_null(first);
        make(&l, &cases[i]);
        if (test_layer_plan(context, &cases[i].problem, &l.weights, &plan))
            fail_msg("%s: %s", cases[i].name, attend_error_message());
        run(&l, context, plan, cases[i].name);
        check(&l, context, &cases[i], cases[i].name);
        memcpy(first, l.args.out.data, MEMORY);
        /* The other work: the plan of the case before, again. */
        if (i > 0) {
            run(&before, context, plan_before, cases[i - 1].name);
            snprintf(name, sizeof name, "%s, beside another plan", cases[i - 1].name);
            check(&before, context, &cases[i - 1], name);
        }
        run(&l, context, plan, cases[i].name);
        snprintf(name, sizeof name, "%s, the second time", cases[i].name);
        check(&l, context, &cases[i], name);
        if (memcmp(first, l.args.out.data, MEMORY)) fail_msg("%s: other bits", name);
        free(first);
        attend_plan_destroy(plan_before);
        for (int b = 0; i > 0 && b < before.blocks_used; b++) release(before.blocks[b]);
        before = l, plan_before = plan;
    }
    attend_plan_destroy(plan_before);
    for (int b = 0; b < before.blocks_used; b++) release(before.blocks[b]);
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(views_are_read_and_written_as_they_lie)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
