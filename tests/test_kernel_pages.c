/* Tables of pages on the device are not checked before a run: keys whose entry is no page of the pool are as if a mask hid them, in
   every kernel family, schedule and inspection, and new keys are dropped there. Tables on the host are checked; pools there are
   refused. */
#define ATTEND_TEST_MANAGED
#include "support/caches.h"
#include "support/inspection.h"
#include "support/plans.h"
#include "support/refusal.h"
#include "support/run.h"
#include "core/problem.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 3 };

static const struct {
    attend_dtype dtype;
    int64_t queries, keys, page_size;
    bool gap; /* a window behind a prefix hides tiles, so that they are searched */
} cases[] = {
    {ATTEND_F32, 12, 100, 16, false}, {ATTEND_F16, 40, 200, 64, false}, {ATTEND_BF16, 3, 1100, 3, false},
    {ATTEND_F16, 20, 330, 1, true},   {ATTEND_F32, 4, 240, 100, true},
};
enum { CASES = sizeof cases / sizeof *cases };

/* The first sequence lacks its first page and its last, the second one in the middle, the third all. */
static bool is_hole(int64_t b, int64_t page, int64_t pages) { return b == 2 || (b == 1 ? page == pages / 2 : page % (pages - 1) == 0); }

static test_run make(int n, uint8_t *mask)
{
    const int64_t keys = cases[n].keys, size = cases[n].page_size, pages = (keys + size - 1) / size;
    test_run r = test_run_make(cases[n].dtype, 40, BATCH, cases[n].queries, keys, 4, 2, ATTEND_CAUSAL_BOTTOM_RIGHT);
    if (cases[n].gap) r.p.windowed = true, r.p.window_left = 60, r.p.window_right = -1, r.p.prefix = 40;
    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t j = 0; j < keys; j++) mask[b * keys + j] = !is_hole(b, j / size, pages);
    r.mask = attend_tensor_4d(mask, ATTEND_U8, BATCH, 4, r.p.seqlen_q, keys);
    r.mask.stride[0] = keys, r.mask.stride[1] = r.mask.stride[2] = 0, r.mask.stride[3] = 1;
    return r;
}

static test_cache cache_of(const test_run *r, int64_t page_size, int n)
{
    test_cache c = test_cache_make(&r->p, NULL, page_size, (test_pools)(n % POOLS), false, (uint64_t)n);
    for (int64_t b = 0; b < r->k.shape[0]; b++)
        for (int64_t j = 0; j < r->k.shape[1]; j++)
            for (int64_t h = 0; h < r->k.shape[2]; h++)
                for (int which = 0; which < 2; which++) {
                    const attend_tensor *t = which ? &r->v : &r->k;
                    const size_t bytes = (size_t)t->shape[3] * attend_dtype_bytes(t->dtype);
                    memcpy(test_cache_row(&c, which, b, j, h), test_row(t, b, j) + (size_t)h * bytes, bytes);
                }
    return c;
}

static test_cache paged(const test_run *r, int n)
{
    static const int32_t no_page[] = {-1, INT32_MAX, INT32_MIN};
    test_cache c = cache_of(r, cases[n].page_size, n);
    const int64_t columns = c.cache.block_table.shape[1], pages = columns - 1;
    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t page = 0; page < pages; page++)
            if (is_hole(b, page, pages)) c.table[b * columns + page] = page == 1 ? (int32_t)c.pages : no_page[(b + page) % 3];
    return c;
}

static void run(attend_context *context, const attend_problem *p, const attend_attention_args *args, test_inspection *found)
{
    attend_plan *plan;
    if (attend_attention_plan_with(context, p, &test_on_host, &plan) || attend_attention_forward(plan, args) || attend_attention_inspect(plan, args, &found->want) ||
        attend_synchronize(context))
        fail_msg("%s", attend_error_message());
    attend_plan_destroy(plan);
}

