/* What attend/inspect.h promises, on the device under test: every number within its bound of the reference, for every feature and
   shape; the definitions, on examples small enough to check by eye; bits that depend on nothing but the row; sentences for bad
   requests. */
#include "support/feature_cases.h"
#include "support/inspection.h"
#include "support/plans.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static bool is_short(void) { return getenv("ATTEND_TEST_SHORT") != NULL; }

static void expect_ok(attend_status status, const char *text)
{
    if (status) fail_msg("%s: %s: %s", text, attend_status_name(status), attend_error_message());
}

/* With the LSE of a run, or without, by turns. */
static double check_case(const test_case *c, attend_context *context)
{
    char text[TEST_CASE_TEXT];
    test_fixture f;
    attend_plan *plan;
    test_case_text(c, text);
    test_fixture_make(&f, c);
    attend_attention_args args = f.args;
    expect_ok(test_attention_plan(context, &f.c.problem, &plan), text);
    expect_ok(attend_attention_forward(plan, &args), text);
    expect_ok(attend_synchronize(context), text);
    test_inspection t;
    test_inspection_make(&t, &f.problem);
    if (c->seed % 2) args.lse.data = NULL;
    expect_ok(attend_attention_inspect(plan, &args, &t.want), text);
    double worst = test_inspection_check(&t, &f.problem, &f.args, text);
    test_inspection_free(&t);
    attend_plan_destroy(plan);
    test_fixture_free(&f);
    return worst;
}

static void every_feature_is_within_the_bounds(void **state)
{
    (void)state;
    int count, ran = 0;
    double worst = 0;
    attend_context *context = test_context();
    test_case *cases = test_feature_cases(test_supported(context), is_short(), &count);
    for (int i = 0; i < count; i += is_short() ? 5 : 1, ran++) worst = fmax(worst, check_case(&cases[i], context));
    print_message("%s: %d cases, worst ratio to a bound %.3f\n", attend_context_device_name(context), ran, worst);
    attend_context_destroy(context);
    free(cases);
}

static void every_shape_is_within_the_bounds(void **state)
{
    (void)state;
    static const int64_t seqlens[] = {0, 1, 7, 128, 129, 260}, short_seqlens[] = {0, 1, 33, 65},
                         head_dims[] = {1, 33, 64, 128, 256};
    static const int64_t heads[][2] = {{1, 1}, {3, 1}, {6, 2}}, batches[] = {0, 1, 3};
    static const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};
    const test_factors f = {
        is_short() ? short_seqlens : seqlens, is_short() ? 4 : 6, head_dims, 5, heads, 3, batches, 3, dtypes, 3};
    int count, ran = 0;
    double worst = 0;
    attend_context *context = test_context();
    test_case *cases = test_covering(&f, &count);
    for (int i = 0; i < count; i += is_short() ? 5 : 1, ran++) worst = fmax(worst, check_case(&cases[i], context));
    print_message("%s: %d cases, worst ratio to a bound %.3f\n", attend_context_device_name(context), ran, worst);
    attend_context_destroy(context);
    free(cases);
}

/* ---- by eye: head_dim 1, so that with q = 1 a key is its own score ---------------------------------------------- */

enum { SEQLEN = 4 };

typedef struct example {
    attend_context *context;
    attend_plan *plan;
    attend_feature_args features;
    attend_attention_args args;
    float q[SEQLEN], k[SEQLEN], sink;
} example;

static void example_make(example *e, attend_problem features)
{
    attend_problem p = features;
    p.batch = p.num_heads = p.head_dim = 1, p.seqlen_q = p.seqlen_k = SEQLEN, p.softmax_scale = 1;
    e->context = test_context();
    expect_ok(test_attention_plan(e->context, &p, &e->plan), "example");
    e->args = (attend_attention_args){.q = attend_tensor_4d(e->q, ATTEND_F32, 1, SEQLEN, 1, 1),
                                      .k = attend_tensor_4d(e->k, ATTEND_F32, 1, SEQLEN, 1, 1),
                                      .features = &e->features};
    e->features = (attend_feature_args){0};
    if (p.sinks) e->features.sinks = attend_tensor_1d(&e->sink, ATTEND_F32, 1);
    for (int i = 0; i < SEQLEN; i++) e->q[i] = 1;
}

