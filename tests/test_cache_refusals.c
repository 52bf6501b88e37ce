/* Caches that make no sense are refused with a sentence that names the argument, and nothing is written; so are tables on the host whose
   pages are none, and new keys without a slot. */
#include "support/fixture.h"
#include "support/refusal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 2, QUERIES = 2, KEYS = 40, PAGE = 16, PAGES = 8, COLUMNS = 3, HEADS = 2, DIM = 4, POOL = PAGES * PAGE * HEADS * DIM };

static float q[BATCH * QUERIES * HEADS * DIM], k_pool[POOL], v_pool[POOL], written[BATCH * QUERIES * HEADS * DIM];
static int32_t table[BATCH][COLUMNS];
static int64_t seqlens_k[BATCH], cached[BATCH];

static const attend_problem problem = {.batch = BATCH, .seqlen_q = QUERIES, .seqlen_k = KEYS, .num_heads = HEADS, .head_dim = DIM};
static attend_context *context;
static attend_plan *plan;

static attend_cache cache_of(void)
{
    static const int32_t pages[BATCH][COLUMNS] = {{3, 0, 7}, {3, 5, 1}};
    memcpy(table, pages, sizeof table);
    seqlens_k[0] = 40, seqlens_k[1] = 17, cached[0] = 38, cached[1] = 0;
    return (attend_cache){.k = attend_tensor_4d(k_pool, ATTEND_F32, PAGES, PAGE, HEADS, DIM),
                          .v = attend_tensor_4d(v_pool, ATTEND_F32, PAGES, PAGE, HEADS, DIM),
                          .block_table = attend_tensor_2d(table, ATTEND_I32, BATCH, COLUMNS),
                          .seqlens = cached};
}

static attend_tensor rows(float *data) { return attend_tensor_4d(data, ATTEND_F32, BATCH, QUERIES, HEADS, DIM); }

static void expect(attend_status status, attend_status wanted, const char *sentence)
{
    test_expect_failure(status, wanted, sentence);
    for (size_t i = 0; i < sizeof written; i++)
        if (((unsigned char *)written)[i] != 0xff) fail_msg("\"%s\" was refused, yet byte %d of out is written", sentence, (int)i);
    for (size_t i = 0; i < sizeof k_pool; i++)
        if (((unsigned char *)k_pool)[i] != 0xff) fail_msg("\"%s\" was refused, yet byte %d of the pool is written", sentence, (int)i);
}

static attend_attention_args args_of(const attend_cache *cache)
{
    static attend_feature_args features;
    features = (attend_feature_args){.seqlens_k = seqlens_k};
    return (attend_attention_args){.q = rows(q), .out = rows(written), .cache = cache, .features = &features};
}

static void expect_run(const attend_cache *cache, attend_status wanted, const char *sentence)
{
    const attend_attention_args args = args_of(cache);
    attend_comparison comparison;
    expect(attend_attention_forward(plan, &args), wanted, sentence);
    expect(attend_compare(&problem, &args, NULL, &comparison), wanted, sentence);
}

static void tensors_of_a_cache_have_its_shape(void **state)
{
    (void)state;
    attend_cache c = cache_of();
    c.k.rank = 3;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.k has rank 3, expected 4");
    c = cache_of(), c.k.data = NULL;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.k is NULL");
    c = cache_of(), c.v.shape[1] = PAGE / 2;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.v has shape [8, 8, 2, 4], expected [8, 16, 2, 4]");
    c = cache_of(), c.v.dtype = ATTEND_F16;
    expect_run(&c, ATTEND_UNSUPPORTED, "cache.v is f16, but the problem's dtype is f32: a cache of another dtype is not supported");
    c = cache_of(), c.k.stride[3] = 2;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.k has last stride 2");
    c = cache_of(), c.k.shape[1] = c.v.shape[1] = 0;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.k has pages of 0 keys, expected at least 1");
    c = cache_of(), c.block_table.dtype = ATTEND_I64;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.block_table is i64, expected i32");
    c = cache_of(), c.block_table.rank = 1;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.block_table has rank 1, expected 2");
    c = cache_of(), c.block_table.shape[0] = 1;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.block_table has shape [1, 3], expected [2, 3]");
    c = cache_of(), c.block_table.shape[1] = 2;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.block_table has 2 pages a sequence, but seqlen_k (40) takes 3 pages of 16 keys");
    c = cache_of(), c.block_table = (attend_tensor){0}, c.k.shape[0] = c.v.shape[0] = BATCH;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.k holds 16 keys a sequence, but seqlen_k is 40");
    c = cache_of(), c.reserved[3] = 1;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache has byte 24 of reserved set to 1, expected 0");
}

