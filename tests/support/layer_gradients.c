/* Makes layers to be run backwards; see layer_gradients.h. */
#include "support/layer_gradients.h"
#include "core/problem.h"
#include "core/tensor.h"
#include "reference/reference.h"
#include "support/fixture.h"
#include "support/guard.h"
#include "tool/values.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define ALL_AXES (ATTEND_PER_BATCH | ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY)

const test_layer_case test_layer_cases[] = {
    {"plain", {.batch = 2, .seqlen_q = 65, .num_heads = 4, .head_dim = 16, .hidden_size = 48}, false, false, false, false},
    {"GPT-2-like, wide", {.batch = 2, .seqlen_q = 130, .num_heads = 3, .head_dim = 48, .hidden_size = 150, .causal = ATTEND_CAUSAL_TOP_LEFT}, true, true, false, false},
    {"grouped, bf16", {.batch = 2, .seqlen_q = 70, .num_heads = 8, .num_kv_heads = 2, .head_dim = 24, .hidden_size = 64, .dtype = ATTEND_BF16, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT}, false, true, false, false},
    {"multi-query, f16, lengths", {.batch = 3, .seqlen_q = 50, .num_heads = 4, .num_kv_heads = 1, .head_dim = 32, .head_dim_v = 16, .hidden_size = 72, .output_size = 32, .dtype = ATTEND_F16}, true, true, true, false},
    {"cross-attention, lengths", {.batch = 2, .seqlen_q = 20, .seqlen_k = 90, .num_heads = 3, .head_dim = 16, .head_dim_v = 24, .hidden_size = 50, .context_hidden_size = 70}, false, true, true, false},
    {"cross-attention, f16", {.batch = 1, .seqlen_q = 66, .seqlen_k = 7, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .hidden_size = 32, .context_hidden_size = 16, .dtype = ATTEND_F16}, true, false, false, false},
    {"Llama-like, YaRN", {.batch = 1, .seqlen_q = 67, .num_heads = 8, .num_kv_heads = 2, .head_dim = 32, .hidden_size = 96, .causal = ATTEND_CAUSAL_TOP_LEFT, .rotary = ATTEND_ROTARY_HALVES,
      .rotary_scaling = ATTEND_ROTARY_YARN, .rotary_factor = 32, .rotary_original_seqlen = 4096}, false, false, false, false},
    {"GPT-J-like, lengths", {.batch = 2, .seqlen_q = 40, .num_heads = 3, .head_dim = 40, .hidden_size = 64, .causal = ATTEND_CAUSAL_TOP_LEFT, .rotary = ATTEND_ROTARY_INTERLEAVED, .rotary_dim = 16}, false, true, true, false},
    {"Qwen-3-like, bf16", {.batch = 2, .seqlen_q = 50, .num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .hidden_size = 80, .dtype = ATTEND_BF16, .causal = ATTEND_CAUSAL_TOP_LEFT, .rotary = ATTEND_ROTARY_HALVES,
      .qk_norm = ATTEND_QK_NORM_RMS, .left_padded = true}, false, true, false, false},
    {"layer norm, positions, lengths", {.batch = 3, .seqlen_q = 33, .num_heads = 2, .head_dim = 24, .hidden_size = 64, .rotary = ATTEND_ROTARY_HALVES, .qk_norm = ATTEND_QK_NORM_LAYER}, false, true, true, true},
    {"RMS norm without rotary, f16", {.batch = 1, .seqlen_q = 100, .num_heads = 2, .head_dim = 33, .hidden_size = 40, .dtype = ATTEND_F16, .qk_norm = ATTEND_QK_NORM_RMS}, false, true, false, false},
    {"sinusoids", {.batch = 2, .seqlen_q = 66, .num_heads = 4, .head_dim = 16, .hidden_size = 64, .absolute = ATTEND_ABSOLUTE_SINUSOIDAL}, false, true, false, false},
    {"learned, packed, bf16", {.batch = 3, .seqlen_q = 30, .packed = true, .num_heads = 2, .head_dim = 40, .hidden_size = 72, .dtype = ATTEND_BF16, .absolute = ATTEND_ABSOLUTE_LEARNED,
      .max_positions = 64, .first_position = 3}, false, true, false, false},
    {"learned, left-padded, given", {.batch = 2, .seqlen_q = 28, .num_heads = 3, .head_dim = 32, .hidden_size = 96, .left_padded = true, .absolute = ATTEND_ABSOLUTE_LEARNED,
      .max_positions = 100}, true, true, false, true},
    {"bias and sinks", {.batch = 2, .seqlen_q = 40, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .hidden_size = 48, .bias_axes = ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY, .sinks = true,
      .causal = ATTEND_CAUSAL_TOP_LEFT}, false, true, false, false},
    {"bias of every pair, mask, f16", {.batch = 2, .seqlen_q = 33, .num_heads = 2, .head_dim = 16, .hidden_size = 32, .dtype = ATTEND_F16, .bias_axes = ALL_AXES, .mask_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY},
     false, true, false, false},
    {"T5-like, head scales", {.batch = 1, .seqlen_q = 44, .num_heads = 3, .head_dim = 16, .hidden_size = 48, .relative_buckets = 32, .relative_max_distance = 128, .relative_bidirectional = true,
      .head_scales = true, .softmax_scale = 1}, false, false, false, false},
    {"ALiBi, softcap, window", {.batch = 2, .seqlen_q = 45, .num_heads = 4, .head_dim = 16, .hidden_size = 40, .alibi = ATTEND_ALIBI_CAUSAL, .softcap = 5, .windowed = true, .window_left = 20,
      .causal = ATTEND_CAUSAL_TOP_LEFT}, false, true, false, false},
    {"rows of more than a page", {.batch = 1, .seqlen_q = 3, .num_heads = 2, .head_dim = 8, .hidden_size = 1100}, false, true, false, false},
    {"no batch", {.batch = 0, .seqlen_q = 5, .num_heads = 2, .head_dim = 8, .hidden_size = 16}, false, true, false, false},
    {"no keys", {.batch = 2, .seqlen_q = 5, .num_heads = 2, .head_dim = 8, .hidden_size = 16, .context_hidden_size = 16}, false, true, false, false},
};
const int test_layer_case_count = sizeof test_layer_cases / sizeof *test_layer_cases;

