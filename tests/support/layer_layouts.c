/* Layouts of a layer's activations: memory between rows and entries is NaN in inputs, and must be unchanged
   in outputs. */
#include "support/layer_layouts.h"
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

/* Strides of rows and of batch entries; 0: contiguous; negative: this many more elements than contiguous;
   BROADCAST: stride 0. */
typedef struct steps {
    int64_t row, entry;
} steps;
enum { BROADCAST = INT32_MIN };

typedef struct layout_case {
    const char *name;
    attend_problem problem;
    steps x, context, out, inner; /* inner: Q, K, V and heads */
    bool lengths, positions;
} layout_case;

static const layout_case cases[] = {
    {"gaps everywhere",
     {.batch = 2, .seqlen_q = 33, .num_heads = 3, .head_dim = 16, .hidden_size = 40},
     .x = {-3, -7},
     .out = {-5, -2},
     .inner = {-1, -9}},
    {"gaps of whole vectors, bf16",
     {.batch = 2,
      .seqlen_q = 40,
      .num_heads = 4,
      .num_kv_heads = 2,
      .head_dim = 16,
      .hidden_size = 64,
      .dtype = ATTEND_BF16,
      .causal = ATTEND_CAUSAL_TOP_LEFT,
      .rotary = ATTEND_ROTARY_HALVES},
     .x = {-8, -64},
     .out = {-16, -8},
     .inner = {-8, -128}},
    {"gaps between entries alone",
     {.batch = 3, .seqlen_q = 20, .num_heads = 2, .head_dim = 24, .hidden_size = 32, .dtype = ATTEND_F16},
     .x = {0, -11},
     .out = {0, -4},
     .inner = {0, -8}},
    {"gaps between rows alone",
     {.batch = 3, .seqlen_q = 20, .num_heads = 2, .head_dim = 8, .hidden_size = 32},
     .x = {-1, 0},
     .out = {-9, 0},
     .inner = {-2, 0}},
    {"wide values",
     {.batch = 2, .seqlen_q = 37, .num_heads = 2, .head_dim = 16, .head_dim_v = 72, .hidden_size = 48},
     .x = {0, 0}},
    {"wide values, grouped, lengths, f16",
     {.batch = 3,
      .seqlen_q = 30,
      .num_heads = 4,
      .num_kv_heads = 2,
      .head_dim = 8,
      .head_dim_v = 40,
      .hidden_size = 24,
      .output_size = 56,
      .dtype = ATTEND_F16},
     .x = {-8, -8},
     .out = {-3, 0},
     .lengths = true},
    {"wide values, seen, normed",
     {.batch = 2,
      .seqlen_q = 21,
      .num_heads = 2,
      .head_dim = 16,
      .head_dim_v = 48,
      .hidden_size = 32,
      .qk_norm = ATTEND_QK_NORM_RMS,
      .rotary = ATTEND_ROTARY_INTERLEAVED},
     .x = {-4, -4},
     .inner = {-4, -4},
     .positions = true},
    {"rows over each other",
     {.batch = 2, .seqlen_q = 35, .num_heads = 2, .head_dim = 16, .hidden_size = 24},
     .x = {3, 0}},
    {"rows and entries over each other, bf16",
     {.batch = 3, .seqlen_q = 18, .num_heads = 2, .head_dim = 16, .hidden_size = 40, .dtype = ATTEND_BF16},
     .x = {1, 7},
     .out = {-1, -1}},
    {"one row for all",
     {.batch = 2,
      .seqlen_q = 9,
      .num_heads = 2,
      .head_dim = 8,
      .hidden_size = 16,
      .causal = ATTEND_CAUSAL_TOP_LEFT,
      .absolute = ATTEND_ABSOLUTE_SINUSOIDAL},
     .x = {BROADCAST, BROADCAST}},
    {"one entry for all, f16",
     {.batch = 3, .seqlen_q = 26, .num_heads = 3, .head_dim = 16, .hidden_size = 24, .dtype = ATTEND_F16},
     .x = {-8, BROADCAST},
     .inner = {-8, -8}},
    {"a context over itself",
     {.batch = 2,
      .seqlen_q = 12,
      .seqlen_k = 50,
      .num_heads = 2,
      .head_dim = 16,
      .head_dim_v = 24,
      .hidden_size = 20,
      .context_hidden_size = 36},
     .x = {-2, -3},
     .context = {5, BROADCAST},
     .out = {-2, -2},
     .inner = {-3, -1},
     .lengths = true},
    {"positions on rows over each other",
     {.batch = 2,
      .seqlen_q = 30,
      .num_heads = 2,
      .head_dim = 16,
      .hidden_size = 32,
      .absolute = ATTEND_ABSOLUTE_LEARNED,
      .max_positions = 64},
     .x = {5, -1},
     .out = {-1, 0},
     .positions = true},
    {"one token, entries apart",
     {.batch = 4,
      .seqlen_q = 1,
      .num_heads = 4,
      .num_kv_heads = 1,
      .head_dim = 16,
      .hidden_size = 24,
      .dtype = ATTEND_BF16},
     .x = {0, -40},
     .out = {0, -8},
     .inner = {0, -72}},
    {"packed",
     {.batch = 3,
      .seqlen_q = 25,
      .packed = true,
      .total_q = 50,
      .num_heads = 2,
      .head_dim = 16,
      .hidden_size = 24},
     .x = {-5, 0},
     .out = {-7, 0},
     .inner = {-6, 0}},
    {"more rows than are projected at once",
     {.batch = 2,
      .seqlen_q = 600,
      .num_heads = 1,
      .head_dim = 8,
      .hidden_size = 8,
      .windowed = true,
      .window_left = 8},
     .x = {-1, -5},
     .out = {-3, -9},
     .inner = {-1, -1}},
};
enum { CASES = sizeof cases / sizeof *cases, MAX_BLOCKS = 32 };

