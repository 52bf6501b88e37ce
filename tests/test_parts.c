/* Keys in parts and queries in blocks give the bits of one run over all of them: whatever the parts, the schedule, the features and
   where the state lies; and so do states of single spans that are merged. No part reads a key or a query outside of it. */
#include "support/feature_cases.h"
#include "support/parts.h"
#include "support/plans.h"
#include "cpu/cpu.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Of each schedule of the CPU; other devices take them as shapes alone. Keys are two spans and 452. */
static const struct schedule {
    int64_t seqlen_q;
    int threads;
    attend_cpu_schedule schedule;
} schedules[] = {{150, 1, ATTEND_CPU_WHOLE}, {40, 24, ATTEND_CPU_SPLIT}, {3, 2, ATTEND_CPU_DECODE}};

/* Where parts end before the last key: multiples of a span, END for all keys. The last part finishes. */
enum { END = 9, MOST_CUTS = 5 };
/* Where blocks of queries end before the last. */
enum { MOST_BLOCKS = 3 };
static const int64_t whole[MOST_BLOCKS], blocks[][MOST_BLOCKS] = {{1, 97}, {33}, {2, 2}};
static const int cuts[][MOST_CUTS] = {{1}, {1, 2}, {2, 2, END}, {1, 1, 2, END, END}};
enum { CUTS = sizeof cuts / sizeof *cuts, CASES = 3 * 40 };

/* Every setting of every feature that goes in parts, in each schedule; every other one with causality, with lengths. */
static int make_cases(test_case cases[CASES], int schedule_of[CASES], uint64_t supported, int64_t span)
{
    static const test_layout layouts[] = {LAYOUT_BSHD, LAYOUT_BHSD, LAYOUT_PADDED, LAYOUT_FUSED};
    static const attend_values values[] = {ATTEND_VALUES_GAUSS, ATTEND_VALUES_ASCEND, ATTEND_VALUES_SHARP};
    int count = 0;
    for (int i = -1; i < 0 || test_feature_setting(i); i++)
        for (int s = 0; s < 3; s++) {
            const int n = 3 * (i + 1) + s;
            test_case c = {
                .problem = {.batch = 1 + n % 2, .seqlen_q = schedules[s].seqlen_q, .seqlen_k = 2 * span + 452, .num_heads = 4,
                            .num_kv_heads = 2, .head_dim = 24, .head_dim_v = 40, .dtype = (attend_dtype)((i + 1 + s) % 3)},
                .values = values[n % 3], .layout = layouts[n % 4], .lengths = i % 2 == 0, .seed = (uint64_t)n + 77,
            };
            if (i >= 0) test_setting_apply(test_feature_setting(i), &c.problem);
            snprintf(c.features, sizeof c.features, "%s", i < 0 ? "" : test_feature_setting(i)->name);
            if (i % 2 == 0 && c.problem.causal == 0) c.problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
            if (c.problem.packed || attend_problem_features(&c.problem) & ~supported) continue;
            if (c.problem.sinks) c.lengths = false; /* a merge knows no lengths: an absent query has its sink there */
            schedule_of[count] = s, cases[count++] = c;
        }
    return count;
}

static attend_context *context_of(int schedule)
{
    attend_context *context = test_context();
    if (attend_context_device(context) != ATTEND_CPU) return context;
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = schedules[schedule].threads}, &context), 0);
    return context;
}

/* What a run over all keys gave, and its repetition in other ways. */
typedef struct twice {
    test_fixture f;
    attend_plan *plan;
    attend_context *context;
    unsigned char *out, *lse;
} twice;

static void forget(twice *t) { memset(t->f.out.bytes, 0xff, t->f.out.size), memset(t->f.lse.bytes, 0xff, t->f.lse.size); }

static void expect_same(const twice *t, const char *how)
{
    char text[TEST_CASE_TEXT];
    if (memcmp(t->out, t->f.out.bytes, t->f.out.size)) fail_msg("%s: %s: out has other bits", test_case_text(&t->f.c, text), how);
    if (memcmp(t->lse, t->f.lse.bytes, t->f.lse.size)) fail_msg("%s: %s: lse has other bits", test_case_text(&t->f.c, text), how);
}

