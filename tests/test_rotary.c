/* Rotary embedding of a caller's own Q and K: within the rules for every convention, scaling and way to say positions; exact far out; in place
   as elsewhere; what a layer does, bit for bit; undone by its transpose; and nothing else is touched. */
#include "support/fixture.h"
#include "support/plans.h"
#include "support/rotations.h"
#include "core/problem.h"
#include "reference/reference.h"
#include "core/rotary.h"
#include "core/tensor.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void apply(const rotated *t, attend_context *context, const attend_rotary_args *args)
{
    if (attend_rotary_apply(context, &t->c->problem, args) || attend_synchronize(context)) fail_msg("%s: %s", t->c->name, attend_error_message());
}

static void every_case_is_within_the_rules(void **state)
{
    (void)state;
    attend_context *context = test_context();
    double bound = 0, quality = 0;
    for (int i = 0; i < TEST_ROTATIONS; i++) {
        rotated t;
        attend_rotary_comparison r;
        test_rotation_make(&t, &test_rotations[i]);
        apply(&t, context, &t.args);
        if (attend_rotary_compare(&t.c->problem, &t.args, NULL, &r)) fail_msg("%s: %s", t.c->name, attend_error_message());
        if (!r.passed)
            fail_msg("%s: rule 1 %.3g at [%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "] %.9g not %.9g, rule 2 %.3g", t.c->name, r.bound_ratio, r.worst.batch,
                     r.worst.row, r.worst.head, r.worst.column, r.worst.actual, r.worst.expected, r.quality_ratio);
        bound = fmax(bound, r.bound_ratio), quality = fmax(quality, r.quality_ratio);
        test_rotation_free(&t);
    }
    print_message("%s: %d rotations, worst rule-1 ratio %.3f, worst rule-2 ratio %.3f\n", attend_context_device_name(context), TEST_ROTATIONS, bound, quality);
    attend_context_destroy(context);
}

static bool same_elements(const attend_tensor *x, const attend_tensor *y)
{
    for (int64_t b = 0; b < x->shape[0]; b++)
        for (int64_t i = 0; i < x->shape[1]; i++)
            for (int64_t h = 0; h < x->shape[2]; h++)
                for (int64_t c = 0; c < x->shape[3]; c++)
                    if (!(test_rotation_at(x, b, i, h, c) == test_rotation_at(y, b, i, h, c))) return false;
    return true;
}

/* An element of k turned by the definition; what has a norm or scaled frequencies is held to other peers (test_transformers). */
static double definition(const rotated *t, int64_t b, int64_t i, int64_t h, int64_t c, int64_t position)
{
    const int64_t dims = t->p.rotary_dim, half = dims / 2;
    const bool halves = t->p.rotary == ATTEND_ROTARY_HALVES;
    if (c >= dims) return test_rotation_at(&t->args.k, b, i, h, c);
    const int64_t pair = halves ? c % half : c / 2, first = halves ? pair : 2 * pair, second = halves ? pair + half : 2 * pair + 1;
    const long double angle = (long double)position * powl(t->p.rotary_base, -2 * (long double)pair / (long double)dims) * (t->c->backward ? -1 : 1);
    const long double x = test_rotation_at(&t->args.k, b, i, h, first), y = test_rotation_at(&t->args.k, b, i, h, second);
    return (double)(c == first ? x * cosl(angle) - y * sinl(angle) : y * cosl(angle) + x * sinl(angle));
}

static void expect_rotated(const rotated *t, int64_t b, int64_t i, int64_t h)
{
    const int64_t position = test_rotation_position(t, b, i);
    for (int64_t c = 0; c < t->p.head_dim; c++) {
        const double actual = test_rotation_at(&t->args.k_out, b, i, h, c), expected = definition(t, b, i, h, c, position);
        /* values of at most 6, of which cosines and sines are within 8 units of fp32, and of what a position's multiple leaves of a double */
        const double tolerance = 12 * (12 * 0x1p-24 + fabs((double)position) * 0x1p-50) + attend_unit_roundoff(t->p.dtype) * fabs(expected) + attend_half_least(t->p.dtype);
        if (!(fabs(actual - expected) <= tolerance))
            fail_msg("%s: [%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "] at %" PRId64 " is %.9g, expected %.9g", t->c->name, b, i, h, c, position, actual, expected);
    }
}

