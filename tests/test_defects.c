/* The suite's inputs and rules, tried on a model of the tiled algorithm: correct, it stays within both rules in every case; with
   any one of the planted defects, some case shows it. A checker that has caught nothing is not yet a checker. */
#include "support/fixture.h"
#include "support/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const int64_t seqlens[] = {0, 1, 2, 7, 63, 64, 65, 127, 128, 129, 300};
static const int64_t head_dims[] = {1, 8, 33, 64, 80, 128};
static const int64_t heads[][2] = {{1, 1}, {2, 1}, {3, 3}, {8, 2}, {6, 2}};
static const int64_t batches[] = {1, 3};
static const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};
static const test_factors factors = {seqlens, 11, head_dims, 6, heads, 5, batches, 2, dtypes, 3};

/* Besides the design: few queries on very many keys, where one key hardly counts; each kind of input, each dtype. */
enum { LONG_CASES = 3 * ATTEND_VALUES_KINDS };
static test_case long_case(int i)
{
    return (test_case){.problem = {.batch = 1, .seqlen_q = 8, .seqlen_k = 4090, .num_heads = 2, .head_dim = 64, .dtype = dtypes[i % 3]},
                       .values = (attend_values)(i / 3), .seed = (uint64_t)i + 900};
}

/* And scores that grow along the keys under values that cancel, where the largest weight's rounding is all that is left. */
enum { GROWING_CASES = 2 };
static test_case growing_case(int i)
{
    return (test_case){.problem = {.batch = 1, .seqlen_q = 512, .seqlen_k = 90, .num_heads = 8, .head_dim = 64, .dtype = dtypes[i + 1],
                                   .alibi = ATTEND_ALIBI_CAUSAL},
                       .values = ATTEND_VALUES_CANCEL, .seed = (uint64_t)i + 980};
}

static test_case *all_cases(int *count)
{
    int design;
    test_case *covering = test_covering(&factors, &design), *all = malloc((size_t)(design + LONG_CASES + GROWING_CASES) * sizeof *all);
    memcpy(all, covering, (size_t)design * sizeof *all);
    for (int i = 0; i < LONG_CASES; i++) all[design + i] = long_case(i);
    for (int i = 0; i < GROWING_CASES; i++) all[design + LONG_CASES + i] = growing_case(i);
    free(covering);
    *count = design + LONG_CASES + GROWING_CASES;
    return all;
}

static attend_comparison compare(const test_fixture *f)
{
    attend_comparison r;
    if (attend_compare(&f->c.problem, &f->args, NULL, &r)) fail_msg("%s", attend_error_message());
    return r;
}

static void the_correct_model_is_within_the_rules(void **state)
{
    (void)state;
    int count;
    test_case *cases = all_cases(&count);
    double bound[3] = {0}, quality[3] = {0}, lse[3] = {0};
    for (int i = 0; i < count; i++) {
        test_fixture f;
        test_fixture_make(&f, &cases[i]);
        model_run(MODEL_CORRECT, &f.problem, &f.args);
        attend_comparison r = test_fixture_check(&f);
        attend_dtype d = f.problem.dtype;
        bound[d] = fmax(bound[d], r.bound_ratio), quality[d] = fmax(quality[d], r.quality_ratio), lse[d] = fmax(lse[d], r.lse_bound_ratio);
        test_fixture_free(&f);
    }
    for (int d = 0; d < 3; d++)
        print_message("%s: worst rule-1 ratio %.3f (lse %.3f), worst rule-2 ratio %.3f, of %d cases in all\n",
                      attend_dtype_name((attend_dtype)d), bound[d], lse[d], quality[d], count);
    free(cases);
}

/* What a defect did to one dtype over all cases. */
typedef struct catches {
    int cases, caught;
    double worst;
    bool by_bound, by_quality, by_lse;
    test_case shows; /* where it was worst */
} catches;

static void note(catches *c, const test_case *t, const attend_comparison *r)
{
    double worst = fmax(r->bound_ratio, fmax(r->quality_ratio, r->lse_bound_ratio));
    c->cases++;
    c->caught += !r->passed;
    c->by_bound |= r->bound_ratio > 1, c->by_quality |= r->quality_ratio > 1, c->by_lse |= r->lse_bound_ratio > 1;
    if (worst <= c->worst) return;
    c->worst = worst;
    c->shows = *t;
}

/* In each dtype in which it is one, by the first case that shows it. ATTEND_TEST_EACH: by all, for the table of docs/numerics.md. */
static void every_defect_is_caught(void **state)
{
    (void)state;
    const bool each = getenv("ATTEND_TEST_EACH");
    int count;
    test_case *cases = all_cases(&count);
    for (model_defect defect = MODEL_CORRECT + 1; defect < MODEL_DEFECTS; defect++) {
        catches of[3] = {0};
        for (int i = 0; i < count; i++) {
            test_fixture f;
            if (of[cases[i].problem.dtype].caught && !each) continue;
            test_fixture_make(&f, &cases[i]);
            if (model_defect_applies(defect, &f.problem, &f.args)) {
                model_run(defect, &f.problem, &f.args);
                attend_comparison r = compare(&f);
                note(&of[f.problem.dtype], &cases[i], &r);
            }
            test_fixture_free(&f);
        }
        for (int d = 0; d < 3; d++) {
            char text[TEST_CASE_TEXT];
            const catches *c = &of[d];
            if (c->cases == 0) continue;
            print_message("%-20s %-4s caught in %3d of %3d by%s%s%s; worst %.3g: %s\n", model_defect_name(defect),
                          attend_dtype_name((attend_dtype)d), c->caught, c->cases, c->by_bound ? " bound" : "",
                          c->by_quality ? " quality" : "", c->by_lse ? " lse" : "", c->worst, test_case_text(&c->shows, text));
            if (!c->caught) fail_msg("no case shows \"%s\" in %s", model_defect_name(defect), attend_dtype_name((attend_dtype)d));
        }
    }
    free(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_correct_model_is_within_the_rules),
        cmocka_unit_test(every_defect_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
