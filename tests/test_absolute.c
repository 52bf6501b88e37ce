/* Absolute positions: what a layer adds to x is their definition, element by element, for every order, dtype and way to say where a token is;
   what lies outside a table is refused. With the identity as its projections, a layer's q is x with its positions. */
#include "support/fixture.h"
#include "support/plans.h"
#include "shared/absolute.h"
#include "core/problem.h"
#include "reference/reference.h"
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

/* How a case says where its tokens are. */
typedef enum where { COUNTED, PADDED, GIVEN, PACKED } where;

typedef struct absolute_case {
    const char *name;
    attend_absolute kind;
    attend_dtype dtype;
    int64_t batch, rows, heads, hidden;
    where where;
    int64_t first, max_positions;
    double base;
} absolute_case;

#define INTERLEAVED ATTEND_ABSOLUTE_SINUSOIDAL
#define HALVES ATTEND_ABSOLUTE_SINUSOIDAL_HALVES
#define LEARNED ATTEND_ABSOLUTE_LEARNED

static const absolute_case cases[] = {
    {"interleaved", INTERLEAVED, ATTEND_F32, 2, 67, 2, 128, COUNTED, 0, 0, 0},
    {"halves", HALVES, ATTEND_F32, 2, 67, 2, 128, COUNTED, 0, 0, 0},
    {"interleaved, odd, bf16, far out", INTERLEAVED, ATTEND_BF16, 1, 20, 1, 77, COUNTED, (1 << 20) + 5, 0, 0},
    {"halves, odd, f16, left-padded", HALVES, ATTEND_F16, 3, 20, 1, 33, PADDED, 0, 0, 0},
    {"interleaved, packed, another base", INTERLEAVED, ATTEND_F16, 3, 20, 1, 64, PACKED, 7, 0, 100},
    {"halves, given", HALVES, ATTEND_BF16, 2, 20, 1, 64, GIVEN, 0, 0, 0},
    {"interleaved, given", INTERLEAVED, ATTEND_F32, 2, 20, 1, 64, GIVEN, 0, 0, 0},
    {"up to 2^31 and on", INTERLEAVED, ATTEND_F32, 1, 40, 1, 66, COUNTED, INT32_MAX - 20, 0, 0},
    {"wider than a block", INTERLEAVED, ATTEND_F32, 1, 3, 5, 1035, COUNTED, 0, 0, 0},
    {"halves wider than a block", HALVES, ATTEND_F16, 1, 3, 5, 1035, COUNTED, 0, 0, 0},
    {"one element", INTERLEAVED, ATTEND_F32, 1, 5, 1, 1, COUNTED, 0, 0, 0},
    {"two elements", HALVES, ATTEND_BF16, 1, 5, 1, 2, COUNTED, 0, 0, 0},
    {"learned", LEARNED, ATTEND_F32, 2, 50, 2, 128, COUNTED, 0, 50, 0},
    {"learned, odd, f16, an offset as BART's", LEARNED, ATTEND_F16, 2, 20, 1, 77, COUNTED, 2, 22, 0},
    {"learned, bf16, left-padded", LEARNED, ATTEND_BF16, 3, 20, 1, 64, PADDED, 0, 20, 0},
    {"learned, packed", LEARNED, ATTEND_F32, 3, 20, 1, 40, PACKED, 0, 20, 0},
    {"learned, given", LEARNED, ATTEND_BF16, 2, 20, 1, 64, GIVEN, 0, 9, 0},
    {"learned, wider than a block", LEARNED, ATTEND_F32, 1, 3, 5, 1035, COUNTED, 0, 3, 0},
    {"no tokens", LEARNED, ATTEND_F32, 2, 0, 1, 8, COUNTED, 0, 1, 0},
    {"no batch", INTERLEAVED, ATTEND_F32, 0, 9, 1, 8, COUNTED, 0, 0, 0},
};
enum { CASES = sizeof cases / sizeof *cases, MAX_BLOCKS = 8 };

