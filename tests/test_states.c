/* States are numbers with a meaning of their own: parts on the reference, parts wider than a span merged, and states that one device
   left and another takes up, are within both rules of docs/numerics.md; what a state holds is what its header says. */
#include "support/feature_cases.h"
#include "support/parts.h"
#include "support/plans.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

typedef struct device {
    attend_context *context;
    attend_plan *plan;
} device;

/* ATTEND_TEST_DEVICE, beside the reference. */
static attend_device tested(void)
{
    attend_context *context = test_context();
    const attend_device which = attend_context_device(context);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
    return which;
}

static void open_device(device *d, attend_device which, const test_fixture *f)
{
    if (attend_context_create(&(attend_context_options){.device = which}, &d->context) || test_attention_plan(d->context, &f->c.problem, &d->plan))
        fail_msg("%s", attend_error_message());
}

static void close_device(device *d)
{
    attend_plan_destroy(d->plan);
    assert_int_equal(attend_context_destroy(d->context), ATTEND_OK);
}

/* Left by the first device, taken up by the second. */
static void carried(test_fixture *f, device *a, device *b, int64_t cut)
{
    test_state s = test_state_make(&f->problem, true);
    test_part_run(a->plan, a->context, f, 0, cut, NULL, &s.state);
    test_part_run(b->plan, b->context, f, cut, f->problem.seqlen_k, &s.state, NULL);
    test_state_free(&s);
    test_fixture_check(f);
}

/* One part of each device, merged by the third. */
static void merged(test_fixture *f, device *a, device *b, device *c, int64_t cut)
{
    test_state s[2] = {test_state_make(&f->problem, false), test_state_make(&f->problem, true)};
    const attend_state states[] = {s[0].state, s[1].state};
    test_part_run(a->plan, a->context, f, 0, cut, NULL, &states[0]);
    test_part_run(b->plan, b->context, f, cut, f->problem.seqlen_k, NULL, &states[1]);
    const attend_merge_args args = {.states = states, .count = 2, .out = f->args.out, .lse = f->args.lse, .sinks = f->features.sinks};
    if (attend_merge(c->context, &f->c.problem, &args, NULL) || attend_synchronize(c->context)) fail_msg("%s", attend_error_message());
    for (int i = 0; i < 2; i++) test_state_free(&s[i]);
    test_fixture_check(f);
}

static void states_are_within_the_rules(void **state)
{
    (void)state;
    for (int i = 0; test_feature_setting(i); i++) {
        test_case c = {.problem = {.batch = 1, .seqlen_q = 33, .seqlen_k = 1300, .num_heads = 2, .num_kv_heads = 1, .head_dim = 24, .head_dim_v = 40,
                                   .dtype = (attend_dtype)(i % 3)},
                       .values = i % 2 ? ATTEND_VALUES_GAUSS : ATTEND_VALUES_SHARP, .seed = (uint64_t)i};
        test_setting_apply(test_feature_setting(i), &c.problem);
        if (c.problem.packed) continue;
        if (i % 4 == 1 && c.problem.causal == 0) c.problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
        snprintf(c.features, sizeof c.features, "%s", test_feature_setting(i)->name);
        test_fixture f;
        device own, exact;
        test_fixture_make(&f, &c);
        open_device(&own, tested(), &f), open_device(&exact, ATTEND_REFERENCE, &f);
        assert_int_equal(attend_plan_key_span(exact.plan), 1);
        switch (i % 5) {
        case 0: carried(&f, &exact, &exact, 501); break;
        case 1: carried(&f, &exact, &own, 1024); break;
        case 2: carried(&f, &own, &exact, 1024); break;
        case 3: merged(&f, &exact, &exact, &own, 700); break;
        default: merged(&f, &own, &exact, &exact, 1024);
        }
        close_device(&own), close_device(&exact);
        test_fixture_free(&f);
    }
}