/* Memory of one tensor, on the host and at the tested location. */
typedef struct block {
    unsigned char *bytes, *before;
    size_t size;
    const attend_tensor *written; /* NULL: an input */
    attend_tensor *tensor;
    void *located;
} block;

typedef struct run {
    attend_problem p; /* resolved */
    attend_feature_args features;
    attend_layer_args args;
    block blocks[MAX_BLOCKS];
    int count;
    int64_t lists[2][8];
} run;

static uint64_t seed = 1;

/* Memory for a tensor whose shape and strides are set: NaN, except for the elements of an input. */
static void lay(run *r, attend_tensor *t, bool input)
{
    int64_t last = 1;
    for (int axis = 0; axis < t->rank; axis++) last += (t->shape[axis] - 1) * t->stride[axis];
    block *b = &r->blocks[r->count++];
    assert_true(r->count <= MAX_BLOCKS);
    b->size = ((size_t)last * attend_dtype_bytes(t->dtype) + 127) / 64 * 64; /* with some bytes behind the end */
    b->bytes = aligned_alloc(64, b->size), b->before = malloc(b->size);
    assert_true(b->bytes && b->before);
    memset(b->bytes, 0xff, b->size);
    t->data = b->bytes, b->tensor = t, b->written = input ? NULL : t;
    if (input && t->dtype != ATTEND_I32) attend_values_gauss(seed++, 1, t);
}

static void lay_rows(run *r, attend_tensor *t, int64_t seqlen, int64_t width, steps s, bool input)
{
    const int64_t batch = attend_tensor_batch(&r->p);
    *t = attend_tensor_3d(NULL, r->p.dtype, batch, seqlen, width);
    t->stride[1] = s.row == BROADCAST ? 0 : s.row > 0 ? s.row : width - s.row;
    const int64_t span =
        seqlen > 0 ? (seqlen - 1) * t->stride[1] + (s.row > 0 || s.row == BROADCAST ? width : t->stride[1])
                   : 0;
    t->stride[0] = s.entry == BROADCAST ? 0 : s.entry > 0 ? s.entry : span - s.entry;
    lay(r, t, input);
}

/* Rows of adjacent heads. */
static void lay_heads(run *r, attend_tensor *t, int64_t seqlen, int64_t heads, int64_t dim, steps s)
{
    *t = attend_tensor_4d(NULL, r->p.dtype, attend_tensor_batch(&r->p), seqlen, heads, dim);
    t->stride[1] -= s.row;
    t->stride[0] = seqlen * t->stride[1] - s.entry;
    lay(r, t, false);
}