static void turning_is_its_definition(void **state)
{
    (void)state;
    attend_context *context = test_context();
    if (LDBL_MANT_DIG < 64) skip();
    for (int n = 0; n < TEST_ROTATIONS; n++) {
        rotated t;
        if (test_rotations[n].problem.qk_norm || test_rotations[n].problem.rotary_scaling) continue;
        test_rotation_make(&t, &test_rotations[n]);
        apply(&t, context, &t.args);
        const attend_tensor *k = &t.args.k;
        for (int64_t b = 0; b < k->shape[0]; b++)
            for (int64_t i = 0; i < k->shape[1]; i++)
                for (int64_t h = 0; h < k->shape[2]; h++) {
                    if (test_rotation_has(&t, b, i))
                        expect_rotated(&t, b, i, h);
                    else
                        assert_true(isnan(test_rotation_at(&t.args.k_out, b, i, h, 0)));
                }
        test_rotation_free(&t);
    }
    attend_context_destroy(context);
}

/* Every byte of y's memory but its elements of rows that are there is as it was. */
static void in_place_gives_the_same_and_touches_nothing_else(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int i = 0; i < TEST_ROTATIONS; i++) {
        rotated t;
        test_rotation_make(&t, &test_rotations[i]);
        const attend_tensor *k = &t.args.k;
        char *before = malloc(t.bytes[0]), *after = t.blocks[0]; /* k is the first that was made */
        assert_non_null(before);
        memcpy(before, after, t.bytes[0]);
        apply(&t, context, &t.args);
        assert_memory_equal(before, after, t.bytes[0]); /* an input */
        attend_rotary_args in_place = t.args;
        in_place.q_out = in_place.k_out = (attend_tensor){0};
        apply(&t, context, &in_place);
        const size_t element = attend_dtype_bytes(t.p.dtype), row = element * (size_t)t.p.head_dim;
        for (int64_t b = 0; b < k->shape[0]; b++)
            for (int64_t r = 0; r < k->shape[1]; r++)
                for (int64_t h = 0; h < k->shape[2] && test_rotation_has(&t, b, r); h++) {
                    const size_t in = element * (size_t)(b * k->stride[0] + r * k->stride[1] + h * k->stride[2]);
                    const attend_tensor *out = &t.args.k_out;
                    const char *there = (char *)out->data + element * (size_t)(b * out->stride[0] + r * out->stride[1] + h * out->stride[2]);
                    assert_memory_equal(after + in, there, row);
                    memcpy(before + in, there, row);
                }
        assert_memory_equal(before, after, t.bytes[0]);
        free(before);
        test_rotation_free(&t);
    }
    attend_context_destroy(context);
}

/* A key meets its own query with all its weight, and neighbours with less, wherever they stand: what only positions' differences decide. At
   2^20 angles in fp32 are off by up to 0.05. */
static void needles_stand_out_at_any_position(void **state)
{
    (void)state;
    enum { N = 9, D = 128 };
    attend_context *context = test_context();
    static const int exponents[] = {0, 17, 18, 20, 24};
    static float x[N][D], rotated_q[N][D], rotated_k[N][D];
    double near[N] = {0};
    for (int i = 0; i < N; i++)
        for (int c = 0; c < D; c++) x[i][c] = 1;
    for (size_t e = 0; e < sizeof exponents / sizeof *exponents; e++) {
        const attend_problem p = {.batch = 1, .seqlen_q = N, .num_heads = 1, .head_dim = D, .rotary = ATTEND_ROTARY_HALVES, .rotary_base = 500000,
                                  .first_position = exponents[e] ? (1 << exponents[e]) + 1 : 0};
        const attend_rotary_args args = {.q = attend_tensor_4d(x, ATTEND_F32, 1, N, 1, D), .k = attend_tensor_4d(x, ATTEND_F32, 1, N, 1, D),
                                         .q_out = attend_tensor_4d(rotated_q, ATTEND_F32, 1, N, 1, D), .k_out = attend_tensor_4d(rotated_k, ATTEND_F32, 1, N, 1, D)};
        assert_int_equal(attend_rotary_apply(context, &p, &args), ATTEND_OK);
        assert_int_equal(attend_synchronize(context), ATTEND_OK);
        for (int j = 0; j < N; j++) {
            double score = 0;
            for (int c = 0; c < D; c++) score += (double)rotated_q[N / 2][c] * rotated_k[j][c];
            if (e == 0) near[j] = score;
            /* two rotations, each within rule 1's 11 roundings of fp32, in every of D products */
            assert_true(fabs(score - near[j]) <= 2 * 2 * 22 * D * 0x1p-24);
            if (e > 0 && j != N / 2) assert_true(score < near[N / 2] - 1);
        }
    }
    attend_context_destroy(context);
}

