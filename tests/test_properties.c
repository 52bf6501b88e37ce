/* What attention must be whatever the reference says: it does not care for the order of the keys nor for a constant added to all scores, is
   linear in V, never leaves the values' range, and can be merged from parts of the keys; where all scores are, however far from zero, does not matter. On every kernel: the CPU in each dtype, with
   ATTEND_TEST_DEVICE=cuda each row of the kernel table. ATTEND_TEST_ROWS, a part of a name, leaves the other rows out.

   Two results that should be the same are held to the sum of their bounds (docs/numerics.md, rule 1): each may be as far off as its own. */
#include "support/fixture.h"
#include "support/run.h"
#include "core/problem.h"
#include "reference/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 2, QUERIES = 40, KEYS = 150, HEADS = 2, KV_HEADS = 1 };

static attend_context *context;
static char subject[64];
static attend_dtype dtype;
static int64_t dim;

static test_run make(attend_causal causal) { return test_run_make(dtype, dim, BATCH, QUERIES, KEYS, HEADS, KV_HEADS, causal); }
static void go(test_run *r) { test_run_go(r, context, subject); }

/* What a run's results may be off by. */
typedef struct bounds {
    int64_t heads, queries, dim;
    double *out, *lse;
} bounds;

static double *bound_of(const bounds *b, int64_t batch, int64_t i, int64_t h)
{
    return b->out + ((batch * b->queries + i) * b->heads + h) * b->dim;
}
static double *lse_bound_of(const bounds *b, int64_t batch, int64_t i, int64_t h)
{
    return b->lse + (batch * b->queries + i) * b->heads + h;
}

static void take(void *job, int64_t b, int64_t h, int64_t i, const attend_reference_row *row)
{
    const bounds *to = job;
    memcpy(bound_of(to, b, i, h), row->bound, (size_t)to->dim * sizeof(double));
    *lse_bound_of(to, b, i, h) = row->lse_bound;
}

static bounds bounds_of(const test_run *r)
{
    const int64_t rows = r->p.batch * r->p.seqlen_q * r->p.num_heads;
    bounds b = {r->p.num_heads, r->p.seqlen_q, r->p.head_dim_v, NULL, NULL};
    attend_problem p;
    attend_progress_tracker nobody = {0};
    attend_key_part part;
    const attend_attention_args given = {.q = r->q, .k = r->k, .v = r->v, .out = r->out, .lse = r->lse};
    attend_attention_args args;
    attend_feature_args features;
    b.out = malloc((size_t)(rows * b.dim) * sizeof(double)), b.lse = malloc((size_t)rows * sizeof(double));
    if (attend_problem_resolve(&r->p, sizeof r->p, ATTEND_ATTENTION, &p) || attend_attention_args_read(&given, sizeof given, 0, &args, &features) ||
        attend_attention_args_resolve(&p, 0, &args, &features, &part) ||
        !attend_reference_attention(&p, &args, &part, 1, &nobody, take, &b))
        fail_msg("no reference: %s", attend_error_message());
    return b;
}
static void bounds_free(bounds *b) { free(b->out), free(b->lse); }

static float lse_at(const test_run *r, int64_t b, int64_t i, int64_t h)
{
    return ((const float *)r->lse.data)[(b * r->p.num_heads + h) * r->p.seqlen_q + i];
}

#define EACH_ROW(r, b, i, h)                                                              \
    for (int64_t b = 0; b < (r).p.batch; b++)                                             \
        for (int64_t i = 0; i < (r).p.seqlen_q; i++)                                      \
            for (int64_t h = 0; h < (r).p.num_heads; h++)

