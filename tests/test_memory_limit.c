/* A plan on a CPU takes no more than memory_limit_bytes, and gives the bits of one without a limit: whatever the limit, the schedule and the
   features, over all keys and over ranges of them. */
#include "support/feature_cases.h"
#include "support/forget.h"
#include "support/parts.h"
#include "cpu/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Of each schedule without a limit. */
static const struct {
    int64_t seqlen_q;
    int threads;
} shapes[] = {{150, 1}, {40, 24}, {3, 2}};
enum { SHAPES = sizeof shapes / sizeof *shapes, KEYS = 2 * ATTEND_CPU_SPAN + 252, RANGE = ATTEND_CPU_SPAN };

/* How far from the least limit to what is taken without one. */
static const double limits[] = {0, 0.3, 0.7};
enum { LIMITS = sizeof limits / sizeof *limits };

static int seen[LIMITS + 1][2][2]; /* boxes that were cut by heads, queries, keys */

static test_case make_case(int setting, int shape)
{
    const int n = 3 * (setting + 1) + shape;
    test_case c = {.problem = {.batch = 1 + n % 3, .seqlen_q = shapes[shape].seqlen_q, .seqlen_k = KEYS, .num_heads = 4, .num_kv_heads = 2,
                               .head_dim = 24, .head_dim_v = 40, .dtype = (attend_dtype)(n % 3)},
                   .layout = n % 2 ? LAYOUT_PADDED : LAYOUT_BSHD, .lengths = setting % 2 == 0, .seed = (uint64_t)n};
    if (setting >= 0) test_setting_apply(test_feature_setting(setting), &c.problem);
    snprintf(c.features, sizeof c.features, "%s", setting < 0 ? "" : test_feature_setting(setting)->name);
    if (setting % 2 == 0 && !c.problem.causal) c.problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
    return c;
}

static attend_plan *plan_of(attend_context *context, const test_fixture *f, size_t limit, size_t *least)
{
    char text[TEST_CASE_TEXT];
    attend_plan *plan;
    const attend_plan_options options = {.memory_limit_bytes = limit, .least_bytes = least};
    if (attend_attention_plan_with(context, &f->c.problem, &options, &plan)) fail_msg("%s: %s", test_case_text(&f->c, text), attend_error_message());
    return plan;
}

static size_t bytes_of(const attend_plan *plan)
{
    attend_plan_memory memory;
    assert_int_equal(attend_plan_memory_usage(plan, &memory), ATTEND_OK);
    return memory.host_bytes;
}

/* In one run, or in two over ranges of keys. */
static void run(attend_plan *plan, attend_context *context, test_fixture *f, bool in_ranges)
{
    char text[TEST_CASE_TEXT];
    memset(f->out.bytes, 0xff, f->out.size), memset(f->lse.bytes, 0xff, f->lse.size);
    test_forget_runs(plan);
    if (in_ranges) {
        test_state state = test_state_make(&f->problem, true);
        test_part_run(plan, context, f, 0, RANGE, NULL, &state.state);
        test_part_run(plan, context, f, RANGE, KEYS, &state.state, NULL);
        test_state_free(&state);
    } else if (attend_attention_forward(plan, &f->args)) {
        fail_msg("%s: %s", test_case_text(&f->c, text), attend_error_message());
    }
}

