/* attend_cache_append() writes new keys, as attend_rotary_apply() makes them, and new values to the slots behind each sequence's keys,
   and nothing else: with and without a rotary embedding and norms, of ragged and packed batches, in one piece and in pages. */
#include "support/caches.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 3, TOKENS = 9, HEADS = 2, DIM = 24, DIM_V = 20, CAPACITY = 40 };

typedef enum tokens { ALL, RAGGED, PACKED } tokens;

static const struct {
    attend_dtype dtype;
    attend_rotary rotary;
    attend_qk_norm norm;
    tokens tokens;
    int64_t page_size; /* 0: one piece */
    test_pools pools;
    bool from_zero, positions; /* no keys yet; positions are given */
} cases[] = {
    {ATTEND_F32, ATTEND_ROTARY_NONE, ATTEND_QK_NORM_NONE, ALL, 0, POOLS_APART, false, false},
    {ATTEND_F16, ATTEND_ROTARY_HALVES, ATTEND_QK_NORM_NONE, RAGGED, 1, POOLS_HEADS_FIRST, false, false},
    {ATTEND_BF16, ATTEND_ROTARY_INTERLEAVED, ATTEND_QK_NORM_RMS, ALL, 3, POOLS_INTERLEAVED, false, true},
    {ATTEND_F32, ATTEND_ROTARY_HALVES, ATTEND_QK_NORM_LAYER, PACKED, 16, POOLS_APART, false, false},
    {ATTEND_BF16, ATTEND_ROTARY_NONE, ATTEND_QK_NORM_NONE, PACKED, 7, POOLS_INTERLEAVED, true, false},
    {ATTEND_F16, ATTEND_ROTARY_NONE, ATTEND_QK_NORM_RMS, RAGGED, 64, POOLS_HEADS_FIRST, true, false},
    {ATTEND_F32, ATTEND_ROTARY_INTERLEAVED, ATTEND_QK_NORM_NONE, RAGGED, 0, POOLS_HEADS_FIRST, false, true},
};
enum { CASES = sizeof cases / sizeof *cases };

static const int64_t cached[BATCH] = {17, 0, CAPACITY - TOKENS}, lengths[BATCH] = {TOKENS, 0, 4}, ends[BATCH + 1] = {0, 5, 5, 14};

/* With gaps, of another size for each seed. */
static attend_tensor tensor(attend_dtype dtype, int64_t batch, int64_t rows, int64_t dim, uint64_t seed)
{
    const int64_t head = dim + (int64_t)seed, row = HEADS * head + (int64_t)seed;
    attend_tensor t = attend_tensor_4d(calloc((size_t)(batch * (rows * row + 1)), attend_dtype_bytes(dtype)), dtype, batch, rows, HEADS, dim);
    memcpy(t.stride, (int64_t[]){rows * row + 1, row, head, 1}, sizeof t.stride);
    attend_values_gauss(seed, 1, &t);
    return t;
}

/* Row `row` of entry b; all heads. */
static const char *row_of(const attend_tensor *t, int64_t b, int64_t row, int64_t head)
{
    return (const char *)t->data + (size_t)(b * t->stride[0] + row * t->stride[1] + head * t->stride[2]) * attend_dtype_bytes(t->dtype);
}