void *(*test_trained_memory)(size_t bytes) = malloc;
void (*test_trained_release)(void *memory) = free;

static void *block(test_trained *l, int64_t elements)
{
    const size_t bytes = ((size_t)elements + 8) * sizeof(double);
    assert_true(l->count < TEST_TRAINED_BLOCKS);
    void *data = l->blocks[l->count++] = test_trained_memory(bytes);
    assert_non_null(data);
    memset(data, 0xff, bytes);
    return data;
}

attend_tensor test_trained_reserve(test_trained *l, attend_dtype dtype, int rank, const int64_t *shape)
{
    attend_tensor t = {.dtype = dtype, .rank = rank};
    int64_t elements = 1;
    for (int i = rank - 1; i >= 0; i--) {
        t.shape[i] = shape[i], t.stride[i] = elements;
        elements = elements * shape[i] + (rank > 1 ? l->gap : 0);
    }
    t.data = block(l, elements);
    return t;
}

static attend_tensor filled(test_trained *l, attend_dtype dtype, float deviation, int rank, const int64_t *shape)
{
    const attend_tensor t = test_trained_reserve(l, dtype, rank, shape);
    attend_values_gauss(l->seed++, deviation, &t);
    return t;
}

static attend_tensor matrix(test_trained *l, int64_t out, int64_t in)
{
    attend_tensor t = test_trained_reserve(l, l->p.dtype, 2, (int64_t[]){out, in});
    if (l->c->by_columns) t.stride[0] = 1, t.stride[1] = out;
    attend_values_gauss(l->seed++, (float)(1.2 / sqrt((double)in)), &t);
    return t;
}