static void keys_without_pages_are_as_if_masked(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int n = 0; n < CASES; n++) {
        uint8_t mask[BATCH * 1100];
        test_run r = make(n, mask), wanted = make(n, mask);
        test_cache c = paged(&r, n);
        attend_problem masked = wanted.p, resolved;
        test_inspection found, expected;
        masked.mask_axes = ATTEND_PER_BATCH | ATTEND_PER_KEY;
        assert_int_equal(attend_problem_resolve(&r.p, sizeof r.p, ATTEND_ATTENTION, &resolved), ATTEND_OK);
        test_inspection_make(&found, &resolved), test_inspection_make(&expected, &resolved);
        run(context, &masked, &(attend_attention_args){.q = wanted.q, .k = wanted.k, .v = wanted.v, .out = wanted.out, .lse = wanted.lse,
                                                       .features = &(attend_feature_args){.mask = wanted.mask}}, &expected);
        run(context, &r.p, &(attend_attention_args){.q = r.q, .out = r.out, .lse = r.lse, .cache = &c.cache}, &found);
        const attend_tensor *const pairs[][2] = {{&r.out, &wanted.out}, {&r.lse, &wanted.lse}, {&found.want.weights, &expected.want.weights},
                                                 {&found.want.top_keys, &expected.want.top_keys}, {&found.want.map, &expected.want.map}};
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
            const attend_tensor dense = attend_tensor_row_major(*pairs[i][0]);
            if (memcmp(pairs[i][0]->data, pairs[i][1]->data, (size_t)(dense.shape[0] * dense.stride[0]) * attend_dtype_bytes(dense.dtype)))
                fail_msg("case %d: result %d is not that of masked keys", n, (int)i);
        }
        test_inspection_free(&found), test_inspection_free(&expected);
        test_cache_free(&c), test_run_free(&r), test_run_free(&wanted);
    }
    attend_context_destroy(context);
}

/* Whole tiles that fill a kernel's dims are copied without a look at each row: pages smaller and larger than a tile. */
static void whole_tiles_have_the_bits_of_keys_in_one_piece(void **state)
{
    (void)state;
    static const int64_t sizes[] = {16, 32, 64, 128, 256};
    attend_kernel_info row;
    for (size_t i = 0; attend_kernel(i, &row); i++) {
        if (!test_wants_row(&row) || row.dtype == ATTEND_F32) continue;
        setenv("ATTEND_KERNEL", row.name, 1);
        attend_context *context = test_context();
        test_run r = test_run_make(row.dtype, row.head_dim_max, 1, 2, 300, 2, 1, ATTEND_CAUSAL_NONE),
                 wanted = test_run_make(row.dtype, row.head_dim_max, 1, 2, 300, 2, 1, ATTEND_CAUSAL_NONE);
        test_run_go(&wanted, context, row.name);
        for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
            test_cache c = cache_of(&r, sizes[n], (int)n);
            attend_plan *plan;
            const attend_attention_args args = {.q = r.q, .out = r.out, .lse = r.lse, .cache = &c.cache};
            if (attend_attention_plan_with(context, &r.p, &test_on_host, &plan) || attend_attention_forward(plan, &args) ||
                attend_synchronize(context))
                fail_msg("%s", attend_error_message());
            if (memcmp(test_row(&r.out, 0, 0), test_row(&wanted.out, 0, 0), 2 * test_row_bytes(&r.out)))
                fail_msg("%s: pages of %d have other bits", row.name, (int)sizes[n]);
            memset(r.out.data, 0xff, 2 * test_row_bytes(&r.out));
            attend_plan_destroy(plan);
            test_cache_free(&c);
        }
        test_run_free(&r), test_run_free(&wanted);
        attend_context_destroy(context);
        unsetenv("ATTEND_KERNEL");
    }
}

/* Two new tokens of each sequence. Lists and table are on the device: keys behind the capacity, before slot 0 and of no page are
   dropped, others written. */
