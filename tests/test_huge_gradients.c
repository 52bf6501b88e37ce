/* Gradients of rows whose scores are too far from 0 for weights by an fp32 LSE: weights add up to 1 all the same. Held to the
   definition in fp64 of the scores in fp32, since the rules allow what an fp32 LSE costs. */
#include "support/gradients.h"
#include "reference/reference.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { QUERIES = 100, KEYS = 300, DIM = 8 };

/* Added to all keys of a row, but for a few. */
static const float sizes[] = {0, 3000, -1e5f, 1e6f, -1e7f, -1e9f, 5e8f, 1e10f, -1e12f, 0x1p127f, -FLT_MAX};
enum { SIZES = sizeof sizes / sizeof *sizes };

static float score(int64_t i, int64_t j)
{
    const float near = (float)(j * 37 % 11) / 4;
    return sizes[i % SIZES] < 0 && j % 7 == 3 ? -INFINITY : j % 7 == 5 && sizes[i % SIZES] >= 0 ? near : sizes[i % SIZES] + near;
}

static double at(const attend_tensor *t, int64_t row, int64_t column) { return attend_load(t, row * t->stride[1] + column); }

static void expect_close(const char *what, int64_t i, int64_t j, double is, double expected, double size)
{
    if (!(fabs(is - expected) <= 0x1p-14 * size + 1e-7))
        fail_msg("%s, query %d (%g), %d: %.9g, expected %.9g", what, (int)i, (double)sizes[i % SIZES], (int)j, is, expected);
}

static void expect(const test_fixture *f, const test_gradients *g, const float *sink)
{
    static double dv[KEYS][DIM], size[KEYS][DIM];
    const attend_tensor *dlse = &g->grads.dlse, *dbias = &g->features.bias;
    double dsink = 0;
    for (int64_t n = 0; n < KEYS * DIM; n++) dv[n / DIM][n % DIM] = size[n / DIM][n % DIM] = 0;
    for (int64_t i = 0; i < QUERIES; i++) {
        double max = sink ? *sink : -INFINITY, sum, p[KEYS], dp[KEYS], delta = 0;
        for (int64_t j = 0; j < KEYS; j++) max = fmax(max, score(i, j));
        sum = sink ? exp(*sink - max) : 0;
        for (int64_t j = 0; j < KEYS; j++) sum += p[j] = exp(score(i, j) - max);
        for (int64_t j = 0; j < KEYS; j++) {
            p[j] /= sum, dp[j] = 0;
            for (int64_t c = 0; c < DIM; c++) {
                const double dout = at(&g->grads.dout, i, c);
                dp[j] += dout * at(&f->args.v, j, c);
                dv[j][c] += p[j] * dout, size[j][c] += fabs(p[j] * dout);
            }
            delta += p[j] * dp[j];
        }
        const double of_lse = dlse->data ? attend_load(dlse, i * dlse->stride[2]) : 0;
        for (int64_t j = 0; j < KEYS; j++)
            expect_close("dbias", i, j, attend_load(dbias, i * dbias->stride[2] + j * dbias->stride[3]), p[j] * (dp[j] - delta + of_lse),
                         p[j] * (fabs(dp[j]) + fabs(delta) + fabs(of_lse) + 1));
        if (sink) dsink += exp(*sink - max) / sum * (of_lse - delta);
    }
    for (int64_t n = 0; n < KEYS * DIM; n++)
        expect_close("dv", 0, n / DIM, at(&g->grads.dv, n / DIM, n % DIM), dv[n / DIM][n % DIM], size[n / DIM][n % DIM]);
    if (sink) expect_close("dsink", 0, 0, *(float *)g->features.sinks.data, dsink, QUERIES);
}

static void weights_add_up_to_1(void **state)
{
    (void)state;
    static float bias[QUERIES][KEYS];
    static const float sinks[] = {0, 1e10f, -1e12f};
    for (int64_t n = 0; n < QUERIES * KEYS; n++) bias[n / KEYS][n % KEYS] = score(n / KEYS, n % KEYS);
    for (uint64_t seed = 0; seed < 6; seed++) { /* with and without dlse and out_f32 (support/gradients.h), sinks */
        test_case c = {.problem = {.batch = 1, .seqlen_q = QUERIES, .seqlen_k = KEYS, .num_heads = 1, .head_dim = DIM, .head_dim_v = DIM,
                                   .bias_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY, .sinks = seed > 2},
                       .values = ATTEND_VALUES_GAUSS, .seed = seed};
        test_fixture f;
        test_gradients g;
        attend_context *context = test_context();
        test_fixture_make(&f, &c);
        for (int64_t i = 0; i < QUERIES * DIM; i++) attend_store(&f.args.q, i / DIM * f.args.q.stride[1] + i % DIM, 0);
        f.features.bias = attend_tensor_4d(bias, ATTEND_F32, 1, 1, QUERIES, KEYS);
        if (seed > 2)
            f.features.sinks = (attend_tensor){.data = (void *)&sinks[seed - 3], .dtype = ATTEND_F32, .rank = 1, .shape = {1}, .stride = {1}};
        test_gradients_make(&g, &f, ATTEND_F32);
        test_gradients_run(&g, &f, context);
        expect(&f, &g, seed > 2 ? &sinks[seed - 3] : NULL);
        test_gradients_free(&g);
        test_fixture_free(&f);
        attend_context_destroy(context);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(weights_add_up_to_1)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
