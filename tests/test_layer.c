/* A whole layer on the device under test: each stage within its bound, the whole within rule 2, for both orientations of weights,
   fused weights, biases, grouped heads, cross-attention and lengths; and that the comparison sees what is wrong. */
#include "support/fixture.h"
#include "support/plans.h"
#include "support/guard.h"
#include "core/problem.h"
#include "reference/reference.h"
#include "core/tensor.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct layer_case {
    const char *name;
    attend_problem problem;
    bool conv1d; /* weights by columns, as GPT-2 stores them */
    bool fused;  /* Wq, Wk and Wv in one matrix */
    bool biases;
    bool lengths;
    bool positions; /* given, not counted */
} layer_case;

static const layer_case cases[] = {
    {"plain", {.batch = 2, .seqlen_q = 65, .num_heads = 4, .head_dim = 16, .hidden_size = 48}, false, false, false, false, false},
    {"one head, one token", {.batch = 1, .seqlen_q = 1, .num_heads = 1, .head_dim = 1, .hidden_size = 1}, false, false, true, false, false},
    {"BERT-like", {.batch = 3, .seqlen_q = 40, .num_heads = 6, .head_dim = 32, .hidden_size = 192}, false, false, true, true, false},
    {"GPT-2-like", {.batch = 1, .seqlen_q = 130, .num_heads = 3, .head_dim = 64, .hidden_size = 192, .causal = ATTEND_CAUSAL_TOP_LEFT}, true, true, true, false, false},
    {"slices of 40 bytes, bf16",
     {.batch = 2, .seqlen_q = 21, .num_heads = 3, .head_dim = 20, .hidden_size = 48, .dtype = ATTEND_BF16},
     true, true, true, false, false},
    {"torch MHA", {.batch = 2, .seqlen_q = 33, .num_heads = 2, .head_dim = 40, .hidden_size = 80}, false, true, true, false, false},
    {"grouped, bf16", {.batch = 2, .seqlen_q = 70, .num_heads = 8, .num_kv_heads = 2, .head_dim = 24, .hidden_size = 64, .dtype = ATTEND_BF16, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT}, false, false, false, false, false},
    {"multi-query, f16, lengths", {.batch = 3, .seqlen_q = 50, .num_heads = 4, .num_kv_heads = 1, .head_dim = 32, .head_dim_v = 16, .hidden_size = 72, .output_size = 30, .dtype = ATTEND_F16}, true, false, true, true, false},
    {"cross-attention", {.batch = 2, .seqlen_q = 20, .seqlen_k = 90, .num_heads = 3, .head_dim = 16, .head_dim_v = 24, .hidden_size = 50, .context_hidden_size = 70}, false, false, true, true, false},
    {"cross-attention, f16", {.batch = 1, .seqlen_q = 66, .seqlen_k = 7, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .hidden_size = 32, .context_hidden_size = 16, .dtype = ATTEND_F16}, true, false, false, false, false},
    {"no keys", {.batch = 2, .seqlen_q = 5, .num_heads = 2, .head_dim = 8, .hidden_size = 16, .context_hidden_size = 16}, false, false, true, false, false},
    {"no batch", {.batch = 0, .seqlen_q = 5, .num_heads = 2, .head_dim = 8, .hidden_size = 16}, false, false, true, false, false},
    {"no queries", {.batch = 2, .seqlen_q = 0, .num_heads = 2, .head_dim = 8, .hidden_size = 16}, false, false, true, false, false},
    {"Llama-3-like", {.batch = 1, .seqlen_q = 67, .num_heads = 8, .num_kv_heads = 2, .head_dim = 32, .hidden_size = 96, .dtype = ATTEND_BF16, .causal = ATTEND_CAUSAL_TOP_LEFT,
      .rotary = ATTEND_ROTARY_HALVES, .rotary_base = 500000, .rotary_scaling = ATTEND_ROTARY_LLAMA3, .rotary_factor = 8, .rotary_original_seqlen = 8192, .first_position = 1 << 18}, false, false, false, false, false},
    {"GPT-J-like", {.batch = 2, .seqlen_q = 40, .num_heads = 3, .head_dim = 40, .hidden_size = 64, .causal = ATTEND_CAUSAL_TOP_LEFT, .rotary = ATTEND_ROTARY_INTERLEAVED, .rotary_dim = 16}, false, false, true, true, false},
    {"Qwen-3-like", {.batch = 2, .seqlen_q = 50, .num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .hidden_size = 80, .causal = ATTEND_CAUSAL_TOP_LEFT, .rotary = ATTEND_ROTARY_HALVES,
      .rotary_base = 1e6, .qk_norm = ATTEND_QK_NORM_RMS, .left_padded = true}, false, false, false, false, false},
    {"layer norm, positions, f16", {.batch = 2, .seqlen_q = 33, .num_heads = 2, .head_dim = 24, .hidden_size = 64, .dtype = ATTEND_F16, .rotary = ATTEND_ROTARY_HALVES, .qk_norm = ATTEND_QK_NORM_LAYER}, false, false, true, false, true},
    {"Gemma-2-like", {.batch = 1, .seqlen_q = 70, .num_heads = 4, .num_kv_heads = 2, .head_dim = 32, .hidden_size = 96, .dtype = ATTEND_BF16, .causal = ATTEND_CAUSAL_TOP_LEFT, .softcap = 50,
      .softmax_scale = 0.0625f, .windowed = true, .window_left = 31, .rotary = ATTEND_ROTARY_HALVES}, false, false, false, false, false},
    {"gpt-oss-like, packed", {.batch = 3, .seqlen_q = 30, .packed = true, .num_heads = 8, .num_kv_heads = 1, .head_dim = 16, .hidden_size = 48, .causal = ATTEND_CAUSAL_TOP_LEFT, .windowed = true,
      .window_left = 15, .sinks = true, .rotary = ATTEND_ROTARY_HALVES, .rotary_base = 150000, .rotary_scaling = ATTEND_ROTARY_YARN, .rotary_factor = 32, .rotary_original_seqlen = 4096}, false, false, true, false, false},
    {"T5-like, NTK", {.batch = 1, .seqlen_q = 44, .num_heads = 3, .head_dim = 16, .hidden_size = 48, .relative_buckets = 32, .relative_max_distance = 128, .relative_bidirectional = true,
      .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = ATTEND_ROTARY_NTK, .rotary_factor = 2, .rotary_original_seqlen = 20}, false, false, false, false, false},
    {"sinusoids", {.batch = 2, .seqlen_q = 66, .num_heads = 4, .head_dim = 16, .hidden_size = 64, .absolute = ATTEND_ABSOLUTE_SINUSOIDAL}, false, false, true, false, false},
    {"sinusoids of an odd width, far out, bf16", {.batch = 1, .seqlen_q = 40, .num_heads = 3, .head_dim = 32, .hidden_size = 77, .dtype = ATTEND_BF16, .causal = ATTEND_CAUSAL_TOP_LEFT,
      .absolute = ATTEND_ABSOLUTE_SINUSOIDAL, .first_position = (1 << 20) + 5}, false, false, false, false, false},
    {"Marian-like, left-padded, f16", {.batch = 2, .seqlen_q = 35, .num_heads = 2, .head_dim = 32, .hidden_size = 81, .dtype = ATTEND_F16, .left_padded = true,
      .absolute = ATTEND_ABSOLUTE_SINUSOIDAL_HALVES, .absolute_base = 5000}, true, false, true, false, false},
    {"sinusoids and rotary, given", {.batch = 2, .seqlen_q = 33, .num_heads = 4, .num_kv_heads = 2, .head_dim = 24, .hidden_size = 200, .absolute = ATTEND_ABSOLUTE_SINUSOIDAL_HALVES,
      .rotary = ATTEND_ROTARY_HALVES, .qk_norm = ATTEND_QK_NORM_RMS}, false, false, false, false, true},
    {"GPT-1-like", {.batch = 2, .seqlen_q = 50, .num_heads = 2, .head_dim = 64, .hidden_size = 128, .causal = ATTEND_CAUSAL_TOP_LEFT, .absolute = ATTEND_ABSOLUTE_LEARNED, .max_positions = 50}, true, true, true, false, false},
    {"learned, packed, bf16", {.batch = 3, .seqlen_q = 30, .packed = true, .num_heads = 2, .head_dim = 40, .hidden_size = 72, .dtype = ATTEND_BF16, .absolute = ATTEND_ABSOLUTE_LEARNED,
      .max_positions = 64, .first_position = 34}, false, false, true, false, false},
    {"learned, left-padded, given, f16", {.batch = 2, .seqlen_q = 28, .num_heads = 3, .head_dim = 32, .hidden_size = 96, .dtype = ATTEND_F16, .left_padded = true, .absolute = ATTEND_ABSOLUTE_LEARNED,
      .max_positions = 100}, false, false, true, false, true},
    {"learned, as many as not padding", {.batch = 2, .seqlen_q = 28, .num_heads = 2, .head_dim = 16, .hidden_size = 32, .left_padded = true, .causal = ATTEND_CAUSAL_TOP_LEFT,
      .absolute = ATTEND_ABSOLUTE_LEARNED, .max_positions = 28}, false, false, false, true, false},
};
enum { CASES = sizeof cases / sizeof *cases, MAX_BLOCKS = 24 };

