/* Tiles of scores with features, in vectors, are what attend_element_score() says of each score, on every instruction set that runs here:
   hidden where it hides, and within a few roundings of its terms elsewhere. */
#include "support/feature_cases.h"
#include "support/fixture.h"
#include "support/plans.h"
#include "cpu/cpu.h"
#include "core/arguments.h"
#include "shared/relative.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { STEP = 48, ROOM = STEP * ATTEND_CPU_BLOCK + 64 };

/* What relative bias and bias add to a score. */
static double added(const attend_head *h, int64_t row, int64_t key)
{
    const attend_terms *t = h->terms;
    const int64_t limit = h->problem->relative_max_distance, distance = key - attend_position(h->problem, &h->sequence, row);
    double sum = 0;
    if (h->problem->bias_axes) sum += fabs((double)attend_float_at(&t->bias, h->bias + row * t->bias.query + key * t->bias.key));
    if (h->problem->relative_buckets > 0)
        sum += fabs((double)((const float *)t->relative_table.data)[h->relative + t->relative_buckets[attend_clamp(distance, -limit, limit) + limit] *
                                                                                      t->relative_table.key]);
    return sum;
}

/* Products and sums may be fused, and tanh is another: with its quotient and product at most 7 units of 2^-24 off, libm's 5. Sums may cancel. */
static double allowed(const attend_head *h, int64_t row, int64_t key, float dot, float score)
{
    const double far = fabs((double)(key - attend_position(h->problem, &h->sequence, row))), plain = fabs((double)dot * h->scale);
    const double cap = h->problem->softcap, capped = cap > 0 ? fmin(plain, cap) : 0;
    return 0x1p-24 * (12 * capped + 4 * ((cap > 0 ? capped : plain) + fabs(h->slope) * far + added(h, row, key) + 2 * fabs((double)score)));
}

static void compare_tile(const attend_cpu_kernel *kernel, const attend_cpu_elements *e, int64_t first, int64_t rows, int64_t key, int64_t keys,
                         bool lanes_are_rows)
{
    static _Alignas(64) float scores[ROOM], dots[ROOM];
    static attend_cpu_element_rows element_rows;
    const int64_t row_stride = lanes_are_rows ? 1 : ATTEND_CPU_BLOCK, key_stride = lanes_are_rows ? STEP : 1;
    for (int i = 0; i < ROOM; i++) scores[i] = dots[i] = 8 * sinf((float)(i * 37 % 1009));
    attend_cpu_prepare_rows(e, first, rows, kernel->lanes, &element_rows);
    attend_cpu_scores tile = {scores, row_stride, key, keys, key_stride};
    const attend_cpu_visibility visibility = kernel->scorer->visibility_of_tile(e, &element_rows, &tile);
    const bool hides = visibility == ATTEND_CPU_HIDDEN || kernel->scorer->score(e, &element_rows, &tile, visibility);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < keys; k++) {
            const attend_head *h = &e->heads[(first + r) % e->group];
            const int64_t query = (first + r) / e->group, at = r * row_stride + k * key_stride;
            if (query >= h->sequence.seqlen_q) continue;
            const float expected = attend_element_score(h, query, key + k, dots[at]);
            const bool off = visibility == ATTEND_CPU_HIDDEN || key + k < tile.first_key || key + k >= tile.first_key + tile.keys;
            if (expected == -INFINITY) {
                assert_true(off || scores[at] == -INFINITY);
                assert_true(hides || off);
                continue;
            }
            assert_false(off);
            const double error = fabs(scores[at] - expected), bound = allowed(h, query, key + k, dots[at], expected);
            if (!(error <= bound)) fail_msg("%s, row %d, key %d: %.9g for %.9g", kernel->name, (int)query, (int)(key + k), scores[at], expected);
        }
}

static void compare_case(const attend_cpu_kernel *kernel, test_fixture *f, attend_cpu_plan *plan)
{
    const attend_problem *p = &f->problem;
    const int64_t group = p->num_heads / p->num_kv_heads, most = kernel->lanes * kernel->vectors;
    attend_cpu_prepare_heads(plan, &f->args);
    for (int64_t i = 0; i < p->batch * p->num_kv_heads; i++) {
        const attend_cpu_elements *e = &plan->elements[i];
        const attend_sequence *s = &e->heads->sequence;
        for (int64_t first = 0; first < group * s->seqlen_q; first += most)
            for (int64_t key = 0; key < s->seqlen_k; key += ATTEND_CPU_BLOCK) {
                const int64_t rows = attend_clamp(group * s->seqlen_q - first, 1, most), keys = attend_clamp(s->seqlen_k - key, 1, ATTEND_CPU_BLOCK);
                compare_tile(kernel, e, first, rows, key, keys, true);
                compare_tile(kernel, e, first, attend_clamp(rows, 1, ATTEND_CPU_FEW_ROWS), key, keys, false);
                if (keys > 9) compare_tile(kernel, e, first, rows, key + 3, keys - 8, true); /* no whole vectors */
            }
    }
}

