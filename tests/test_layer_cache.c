/* A layer with a cache gives each token what the layer gives it over its sequence alone and whole: the same bits on the CPU and the
   reference, within both rules everywhere; for prompts in chunks, token by token, of ragged lengths, in pages and in one piece, whose bits
   are the same on all devices; on CUDA also from one graph. It writes new keys to their slots and nothing else, and reads no slot of
   nobody. */
#include "support/caches.h"
#include "support/layers.h"
#include "support/plans.h"
#include "tool/values.h"

#ifdef ATTEND_TEST_MANAGED
#include <attend/attend_cuda.h>
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 3, CHUNK = 9, TOKENS = 24, STEPS = 6 };

/* New tokens of each sequence in each step. */
static const int64_t counts[STEPS][BATCH] = {{9, 1, 0}, {8, 0, 5}, {1, 1, 1}, {1, 1, 1}, {0, 7, 1}, {5, 9, 2}};

static const struct {
    const char *name;
    int64_t page_size;
    test_pools pools;
    attend_problem problem;
} cases[] = {
    {"f32", 4, POOLS_APART, {.num_heads = 2, .head_dim = 16, .hidden_size = 24}},
    {"bf16, grouped, rotary", 16, POOLS_INTERLEAVED,
     {.num_heads = 4, .num_kv_heads = 2, .head_dim = 24, .hidden_size = 40, .dtype = ATTEND_BF16, .rotary = ATTEND_ROTARY_HALVES, .first_position = 3}},
    {"f16, one KV head, norm, wide V", 1, POOLS_HEADS_FIRST,
     {.num_heads = 3, .num_kv_heads = 1, .head_dim = 16, .head_dim_v = 32, .hidden_size = 32, .dtype = ATTEND_F16, .rotary = ATTEND_ROTARY_INTERLEAVED,
      .rotary_dim = 8, .qk_norm = ATTEND_QK_NORM_RMS}},
    {"learned positions", 3, POOLS_APART,
     {.num_heads = 2, .head_dim = 8, .hidden_size = 20, .absolute = ATTEND_ABSOLUTE_LEARNED, .max_positions = TOKENS}},
    {"sinusoids, window, alibi", 7, POOLS_INTERLEAVED,
     {.num_heads = 2, .num_kv_heads = 1, .head_dim = 8, .hidden_size = 20, .absolute = ATTEND_ABSOLUTE_SINUSOIDAL, .windowed = true, .window_left = 6,
      .window_right = -1, .alibi = ATTEND_ALIBI_SYMMETRIC}},
};
enum { CASES = sizeof cases / sizeof *cases };

static attend_problem problem_of(int n, int64_t batch, int64_t seqlen_q, int64_t seqlen_k)
{
    attend_problem p = cases[n].problem;
    p.batch = batch, p.seqlen_q = seqlen_q, p.seqlen_k = seqlen_k, p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
    return p;
}

static int64_t tokens_of(int64_t b)
{
    int64_t all = 0;
    for (int s = 0; s < STEPS; s++) all += counts[s][b];
    return all;
}

static char *row(const attend_tensor *t, int64_t b, int64_t i)
{
    return (char *)t->data + (size_t)(b * t->stride[0] + i * t->stride[1]) * attend_dtype_bytes(t->dtype);
}

static size_t row_bytes(const attend_tensor *t) { return (size_t)t->shape[2] * attend_dtype_bytes(t->dtype); }

/* The plain layer over each sequence, alone; x and out of all are in `whole`. */
static void run_alone(const test_layer *whole, int n, attend_context *context)
{
    for (int64_t b = 0; b < BATCH; b++) {
        test_layer one = {.given = problem_of(n, 1, tokens_of(b), tokens_of(b)), .weights = whole->weights};
        one.args.x = whole->args.x, one.args.out = whole->args.out;
        one.args.x.data = row(&whole->args.x, b, 0), one.args.out.data = row(&whole->args.out, b, 0);
        one.args.x.shape[0] = one.args.out.shape[0] = 1, one.args.x.shape[1] = one.args.out.shape[1] = tokens_of(b);
        test_layer_go(&one, context);
    }
}

static void expect_within(const char *name, int step, const test_layer *l, const attend_layer_args *args)
{
    attend_layer_comparison r;
    if (attend_layer_compare(&l->given, &l->weights, args, NULL, &r)) fail_msg("%s, step %d: %s", name, step, attend_error_message());
    if (!r.passed)
        fail_msg("%s, step %d: q %.3g, k %.3g, v %.3g, attention %.3g / %.3g, output %.3g, end to end %.3g", name, step, r.projection_ratio[0],
                 r.projection_ratio[1], r.projection_ratio[2], r.attention.bound_ratio, r.attention.quality_ratio, r.output_ratio, r.quality_ratio);
}

