/* The rules themselves: bounds are what their derivation gives by hand, an error planted at half or twice of what a rule allows is seen as
   that, and correct results at the edges of the number formats are within them. docs/numerics.md has every term. */
#include "support/fixture.h"
#include "support/plans.h"
#include "reference/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define EPSILON 0x1p-24

/* Keys that are all alike, with values of 1: scores q·k·scale = s, so out is 1 (with a sink: the keys' share of it), and every sum is done by
   hand, in units of EPSILON. In all: δ = 2·scale·(d + 2)·|q·k|, η = δ + 4|s| + 4, then out·(2η + 2u + 2(⌈m/16⌉ + m/64 + 8) + m + 8) and
   half the least subnormal; weights that vanish add 2^-125 at most, which is less than what the comparison below leaves. */
typedef struct bound_case {
    const char *name;
    attend_problem problem; /* batch, heads, head_dim and scale are set below where they are 0 */
    float q, k, bias, table, slope, head_scale, sink;
    int weightless;         /* so many of the keys are -∞ instead */
    double out, bound, lse; /* lse: η + m + 8 + 4|lse| */
} bound_case;

#define KEYS(m, ...) {.seqlen_q = 1, .seqlen_k = m, __VA_ARGS__}
static const bound_case bounds[] = {
    /* η = 4; 2·4 + 2 + 18.125 + 12 */
    {"no scores", KEYS(4, ), .q = 0, .k = 1, .out = 1, .bound = 40.125, .lse = 4 + 12 + 4 * 1.3862943611},
    /* δ = 2·3·2 = 12, η = 12 + 8 + 4 = 24 */
    {"scores of 2", KEYS(4, ), .q = 2, .k = 1, .out = 1, .bound = 80.125, .lse = 24 + 12 + 4 * 3.3862943611},
    {"scores of -2", KEYS(4, ), .q = 2, .k = -1, .out = 1, .bound = 80.125, .lse = 24 + 12 + 4 * 0.6137056389},
    /* a score of -∞ has weight 0 and no error; m = 5: 2·24 + 2 + 18.15625 + 13 */
    {"a score of -∞", KEYS(5, ), .q = 2, .k = 1, .weightless = 1, .out = 1, .bound = 81.15625, .lse = 24 + 13 + 4 * 3.3862943611},
    {"a scale", KEYS(4, .softmax_scale = 0.5f), .q = 4, .k = 1, .out = 1, .bound = 80.125, .lse = 24 + 12 + 4 * 3.3862943611},
    /* δ = 2·(3 + 2)·6 = 60, η = 60 + 24 + 4 = 88 */
    {"three dims", KEYS(4, .head_dim = 3), .q = 2, .k = 1, .out = 1, .bound = 208.125, .lse = 88 + 12 + 4 * 7.3862943611},
    /* 2(7 + 100/64 + 8) + 108 beside 2·24 + 2 */
    {"100 keys", KEYS(100, ), .q = 2, .k = 1, .out = 1, .bound = 191.125, .lse = 24 + 108 + 4 * 6.6051701860},
    /* u = 8192; half the least subnormal and the vanishing weights, 2^-25 each */
    {"f16", KEYS(4, .dtype = ATTEND_F16), .q = 0, .k = 1, .out = 1, .bound = 16423.125, .lse = 4 + 12 + 4 * 1.3862943611},
    {"bf16", KEYS(4, .dtype = ATTEND_BF16), .q = 0, .k = 1, .out = 1, .bound = 131110.125, .lse = 4 + 12 + 4 * 1.3862943611},
    /* |s| = 2 more */
    {"a head's scale", KEYS(4, .head_scales = true), .q = 2, .k = 1, .head_scale = 1, .out = 1, .bound = 84.125, .lse = 26 + 12 + 4 * 3.3862943611},
    /* s = 2·tanh 1 = 1.5231883119; δ = 12 + 8s = 24.1855064955; η = 34.2782597432 */
    {"softcap", KEYS(4, .softcap = 2), .q = 2, .k = 1, .out = 1, .bound = 100.6815194864, .lse = 34.2782597432 + 12 + 4 * 2.9094826731},
    /* s = 3; δ = 12 + 3, η = 15 + 12 + 4 */
    {"bias", KEYS(4, .bias_axes = ATTEND_PER_KEY), .q = 2, .k = 1, .bias = 1, .out = 1, .bound = 94.125, .lse = 31 + 12 + 4 * 4.3862943611},
    {"a bias that takes away", KEYS(4, .bias_axes = ATTEND_PER_KEY), .q = 2, .k = 1, .bias = -1, .out = 1, .bound = 78.125, .lse = 23 + 12 + 4 * 2.3862943611},
    {"relative bias", KEYS(4, .relative_buckets = 2, .relative_max_distance = 2), .q = 2, .k = 1, .table = 1, .out = 1, .bound = 94.125, .lse = 31 + 12 + 4 * 4.3862943611},
    /* s = 4; δ = 12 + 2·(2 + 1 + 1), η = 20 + 16 + 4 */
    {"both", KEYS(4, .relative_buckets = 2, .relative_max_distance = 2, .bias_axes = ATTEND_PER_KEY), .q = 2, .k = 1, .table = 1, .bias = 1, .out = 1,
     .bound = 112.125, .lse = 40 + 12 + 4 * 5.3862943611},
    /* one key, one place before its query, which is aligned to the second of two: s = 2 - 1; δ = 12 + 8·1 + 1·(2 + 1), η = 23 + 4 + 4; m = 1 */
    {"ALiBi", {.seqlen_q = 2, .seqlen_k = 1, .softmax_scale = 1, .alibi = ATTEND_ALIBI_CAUSAL}, .q = 2, .k = 1, .slope = 1, .out = 1, .bound = 91.03125,
     .lse = 31 + 9 + 4 * 1},
    /* of e^0·4 + e^2 the keys have 0.3512143557; η = 8 + 4, of keys and sink; no half of a unit in out = 1: 0.3512143557·56.125 */
    {"a sink", KEYS(4, .sinks = true), .q = 0, .k = 1, .sink = 2, .out = 0.3512143557, .bound = 19.71190571, .lse = 12 + 12 + 4 * 2.4326529030},
};
enum { BOUNDS = sizeof bounds / sizeof *bounds, MOST = 128 };

