/* What kernels are given of rotary embeddings, sinusoids and buckets is what the reference states of them by itself. */
#include "reference/reference.h"
#include "shared/absolute.h"
#include "core/problem.h"
#include "shared/relative.h"
#include "shared/rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static const double two_pi = 6.28318530717958647692;

static void expect_near(const char *what, int64_t i, double ours, double reference)
{
    if (!(fabs(ours - reference) <= 1e-13 * fabs(reference))) fail_msg("%s %d: %.17g, the reference has %.17g", what, (int)i, ours, reference);
}

/* Ramps within the pairs, beyond the first and the last, and of one pair; lengths below and above the trained one. */
static void frequencies_agree(void **state)
{
    (void)state;
    static const int64_t dims[] = {2, 4, 64, 128, 512}, trained[] = {64, 4096, 1 << 20}, lengths[] = {16, 5000, 1 << 21};
    static const double bases[] = {100, 10000, 5e5}, factors[] = {1, 2.5, 32}, ramps[][2] = {{1, 4}, {1, 32}, {0.5, 0.75}, {3, 3.0001}, {30, 1000}};
    for (int n = 0; n < 5 * 3 * 3 * 3 * 3 * 5 * 5 * 2; n++) {
        int rest = n, kind, i[7];
        const int counts[] = {5, 3, 3, 3, 3, 5};
        for (int k = 0; k < 6; k++) i[k] = rest % counts[k], rest /= counts[k];
        kind = rest % 5, i[6] = rest / 5;
        attend_problem p = {.batch = 1, .seqlen_q = lengths[i[2]], .num_heads = 1, .head_dim = 512, .hidden_size = 8, .rotary_dim = dims[i[0]],
                            .rotary = i[6] ? ATTEND_ROTARY_INTERLEAVED : ATTEND_ROTARY_HALVES, .rotary_base = bases[i[3]],
                            .rotary_scaling = (attend_rotary_scaling)kind}, r;
        if (kind != ATTEND_ROTARY_UNSCALED) p.rotary_factor = factors[i[4]];
        if (kind == ATTEND_ROTARY_NTK || kind == ATTEND_ROTARY_LLAMA3 || kind == ATTEND_ROTARY_YARN) p.rotary_original_seqlen = trained[i[1]];
        if (kind == ATTEND_ROTARY_LLAMA3 || kind == ATTEND_ROTARY_YARN) p.rotary_low = ramps[i[5]][0], p.rotary_high = ramps[i[5]][1];
        if (kind == ATTEND_ROTARY_YARN) p.rotary_untruncated = i[6];
        if (attend_problem_resolve(&p, sizeof p, ATTEND_LAYER, &r)) fail_msg("%s", attend_error_message());
        const attend_rope ours = attend_rope_of(&r);
        const attend_reference_rotation reference = attend_reference_rotation_of(&r, false);
        assert_int_equal(ours.dims, reference.dims);
        expect_near("factor", n, ours.factor, (float)reference.factor);
        for (int pair = 0; pair < ours.dims / 2; pair++) {
            int64_t first, second;
            attend_reference_pair(&reference, pair, &first, &second);
            assert_true(attend_rope_first(&ours, pair) == first && attend_rope_second(&ours, pair) == second);
            /* a ramp turns a rounding of its ends, of a difference of logarithms, into as much of its width */
            const double allowed = (kind == ATTEND_ROTARY_YARN && r.rotary_untruncated) || kind == ATTEND_ROTARY_LLAMA3 ? 1e-8 : 1e-13;
            if (!(fabs(ours.turns[pair] * two_pi - reference.angles[pair]) <= allowed * reference.angles[pair]))
                fail_msg("scaling %d, pair %d of %d: %.17g, the reference has %.17g", kind, pair, ours.dims / 2, ours.turns[pair] * two_pi, reference.angles[pair]);
        }
    }
}

static void waves_agree(void **state)
{
    (void)state;
    for (int64_t hidden = 1; hidden <= 40; hidden++) {
        const attend_problem p = {.absolute = ATTEND_ABSOLUTE_SINUSOIDAL, .hidden_size = hidden, .absolute_base = 10000};
        double turns[20];
        attend_sinusoid_frequencies(&p, turns);
        for (int64_t w = 0; w < attend_sinusoid_count(&p); w++) expect_near("wave", w, turns[w] * two_pi, attend_reference_sinusoid(&p, w));
    }
}

static void buckets_agree(void **state)
{
    (void)state;
    for (int buckets = 4; buckets <= 64; buckets += 2)
        for (int most = buckets; most <= 1024; most = most * 2 + 1)
            for (int both = buckets % 4 == 0 ? 0 : 1; both < 2; both++) {
                const attend_problem p = {.relative_buckets = buckets, .relative_max_distance = most, .relative_bidirectional = both};
                for (int64_t d = -3000; d <= 3000; d++)
                    if (attend_relative_bucket(&p, d) != attend_reference_bucket(&p, d))
                        fail_msg("%d buckets to %d: distance %d is in %d, the reference has %d", buckets, most, (int)d, attend_relative_bucket(&p, d),
                                 (int)attend_reference_bucket(&p, d));
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frequencies_agree), cmocka_unit_test(waves_agree), cmocka_unit_test(buckets_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
