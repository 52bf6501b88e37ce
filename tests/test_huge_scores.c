/* Scores up to the largest float: where all keys of a row have huge scores, those of the largest share the weight, and the LSE is
   that score. Held to softmax in fp64 of the scores in fp32, since rule 1 allows anything there. */
#include "support/feature_cases.h"
#include "support/parts.h"
#include "support/plans.h"
#include "reference/reference.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static float usual(int64_t key) { return (float)(key * 37 % 101) / 16 - 3; }

/* The biases of a row, which are its scores. Keys are two spans and some. */
static float constant(float b, int64_t key) { return (void)key, b; }
static float among_usual(float b, int64_t key) { return key % 3 ? usual(key) : b; }
static float before_usual(float b, int64_t key) { return key < 1500 ? b : usual(key); }
static float behind_usual(float b, int64_t key) { return key < 70 ? usual(key) : b; }
static float only_usual(float b, int64_t key) { return (void)b, usual(key); }
static float at_the_last(float b, int64_t key) { return key < 2100 ? usual(key) : b; }
static float shrinking(float b, int64_t key) { return b * (key < 2060 ? 1 : 0.5f); }
static float growing(float b, int64_t key) { return b * ((float)(1 + key / 65) / 64); }
/* Below 2^29 weights of neighbours round as products do; of the last two binades, they are one to a running max. */
static float next_to(float b) { return fabsf(b) < 0x1p126f && fabsf(b) >= 0x1p28f ? nextafterf(b, 0) : 0.75f * b; }
static float neighbours(float b, int64_t key) { return key % 5 == 2 ? next_to(b) : b; }
static float neighbour_spans(float b, int64_t key) { return key < 1024 ? next_to(b) : b; }
static float hidden(float b, int64_t key) { return key % 2 || key < 1100 ? -INFINITY : b; }
static float never_seen(float b, int64_t key) { return (void)b, (void)key, -INFINITY; }
static float both_ends(float b, int64_t key) { return key % 2 ? b : -b; }
static const struct kind {
    const char *name;
    float (*bias)(float b, int64_t key);
} kinds[] = {
#define KIND(name) {#name, name}
    KIND(constant), KIND(among_usual), KIND(before_usual), KIND(behind_usual), KIND(only_usual), KIND(at_the_last), KIND(shrinking),
    KIND(growing), KIND(neighbours), KIND(neighbour_spans), KIND(hidden), KIND(never_seen), KIND(both_ends),
};
static const float sizes[] = {-FLT_MAX, -0x1p127f, -0x1p126f, -0x1.3p125f, -1e12f, -1.65e9f, -1e9f, -5e8f, -3e8f, -1e8f, -1e4f,
                              1e4f, 3e8f, 5.5e8f, 1e10f, 1e30f, FLT_MAX / 2, FLT_MAX};
enum { KINDS = sizeof kinds / sizeof *kinds, SIZES = sizeof sizes / sizeof *sizes, ROWS = KINDS * SIZES };

static const struct schedule {
    int64_t seqlen_q, few; /* few: whole rows of other variants than the first, and in short runs */
    int threads;
} schedules[] = {{ROWS, 60, 1}, {78, 39, 24}, {3, 3, 2}}; /* whole rows, split keys, decode */
enum { KEYS = 2 * 1024 + 130, HEADS = 2, DIM = 16 };