/* A layer with all its memory. */
typedef struct layer {
    const layer_case *c;
    attend_problem given, p; /* p: resolved */
    attend_layer_weights weights;
    attend_feature_args features;
    attend_layer_args args;
    int64_t lengths_q[4], lengths_k[4];
    void *feature[ATTEND_FEATURE_TENSORS];
    void *blocks[MAX_BLOCKS];
    int block_count;
    uint64_t seed;
} layer;

static void *block(layer *l, int64_t elements)
{
    size_t bytes = (size_t)(elements + 16) * 4;
    assert_true(l->block_count < MAX_BLOCKS);
    void *data = l->blocks[l->block_count++] = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(data);
    memset(data, 0xff, bytes);
    return data;
}

static attend_tensor activations(layer *l, int64_t seqlen, int64_t width, bool filled)
{
    int64_t batch = attend_tensor_batch(&l->p);
    attend_tensor t = attend_tensor_3d(block(l, batch * seqlen * width), l->p.dtype, batch, seqlen, width);
    memcpy(t.stride, (int64_t[]){seqlen * width, width, 1, 0}, sizeof t.stride);
    if (filled) attend_values_gauss(l->seed++, 1, &t);
    return t;
}

static attend_tensor heads(layer *l, int64_t seqlen, int64_t count, int64_t dim)
{
    int64_t batch = attend_tensor_batch(&l->p);
    return attend_tensor_4d(block(l, batch * seqlen * count * dim), l->p.dtype, batch, seqlen, count, dim);
}