/* What a state has of queries that are not there is not read. */
static void forget_absent(const twice *t, int64_t first_query, const attend_state *state)
{
    const attend_tensor *sum = &state->sum;
    for (int64_t b = 0; b < sum->shape[0] && t->f.seqlens_q; b++)
        for (int64_t h = 0; h < sum->shape[1]; h++)
            for (int64_t i = t->f.seqlens_q[b] > first_query ? t->f.seqlens_q[b] - first_query : 0; i < sum->shape[2]; i++)
                ((float *)sum->data)[b * sum->stride[0] + h * sum->stride[1] + i * sum->stride[2]] = NAN;
}

static void block_in_parts(twice *t, const int64_t queries[2], const int *ends, bool in_place)
{
    attend_problem block = t->f.problem;
    const int64_t span = attend_plan_key_span(t->plan), all = t->f.problem.seqlen_k;
    test_state states[2];
    int64_t first = 0;
    const attend_state *from = NULL;
    block.seqlen_q = queries[1] - queries[0];
    for (int i = 0; i < 2; i++) states[i] = test_state_make(&block, i == 1);
    for (int i = 0; i < MOST_CUTS && ends[i]; i++) {
        const attend_state *into = &states[in_place ? 1 : i % 2].state;
        const int64_t end = ends[i] == END ? all : ends[i] * span;
        test_part_run_block(t->plan, t->context, &t->f, queries, (int64_t[]){first, end}, from, into);
        forget_absent(t, queries[0], into);
        first = end, from = into;
    }
    test_part_run_block(t->plan, t->context, &t->f, queries, (int64_t[]){first, all}, from, NULL);
    for (int i = 0; i < 2; i++) test_state_free(&states[i]);
}

static void in_parts(twice *t, const int64_t *block_ends, const int *ends, bool in_place, const char *how)
{
    const int64_t all = t->f.problem.seqlen_q;
    int64_t queries[2] = {0, 0};
    forget(t);
    for (int i = 0; queries[1] < all; i++, queries[0] = queries[1]) {
        queries[1] = i < MOST_BLOCKS && block_ends[i] ? block_ends[i] : all;
        block_in_parts(t, queries, ends, in_place);
    }
    expect_same(t, how);
}

static void merged(twice *t)
{
    enum { SPANS = 3, MANY = 5 * SPANS };
    const int64_t span = attend_plan_key_span(t->plan), all = t->f.problem.seqlen_k;
    const attend_problem *p = &t->f.problem;
    test_state made[SPANS], total = test_state_make(p, true);
    attend_state states[SPANS];
    for (int i = 0; i < SPANS; i++) {
        const int64_t end = (i + 1) * span < all ? (i + 1) * span : all;
        made[i] = test_state_make(p, i == 1), states[i] = made[i].state;
        test_part_run(t->plan, t->context, &t->f, i * span, end, NULL, &states[i]);
    }
    /* Empty states between them change nothing, however many. */
    test_state nothing = test_state_make(p, false);
    test_part_run(t->plan, t->context, &t->f, all, all, NULL, &nothing.state);
    attend_state spread[MANY];
    for (int i = 0; i < MANY; i++) spread[i] = i % 5 == 1 ? states[i / 5] : nothing.state;
    attend_merge_args args = {.states = spread, .count = MANY, .out = t->f.args.out, .lse = t->f.args.lse, .sinks = t->f.features.sinks};
    forget(t);
    if (attend_merge(t->context, &t->f.c.problem, &args, NULL) || attend_synchronize(t->context)) fail_msg("%s", attend_error_message());
    expect_same(t, "spans merged");
    /* in two steps, the second into one of its own states; then a run over no key finishes */
    attend_merge_args first = {.states = states, .count = 2, .into = &total.state};
    const attend_state both[] = {total.state, states[2]};
    attend_merge_args second = {.states = both, .count = 2, .into = &total.state};
    forget(t);
    if (attend_merge(t->context, &t->f.c.problem, &first, NULL) || attend_merge(t->context, &t->f.c.problem, &second, NULL)) fail_msg("%s", attend_error_message());
    test_part_run(t->plan, t->context, &t->f, all, all, &total.state, NULL);
    expect_same(t, "spans merged in two steps");
    for (int i = 0; i < SPANS; i++) test_state_free(&made[i]);
    test_state_free(&total), test_state_free(&nothing);
}

