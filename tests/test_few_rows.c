/* Few rows a KV head go a way of their own on the CPU, with the bits that other ways give. Decoding takes KV
   heads together where they lie side by side and threads have enough to do: any number of heads, odd ones too,
   any batch and lengths give the bits that heads give which lie apart, and so are taken one by one. And few
   rows of a KV head give the bits that they give among many, whatever document of the keys they see. */
#include "support/fixture.h"
#include "support/plans.h"
#include "cpu/cpu.h"
#include "core/tensor.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { KEYS = 70, DIM = 16, MOST_HEADS = 9, MOST_BATCH = 8, ELEMENTS = MOST_BATCH * KEYS * MOST_HEADS * DIM };

static const struct {
    int64_t batch, group;
    attend_dtype dtype;
    int threads;
    bool lengths;
} cases[] = {
    {7, 1, ATTEND_F32, 1, false}, {8, 1, ATTEND_F32, 1, true},  {7, 2, ATTEND_F16, 1, true},
    {8, 4, ATTEND_F16, 2, false}, {7, 1, ATTEND_BF16, 2, true}, {1, 2, ATTEND_F32, 1, false},
};
enum { CASES = sizeof cases / sizeof *cases };

/* K or V [batch, keys, heads, dim], heads side by side or each apart; the same values in either. */
static attend_tensor cached(void *memory, attend_dtype dtype, int64_t batch, int64_t heads, bool apart, int seed)
{
    attend_tensor t = attend_tensor_4d(memory, dtype, batch, KEYS, heads, DIM);
    const int64_t strides[] = {KEYS * heads * DIM, apart ? DIM : heads * DIM, apart ? KEYS * DIM : DIM, 1};
    memcpy(t.stride, strides, sizeof strides);
    attend_values_gauss((uint64_t)seed, 1, &t);
    return t;
}