typedef struct small {
    attend_problem problem;
    attend_feature_args features;
    attend_attention_args args;
    double q[MOST], k[MOST * 4], v[MOST], out[MOST], bias[MOST];
    float lse[MOST], scale, sink, slope, table[2];
    int64_t cu_seqlens_q[4], cu_seqlens_k[4];
} small;

static void fill(void *to, attend_dtype dtype, int64_t count, double value)
{
    attend_tensor t = {.data = to, .dtype = dtype};
    for (int64_t i = 0; i < count; i++) attend_store(&t, i, value);
}

static void make(small *s, const bound_case *c)
{
    memset(s, 0, sizeof *s);
    s->problem = c->problem;
    attend_problem *p = &s->problem;
    p->batch = p->num_heads = 1, p->head_dim_v = 1;
    if (p->head_dim == 0) p->head_dim = 1;
    if (p->softmax_scale == 0) p->softmax_scale = 1;
    fill(s->q, p->dtype, p->seqlen_q * p->head_dim, c->q), fill(s->k, p->dtype, p->seqlen_k * p->head_dim, c->k);
    fill(s->v, p->dtype, p->seqlen_k, 1), fill(s->bias, ATTEND_F32, p->seqlen_k, c->bias);
    fill(s->k, p->dtype, c->weightless, -INFINITY);
    s->scale = c->head_scale, s->sink = c->sink, s->slope = c->slope, s->table[0] = s->table[1] = c->table;
    s->args = (attend_attention_args){.q = attend_tensor_4d(s->q, p->dtype, 1, p->seqlen_q, 1, p->head_dim),
                                      .k = attend_tensor_4d(s->k, p->dtype, 1, p->seqlen_k, 1, p->head_dim),
                                      .v = attend_tensor_4d(s->v, p->dtype, 1, p->seqlen_k, 1, 1),
                                      .out = attend_tensor_4d(s->out, p->dtype, 1, p->seqlen_q, 1, 1),
                                      .lse = attend_tensor_3d(s->lse, ATTEND_F32, 1, 1, p->seqlen_q),
                                      .features = &s->features};
    if (p->bias_axes) s->features.bias = attend_tensor_4d(s->bias, ATTEND_F32, 1, 1, 1, p->seqlen_k);
    if (p->head_scales) s->features.head_scales = attend_tensor_1d(&s->scale, ATTEND_F32, 1);
    if (p->sinks) s->features.sinks = attend_tensor_1d(&s->sink, ATTEND_F32, 1);
    if (p->alibi) s->features.alibi_slopes = attend_tensor_1d(&s->slope, ATTEND_F32, 1);
    if (p->relative_buckets) s->features.relative_table = attend_tensor_2d(s->table, ATTEND_F32, 1, 2);
}