static void example_free(example *e)
{
    attend_plan_destroy(e->plan);
    attend_context_destroy(e->context);
}

/* Figures of at most 2, from scores that are logarithms in fp32: eight roundings, 2^-23 each. */
static void expect_near(double actual, double expected)
{
    if (!(fabs(actual - expected) < 1e-6)) fail_msg("%.9g, expected %.9g", actual, expected);
}

/* Causal; scores ln 1, ln 2, ln 1, ln 4: the last query weighs its keys 1/8, 2/8, 1/8, 4/8. */
static void the_definitions_hold_on_an_example(void **state)
{
    (void)state;
    example e;
    int64_t keys[SEQLEN][3], query = 3;
    float top[SEQLEN][3], entropy[SEQLEN], mass[SEQLEN][3], distance, weights[SEQLEN], map[2][2];
    const attend_key_window windows[] = {{.first = -1, .last = -1}, {.first = -2}, {.last = 1, .absolute = true}};
    example_make(&e, (attend_problem){.causal = ATTEND_CAUSAL_TOP_LEFT});
    const float scores[SEQLEN] = {0, 0.69314718f, 0, 1.38629436f};
    memcpy(e.k, scores, sizeof scores);
    const attend_inspection want = {.top_keys = attend_tensor_4d(keys, ATTEND_I64, 1, 1, SEQLEN, 3),
                                    .top_weights = attend_tensor_4d(top, ATTEND_F32, 1, 1, SEQLEN, 3),
                                    .entropy = attend_tensor_3d(entropy, ATTEND_F32, 1, 1, SEQLEN),
                                    .mass = attend_tensor_4d(mass, ATTEND_F32, 1, 1, SEQLEN, 3),
                                    .windows = windows,
                                    .num_windows = 3,
                                    .distance = attend_tensor_2d(&distance, ATTEND_F32, 1, 1),
                                    .weights = attend_tensor_4d(weights, ATTEND_F32, 1, 1, 1, SEQLEN),
                                    .queries = &query,
                                    .num_queries = 1,
                                    .map = attend_tensor_4d(map, ATTEND_F32, 1, 1, 2, 2)};
    expect_ok(attend_attention_inspect(e.plan, &e.args, &want), "example");
    const double expected[SEQLEN] = {0.125, 0.25, 0.125, 0.5};
    for (int j = 0; j < SEQLEN; j++) expect_near(weights[j], expected[j]);
    const int64_t listed[SEQLEN][3] = {
        {0, -1, -1}, {1, 0, -1}, {1, 0, 2}, {3, 1, 0}}; /* keys 0 and 2 are alike: the lower one first */
    assert_memory_equal(keys, listed, sizeof listed);
    expect_near(top[3][0], 0.5), expect_near(top[3][1], 0.25), expect_near(top[3][2], 0.125);
    expect_near(top[1][0], 2.0 / 3), expect_near(top[1][2], 0);
    expect_near(entropy[0], 0);
    expect_near(entropy[3], 0.125 * log(8) * 2 + 0.25 * log(4) + 0.5 * log(2));
    expect_near(mass[3][0], 0.125), expect_near(mass[3][1], 0.875), expect_near(mass[3][2], 0.375);
    expect_near(mass[0][0], 0), expect_near(mass[0][1], 1), expect_near(mass[0][2], 1);
    /* rows: 1 | 1/3 2/3 | 1/4 2/4 1/4 | 1/8 2/8 1/8 4/8 */
    expect_near(distance, (1.0 / 3 + 2 * 0.25 + 0.5 + 3 * 0.125 + 2 * 0.25 + 0.125) / 4);
    expect_near(map[0][0], 2.0 / 4), expect_near(map[0][1], 0);
    expect_near(map[1][0], (0.25 + 0.5 + 0.125 + 0.25) / 4), expect_near(map[1][1], (0.25 + 0.125 + 0.5) / 4);
    example_free(&e);
}