static void fill_nan(const attend_tensor *t)
{
    memset(t->data, 0xff, (size_t)t->shape[0] * (size_t)t->stride[0] * attend_dtype_bytes(t->dtype));
}

/* The layer's inspection is that of attention on its q and cache. */
static void expect_inspected(const test_layer *l, attend_plan *plan, attend_context *context)
{
    attend_problem p = l->given;
    float entropies[2][BATCH * 4 * CHUNK];
    attend_plan *attention;
    p.hidden_size = 0, p.rotary = ATTEND_ROTARY_NONE, p.rotary_dim = p.first_position = 0, p.qk_norm = ATTEND_QK_NORM_NONE;
    p.absolute = ATTEND_ABSOLUTE_NONE, p.max_positions = 0;
    for (int i = 0; i < 2; i++) memset(entropies[i], 0xff, sizeof entropies[i]);
    attend_inspection want[2];
    for (int i = 0; i < 2; i++) want[i] = (attend_inspection){.entropy = attend_tensor_3d(entropies[i], ATTEND_F32, BATCH, p.num_heads, CHUNK)};
    const attend_attention_args args = {.q = l->args.q, .lse = l->args.lse, .features = l->args.features, .cache = l->args.cache};
    if (test_attention_plan(context, &p, &attention) || attend_layer_inspect(plan, &l->args, &want[0]) ||
        attend_attention_inspect(attention, &args, &want[1]))
        fail_msg("%s", attend_error_message());
    assert_memory_equal(entropies[0], entropies[1], sizeof entropies[0]);
    attend_plan_destroy(attention);
}

/* All tokens through one plan; out of each to `out`, shaped as that of `whole`. */
static void run_steps(const test_layer *whole, int n, attend_context *context, test_cache *cache, bool compared, attend_tensor *out)
{
    test_layer l;
    const attend_problem p = problem_of(n, BATCH, CHUNK, TOKENS);
    int64_t cached[BATCH] = {0}, lengths[BATCH];
    attend_plan *plan;
    test_layer_make(&l, &p);
    l.weights = whole->weights;
    l.args.q = test_layer_tensor(&l, l.p.dtype, 4, (int64_t[]){BATCH, CHUNK, l.p.num_heads, l.p.head_dim});
    l.args.heads = test_layer_tensor(&l, l.p.dtype, 4, (int64_t[]){BATCH, CHUNK, l.p.num_heads, l.p.head_dim_v});
    cache->cache.seqlens = cached;
    l.args.cache = &cache->cache;
    if (test_layer_plan(context, &p, &l.weights, &plan)) fail_msg("%s: %s", cases[n].name, attend_error_message());
    for (int s = 0; s < STEPS; s++) {
        attend_feature_args features = {.seqlens_q = counts[s], .seqlens_k = lengths};
        fill_nan(&l.args.x);
        for (int64_t b = 0; b < BATCH; b++) {
            lengths[b] = cached[b] + counts[s][b];
            for (int64_t i = 0; i < counts[s][b]; i++) memcpy(row(&l.args.x, b, i), row(&whole->args.x, b, cached[b] + i), row_bytes(&l.args.x));
        }
        l.args.features = &features;
        test_layer_go_again(&l, plan);
        if (compared) {
            for (int64_t b = 0; b < BATCH; b++) /* the reference has no NaN */
                for (int64_t i = counts[s][b]; i < CHUNK; i++) memset(row(&l.args.x, b, i), 0, row_bytes(&l.args.x));
            expect_within(cases[n].name, s, &l, &l.args);
            if (s == STEPS - 1) expect_inspected(&l, plan, context);
        }
        for (int64_t b = 0; b < BATCH; b++)
            for (int64_t i = 0; i < counts[s][b]; i++) memcpy(row(out, b, cached[b]++), row(&l.args.out, b, i), row_bytes(out));
    }
    attend_plan_destroy(plan);
    test_layer_free(&l);
}

/* Both caches hold the same keys, and nothing lies in other slots. */
static void expect_same_keys(const char *name, const test_cache *a, const test_cache *b)
{
    const attend_tensor *const pools[] = {&a->cache.k, &a->cache.v};
    for (int which = 0; which < 2; which++)
        for (int64_t s = 0; s < BATCH; s++)
            for (int64_t j = 0; j < tokens_of(s); j++)
                for (int64_t h = 0; h < pools[which]->shape[2]; h++) {
                    const size_t bytes = (size_t)pools[which]->shape[3] * attend_dtype_bytes(pools[which]->dtype);
                    char *const x = test_cache_row(a, which, s, j, h), *const y = test_cache_row(b, which, s, j, h);
                    if (memcmp(x, y, bytes)) fail_msg("%s: %s of key %d of sequence %d differ in pages", name, which ? "V" : "K", (int)j, (int)s);
                    memset(x, 0xff, bytes), memset(y, 0xff, bytes);
                }
    const test_cache *const caches[] = {a, b};
    for (int i = 0; i < 2; i++) {
        const attend_tensor *k = &caches[i]->cache.k, *v = &caches[i]->cache.v;
        const size_t bytes = (size_t)(caches[i]->pages * k->shape[1] * k->shape[2] * (k->shape[3] + v->shape[3])) * attend_dtype_bytes(k->dtype);
        for (size_t at = 0; at < bytes; at++)
            if (caches[i]->memory[at] != 0xff) fail_msg("%s: byte %zu of cache %d belongs to nobody, and is written", name, at, i);
    }
}

