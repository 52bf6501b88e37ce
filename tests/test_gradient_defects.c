/* The rules of gradients, tried on a model: correct, it is within both; with any one of the planted defects, some case shows it. */
#include "support/gradient_model.h"
#include "core/tensor.h"
#include "reference/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const attend_values values[] = {ATTEND_VALUES_GAUSS, ATTEND_VALUES_OFFSET};
enum { VALUES = sizeof values / sizeof *values, CASES = 3 * VALUES };

static test_case case_of(int i)
{
    return (test_case){.problem = {.batch = 2, .seqlen_q = 50, .seqlen_k = 70, .num_heads = 8, .num_kv_heads = 2, .head_dim = 16,
                                   .dtype = (attend_dtype)(i % 3), .causal = ATTEND_CAUSAL_BOTTOM_RIGHT,
                                   .bias_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY},
                       .values = values[i / 3], .seed = 2 * (uint64_t)i + 41};
}

static void every_defect_is_caught(void **state)
{
    (void)state;
    attend_context *reference;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_REFERENCE}, &reference), ATTEND_OK);
    for (gradient_defect defect = GRADIENT_CORRECT; defect < GRADIENT_DEFECTS; defect++) {
        int cases[3] = {0}, caught[3] = {0};
        double worst[3] = {0};
        for (int i = 0; i < CASES; i++) {
            const test_case c = case_of(i);
            char sentence[TEST_SENTENCE];
            attend_backward_comparison r;
            test_fixture f;
            test_gradients g;
            test_fixture_make(&f, &c);
            test_gradients_make(&g, &f, f.problem.dtype);
            if (gradient_defect_applies(defect, &f.problem, &g.grads)) {
                test_fixture_run(&f, reference);
                gradient_model_run(defect, &f, &g);
                const bool within = test_gradients_judge(&g, &f, &r, sentence);
                if (defect == GRADIENT_CORRECT && !within) fail_msg("correct, case %d: %s", i, sentence);
                cases[i % 3]++, caught[i % 3] += !within;
                worst[i % 3] = fmax(worst[i % 3], fmax(test_gradients_worst(&r, false), test_gradients_worst(&r, true)));
            }
            test_gradients_free(&g);
            test_fixture_free(&f);
        }
        for (int d = 0; d < 3; d++) {
            if (cases[d] == 0) continue;
            print_message("%-16s %-4s caught in %d of %d, worst %.3g\n", gradient_defect_name(defect), attend_dtype_name((attend_dtype)d), caught[d],
                          cases[d], worst[d]);
            if (defect != GRADIENT_CORRECT && !caught[d])
                fail_msg("no case shows \"%s\" in %s", gradient_defect_name(defect), attend_dtype_name((attend_dtype)d));
        }
    }
    attend_context_destroy(reference);
}

/* Rule 2 allows what the baseline is off by and what its errors are expected to be: the one is about the other, with a softcap and sinks too. A
   bias's gradient has no baseline of its own in 16 bits, nor sinks in any. */
static void baselines_are_off_by_what_is_expected(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * CASES; i++) {
        test_case c = case_of(i % CASES);
        attend_reference_gradient of[ATTEND_GRADIENTS];
        attend_progress_tracker nobody = {0};
        test_fixture f;
        test_gradients g;
        if (i >= CASES) c.problem.softcap = 2, c.problem.sinks = true;
        test_fixture_make(&f, &c);
        test_gradients_make(&g, &f, f.problem.dtype);
        const attend_gradients given = {.of = {g.grads.dq, g.grads.dk, g.grads.dv, g.features.bias}, .dout = g.grads.dout, .dlse = g.grads.dlse};
        assert_true(attend_reference_backward(&f.problem, &f.args, &given, true, 1, &nobody, of));
        for (int n = 0; n < (f.problem.dtype == ATTEND_F32 ? 4 : 3); n++) {
            double squares = 0, expected = 0;
            for (int64_t e = 0; e < attend_tensor_elements(&given.of[n]); e++) {
                const double off = of[n].baseline[e] - of[n].exact[e];
                squares += off * off, expected += of[n].spread[e];
            }
            const double ratio = sqrt(squares / expected);
            if (!(ratio > 0.5 && ratio < 1.25)) fail_msg("case %d, gradient %d: the baseline is off by %.3g of what is expected", i, n, ratio);
        }
        attend_reference_backward_free(of);
        test_gradients_free(&g), test_fixture_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_defect_is_caught), cmocka_unit_test(baselines_are_off_by_what_is_expected)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