/* The layer's Q and K are its own projections, turned by the same code. */
static void a_layer_does_the_same(void **state)
{
    (void)state;
    enum { N = 20, H = 4, KV = 2, D = 16, HIDDEN = 24 };
    attend_context *context = test_context();
    static float x[N * HIDDEN], w[3][H * D * HIDDEN], wo[HIDDEN * H * D], out[N * HIDDEN], q[2][N * H * D], k[2][N * KV * D];
    attend_tensor all = attend_tensor_1d(x, ATTEND_F32, N * HIDDEN), matrices = attend_tensor_1d(w, ATTEND_F32, 3 * H * D * HIDDEN);
    all.stride[0] = matrices.stride[0] = 1;
    attend_values_gauss(1, 1, &all), attend_values_gauss(2, 0.3f, &matrices);
    const attend_layer_weights weights = {.wq = attend_tensor_2d(w[0], ATTEND_F32, H * D, HIDDEN), .wk = attend_tensor_2d(w[1], ATTEND_F32, KV * D, HIDDEN),
                                          .wv = attend_tensor_2d(w[2], ATTEND_F32, KV * D, HIDDEN), .wo = attend_tensor_2d(wo, ATTEND_F32, HIDDEN, H * D)};
    attend_problem p = {.batch = 1, .seqlen_q = N, .num_heads = H, .num_kv_heads = KV, .head_dim = D, .hidden_size = HIDDEN};
    for (int turns = 0; turns < 2; turns++) {
        attend_plan *plan;
        if (turns) p.rotary = ATTEND_ROTARY_INTERLEAVED, p.rotary_base = 5000, p.first_position = 70000;
        const attend_layer_args args = {.x = attend_tensor_3d(x, ATTEND_F32, 1, N, HIDDEN), .out = attend_tensor_3d(out, ATTEND_F32, 1, N, HIDDEN),
                                        .q = attend_tensor_4d(q[turns], ATTEND_F32, 1, N, H, D), .k = attend_tensor_4d(k[turns], ATTEND_F32, 1, N, KV, D)};
        if (test_layer_plan(context, &p, &weights, &plan) || attend_layer_forward(plan, &args) || attend_synchronize(context)) fail_msg("%s", attend_error_message());
        attend_plan_destroy(plan);
    }
    p.hidden_size = 0;
    const attend_rotary_args args = {.q = attend_tensor_4d(q[0], ATTEND_F32, 1, N, H, D), .k = attend_tensor_4d(k[0], ATTEND_F32, 1, N, KV, D)};
    if (attend_rotary_apply(context, &p, &args) || attend_synchronize(context)) fail_msg("%s", attend_error_message());
    if (attend_context_device(context) != ATTEND_REFERENCE) { /* which rounds nothing between its stages */
        assert_memory_equal(q[0], q[1], sizeof q[0]);
        assert_memory_equal(k[0], k[1], sizeof k[0]);
    }
    attend_context_destroy(context);
}

static double product(const attend_tensor *x, const attend_tensor *y)
{
    double sum = 0;
    for (int64_t b = 0; b < x->shape[0]; b++)
        for (int64_t i = 0; i < x->shape[1]; i++)
            for (int64_t h = 0; h < x->shape[2]; h++)
                for (int64_t c = 0; c < x->shape[3]; c++) sum += test_rotation_at(x, b, i, h, c) * test_rotation_at(y, b, i, h, c);
    return sum;
}

