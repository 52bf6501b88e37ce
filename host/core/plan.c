/* Plans: validated once, run many times. Each call checks its arguments and calls the backend. */
#include "core/arguments.h"
#include "core/layer_arguments.h"
#include "core/backend.h"
#include "core/count.h"
#include "core/struct.h"

#include <stdlib.h>

static attend_status check_host_tensors(const attend_plan_options *options)
{
    const int given = options->host_tensors;
    if (given & ~ATTEND_HOST_ALL)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "host_tensors is %d, expected some of attend_host_tensors", given);
    if (given && options->caller_workspace)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "host_tensors is %d, but the plan is made with caller_workspace, which takes none",
                           given);
    return ATTEND_OK;
}

/* Makes a plan; on failure *plan is NULL and all memory is freed. */
static attend_status create(attend_context *context, attend_operation operation,
                            const attend_problem *problem, size_t problem_bytes,
                            const attend_layer_weights *weights, size_t weights_bytes,
                            const attend_plan_options *options, size_t options_bytes, attend_plan **plan)
{
    if (!plan) return attend_fail(ATTEND_INVALID_ARGUMENT, "plan is NULL");
    *plan = NULL;
    if (!context) return attend_fail(ATTEND_INVALID_ARGUMENT, "context is NULL");
    attend_plan made = {.context = context, .operation = operation};
    if (options)
        ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_plan_options), "options", &made.options, options,
                                      options_bytes));
    if (made.options.least_bytes) *made.options.least_bytes = 0; /* where there is no device memory */
    ATTEND_TRY(check_host_tensors(&made.options));
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
    context->plans++;
    *plan = kept;
    return ATTEND_OK;
}

attend_status attend_attention_plan_sized(attend_context *context, const attend_problem *problem,
                                          size_t problem_bytes, const attend_plan_options *options,
                                          size_t options_bytes, attend_plan **plan)
{
    return create(context, ATTEND_ATTENTION, problem, problem_bytes, NULL, 0, options, options_bytes, plan);
}

attend_status attend_layer_plan_sized(attend_context *context, const attend_problem *problem,
                                      size_t problem_bytes, const attend_layer_weights *weights,
                                      size_t weights_bytes, const attend_plan_options *options,
                                      size_t options_bytes, attend_plan **plan)
{
    return create(context, ATTEND_LAYER, problem, problem_bytes, weights, weights_bytes, options,
                  options_bytes, plan);
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

attend_status attend_plan_check_backward(const attend_plan *plan)
{
    if (plan->options.backward) return ATTEND_OK;
    return attend_fail(ATTEND_INVALID_ARGUMENT, "the plan was made without backward: it runs forward alone");
}

attend_status attend_plan_begin(const attend_plan *plan)
{
    attend_progress_tracker *tracker = &plan->context->tracker;
    if (!tracker->progress) return ATTEND_OK;
    const attend_work work = attend_count_work(&plan->problem, plan->operation == ATTEND_LAYER);
    return attend_progress_begin(tracker, &work);
}

attend_status attend_plan_end(const attend_plan *plan)
{
    attend_progress_tracker *tracker = &plan->context->tracker;
    if (!tracker->progress) return ATTEND_OK;
    ATTEND_TRY(plan->context->backend->synchronize(plan->context));
    attend_progress_end(tracker);
    return ATTEND_OK;
}

enum { WORKSPACE_ALIGNMENT = 256 };

attend_status attend_run_read(const attend_context *context, const attend_run *run, size_t bytes,
                              attend_run *r)
{
    *r = (attend_run){0};
    if (run) ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_run), "run", r, run, bytes));
    if (r->stream && context->backend->device != ATTEND_CUDA)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "stream is given, but the context is not on CUDA");
    return ATTEND_OK;
}

