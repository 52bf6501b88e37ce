/* Every pair of shapes, inputs, layouts and features, on the device under test, within both rules of docs/numerics.md. */
#include "support/fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const int64_t seqlens[] = {0, 1, 2, 7, 63, 64, 65, 127, 128, 129, 1000};
static const int64_t short_seqlens[] = {0, 1, 7, 64, 65, 127, 130};
static const int64_t head_dims[] = {1, 8, 33, 40, 64, 72, 80, 96, 128, 160, 192, 256};
static const int64_t heads[][2] = {{1, 1}, {2, 1}, {3, 1}, {7, 1}, {8, 1}, {8, 8}, {6, 2}};
static const int64_t short_heads[][2] = {{1, 1}, {2, 1}, {3, 3}, {6, 2}};
static const int64_t batches[] = {0, 1, 3};
static const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};

/* Interpreted kernels get shorter sequences and fewer heads; the pairs are the same in kind. */
static test_factors factors(void)
{
    test_factors f = {seqlens, 11, head_dims, 12, heads, 7, batches, 3, dtypes, 3};
    if (getenv("ATTEND_TEST_SHORT")) {
        f.seqlens = short_seqlens, f.seqlen_count = 7;
        f.heads = short_heads, f.heads_count = 4;
    }
    return f;
}

static void every_pair_is_within_the_rules(void **state)
{
    (void)state;
    int count;
    test_factors f = factors();
    test_case *cases = test_covering(&f, &count);
    attend_context *context = test_context();
    double bound = 0, quality = 0, lse = 0;
    for (int i = 0; i < count; i++) {
        test_fixture fixture;
        test_fixture_make(&fixture, &cases[i]);
        test_fixture_run(&fixture, context);
        attend_comparison r = test_fixture_check(&fixture);
        bound = fmax(bound, r.bound_ratio), quality = fmax(quality, r.quality_ratio), lse = fmax(lse, r.lse_bound_ratio);
        test_fixture_free(&fixture);
    }
    print_message("%s: %d cases, worst rule-1 ratio %.3f (lse %.3f), worst rule-2 ratio %.3f\n", attend_context_device_name(context),
                  count, bound, lse, quality);
    attend_context_destroy(context);
    free(cases);
}

/* Needles that are hardly one: queries as for a scale of 1, of which each key has the same few bits. So products are exact where queries are
   not rounded beforehand, weights take few values, and their roundings add up along one chain. The first is what scripts/demo prints. */
static void faint_needles_are_within_the_rules(void **state)
{
    (void)state;
    static const attend_problem shapes[] = {
        {.seqlen_q = 300, .seqlen_k = 1000, .num_heads = 2, .head_dim = 64, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT},
        {.seqlen_q = 200, .seqlen_k = 20, .num_heads = 1, .head_dim = 128, .causal = ATTEND_CAUSAL_TOP_LEFT},
        {.seqlen_q = 64, .seqlen_k = 20, .num_heads = 1, .head_dim = 128, .causal = ATTEND_CAUSAL_TOP_LEFT},
        {.seqlen_q = 100, .seqlen_k = 20, .num_heads = 1, .head_dim = 128},
        {.seqlen_q = 4, .seqlen_k = 1000, .num_heads = 1, .head_dim = 128},
    };
    const int count = sizeof shapes / sizeof *shapes, last = getenv("ATTEND_TEST_SHORT") ? 4 : count * 4;
    attend_context *context = test_context();
    for (int i = 0; i < last; i++) {
        test_case c = {.problem = shapes[i % count], .values = ATTEND_VALUES_NEEDLE, .seed = (uint64_t)i + 1};
        test_fixture f;
        c.problem.batch = 1;
        test_fixture_make(&f, &c);
        attend_problem plain = f.problem;
        plain.softmax_scale = 1;
        attend_values_fill(c.values, c.seed, &plain, &f.q.tensor, &f.k.tensor, &f.v.tensor);
        test_fixture_run(&f, context);
        test_fixture_check(&f);
        test_fixture_free(&f);
    }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_pair_is_within_the_rules), cmocka_unit_test(faint_needles_are_within_the_rules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