static void one_case(attend_context *context, const test_case *c)
{
    char text[TEST_CASE_TEXT], sentence[160];
    test_fixture f;
    size_t least = 0, again = 0;
    test_fixture_make(&f, c);
    unsigned char *const out = malloc(f.out.size), *const lse = malloc(f.lse.size);
    attend_plan *plan = plan_of(context, &f, 0, &least);
    const size_t all = bytes_of(plan);
    run(plan, context, &f, false);
    memcpy(out, f.out.bytes, f.out.size), memcpy(lse, f.lse.bytes, f.lse.size);
    attend_plan_destroy(plan);
    for (int i = 0; i < LIMITS; i++) {
        const size_t limit = least + (size_t)(limits[i] * (double)(all - least));
        plan = plan_of(context, &f, limit, &again);
        const attend_cpu_box *box = &((const attend_cpu_plan *)plan->state)->box;
        if (bytes_of(plan) > limit || again != least)
            fail_msg("%s: limit %zu, the plan takes %zu, least %zu and then %zu", test_case_text(c, text), limit, bytes_of(plan), least, again);
        const int64_t heads = c->problem.batch * 2;
        if (heads > 1) seen[i][0][box->heads < heads]++;
        attend_explanation e;
        assert_int_equal(attend_plan_explain(plan, NULL, &e), ATTEND_OK);
        assert_true(box->is_part ? e.query_blocks >= 1 && e.key_parts >= e.query_blocks : e.query_blocks == 0);
        assert_true(box->keys >= KEYS || e.key_parts > e.query_blocks);
        seen[i][1][box->keys < KEYS]++, seen[LIMITS][0][box->queries < c->problem.seqlen_q]++;
        for (int in_ranges = 0; in_ranges < (i == 1 && !c->problem.packed ? 2 : 1); in_ranges++) {
            run(plan, context, &f, in_ranges);
            const bool same_out = !memcmp(out, f.out.bytes, f.out.size), same_lse = !memcmp(lse, f.lse.bytes, f.lse.size);
            if (!same_out || !same_lse)
                fail_msg("%s: %zu bytes, %lld heads, %lld queries by %lld keys%s: %s has other bits", test_case_text(c, text), limit,
                         (long long)box->heads, (long long)box->queries, (long long)box->keys, in_ranges ? ", in ranges" : "", same_out ? "lse" : "out");
        }
        attend_plan_destroy(plan);
    }
    const attend_plan_options short_of_one = {.memory_limit_bytes = least - 1};
    snprintf(sentence, sizeof sentence, "memory_limit_bytes is %zu, but the plan needs at least %zu bytes", least - 1, least);
    assert_int_equal(attend_attention_plan_with(context, &f.c.problem, &short_of_one, &plan), ATTEND_OUT_OF_MEMORY);
    assert_string_equal(attend_error_message(), sentence);
    free(out), free(lse);
    test_fixture_free(&f);
}

static void a_limit_changes_no_bit(void **state)
{
    (void)state;
    for (int shape = 0; shape < SHAPES; shape++) {
        attend_context *context;
        assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = shapes[shape].threads}, &context), ATTEND_OK);
        for (int i = -1; i < 0 || test_feature_setting(i); i++) {
            const test_case c = make_case(i, shape);
            if ((i + shape) % 2 == 0 && !c.problem.packed) continue;
            if (attend_problem_features(&c.problem) & ~test_supported(context)) continue;
            one_case(context, &c);
        }
        attend_context_destroy(context);
    }
    for (int i = 0; i < 2; i++) assert_true(seen[0][i][1] && seen[LIMITS - 1][i][0]);
    assert_true(seen[LIMITS][0][1]);
}

/* A layer's own memory is part of it. */
static void a_layer_has_a_least_too(void **state)
{
    enum { WIDTH = 32, ROWS = 2500 };
    static float w[WIDTH * WIDTH], x[ROWS * WIDTH], out[2][ROWS * WIDTH];
    const attend_problem p = {.batch = 1, .seqlen_q = ROWS, .num_heads = 2, .head_dim = 16, .hidden_size = WIDTH};
    attend_tensor square = {.data = w, .dtype = ATTEND_F32, .rank = 2, .shape = {WIDTH, WIDTH}, .stride = {WIDTH, 1}};
    const attend_layer_weights weights = {.wq = square, .wk = square, .wv = square, .wo = square};
    attend_context *context;
    attend_plan *plan;
    size_t least = 0, all = 0;
    (void)state;
    for (int i = 0; i < WIDTH * WIDTH; i++) w[i] = (float)((i * 37) % 19 - 9) / 16;
    for (int i = 0; i < ROWS * WIDTH; i++) x[i] = (float)((i * 53) % 31 - 15) / 8;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 2}, &context), ATTEND_OK);
    for (int i = 0; i < 2; i++) {
        const attend_plan_options options = {.memory_limit_bytes = i ? least : 0, .least_bytes = &least};
        if (attend_layer_plan_with(context, &p, &weights, &options, &plan)) fail_msg("%s", attend_error_message());
        const size_t bytes = bytes_of(plan);
        if (i) assert_true(bytes <= least && bytes < all);
        all = bytes;
        attend_tensor in = {.data = x, .dtype = ATTEND_F32, .rank = 3, .shape = {1, ROWS, WIDTH}, .stride = {ROWS * WIDTH, WIDTH, 1}}, to = in;
        to.data = out[i];
        const attend_layer_args args = {.x = in, .out = to};
        if (attend_layer_forward(plan, &args)) fail_msg("%s", attend_error_message());
        attend_plan_destroy(plan);
    }
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    const attend_plan_options none = {.memory_limit_bytes = least - 1};
    assert_int_equal(attend_layer_plan_with(context, &p, &weights, &none, &plan), ATTEND_OUT_OF_MEMORY);
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_limit_changes_no_bit), cmocka_unit_test(a_layer_has_a_least_too)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
