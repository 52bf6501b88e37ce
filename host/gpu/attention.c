/* Attention on the device: which row of the table runs, on tensors that may have to be brought there first. */
#include "gpu.h"
#include "range.h"

#include <inttypes.h>

static attend_view view_of(const attend_tensor *t)
{
    return (attend_view){t->data, t->stride[0], t->stride[1], t->stride[2]};
}

static bool is_aligned(const attend_tensor *t)
{
    int64_t chunk = 16 / (int64_t)attend_dtype_bytes(t->dtype);
    bool aligned = (uintptr_t)t->data % 16 == 0;
    for (int axis = 0; axis < 3; axis++) aligned &= t->shape[axis] <= 1 || t->stride[axis] % chunk == 0;
    return aligned;
}

/* The plan's kernel runs, or for tensors that it cannot read the one named beside it: not where the context is strict. */
static attend_status choose_row(const attend_gpu_plan *own, const attend_attention_args *args, bool *aligned, const attend_kernel_row **row)
{
    const char *odd = !is_aligned(&args->q) ? "q" : !is_aligned(&args->k) ? "k" : !is_aligned(&args->v) ? "v" : NULL;
    *aligned = !odd;
    *row = odd ? own->row_any : own->row;
    if (*row == own->row || !own->gpu->strict) return ATTEND_OK;
    return attend_fail(ATTEND_UNSUPPORTED, "%s has rows that are not at multiples of 16 bytes, but %s needs that, and the context is strict: %s may not stand in",
                       odd, own->row->info.name, own->row_any->info.name);
}

/* Slices of the grid that fill the device a few times, or a hundredth of it where that is more; each is waited for. */
static attend_status launch_by_slices(const attend_gpu_context *gpu, const attend_kernel_row *row, attend_kernel_args *kernel)
{
    attend_kernel_grid grid;
    row->grid(&kernel->problem, &grid);
    const int64_t wave = (int64_t)attend_gpu_blocks_at_once(gpu, row, 0) * gpu->multiprocessors;
    kernel->block_count = grid.blocks / 100 > 4 * wave ? grid.blocks / 100 : 4 * wave + !wave;
    for (; kernel->first_block < grid.blocks; kernel->first_block += kernel->block_count) {
        ATTEND_TRY(attend_gpu_check(row->launch(kernel, gpu->stream), row->info.name));
        ATTEND_TRY(attend_gpu_check(cudaStreamSynchronize(gpu->stream), "cudaStreamSynchronize"));
        const int64_t end = kernel->first_block + kernel->block_count, done = end < grid.blocks ? end : grid.blocks;
        if (!gpu->progress(gpu->progress_user, done, grid.blocks) && done < grid.blocks)
            return attend_fail(ATTEND_CANCELLED, "the progress callback asked to stop after %" PRId64 " of %" PRId64 " blocks", done, grid.blocks);
    }
    return ATTEND_OK;
}

attend_status attend_gpu_attention(const attend_plan *plan, const attend_attention_args *args)
{
    const attend_gpu_plan *gpu_plan = plan->state;
    const attend_gpu_context *gpu = gpu_plan->gpu;
    const attend_kernel_row *row;
    bool aligned;
    ATTEND_TRY(choose_row(gpu_plan, args, &aligned, &row));
    attend_kernel_args kernel = {
        .problem = plan->problem,
        .q = view_of(&args->q), .k = view_of(&args->k), .v = view_of(&args->v), .out = view_of(&args->out),
        .lse = {args->lse.data, args->lse.stride[0], args->lse.stride[2], args->lse.stride[1]},
        .lists = attend_lists_of(args), .terms = attend_terms_of(args),
        .l2_bytes = gpu->l2_bytes, .aligned = aligned, .out_aligned = is_aligned(&args->out),
        .chunks = 1, .partials = gpu_plan->partials,
    };
    kernel.terms.relative_buckets = gpu_plan->sides.relative_buckets;
    attend_range_begin(row->info.name);
    attend_status status = gpu->progress ? launch_by_slices(gpu, row, &kernel) : attend_gpu_check(row->launch(&kernel, gpu->stream), row->info.name);
    attend_range_end();
    return status;
}

attend_status attend_gpu_attention_forward(attend_plan *plan, const attend_attention_args *args)
{
    attend_gpu_plan *own = plan->state;
    const attend_gpu_context *gpu = own->gpu;
    attend_attention_args use = *args;
    ATTEND_TRY(attend_gpu_take_sides(plan, &use));
    ATTEND_TRY(attend_gpu_take_output(gpu, "out", &args->out, &own->out, &use.out));
    ATTEND_TRY(attend_gpu_take_output(gpu, "lse", &args->lse, &own->lse, &use.lse));
    ATTEND_TRY(attend_gpu_take_input(gpu, "q", &args->q, &own->q, &use.q));
    ATTEND_TRY(attend_gpu_take_input(gpu, "k", &args->k, &own->k, &use.k));
    ATTEND_TRY(attend_gpu_take_input(gpu, "v", &args->v, &own->v, &use.v));
    ATTEND_TRY(attend_gpu_attention(plan, &use));
    ATTEND_TRY(attend_gpu_give_output(gpu, &args->out, &use.out));
    return attend_gpu_give_output(gpu, &args->lse, &use.lse);
}