/* What is different between cases; sinks of the two heads. Scores are a bias or, without one, the scale times q·k. */
static const struct variant {
    const char *name;
    attend_problem problem;
    float sinks[HEADS];
} variants[] = {
    {"bias", {.bias_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY}, {0}},
    {"softcap, sinks", {.bias_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY, .softcap = 20, .sinks = true}, {-1e12f, 0.5f}},
    {"causal, sinks", {.bias_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .sinks = true}, {1e10f, -FLT_MAX}},
    {"scale of 2^127", {.softmax_scale = 0x1p127f}, {0}},
    {"scale of -1e12, causal, sinks", {.softmax_scale = -1e12f, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .sinks = true}, {0.5f, -3e12f}},
    {"scale of 1.65e9, softcap", {.softmax_scale = 1.65e9f, .softcap = 0x1p60f}, {0}},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

typedef struct huge {
    test_fixture f;
    attend_context *context;
    attend_plan *plan;
    const struct variant *variant;
    float *scores; /* [seqlen_q][KEYS] */
    bool two_devices;
    char name[96];
} huge;

static bool is_short(void) { return getenv("ATTEND_TEST_SHORT") != NULL; }

static const struct kind *kind_of(const huge *h, int64_t query) { return &kinds[(query * 7 + h->f.c.problem.seqlen_q) % ROWS % KINDS]; }
static float size_of(const huge *h, int64_t query) { return sizes[(query * 7 + h->f.c.problem.seqlen_q) % ROWS / KINDS]; }

/* Column c of q and k; the others are 0. */
static float q_of(int64_t i, int64_t c) { return c == 0 ? (float)(i % 5 - 2) / 2 : 0; }
static float k_of(int64_t j, int64_t c) { return c == 0 ? (float)(4 + j * 7 % 5 - 9 * (j % 1500 == 1400)) / 8 : 0; }

static void set_scores(huge *h)
{
    const attend_tensor *q = &h->f.args.q, *k = &h->f.args.k;
    const attend_problem *p = &h->f.c.problem;
    for (int64_t n = 0; n < HEADS * DIM * p->seqlen_q; n++) {
        const int64_t i = n / DIM / HEADS, head = n / DIM % HEADS, c = n % DIM;
        attend_store(q, i * q->stride[1] + head * q->stride[2] + c, p->bias_axes ? 0 : q_of(i, c));
    }
    for (int64_t n = 0; n < KEYS * DIM; n++) attend_store(k, n / DIM * k->stride[1] + n % DIM, k_of(n / DIM, n % DIM));
    for (int64_t i = 0; i < p->seqlen_q; i++)
        for (int64_t j = 0; j < KEYS; j++)
            h->scores[i * KEYS + j] = p->bias_axes ? kind_of(h, i)->bias(size_of(h, i), j) : p->softmax_scale * (q_of(i, 0) * k_of(j, 0));
}

static void make(huge *h, const struct variant *variant, const struct schedule *schedule, attend_dtype dtype)
{
    test_case c = {.problem = variant->problem, .values = ATTEND_VALUES_GAUSS, .seed = 5};
    *h = (huge){.variant = variant};
    const bool few = is_short() || (schedule == schedules && variant != variants);
    c.problem.batch = 1, c.problem.seqlen_q = few ? schedule->few : schedule->seqlen_q;
    c.problem.seqlen_k = KEYS, c.problem.num_heads = HEADS;
    c.problem.num_kv_heads = 1, c.problem.head_dim = c.problem.head_dim_v = DIM, c.problem.dtype = dtype;
    snprintf(h->name, sizeof h->name, "%s, %d queries, dtype %d", variant->name, (int)c.problem.seqlen_q, (int)dtype);
    test_fixture_make(&h->f, &c);
    h->scores = malloc((size_t)(c.problem.seqlen_q * KEYS) * sizeof *h->scores);
    set_scores(h);
    if (c.problem.bias_axes) h->f.features.bias = attend_tensor_4d(h->scores, ATTEND_F32, 1, 1, c.problem.seqlen_q, KEYS);
    if (variant->problem.sinks) h->f.features.sinks = (attend_tensor){.data = (void *)variant->sinks, .dtype = ATTEND_F32, .rank = 1, .shape = {HEADS}, .stride = {1}};
    h->context = test_context();
    if (attend_context_device(h->context) == ATTEND_CPU) {
        attend_context_destroy(h->context);
        assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = schedule->threads}, &h->context), 0);
    }
    if (attend_attention_plan_with(h->context, &h->f.c.problem, &test_on_host, &h->plan)) fail_msg("%s", attend_error_message());
}

static void destroy(huge *h)
{
    attend_plan_destroy(h->plan);
    assert_int_equal(attend_context_destroy(h->context), ATTEND_OK);
    free(h->scores);
    test_fixture_free(&h->f);
}