static void parts_give_the_bits_of_one_run(void **state)
{
    (void)state;
    test_case cases[CASES];
    int schedule_of[CASES];
    attend_context *contexts[3];
    attend_plan *plan;
    for (int s = 0; s < 3; s++) contexts[s] = context_of(s);
    const bool on_cpu = attend_context_device(contexts[0]) == ATTEND_CPU;
    assert_int_equal(test_attention_plan(contexts[0], &(attend_problem){.batch = 1, .seqlen_q = 1, .seqlen_k = 1, .num_heads = 1, .head_dim = 8}, &plan), 0);
    const int64_t span = attend_plan_key_span(plan);
    attend_plan_destroy(plan);
    assert_int_equal(attend_plan_key_span(NULL), 0);
    if (on_cpu) assert_int_equal(span, ATTEND_CPU_SPAN);
    const int count = span > 1 ? make_cases(cases, schedule_of, test_supported(contexts[0]), span) : 0; /* the reference rounds its states */
    const int step = getenv("ATTEND_TEST_SHORT") ? 7 : 1; /* schedules, dtypes and layouts all come by */
    for (int n = 0; n < count; n += step) {
        twice t = {.context = contexts[schedule_of[n]]};
        char text[TEST_CASE_TEXT];
        test_fixture_make(&t.f, &cases[n]);
        if (test_attention_plan(t.context, &t.f.c.problem, &t.plan) || attend_attention_forward(t.plan, &t.f.args) || attend_synchronize(t.context))
            fail_msg("%s: %s", test_case_text(&t.f.c, text), attend_error_message());
        if (on_cpu) assert_int_equal(((attend_cpu_plan *)t.plan->state)->schedule, schedules[schedule_of[n]].schedule);
        t.out = malloc(t.f.out.size), t.lse = malloc(t.f.lse.size);
        memcpy(t.out, t.f.out.bytes, t.f.out.size), memcpy(t.lse, t.f.lse.bytes, t.f.lse.size);
        for (int i = n % 2; i < CUTS; i += 2) {
            char how[64];
            const bool in_place = (n / 2 + i) % 2, in_blocks = (n / 4 + i / 2) % 2;
            snprintf(how, sizeof how, "parts %d%s%s", i, in_place ? ", in place" : "", in_blocks ? ", blocks of queries" : "");
            in_parts(&t, in_blocks ? blocks[schedule_of[n]] : whole, cuts[i], in_place, how);
        }
        merged(&t);
        free(t.out), free(t.lse);
        attend_plan_destroy(t.plan);
        test_fixture_free(&t.f);
    }
    for (int s = 0; s < 3; s++) attend_context_destroy(contexts[s]);
}

/* Its states round, so that only its queries are cut. */
static void the_reference_takes_blocks_of_queries(void **state)
{
    (void)state;
    static const int all_keys[MOST_CUTS];
    test_case cases[CASES];
    int schedule_of[CASES];
    twice t;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_REFERENCE}, &t.context)) fail_msg("%s", attend_error_message());
    const int count = make_cases(cases, schedule_of, UINT64_MAX, 1);
    for (int n = 1; n < count; n += 6) { /* 40 queries */
        cases[n].problem.seqlen_k = 90;
        test_fixture_make(&t.f, &cases[n]);
        if (test_attention_plan(t.context, &t.f.c.problem, &t.plan) || attend_attention_forward(t.plan, &t.f.args)) fail_msg("%s", attend_error_message());
        t.out = malloc(t.f.out.size), t.lse = malloc(t.f.lse.size);
        memcpy(t.out, t.f.out.bytes, t.f.out.size), memcpy(t.lse, t.f.lse.bytes, t.f.lse.size);
        in_parts(&t, blocks[1], all_keys, false, "blocks of queries");
        free(t.out), free(t.lse);
        attend_plan_destroy(t.plan);
        test_fixture_free(&t.f);
    }
    attend_context_destroy(t.context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts_give_the_bits_of_one_run), cmocka_unit_test(the_reference_takes_blocks_of_queries)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
