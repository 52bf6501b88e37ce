/* A layer with a cache refuses what it cannot do with a sentence that names the argument, and then neither its cache nor its output has
   changed. */
#include "support/caches.h"
#include "support/layers.h"
#include "support/plans.h"
#include "support/refusal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 2, NEW = 3, KEYS = 20, PAGE = 4, WIDTH = 16 };

static attend_context *context;
static test_layer layer;
static test_cache cache;
static int64_t cached[BATCH], seqlens_q[BATCH], seqlens_k[BATCH];
static int32_t table[BATCH][6]; /* on the host, whatever device a test runs on: elsewhere it is not checked */
static attend_feature_args features;
static attend_layer_args args;
static attend_cache given;

static attend_problem problem_of(void)
{
    return (attend_problem){.batch = BATCH, .seqlen_q = NEW, .seqlen_k = KEYS, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .hidden_size = WIDTH,
                            .rotary = ATTEND_ROTARY_HALVES, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT};
}

/* What a good run brings. */
static void reset(void)
{
    memcpy(cached, (int64_t[]){5, 0}, sizeof cached), memcpy(seqlens_q, (int64_t[]){2, 3}, sizeof seqlens_q);
    memcpy(seqlens_k, (int64_t[]){7, 3}, sizeof seqlens_k);
    features = (attend_feature_args){.seqlens_q = seqlens_q, .seqlens_k = seqlens_k};
    memcpy(table, cache.table, sizeof table);
    given = cache.cache, given.seqlens = cached, given.block_table.data = table;
    args = layer.args, args.features = &features, args.cache = &given;
}

static size_t pool_bytes(void) { return (size_t)(cache.pages * 2 * PAGE * 2 * 8) * sizeof(float); }

static void expect_of(const attend_problem *p, const attend_plan_options *options, attend_status wanted, const char *sentence)
{
    unsigned char before[16384];
    const size_t out_bytes = BATCH * NEW * WIDTH * sizeof(float);
    attend_plan *plan;
    assert_true(pool_bytes() <= sizeof before);
    memcpy(before, cache.memory, pool_bytes()), memset(layer.args.out.data, 0xff, out_bytes);
    if (attend_layer_plan_with(context, p, &layer.weights, options, &plan)) fail_msg("%s: %s", sentence, attend_error_message());
    test_expect_failure(attend_layer_forward(plan, &args), wanted, sentence);
    assert_int_equal(attend_synchronize(context), ATTEND_OK);
    attend_plan_destroy(plan);
    if (memcmp(before, cache.memory, pool_bytes())) fail_msg("\"%s\" was refused, yet the cache has changed", sentence);
    for (size_t i = 0; i < out_bytes; i++)
        if (((unsigned char *)layer.args.out.data)[i] != 0xff) fail_msg("\"%s\" was refused, yet byte %d of out is written", sentence, (int)i);
    reset();
}

static void expect(const attend_problem *p, attend_status wanted, const char *sentence) { expect_of(p, &test_on_host, wanted, sentence); }

static void lengths_that_do_not_add_up(void **state)
{
    (void)state;
    const attend_problem p = problem_of();
    reset(), seqlens_k[0] = 6;
    expect(&p, ATTEND_INVALID_ARGUMENT, "seqlens_k[0] is 6, but the cache has 5 keys and 2 new ones");
    features.seqlens_k = NULL;
    expect(&p, ATTEND_INVALID_ARGUMENT, "seqlens_k[0] is 20, seqlen_k, as it is not given, but the cache has 5 keys and 2 new ones");
    features.seqlens_q = NULL;
    expect(&p, ATTEND_INVALID_ARGUMENT, "seqlens_k[0] is 7, but the cache has 5 keys and 3 new ones");
    given.seqlens = NULL;
    expect(&p, ATTEND_INVALID_ARGUMENT, "seqlens_k[0] is 7, but the cache has 0 keys and 2 new ones");
    seqlens_q[1] = NEW + 1;
    expect(&p, ATTEND_INVALID_ARGUMENT, "seqlens_q[1] is 4, expected 0 to 3");
    cached[0] = 23, seqlens_k[0] = 25;
    expect(&p, ATTEND_INVALID_ARGUMENT, "seqlens_k[0] is 25, expected 0 to 20");
    cached[0] = 30;
    expect(&p, ATTEND_INVALID_ARGUMENT, "cache.seqlens[0] is 30, but with 2 new tokens expected 0 to 22: the cache holds 24 keys a sequence");
    cached[1] = -1;
    expect(&p, ATTEND_INVALID_ARGUMENT, "cache.seqlens[1] is -1, but with 3 new tokens");
}