/* <Rx, y> = <x, Rᵀy>; and where nothing is scaled RᵀR gives back what was turned. Turning by m, then by n, is turning by m + n. */
static void backward_is_the_transpose_and_positions_add_up(void **state)
{
    (void)state;
    attend_context *context = test_context();
    rotated t;
    test_rotation_make(&t, &test_rotations[TEST_ROTATION_BACKWARD]);
    assert_true(t.args.backward && t.p.rotary_scaling == ATTEND_ROTARY_YARN);
    apply(&t, context, &t.args); /* k_out = Rᵀ k */
    attend_rotary_args forward = t.args;
    attend_tensor y = test_rotation_heads(&t, t.p.num_kv_heads, true), ry = test_rotation_heads(&t, t.p.num_kv_heads, false);
    forward.backward = false, forward.q = forward.q_out = (attend_tensor){0}, forward.k = y, forward.k_out = ry;
    apply(&t, context, &forward);
    const double elements = (double)attend_tensor_elements(&y);
    assert_true(fabs(product(&ry, &t.args.k) - product(&y, &t.args.k_out)) <= 2 * 12 * 4 * elements * 0x1p-24);
    test_rotation_free(&t);

    static float x[64], there[64], sum[64];
    attend_problem p = {.batch = 1, .seqlen_q = 1, .num_heads = 1, .head_dim = 64, .rotary = ATTEND_ROTARY_INTERLEAVED};
    attend_tensor line = attend_tensor_1d(x, ATTEND_F32, 64);
    line.stride[0] = 1;
    attend_values_gauss(3, 1, &line);
    attend_rotary_args args = {.k = attend_tensor_4d(x, ATTEND_F32, 1, 1, 1, 64), .k_out = attend_tensor_4d(there, ATTEND_F32, 1, 1, 1, 64)};
    int64_t first = 1000;
    args.first_positions = &first;
    assert_int_equal(attend_rotary_apply(context, &p, &args), ATTEND_OK);
    args.k_out.data = sum, first = -250;
    args.k.data = there;
    assert_int_equal(attend_rotary_apply(context, &p, &args), ATTEND_OK);
    args.k.data = x, args.k_out.data = there, first = 750;
    assert_int_equal(attend_rotary_apply(context, &p, &args), ATTEND_OK);
    assert_int_equal(attend_synchronize(context), ATTEND_OK);
    for (int c = 0; c < 64; c++) assert_true(fabsf(sum[c] - there[c]) <= 3 * 12 * 6 * 0x1p-24f);
    args.k.data = there, args.k_out.data = sum, args.backward = true;
    assert_int_equal(attend_rotary_apply(context, &p, &args), ATTEND_OK);
    assert_int_equal(attend_synchronize(context), ATTEND_OK);
    for (int c = 0; c < 64; c++) assert_true(fabsf(sum[c] - x[c]) <= 2 * 12 * 6 * 0x1p-24f);
    attend_context_destroy(context);
}

/* A token's bits depend on its position and its own elements alone. */
static void bits_depend_on_the_token_alone(void **state)
{
    (void)state;
    attend_context *context = test_context();
    rotated t, alone;
    test_rotation_make(&t, &test_rotations[0]), test_rotation_make(&alone, &test_rotations[0]);
    apply(&t, context, &t.args);
    attend_problem p = test_rotations[0].problem;
    p.batch = 1, p.seqlen_q = 1, p.first_position = 20;
    attend_rotary_args args = {.k = alone.args.k, .k_out = alone.args.k_out};
    args.k.shape[0] = args.k.shape[1] = args.k_out.shape[0] = args.k_out.shape[1] = 1;
    args.k.data = (float *)args.k.data + args.k.stride[0] + 20 * args.k.stride[1];
    if (attend_rotary_apply(context, &p, &args) || attend_synchronize(context)) fail_msg("%s", attend_error_message());
    attend_tensor whole = t.args.k_out;
    whole.data = (float *)whole.data + whole.stride[0] + 20 * whole.stride[1], whole.shape[0] = whole.shape[1] = 1;
    assert_true(same_elements(&whole, &args.k_out));
    test_rotation_free(&t), test_rotation_free(&alone);
    attend_context_destroy(context);
}