/* The rows in so many sequences alike, each with all of the keys. */
static void pack(small *s, int sequences)
{
    attend_problem *p = &s->problem;
    p->packed = true, p->batch = sequences, p->total_q = p->seqlen_q, p->total_k = sequences * p->seqlen_k, p->seqlen_q /= sequences;
    for (int i = 0; i <= sequences; i++) s->cu_seqlens_q[i] = i * p->seqlen_q, s->cu_seqlens_k[i] = i * p->seqlen_k;
    s->features.cu_seqlens_q = s->cu_seqlens_q, s->features.cu_seqlens_k = s->cu_seqlens_k;
    s->args.k = attend_tensor_4d(s->k, p->dtype, 1, p->total_k, 1, p->head_dim);
    s->args.v = attend_tensor_4d(s->v, p->dtype, 1, p->total_k, 1, 1);
}

static attend_comparison compare(const small *s)
{
    attend_comparison r;
    if (attend_compare(&s->problem, &s->args, NULL, &r)) fail_msg("%s", attend_error_message());
    return r;
}

static void expect_near(const char *name, const char *what, double actual, double expected, double relative)
{
    if (!(fabs(actual - expected) <= relative * fabs(expected))) fail_msg("%s: %s is %.12g, by hand %.12g", name, what, actual, expected);
}

static void bounds_are_those_computed_by_hand(void **state)
{
    (void)state;
    for (int i = 0; i < BOUNDS; i++) {
        const bound_case *c = &bounds[i];
        small s;
        make(&s, c);
        const int64_t last = s.problem.seqlen_q - 1; /* of two rows the second is the case */
        const double factors[] = {2, -2, 0.5};
        s.lse[0] = 2; /* of the first of two rows; of the case's anything: the comparison says what it expects */
        s.lse[last] = (float)c->lse;
        for (int f = 0; f < 3; f++) {
            fill(s.out, s.problem.dtype, s.problem.seqlen_q, c->out);
            attend_store(&s.args.out, last, c->out + factors[f] * c->bound * EPSILON);
            attend_comparison r = compare(&s);
            const double planted = fabs(attend_load(&s.args.out, last) - r.worst.expected);
            expect_near(c->name, "its element's bound", r.worst.bound, c->bound * EPSILON, 1e-7);
            expect_near(c->name, "rule 1's ratio", r.bound_ratio, planted / (c->bound * EPSILON), 1e-7);
            if (fabs(factors[f]) > 1) assert_true(r.bound_ratio > 1.4 && !r.passed);
            if (fabs(factors[f]) < 1) assert_true(r.bound_ratio < 1);
        }
        attend_comparison r = compare(&s);
        s.lse[last] = (float)(r.worst_lse.expected + 2 * c->lse * EPSILON);
        r = compare(&s);
        expect_near(c->name, "the LSE's bound", r.worst_lse.bound, c->lse * EPSILON, 1e-7);
        assert_true(r.lse_bound_ratio > 1.4 && !r.passed);
    }
}

/* Rule 2 by hand: keys alike but for the bias of the first, three or four of them or two, one column. rms allowed =
   (1 + 4/√draws)·(c·rms(baseline) + u/10·|o| + ε·Σp|v|); rows of one query are one draw, in tiles of their own too, but
   not in packed sequences of their own. */
typedef struct quality_case {
    const char *name;
    attend_dtype dtype;
    int64_t rows, keys;
    float first, others; /* values of the first key, and of the others */
    double out, allowed; /* of out */
    bool one_query;
    float score, bias; /* of all keys; of the first one beside */
    int sequences;     /* that the rows are packed in, each with so many keys; 0: none */
} quality_case;