static void caches_of_another_shape(void **state)
{
    (void)state;
    const attend_problem p = problem_of();
    reset(), given.k.dtype = ATTEND_F16;
    expect(&p, ATTEND_UNSUPPORTED, "cache.k is f16, but the problem's dtype is f32: a cache of another dtype is not supported");
    given.k.shape[2] = 4;
    expect(&p, ATTEND_INVALID_ARGUMENT, "cache.k has shape [15, 4, 4, 8], expected [15, 4, 2, 8]");
    given.v.shape[3] = 4;
    expect(&p, ATTEND_INVALID_ARGUMENT, "cache.v has shape [15, 4, 2, 4], expected [15, 4, 2, 8]");
    given.block_table.shape[1] = 4;
    expect(&p, ATTEND_INVALID_ARGUMENT, "cache.block_table has 4 pages a sequence, but seqlen_k (20) takes 5 pages of 4 keys");
    table[0][1] = 15; /* of a new key */
    expect(&p, ATTEND_INVALID_ARGUMENT, "cache.block_table[0, 1] is no page of cache.k, which has 15, but new keys go there");
    table[0][0] = -1; /* of an old one */
    expect(&p, ATTEND_INVALID_ARGUMENT, "cache.block_table[0, 0] is -1, expected 0 to 14");
    args.out = attend_tensor_3d(given.v.data, ATTEND_F32, BATCH, NEW, WIDTH);
    expect(&p, ATTEND_INVALID_ARGUMENT, "cache.v");
}

static void arguments_beside_a_cache(void **state)
{
    (void)state;
    attend_problem p = problem_of();
    reset(), args.cache = NULL;
    expect(&p, ATTEND_INVALID_ARGUMENT, "cache is missing: seqlen_k (20) is more than seqlen_q (3), so that keys come before x");
    args.k = given.k;
    expect(&p, ATTEND_INVALID_ARGUMENT, "k is given beside cache, which has it");
    args.v = given.v;
    expect(&p, ATTEND_INVALID_ARGUMENT, "v is given beside cache, which has it");
    p.causal = ATTEND_CAUSAL_TOP_LEFT;
    expect(&p, ATTEND_INVALID_ARGUMENT, "cache is given, but the problem counts queries from the first key");
    p.causal = ATTEND_CAUSAL_NONE, p.windowed = true;
    expect(&p, ATTEND_INVALID_ARGUMENT, "causal is to be ATTEND_CAUSAL_BOTTOM_RIGHT, or align_bottom_right set");
    p = problem_of(), p.left_padded = true;
    expect(&p, ATTEND_UNSUPPORTED, "cache does not go with left_padded: caches hold no padding");
    p = problem_of(), p.packed = true, p.total_q = p.total_k = 2 * NEW, p.seqlen_k = NEW;
    expect(&p, ATTEND_UNSUPPORTED, "cache does not go with packed sequences: x as [batch, seqlen_q] with seqlens_q does");
    p = problem_of(), p.context_hidden_size = WIDTH, p.rotary = ATTEND_ROTARY_NONE;
    expect(&p, ATTEND_UNSUPPORTED, "cache does not go with cross-attention");
}

static void positions_behind_the_table(void **state)
{
    (void)state;
    attend_problem p = problem_of();
    p.absolute = ATTEND_ABSOLUTE_LEARNED, p.max_positions = 6;
    reset();
    const attend_tensor none = layer.weights.position_table;
    layer.weights.position_table = test_layer_tensor(&layer, ATTEND_F32, 2, (int64_t[]){6, WIDTH});
    expect(&p, ATTEND_INVALID_ARGUMENT, "a sequence of 7 tokens from first_position (0) on goes beyond position_table");
    layer.weights.position_table = none;
}

/* Within little memory CUDA runs a layer in blocks of rows. */
static void a_layer_in_blocks_of_rows(void **state)
{
    (void)state;
    const attend_problem p = problem_of();
    size_t least = 0;
    attend_plan_options options = {.host_tensors = ATTEND_HOST_ALL, .least_bytes = &least};
    attend_plan *plan;
    if (attend_context_device(context) != ATTEND_CUDA) skip();
    assert_int_equal(attend_layer_plan_with(context, &p, &layer.weights, &options, &plan), ATTEND_OK);
    attend_plan_destroy(plan);
    reset(), options.memory_limit_bytes = least;
    expect_of(&p, &options, ATTEND_UNSUPPORTED, "lets this plan run in blocks of rows alone, which does not go with caches");
}

int main(void)
{
    TEST_CACHES_IN_PLACE();
    const attend_problem p = problem_of();
    context = test_context();
    test_layer_make(&layer, &p);
    cache = test_cache_make(&layer.p, (int64_t[]){7, 3}, PAGE, POOLS_APART, false, 4);
    const struct CMUnitTest tests[] = {cmocka_unit_test(lengths_that_do_not_add_up), cmocka_unit_test(caches_of_another_shape),
                                       cmocka_unit_test(arguments_beside_a_cache), cmocka_unit_test(positions_behind_the_table), cmocka_unit_test(a_layer_in_blocks_of_rows)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_cache_free(&cache);
    test_layer_free(&layer);
    attend_context_destroy(context);
    return failed;
}