/* A matrix [out, in] at column or row `first` of memory that holds `total` output rows. */
static attend_tensor matrix(layer *l, void *data, int64_t first, int64_t total, int64_t out, int64_t in)
{
    size_t bytes = attend_dtype_bytes(l->p.dtype);
    attend_tensor t = attend_tensor_2d((char *)data + (size_t)(l->c->conv1d ? first : first * in) * bytes, l->p.dtype, out, in);
    memcpy(t.stride, l->c->conv1d ? (int64_t[]){1, total} : (int64_t[]){in, 1}, 2 * sizeof(int64_t));
    attend_values_gauss(l->seed++, (float)(1.2 / sqrt((double)in)), &t);
    return t;
}

static attend_tensor bias(layer *l, int64_t out)
{
    attend_tensor t = attend_tensor_1d(NULL, l->p.dtype, out);
    if (!l->c->biases) return (attend_tensor){0};
    t.data = block(l, out), t.stride[0] = 1;
    attend_values_gauss(l->seed++, 0.3f, &t);
    return t;
}

static void make_weights(layer *l)
{
    const attend_problem *p = &l->p;
    int64_t source = p->context_hidden_size ? p->context_hidden_size : p->hidden_size;
    int64_t q = p->num_heads * p->head_dim, k = p->num_kv_heads * p->head_dim, v = p->num_kv_heads * p->head_dim_v;
    int64_t total = q + k + v;
    attend_layer_weights *w = &l->weights;
    if (l->c->fused) {
        void *data = block(l, total * source);
        w->wq = matrix(l, data, 0, total, q, source);
        w->wk = matrix(l, data, q, total, k, source);
        w->wv = matrix(l, data, q + k, total, v, source);
    } else {
        w->wq = matrix(l, block(l, q * p->hidden_size), 0, q, q, p->hidden_size);
        w->wk = matrix(l, block(l, k * source), 0, k, k, source);
        w->wv = matrix(l, block(l, v * source), 0, v, v, source);
    }
    int64_t joined = p->num_heads * p->head_dim_v;
    w->wo = matrix(l, block(l, p->output_size * joined), 0, p->output_size, p->output_size, joined);
    w->bq = bias(l, q), w->bk = bias(l, k), w->bv = bias(l, v), w->bo = bias(l, p->output_size);
    if (p->absolute == ATTEND_ABSOLUTE_LEARNED) { /* rows of a wider table */
        w->position_table = attend_tensor_2d(block(l, p->max_positions * (p->hidden_size + 3)), p->dtype, p->max_positions, p->hidden_size);
        memcpy(w->position_table.stride, (int64_t[]){p->hidden_size + 3, 1}, 2 * sizeof(int64_t));
        attend_values_gauss(l->seed++, 0.7f, &w->position_table);
    }
    if (p->qk_norm) w->q_norm = bias(l, p->head_dim);
    if (p->qk_norm == ATTEND_QK_NORM_LAYER) w->k_norm = bias(l, p->head_dim), w->k_norm_bias = bias(l, p->head_dim);
}