static void tokens_have_what_the_whole_sequence_gives_them(void **state)
{
    (void)state;
    attend_context *context = test_context();
    const bool same_bits = attend_context_device(context) != ATTEND_CUDA; /* cuBLAS sums as the shape has it */
    for (int n = 0; n < CASES; n++) {
        test_layer whole;
        int64_t lengths[BATCH];
        for (int b = 0; b < BATCH; b++) lengths[b] = tokens_of(b);
        const attend_problem all = problem_of(n, BATCH, TOKENS, TOKENS);
        test_layer_make(&whole, &all);
        run_alone(&whole, n, context);
        test_cache paged = test_cache_make(&whole.p, lengths, cases[n].page_size, cases[n].pools, false, 5),
                   one_piece = test_cache_make(&whole.p, NULL, 0, POOLS_APART, false, 5);
        attend_tensor out = test_layer_tensor(&whole, whole.p.dtype, 3, whole.args.out.shape), other = test_layer_tensor(&whole, whole.p.dtype, 3, out.shape);
        run_steps(&whole, n, context, &paged, true, &out);
        run_steps(&whole, n, context, &one_piece, false, &other);
        for (int64_t b = 0; b < BATCH; b++)
            for (int64_t i = 0; i < tokens_of(b); i++) {
                if (memcmp(row(&out, b, i), row(&other, b, i), row_bytes(&out)))
                    fail_msg("%s: token %d of sequence %d has other bits in pages", cases[n].name, (int)i, (int)b);
                if (same_bits && memcmp(row(&out, b, i), row(&whole.args.out, b, i), row_bytes(&out)))
                    fail_msg("%s: token %d of sequence %d has other bits than in one run", cases[n].name, (int)i, (int)b);
            }
        expect_same_keys(cases[n].name, &paged, &one_piece);
        test_cache_free(&paged), test_cache_free(&one_piece);
        test_layer_free(&whole);
    }
    attend_context_destroy(context);
}

/* Two branches of two tokens each, speculated behind a prompt: a mask over the new tokens, and positions by depth. */
static void a_tree_of_tokens_sees_its_branches(void **state)
{
    (void)state;
    enum { PROMPT = 6, TREE = 4, KEYS = PROMPT + TREE };
    static const int32_t depths[TREE] = {PROMPT, PROMPT, PROMPT + 1, PROMPT + 1};
    static const int parents[TREE] = {-1, -1, 0, 1};
    attend_context *context = test_context();
    attend_problem p = {.batch = 1, .seqlen_q = PROMPT, .seqlen_k = KEYS, .num_heads = 2, .head_dim = 8, .hidden_size = 16, .rotary = ATTEND_ROTARY_HALVES,
                        .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .mask_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY};
    unsigned char mask[PROMPT][KEYS];
    memset(mask, 1, sizeof mask);
    test_layer l;
    test_layer_make(&l, &p);
    test_cache cache = test_cache_make(&l.p, NULL, 4, POOLS_APART, false, 3);
    int32_t positions[PROMPT] = {0, 1, 2, 3, 4, 5};
    int64_t cached = 0, new_tokens = PROMPT, keys = PROMPT;
    attend_feature_args features = {.seqlens_q = &new_tokens, .seqlens_k = &keys, .mask = attend_tensor_4d(mask, ATTEND_U8, 1, 1, PROMPT, KEYS),
                                    .positions = attend_tensor_2d(positions, ATTEND_I32, 1, PROMPT)};
    attend_plan *plan;
    cache.cache.seqlens = &cached;
    l.args.q = test_layer_tensor(&l, l.p.dtype, 4, (int64_t[]){1, PROMPT, 2, 8}), l.args.heads = test_layer_tensor(&l, l.p.dtype, 4, l.args.q.shape);
    l.args.cache = &cache.cache, l.args.features = &features;
    if (test_layer_plan(context, &p, &l.weights, &plan)) fail_msg("%s", attend_error_message());
    test_layer_go_again(&l, plan);
    expect_within("prompt", 0, &l, &l.args);
    cached = PROMPT, new_tokens = TREE, keys = KEYS;
    for (int i = 0; i < TREE; i++) {
        positions[i] = depths[i];
        for (int j = 0; j < TREE; j++) mask[i][PROMPT + j] = j == i || j == parents[i];
    }
    test_layer_go_again(&l, plan);
    expect_within("tree", 0, &l, &l.args);

    /* The second branch alone: tokens 1 and 3, at the slots behind the prompt. */
    for (int i = 0; i < 2; i++) memcpy(row(&l.args.x, 0, i), row(&l.args.x, 0, 1 + 2 * i), row_bytes(&l.args.x)), positions[i] = PROMPT + i;
    memset(mask, 1, sizeof mask), new_tokens = 2, keys = PROMPT + 2;
    test_layer_go_again(&l, plan);
    expect_within("branch", 0, &l, &l.args);
    attend_plan_destroy(plan);
    test_cache_free(&cache);
    test_layer_free(&l);
    attend_context_destroy(context);
}