static void every_score_is_what_score_h_says(void **state)
{
    (void)state;
    int count, tested = 0;
    attend_context *context;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 1}, &context), ATTEND_OK);
    test_case *cases = test_feature_cases(UINT64_MAX, getenv("ATTEND_TEST_SHORT"), &count);
    for (int i = 0; i < count; i++) {
        test_fixture f;
        attend_plan *plan;
        if (!attend_is_elementwise(&cases[i].problem)) continue;
        test_fixture_make(&f, &cases[i]);
        if (test_attention_plan(context, &f.c.problem, &plan)) fail_msg("%s: %s", cases[i].features, attend_error_message());
        const attend_cpu_kernel *kernel;
        for (size_t k = 0; (kernel = attend_cpu_kernel_row(k)); k++)
            if (kernel->runs_here()) compare_case(kernel, &f, plan->state), tested++;
        attend_plan_destroy(plan);
        test_fixture_free(&f);
    }
    print_message("%d cases compared score by score\n", tested);
    assert_true(tested > (getenv("ATTEND_TEST_SHORT") ? 75 : 300));
    free(cases);
    attend_context_destroy(context);
}

static void fill(float *to, int64_t n, int64_t seed)
{
    for (int64_t i = 0; i < n; i++) to[i] = sinf((float)((i + seed) * 37 % 1009));
}

/* NaN and infinity in K and V of a key change no bit of the rows that a mask hides it from, and reach the others: with many rows and with few. */
static void hidden_keys_reach_nothing(void **state)
{
    (void)state;
    enum { KEYS = 300, DIM = 24, MOST = 40, HIDDEN = 137 };
    static float q[MOST * DIM], k[KEYS * DIM], v[KEYS * DIM], before[MOST * DIM], after[MOST * DIM];
    static uint8_t mask[MOST * KEYS];
    static const float bad[] = {NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        const int64_t rows = i % 2 ? 3 : MOST;
        attend_context *context;
        attend_plan *plan;
        fill(q, rows * DIM, 1), fill(k, KEYS * DIM, 2), fill(v, KEYS * DIM, 3);
        for (int64_t at = 0; at < rows * KEYS; at++) mask[at] = at % 7 != 3;
        for (int64_t r = 0; r < rows; r++) mask[r * KEYS + HIDDEN] = r % 2;
        const attend_problem p = {.batch = 1, .seqlen_q = rows, .seqlen_k = KEYS, .num_heads = 1, .head_dim = DIM, .mask_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY};
        attend_attention_args args = {.q = attend_tensor_4d(q, ATTEND_F32, 1, rows, 1, DIM),
                                      .k = attend_tensor_4d(k, ATTEND_F32, 1, KEYS, 1, DIM),
                                      .v = attend_tensor_4d(v, ATTEND_F32, 1, KEYS, 1, DIM),
                                      .out = attend_tensor_4d(before, ATTEND_F32, 1, rows, 1, DIM),
                                      .features = &(attend_feature_args){.mask = attend_tensor_4d(mask, ATTEND_U8, 1, 1, rows, KEYS)}};
        assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 1}, &context), ATTEND_OK);
        assert_int_equal(test_attention_plan(context, &p, &plan), ATTEND_OK);
        assert_int_equal(attend_attention_forward(plan, &args), ATTEND_OK);
        for (int64_t c = 0; c < DIM; c++) v[HIDDEN * DIM + c] = bad[i / 2], k[HIDDEN * DIM + c] = NAN;
        args.out.data = after;
        assert_int_equal(attend_attention_forward(plan, &args), ATTEND_OK);
        for (int64_t r = 0; r < rows; r++) {
            if (r % 2)
                assert_true(isnan(after[r * DIM]));
            else
                assert_memory_equal(before + r * DIM, after + r * DIM, DIM * sizeof(float));
        }
        attend_plan_destroy(plan);
        attend_context_destroy(context);
    }
}

