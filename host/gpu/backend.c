/* The CUDA backend's function table, and its plans: the kernel rows that will run and all memory that a run
   needs. */
#include "gpu/gpu.h"
#include "gpu/range.h"

#include <stdio.h>
#include <stdlib.h>

static attend_status choose_kernels(attend_plan *plan)
{
    attend_gpu_plan *own = plan->state;
    const char *forced = getenv("ATTEND_KERNEL");
    own->forced = forced != NULL;
    ATTEND_TRY(attend_gpu_select_kernel(own->gpu, &plan->problem, true, forced, &own->row));
    ATTEND_TRY(attend_gpu_select_kernel(own->gpu, &plan->problem, false, forced, &own->row_any));
    ATTEND_TRY(attend_gpu_check(own->row->prepare(), "cudaFuncSetAttribute"));
    ATTEND_TRY(attend_gpu_check(own->row_any->prepare(), "cudaFuncSetAttribute"));
    if (plan->options.backward) {
        attend_gpu_backward *b = &own->backward;
        ATTEND_TRY(attend_gpu_select_backward(own->gpu, &plan->problem, true, &b->row));
        ATTEND_TRY(attend_gpu_select_backward(own->gpu, &plan->problem, false, &b->row_any));
        ATTEND_TRY(attend_gpu_check(b->row->prepare(), "cudaFuncSetAttribute"));
        ATTEND_TRY(attend_gpu_check(b->row_any->prepare(), "cudaFuncSetAttribute"));
    }
    const attend_kernel_info *info = &own->row->info;
    snprintf(plan->kernel, sizeof plan->kernel, "%s, tiles of %d queries by %d keys", info->name,
             info->tile_q, info->tile_k);
    return ATTEND_OK;
}

void attend_gpu_reserve_fixed(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const attend_kernel_row *const rows[2] = {own->row, own->row_any};
    attend_gpu_reserve_features(plan, arenas);
    if (!own->offload.blocks.partials_of_box)
        attend_gpu_reserve(&arenas->run, (void **)&own->partials, attend_gpu_whole_partials(p, rows), 1);
    if (plan->options.backward) attend_gpu_reserve_backward(plan, arenas);
}

/* With caller_workspace, cuBLAS's workspace is part of the caller's; otherwise all plans share the
   context's. */
static attend_status allocate(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    const bool callers = plan->options.caller_workspace;
    own->blas_workspace = own->gpu->blas_workspace;
    if (callers && plan->operation == ATTEND_LAYER)
        attend_gpu_reserve(&arenas->run, &own->blas_workspace, (int64_t)own->gpu->blas_workspace_bytes, 1);
    own->run_memory = arenas->run;
    if (!own->offload.host_tensors)
        ATTEND_TRY(attend_gpu_check_limit(plan, arenas->constants.bytes + arenas->staging.bytes +
                                                    (callers ? 0 : arenas->run.bytes)));
    if (callers)
        ATTEND_TRY(attend_gpu_arena_check(&arenas->run));
    else
        ATTEND_TRY(attend_gpu_arena_allocate(&arenas->run, &own->workspace));
    ATTEND_TRY(attend_gpu_arena_allocate(&arenas->constants, &own->constants));
    ATTEND_TRY(attend_gpu_arena_allocate(&arenas->staging, &own->staging));
    plan->memory = (attend_plan_memory){sizeof *own, arenas->constants.bytes, arenas->staging.bytes, 0};
    *(callers ? &plan->memory.run_workspace_bytes : &plan->memory.device_workspace_bytes) +=
        arenas->run.bytes;
    return ATTEND_OK;
}

static attend_status create(attend_plan *plan)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_arenas arenas = {0};
    ATTEND_TRY(choose_kernels(plan));
    ATTEND_TRY(attend_gpu_plan_offload(plan));
    if (plan->operation == ATTEND_LAYER)
        ATTEND_TRY(attend_gpu_layer_reserve(plan, &arenas));
    else if (own->offload.host_tensors)
        ATTEND_TRY(attend_gpu_reserve_offload(plan, &arenas));
    else
        attend_gpu_reserve_fixed(plan, &arenas);
    ATTEND_TRY(allocate(plan, &arenas));
    ATTEND_TRY(attend_gpu_create_features(plan));
    if (plan->operation == ATTEND_LAYER) {
        ATTEND_TRY(attend_gpu_layer_create(plan));
        ATTEND_TRY(attend_gpu_create_rows(plan));
    }
    return own->offload.host_tensors && (plan->operation == ATTEND_ATTENTION || own->layer.rows.count)
               ? attend_gpu_create_offload(plan)
               : ATTEND_OK;
}

static void free_plan(attend_gpu_plan *own)
{
    if (own->constants) cudaFree(own->constants);
    if (own->workspace) cudaFree(own->workspace);
    if (own->staging) cudaFree(own->staging);
    attend_gpu_free_offload(&own->offload);
    attend_gpu_free_rows(&own->layer.rows);
    free(own);
}

static attend_status plan_create(attend_plan *plan)
{
    attend_gpu_context *gpu = plan->context->state;
    ATTEND_TRY(attend_gpu_enter(gpu));
    attend_gpu_plan *own = calloc(1, sizeof *own);
    attend_status status = ATTEND_OK;
    if (own) {
        own->gpu = gpu;
        plan->state = own;
        attend_range_begin("attend: plan");
        status = create(plan);
        attend_range_end();
        if (status) {
            cudaStreamSynchronize(gpu->stream);
            free_plan(own);
        }
    } else {
        status = attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a plan");
    }
    attend_gpu_leave(gpu);
    return status;
}