static void make_weights(test_trained *l)
{
    const attend_problem *p = &l->p;
    const int64_t source = p->context_hidden_size ? p->context_hidden_size : p->hidden_size;
    attend_layer_weights *w = &l->weights;
    w->wq = matrix(l, p->num_heads * p->head_dim, p->hidden_size);
    w->wk = matrix(l, p->num_kv_heads * p->head_dim, source);
    w->wv = matrix(l, p->num_kv_heads * p->head_dim_v, source);
    w->wo = matrix(l, p->output_size, p->num_heads * p->head_dim_v);
    for (int i = 0; i < 4 && l->c->biases; i++) (&w->bq)[i] = filled(l, p->dtype, 0.3f, 1, (&w->wq)[i].shape);
    for (int i = 0; i < (p->qk_norm == ATTEND_QK_NORM_LAYER ? 4 : p->qk_norm ? 2 : 0) && l->c->biases; i++) {
        (&w->q_norm)[i] = filled(l, p->dtype, 0.3f, 1, &p->head_dim);
        for (int64_t c = 0; c < p->head_dim && i < 2; c++)
            attend_store(&(&w->q_norm)[i], c, attend_load(&(&w->q_norm)[i], c) + 1);
    }
    if (p->absolute == ATTEND_ABSOLUTE_LEARNED)
        w->position_table = filled(l, p->dtype, 0.7f, 2, (int64_t[]){p->max_positions, p->hidden_size});
}

static void make_lists(test_trained *l)
{
    const attend_problem *p = &l->p;
    const int64_t batch = attend_tensor_batch(p), rows = attend_rows_q(p);
    for (int64_t b = 0; b < p->batch; b++) {
        l->lengths_q[b] = p->packed ? b * p->total_q / p->batch : b == 1 ? 0 : p->seqlen_q - b;
        l->lengths_k[b] = p->seqlen_k - b;
        if (p->packed) l->lengths_q[b + 1] = (b + 1) * p->total_q / p->batch;
    }
    if (p->packed) l->features.cu_seqlens_q = l->lengths_q;
    if (p->left_padded) l->lengths_k[0] = 0, l->lengths_k[1] = 2, l->features.starts_k = l->lengths_k;
    if (l->c->lengths) l->features.seqlens_q = l->lengths_q, l->features.seqlens_k = p->context_hidden_size ? l->lengths_k : l->lengths_q;
    if (!l->c->positions) return;
    l->features.positions = test_trained_reserve(l, ATTEND_I32, 2, (int64_t[]){batch, rows});
    for (int64_t i = 0; i < batch * rows; i++)
        ((int32_t *)l->features.positions.data)[i / rows * l->features.positions.stride[0] + i % rows] =
            (int32_t)(i * 7919 % (p->max_positions ? p->max_positions : 1000003));
}

static void forget(const attend_tensor *t, const int64_t *lengths)
{
    for (int64_t b = 0; lengths && b < t->shape[0]; b++)
        for (int64_t i = lengths[b]; i < t->shape[1]; i++)
            for (int64_t c = 0; c < t->shape[2]; c++) attend_store(t, b * t->stride[0] + i * t->stride[1] + c, NAN);
}

test_trained_tensor test_trained_tensor_of(test_trained *l, int index)
{
    static const char *const names[] = {"x", "context", "wq", "wk", "wv", "wo", "bq", "bk", "bv", "bo", "q_norm", "k_norm", "q_norm_bias",
                                        "k_norm_bias", "position_table", "bias", "alibi_slopes", "relative_table", "head_scales", "sinks"};
    attend_tensor *const features[] = {&l->features.bias, &l->features.alibi_slopes, &l->features.relative_table, &l->features.head_scales,
                                       &l->features.sinks};
    attend_tensor *value, *gradient;
    if (index < 2)
        value = index ? &l->args.context : &l->args.x, gradient = index ? &l->grads.dcontext : &l->grads.dx;
    else if (index < 2 + ATTEND_LAYER_WEIGHTS)
        value = &l->weights.wq + (index - 2), gradient = &l->dweights.wq + (index - 2);
    else
        value = features[index - 2 - ATTEND_LAYER_WEIGHTS], gradient = &l->dfeatures.bias + (index - 2 - ATTEND_LAYER_WEIGHTS);
    return (test_trained_tensor){names[index], value, gradient};
}