static void decode(int c, int64_t kv_heads, bool apart, void *memory[3], void *out)
{
    static const int64_t lengths[MOST_BATCH] = {70, 1, 0, 33, 64, 65, 69, 16};
    const attend_problem p = {.batch = cases[c].batch,
                              .seqlen_q = 1,
                              .seqlen_k = KEYS,
                              .num_heads = kv_heads * cases[c].group,
                              .num_kv_heads = kv_heads,
                              .head_dim = DIM,
                              .dtype = cases[c].dtype};
    attend_context *context;
    attend_plan *plan;
    const attend_context_options options = {.device = ATTEND_CPU, .threads = cases[c].threads};
    attend_attention_args args = {
        .q = attend_tensor_4d(memory[0], p.dtype, p.batch, 1, p.num_heads, DIM),
        .k = cached(memory[1], p.dtype, p.batch, kv_heads, apart, 2),
        .v = cached(memory[2], p.dtype, p.batch, kv_heads, apart, 3),
        .out = attend_tensor_4d(out, p.dtype, p.batch, 1, p.num_heads, DIM),
        .features = &(attend_feature_args){.seqlens_k = cases[c].lengths ? lengths : NULL},
    };
    memset(out, 0xff, ELEMENTS * sizeof(float));
    assert_int_equal(attend_context_create(&options, &context), ATTEND_OK);
    assert_int_equal(test_attention_plan(context, &p, &plan), ATTEND_OK);
    assert_int_equal(attend_attention_forward(plan, &args), ATTEND_OK);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void any_number_of_heads_gives_the_same_bits(void **state)
{
    (void)state;
    void *memory[3], *together = malloc(ELEMENTS * sizeof(float)), *apart = malloc(ELEMENTS * sizeof(float));
    for (int i = 0; i < 3; i++) assert_non_null(memory[i] = malloc(ELEMENTS * sizeof(float)));
    assert_true(together && apart);
    for (int c = 0; c < CASES; c++) {
        for (int64_t heads = 1; heads <= MOST_HEADS; heads++) {
            const int64_t q_heads = heads * cases[c].group;
            attend_tensor q = attend_tensor_4d(memory[0], cases[c].dtype, cases[c].batch, 1, q_heads, DIM);
            const int64_t strides[] = {q_heads * DIM, q_heads * DIM, DIM, 1};
            memcpy(q.stride, strides, sizeof strides);
            attend_values_gauss(1, 1, &q);
            decode(c, heads, false, memory, together);
            decode(c, heads, true, memory, apart);
            if (memcmp(together, apart, ELEMENTS * sizeof(float)))
                fail_msg("case %d, %d KV heads: other bits than heads that lie apart", c, (int)heads);
        }
    }
    for (int i = 0; i < 3; i++) free(memory[i]);
    free(together), free(apart);
}

enum { DOCUMENT_KEYS = 300, DOCUMENT_HEADS = 16, DOCUMENT_DIM = 24 };

/* Rows of a KV head, and the keys of the document that they are of: one that begins or ends within a vector of
   keys leaves scores of part of a vector, in the first block of keys, the second or the last. */
static const struct {
    int64_t rows, begin, end;
} documents[] = {
    {8, 17, 300}, {8, 1, 300}, {8, 121, 300}, {8, 127, 300}, {8, 145, 300}, {8, 257, 300}, {8, 17, 128},
    {8, 3, 250},  {4, 17, 300}, {2, 17, 300}, {1, 17, 300},  {8, 0, 300},   {8, 300, 300},
};
enum { DOCUMENTS = sizeof documents / sizeof *documents };

/* All query heads with the same keys: of one KV head, or of as many as leave each so few rows. */
static void read_document(attend_dtype dtype, int64_t begin, int64_t end, int64_t kv_heads, void *memory[3],
                          void *out)
{
    static int32_t of_queries[1] = {1}, of_keys[DOCUMENT_KEYS];
    const attend_problem p = {.batch = 1,
                              .seqlen_q = 1,
                              .seqlen_k = DOCUMENT_KEYS,
                              .num_heads = DOCUMENT_HEADS,
                              .num_kv_heads = kv_heads,
                              .head_dim = DOCUMENT_DIM,
                              .dtype = dtype,
                              .segments = true};
    attend_context *context;
    attend_plan *plan;
    const attend_context_options options = {.device = ATTEND_CPU, .threads = 1};
    attend_attention_args args = {
        .q = attend_tensor_4d(memory[0], dtype, 1, 1, DOCUMENT_HEADS, DOCUMENT_DIM),
        .k = attend_tensor_4d(memory[1], dtype, 1, DOCUMENT_KEYS, kv_heads, DOCUMENT_DIM),
        .v = attend_tensor_4d(memory[2], dtype, 1, DOCUMENT_KEYS, kv_heads, DOCUMENT_DIM),
        .out = attend_tensor_4d(out, dtype, 1, 1, DOCUMENT_HEADS, DOCUMENT_DIM),
        .features = &(attend_feature_args){.segments_q = attend_tensor_2d(of_queries, ATTEND_I32, 1, 1),
                                           .segments_k = attend_tensor_2d(of_keys, ATTEND_I32, 1, DOCUMENT_KEYS)},
    };
    const int64_t strides[] = {DOCUMENT_KEYS * DOCUMENT_DIM, DOCUMENT_DIM, 0, 1};
    memcpy(args.k.stride, strides, sizeof strides), memcpy(args.v.stride, strides, sizeof strides);
    for (int64_t j = 0; j < DOCUMENT_KEYS; j++) of_keys[j] = j >= begin && j < end;
    assert_int_equal(attend_context_create(&options, &context), ATTEND_OK);
    if (test_attention_plan(context, &p, &plan)) fail_msg("%s", attend_error_message());
    assert_int_equal(((attend_cpu_plan *)plan->state)->schedule == ATTEND_CPU_DECODE, kv_heads > 1);
    if (attend_attention_forward(plan, &args)) fail_msg("%s", attend_error_message());
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void few_rows_have_the_bits_that_they_have_among_many(void **state)
{
    (void)state;
    enum { OUT = DOCUMENT_HEADS * DOCUMENT_DIM };
    static float q[OUT], k[DOCUMENT_KEYS * DOCUMENT_DIM], v[DOCUMENT_KEYS * DOCUMENT_DIM], few[OUT], many[OUT];
    void *memory[] = {q, k, v};
    for (int dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++) {
        for (int i = 0; i < 3; i++) {
            attend_tensor t = attend_tensor_4d(memory[i], (attend_dtype)dtype, 1, i ? DOCUMENT_KEYS : 1,
                                               i ? 1 : DOCUMENT_HEADS, DOCUMENT_DIM);
            attend_values_gauss((uint64_t)i + 1, 1, &t);
        }
        for (int n = 0; n < DOCUMENTS; n++) {
            const int64_t begin = documents[n].begin, end = documents[n].end;
            memset(few, 0xff, sizeof few), memset(many, 0xff, sizeof many);
            read_document((attend_dtype)dtype, begin, end, DOCUMENT_HEADS / documents[n].rows, memory, few);
            read_document((attend_dtype)dtype, begin, end, 1, memory, many);
            if (memcmp(few, many, sizeof few))
                fail_msg("%s, %d rows, document of keys %d to %d: other bits than among %d rows",
                         attend_dtype_name((attend_dtype)dtype), (int)documents[n].rows, (int)begin, (int)end,
                         DOCUMENT_HEADS);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_number_of_heads_gives_the_same_bits),
                                       cmocka_unit_test(few_rows_have_the_bits_that_they_have_among_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