static double lse_of(const huge *h, int64_t head, int64_t i)
{
    return attend_load(&h->f.args.lse, head * h->f.args.lse.stride[1] + i * h->f.args.lse.stride[2]);
}

static double out_of(const huge *h, int64_t head, int64_t i, int64_t c)
{
    return attend_load(&h->f.args.out, i * h->f.args.out.stride[1] + head * h->f.args.out.stride[2] + c);
}

enum { TEXT = 80 };
static const char *row_text(const huge *h, int64_t head, int64_t i, char text[TEXT])
{
    snprintf(text, TEXT, "query %d, head %d", (int)i, (int)head);
    if (h->f.c.problem.bias_axes) snprintf(text, TEXT, "query %d (%s of %g), head %d", (int)i, kind_of(h, i)->name, (double)size_of(h, i), (int)head);
    return text;
}

static void expect_row(const huge *h, int64_t head, int64_t i, const char *how)
{
    const attend_tensor *v = &h->f.args.v;
    const int64_t end = h->variant->problem.causal ? KEYS - h->f.c.problem.seqlen_q + i + 1 : KEYS;
    const float *s = h->scores + i * KEYS, sink = h->variant->problem.sinks ? h->variant->sinks[head] : -INFINITY;
    double max = sink, sum, out[DIM] = {0}, values[DIM] = {0};
    char text[TEXT];
    for (int64_t j = 0; j < end; j++) max = fmax(max, s[j]);
    sum = max == -INFINITY ? 0 : exp(sink - max);
    for (int64_t j = 0; j < end && max > -INFINITY; j++) {
        const double weight = exp(s[j] - max);
        sum += weight;
        for (int64_t c = 0; c < DIM; c++) {
            const double value = weight * attend_load(v, j * v->stride[1] + c);
            out[c] += value, values[c] += fabs(value);
        }
    }
    /* exponents below 2^21 are rounded before the max is subtracted; devices differ in the last bit of log2 e */
    const double lse = sum == 0 ? -INFINITY : max + log(sum), below = h->two_devices ? 0x1p29 : 0x1p21,
                 rounded = fabs(max) < below ? expm1(0x1p-22 * fabs(max)) : 0,
                 unit = rounded + (h->f.c.problem.dtype == ATTEND_F32 ? 0x1p-20 : h->f.c.problem.dtype == ATTEND_F16 ? 0x1p-10 : 0x1p-7);
    if (lse != lse_of(h, head, i) && !(fabs(lse - lse_of(h, head, i)) <= 0x1p-22 * fabs(lse) + 1e-4))
        fail_msg("%s, %s: %s: LSE %.9g, expected %.9g", h->name, how, row_text(h, head, i, text), lse_of(h, head, i), lse);
    for (int64_t c = 0; c < DIM; c++) {
        const double is = out_of(h, head, i, c), expected = sum == 0 ? 0 : out[c] / sum;
        if (!(fabs(is - expected) <= (sum == 0 ? 0 : unit * values[c] / sum + 0x1p-24)))
            fail_msg("%s, %s: %s: %.9g, expected %.9g", h->name, how, row_text(h, head, i, text), is, expected);
    }
}

static void expect(const huge *h, const char *how)
{
    for (int64_t head = 0; head < HEADS; head++)
        for (int64_t i = 0; i < h->f.c.problem.seqlen_q; i++) expect_row(h, head, i, how);
}

static void forget(huge *h) { memset(h->f.out.bytes, 0xff, h->f.out.size), memset(h->f.lse.bytes, 0xff, h->f.lse.size); }