attend_status attend_plan_run_read(const attend_plan *plan, const attend_run *run, size_t bytes,
                                   attend_run *r)
{
    const size_t needed = plan->memory.run_workspace_bytes;
    ATTEND_TRY(attend_run_read(plan->context, run, bytes, r));
    if (!plan->options.caller_workspace) {
        if (!r->workspace && r->workspace_bytes == 0) return ATTEND_OK;
        return attend_fail(
            ATTEND_INVALID_ARGUMENT,
            "workspace is given, but the plan has its own: it was made without caller_workspace");
    }
    if (r->workspace_bytes < needed)
        return attend_fail(
            ATTEND_INVALID_ARGUMENT,
            "workspace_bytes is %zu, but the plan was made with caller_workspace and a run needs %zu",
            r->workspace_bytes, needed);
    if (needed && !r->workspace)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "workspace is NULL, but workspace_bytes is %zu",
                           r->workspace_bytes);
    if (needed && (uintptr_t)r->workspace % WORKSPACE_ALIGNMENT)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "workspace is not at a multiple of %d bytes",
                           WORKSPACE_ALIGNMENT);
    return ATTEND_OK;
}

attend_status attend_attention_run_sized(attend_plan *plan, const attend_attention_args *args,
                                         size_t args_bytes, size_t features_bytes, const attend_run *run,
                                         size_t run_bytes)
{
    attend_attention_args resolved;
    attend_feature_args features;
    attend_key_part part;
    attend_run r;
    ATTEND_TRY(attend_plan_check(plan, ATTEND_ATTENTION));
    ATTEND_TRY(attend_attention_args_read(args, args_bytes, features_bytes, &resolved, &features));
    ATTEND_TRY(attend_attention_args_resolve(&plan->problem, attend_plan_key_span(plan), &resolved, &features,
                                             &part));
    ATTEND_TRY(attend_plan_run_read(plan, run, run_bytes, &r));
    ATTEND_TRY(attend_plan_begin(plan));
    ATTEND_TRY(plan->context->backend->attention_forward(plan, &resolved, &part, &r));
    return attend_plan_end(plan);
}

attend_status attend_layer_run_sized(attend_plan *plan, const attend_layer_args *args, size_t args_bytes,
                                     size_t features_bytes, const attend_run *run, size_t run_bytes)
{
    attend_layer_args resolved;
    attend_feature_args features;
    attend_cache cache;
    attend_run r;
    ATTEND_TRY(attend_plan_check(plan, ATTEND_LAYER));
    ATTEND_TRY(attend_layer_args_read(&plan->problem, args, args_bytes, features_bytes, &resolved, &features,
                                      &cache));
    ATTEND_TRY(attend_layer_args_resolve(&plan->problem, &plan->weights, &resolved, &features, &cache));
    ATTEND_TRY(attend_plan_run_read(plan, run, run_bytes, &r));
    ATTEND_TRY(attend_plan_begin(plan));
    ATTEND_TRY(plan->context->backend->layer_forward(plan, &resolved, &r));
    return attend_plan_end(plan);
}

attend_status attend_plan_memory_usage_sized(const attend_plan *plan, attend_plan_memory *memory,
                                             size_t memory_bytes)
{
    if (!plan) return attend_fail(ATTEND_INVALID_ARGUMENT, "plan is NULL");
    ATTEND_TRY(attend_struct_check(ATTEND_STRUCT(attend_plan_memory), "memory", memory, memory_bytes));
    attend_struct_write(ATTEND_STRUCT(attend_plan_memory), memory, memory_bytes, &plan->memory);
    return ATTEND_OK;
}

int64_t attend_plan_key_span(const attend_plan *plan)
{
    if (!plan || plan->operation != ATTEND_ATTENTION || !plan->context->backend->key_span) return 0;
    return plan->context->backend->key_span(plan);
}

const char *attend_plan_kernel(const attend_plan *plan) { return plan ? plan->kernel : ""; }

void attend_plan_destroy(attend_plan *plan)
{
    if (!plan) return;
    plan->context->backend->plan_destroy(plan);
    plan->context->plans--;
    free(plan);
}