/* In place is where both lie alike; the stride of an axis of one element says nothing. */
static void one_element_may_have_any_stride_in_place(void **state)
{
    (void)state;
    attend_context *context = test_context();
    static float apart[8], place[8];
    const attend_problem p = {.batch = 1, .seqlen_q = 1, .num_heads = 1, .head_dim = 8, .rotary = ATTEND_ROTARY_HALVES, .first_position = 3};
    for (int c = 0; c < 8; c++) place[c] = (float)c;
    attend_rotary_args args = {.q = attend_tensor_4d(place, ATTEND_F32, 1, 1, 1, 8), .q_out = attend_tensor_4d(apart, ATTEND_F32, 1, 1, 1, 8)};
    assert_int_equal(attend_rotary_apply(context, &p, &args), ATTEND_OK);
    args.q_out.data = place;
    memcpy(args.q_out.stride, ((int64_t[]){999, 48, 16, 1}), sizeof args.q_out.stride);
    if (attend_rotary_apply(context, &p, &args) || attend_synchronize(context)) fail_msg("%s", attend_error_message());
    assert_memory_equal(place, apart, sizeof place);
    attend_context_destroy(context);
}

/* Heads side by side go to heads that lie apart, as caches have them, and back. */
static void heads_may_go_to_another_layout(void **state)
{
    (void)state;
    enum { TOKENS = 3, HEADS = 2, DIM = 8 };
    attend_context *context = test_context();
    static float x[TOKENS * HEADS * DIM], y[TOKENS * HEADS * DIM], z[TOKENS * HEADS * DIM], right[TOKENS * HEADS * DIM];
    const attend_problem p = {.batch = 1, .seqlen_q = TOKENS, .num_heads = HEADS, .head_dim = DIM, .rotary = ATTEND_ROTARY_HALVES};
    attend_tensor together = attend_tensor_4d(x, ATTEND_F32, 1, TOKENS, HEADS, DIM), apart = together;
    memcpy(apart.stride, ((int64_t[]){TOKENS * HEADS * DIM, DIM, TOKENS * DIM, 1}), sizeof apart.stride);
    attend_values_gauss(7, 1, &together);
    for (int way = 0; way < 3; way++) {
        attend_tensor from = way == 2 ? apart : together, to = way == 1 ? apart : together;
        from.data = way == 2 ? y : x, to.data = way == 0 ? right : way == 1 ? y : z;
        const attend_rotary_args args = {.k = from, .k_out = to, .backward = way == 2};
        if (attend_rotary_apply(context, &p, &args) || attend_synchronize(context)) fail_msg("%s", attend_error_message());
    }
    for (int i = 0; i < TOKENS; i++)
        for (int h = 0; h < HEADS; h++)
            for (int c = 0; c < DIM; c++) {
                assert_true(y[(h * TOKENS + i) * DIM + c] == right[(i * HEADS + h) * DIM + c]);
                assert_float_equal(z[(i * HEADS + h) * DIM + c], x[(i * HEADS + h) * DIM + c], 1e-5);
            }
    attend_context_destroy(context);
}

static void expect_refused(attend_context *context, const attend_problem *p, const attend_rotary_args *args, const char *sentence)
{
    assert_int_equal(attend_rotary_apply(context, p, args), ATTEND_INVALID_ARGUMENT);
    if (!strstr(attend_error_message(), sentence)) fail_msg("\"%s\" does not say \"%s\"", attend_error_message(), sentence);
}