/* A case with its memory: NaN wherever nobody may look. */
typedef struct placed {
    const absolute_case *c;
    attend_problem p;
    attend_layer_weights weights;
    attend_layer_args args;
    attend_feature_args features;
    int64_t lists[5];
    void *blocks[MAX_BLOCKS];
    int count;
} placed;

static void *block(placed *t, int64_t elements, size_t bytes)
{
    assert_true(t->count < MAX_BLOCKS);
    void *data = t->blocks[t->count++] = malloc((size_t)elements * bytes + 64);
    assert_non_null(data);
    memset(data, 0xff, (size_t)elements * bytes + 64);
    return data;
}

/* Rows with three elements of another between them. */
static attend_tensor gapped(placed *t, int64_t batch, int64_t rows, int64_t width, uint64_t seed)
{
    const int64_t row = width + 3;
    attend_tensor x = attend_tensor_3d(block(t, batch * rows * row, attend_dtype_bytes(t->c->dtype)), t->c->dtype, batch, rows, width);
    memcpy(x.stride, (int64_t[]){rows * row, row, 1, 0}, sizeof x.stride);
    attend_values_gauss(seed, 1, &x);
    return x;
}

static attend_tensor identity(placed *t)
{
    const int64_t n = t->c->hidden;
    attend_tensor w = attend_tensor_2d(block(t, n * n, attend_dtype_bytes(t->c->dtype)), t->c->dtype, n, n);
    w.stride[0] = n, w.stride[1] = 1;
    for (int64_t i = 0; i < n * n; i++) attend_store(&w, i, i % (n + 1) == 0);
    return w;
}

static void say_positions(placed *t)
{
    static const int32_t far[] = {0, 1, -1, 5, INT32_MAX, INT32_MIN, 1 << 17, -(1 << 24) - 1, 3, 1000003};
    const absolute_case *c = t->c;
    for (int64_t b = 0; b < 5; b++) t->lists[b] = c->where == PADDED ? 6 * b : b * t->p.total_q / 3;
    if (c->where == PADDED) t->features.starts_k = t->lists;
    if (c->where == PACKED) t->features.cu_seqlens_q = t->lists;
    if (c->where != GIVEN) return;
    t->features.positions = attend_tensor_2d(block(t, c->batch * c->rows, 4), ATTEND_I32, c->batch, c->rows);
    for (int64_t i = 0; i < c->batch * c->rows; i++)
        ((int32_t *)t->features.positions.data)[i] = c->max_positions ? (int32_t)(i * 5 % c->max_positions) : far[i % 10];
}

static void make(placed *t, const absolute_case *c)
{
    *t = (placed){.c = c};
    t->p = (attend_problem){.batch = c->batch, .seqlen_q = c->rows, .num_heads = c->heads, .head_dim = c->hidden / c->heads, .dtype = c->dtype,
                            .hidden_size = c->hidden, .left_padded = c->where == PADDED, .packed = c->where == PACKED, .first_position = c->first,
                            .absolute = c->kind, .absolute_base = c->base, .max_positions = c->max_positions};
    if (c->where == PACKED) t->p.total_q = 2 * c->rows + 1;
    const int64_t batch = t->p.packed ? 1 : c->batch, rows = t->p.packed ? t->p.total_q : c->rows;
    t->weights.wq = t->weights.wk = t->weights.wv = t->weights.wo = identity(t);
    if (c->max_positions) {
        t->weights.position_table = gapped(t, 1, c->max_positions, c->hidden, 5);
        attend_tensor *table = &t->weights.position_table;
        *table = (attend_tensor){.data = table->data, .dtype = c->dtype, .rank = 2, .shape = {table->shape[1], c->hidden}, .stride = {table->stride[1], 1}};
    }
    t->args.x = gapped(t, batch, rows, c->hidden, 3);
    t->args.out = attend_tensor_3d(block(t, batch * rows * c->hidden, 4), c->dtype, batch, rows, c->hidden);
    t->args.q = attend_tensor_4d(block(t, batch * rows * c->hidden, 4), c->dtype, batch, rows, c->heads, c->hidden / c->heads);
    say_positions(t);
}