/* A sink of score ln 4 beside four keys of score 0 takes half. Query 0 is its own key's neighbour only: distances 0 to 3. */
static void a_sink_is_one_more_outcome(void **state)
{
    (void)state;
    example e;
    float entropy[SEQLEN], mass[SEQLEN], distance;
    const attend_key_window all = {.first = INT64_MIN, .last = INT64_MAX};
    example_make(&e, (attend_problem){.sinks = true});
    for (int j = 0; j < SEQLEN; j++) e.k[j] = 0;
    e.sink = 1.38629436f;
    const attend_inspection want = {.entropy = attend_tensor_3d(entropy, ATTEND_F32, 1, 1, SEQLEN),
                                    .mass = attend_tensor_4d(mass, ATTEND_F32, 1, 1, SEQLEN, 1),
                                    .windows = &all,
                                    .num_windows = 1,
                                    .distance = attend_tensor_2d(&distance, ATTEND_F32, 1, 1)};
    expect_ok(attend_attention_inspect(e.plan, &e.args, &want), "example");
    for (int i = 0; i < SEQLEN; i++) expect_near(mass[i], 0.5), expect_near(entropy[i], 0.5 * log(2) + 4 * 0.125 * log(8));
    expect_near(distance, (6 + 4 + 4 + 6) / 16.0);
    example_free(&e);
}

/* NaN in query 1, and in key 3, which causality hides from all queries but the last. */
static void nan_reaches_what_sees_it_and_nothing_else(void **state)
{
    (void)state;
    example e;
    float weights[SEQLEN][SEQLEN], entropy[SEQLEN], map[SEQLEN][2];
    int64_t keys[SEQLEN], queries[SEQLEN] = {0, 1, 2, 3};
    example_make(&e, (attend_problem){.causal = ATTEND_CAUSAL_TOP_LEFT});
    for (int j = 0; j < SEQLEN; j++) e.k[j] = 0;
    e.q[1] = e.k[3] = NAN;
    const attend_inspection want = {.weights = attend_tensor_4d(weights, ATTEND_F32, 1, 1, SEQLEN, SEQLEN),
                                    .queries = queries,
                                    .num_queries = SEQLEN,
                                    .entropy = attend_tensor_3d(entropy, ATTEND_F32, 1, 1, SEQLEN),
                                    .top_keys = attend_tensor_4d(keys, ATTEND_I64, 1, 1, SEQLEN, 1),
                                    .map = attend_tensor_4d(map, ATTEND_F32, 1, 1, SEQLEN, 2)};
    expect_ok(attend_attention_inspect(e.plan, &e.args, &want), "example");
    for (int i = 0; i < SEQLEN; i++) {
        bool poisoned = i == 1 || i == 3;
        assert_int_equal(isnan(entropy[i]) != 0, poisoned);
        assert_int_equal(keys[i], poisoned ? -1 : 0);
        for (int j = 0; j < SEQLEN; j++) assert_int_equal(isnan(weights[i][j]) != 0, poisoned && j <= i);
        for (int x = 0; x < 2; x++) assert_int_equal(isnan(map[i][x]) != 0, poisoned && 2 * x <= i);
    }
    example_free(&e);
}

/* ---- bits -------------------------------------------------------------------------------------------------------- */