static void plan_destroy(attend_plan *plan)
{
    attend_gpu_plan *own = plan->state;
    const attend_gpu_context *gpu = own->gpu;
    bool entered = attend_gpu_enter(gpu) == ATTEND_OK;
    attend_gpu_wait_for_all(gpu);
    free_plan(own);
    if (entered) attend_gpu_leave(gpu);
}

/* ---- runs ---- */

attend_status attend_gpu_run_begin(attend_plan *plan, const attend_run *brought, bool inspects,
                                   attend_gpu_run *run)
{
    attend_gpu_plan *own = plan->state;
    const bool callers = plan->options.caller_workspace;
    const bool blas = plan->operation == ATTEND_LAYER && !inspects;
    attend_gpu_use *const last[2] = {callers ? NULL : &own->last,
                                     callers || !blas ? NULL : &own->gpu->blas_last};
    bool on_host;
    run->on = NULL, run->gpu = *own->gpu, run->own = *own, run->plan = *plan;
    run->own.gpu = &run->gpu, run->plan.state = &run->own;
    if (brought->stream) run->gpu.stream = brought->stream;
    if (callers && !run->gpu.no_staging) run->gpu.no_staging = "plan was made with caller_workspace";
    if (callers) {
        ATTEND_TRY(attend_gpu_is_on_host(own->gpu, "workspace", brought->workspace, &on_host));
        if (on_host) return attend_fail(ATTEND_INVALID_ARGUMENT, "workspace lies on the host");
        attend_gpu_arena memory = own->run_memory;
        if (inspects) memory.count = own->list_slots;
        attend_gpu_arena_rebase(&memory, brought->workspace, own, &run->own);
    }
    ATTEND_TRY(attend_gpu_begin_work(own->gpu, run->gpu.stream, last, &run->on));
    if (!blas) return ATTEND_OK;
    /* cublasSetStream() resets the workspace to cuBLAS's own. */
    ATTEND_TRY(attend_gpu_check_blas(&run->gpu, run->gpu.cublas.set_stream(run->gpu.blas, run->gpu.stream),
                                     "cublasSetStream"));
    return attend_gpu_check_blas(
        &run->gpu,
        run->gpu.cublas.set_workspace(run->gpu.blas, run->own.blas_workspace, run->gpu.blas_workspace_bytes),
        "cublasSetWorkspace");
}

attend_status attend_gpu_run_end(const attend_gpu_run *run, attend_status status)
{
    return attend_gpu_end_work(run->on, status);
}

/* One run of attention or of a layer, on the context's device and in stream order. */
static attend_status forward(attend_plan *plan, const char *name, const attend_attention_args *attention,
                             const attend_key_part *part, const attend_layer_args *layer,
                             const attend_run *brought)
{
    const attend_gpu_context *gpu = ((attend_gpu_plan *)plan->state)->gpu;
    attend_gpu_run run;
    ATTEND_TRY(attend_gpu_enter(gpu));
    attend_range_begin(name);
    attend_status status = attend_gpu_run_begin(plan, brought, false, &run);
    if (!status)
        status = attention ? attend_gpu_attention_forward(&run.plan, attention, part)
                           : attend_gpu_layer_forward(&run.plan, layer);
    status = attend_gpu_run_end(&run, status);
    attend_range_end();
    attend_gpu_leave(gpu);
    return status;
}

attend_status attend_gpu_attention_boxes(attend_plan *plan, const attend_attention_args *args,
                                         const attend_key_part *part, const attend_kernel_box *boxes,
                                         int count)
{
    const attend_gpu_context *gpu = ((attend_gpu_plan *)plan->state)->gpu;
    attend_gpu_run run;
    ATTEND_TRY(attend_gpu_enter(gpu));
    attend_status status = attend_gpu_run_begin(plan, &(attend_run){0}, false, &run);
    if (!status) status = attend_gpu_offload_run(&run.plan, args, part, NULL, boxes, count);
    status = attend_gpu_run_end(&run, status);
    attend_gpu_leave(gpu);
    return status;
}

static attend_status attention_forward(attend_plan *plan, const attend_attention_args *args,
                                       const attend_key_part *part, const attend_run *run)
{
    return forward(plan, "attend: attention", args, part, NULL, run);
}

static attend_status layer_forward(attend_plan *plan, const attend_layer_args *args, const attend_run *run)
{
    return forward(plan, "attend: layer", NULL, NULL, args, run);
}

static int64_t key_span(const attend_plan *plan)
{
    (void)plan;
    return attend_span_keys;
}

static bool kernel(size_t index, attend_kernel_info *info)
{
    const attend_kernel_info *row = attend_gpu_kernel_info(index);
    if (row) *info = *row;
    return row != NULL;
}

const attend_backend attend_gpu_backend = {
    .device = ATTEND_CUDA,
    .context_create = attend_gpu_context_create,
    .context_destroy = attend_gpu_context_destroy,
    .synchronize = attend_gpu_synchronize,
    .plan_create = plan_create,
    .plan_destroy = plan_destroy,
    .attention_forward = attention_forward,
    .attention_backward = attend_gpu_attention_backward,
    .layer_forward = layer_forward,
    .layer_backward = attend_gpu_layer_backward_run,
    .layer_reload = attend_gpu_layer_reload,
    .key_span = key_span,
    .merge = attend_gpu_merge,
    .inspect = attend_gpu_inspect,
    .rotary = attend_gpu_rotary,
    .append = attend_gpu_append,
    .kernel = kernel,
    .explain = attend_gpu_explain,
    .choice = attend_gpu_kernel_choice,
    .kernel_resources = attend_gpu_kernel_resources,
    .device_code = attend_gpu_device_code,
};