static void release(placed *t)
{
    for (int i = 0; i < t->count; i++) free(t->blocks[i]);
}

static attend_status run(const placed *t, attend_context *context)
{
    attend_plan *plan;
    attend_layer_args args = t->args;
    args.features = &t->features;
    attend_status status = test_layer_plan(context, &t->p, &t->weights, &plan);
    if (!status) status = attend_layer_forward(plan, &args);
    if (!status) status = attend_synchronize(context);
    attend_plan_destroy(plan);
    return status;
}

/* From the words of problem.h, not from the library's code. */
static int64_t position_of(const placed *t, int64_t b, int64_t i)
{
    int64_t begin = 0;
    if (t->c->where == GIVEN) return ((int32_t *)t->features.positions.data)[b * t->c->rows + i];
    if (t->c->where == PADDED) begin = t->lists[b];
    for (int s = 0; t->c->where == PACKED && s < 3; s++)
        if (t->lists[s] <= i) begin = t->lists[s];
    return t->c->first + (i > begin ? i - begin : 0);
}

static long double added(const placed *t, int64_t position, int64_t c)
{
    const attend_tensor *table = &t->weights.position_table;
    const int64_t n = t->c->hidden, sines = n - n / 2;
    if (t->c->kind == LEARNED) return attend_load(table, position * table->stride[0] + c);
    const int64_t sinusoid = t->c->kind == INTERLEAVED ? c / 2 : c % sines;
    const bool cosine = t->c->kind == INTERLEAVED ? c % 2 : c >= sines;
    const long double base = t->c->base != 0 ? t->c->base : 10000;
    const long double angle = (long double)position * powl(base, -2 * (long double)sinusoid / (long double)n);
    return cosine ? cosl(angle) : sinl(angle);
}

/* A learned sum is rounded once; a sine is within 8 units of fp32, and of what a position times a frequency leaves of a double. */
static double tolerance(const placed *t, int64_t position, double sum)
{
    const double u = attend_unit_roundoff(t->c->dtype), rounding = (u + 0x1p-24) * fabs(sum) + attend_half_least(t->c->dtype);
    return t->c->kind == LEARNED ? rounding : rounding + 8 * 0x1p-24 + fabs((double)position) * 0x1p-50;
}

static void positions_are_their_definition(void **state)
{
    (void)state;
    attend_context *context = test_context();
    if (LDBL_MANT_DIG < 64) skip();
    for (int n = 0; n < CASES; n++) {
        placed t;
        make(&t, &cases[n]);
        const attend_tensor *x = &t.args.x, *q = &t.args.q;
        const size_t bytes = (size_t)(x->shape[0] * x->stride[0]) * attend_dtype_bytes(x->dtype);
        void *before = malloc(bytes + 1);
        assert_non_null(before);
        memcpy(before, x->data, bytes);
        if (run(&t, context)) fail_msg("%s: %s", t.c->name, attend_error_message());
        for (int64_t b = 0; b < x->shape[0]; b++)
            for (int64_t i = 0; i < x->shape[1]; i++)
                for (int64_t c = 0; c < t.c->hidden; c++) {
                    const int64_t position = position_of(&t, b, i);
                    const double sum = (double)(attend_load(x, b * x->stride[0] + i * x->stride[1] + c) + added(&t, position, c));
                    const double actual = attend_load(q, (b * x->shape[1] + i) * t.c->hidden + c);
                    if (!(fabs(actual - sum) <= tolerance(&t, position, sum)))
                        fail_msg("%s: [%" PRId64 ", %" PRId64 ", %" PRId64 "] at %" PRId64 " is %.9g, expected %.9g", t.c->name, b, i, c, position, actual, sum);
                }
        assert_memory_equal(before, x->data, bytes);
        free(before);
        release(&t);
    }
    attend_context_destroy(context);
}

