/* Gradients on the device under test, every one under pairs of shapes, inputs, layouts and features, within both rules of
   docs/numerics.md. */
#include "support/feature_cases.h"
#include "support/gradients.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const int64_t seqlens[] = {0, 1, 7, 47, 49, 127, 129, 260};
static const int64_t head_dims[] = {1, 8, 33, 64, 72, 128};
static const int64_t heads[][2] = {{1, 1}, {2, 1}, {3, 3}, {6, 2}};
static const int64_t batches[] = {0, 1, 3};
static const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};
static const test_factors factors = {seqlens, 8, head_dims, 6, heads, 4, batches, 3, dtypes, 3};

typedef struct worst {
    double bound[3], quality[3];
} worst;

static void check(worst *w, const test_case *c, attend_context *context)
{
    char text[TEST_CASE_TEXT], sentence[TEST_SENTENCE];
    attend_backward_comparison r;
    test_fixture f;
    test_gradients g;
    test_fixture_make(&f, c);
    test_gradients_make(&g, &f, c->seed % 4 == 1 ? ATTEND_F32 : f.problem.dtype);
    test_gradients_run(&g, &f, context);
    if (!test_gradients_judge(&g, &f, &r, sentence)) fail_msg("%s: %s", test_case_text(c, text), sentence);
    const attend_dtype d = f.problem.dtype;
    w->bound[d] = fmax(w->bound[d], test_gradients_worst(&r, false)), w->quality[d] = fmax(w->quality[d], test_gradients_worst(&r, true));
    test_gradients_free(&g);
    test_fixture_free(&f);
}

static void conclude(const worst *w, const attend_context *context, int count)
{
    for (int d = 0; d < 3; d++)
        print_message("%s, %s: worst rule-1 ratio %.3f, worst rule-2 ratio %.3f, of %d cases in all\n", attend_context_device_name(context),
                      attend_dtype_name((attend_dtype)d), w->bound[d], w->quality[d], count);
}

/* On other instruction sets than the machine's best, and on the software device, every fourth: of shapes, in each dtype. */
static void check_all(const test_case *cases, int count)
{
    const int step = getenv("ATTEND_CPU_ISA") || getenv("ATTEND_TEST_SHORT") ? 4 : 1;
    attend_context *context = test_context();
    worst w = {0};
    for (int i = 0; i < count; i += step) check(&w, &cases[i], context);
    conclude(&w, context, count);
    attend_context_destroy(context);
}

static void every_pair_of_shapes_is_within_the_rules(void **state)
{
    (void)state;
    int count;
    test_case *cases = test_covering(&factors, &count);
    check_all(cases, count);
    free(cases);
}

static void every_pair_of_features_is_within_the_rules(void **state)
{
    (void)state;
    int count;
    test_case *cases = test_feature_cases(UINT64_MAX, true, &count);
    check_all(cases, count);
    free(cases);
}

/* A bias has more rows than all packed sequences together. */
static void a_bias_longer_than_packed_sequences_is_judged(void **state)
{
    (void)state;
    test_case c = {.problem = {.batch = 1, .seqlen_q = 400, .seqlen_k = 40, .num_heads = 1, .head_dim = 8, .packed = true,
                               .bias_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY}};
    for (c.seed = 1; c.seed <= 4; c.seed++) check_all(&c, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_pair_of_shapes_is_within_the_rules),
                                       cmocka_unit_test(every_pair_of_features_is_within_the_rules),
                                       cmocka_unit_test(a_bias_longer_than_packed_sequences_is_judged)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
