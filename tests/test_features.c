/* Each feature alone and with every other, within both rules of docs/numerics.md: on the device under test as far as it goes, and
   on the model of the tiled algorithm, which asks host/shared/visibility.h and host/shared/score.h as every kernel does. */
#include "support/feature_cases.h"
#include "support/fixture.h"
#include "support/model.h"
#include "support/plans.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct worst {
    double bound, quality, lse;
} worst;

static void check(worst *w, const test_fixture *f)
{
    const attend_comparison r = test_fixture_check(f);
    w->bound = fmax(w->bound, r.bound_ratio), w->lse = fmax(w->lse, r.lse_bound_ratio);
    w->quality = fmax(w->quality, r.quality_ratio);
}

static void conclude(const worst *w, const char *who, int count)
{
    print_message("%s: %d cases, worst rule-1 ratio %.3f (lse %.3f), worst rule-2 ratio %.3f\n", who, count, w->bound, w->lse, w->quality);
}

static void the_model_is_within_the_rules(void **state)
{
    (void)state;
    int count;
    if (getenv("ATTEND_TEST_DEVICE")) skip(); /* once is enough */
    test_case *cases = test_feature_cases(UINT64_MAX, false, &count);
    worst w = {0};
    for (int i = 0; i < count; i++) {
        test_fixture f;
        test_fixture_make(&f, &cases[i]);
        model_run(MODEL_CORRECT, &f.problem, &f.args);
        check(&w, &f);
        test_fixture_free(&f);
    }
    conclude(&w, "model", count);
    free(cases);
}

static void every_pair_is_within_the_rules(void **state)
{
    (void)state;
    int count;
    attend_context *context = test_context();
    test_case *cases = test_feature_cases(test_supported(context), getenv("ATTEND_TEST_SHORT"), &count);
    worst w = {0};
    for (int i = 0; i < count; i++) {
        test_fixture f;
        test_fixture_make(&f, &cases[i]);
        test_fixture_run(&f, context);
        check(&w, &f);
        test_fixture_free(&f);
    }
    conclude(&w, attend_context_device_name(context), count);
    attend_context_destroy(context);
    free(cases);
}

/* What a device cannot do, it refuses by name. */
static void others_are_refused_by_name(void **state)
{
    (void)state;
    attend_context *context = test_context();
    uint64_t supported = test_supported(context);
    for (int i = 0; test_feature_setting(i); i++) {
        attend_problem p = {.batch = 1, .seqlen_q = 8, .seqlen_k = 8, .num_heads = 1, .head_dim = 8};
        attend_plan *plan;
        test_setting_apply(test_feature_setting(i), &p);
        if (p.packed) p.total_q = p.total_k = 8;
        uint64_t lacking = attend_problem_features(&p) & ~supported;
        attend_status status = test_attention_plan(context, &p, &plan);
        assert_int_equal(status, lacking ? ATTEND_UNSUPPORTED : ATTEND_OK);
        for (int bit = 0; attend_feature_name(bit); bit++)
            if (lacking >> bit & 1) assert_non_null(strstr(attend_error_message(), attend_feature_name(bit)));
        attend_plan_destroy(plan);
    }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_is_within_the_rules),
        cmocka_unit_test(every_pair_is_within_the_rules),
        cmocka_unit_test(others_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