/* As the comment of absolute_base says: exponents c/(hidden_size/2 - 1). */
static void a_base_gives_the_frequencies_of_fairseq(void **state)
{
    (void)state;
    enum { HIDDEN = 512 };
    double turns[HIDDEN / 2];
    const attend_problem p = {.hidden_size = HIDDEN, .absolute = HALVES, .absolute_base = pow(10000, HIDDEN / (HIDDEN - 2.))};
    attend_sinusoid_frequencies(&p, turns);
    for (int w = 0; w < HIDDEN / 2; w++) {
        const double theirs = exp(-w * log(10000) / (HIDDEN / 2 - 1.));
        assert_true(fabs(turns[w] * 6.28318530717958647692 - theirs) <= 1e-13 * theirs);
    }
}

static void expect_refused(const placed *t, attend_context *context, const char *sentence)
{
    assert_int_equal(run(t, context), ATTEND_INVALID_ARGUMENT);
    if (!strstr(attend_error_message(), sentence)) fail_msg("\"%s\" does not say \"%s\"", attend_error_message(), sentence);
}

static void positions_outside_the_table_are_refused(void **state)
{
    (void)state;
    attend_context *context = test_context();
    const absolute_case counted = {"", LEARNED, ATTEND_F32, 2, 6, 1, 8, COUNTED, 4, 10, 0}, given = {"", LEARNED, ATTEND_F32, 2, 6, 1, 8, GIVEN, 0, 10, 0};
    const absolute_case padded = {"", LEARNED, ATTEND_F32, 2, 16, 1, 8, PADDED, 0, 10, 0}, packed = {"", LEARNED, ATTEND_F32, 3, 6, 1, 8, PACKED, 4, 10, 0};
    placed t;
    make(&t, &counted);
    assert_int_equal(run(&t, context), ATTEND_OK);
    t.p.first_position = 5;
    expect_refused(&t, context, "a sequence of 6 tokens from first_position (5) on goes beyond position_table, which has max_positions (10) rows");
    release(&t), make(&t, &packed);
    assert_int_equal(run(&t, context), ATTEND_OK);
    t.p.first_position = 5;
    expect_refused(&t, context, "a sequence of 6 tokens from first_position (5) on goes beyond position_table");
    release(&t), make(&t, &padded);
    t.lists[0] = 6;
    assert_int_equal(run(&t, context), ATTEND_OK);
    t.lists[1] = 5;
    expect_refused(&t, context, "a sequence of 11 tokens from first_position (0) on goes beyond position_table");
    release(&t), make(&t, &given);
    assert_int_equal(run(&t, context), ATTEND_OK);
    ((int32_t *)t.features.positions.data)[6 + 2] = 10;
    expect_refused(&t, context, "positions[1, 2] is 10, but position_table has max_positions (10) rows");
    ((int32_t *)t.features.positions.data)[6 + 2] = -1;
    expect_refused(&t, context, "positions[1, 2] is -1, but position_table has max_positions (10) rows");
    release(&t);
    attend_context_destroy(context);
}

#define LAYER .batch = 2, .seqlen_q = 3, .num_heads = 4, .head_dim = 8, .hidden_size = 16