static void threads_change_no_bit(void **state)
{
    (void)state;
    const test_case c = {.problem = {.batch = 2,
                                     .seqlen_q = is_short() ? 70 : 300,
                                     .seqlen_k = is_short() ? 70 : 300,
                                     .num_heads = 2,
                                     .head_dim = 40,
                                     .causal = ATTEND_CAUSAL_TOP_LEFT},
                         .values = ATTEND_VALUES_SHARP,
                         .seed = 3};
    test_fixture f;
    test_inspection t[2];
    test_fixture_make(&f, &c);
    attend_attention_args args = f.args;
    args.lse.data = NULL;
    for (int n = 0; n < 2; n++) {
        attend_context *probe = test_context(), *context;
        attend_context_options options = {.device = attend_context_device(probe), .threads = n ? 3 : 1};
        attend_plan *plan;
        expect_ok(attend_context_create(&options, &context), "context");
        expect_ok(test_attention_plan(context, &f.c.problem, &plan), "plan");
        test_inspection_make(&t[n], &f.problem);
        expect_ok(attend_attention_inspect(plan, &args, &t[n].want), "inspect");
        attend_plan_destroy(plan);
        attend_context_destroy(context), attend_context_destroy(probe);
    }
    const attend_inspection *a = &t[0].want, *b = &t[1].want;
    const attend_tensor *pairs[][2] = {
        {&a->weights, &b->weights}, {&a->top_keys, &b->top_keys}, {&a->top_weights, &b->top_weights},
        {&a->entropy, &b->entropy}, {&a->mass, &b->mass},         {&a->distance, &b->distance},
        {&a->map, &b->map}};
    for (int i = 0; i < 7; i++)
        assert_memory_equal(pairs[i][0]->data, pairs[i][1]->data,
                            (size_t)pairs[i][0]->stride[0] * 2 * attend_dtype_bytes(pairs[i][0]->dtype));
    for (int n = 0; n < 2; n++) test_inspection_free(&t[n]);
    test_fixture_free(&f);
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

/* A layer's attention is inspected on the Q and K that its run left. */
static void a_layer_is_inspected_on_its_own_q_and_k(void **state)
{
    (void)state;
    enum { N = 9, HEADS = 2, DIM = 8, HIDDEN = 16 };
    float w[4][HIDDEN * HIDDEN], x[N * HIDDEN], out[N * HIDDEN], q[N * HIDDEN], k[N * HIDDEN], entropy[2][HEADS * N];
    attend_layer_weights weights = {0};
    attend_tensor *const matrices[] = {&weights.wq, &weights.wk, &weights.wv, &weights.wo};
    attend_plan *layer, *attention;
    for (int i = 0; i < 4; i++) {
        *matrices[i] = attend_tensor_2d(w[i], ATTEND_F32, HIDDEN, HIDDEN);
        attend_values_gauss((uint64_t)i, 0.4f, &(attend_tensor){w[i], ATTEND_F32, 1, {HIDDEN * HIDDEN}, {1}});
    }
    attend_values_gauss(9, 1, &(attend_tensor){x, ATTEND_F32, 1, {N * HIDDEN}, {1}});
    attend_problem p = {.batch = 1,
                        .seqlen_q = N,
                        .seqlen_k = N,
                        .num_heads = HEADS,
                        .head_dim = DIM,
                        .hidden_size = HIDDEN,
                        .causal = ATTEND_CAUSAL_TOP_LEFT,
                        .rotary = ATTEND_ROTARY_HALVES};
    const attend_layer_args args = {.x = attend_tensor_3d(x, ATTEND_F32, 1, N, HIDDEN),
                                    .out = attend_tensor_3d(out, ATTEND_F32, 1, N, HIDDEN),
                                    .q = attend_tensor_4d(q, ATTEND_F32, 1, N, HEADS, DIM),
                                    .k = attend_tensor_4d(k, ATTEND_F32, 1, N, HEADS, DIM)};
    const attend_attention_args same = {.q = args.q, .k = args.k};
    attend_context *context = test_context();
    expect_ok(test_layer_plan(context, &p, &weights, &layer), "layer");
    p.hidden_size = 0, p.rotary = ATTEND_ROTARY_NONE;
    expect_ok(test_attention_plan(context, &p, &attention), "attention");
    expect_ok(attend_layer_forward(layer, &args), "run");
    expect_ok(attend_synchronize(context), "run");
    attend_inspection want = {.entropy = attend_tensor_3d(entropy[0], ATTEND_F32, 1, HEADS, N)};
    expect_ok(attend_layer_inspect(layer, &args, &want), "inspect");
    want.entropy.data = entropy[1];
    expect_ok(attend_attention_inspect(attention, &same, &want), "inspect");
    assert_memory_equal(entropy[0], entropy[1], sizeof entropy[0]);
    assert_int_equal(attend_attention_inspect(layer, &same, &want), ATTEND_INVALID_ARGUMENT);
    attend_plan_destroy(layer), attend_plan_destroy(attention);
    attend_context_destroy(context);
}

/* ---- bad requests ------------------------------------------------------------------------------------------------ */

static void bad_requests_get_a_sentence(void **state)
{
    (void)state;
    example e;
    float out[512];
    const int64_t far[] = {2, 4}, first_far[] = {-1, 0};
    const attend_key_window windows[] = {{.first = 0}, {.first = 2, .last = 1}};
    example_make(&e, (attend_problem){0});
    const attend_tensor map = attend_tensor_4d(out, ATTEND_F32, 1, 1, 2, 2);
    const struct {
        attend_inspection want;
        const char *sentence;
    } cases[] = {
        {{.top_weights = attend_tensor_4d(out, ATTEND_F32, 1, 1, SEQLEN, 65)},
         "top_weights has 65 keys a query, expected 1 to 64"},
        {{.top_keys = attend_tensor_4d(out, ATTEND_I32, 1, 1, SEQLEN, 1)}, "top_keys is i32, expected i64"},
        {{.top_keys = attend_tensor_4d(out, ATTEND_I64, 1, 1, SEQLEN, 2),
          .top_weights = attend_tensor_4d(out + 64, ATTEND_F32, 1, 1, SEQLEN, 1)},
         "top_weights has shape [1, 1, 4, 1], expected [1, 1, 4, 2]"},
        {{.mass = attend_tensor_4d(out, ATTEND_F32, 1, 1, SEQLEN, 1)}, "mass is given, but num_windows is 0"},
        {{.num_windows = 17, .windows = windows}, "num_windows is 17, expected 0 to 16"},
        {{.num_windows = 2, .windows = windows}, "windows[1] goes from 2 to 1"},
        {{.weights = attend_tensor_4d(out, ATTEND_F32, 1, 1, 2, SEQLEN), .queries = far, .num_queries = 2},
         "queries[1] is 4, but q has 4 rows"},
        {{.weights = attend_tensor_4d(out, ATTEND_F32, 1, 1, 2, SEQLEN), .queries = first_far, .num_queries = 2},
         "queries[0] is -1, but q has 4 rows"},
        {{.weights = attend_tensor_4d(out, ATTEND_F32, 1, 1, 2, SEQLEN), .num_queries = 2}, "queries is NULL"},
        {{.map = map, .first_query = 4}, "first_query is 4, but the map can begin at 0 to 3"},
        {{.map = map, .first_key = 2, .map_keys = 3}, "map_keys is 3, but from 2 on there are 2"},
        {{.map = map, .map_queries = 1}, "map has 2 rows of tiles, expected 1 to 1"},
        {{.map = map, .entropy = attend_tensor_3d(out + 3, ATTEND_F32, 1, 1, SEQLEN)}, "entropy overlaps map in memory"},
        {{.entropy = attend_tensor_3d(e.k, ATTEND_F32, 1, 1, SEQLEN)}, "entropy overlaps k in memory"},
        {{.distance = attend_tensor_2d(out, ATTEND_F32, 1, 2)}, "distance has shape [1, 2], expected [1, 1]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(attend_attention_inspect(e.plan, &e.args, &cases[i].want), ATTEND_INVALID_ARGUMENT);
        if (!strstr(attend_error_message(), cases[i].sentence))
            fail_msg("\"%s\", expected \"%s\"", attend_error_message(), cases[i].sentence);
    }
    assert_int_equal(attend_attention_inspect(e.plan, &e.args, NULL), ATTEND_INVALID_ARGUMENT);
    assert_int_equal(attend_attention_inspect(NULL, &e.args, &cases[0].want), ATTEND_INVALID_ARGUMENT);
    assert_int_equal(attend_attention_inspect_sized(e.plan, &e.args, sizeof e.args, sizeof e.features, &cases[0].want, sizeof cases[0].want + 8),
                     ATTEND_INVALID_ARGUMENT);
    expect_ok(attend_attention_inspect(e.plan, &e.args, &(attend_inspection){0}), "nothing wanted"); /* is fine */
    example_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_definitions_hold_on_an_example),        cmocka_unit_test(a_sink_is_one_more_outcome),
        cmocka_unit_test(nan_reaches_what_sees_it_and_nothing_else), cmocka_unit_test(every_feature_is_within_the_bounds),
        cmocka_unit_test(every_shape_is_within_the_bounds),          cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(a_layer_is_inspected_on_its_own_q_and_k),   cmocka_unit_test(bad_requests_get_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