static void wrong_arguments_are_named(void **state)
{
    (void)state;
    attend_context *context = test_context();
    static float x[64], y[128];
    static int64_t lists[3] = {0, 5, 8};
    const attend_problem plain = {.batch = 2, .seqlen_q = 4, .num_heads = 1, .head_dim = 8, .rotary = ATTEND_ROTARY_HALVES};
    const attend_rotary_args good = {.q = attend_tensor_4d(x, ATTEND_F32, 2, 4, 1, 8)};
    assert_int_equal(attend_rotary_apply(context, &plain, &good), ATTEND_OK);
#define REFUSED(sentence, change_problem, change_args)           \
    do {                                                         \
        attend_problem p = plain;                                \
        attend_rotary_args a = good;                             \
        change_problem, change_args;                             \
        expect_refused(context, &p, &a, sentence);               \
    } while (0)
    REFUSED("rotary and qk_norm are both none", p.rotary = ATTEND_ROTARY_NONE, (void)a);
    REFUSED("q and k are both missing", (void)p, a.q = (attend_tensor){0});
    REFUSED("k_out is given without k", (void)p, a.k_out = good.q);
    REFUSED("q has shape [2, 4, 1, 8], expected [2, 5, 1, 8]", p.seqlen_q = 5, (void)a);
    REFUSED("q is f32, expected bf16", p.dtype = ATTEND_BF16, (void)a);
    REFUSED("q overlaps k in memory", (void)p, a.k = good.q);
    REFUSED("q_out overlaps q in memory", (void)p, a.q_out = attend_tensor_4d(x + 1, ATTEND_F32, 2, 4, 1, 8));
    REFUSED("q has last stride 2", (void)p, memcpy(a.q.stride, ((int64_t[]){32, 4, 8, 2}), sizeof a.q.stride));
    REFUSED("q_out has last stride 2", (void)p, (a.q_out = attend_tensor_4d(y, ATTEND_F32, 2, 4, 1, 8), memcpy(a.q_out.stride, ((int64_t[]){64, 16, 16, 2}), sizeof a.q_out.stride)));
    REFUSED("rows must be contiguous", p.head_dim = 2, (a.q = attend_tensor_4d(x, ATTEND_F32, 2, 4, 1, 2), memcpy(a.q.stride, ((int64_t[]){16, 4, 4, 2}), sizeof a.q.stride)));
    REFUSED("backward is set, but qk_norm is too", p.qk_norm = ATTEND_QK_NORM_RMS, a.backward = true);
    const attend_tensor vector = attend_tensor_1d(y, ATTEND_F32, 8);
    REFUSED("q_norm is given, but the problem's qk_norm does not use it", (void)p, a.q_norm = vector);
    REFUSED("k_norm is given, but the problem's qk_norm does not use it", (void)p, a.k_norm = vector);
    REFUSED("q_norm_bias is given, but the problem's qk_norm does not use it", p.qk_norm = ATTEND_QK_NORM_RMS, a.q_norm_bias = vector);
    REFUSED("k_norm_bias is given, but the problem's qk_norm does not use it", p.qk_norm = ATTEND_QK_NORM_RMS, a.k_norm_bias = vector);
    REFUSED("positions and first_positions exclude each other", (void)p, (a.positions = attend_tensor_2d(y, ATTEND_I32, 2, 4), a.first_positions = lists));
    REFUSED("first_positions is given, but the problem has a first_position (3)", p.first_position = 3, a.first_positions = lists);
    REFUSED("cu_seqlens_q is missing", (p.packed = true, p.total_q = 8), a.q = attend_tensor_4d(x, ATTEND_F32, 1, 8, 1, 8));
    REFUSED("starts_k is missing", p.left_padded = true, (void)a);
    REFUSED("starts_k is given", (void)p, a.starts_k = lists);
    REFUSED("seqlens_q and packed exclude each other", (p.packed = true, p.total_q = 8),
            (a.q = attend_tensor_4d(x, ATTEND_F32, 1, 8, 1, 8), a.cu_seqlens_q = lists, a.seqlens_q = lists));
    REFUSED("seqlens_q[1] is 5, expected 0 to 4", (void)p, a.seqlens_q = lists);
    REFUSED("rotary_dim is 10, expected an even number up to head_dim (8)", p.rotary_dim = 10, (void)a);
    REFUSED("absolute positions belong to layers", p.absolute = ATTEND_ABSOLUTE_SINUSOIDAL, (void)a);
    static int64_t far[2] = {0, (int64_t)1 << 31};
    REFUSED("first_positions[1] is 2147483648, expected -2147483647 to 2147483647", (void)p, a.first_positions = far);
    attend_rotary_comparison r;
    assert_int_equal(attend_rotary_compare(&plain, &good, NULL, &r), ATTEND_INVALID_ARGUMENT);
    assert_non_null(strstr(attend_error_message(), "q_out is missing"));
    assert_int_equal(attend_rotary_apply(NULL, &plain, &good), ATTEND_INVALID_ARGUMENT);
    attend_context_destroy(context);
}

