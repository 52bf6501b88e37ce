/* Plans whose tensors lie on the host, whatever device a test runs on. */
#ifndef ATTEND_TEST_SUPPORT_PLANS_H
#define ATTEND_TEST_SUPPORT_PLANS_H

#include <attend/attend.h>

static const attend_plan_options test_on_host = {.host_tensors = ATTEND_HOST_ALL};

static inline attend_status test_attention_plan(attend_context *context, const attend_problem *problem, attend_plan **plan)
{
    return attend_attention_plan_with(context, problem, &test_on_host, plan);
}

static inline attend_status test_layer_plan(attend_context *context, const attend_problem *problem, const attend_layer_weights *weights,
                                            attend_plan **plan)
{
    return attend_layer_plan_with(context, problem, weights, &test_on_host, plan);
}

#endif