/* A state goes on through a range of keys that no query sees, and into one whose spans go to blocks of their own. */
static void a_state_goes_on_whatever_the_range(void **state)
{
    (void)state;
    static const struct {
        int64_t queries, keys;
        attend_causal causal;
    } ranges[] = {{40, 1100, ATTEND_CAUSAL_TOP_LEFT}, {5, 1100, ATTEND_CAUSAL_TOP_LEFT}, {5, 3100, ATTEND_CAUSAL_NONE}};
    for (int n = 0; n < 9; n++) {
        test_case c = {.problem = {.batch = 1, .seqlen_q = ranges[n / 3].queries, .seqlen_k = ranges[n / 3].keys, .num_heads = 2, .head_dim = 32,
                                   .dtype = (attend_dtype)(n % 3), .causal = ranges[n / 3].causal},
                       .values = ATTEND_VALUES_GAUSS, .seed = (uint64_t)n};
        test_fixture f;
        device d;
        test_fixture_make(&f, &c);
        open_device(&d, tested(), &f);
        carried(&f, &d, &d, 1024);
        close_device(&d);
        test_fixture_free(&f);
    }
}

/* Two spans against three, each wide part merged as one. */
static void wide_parts_merge_within_the_rules(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 3; dtype++) {
        test_case c = {.problem = {.batch = 1, .seqlen_q = 20, .seqlen_k = 5000, .num_heads = 2, .head_dim = 32, .dtype = (attend_dtype)dtype, .sinks = true},
                       .values = ATTEND_VALUES_ASCEND, .seed = 5};
        test_fixture f;
        device d;
        test_fixture_make(&f, &c);
        open_device(&d, tested(), &f);
        merged(&f, &d, &d, &d, 2048);
        close_device(&d);
        test_fixture_free(&f);
    }
}

/* One key of value v and score s leaves max near s·log2 e, sum 2^(s·log2 e - max) and out v times that; no key leaves 0, -infinity and 0. */
static void a_state_is_what_its_header_says(void **state)
{
    (void)state;
    const attend_device devices[] = {tested(), ATTEND_REFERENCE};
    for (int i = 0; i < 2; i++) {
        test_case c = {.problem = {.batch = 2, .seqlen_q = 3, .seqlen_k = 1, .num_heads = 2, .head_dim = 8, .softmax_scale = 0.7f}, .values = ATTEND_VALUES_SHARP, .seed = 9};
        test_fixture f;
        device d;
        test_fixture_make(&f, &c);
        open_device(&d, devices[i], &f);
        for (int keys = 1; keys >= 0; keys--) {
            test_state s = test_state_make(&f.problem, false);
            test_part_run(d.plan, d.context, &f, 1 - keys, 1, NULL, &s.state);
            for (int64_t n = 0; n < 2 * 3 * 2; n++) { /* batch, query, head */
                const float *q = (float *)f.q.tensor.data + n * 8, *k = (float *)f.k.tensor.data + (n / 6 * 2 + n % 2) * 8, *v = (float *)f.v.tensor.data + (n / 6 * 2 + n % 2) * 8;
                const int64_t at = (n / 6 * 2 + n % 2) * 3 + n / 2 % 3;
                const double max = ((float *)s.state.max.data)[at], sum = ((float *)s.state.sum.data)[at];
                double score = 0;
                for (int j = 0; j < 8; j++) score += (double)q[j] * k[j];
                const double weight = keys ? exp2(score * (double)0.7f * 1.4426950408889634 - max) : 0;
                assert_true(keys ? fabs(max - score * (double)0.7f * 1.4426950408889634) <= 8 : max == -INFINITY);
                assert_float_equal(sum, weight, 1e-4 * weight);
                for (int j = 0; j < 8; j++) assert_float_equal(((float *)s.state.out.data)[n * 8 + j], weight * v[j], 1e-4 * weight * fabs(v[j]));
            }
            test_state_free(&s);
        }
        close_device(&d);
        test_fixture_free(&f);
    }
}