/* A checker that has caught nothing is not yet a checker: one element, the other convention, and angles in fp32 are seen. */
static void comparing_sees_what_is_wrong(void **state)
{
    (void)state;
    attend_context *context = test_context();
    attend_rotary_comparison r;
    rotated t;
    test_rotation_make(&t, &test_rotations[TEST_ROTATION_FAR]);
    apply(&t, context, &t.args);
    attend_problem other = t.c->problem;
    other.rotary = ATTEND_ROTARY_INTERLEAVED;
    assert_int_equal(attend_rotary_compare(&other, &t.args, NULL, &r), ATTEND_OK);
    assert_false(r.passed);
    ((float *)t.args.k_out.data)[7] += 1e-3f;
    assert_int_equal(attend_rotary_compare(&t.c->problem, &t.args, NULL, &r), ATTEND_OK);
    assert_false(r.passed);
    assert_true(r.worst.column == 7 && r.worst.head == t.p.num_heads);
    const attend_rope rope = attend_rope_of(&t.p);
    for (int64_t i = 0; i < t.p.seqlen_q; i++)
        for (int pair = 0; pair < 64; pair++) {
            const float angle = (float)(t.p.first_position + i) * (float)(rope.turns[pair] * 6.28318530717958647692), c = cosf(angle), s = sinf(angle);
            const float a = (float)test_rotation_at(&t.args.q, 0, i, 0, pair), b = (float)test_rotation_at(&t.args.q, 0, i, 0, pair + 64);
            float *out = (float *)t.args.q_out.data + i * t.args.q_out.stride[1];
            out[pair] = a * c - b * s, out[pair + 64] = b * c + a * s;
        }
    t.args.k = t.args.k_out = (attend_tensor){0};
    assert_int_equal(attend_rotary_compare(&t.c->problem, &t.args, NULL, &r), ATTEND_OK);
    assert_true(r.bound_ratio > 1000 && r.quality_ratio > 100 && r.worst.head == 0);
    test_rotation_free(&t);
    attend_context_destroy(context);
}

typedef struct looking {
    int calls, until; /* it asks to stop at call `until` */
    int64_t last;
} looking;

static bool look(void *user, int64_t done, int64_t total)
{
    looking *l = user;
    assert_true(done >= l->last && done <= total);
    l->last = done;
    return ++l->calls < l->until;
}

static void comparing_tells_how_far_it_is_and_stops(void **state)
{
    (void)state;
    attend_context *context = test_context();
    looking all = {.until = INT32_MAX}, some = {.until = 3};
    attend_rotary_comparison r, untouched;
    rotated t;
    test_rotation_make(&t, &test_rotations[0]);
    apply(&t, context, &t.args);
    assert_int_equal(attend_rotary_compare(&t.c->problem, &t.args, &(attend_compare_options){.progress = look, .progress_user = &all}, &r), ATTEND_OK);
    assert_int_equal(all.calls, 2 + t.p.batch * (t.p.num_heads + t.p.num_kv_heads)); /* none, each head, all */
    memset(&r, 0x5a, sizeof r), untouched = r;
    assert_int_equal(attend_rotary_compare(&t.c->problem, &t.args, &(attend_compare_options){.progress = look, .progress_user = &some}, &r), ATTEND_CANCELLED);
    assert_int_equal(some.calls, 3);
    assert_memory_equal(&r, &untouched, sizeof r);
    test_rotation_free(&t);
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_is_within_the_rules), cmocka_unit_test(turning_is_its_definition),
        cmocka_unit_test(in_place_gives_the_same_and_touches_nothing_else), cmocka_unit_test(needles_stand_out_at_any_position),
        cmocka_unit_test(a_layer_does_the_same), cmocka_unit_test(backward_is_the_transpose_and_positions_add_up),
        cmocka_unit_test(bits_depend_on_the_token_alone), cmocka_unit_test(one_element_may_have_any_stride_in_place), cmocka_unit_test(heads_may_go_to_another_layout), cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(comparing_sees_what_is_wrong), cmocka_unit_test(comparing_tells_how_far_it_is_and_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
