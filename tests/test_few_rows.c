/* Decoding takes KV heads together where they lie side by side and threads have enough to do: any number of
   heads, odd ones too, any batch and lengths give the bits that heads give which lie apart, and so are taken
   one by one. */
#include "support/fixture.h"
#include "tensor.h"
#include "values/values.h"

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
        .seqlens_k = cases[c].lengths ? lengths : NULL,
    };
    memset(out, 0xff, ELEMENTS * sizeof(float));
    assert_int_equal(attend_context_create(&options, &context), ATTEND_OK);
    assert_int_equal(attend_attention_plan(context, &p, &plan), ATTEND_OK);
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_number_of_heads_gives_the_same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