static void a_cache_stands_alone(void **state)
{
    (void)state;
    attend_cache c = cache_of();
    attend_attention_args args = args_of(&c);
    args.k = attend_tensor_4d(k_pool, ATTEND_F32, BATCH, KEYS, HEADS, DIM);
    expect(attend_attention_forward(plan, &args), ATTEND_INVALID_ARGUMENT, "k is given beside cache");
    args = args_of(&c), args.v = attend_tensor_4d(v_pool, ATTEND_F32, BATCH, KEYS, HEADS, DIM);
    expect(attend_attention_forward(plan, &args), ATTEND_INVALID_ARGUMENT, "v is given beside cache");
    args = args_of(&c), args.out = attend_tensor_4d(k_pool, ATTEND_F32, BATCH, QUERIES, HEADS, DIM);
    expect(attend_attention_forward(plan, &args), ATTEND_INVALID_ARGUMENT, "out");
}

static void pages_that_are_none_are_named(void **state)
{
    (void)state;
    attend_cache c = cache_of();
    table[1][1] = -1;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.block_table[1, 1] is -1, expected 0 to 7: sequence 1 has 17 keys, and cache.k 8 pages");
    c = cache_of(), table[0][2] = PAGES;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.block_table[0, 2] is 8, expected 0 to 7");
    c = cache_of(), c.k.shape[0] = c.v.shape[0] = 0;
    expect_run(&c, ATTEND_INVALID_ARGUMENT, "cache.k has no pages, but sequence 0 has 40 keys");
    c = cache_of(), table[1][2] = INT32_MIN; /* behind the length */
    const attend_attention_args args = args_of(&c);
    assert_int_equal(attend_attention_forward(plan, &args), ATTEND_OK);
    memset(written, 0xff, sizeof written);
}

static void new_keys_need_slots(void **state)
{
    (void)state;
    attend_problem p = problem;
    attend_cache_append_args args = {.k = rows(q), .v = rows(q)};
    attend_cache c = cache_of();
    cached[0] = 47;
    expect(attend_cache_append(context, &p, &c, &args, NULL), ATTEND_INVALID_ARGUMENT,
           "cache.seqlens[0] is 47, but with 2 new tokens expected 0 to 46: the cache holds 48 keys a sequence");
    const int64_t none_and_two[] = {0, 2};
    cached[0] = 49, args.features = &(attend_feature_args){.seqlens_q = none_and_two};
    expect(attend_cache_append(context, &p, &c, &args, NULL), ATTEND_INVALID_ARGUMENT, "cache.seqlens[0] is 49, but with 0 new tokens expected 0 to 48");
    args.features = NULL;
    c = cache_of(), c.block_table.shape[1] = c.block_table.stride[1] = 1, c.k.shape[1] = c.v.shape[1] = 1;
    expect(attend_cache_append(context, &p, &c, &args, NULL), ATTEND_INVALID_ARGUMENT, "sequence 0 has 2 new tokens, but the cache holds 1 keys a sequence");
    c = cache_of(), cached[1] = -1;
    expect(attend_cache_append(context, &p, &c, &args, NULL), ATTEND_INVALID_ARGUMENT, "cache.seqlens[1] is -1, but with 2 new tokens");
    c = cache_of(), cached[1] = 31, table[1][2] = PAGES;
    expect(attend_cache_append(context, &p, &c, &args, NULL), ATTEND_INVALID_ARGUMENT, "cache.block_table[1, 2] is no page of cache.k, which has 8");
    c = cache_of(), args.k = (attend_tensor){0};
    expect(attend_cache_append(context, &p, &c, &args, NULL), ATTEND_INVALID_ARGUMENT, "k is missing");
    args.k = rows(q), args.k_norm = attend_tensor_1d(q, ATTEND_F32, DIM);
    expect(attend_cache_append(context, &p, &c, &args, NULL), ATTEND_INVALID_ARGUMENT, "k_norm is given, but the problem's qk_norm has no use for it");
    args.k_norm = (attend_tensor){0}, args.v = attend_tensor_4d(k_pool, ATTEND_F32, BATCH, QUERIES, HEADS, DIM);
    expect(attend_cache_append(context, &p, &c, &args, NULL), ATTEND_INVALID_ARGUMENT, "cache.k");
    args.v = rows(q), p.left_padded = true;
    expect(attend_cache_append(context, &p, &c, &args, NULL), ATTEND_UNSUPPORTED, "left_padded does not go with append");
    p = problem, p.packed = true, p.total_q = 4;
    args.k = args.v = attend_tensor_4d(q, ATTEND_F32, 1, 4, HEADS, DIM);
    expect(attend_cache_append(context, &p, &c, &args, NULL), ATTEND_INVALID_ARGUMENT, "cu_seqlens_q is missing");
}

static int begin(void **state)
{
    (void)state;
    memset(k_pool, 0xff, sizeof k_pool), memset(v_pool, 0xff, sizeof v_pool), memset(written, 0xff, sizeof written);
    context = test_context();
    return attend_attention_plan(context, &problem, &plan);
}

static int end(void **state)
{
    (void)state;
    attend_plan_destroy(plan);
    return attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tensors_of_a_cache_have_its_shape), cmocka_unit_test(a_cache_stands_alone),
                                       cmocka_unit_test(pages_that_are_none_are_named), cmocka_unit_test(new_keys_need_slots)};
    return cmocka_run_group_tests(tests, begin, end);
}