/* Both outputs agree within both bounds; so do the log-sum-exps, of which the second is greater by lse_shift. */
static void expect_alike(const test_run *x, const test_run *y, double lse_shift, const char *what)
{
    bounds bx = bounds_of(x), by = bounds_of(y);
    EACH_ROW(*x, b, i, h) {
        const double lse_off = fabs(lse_at(x, b, i, h) + lse_shift - lse_at(y, b, i, h));
        if (!(lse_off <= *lse_bound_of(&bx, b, i, h) + *lse_bound_of(&by, b, i, h)))
            fail_msg("%s, %s: LSE of batch %d, query %d, head %d is off by %g", subject, what, (int)b, (int)i, (int)h, lse_off);
        for (int64_t c = 0; c < dim; c++) {
            const double off = fabs((double)test_get(&x->out, b, i, h, c) - (double)test_get(&y->out, b, i, h, c));
            if (!(off <= bound_of(&bx, b, i, h)[c] + bound_of(&by, b, i, h)[c]))
                fail_msg("%s, %s: batch %d, query %d, head %d, column %d is off by %g", subject, what, (int)b, (int)i, (int)h, (int)c, off);
        }
    }
    bounds_free(&bx), bounds_free(&by);
}

static void the_order_of_keys_does_not_matter(void)
{
    test_run plain = make(ATTEND_CAUSAL_NONE), permuted = make(ATTEND_CAUSAL_NONE);
    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t j = 0; j < KEYS; j++) {
            const int64_t to = j * 77 % KEYS; /* 77 and 150 share no factor */
            memcpy(test_row(&permuted.k, b, to), test_row(&plain.k, b, j), test_row_bytes(&plain.k));
            memcpy(test_row(&permuted.v, b, to), test_row(&plain.v, b, j), test_row_bytes(&plain.v));
        }
    go(&plain), go(&permuted);
    expect_alike(&plain, &permuted, 0, "keys permuted");
    test_run_free(&plain), test_run_free(&permuted);
}

/* One dim of all keys is 8 instead of 0, of all queries 8: all scores grow by 8·8/8. */
static void a_constant_on_all_scores_goes_into_the_lse_alone(void)
{
    test_run plain = make(ATTEND_CAUSAL_TOP_LEFT), shifted = make(ATTEND_CAUSAL_TOP_LEFT);
    for (int64_t b = 0; b < BATCH; b++) {
        for (int64_t i = 0; i < QUERIES; i++)
            for (int64_t h = 0; h < HEADS; h++) test_set(&plain.q, b, i, h, dim - 1, 8), test_set(&shifted.q, b, i, h, dim - 1, 8);
        for (int64_t j = 0; j < KEYS; j++) test_set(&plain.k, b, j, 0, dim - 1, 0), test_set(&shifted.k, b, j, 0, dim - 1, 8);
    }
    go(&plain), go(&shifted);
    expect_alike(&plain, &shifted, 8, "scores shifted");
    test_run_free(&plain), test_run_free(&shifted);
}

/* Doubling V doubles every bit of the output; and the output of a sum is the sum of the outputs. */
static void it_is_linear_in_v(void)
{
    test_run first = make(ATTEND_CAUSAL_BOTTOM_RIGHT), second = make(ATTEND_CAUSAL_BOTTOM_RIGHT),
             doubled = make(ATTEND_CAUSAL_BOTTOM_RIGHT), sum = make(ATTEND_CAUSAL_BOTTOM_RIGHT);
    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t j = 0; j < KEYS; j++)
            for (int64_t c = 0; c < dim; c++) { /* in eighths up to 2, so that sums are exact in every dtype */
                const float x = (float)((j * 7 + c * 3) % 17 - 8) / 8, y = (float)((j * 5 + c * 11 + b) % 17 - 8) / 8;
                test_set(&first.v, b, j, 0, c, x), test_set(&second.v, b, j, 0, c, y);
                test_set(&doubled.v, b, j, 0, c, 2 * x), test_set(&sum.v, b, j, 0, c, x + y);
            }
    go(&first), go(&second), go(&doubled), go(&sum);
    bounds bx = bounds_of(&first), by = bounds_of(&second), bz = bounds_of(&sum);
    EACH_ROW(first, b, i, h)
    for (int64_t c = 0; c < dim; c++) {
        const double x = test_get(&first.out, b, i, h, c), y = test_get(&second.out, b, i, h, c), z = test_get(&sum.out, b, i, h, c);
        if (fabs(x) > 0x1p-12 && 2 * x != (double)test_get(&doubled.out, b, i, h, c)) /* below, fp16's steps stop to shrink */
            fail_msg("%s: twice V is not twice %g", subject, x);
        if (!(fabs(x + y - z) <= bound_of(&bx, b, i, h)[c] + bound_of(&by, b, i, h)[c] + bound_of(&bz, b, i, h)[c]))
            fail_msg("%s: query %d, head %d, column %d: %g and %g make %g", subject, (int)i, (int)h, (int)c, x, y, z);
    }
    bounds_free(&bx), bounds_free(&by), bounds_free(&bz);
    test_run_free(&first), test_run_free(&second), test_run_free(&doubled), test_run_free(&sum);
}