/* Of a feature, its axes along which it does not vary have extent 1. */
static void make_gradients(test_trained *l)
{
    for (int i = 0; i < TEST_TRAINED_TENSORS; i++) {
        const test_trained_tensor t = test_trained_tensor_of(l, i);
        if (!t.value->data) continue;
        attend_tensor shape = *t.value;
        for (int axis = 0; axis < shape.rank && i >= 2 + ATTEND_LAYER_WEIGHTS; axis++)
            if (shape.stride[axis] == 0) shape.shape[axis] = 1;
        *t.gradient = test_trained_reserve(l, ATTEND_F32, shape.rank, shape.shape);
        if (i >= 2 && i < 6 && l->c->by_columns) t.gradient->stride[0] = 1, t.gradient->stride[1] = t.gradient->shape[0];
    }
    l->grads.weights = &l->dweights, l->grads.features = &l->dfeatures;
}

static void make_tensors(test_trained *l)
{
    const attend_problem *p = &l->p;
    const int64_t batch = attend_tensor_batch(p), rows = attend_rows_q(p);
    make_weights(l);
    test_features_make(p, l->seed / 1000 * 1000 + 1, &l->features, l->feature); /* odd: every slope is given; broadcast axes of extent 1 */
    if (p->alibi) l->features.alibi_slopes = filled(l, ATTEND_F32, 0.3f, 1, &p->num_heads);
    make_lists(l);
    l->args.x = filled(l, p->dtype, 1, 3, (int64_t[]){batch, rows, p->hidden_size});
    if (p->context_hidden_size) l->args.context = filled(l, p->dtype, 1, 3, (int64_t[]){batch, p->seqlen_k, p->context_hidden_size});
    l->grads.dout = filled(l, p->dtype, 1, 3, (int64_t[]){batch, rows, p->output_size});
    l->grads.dlse = filled(l, ATTEND_F32, 1, 3, (int64_t[]){batch, p->num_heads, rows});
    forget(&l->args.x, l->features.seqlens_q);
    if (p->context_hidden_size) forget(&l->args.context, l->features.seqlens_k);
    make_gradients(l);
}

static void shrink(attend_problem *p)
{
    if (p->batch > 2) p->batch = 2;
    p->seqlen_q = p->seqlen_q < 5 ? p->seqlen_q : 5, p->seqlen_k = p->seqlen_k ? 4 : 0;
    p->num_heads = p->num_kv_heads > 1 ? 4 : 2, p->num_kv_heads = p->num_kv_heads > 1 ? 2 : p->num_kv_heads;
    p->head_dim = 6, p->head_dim_v = p->head_dim_v ? 3 : 0, p->hidden_size = 5;
    p->context_hidden_size = p->context_hidden_size ? 4 : 0, p->output_size = p->output_size ? 3 : 0;
    p->rotary_dim = p->rotary_dim ? 4 : 0, p->relative_buckets = p->relative_buckets ? 4 : 0;
    if (p->relative_buckets) p->relative_max_distance = 6;
    if (p->windowed) p->window_left = 2;
    p->max_positions = p->max_positions ? 9 : 0;
}

static void resolve(test_trained *l)
{
    if (l->given.packed) l->given.total_q = 2 * l->given.seqlen_q;
    if (attend_problem_resolve(&l->given, sizeof l->given, ATTEND_LAYER, &l->p)) fail_msg("%s: %s", l->c->name, attend_error_message());
    l->args.features = &l->features;
}