/* Lists and tensors that features bring. */
static void make_feature_tensors(layer *l)
{
    const attend_problem *p = &l->p;
    test_features_make(p, l->seed, &l->features, l->feature);
    for (int64_t b = 0; b < p->batch; b++) {
        l->lengths_k[b] = p->packed ? b * p->total_q / p->batch : 3 * b;
        if (p->packed) l->lengths_k[b + 1] = (b + 1) * p->total_q / p->batch;
    }
    if (p->left_padded) l->features.starts_k = l->lengths_k;
    if (p->packed) l->features.cu_seqlens_q = l->lengths_k; /* and so, in self-attention, cu_seqlens_k */
    if (!l->c->positions) return;
    l->features.positions = attend_tensor_2d(block(l, attend_tensor_batch(p) * attend_rows_q(p)), ATTEND_I32, attend_tensor_batch(p), attend_rows_q(p));
    for (int64_t i = 0; i < attend_tensor_batch(p) * attend_rows_q(p); i++) ((int32_t *)l->features.positions.data)[i] = (int32_t)(i * 7919 % (p->max_positions ? p->max_positions : 1000003));
}

static void make(layer *l, const layer_case *c)
{
    *l = (layer){.c = c, .seed = 1000 * (uint64_t)(c - cases + 1)};
    l->given = c->problem;
    if (l->given.packed) l->given.total_q = 2 * l->given.seqlen_q;
    if (attend_problem_resolve(&l->given, sizeof l->given, ATTEND_LAYER, &l->p)) fail_msg("%s: %s", c->name, attend_error_message());
    const attend_problem *p = &l->p;
    make_weights(l);
    l->args = (attend_layer_args){
        .x = activations(l, attend_rows_q(p), p->hidden_size, true),
        .out = activations(l, attend_rows_q(p), p->output_size, false),
        .lse = attend_tensor_3d(block(l, attend_tensor_batch(p) * p->num_heads * attend_rows_q(p)), ATTEND_F32, attend_tensor_batch(p), p->num_heads,
                                attend_rows_q(p)),
        .q = heads(l, attend_rows_q(p), p->num_heads, p->head_dim),
        .k = heads(l, attend_rows_k(p), p->num_kv_heads, p->head_dim),
        .v = heads(l, attend_rows_k(p), p->num_kv_heads, p->head_dim_v),
        .heads = heads(l, attend_rows_q(p), p->num_heads, p->head_dim_v),
        .features = &l->features,
    };
    if (p->context_hidden_size) l->args.context = activations(l, p->seqlen_k, p->context_hidden_size, true);
    make_feature_tensors(l);
    if (!c->lengths) return;
    for (int64_t b = 0; b < p->batch; b++) {
        l->lengths_q[b] = b == 1 ? 0 : p->seqlen_q - b;
        l->lengths_k[b] = p->seqlen_k - 3 * b;
    }
    l->features.seqlens_q = l->lengths_q, l->features.seqlens_k = l->lengths_k;
}

static void release(layer *l)
{
    for (int i = 0; i < l->block_count; i++) free(l->blocks[i]);
    for (int i = 0; i < ATTEND_FEATURE_TENSORS; i++) test_guarded_free(l->feature[i]);
}

static void run(layer *l, attend_context *context)
{
    attend_plan *plan;
    if (test_layer_plan(context, &l->given, &l->weights, &plan) || attend_layer_forward(plan, &l->args) ||
        attend_synchronize(context))
        fail_msg("%s: %s", l->c->name, attend_error_message());
    attend_plan_destroy(plan);
}

static attend_layer_comparison compare(const layer *l)
{
    attend_layer_comparison r;
    if (attend_layer_compare(&l->given, &l->weights, &l->args, NULL, &r)) fail_msg("%s: %s", l->c->name, attend_error_message());
    return r;
}