/* The inverse of the least softcaps is no number: scores of 0 stay 0, so that all keys weigh the same. */
static void the_least_softcap_keeps_scores_of_zero(void **state)
{
    (void)state;
    enum { KEYS = 40, DIM = 8 };
    static float q[DIM], k[KEYS * DIM], v[KEYS * DIM], out[DIM];
    attend_context *context;
    attend_plan *plan;
    fill(k, KEYS * DIM, 1);
    for (int i = 0; i < KEYS * DIM; i++) v[i] = (float)(i / DIM % 2);
    const attend_problem p = {.batch = 1, .seqlen_q = 1, .seqlen_k = KEYS, .num_heads = 1, .head_dim = DIM, .softcap = 1e-39f};
    const attend_attention_args args = {.q = attend_tensor_4d(q, ATTEND_F32, 1, 1, 1, DIM),
                                        .k = attend_tensor_4d(k, ATTEND_F32, 1, KEYS, 1, DIM),
                                        .v = attend_tensor_4d(v, ATTEND_F32, 1, KEYS, 1, DIM),
                                        .out = attend_tensor_4d(out, ATTEND_F32, 1, 1, 1, DIM)};
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 1}, &context), ATTEND_OK);
    assert_int_equal(test_attention_plan(context, &p, &plan), ATTEND_OK);
    assert_int_equal(attend_attention_forward(plan, &args), ATTEND_OK);
    for (int c = 0; c < DIM; c++) assert_true(out[c] == 0.5f);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

/* Errors of capped scores, in units of 2^-24 of the score: no larger than what libm's tanh leaves between a quotient and a product,
   1.01 in the mean square, and none that all scores have alike, which softmax would see as another cap. */
static void soft_caps_are_as_good_as_libms(void **state)
{
    (void)state;
    enum { ROUNDS = 200 };
    static const float caps[] = {2, 7.3f, 30, 50};
    static _Alignas(64) float scores[ATTEND_CPU_BLOCK];
    attend_context *context;
    const attend_cpu_kernel *kernel;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 1}, &context), ATTEND_OK);
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++) {
        const test_case c = {.problem = {.batch = 1, .seqlen_q = 1, .seqlen_k = ATTEND_CPU_BLOCK, .num_heads = 1, .head_dim = 1,
                                         .softmax_scale = 1, .softcap = caps[i]}};
        test_fixture f;
        attend_plan *plan;
        test_fixture_make(&f, &c);
        assert_int_equal(test_attention_plan(context, &f.c.problem, &plan), ATTEND_OK);
        attend_cpu_prepare_heads(plan->state, &f.args);
        const attend_cpu_elements *e = ((attend_cpu_plan *)plan->state)->elements;
        for (size_t k = 0; (kernel = attend_cpu_kernel_row(k)); k++) {
            double sum = 0, squares = 0, most = 0;
            attend_cpu_element_rows element_rows;
            if (!kernel->runs_here()) continue;
            attend_cpu_prepare_rows(e, 0, 1, kernel->lanes, &element_rows);
            for (int round = 0; round < ROUNDS; round++) {
                double exact[ATTEND_CPU_BLOCK];
                for (int j = 0; j < ATTEND_CPU_BLOCK; j++) {
                    scores[j] = caps[i] * 1.5f * (float)(round * ATTEND_CPU_BLOCK + j + 1) / (ROUNDS * ATTEND_CPU_BLOCK);
                    exact[j] = caps[i] * tanh((double)scores[j] / caps[i]);
                }
                const attend_cpu_scores tile = {scores, ATTEND_CPU_BLOCK, 0, ATTEND_CPU_BLOCK, 1};
                kernel->scorer->score(e, &element_rows, &tile, ATTEND_CPU_VISIBLE);
                for (int j = 0; j < ATTEND_CPU_BLOCK; j++) {
                    const double off = (scores[j] - exact[j]) / exact[j] * 0x1p24;
                    sum += off, squares += off * off, most = fmax(most, fabs(off));
                }
            }
            const double count = ROUNDS * ATTEND_CPU_BLOCK, mean = sum / count, rms = sqrt(squares / count);
            print_message("%s, cap %g: %.2f in the mean, %.2f in the mean square, %.2f at most\n", kernel->name, (double)caps[i], mean, rms, most);
            if (!(fabs(mean) <= 0.35 && rms <= 1.01 && most <= 4.2)) fail_msg("%s, cap %g: too far off", kernel->name, (double)caps[i]);
        }
        attend_plan_destroy(plan);
        test_fixture_free(&f);
    }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_score_is_what_score_h_says), cmocka_unit_test(hidden_keys_reach_nothing),
                                       cmocka_unit_test(the_least_softcap_keeps_scores_of_zero),
                                       cmocka_unit_test(soft_caps_are_as_good_as_libms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