static const quality_case qualities[] = {
    /* nothing is rounded: 5·1.1ε, 3·1.1ε, 1.5·1.1ε */
    {"exact", ATTEND_F32, 1, 4, 1, 1, .out = 1, .allowed = 5.5 * EPSILON},
    {"exact, four rows", ATTEND_F32, 4, 4, 1, 1, .out = 1, .allowed = 3.3 * EPSILON},
    {"exact, four rows of one query", ATTEND_F32, 4, 4, 1, 1, .out = 1, .allowed = 5.5 * EPSILON, .one_query = true},
    {"exact, 64 rows", ATTEND_F32, 64, 4, 1, 1, .out = 1, .allowed = 1.65 * EPSILON},
    {"exact, two tiles", ATTEND_F32, 128, 4, 1, 1, .out = 1, .allowed = 1.4889087297 * EPSILON},
    {"exact, two tiles of one query", ATTEND_F32, 128, 4, 1, 1, .out = 1, .allowed = 5.5 * EPSILON, .one_query = true},
    {"exact, one query of two sequences", ATTEND_F32, 4, 4, 1, 1, .out = 1, .allowed = 4.2112698372 * EPSILON, .one_query = true, .sequences = 2},
    /* 5·(819.2 + 1)ε and half the least subnormal, 5·(6553.6 + 1)ε */
    {"exact, f16", ATTEND_F16, 1, 4, 1, 1, .out = 1, .allowed = 4101.5 * EPSILON},
    {"exact, bf16", ATTEND_BF16, 1, 4, 1, 1, .out = 1, .allowed = 32773 * EPSILON},
    /* out = 1/3 is stored as 0.333984375: 5·(1/1536 + (6553.6 + 1)ε/3) */
    {"a third, bf16", ATTEND_BF16, 1, 3, 1, 0, .out = 1.0 / 3, .allowed = 5 * (1.0 / 1536 + 6554.6 * EPSILON / 3)},
    /* fp32: the division rounds 1/3 by 2^-25/3, 1.5 times that */
    {"a third, f32", ATTEND_F32, 1, 3, 1, 0, .out = 1.0 / 3, .allowed = 5 * (1.5 * 0x1p-25 / 3 + 1.1 * EPSILON / 3)},
    /* 2^20 + 1/16 rounds to 2^20: out = tanh(1/32) is stored as 0.03125, and e^(-1/16) as 0.9375. Of the bf16 baseline's roundings
       e^-(1/16)'s is 0.00098646, the score's 1.5/16·p(1 - out) = 0.0468293, the result's 1.0169e-5 */
    {"a score of 2^20, bf16", ATTEND_BF16, 1, 2, 1, -1, .out = 0.03123983147, .allowed = 5 * (0.0468396423 + 6553.6 * EPSILON * 0.03123983147 + EPSILON),
     .score = 0x1p20f, .bias = 0x1p-4f},
};

static void quality_is_judged_by_what_is_allowed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof qualities / sizeof *qualities; i++) {
        const quality_case *c = &qualities[i];
        const bound_case plain = {.problem = {.seqlen_q = c->rows, .seqlen_k = c->keys, .softmax_scale = 1, .dtype = c->dtype,
                                              .bias_axes = c->bias != 0 ? ATTEND_PER_KEY : 0}, .q = 1, .k = c->score};
        for (int twice = 0; twice < 2; twice++) {
            small s;
            make(&s, &plain);
            if (c->sequences) pack(&s, c->sequences);
            fill(s.v, c->dtype, c->keys * (c->sequences ? c->sequences : 1), c->others), fill(s.v, c->dtype, 1, c->first), fill(s.bias, ATTEND_F32, 1, c->bias);
            for (int64_t i = 0; i < c->rows && !c->one_query; i++) attend_store(&s.args.q, i, (double)(i + 1));
            s.args.lse = (attend_tensor){0};
            fill(s.out, c->dtype, c->rows, c->out + (twice ? 2 : 0.5) * c->allowed);
            const double planted = fabs(attend_load(&s.args.out, 0) - c->out);
            attend_comparison r = compare(&s);
            expect_near(c->name, "rule 2's ratio", r.quality_ratio, planted / c->allowed, 1e-6);
            assert_true(twice ? r.quality_ratio > 1 && !r.passed : r.quality_ratio < 1);
        }
    }
}

/* Correct results of the device under test where exponents run out: one query of 1, keys at `near` but a few. */
typedef struct edge_case {
    const char *name;
    attend_dtype dtype;
    int64_t keys;
    float q, value; /* of all keys but those below */
    struct {
        int64_t key;
        float k, v;
    } other[3];
    float sink; /* NaN: none */
} edge_case;