static void new_keys_without_slots_are_dropped(void **state)
{
    (void)state;
    enum { SIZE = 4, COLUMNS = 2, PAGES = 5, TOKENS = 2, SEQUENCES = 4, DIM = 8, POOL = PAGES * SIZE * DIM };
    static const int64_t firsts[SEQUENCES] = {COLUMNS * SIZE - 1, -1, 3, 0};
    static const int32_t pages[SEQUENCES][COLUMNS] = {{3, 0}, {2, 2}, {1, PAGES}, {4, -7}};
    static const int written[] = {0 * SIZE + 3, 1 * SIZE + 3, 4 * SIZE + 0, 4 * SIZE + 1}; /* rows of the pool, */
    static const int tokens[] = {0, 4, 6, 7};                                              /* and what goes there */
    float k[SEQUENCES * TOKENS * DIM], v[SEQUENCES * TOKENS * DIM], wanted[2][POOL];
    for (int i = 0; i < SEQUENCES * TOKENS * DIM; i++) k[i] = (float)(i + 1), v[i] = (float)(-1 - i);
    float *const pools = test_cache_reserve(sizeof wanted);
    int64_t *const seqlens = test_cache_reserve(sizeof firsts);
    int32_t *const table = test_cache_reserve(sizeof pages);
    memset(pools, 0, sizeof wanted), memset(wanted, 0, sizeof wanted), memcpy(seqlens, firsts, sizeof firsts), memcpy(table, pages, sizeof pages);
    for (int i = 0; i < 4; i++)
        for (int c = 0; c < DIM; c++) wanted[0][written[i] * DIM + c] = k[tokens[i] * DIM + c], wanted[1][written[i] * DIM + c] = v[tokens[i] * DIM + c];
    attend_context *context = test_context();
    const attend_problem p = {.batch = SEQUENCES, .seqlen_q = TOKENS, .num_heads = 1, .head_dim = DIM};
    const attend_cache cache = {.k = attend_tensor_4d(pools, ATTEND_F32, PAGES, SIZE, 1, DIM),
                                .v = attend_tensor_4d(pools + POOL, ATTEND_F32, PAGES, SIZE, 1, DIM),
                                .block_table = attend_tensor_2d(table, ATTEND_I32, SEQUENCES, COLUMNS), .seqlens = seqlens};
    const attend_cache_append_args args = {.k = attend_tensor_4d(k, ATTEND_F32, SEQUENCES, TOKENS, 1, DIM),
                                           .v = attend_tensor_4d(v, ATTEND_F32, SEQUENCES, TOKENS, 1, DIM)};
    if (attend_cache_append(context, &p, &cache, &args, NULL) || attend_synchronize(context)) fail_msg("%s", attend_error_message());
    assert_memory_equal(pools, wanted, sizeof wanted);
    attend_cache elsewhere = cache;
    elsewhere.k.data = wanted[0];
    test_expect_failure(attend_cache_append(context, &p, &elsewhere, &args, NULL), ATTEND_INVALID_ARGUMENT, "cache.k lies on the host, but CUDA takes it");
    elsewhere = cache, elsewhere.block_table.data = (void *)(uintptr_t)pages, elsewhere.seqlens = firsts;
    test_expect_failure(attend_cache_append(context, &p, &elsewhere, &args, NULL), ATTEND_INVALID_ARGUMENT, "cache.seqlens[0] is 7, but with 2 new tokens");
    assert_memory_equal(pools, wanted, sizeof wanted);
    test_cache_release(pools), test_cache_release(seqlens), test_cache_release(table);
    attend_context_destroy(context);
}

static void expect(const test_run *r, const attend_cache *cache, attend_status wanted, const char *sentence)
{
    attend_context *context = test_context();
    attend_plan *plan;
    const attend_attention_args args = {.q = r->q, .out = r->out, .cache = cache};
    assert_int_equal(attend_attention_plan_with(context, &r->p, &test_on_host, &plan), ATTEND_OK);
    if (wanted)
        test_expect_failure(attend_attention_forward(plan, &args), wanted, sentence);
    else if (attend_attention_forward(plan, &args))
        fail_msg("%s", attend_error_message());
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void tables_on_the_host_are_checked(void **state)
{
    (void)state;
    uint8_t mask[BATCH * 1100];
    test_run r = make(0, mask);
    test_cache c = paged(&r, 0);
    int32_t *const table = malloc((size_t)attend_tensor_elements(&c.cache.block_table) * sizeof *table);
    attend_cache cache = c.cache;
    memcpy(table, c.table, (size_t)attend_tensor_elements(&cache.block_table) * sizeof *table);
    cache.block_table.data = table;
    expect(&r, &cache, ATTEND_INVALID_ARGUMENT, "cache.block_table[0, 0] is -1, expected 0 to");
    for (int64_t i = 0; i < attend_tensor_elements(&cache.block_table); i++)
        if (table[i] < 0 || table[i] >= c.pages) table[i] = 0;
    expect(&r, &cache, ATTEND_OK, NULL);
    void *const pool = malloc((size_t)attend_tensor_elements(&cache.v) * sizeof(float));
    cache.v.data = pool;
    expect(&r, &cache, ATTEND_INVALID_ARGUMENT, "cache.v lies on the host, but CUDA takes it on the device alone");
    free(pool), free(table);
    test_cache_free(&c), test_run_free(&r);
}

int main(void)
{
    setenv("ATTEND_TEST_DEVICE", "cuda", 1);
    TEST_CACHES_IN_PLACE();
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys_without_pages_are_as_if_masked),
                                       cmocka_unit_test(whole_tiles_have_the_bits_of_keys_in_one_piece),
                                       cmocka_unit_test(new_keys_without_slots_are_dropped),
                                       cmocka_unit_test(tables_on_the_host_are_checked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
