/* Rotary angles stay exact far beyond the positions where fp32 loses them: counted in turns and in double, against long double.
   docs/measured/positions.md quotes what this prints. */
#include "core/problem.h"
#include "shared/rope.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const long double circle = 6.283185307179586476925286766559L;

/* The angle of a pair between -π and π, in long double from the definition on. */
static long double exact_angle(double base, int64_t pair, int64_t dims, int64_t position)
{
    const long double turns = (long double)position * powl(base, -2 * (long double)pair / (long double)dims) / circle;
    return (turns - rintl(turns)) * circle;
}

static void angles_are_exact_at_any_position(void **state)
{
    (void)state;
    static const int exponents[] = {10, 15, 17, 18, 20, 24, 31};
    if (LDBL_MANT_DIG < 64) skip();
    print_message("rotary, base 500000, 128 dims: worst error of cosine and sine, in radians of the angle\n");
    print_message("| positions up to | attend | angles in fp32 |\n");
    for (size_t e = 0; e < sizeof exponents / sizeof *exponents; e++) {
        attend_problem p = {.batch = 1, .seqlen_q = 8, .num_heads = 1, .head_dim = 128, .hidden_size = 8, .rotary = ATTEND_ROTARY_HALVES,
                            .rotary_base = 500000}, r;
        double worst = 0, naive = 0;
        assert_int_equal(attend_problem_resolve(&p, sizeof p, ATTEND_LAYER, &r), ATTEND_OK);
        const attend_rope rope = attend_rope_of(&r);
        for (int64_t n = 0; n < 1000; n++) {
            const int64_t position = ((int64_t)1 << exponents[e]) - 1 - n;
            for (int64_t pair = 0; pair < 64 && position >= 0; pair++) {
                const long double exact = exact_angle(500000, pair, 128, position);
                const double ours = 6.28318530717958647692 * attend_turn_fraction(rope.turns[pair], position);
                const float frequency = powf(500000, -2 * (float)pair / 128), theirs = (float)position * frequency;
                worst = fmax(worst, fmax(fabs((double)(cosl(exact) - cos(ours))), fabs((double)(sinl(exact) - sin(ours)))));
                naive = fmax(naive, fmax(fabs((double)cosl(exact) - cos((double)theirs)), fabs((double)sinl(exact) - sin((double)theirs))));
            }
        }
        print_message("| 2^%d | %.1e | %.1e |\n", exponents[e], worst, naive);
        /* A frequency within a few ulps of double, times the position: 2^(e - 50) of the fastest pair's angle. */
        assert_true(worst <= ldexp(4, exponents[e] - 52));
    }
}

/* YaRN's ramp from one pair to another, worked out by hand from the paper and transformers' limits (0 and dims - 1, which is beyond the last pair):
   by how much of it a pair's frequency is divided by the factor. */
static void ramps_of_yarn_end_where_they_should(void **state)
{
    (void)state;
    static const struct {
        int64_t dims, original;
        double low, high; /* floor and ceil of dims·ln(original / (2π·turns)) / (2·ln base), for 32 turns and 1 */
    } cases[] = {
        {64, 4096, 10, 23},    /* 10.47, 22.52: within the pairs */
        {64, 1 << 20, 29, 42}, /* 29.73, 41.78: ends beyond the last pair, 31 */
        {64, 1 << 30, 53, 63}, /* 53.81, 65.86: begins beyond it, and the end is cut to 63 */
        {64, 16, 0, 4},        /* -8.80, 3.24: begins before the first */
        {8, 4096, 1, 3},       /* 1.31, 2.82 */
    };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        attend_problem p = {.batch = 1, .seqlen_q = 8, .num_heads = 1, .head_dim = cases[n].dims, .hidden_size = 8, .rotary = ATTEND_ROTARY_HALVES,
                            .rotary_scaling = ATTEND_ROTARY_YARN, .rotary_factor = 8, .rotary_original_seqlen = cases[n].original}, r;
        assert_int_equal(attend_problem_resolve(&p, sizeof p, ATTEND_LAYER, &r), ATTEND_OK);
        const attend_rope rope = attend_rope_of(&r);
        for (int64_t pair = 0; pair < cases[n].dims / 2; pair++) {
            const double part = fmin(fmax(((double)pair - cases[n].low) / (cases[n].high - cases[n].low), 0), 1);
            const double expected = pow(10000, -2 * (double)pair / (double)cases[n].dims) / (double)circle * (1 - part + part / 8);
            if (!(fabs(rope.turns[pair] - expected) <= 1e-14 * expected))
                fail_msg("%d dims, %d tokens: pair %d turns %.17g times a token, expected %.17g", (int)cases[n].dims, (int)cases[n].original, (int)pair,
                         rope.turns[pair], expected);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(angles_are_exact_at_any_position), cmocka_unit_test(ramps_of_yarn_end_where_they_should)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