/* Of no state: what a query gives that sees no key. */
static void nothing_merges_to_nothing(void **state)
{
    (void)state;
    const attend_device devices[] = {tested(), ATTEND_REFERENCE};
    for (int i = 0; i < 2; i++) {
        attend_context *context;
        float out[2 * 3 * 2 * 600], lse[2 * 2 * 3], sinks[2] = {0.5f, -2};
        attend_problem p = {.batch = 2, .seqlen_q = 3, .seqlen_k = 4, .num_heads = 2, .num_kv_heads = 1, .head_dim = 600};
        attend_merge_args args = {.out = attend_tensor_4d(out, ATTEND_F32, 2, 3, 2, 600), .lse = attend_tensor_3d(lse, ATTEND_F32, 2, 2, 3)};
        assert_int_equal(attend_context_create(&(attend_context_options){.device = devices[i]}, &context), ATTEND_OK);
        for (int with = 0; with < 2; with++) {
            memset(out, 0xff, sizeof out), memset(lse, 0xff, sizeof lse);
            assert_int_equal(attend_merge(context, &p, &args, NULL), ATTEND_OK);
            for (size_t n = 0; n < sizeof out / sizeof *out; n++) assert_true(out[n] == 0);
            for (int n = 0; n < 12; n++) assert_true(with ? fabsf(lse[n] - sinks[n / 3 % 2]) < 1e-6f : lse[n] == -INFINITY);
            p.sinks = true, args.sinks = attend_tensor_1d(sinks, ATTEND_F32, 2);
        }
        assert_int_equal(attend_context_destroy(context), ATTEND_OK);
    }
}

/* More columns than a merge takes at a time, into one of its own states, beside the same into another. */
static void wide_values_merge_in_place(void **state)
{
    (void)state;
    enum { DIM = 1100 };
    const attend_device devices[] = {tested(), ATTEND_REFERENCE};
    for (int i = 0; i < 2; i++) {
        attend_context *context;
        attend_problem p = {.batch = 1, .seqlen_q = 2, .seqlen_k = 4, .num_heads = 1, .head_dim = 8, .head_dim_v = DIM};
        test_state s[3];
        for (int n = 0; n < 3; n++) {
            s[n] = test_state_make(&p, false);
            for (int q = 0; q < 2; q++) {
                for (int c = 0; c < DIM; c++) ((float *)s[n].state.out.data)[q * DIM + c] = (float)(n + q + c) / 64;
                ((float *)s[n].state.max.data)[q] = (float)(3 * n - q), ((float *)s[n].state.sum.data)[q] = (float)(1 + n);
            }
        }
        const attend_state states[] = {s[0].state, s[1].state};
        assert_int_equal(attend_context_create(&(attend_context_options){.device = devices[i]}, &context), ATTEND_OK);
        assert_int_equal(attend_merge(context, &p, &(attend_merge_args){.states = states, .count = 2, .into = &s[2].state}, NULL), ATTEND_OK);
        assert_int_equal(attend_merge(context, &p, &(attend_merge_args){.states = states, .count = 2, .into = &s[1].state}, NULL), ATTEND_OK);
        assert_memory_equal(s[1].state.out.data, s[2].state.out.data, 2 * DIM * sizeof(float));
        assert_memory_equal(s[1].state.max.data, s[2].state.max.data, 2 * sizeof(float));
        assert_memory_equal(s[1].state.sum.data, s[2].state.sum.data, 2 * sizeof(float));
        for (int n = 0; n < 3; n++) test_state_free(&s[n]);
        assert_int_equal(attend_context_destroy(context), ATTEND_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_are_within_the_rules), cmocka_unit_test(a_state_goes_on_whatever_the_range), cmocka_unit_test(wide_parts_merge_within_the_rules), cmocka_unit_test(a_state_is_what_its_header_says),
        cmocka_unit_test(nothing_merges_to_nothing),   cmocka_unit_test(wide_values_merge_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