static void wrong_problems_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *sentence;
        attend_problem problem;
    } wrong[] = {
        {"absolute is 4, expected one of attend_absolute", {LAYER, .absolute = (attend_absolute)4}},
        {"absolute_base is 100, which counts only with sinusoidal positions", {LAYER, .absolute = LEARNED, .max_positions = 9, .absolute_base = 100}},
        {"absolute_base is 100, which counts only with sinusoidal positions", {LAYER, .absolute_base = 100}},
        {"absolute_base is 1, expected a finite number above 1", {LAYER, .absolute = INTERLEAVED, .absolute_base = 1}},
        {"absolute_base is inf, expected a finite number above 1", {LAYER, .absolute = HALVES, .absolute_base = INFINITY}},
        {"max_positions is 9, which counts only with learned positions", {LAYER, .absolute = HALVES, .max_positions = 9}},
        {"max_positions is 0, expected at least 1", {LAYER, .absolute = LEARNED}},
        {"absolute positions belong to layers", {.batch = 2, .seqlen_q = 3, .num_heads = 4, .head_dim = 8, .absolute = INTERLEAVED}},
        {"absolute positions are for self-attention", {LAYER, .context_hidden_size = 16, .seqlen_k = 3, .absolute = INTERLEAVED}},
        {"first_position is 3, which counts only with rotary or absolute", {LAYER, .first_position = 3}},
        {"first_position is -1, expected 0 to 2147483647", {LAYER, .absolute = INTERLEAVED, .first_position = -1}},
        {"first_position is 2147483648, expected 0 to 2147483647", {LAYER, .absolute = INTERLEAVED, .first_position = (int64_t)1 << 31}},
        {"the layer's tensors have more bytes than 63 bits can count", {LAYER, .absolute = LEARNED, .max_positions = INT64_MAX / 16}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        attend_problem resolved;
        const attend_operation operation = wrong[i].problem.hidden_size ? ATTEND_LAYER : ATTEND_ATTENTION;
        assert_int_equal(attend_problem_resolve(&wrong[i].problem, sizeof wrong[i].problem, operation, &resolved), ATTEND_INVALID_ARGUMENT);
        if (!strstr(attend_error_message(), wrong[i].sentence)) fail_msg("\"%s\" does not say \"%s\"", attend_error_message(), wrong[i].sentence);
    }
}

static void wrong_arguments_are_named(void **state)
{
    (void)state;
    attend_context *context = test_context();
    placed good, t;
    make(&good, &cases[12]);
    t = good, t.weights.position_table.data = NULL, expect_refused(&t, context, "position_table is NULL");
    t = good, t.weights.position_table.dtype = ATTEND_F16, expect_refused(&t, context, "position_table is f16, expected f32");
    t = good, t.weights.position_table.shape[0] = 49, expect_refused(&t, context, "position_table has shape [49, 128], expected [50, 128]");
    t = good, t.weights.position_table.stride[0] = 1, t.weights.position_table.stride[1] = 50;
    expect_refused(&t, context, "position_table has last stride 50");
    t = good, t.p.absolute = INTERLEAVED, t.p.max_positions = 0;
    expect_refused(&t, context, "position_table is given, but the problem's absolute does not use it");
    int32_t positions[100] = {0};
    t = good, t.features.positions = attend_tensor_2d(positions, ATTEND_F32, 2, 50), expect_refused(&t, context, "positions is f32, expected i32");
    t = good, t.p.absolute = ATTEND_ABSOLUTE_NONE, t.p.max_positions = 0, t.weights.position_table = (attend_tensor){0};
    t.features.positions = attend_tensor_2d(positions, ATTEND_I32, 2, 50);
    expect_refused(&t, context, "positions is given, but the problem does not ask for it (rotary or absolute, which belong to layers)");
    release(&good);
    attend_context_destroy(context);
}

static void explaining_counts_what_is_moved(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int learned = 0; learned < 2; learned++) {
        placed t;
        attend_plan *plan;
        attend_explanation e;
        char text[4096];
        make(&t, &cases[learned ? 12 : 0]);
        if (test_layer_plan(context, &t.p, &t.weights, &plan) || attend_plan_explain(plan, NULL, &e)) fail_msg("%s", attend_error_message());
        assert_true(e.position_bytes == (learned ? 3. : 2.) * (double)(2 * t.c->rows * t.c->hidden) * 4);
        assert_true(attend_plan_explain_text(plan, NULL, text, sizeof text) < sizeof text);
        assert_non_null(strstr(text, "positions   added to x: "));
        attend_plan_destroy(plan);
        release(&t);
    }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(positions_are_their_definition),
        cmocka_unit_test(a_base_gives_the_frequencies_of_fairseq),
        cmocka_unit_test(positions_outside_the_table_are_refused),
        cmocka_unit_test(wrong_problems_are_named),
        cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(explaining_counts_what_is_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