static void expect_passed(const layer *l, const attend_layer_comparison *r)
{
    const attend_element *e = &r->worst, *a = &r->attention.worst;
    if (r->passed) return;
    fail_msg("%s: q %.3g, k %.3g, v %.3g, attention %.3g / %.3g / lse %.3g at [%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
             "] %.9g not %.9g, output %.3g at [%" PRId64 ", %" PRId64 ", %" PRId64 "] %.9g not %.9g, end to end %.3g",
             l->c->name, r->projection_ratio[0], r->projection_ratio[1], r->projection_ratio[2], r->attention.bound_ratio,
             r->attention.quality_ratio, r->attention.lse_bound_ratio, a->batch, a->head, a->row, a->column, a->actual, a->expected,
             r->output_ratio, e->batch, e->row, e->column, e->actual, e->expected, r->quality_ratio);
}

static void every_stage_is_within_its_bound(void **state)
{
    (void)state;
    attend_context *context = test_context();
    double projection = 0, attention = 0, output = 0, whole = 0;
    for (int i = 0; i < CASES; i++) {
        layer l;
        make(&l, &cases[i]);
        run(&l, context);
        attend_layer_comparison r = compare(&l);
        expect_passed(&l, &r);
        for (int j = 0; j < 3; j++) projection = fmax(projection, r.projection_ratio[j]);
        attention = fmax(attention, r.attention.bound_ratio), output = fmax(output, r.output_ratio), whole = fmax(whole, r.quality_ratio);
        release(&l);
    }
    print_message("%s: %d layers, worst rule-1 ratio of projections %.3f, attention %.3f, output %.3f; worst rule 2 end to end %.3f\n",
                  attend_context_device_name(context), CASES, projection, attention, output, whole);
    attend_context_destroy(context);
}

static double element(const attend_tensor *t, int64_t at) { return attend_load(t, at); }

static void expect_same_bits(const layer *l, const attend_tensor *first)
{
    int64_t n = attend_tensor_elements(first);
    for (int64_t i = 0; i < n; i++)
        if (element(first, i) != element(&l->args.out, i))
            fail_msg("element %" PRId64 ": %.9g, then %.9g", i, element(first, i), element(&l->args.out, i));
}

/* A second plan's run gives the first one's bits, whether q, k, v and heads are asked for or not. */
static void another_plan_and_inner_outputs_change_nothing(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int i = 0; i < CASES; i++) {
        layer l;
        make(&l, &cases[i]);
        run(&l, context);
        attend_tensor first = l.args.out;
        l.args.out = activations(&l, attend_rows_q(&l.p), l.p.output_size, false);
        l.args.q.data = l.args.k.data = l.args.v.data = l.args.heads.data = l.args.lse.data = NULL;
        run(&l, context);
        expect_same_bits(&l, &first);
        release(&l);
    }
    attend_context_destroy(context);
}

/* The same numbers in both orientations give the same result: within the bounds where cuBLAS multiplies,
   which takes another kernel for each orientation, and else the same bits. */
static void orientation_changes_nothing(void **state)
{
    (void)state;
    attend_context *context = test_context();
    layer l;
    make(&l, &cases[3]);
    run(&l, context);
    attend_tensor *matrices[] = {&l.weights.wq, &l.weights.wk, &l.weights.wv, &l.weights.wo}, first = l.args.out;
    for (int m = 0; m < 4; m++) { /* transpose the memory, not the meaning */
        attend_tensor *w = matrices[m], t = *w;
        t.data = block(&l, w->shape[0] * w->shape[1]);
        t.stride[0] = t.shape[1], t.stride[1] = 1;
        for (int64_t r = 0; r < t.shape[0]; r++)
            for (int64_t c = 0; c < t.shape[1]; c++)
                attend_store(&t, r * t.stride[0] + c, element(w, r * w->stride[0] + c * w->stride[1]));
        *w = t;
    }
    l.args.out = activations(&l, l.p.seqlen_q, l.p.output_size, false);
    run(&l, context);
    attend_layer_comparison r = compare(&l);
    expect_passed(&l, &r);
    if (attend_context_device(context) != ATTEND_CUDA) expect_same_bits(&l, &first);
    release(&l);
    attend_context_destroy(context);
}