static const edge_case edges[] = {
    {"a sink above all by 1000", ATTEND_F32, 3, 1, 1, {{0}}, 1000},
    {"a sink above all by 1000, f16", ATTEND_F16, 3, 1, 1, {{0}}, 1000},
    {"a sink above all by 89", ATTEND_F32, 3, 1, 1, {{0}}, 89},
    {"a sink below all by 1000", ATTEND_F32, 3, 1, 1, {{0}}, -1000},
    {"a score of -infinity", ATTEND_F32, 3, -1, 1, {{0, INFINITY, 2}}, NAN},
    {"a score of -infinity, bf16", ATTEND_BF16, 70, -1, 1, {{64, INFINITY, 2}}, NAN},
    {"a weight below 2^-126", ATTEND_F32, 2, 1, 0, {{1, -90, 30}}, NAN},
    {"a weight below 2^-126, bf16", ATTEND_BF16, 2, 1, 0, {{1, -90, 30}}, NAN},
    {"a weight below 2^-126 in another span", ATTEND_F32, 1100, 1, 0, {{3, -90, 30}, {1090, 0, 0}}, NAN},
    {"a later span above a lifted weight by 2^120", ATTEND_F32, 1100, 1, 0, {{200, 5.375f, 30}, {1090, 88.5f, 0}}, NAN},
    {"a later block above a lifted weight by 2^120", ATTEND_F32, 600, 1, 0, {{200, 5.375f, 30}, {590, 88.5f, 0}}, NAN},
    {"values near the least subnormal", ATTEND_F32, 500, 1, 0x1p-148f, {{3, 0.3f, 0x1.8p-147f}, {77, -0.7f, 0x1p-149f}, {100, 1.1f, -0x1p-148f}}, NAN},
    {"values near the least subnormal, f16", ATTEND_F16, 500, 1, 0x1p-23f, {{3, 0.3f, 0x1.8p-22f}, {77, -0.7f, 0x1p-24f}, {100, 1.1f, -0x1p-23f}}, NAN},
};

static void correct_results_at_the_edges_pass(void **state)
{
    (void)state;
    enum { KEYS_MOST = 1100 };
    static double k[KEYS_MOST], v[KEYS_MOST];
    attend_context *context = test_context();
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        const edge_case *c = &edges[i];
        attend_problem p = {.batch = 1, .seqlen_q = 1, .seqlen_k = c->keys, .num_heads = 1, .head_dim = 1, .softmax_scale = 1, .dtype = c->dtype,
                            .sinks = !isnan(c->sink)};
        double q[1], out[1];
        float lse, sink = c->sink;
        attend_feature_args features = {0};
        attend_attention_args args = {.q = attend_tensor_4d(q, c->dtype, 1, 1, 1, 1), .k = attend_tensor_4d(k, c->dtype, 1, c->keys, 1, 1),
                                      .v = attend_tensor_4d(v, c->dtype, 1, c->keys, 1, 1), .out = attend_tensor_4d(out, c->dtype, 1, 1, 1, 1),
                                      .lse = attend_tensor_3d(&lse, ATTEND_F32, 1, 1, 1), .features = &features};
        if (p.sinks) features.sinks = attend_tensor_1d(&sink, ATTEND_F32, 1);
        attend_plan *plan;
        attend_comparison r;
        fill(q, c->dtype, 1, c->q), fill(k, c->dtype, c->keys, 0), fill(v, c->dtype, c->keys, c->value);
        for (int n = 0; n < 3 && (c->other[n].k != 0 || c->other[n].v != 0); n++)
            attend_store(&args.k, c->other[n].key, c->other[n].k), attend_store(&args.v, c->other[n].key, c->other[n].v);
        if (test_attention_plan(context, &p, &plan) || attend_attention_forward(plan, &args) || attend_synchronize(context) ||
            attend_compare(&p, &args, NULL, &r))
            fail_msg("%s: %s", c->name, attend_error_message());
        attend_plan_destroy(plan);
        if (!r.passed || !isfinite(r.worst.bound) || !isfinite(r.worst_lse.expected))
            fail_msg("%s: rule 1 at %.3g, lse %.3g, rule 2 at %.3g: %.9g, expected %.9g, bound %.3g; lse %.9g, expected %.9g", c->name, r.bound_ratio,
                     r.lse_bound_ratio, r.quality_ratio, r.worst.actual, r.worst.expected, r.worst.bound, (double)lse, r.worst_lse.expected);
    }
    attend_context_destroy(context);
}

