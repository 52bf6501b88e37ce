/* Plans: validated once, run many times. Each call here checks what the caller gave and hands it to the backend. */
#include "backend.h"
#include "count.h"

#include <stdlib.h>
#include <string.h>

/* Takes what the caller gave; on success *plan owns a plan, on failure it is NULL and nothing is kept. */
static attend_status create(attend_context *context, attend_operation operation, const attend_problem *problem,
                            size_t problem_bytes, const attend_layer_weights *weights, size_t weights_bytes,
                            attend_plan **plan)
{
    if (!plan) return attend_fail(ATTEND_INVALID_ARGUMENT, "plan is NULL");
    *plan = NULL;
    if (!context) return attend_fail(ATTEND_INVALID_ARGUMENT, "context is NULL");
    attend_plan made = {.context = context, .operation = operation};
    ATTEND_TRY(attend_problem_resolve(problem, problem_bytes, operation, &made.problem));
    if (operation == ATTEND_LAYER)
        ATTEND_TRY(attend_layer_weights_resolve(&made.problem, weights, weights_bytes, &made.weights));
    attend_plan *kept = malloc(sizeof *kept);
    if (!kept) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a plan");
    *kept = made;
    attend_status status = context->backend->plan_create(kept);
    if (status != ATTEND_OK) {
        free(kept);
        return status;
    }
    *plan = kept;
    return ATTEND_OK;
}

attend_status attend_attention_plan_sized(attend_context *context, const attend_problem *problem, size_t problem_bytes,
                                          attend_plan **plan)
{
    return create(context, ATTEND_ATTENTION, problem, problem_bytes, NULL, 0, plan);
}

attend_status attend_layer_plan_sized(attend_context *context, const attend_problem *problem, size_t problem_bytes,
                                      const attend_layer_weights *weights, size_t weights_bytes, attend_plan **plan)
{
    return create(context, ATTEND_LAYER, problem, problem_bytes, weights, weights_bytes, plan);
}

attend_status attend_plan_check(const attend_plan *plan, attend_operation operation)
{
    if (!plan) return attend_fail(ATTEND_INVALID_ARGUMENT, "plan is NULL");
    if (plan->operation != operation)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "the plan is for %s, this call runs %s",
                           plan->operation == ATTEND_LAYER ? "a layer" : "attention",
                           operation == ATTEND_LAYER ? "layers" : "attention");
    return ATTEND_OK;
}

attend_status attend_plan_begin(const attend_plan *plan)
{
    attend_watch *watch = &plan->context->watch;
    if (!watch->progress) return ATTEND_OK;
    const attend_work work = attend_count_work(&plan->problem, plan->operation == ATTEND_LAYER);
    return attend_watch_begin(watch, &work);
}

attend_status attend_plan_end(const attend_plan *plan)
{
    attend_watch *watch = &plan->context->watch;
    if (!watch->progress) return ATTEND_OK;
    ATTEND_TRY(plan->context->backend->synchronize(plan->context));
    attend_watch_end(watch);
    return ATTEND_OK;
}

attend_status attend_attention_forward_sized(attend_plan *plan, const attend_attention_args *args, size_t args_bytes)
{
    attend_attention_args resolved;
    ATTEND_TRY(attend_plan_check(plan, ATTEND_ATTENTION));
    ATTEND_TRY(attend_attention_args_resolve(&plan->problem, args, args_bytes, &resolved));
    ATTEND_TRY(attend_plan_begin(plan));
    ATTEND_TRY(plan->context->backend->attention_forward(plan, &resolved));
    return attend_plan_end(plan);
}

attend_status attend_layer_forward_sized(attend_plan *plan, const attend_layer_args *args, size_t args_bytes)
{
    attend_layer_args resolved;
    ATTEND_TRY(attend_plan_check(plan, ATTEND_LAYER));
    ATTEND_TRY(attend_layer_args_resolve(&plan->problem, args, args_bytes, &resolved));
    ATTEND_TRY(attend_plan_begin(plan));
    ATTEND_TRY(plan->context->backend->layer_forward(plan, &resolved));
    return attend_plan_end(plan);
}

attend_status attend_plan_memory_usage_sized(const attend_plan *plan, attend_plan_memory *memory, size_t memory_bytes)
{
    if (!plan) return attend_fail(ATTEND_INVALID_ARGUMENT, "plan is NULL");
    if (!memory) return attend_fail(ATTEND_INVALID_ARGUMENT, "memory is NULL");
    if (memory_bytes > sizeof *memory)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "memory has %zu bytes, this library (%s) knows %zu", memory_bytes,
                           attend_version(), sizeof *memory);
    memcpy(memory, &plan->memory, memory_bytes);
    return ATTEND_OK;
}

const char *attend_plan_kernel(const attend_plan *plan) { return plan ? plan->kernel : ""; }

void attend_plan_destroy(attend_plan *plan)
{
    if (!plan) return;
    plan->context->backend->plan_destroy(plan);
    free(plan);
}