static void append_and_check(attend_context *context, int n)
{
    const bool packed = cases[n].tokens == PACKED;
    const int64_t batch = packed ? 1 : BATCH, rows = packed ? ends[BATCH] : TOKENS;
    attend_problem p = {.batch = BATCH, .seqlen_q = TOKENS, .num_heads = 2 * HEADS, .num_kv_heads = HEADS, .head_dim = DIM, .head_dim_v = DIM_V,
                        .dtype = cases[n].dtype, .rotary = cases[n].rotary, .rotary_dim = cases[n].rotary ? 16 : 0, .qk_norm = cases[n].norm,
                        .packed = packed, .total_q = packed ? rows : 0};
    attend_problem capacity = p;
    capacity.seqlen_k = CAPACITY;
    attend_tensor k = tensor(p.dtype, batch, rows, DIM, 1), v = tensor(p.dtype, batch, rows, DIM_V, 2), made = tensor(p.dtype, batch, rows, DIM, 3),
                  weight = tensor(p.dtype, 1, 1, DIM, 4);
    weight = attend_tensor_1d(weight.data, p.dtype, DIM);
    int32_t numbers[BATCH * 14];
    for (int i = 0; i < BATCH * 14; i++) numbers[i] = 1000 - 31 * i;
    attend_feature_args features = {.seqlens_q = cases[n].tokens == RAGGED ? lengths : NULL, .cu_seqlens_q = packed ? ends : NULL};
    if (cases[n].positions) features.positions = attend_tensor_2d(numbers, ATTEND_I32, batch, rows);
    test_cache cache = test_cache_make(&capacity, NULL, cases[n].page_size, cases[n].pools, false, 11), expected = cache;
    cache.cache.seqlens = cases[n].from_zero ? NULL : cached;

    attend_rotary_args rotary = {.k = k, .k_out = made, .positions = features.positions, .seqlens_q = features.seqlens_q, .cu_seqlens_q = features.cu_seqlens_q,
                                 .first_positions = cases[n].rotary && !cases[n].positions ? cache.cache.seqlens : NULL};
    attend_cache_append_args args = {.k = k, .v = v, .features = &features};
    if (cases[n].norm) rotary.k_norm = args.k_norm = weight;
    if (!cases[n].rotary && !cases[n].norm)
        made = k;
    else if (attend_rotary_apply(context, &p, &rotary))
        fail_msg("case %d: %s", n, attend_error_message());
    const size_t bytes = (size_t)(cache.pages * (cache.cache.k.shape[1] * HEADS * (DIM + DIM_V))) * attend_dtype_bytes(p.dtype);
    expected.memory = malloc(bytes);
    memset(expected.memory, 0xff, bytes);
    expected.cache.k.data = expected.memory + ((unsigned char *)cache.cache.k.data - cache.memory);
    expected.cache.v.data = expected.memory + ((unsigned char *)cache.cache.v.data - cache.memory);
    for (int64_t b = 0; b < BATCH; b++) {
        const int64_t begin = packed ? ends[b] : 0, count = packed ? ends[b + 1] - begin : features.seqlens_q ? lengths[b] : TOKENS;
        for (int64_t i = 0; i < count; i++)
            for (int64_t h = 0; h < HEADS; h++) {
                const int64_t key = (cache.cache.seqlens ? cached[b] : 0) + i, entry = packed ? 0 : b;
                memcpy(test_cache_row(&expected, 0, b, key, h), row_of(&made, entry, begin + i, h), DIM * attend_dtype_bytes(p.dtype));
                memcpy(test_cache_row(&expected, 1, b, key, h), row_of(&v, entry, begin + i, h), DIM_V * attend_dtype_bytes(p.dtype));
            }
    }
    if (attend_cache_append(context, &p, &cache.cache, &args, NULL) || attend_synchronize(context)) fail_msg("case %d: %s", n, attend_error_message());
    for (size_t i = 0; i < bytes; i++)
        if (cache.memory[i] != expected.memory[i]) fail_msg("case %d: byte %zu of the pools is %d, expected %d", n, i, cache.memory[i], expected.memory[i]);
    free(expected.memory), free(k.data), free(v.data), free(rotary.k_out.data), free(weight.data);
    test_cache_free(&cache);
}

static void new_keys_land_in_their_slots(void **state)
{
    (void)state;
    for (int device = 0; device < 2; device++) {
        attend_context *context = test_context();
        if (device && attend_context_device(context) == ATTEND_CPU) {
            assert_int_equal(attend_context_destroy(context), ATTEND_OK);
            assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_REFERENCE}, &context), ATTEND_OK);
        }
        for (int n = 0; n < CASES; n++) append_and_check(context, n);
        assert_int_equal(attend_context_destroy(context), ATTEND_OK);
    }
}

int main(void)
{
    TEST_CACHES_IN_PLACE();
    const struct CMUnitTest tests[] = {cmocka_unit_test(new_keys_land_in_their_slots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