static void make_run(run *r, const layout_case *c, const attend_problem *p, bool dense)
{
    const steps none = {0, 0};
    const int64_t rows_q = attend_rows_q(p), rows_k = attend_rows_k(p);
    *r = (run){.p = *p};
    attend_layer_args *a = &r->args;
    attend_feature_args *f = &r->features;
    a->features = f;
    lay_rows(r, &a->x, rows_q, p->hidden_size, dense ? none : c->x, true);
    if (p->context_hidden_size)
        lay_rows(r, &a->context, rows_k, p->context_hidden_size, dense ? none : c->context, true);
    lay_rows(r, &a->out, rows_q, p->output_size, dense ? none : c->out, false);
    lay_heads(r, &a->q, rows_q, p->num_heads, p->head_dim, dense ? none : c->inner);
    lay_heads(r, &a->k, rows_k, p->num_kv_heads, p->head_dim, dense ? none : c->inner);
    lay_heads(r, &a->v, rows_k, p->num_kv_heads, p->head_dim_v, dense ? none : c->inner);
    lay_heads(r, &a->heads, rows_q, p->num_heads, p->head_dim_v, dense ? none : c->inner);
    a->lse = attend_tensor_3d(NULL, ATTEND_F32, attend_tensor_batch(p), p->num_heads, rows_q);
    if (!dense) a->lse.stride[1] += 2, a->lse.stride[0] = p->num_heads * a->lse.stride[1] + 1;
    lay(r, &a->lse, false);
    if (c->positions) {
        f->positions = attend_tensor_2d(NULL, ATTEND_I32, attend_tensor_batch(p), rows_q);
        if (!dense) f->positions.stride[0] = 1; /* overlapping rows */
        lay(r, &f->positions, true);
        for (int64_t i = 0; i < rows_q + p->batch * f->positions.stride[0]; i++)
            if ((size_t)i < r->blocks[r->count - 1].size / 4)
                ((int32_t *)f->positions.data)[i] = (int32_t)(i * 37 % 64);
    }
    for (int64_t b = 0; b < p->batch; b++) {
        r->lists[0][b] = p->packed ? b * p->total_q / p->batch : b == 1 ? 0 : rows_q - b;
        r->lists[0][b + 1] = p->total_q;
        r->lists[1][b] = rows_k - 2 * b;
    }
    if (p->packed) f->cu_seqlens_q = r->lists[0];
    if (c->lengths) f->seqlens_q = r->lists[0], f->seqlens_k = r->lists[1];
}

static const block *block_of(const run *r, const attend_tensor *t)
{
    int i = 0;
    while (r->blocks[i].tensor != t) i++;
    return &r->blocks[i];
}

static void free_run(run *r)
{
    for (int i = 0; i < r->count; i++) free(r->blocks[i].bytes), free(r->blocks[i].before);
}

static void enter(run *r, test_location location)
{
    for (int i = 0; i < r->count; i++) {
        block *b = &r->blocks[i];
        memcpy(b->before, b->bytes, b->size);
        if (location.enter) b->tensor->data = b->located = location.enter(b->bytes, b->size);
    }
}

static void leave(run *r, test_location location)
{
    for (int i = 0; location.leave && i < r->count; i++) {
        block *b = &r->blocks[i];
        location.leave(b->located, b->bytes, b->size);
        b->tensor->data = b->bytes;
    }
}

/* Bytes that belong to no output must be unchanged. */
static void expect_untouched(const layout_case *c, run *r)
{
    for (int i = 0; i < r->count; i++) {
        const block *b = &r->blocks[i];
        const attend_tensor *t = b->written;
        const size_t bytes = attend_dtype_bytes(b->tensor->dtype);
        for (int64_t n = 0; t && n < attend_tensor_elements(t); n++) {
            int64_t at = 0, rest = n;
            for (int axis = t->rank - 1; axis >= 0; axis--)
                at += rest % t->shape[axis] * t->stride[axis], rest /= t->shape[axis];
            memcpy(b->before + (size_t)at * bytes, b->bytes + (size_t)at * bytes, bytes);
        }
        for (size_t n = 0; n < b->size; n++)
            if (b->before[n] != b->bytes[n])
                fail_msg("%s: byte %zu of tensor %d belongs to no output, but was written", c->name, n, i);
    }
}

/* ---- weights ---- */

static void make_weights(run *r, const attend_problem *p, attend_layer_weights *w)
{
    const int64_t source = p->context_hidden_size ? p->context_hidden_size : p->hidden_size,
                  joined = p->num_heads * p->head_dim_v;
    struct {
        attend_tensor *tensor;
        int64_t out, in;
    } parts[] = {{&w->wq, p->num_heads * p->head_dim, p->hidden_size},
                 {&w->wk, p->num_kv_heads * p->head_dim, source},
                 {&w->wv, p->num_kv_heads * p->head_dim_v, source},
                 {&w->wo, p->output_size, joined},
                 {&w->bq, p->num_heads * p->head_dim, 0},
                 {&w->bo, p->output_size, 0},
                 {&w->position_table, p->max_positions, p->hidden_size}};
    *r = (run){.p = *p}, *w = (attend_layer_weights){.wq = {0}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        attend_tensor *t = parts[i].tensor;
        if (parts[i].out == 0) continue;
        *t = parts[i].in ? attend_tensor_2d(NULL, p->dtype, parts[i].out, parts[i].in)
                         : attend_tensor_1d(NULL, p->dtype, parts[i].out);
        if (i < 4) t->stride[0] += 8; /* gaps between rows of weights */
        lay(r, t, true);
        attend_values_gauss(seed++, i < 4 ? 0.25f : 0.5f, t);
    }
}

/* ---- running ---- */