/* One wrong element in each stage is seen by that stage's rule. */
static void each_stage_sees_its_own_error(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int stage = 0; stage < 5; stage++) {
        layer l;
        make(&l, &cases[2]);
        run(&l, context);
        attend_tensor *tensors[] = {&l.args.q, &l.args.k, &l.args.v, &l.args.heads, &l.args.out};
        attend_store(tensors[stage], 5, element(tensors[stage], 5) + 0.5);
        attend_layer_comparison r = compare(&l);
        assert_false(r.passed);
        if (stage < 3) assert_true(r.projection_ratio[stage] > 10);
        if (stage == 3) assert_true(r.attention.bound_ratio > 10 && r.attention.worst.column == 5);
        if (stage == 4) assert_true(r.output_ratio > 10 && r.quality_ratio > 1 && r.worst.column == 5 && r.worst.head == -1);
        release(&l);
    }
    attend_context_destroy(context);
}

/* Of a query without keys, and of keys without queries, which no other stage reads: half of what is allowed passes, and one and a half does not. */
static void a_projection_alone_decides(void **state)
{
    (void)state;
    enum { CROSS = 8, NO_KEYS = 10 };
    attend_context *context = test_context();
    for (int stage = 0; stage < 3; stage++) {
        layer l;
        make(&l, &cases[stage ? CROSS : NO_KEYS]);
        assert_true(stage ? l.features.seqlens_q[1] == 0 : l.p.seqlen_k == 0);
        run(&l, context);
        const attend_tensor *t = ((attend_tensor *[]){&l.args.q, &l.args.k, &l.args.v})[stage];
        const int64_t at = stage ? t->stride[0] : 0;
        const double right = element(t, at);
        attend_store(t, at, right + 0.5);
        const double allowed = 0.5 / compare(&l).projection_ratio[stage];
        for (int much = 0; much < 2; much++) {
            attend_store(t, at, right + (much ? 1.5 : 0.5) * allowed);
            attend_layer_comparison r = compare(&l);
            assert_true(r.passed == !much && r.projection_ratio[stage] > much && r.projection_ratio[stage] < much + 1);
        }
        release(&l);
    }
    attend_context_destroy(context);
}

/* Nor is anything past an entry's own length, whatever those of other entries are. */
static void rows_past_a_length_are_not_judged(void **state)
{
    (void)state;
    enum { ENTRY = 2 };
    attend_context *context = test_context();
    layer l;
    make(&l, &cases[2]);
    run(&l, context);
    attend_tensor *tensors[] = {&l.args.q, &l.args.k, &l.args.v};
    for (int stage = 0; stage < 3; stage++)
        for (int past = 1; past >= 0; past--) {
            const int64_t length = (stage ? l.features.seqlens_k : l.features.seqlens_q)[ENTRY];
            const int64_t at = ENTRY * tensors[stage]->stride[0] + (length - 1 + past) * tensors[stage]->stride[1];
            assert_true(length > 0 && length < tensors[stage]->shape[1] && length < (stage ? l.features.seqlens_k : l.features.seqlens_q)[0]);
            const double right = element(tensors[stage], at);
            attend_store(tensors[stage], at, right + 0.5);
            const attend_layer_comparison r = compare(&l);
            assert_true(past ? r.passed : r.projection_ratio[stage] > 10 && !r.passed);
            attend_store(tensors[stage], at, right);
        }
    release(&l);
    attend_context_destroy(context);
}

static void comparing_needs_every_stage_and_finite_input(void **state)
{
    (void)state;
    attend_context *context = test_context();
    attend_layer_comparison r;
    layer l;
    make(&l, &cases[0]);
    run(&l, context);
    attend_layer_args args = l.args;
    args.heads.data = NULL;
    assert_int_equal(attend_layer_compare(&l.given, &l.weights, &args, NULL, &r), ATTEND_INVALID_ARGUMENT);
    assert_non_null(strstr(attend_error_message(), "heads is missing"));
    attend_store(&l.args.x, 0, NAN);
    assert_int_equal(attend_layer_compare(&l.given, &l.weights, &l.args, NULL, &r), ATTEND_INVALID_ARGUMENT);
    assert_non_null(strstr(attend_error_message(), "not finite"));
    assert_int_equal(attend_layer_compare(&l.given, &l.weights, &l.args, NULL, NULL), ATTEND_INVALID_ARGUMENT);
    release(&l);
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_stage_is_within_its_bound),
        cmocka_unit_test(another_plan_and_inner_outputs_change_nothing),
        cmocka_unit_test(orientation_changes_nothing),
        cmocka_unit_test(each_stage_sees_its_own_error), cmocka_unit_test(a_projection_alone_decides),
        cmocka_unit_test(rows_past_a_length_are_not_judged),
        cmocka_unit_test(comparing_needs_every_stage_and_finite_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
