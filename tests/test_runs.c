/* What a run may bring: nothing but zeros where the context is no CUDA device and the plan has its own workspace; and that contexts
   outlive their plans. On any device. */
#include "support/fixture.h"
#include "support/refusal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 5, DIM = 8 };

static const attend_problem problem = {.batch = 1, .seqlen_q = ROWS, .seqlen_k = ROWS, .num_heads = 1, .head_dim = DIM};

static attend_tensor heads(float *data) { return attend_tensor_4d(data, ATTEND_F32, 1, ROWS, 1, DIM); }

/* Every sentence that refuses a run; `own`: the plan has its own workspace. */
static void what_a_run_may_not_bring(void **state)
{
    (void)state;
    static float in[ROWS * DIM];
    static _Alignas(256) char memory[512];
    const struct {
        bool own;
        attend_run run;
        const char *sentence;
    } cases[] = {
        {true, {.workspace = memory}, "workspace is given, but the plan has its own: it was made without caller_workspace"},
        {true, {.workspace_bytes = 1}, "workspace is given, but the plan has its own: it was made without caller_workspace"},
        {true, {.stream = (struct CUstream_st *)(void *)memory}, "stream is given, but the context is not on CUDA"},
        {false, {.stream = (struct CUstream_st *)(void *)memory}, "stream is given, but the context is not on CUDA"},
    };
    attend_context *context = test_context();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float out[ROWS * DIM];
        attend_plan *plan;
        assert_int_equal(attend_attention_plan_with(context, &problem, &(attend_plan_options){.caller_workspace = !cases[i].own}, &plan), ATTEND_OK);
        memset(out, 0x5a, sizeof out);
        const attend_attention_args args = {.q = heads(in), .k = heads(in), .v = heads(in), .out = heads(out)};
        test_expect_failure(attend_attention_run(plan, &args, &cases[i].run), ATTEND_INVALID_ARGUMENT, cases[i].sentence);
        for (size_t b = 0; b < sizeof out; b++) assert_int_equal(((unsigned char *)out)[b], 0x5a);
        attend_plan_destroy(plan);
    }
    attend_context_destroy(context);
}

/* A program that brings what run_workspace_bytes asks for works on every device: on this one that is nothing. */
static void runs_need_no_workspace_here(void **state)
{
    (void)state;
    float in[ROWS * DIM], expected[ROWS * DIM], out[ROWS * DIM];
    attend_context *context = test_context();
    attend_plan *own, *callers;
    attend_plan_memory memory;
    for (int i = 0; i < ROWS * DIM; i++) in[i] = (float)(i * 37 % 19) / 19 - 0.5f;
    assert_int_equal(attend_attention_plan_with(context, &problem, NULL, &own), ATTEND_OK);
    assert_int_equal(attend_attention_plan_with(context, &problem, &(attend_plan_options){.caller_workspace = true}, &callers), ATTEND_OK);
    assert_int_equal(attend_plan_memory_usage(callers, &memory), ATTEND_OK);
    assert_int_equal(memory.run_workspace_bytes, 0);
    attend_attention_args args = {.q = heads(in), .k = heads(in), .v = heads(in), .out = heads(expected)};
    assert_int_equal(attend_attention_run(own, &args, NULL), ATTEND_OK);
    args.out = heads(out);
    assert_int_equal(attend_attention_run(callers, &args, &(attend_run){.workspace_bytes = memory.run_workspace_bytes}), ATTEND_OK);
    assert_memory_equal(out, expected, sizeof out);
    attend_plan_destroy(own), attend_plan_destroy(callers);
    attend_context_destroy(context);
}

/* Refused, not freed below its plans; and a plan that could not be made does not count. */
static void a_context_outlives_its_plans(void **state)
{
    (void)state;
    attend_context *context = test_context();
    attend_problem wrong = problem;
    attend_plan *plans[2];
    for (int i = 0; i < 2; i++) assert_int_equal(attend_attention_plan(context, &problem, &plans[i]), ATTEND_OK);
    test_expect_failure(attend_context_destroy(context), ATTEND_INVALID_ARGUMENT, "the context still has 2 plans: destroy plans before their context");
    attend_plan_destroy(plans[0]);
    test_expect_failure(attend_context_destroy(context), ATTEND_INVALID_ARGUMENT, "the context still has 1 plan: destroy plans before their context");
    attend_plan_destroy(plans[1]);
    wrong.head_dim = 0;
    assert_int_equal(attend_attention_plan(context, &wrong, &plans[0]), ATTEND_INVALID_ARGUMENT);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
    assert_int_equal(attend_context_destroy(NULL), ATTEND_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_run_may_not_bring),
        cmocka_unit_test(runs_need_no_workspace_here),
        cmocka_unit_test(a_context_outlives_its_plans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
