/* Calls refuse what they cannot work with: NULL, unknown instruction sets, plans beyond memory. */
#include "support/refusal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const attend_problem small = {.batch = 2, .seqlen_q = 3, .seqlen_k = 5, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8};

static void calls_refuse_null(void **state)
{
    (void)state;
    attend_problem p = small;
    attend_plan *plan = (attend_plan *)&p;
    attend_plan_memory usage;
    attend_attention_args args = {0};
    attend_context_options options = {.threads = -1};
    attend_context *context = (attend_context *)&p;
    test_expect_failure(attend_attention_plan(NULL, &p, &plan), ATTEND_INVALID_ARGUMENT, "context is NULL");
    assert_null(plan);
    test_expect_failure(attend_attention_plan(NULL, &p, NULL), ATTEND_INVALID_ARGUMENT, "plan is NULL");
    test_expect_failure(attend_rotary_compare(NULL, NULL, NULL, &(attend_rotary_comparison){.passed = false}), ATTEND_INVALID_ARGUMENT, "problem is NULL");
    test_expect_failure(attend_attention_forward(NULL, &args), ATTEND_INVALID_ARGUMENT, "plan is NULL");
    test_expect_failure(attend_plan_memory_usage(NULL, &usage), ATTEND_INVALID_ARGUMENT, "plan is NULL");
    test_expect_failure(attend_synchronize(NULL), ATTEND_INVALID_ARGUMENT, "context is NULL");
    test_expect_failure(attend_context_create(&options, &context), ATTEND_INVALID_ARGUMENT, "threads is -1");
    assert_null(context);
    options.threads = ATTEND_MAX_THREADS + 1;
    test_expect_failure(attend_context_create(&options, &context), ATTEND_INVALID_ARGUMENT, "threads is 4097, expected 0 to 4096");
    attend_comparison comparison;
    test_expect_failure(attend_compare(&p, &args, &(attend_compare_options){.threads = ATTEND_MAX_THREADS + 1}, &comparison), ATTEND_INVALID_ARGUMENT,
                   "threads is 4097, expected 0 to 4096");
    test_expect_failure(attend_context_create(NULL, NULL), ATTEND_INVALID_ARGUMENT, "context is NULL");
    attend_plan_destroy(NULL);
    attend_context_destroy(NULL);
}

static void questions_without_a_place_for_the_answer(void **state)
{
    (void)state;
    assert_int_equal(attend_problem_features(NULL), 0);
    assert_false(attend_kernel(0, NULL));
    assert_false(attend_kernel_resources_of(0, 0, NULL));
    assert_null(attend_feature_name(-1));
}

static void an_unknown_instruction_set_is_refused(void **state)
{
    (void)state;
    attend_context *context;
    const char *before = getenv("ATTEND_CPU_ISA");
    char kept[32] = "";
    snprintf(kept, sizeof kept, "%s", before ? before : "");
    setenv("ATTEND_CPU_ISA", "bogus", 1);
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU}, &context), ATTEND_INVALID_ARGUMENT);
#if defined(__x86_64__)
    assert_string_equal(attend_error_message(), "ATTEND_CPU_ISA=bogus is not one of avx512, avx2, portable, which this build has");
#endif
    if (before)
        setenv("ATTEND_CPU_ISA", kept, 1);
    else
        unsetenv("ATTEND_CPU_ISA");
}

static void plans_beyond_memory_say_how_much(void **state)
{
    (void)state;
    attend_context *context;
    attend_plan *plan;
    attend_problem p = small;
    p.seqlen_q = 1000, p.seqlen_k = (int64_t)1 << 50;
    unsigned long long bytes = 0;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU}, &context), ATTEND_OK);
    test_expect_failure(attend_attention_plan(context, &p, &plan), ATTEND_OUT_OF_MEMORY, "no memory for the plan's ");
    assert_int_equal(sscanf(attend_error_message(), "no memory for the plan's %llu bytes", &bytes), 1);
    /* So many queries have K and V packed, in fp32. */
    assert_true(bytes >= (unsigned long long)(p.batch * p.seqlen_k * p.num_kv_heads * p.head_dim * 2 * 4));
    /* Without a query there is nothing to compute, but batch entries are still counted. */
    p.batch = (int64_t)1 << 40, p.seqlen_q = p.seqlen_k = 0;
    test_expect_failure(attend_attention_plan(context, &p, &plan), ATTEND_OUT_OF_MEMORY, "bytes: batch is 1099511627776, num_heads ");
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_refuse_null),
        cmocka_unit_test(questions_without_a_place_for_the_answer),
        cmocka_unit_test(an_unknown_instruction_set_is_refused),
        cmocka_unit_test(plans_beyond_memory_say_how_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