/* An output lies between the least and the greatest value of its column, up to its bound; where these are equal, it is that value. */
static void outputs_stay_within_the_values(void)
{
    test_run r = make(ATTEND_CAUSAL_NONE);
    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t j = 0; j < KEYS; j++)
            for (int64_t c = 0; c < dim; c += 3) test_set(&r.v, b, j, 0, c, 1.25f + (float)c); /* every third column is constant */
    go(&r);
    bounds allowed = bounds_of(&r);
    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t c = 0; c < dim; c++) {
            double least = INFINITY, most = -INFINITY;
            for (int64_t j = 0; j < KEYS; j++) least = fmin(least, test_get(&r.v, b, j, 0, c)), most = fmax(most, test_get(&r.v, b, j, 0, c));
            for (int64_t i = 0; i < QUERIES; i++)
                for (int64_t h = 0; h < HEADS; h++) {
                    const double z = test_get(&r.out, b, i, h, c), bound = bound_of(&allowed, b, i, h)[c];
                    if (!(z >= least - bound && z <= most + bound))
                        fail_msg("%s: query %d, column %d: %g is not between %g and %g", subject, (int)i, (int)c, z, least, most);
                }
        }
    bounds_free(&allowed);
    test_run_free(&r);
}

/* exp(lse) weighs the outputs over two parts of the keys. */
static void parts_of_the_keys_merge_to_the_whole(void)
{
    enum { SPLIT = 101 };
    test_run whole = make(ATTEND_CAUSAL_NONE),
             parts[2] = {test_run_make(dtype, dim, BATCH, QUERIES, SPLIT, HEADS, KV_HEADS, ATTEND_CAUSAL_NONE),
                         test_run_make(dtype, dim, BATCH, QUERIES, KEYS - SPLIT, HEADS, KV_HEADS, ATTEND_CAUSAL_NONE)};
    for (int j = 0; j < 2; j++)
        for (int64_t b = 0; b < BATCH; b++) {
            const int64_t from = j * SPLIT;
            const size_t count = j ? KEYS - SPLIT : SPLIT;
            memcpy(test_row(&parts[j].q, b, 0), test_row(&whole.q, b, 0), QUERIES * test_row_bytes(&whole.q));
            memcpy(test_row(&parts[j].k, b, 0), test_row(&whole.k, b, from), count * test_row_bytes(&whole.k));
            memcpy(test_row(&parts[j].v, b, 0), test_row(&whole.v, b, from), count * test_row_bytes(&whole.v));
        }
    go(&whole), go(&parts[0]), go(&parts[1]);
    bounds all = bounds_of(&whole), of[2] = {bounds_of(&parts[0]), bounds_of(&parts[1])};
    EACH_ROW(whole, b, i, h) {
        const double lse = lse_at(&whole, b, i, h), w[2] = {exp(lse_at(&parts[0], b, i, h) - lse), exp(lse_at(&parts[1], b, i, h) - lse)};
        double error[2]; /* of a weight, relative */
        for (int j = 0; j < 2; j++) error[j] = *lse_bound_of(&of[j], b, i, h) + *lse_bound_of(&all, b, i, h);
        if (!(fabs(w[0] + w[1] - 1) <= 1.01 * (w[0] * error[0] + w[1] * error[1])))
            fail_msg("%s: query %d: the parts have %.9g of the weight", subject, (int)i, w[0] + w[1]);
        for (int64_t c = 0; c < dim; c++) {
            double merged = 0, allowed = bound_of(&all, b, i, h)[c];
            for (int j = 0; j < 2; j++) {
                const double z = test_get(&parts[j].out, b, i, h, c);
                merged += w[j] * z, allowed += 1.01 * w[j] * (bound_of(&of[j], b, i, h)[c] + error[j] * fabs(z));
            }
            if (!(fabs(merged - (double)test_get(&whole.out, b, i, h, c)) <= allowed))
                fail_msg("%s: query %d, column %d: %g of the parts, %g of the whole", subject, (int)i, (int)c, merged,
                         (double)test_get(&whole.out, b, i, h, c));
        }
    }
    bounds_free(&all), bounds_free(&of[0]), bounds_free(&of[1]);
    test_run_free(&whole), test_run_free(&parts[0]), test_run_free(&parts[1]);
}