/* unseen: Q, K, V and heads are not requested. The tensors keep an earlier run's stages, and the result must
   be the same. */
static void go(const layout_case *c, attend_context *context, attend_plan *plan, run *r, test_location location,
               bool unseen)
{
    enter(r, location);
    attend_layer_args args = r->args;
    if (unseen) args.q.data = args.k.data = args.v.data = args.heads.data = args.lse.data = NULL;
    if (attend_layer_forward(plan, &args) || attend_synchronize(context))
        fail_msg("%s: %s", c->name, attend_error_message());
    leave(r, location);
    expect_untouched(c, r);
}

/* whole: checks the end-to-end result alone, if the stages belong to another run. */
static void expect_right(const layout_case *c, attend_context *context, const attend_layer_weights *w,
                         const run *r, bool whole)
{
    attend_layer_comparison is;
    if (attend_layer_compare(&c->problem, w, &r->args, &(attend_compare_options){.threads = 1}, &is))
        fail_msg("%s: %s", c->name, attend_error_message());
    /* nor the stages of the reference with 16-bit storage, which it does not round to */
    whole |= attend_context_device(context) == ATTEND_REFERENCE && c->problem.dtype != ATTEND_F32;
    if (whole ? is.quality_ratio <= 1 : is.passed) return;
    fail_msg("%s: q %.3g, k %.3g, v %.3g, attention %.3g / %.3g, output %.3g, end to end %.3g", c->name,
             is.projection_ratio[0], is.projection_ratio[1], is.projection_ratio[2], is.attention.bound_ratio,
             is.attention.quality_ratio, is.output_ratio, is.quality_ratio);
}

/* Runs of a plan: with gaps; contiguous; and the first again, which must give the same bits. Between them
   another plan runs. */
static void run_case(const layout_case *c, attend_context *context, test_location location, attend_plan *other,
                     run *others)
{
    attend_problem p;
    attend_plan *plan;
    attend_layer_weights weights;
    run w, scattered, dense;
    if (attend_problem_resolve(&c->problem, sizeof c->problem, ATTEND_LAYER, &p))
        fail_msg("%s: %s", c->name, attend_error_message());
    make_weights(&w, &p, &weights), make_run(&scattered, c, &p, false), make_run(&dense, c, &p, true);
    const attend_layer_weights on_host = weights;
    enter(&w, location);
    if (test_layer_plan(context, &c->problem, &weights, &plan))
        fail_msg("%s: %s", c->name, attend_error_message());
    go(c, context, plan, &scattered, location, false);
    expect_right(c, context, &on_host, &scattered, false);
    const block *result = block_of(&scattered, &scattered.args.out);
    unsigned char *first = malloc(result->size);
    assert_non_null(first);
    memcpy(first, result->bytes, result->size);
    go(c, context, other, others, location, false);
    go(c, context, plan, &dense, location, false);
    expect_right(c, context, &on_host, &dense, false);
    go(c, context, other, others, location, true);
    memset(result->bytes, 0xff, result->size);
    go(c, context, plan, &scattered, location, false);
    if (memcmp(first, result->bytes, result->size)) fail_msg("%s: another result the second time", c->name);
    for (int again = 0; again < 2; again++) { /* Q, K, V and heads in the plan's memory */
        memset(result->bytes, 0xff, result->size);
        go(c, context, plan, &scattered, location, true);
        expect_right(c, context, &on_host, &scattered, true);
    }
    attend_plan_destroy(plan);
    leave(&w, location);
    expect_untouched(c, &w);
    free_run(&scattered), free_run(&dense), free_run(&w);
    free(first);
}

void test_layer_layouts(attend_context *context, test_location location)
{
    static const layout_case other = {
        "the other plan",
        {.batch = 2, .seqlen_q = 50, .num_heads = 2, .head_dim = 32, .hidden_size = 48},
        .x = {-1, -1}};
    attend_problem p;
    attend_layer_weights weights;
    attend_plan *plan;
    run w, r;
    assert_int_equal(attend_problem_resolve(&other.problem, sizeof other.problem, ATTEND_LAYER, &p),
                     ATTEND_OK);
    make_weights(&w, &p, &weights), make_run(&r, &other, &p, false);
    const attend_layer_weights on_host = weights;
    enter(&w, location);
    if (test_layer_plan(context, &other.problem, &weights, &plan))
        fail_msg("%s: %s", other.name, attend_error_message());
    for (int i = 0; i < CASES; i++) run_case(&cases[i], context, location, plan, &r);
    attend_plan_destroy(plan);
    leave(&w, location);
    expect_right(&other, context, &on_host, &r, true);
    free_run(&w), free_run(&r);
    print_message("%s: %d layouts\n", attend_context_device_name(context), CASES);
}
