/* Every row of the CUDA kernel table, forced one by one: pairs of shapes, inputs, layouts and features within both rules of
   docs/numerics.md. ATTEND_TEST_ROWS, a part of a name, leaves the other rows out. */
#include "support/fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const int64_t seqlens[] = {0, 1, 7, 64, 65, 127, 130};
static const int64_t heads[][2] = {{1, 1}, {2, 1}, {3, 3}, {6, 2}};
static const int64_t batches[] = {0, 1, 3};

/* The widest dims of a row, whole chunks of 16 bytes, and a ragged end. */
static void every_row_is_within_the_rules(void **state)
{
    (void)state;
    attend_kernel_info row;
    for (size_t i = 0; attend_kernel(i, &row); i++) {
        if (!test_wants_row(&row)) continue;
        const int64_t dims[] = {row.head_dim_max, row.head_dim_max - 8, row.head_dim_max - 27};
        const test_factors factors = {seqlens, 7, dims, 3, heads, 4, batches, 3, &row.dtype, 1};
        int count;
        test_case *cases = test_covering(&factors, &count);
        setenv("ATTEND_KERNEL", row.name, 1);
        attend_context *context = test_context();
        double bound = 0, quality = 0, lse = 0;
        for (int j = 0; j < count; j++) {
            test_fixture fixture;
            if (cases[j].problem.head_dim_v > row.head_dim_v_max) cases[j].problem.head_dim_v = row.head_dim_v_max;

            test_fixture_make(&fixture, &cases[j]);
            test_fixture_run(&fixture, context);
            attend_comparison r = test_fixture_check(&fixture);
            bound = fmax(bound, r.bound_ratio), quality = fmax(quality, r.quality_ratio), lse = fmax(lse, r.lse_bound_ratio);
            test_fixture_free(&fixture);
        }
        print_message("%s: %d cases, worst rule-1 ratio %.3f (lse %.3f), worst rule-2 ratio %.3f\n", row.name, count, bound, lse,
                      quality);
        attend_context_destroy(context);
        unsetenv("ATTEND_KERNEL");
        free(cases);
    }
}

int main(void)
{
    setenv("ATTEND_TEST_DEVICE", "cuda", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_row_is_within_the_rules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