/* A row's bits are its own: not those of other queries, batch entries, heads, nor of keys that it does not see; and the same twice. */
static void a_rows_bits_are_its_own(void)
{
    enum { LEFT = 23 };
    test_run all = make(ATTEND_CAUSAL_TOP_LEFT), again = make(ATTEND_CAUSAL_TOP_LEFT),
             alone = test_run_make(dtype, dim, 1, LEFT, LEFT + 3, 1, 1, ATTEND_CAUSAL_TOP_LEFT);
    for (int64_t i = 0; i < LEFT; i++)
        for (int64_t c = 0; c < dim; c++) test_set(&alone.q, 0, i, 0, c, test_get(&all.q, 1, i, 1, c));
    memcpy(test_row(&alone.k, 0, 0), test_row(&all.k, 1, 0), (LEFT + 3) * test_row_bytes(&all.k));
    memcpy(test_row(&alone.v, 0, 0), test_row(&all.v, 1, 0), (LEFT + 3) * test_row_bytes(&all.v));
    go(&all), go(&again), go(&alone);
    if (memcmp(all.out.data, again.out.data, (size_t)(BATCH * QUERIES) * test_row_bytes(&all.out))) fail_msg("%s: two runs differ", subject);
    for (int64_t i = 0; i < LEFT; i++) {
        if (lse_at(&all, 1, i, 1) != lse_at(&alone, 0, i, 0)) fail_msg("%s: query %d alone has another LSE", subject, (int)i);
        for (int64_t c = 0; c < dim; c++)
            if (test_get(&all.out, 1, i, 1, c) != test_get(&alone.out, 0, i, 0, c)) fail_msg("%s: query %d alone differs", subject, (int)i);
    }
    test_run_free(&all), test_run_free(&again), test_run_free(&alone);
}

/* Queries whose scores are `near` of even keys and `far` of odd ones. */
static test_run two_scores(int64_t queries, int64_t keys, float near, float far)
{
    test_run r = test_run_make(dtype, dim, 1, queries, keys, HEADS, KV_HEADS, ATTEND_CAUSAL_TOP_LEFT);
    memset(r.q.data, 0, (size_t)queries * test_row_bytes(&r.q));
    memset(r.k.data, 0, (size_t)keys * test_row_bytes(&r.k));
    for (int64_t i = 0; i < queries; i++)
        for (int64_t h = 0; h < HEADS; h++) test_set(&r.q, 0, i, h, dim / 2, 0x1p15f);
    for (int64_t j = 0; j < keys; j++)
        test_set(&r.k, 0, j, 0, dim / 2, (j % 2 ? far : near) / (0x1p15f * r.p.softmax_scale));
    return r;
}