#ifdef ATTEND_TEST_MANAGED
/* Lists and tokens are read on the device at each launch: one graph has the bits of runs that are told them on the host. */
static void one_graph_serves_all_lengths(void **state)
{
    (void)state;
    const int n = 1;
    const attend_problem all = problem_of(n, BATCH, TOKENS, TOKENS), p = problem_of(n, BATCH, CHUNK, TOKENS);
    int64_t most[BATCH];
    attend_context *context = test_context();
    attend_plan *plan;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    test_layer whole, l;
    for (int b = 0; b < BATCH; b++) most[b] = tokens_of(b);
    test_layer_make(&whole, &all), test_layer_make(&l, &p);
    test_cache told = test_cache_make(&whole.p, most, 4, POOLS_APART, false, 6), read = test_cache_make(&whole.p, most, 4, POOLS_APART, false, 6);
    attend_tensor out = test_layer_tensor(&whole, whole.p.dtype, 3, whole.args.out.shape), *const x = &l.args.x, *const y = &l.args.out;
    run_steps(&whole, n, context, &told, false, &out);

    int64_t *lists = test_cache_reserve(3 * BATCH * sizeof *lists), *cached = lists, *new_tokens = lists + BATCH, *keys = lists + 2 * BATCH;
    const size_t bytes = (size_t)(BATCH * CHUNK) * row_bytes(x);
    x->data = test_cache_reserve(bytes), y->data = test_cache_reserve(bytes);
    memset(lists, 0, 3 * BATCH * sizeof *lists), memset(x->data, 0xff, bytes);
    read.cache.seqlens = cached;
    l.args.lse = (attend_tensor){0}, l.args.cache = &read.cache;
    l.args.features = &(attend_feature_args){.seqlens_q = new_tokens, .seqlens_k = keys};
    assert_int_equal(attend_layer_plan(context, &p, &whole.weights, &plan), ATTEND_OK);
    assert_int_equal(attend_context_stream(context, &stream), ATTEND_OK);
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    if (attend_layer_forward(plan, &l.args)) fail_msg("%s", attend_error_message());
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&replay, graph, 0), cudaSuccess);
    for (int s = 0; s < STEPS; s++) {
        for (int b = 0; b < BATCH; b++) {
            cached[b] = keys[b], new_tokens[b] = counts[s][b], keys[b] += counts[s][b];
            for (int64_t i = 0; i < counts[s][b]; i++) memcpy(row(x, b, i), row(&whole.args.x, b, cached[b] + i), row_bytes(x));
        }
        assert_int_equal(cudaGraphLaunch(replay, stream), cudaSuccess);
        assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
        for (int b = 0; b < BATCH; b++)
            for (int64_t i = 0; i < counts[s][b]; i++)
                if (memcmp(row(y, b, i), row(&out, b, cached[b] + i), row_bytes(y)))
                    fail_msg("step %d: token %d of sequence %d has other bits in a graph", s, (int)i, b);
    }
    expect_same_keys("a graph", &told, &read);
    assert_int_equal(cudaGraphExecDestroy(replay), cudaSuccess), assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    test_cache_release(lists), test_cache_release(x->data), test_cache_release(y->data);
    attend_plan_destroy(plan);
    test_cache_free(&told), test_cache_free(&read);
    test_layer_free(&l), test_layer_free(&whole);
    attend_context_destroy(context);
}
#else
static void one_graph_serves_all_lengths(void **state) { (void)state, skip(); }
#endif

int main(void)
{
    TEST_CACHES_IN_PLACE();
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_have_what_the_whole_sequence_gives_them), cmocka_unit_test(a_tree_of_tokens_sees_its_branches),
                                       cmocka_unit_test(one_graph_serves_all_lengths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