void test_trained_make_views(test_trained *l, const test_layer_case *c, int64_t gap)
{
    *l = (test_trained){.c = c, .given = c->problem, .seed = 1000 * (uint64_t)(c - test_layer_cases + 1), .gap = gap};
    resolve(l);
    make_tensors(l);
}

void test_trained_make(test_trained *l, const test_layer_case *c, bool small)
{
    *l = (test_trained){.c = c, .given = c->problem, .seed = 1000 * (uint64_t)(c - test_layer_cases + 1)};
    if (small) shrink(&l->given);
    resolve(l);
    make_tensors(l);
}

static void copy_values(const attend_tensor *to, const attend_tensor *from)
{
    const attend_tensor dense = attend_tensor_row_major(*from);
    for (int64_t n = 0; from->data && n < attend_tensor_elements(from); n++) {
        int64_t a = 0, b = 0;
        for (int i = 0; i < from->rank; i++) {
            const int64_t at = n / dense.stride[i] % from->shape[i];
            a += at * to->stride[i], b += at * from->stride[i];
        }
        attend_store(to, a, attend_load(from, b));
    }
}

void test_trained_widen(test_trained *wide, const test_trained *layer, attend_dtype dtype)
{
    test_trained from = *layer;
    *wide = *layer;
    wide->count = 0, wide->gap = 0;
    memset(wide->feature, 0, sizeof wide->feature);
    if (dtype == ATTEND_F32) wide->given.dtype = wide->p.dtype = ATTEND_F32;
    wide->args.features = &wide->features;
    if (wide->features.seqlens_q == layer->lengths_q) wide->features.seqlens_q = wide->lengths_q;
    for (int i = 0; i < TEST_TRAINED_TENSORS + 2; i++) {
        const test_trained_tensor t = i < TEST_TRAINED_TENSORS ? test_trained_tensor_of(wide, i) : (test_trained_tensor){0},
                                  old = i < TEST_TRAINED_TENSORS ? test_trained_tensor_of(&from, i) : t;
        attend_tensor *to = i < TEST_TRAINED_TENSORS ? t.value : i == TEST_TRAINED_TENSORS ? &wide->grads.dout : &wide->grads.dlse;
        const attend_tensor *of = i < TEST_TRAINED_TENSORS ? old.value : i == TEST_TRAINED_TENSORS ? &from.grads.dout : &from.grads.dlse;
        if (!of->data) continue;
        *to = test_trained_reserve(wide, dtype, of->rank, of->shape);
        copy_values(to, of);
    }
    make_gradients(wide);
}

void test_trained_free(test_trained *l)
{
    for (int i = 0; i < l->count; i++) test_trained_release(l->blocks[i]);
    for (int i = 0; i < ATTEND_FEATURE_TENSORS; i++) test_guarded_free(l->feature[i]);
}

void test_trained_run(test_trained *l, attend_context *context)
{
    attend_plan *plan;
    const attend_plan_options options = {.backward = true, .host_tensors = ATTEND_HOST_ALL};
    if (attend_layer_plan_with(context, &l->given, &l->weights, &options, &plan) ||
        attend_layer_backward(plan, &l->args, &l->grads, NULL) || attend_synchronize(context))
        fail_msg("%s: %s", l->c->name, attend_error_message());
    attend_plan_destroy(plan);
}

void test_trained_resolve(const test_trained *l, attend_layer_args *args, attend_feature_args *features, attend_layer_gradients *g)
{
    attend_cache cache;
    if (attend_layer_args_read(&l->p, &l->args, sizeof l->args, sizeof *l->args.features, args, features, &cache) ||
        attend_layer_backward_resolve(&l->p, &l->weights, &l->grads, sizeof l->grads, sizeof l->dweights, sizeof l->dfeatures, args, features, g))
        fail_msg("%s: %s", l->c->name, attend_error_message());
}