/* Large scores, whose neighbours in fp32 are up to 8 away: equal ones still weigh the same, and those far below nothing. */
static void scores_may_be_far_from_zero(void)
{
    static const int64_t shapes[][2] = {{QUERIES, KEYS}, {3, 1100}}; /* many rows; few, whose keys may be split */
    static const float scores[][2] = {{-0x1p26f, -0x1p27f}, {0x1p24f, 0}};
    for (int n = 0; n < 2; n++) {
        test_run plain = two_scores(shapes[n][0], shapes[n][1], 0, -0x1p12f);
        go(&plain);
        bounds allowed = bounds_of(&plain);
        for (int s = 0; s < 2; s++) {
            const float near = scores[s][0];
            test_run r = two_scores(shapes[n][0], shapes[n][1], near, scores[s][1]);
            go(&r);
            EACH_ROW(r, b, i, h)
            {
                const double lse = (double)lse_at(&r, b, i, h) - (double)near;
                if (!(fabs(lse - log((double)(i / 2 + 1))) <= 32))
                    fail_msg("%s: the LSE of query %d, head %d is %g beyond %g", subject, (int)i, (int)h, lse,
                             (double)near);
                for (int64_t c = 0; c < dim; c++) {
                    const double z = test_get(&r.out, b, i, h, c), wanted = test_get(&plain.out, b, i, h, c);
                    if (!(fabs(z - wanted) <= 2 * bound_of(&allowed, b, i, h)[c]))
                        fail_msg(
                            "%s: query %d, head %d, column %d is %g where scores are %g, %g where they are 0",
                            subject, (int)i, (int)h, (int)c, z, (double)near, wanted);
                }
            }
            test_run_free(&r);
        }
        bounds_free(&allowed), test_run_free(&plain);
    }
}

static void on_the_cpu(void (*check)(void))
{
    context = test_context();
    for (dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++) {
        dim = 40 + 24 * (int64_t)dtype;
        snprintf(subject, sizeof subject, "CPU, %s", attend_dtype_name(dtype));
        check();
    }
    attend_context_destroy(context);
}

static void on_every_row(int promise, void (*check)(void))
{
    attend_kernel_info row;
    for (size_t i = 0; attend_kernel(i, &row); i++) {
        if (!test_wants_promise(&row, promise)) continue;
        setenv("ATTEND_KERNEL", row.name, 1);
        context = test_context();
        dtype = row.dtype, dim = row.head_dim_max;
        snprintf(subject, sizeof subject, "%s", row.name);
        check();
        attend_context_destroy(context);
        unsetenv("ATTEND_KERNEL");
    }
}

static void everywhere(int promise, void (*check)(void))
{
    const char *device = getenv("ATTEND_TEST_DEVICE");
    if (device && !strcmp(device, "cuda"))
        on_every_row(promise, check);
    else
        on_the_cpu(check);
}

static void order(void **state) { (void)state, everywhere(0, the_order_of_keys_does_not_matter); }
static void shift(void **state) { (void)state, everywhere(1, a_constant_on_all_scores_goes_into_the_lse_alone); }
static void linear(void **state) { (void)state, everywhere(2, it_is_linear_in_v); }
static void range(void **state) { (void)state, everywhere(3, outputs_stay_within_the_values); }
static void merging(void **state) { (void)state, everywhere(4, parts_of_the_keys_merge_to_the_whole); }
static void far_off(void **state) { (void)state, everywhere(5, scores_may_be_far_from_zero); }
static void bits(void **state) { (void)state, everywhere(6, a_rows_bits_are_its_own); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(order),   cmocka_unit_test(shift),
                                       cmocka_unit_test(linear),  cmocka_unit_test(range),
                                       cmocka_unit_test(merging), cmocka_unit_test(far_off),
                                       cmocka_unit_test(bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
