/* The CUDA backend's table, and plans: the kernel rows that will run and all memory that running needs. */
#include "gpu.h"
#include "range.h"

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
    const attend_kernel_info *info = &own->row->info;
    snprintf(plan->kernel, sizeof plan->kernel, "%s, tiles of %d queries by %d keys", info->name, info->tile_q, info->tile_k);
    return ATTEND_OK;
}

static int64_t partial_bytes(const attend_kernel_row *row, const attend_problem *p)
{
    return row->partial_bytes ? row->partial_bytes(p) : 0;
}

static void reserve_attention(attend_plan *plan, attend_gpu_arena *staging)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p), rows_k = attend_rows_k(p);
    attend_gpu_reserve_tensor(staging, &own->q, p->dtype, 4, (int64_t[]){batch, rows_q, p->num_heads, p->head_dim});
    attend_gpu_reserve_tensor(staging, &own->k, p->dtype, 4, (int64_t[]){batch, rows_k, p->num_kv_heads, p->head_dim});
    attend_gpu_reserve_tensor(staging, &own->v, p->dtype, 4, (int64_t[]){batch, rows_k, p->num_kv_heads, p->head_dim_v});
    attend_gpu_reserve_tensor(staging, &own->out, p->dtype, 4, (int64_t[]){batch, rows_q, p->num_heads, p->head_dim_v});
}

static attend_status create(attend_plan *plan)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    attend_gpu_arena workspace = {0}, staging = {0};
    ATTEND_TRY(choose_kernels(plan));
    attend_gpu_reserve_sides(plan, &workspace, &staging);
    int64_t partial = partial_bytes(own->row, p), partial_any = partial_bytes(own->row_any, p);
    attend_gpu_reserve(&workspace, (void **)&own->partials, partial > partial_any ? partial : partial_any, 1);
    attend_gpu_reserve_tensor(&staging, &own->lse, ATTEND_F32, 3, (int64_t[]){attend_tensor_batch(p), p->num_heads, attend_rows_q(p)});
    if (plan->operation == ATTEND_LAYER)
        ATTEND_TRY(attend_gpu_layer_reserve(plan, &workspace, &staging));
    else
        reserve_attention(plan, &staging);
    if (own->gpu->device_tensors_only) staging.bytes = 0;
    ATTEND_TRY(attend_gpu_arena_allocate(&workspace, &own->workspace));
    ATTEND_TRY(attend_gpu_arena_allocate(&staging, &own->staging));
    plan->memory = (attend_plan_memory){sizeof *own, workspace.bytes, staging.bytes, 0};
    ATTEND_TRY(attend_gpu_create_sides(plan));
    return plan->operation == ATTEND_LAYER ? attend_gpu_layer_create(plan) : ATTEND_OK;
}

static void free_plan(attend_gpu_plan *own)
{
    cudaStreamSynchronize(own->gpu->stream);
    if (own->workspace) cudaFree(own->workspace);
    if (own->staging) cudaFree(own->staging);
    free(own);
}

static attend_status plan_create(attend_plan *plan)
{
    attend_gpu_context *gpu = plan->context->state;
    if (plan->options.caller_workspace) return attend_fail(ATTEND_UNSUPPORTED, "caller_workspace is set, but plans on CUDA keep their own workspace");
    ATTEND_TRY(attend_gpu_enter(gpu));
    attend_gpu_plan *own = calloc(1, sizeof *own);
    attend_status status = ATTEND_OK;
    if (own) {
        own->gpu = gpu;
        plan->state = own;
        attend_range_begin("attend: plan");
        status = create(plan);
        attend_range_end();
        if (status) free_plan(own);
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
    free_plan(own);
    if (entered) attend_gpu_leave(gpu);
}

static attend_status check_run(const attend_run *run)
{
    if (!run->stream) return ATTEND_OK;
    return attend_fail(ATTEND_UNSUPPORTED, "stream is given, but runs on CUDA take the context's stream; attend_context_set_stream() sets it");
}

static attend_status attention_forward(attend_plan *plan, const attend_attention_args *args, const attend_run *run)
{
    const attend_gpu_plan *own = plan->state;
    ATTEND_TRY(check_run(run));
    ATTEND_TRY(attend_gpu_enter(own->gpu));
    attend_range_begin("attend: attention");
    attend_status status = attend_gpu_attention_forward(plan, args);
    attend_range_end();
    attend_gpu_leave(own->gpu);
    return status;
}

static attend_status layer_forward(attend_plan *plan, const attend_layer_args *args, const attend_run *run)
{
    const attend_gpu_plan *own = plan->state;
    ATTEND_TRY(check_run(run));
    ATTEND_TRY(attend_gpu_enter(own->gpu));
    attend_range_begin("attend: layer");
    attend_status status = attend_gpu_layer_forward(plan, args);
    attend_range_end();
    attend_gpu_leave(own->gpu);
    return status;
}

static bool kernel(size_t index, attend_kernel_info *info)
{
    const attend_kernel_row *row = attend_gpu_kernel_row(index);
    if (row) *info = row->info;
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
    .layer_forward = layer_forward,
    .inspect = attend_gpu_inspect,
    .rotary = attend_gpu_rotary,
    .kernel = kernel,
    .explain = attend_gpu_explain,
    .choice = attend_gpu_kernel_choice,
    .kernel_resources = attend_gpu_kernel_resources,
};