/* Span by span through a state, and as states of single spans merged; the last span on `last`. */
static void in_parts(huge *h, attend_plan *last, attend_context *of_last)
{
    test_state states[3];
    attend_state merged[3];
    for (int i = 0; i < 3; i++) states[i] = test_state_make(&h->f.problem, i == 1), merged[i] = states[i].state;
    forget(h);
    test_part_run(h->plan, h->context, &h->f, 0, 1024, NULL, merged);
    test_part_run(h->plan, h->context, &h->f, 1024, 2048, merged, merged);
    test_part_run(last, of_last, &h->f, 2048, KEYS, merged, NULL);
    expect(h, "through a state");
    forget(h);
    for (int i = 0; i < 3; i++)
        test_part_run(i < 2 ? h->plan : last, i < 2 ? h->context : of_last, &h->f, i * 1024, i < 2 ? (i + 1) * 1024 : KEYS, NULL, &merged[i]);
    const attend_merge_args args = {.states = merged, .count = 3, .out = h->f.args.out, .lse = h->f.args.lse, .sinks = h->f.features.sinks};
    if (attend_merge(h->context, &h->f.c.problem, &args, NULL) || attend_synchronize(h->context)) fail_msg("%s", attend_error_message());
    expect(h, "merged");
    for (int i = 0; i < 3; i++) test_state_free(&states[i]);
}

static void in_parts_of_two_devices(huge *h)
{
    attend_context *exact;
    attend_plan *plan, *own = h->plan;
    attend_context *of_own = h->context;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_REFERENCE}, &exact), 0);
    assert_int_equal(attend_attention_plan(exact, &h->f.c.problem, &plan), 0);
    h->two_devices = true;
    in_parts(h, plan, exact);
    h->plan = plan, h->context = exact;
    in_parts(h, own, of_own);
    h->plan = own, h->context = of_own;
    attend_plan_destroy(plan);
    attend_context_destroy(exact);
}

static void the_largest_scores_share_the_weight(void **state)
{
    (void)state;
    for (int n = 0; n < 3 * VARIANTS; n++) {
        huge h;
        make(&h, &variants[n / 3], &schedules[n % 3], (attend_dtype)((n + n / 3) % 3));
        if (attend_attention_forward(h.plan, &h.f.args) || attend_synchronize(h.context)) fail_msg("%s", attend_error_message());
        expect(&h, "in one run");
        if (!is_short() || n % 3 == 2 || n == 4) in_parts(&h, h.plan, h.context);
        /* products with the scale are rounded differently */
        if (n % 3 == 1 && h.f.c.problem.bias_axes && (!is_short() || n == 1)) in_parts_of_two_devices(&h);
        destroy(&h);
    }
}

/* Whole tiles of keys that a bias of about -10^9 hides, then usual ones in the same span: its product with log2 e is rounded by 54, so that
   weights relative to a maximum of such scores are 2^54. */
static void usual_scores_behind_far_ones_have_all_the_weight(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int dtype = 0; dtype < 3; dtype++) {
        const test_case c = {.problem = {.batch = 1, .seqlen_q = 20, .seqlen_k = 300, .num_heads = 1, .head_dim = 16, .dtype = (attend_dtype)dtype,
                                         .bias_axes = ATTEND_PER_KEY}, .seed = 3}; /* a bias in fp32 */
        static float bias[300], far[20 * 16], near[20 * 16];
        test_fixture f;
        test_fixture_make(&f, &c);
        for (int run = 0; run < 2; run++) { /* hidden by the bias, then by -infinity */
            for (int j = 0; j < 300; j++) bias[j] = j >= 200 ? 0 : run ? -INFINITY : -1000000064.0f;
            f.features.bias = attend_tensor_4d(bias, ATTEND_F32, 1, 1, 1, 300);
            test_fixture_run(&f, context);
            for (int64_t n = 0; n < 20 * 16; n++)
                (run ? near : far)[n] =
                    (float)attend_load(&f.args.out, n / 16 * f.args.out.stride[1] + n % 16);
        }
        for (int n = 0; n < 20 * 16; n++)
            if (!(fabsf(far[n] - near[n]) <= 1e-2f)) fail_msg("dtype %d: element %d is %.9g, expected %.9g", dtype, n, far[n], near[n]);
        test_fixture_free(&f);
    }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_largest_scores_share_the_weight),
                                       cmocka_unit_test(usual_scores_behind_far_ones_have_all_the_weight)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