/* Of one pair: its rounding, and the errors that it is given, turned with it; of a norm, whose sum has two terms. */
static void bounds_of_rotations_are_those_computed_by_hand(void **state)
{
    (void)state;
    const double epsilon = 0x1p-24, first = 1e-3, second = 4e-3, own = 3 * 11 * epsilon * (0.5 + 2), quarter = 1.5707963267948966;
    const attend_tensor absent = {0};
    for (int turned = 0; turned < 2; turned++) {
        const attend_reference_rotation r = {.dims = 2, .factor = 3, .angles = {quarter}};
        double y[2] = {0.5, -2}, bound[2] = {first, second};
        attend_reference_rope(&r, 2, &absent, &absent, turned, y, bound);
        expect_near("a rotation", "bound", bound[0], 3 * (turned ? second : first) + own, 1e-9);
        expect_near("a rotation", "bound", bound[1], 3 * (turned ? first : second) + own, 1e-9);
    }
    const attend_reference_rotation norm = {.norm = ATTEND_QK_NORM_RMS};
    double y[2] = {3, -4}, bound[2] = {0, 0};
    attend_reference_rope(&norm, 2, &absent, &absent, 0, y, bound);
    for (int i = 0; i < 2; i++) expect_near("a norm", "bound", bound[i], (3 + i) / sqrt(12.5) * 10 * epsilon, 1e-9);
}

/* One query that sees one key, all of it: its weight is 1, and what dlse L adds to dS is L. With η of the weight, dV is within
   (η + u + 13 + u)·|dout|, the gradient of a bias within (η + u + 4 + 3 + 15 + u)·|L| and what is of dout, in units of EPSILON, as u is. */
static void bounds_of_gradients_are_those_computed_by_hand(void **state)
{
    (void)state;
    static float q[2] = {0.5f, 1}, k[2] = {1, -2}, v[2] = {1, 0}, dout[2] = {1, 0}, out[2] = {1, 0}, bias = 0, lse, dlse, dv[2], dbias;
    const attend_problem p = {.batch = 1, .seqlen_q = 1, .seqlen_k = 1, .num_heads = 1, .head_dim = 2, .bias_axes = ATTEND_PER_KEY};
    const attend_feature_args features = {.bias = attend_tensor_4d(&bias, ATTEND_F32, 1, 1, 1, 1)};
    const attend_tensor of_lse = attend_tensor_3d(&lse, ATTEND_F32, 1, 1, 1), of_dlse = attend_tensor_3d(&dlse, ATTEND_F32, 1, 1, 1);
    const attend_attention_args args = {.q = attend_tensor_4d(q, ATTEND_F32, 1, 1, 1, 2), .k = attend_tensor_4d(k, ATTEND_F32, 1, 1, 1, 2),
                                        .v = attend_tensor_4d(v, ATTEND_F32, 1, 1, 1, 2), .out = attend_tensor_4d(out, ATTEND_F32, 1, 1, 1, 2),
                                        .lse = of_lse, .features = &features};
    const attend_feature_grads of = {.bias = attend_tensor_4d(&dbias, ATTEND_F32, 1, 1, 1, 1)};
    const attend_attention_grads grads = {.dout = attend_tensor_4d(dout, ATTEND_F32, 1, 1, 1, 2), .dlse = of_dlse,
                                          .dv = attend_tensor_4d(dv, ATTEND_F32, 1, 1, 1, 2), .features = &of};
    double of_bias[2], of_dv = 0;
    lse = (q[0] * k[0] + q[1] * k[1]) / sqrtf(2), dv[0] = 0.5f;
    for (int i = 0; i < 2; i++) {
        attend_backward_comparison r;
        dlse = i ? 1024 : 2;
        if (attend_backward_compare(&p, &args, &grads, NULL, &r)) fail_msg("%s", attend_error_message());
        of_bias[i] = r.bias.worst.bound, of_dv = r.dv.worst.bound;
    }
    expect_near("gradients", "what dlse adds", (of_bias[1] - of_bias[0]) / (1024 - 2) - of_dv, (24 - 15) * EPSILON, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_are_those_computed_by_hand),
        cmocka_unit_test(bounds_of_rotations_are_those_computed_by_hand),
        cmocka_unit_test(bounds_of_gradients_are_those_computed_by_hand),
        cmocka_unit_test(quality_is_judged_by_what_is_allowed),
        cmocka_unit_test(correct_results_at_the_edges_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
