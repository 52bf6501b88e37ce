/* Attention on the device: chooses the row of the kernel table and copies host tensors to the device and
   back. */
#include "gpu/gpu.h"
#include "gpu/range.h"

static bool is_aligned(const attend_tensor *t)
{
    int64_t vector = 16 / (int64_t)attend_dtype_bytes(t->dtype);
    bool aligned = (uintptr_t)t->data % 16 == 0;
    for (int axis = 0; axis < 3; axis++) aligned &= t->shape[axis] <= 1 || t->stride[axis] % vector == 0;
    return aligned;
}

/* The plan's kernel, or its fallback for tensors that are not aligned to 16 bytes. A strict context refuses
   the fallback. */
static attend_status choose_row(const attend_gpu_plan *own, const attend_attention_args *args, bool *aligned,
                                const attend_kernel_row **row)
{
    const char *odd = !is_aligned(&args->q)   ? "q"
                      : !is_aligned(&args->k) ? "k"
                      : !is_aligned(&args->v) ? "v"
                                              : NULL;
    *aligned = !odd;
    *row = odd ? own->row_any : own->row;
    if (*row == own->row || !own->gpu->strict) return ATTEND_OK;
    return attend_fail(ATTEND_UNSUPPORTED,
                       "%s has rows that are not at multiples of 16 bytes, but %s needs that, and the "
                       "context is strict, which forbids the fallback, %s",
                       odd, own->row->info.name, own->row_any->info.name);
}

typedef struct launching {
    const attend_gpu_context *gpu;
    const attend_kernel_row *row;
    attend_kernel_args kernel;
} launching;

static attend_status launch(void *job, int64_t first, int64_t count)
{
    launching *l = job;
    l->kernel.first_block = first, l->kernel.block_count = count;
    return attend_gpu_check(l->row->launch(&l->kernel, l->gpu->stream), l->row->info.name);
}

/* A view whose index 0 is key 0, of a tensor that holds the keys from `first` on. */
static attend_view keys_view(const attend_tensor *t, int64_t first)
{
    attend_view view = attend_view_of(t);
    if (view.data)
        view.data =
            (void *)((uintptr_t)view.data - (uintptr_t)(first * view.seqlen) * attend_dtype_bytes(t->dtype));
    return view;
}

attend_status attend_gpu_attention(const attend_plan *plan, const attend_attention_args *args,
                                   const attend_key_part *part)
{
    const attend_gpu_plan *gpu_plan = plan->state;
    const attend_gpu_context *gpu = gpu_plan->gpu;
    const attend_kernel_row *row;
    bool aligned;
    ATTEND_TRY(choose_row(gpu_plan, args, &aligned, &row));
    attend_kernel_grid grid;
    launching l = {gpu,
                   row,
                   {
                       .problem = plan->problem,
                       .q = attend_view_of(&args->q),
                       .k = keys_view(&args->k, part->first),
                       .v = keys_view(&args->v, part->first),
                       .out = attend_view_of(&args->out),
                       .lse = {args->lse.data, args->lse.stride[0], args->lse.stride[2], args->lse.stride[1]},
                       .lists = attend_lists_of(args),
                       .l2_bytes = gpu->l2_bytes,
                       .aligned = aligned,
                       .out_aligned = is_aligned(&args->out),
                       .first_key = part->first,
                       .end_key = part->end,
                       .from = attend_gpu_state_view(&part->from),
                       .into = attend_gpu_state_view(&part->into),
                       .splits = 1,
                       .partials = gpu_plan->partials,
                       .slots = gpu->slots,
                   }};
    ATTEND_TRY(attend_gpu_make_terms(plan, args, &l.kernel.terms));
    attend_range_begin(row->info.name);
    row->grid(&plan->problem, &grid);
    attend_status status = attend_gpu_launch_slices(gpu, grid.blocks, launch, &l);
    attend_range_end();
    return status;
}

/* The staging tensor cut to the number of keys in this part. */
static attend_tensor staging_of_keys(const attend_tensor *all, const attend_tensor *given)
{
    attend_tensor staging = *all;
    staging.shape[1] = given->shape[1];
    return staging;
}

attend_status attend_gpu_attention_forward(attend_plan *plan, const attend_attention_args *args,
                                           const attend_key_part *part)
{
    attend_gpu_plan *own = plan->state;
    const attend_gpu_context *gpu = own->gpu;
    const attend_tensor k = staging_of_keys(&own->k, &args->k), v = staging_of_keys(&own->v, &args->v);
    attend_attention_args use = *args;
    attend_key_part use_part = *part;
    ATTEND_TRY(attend_gpu_take_features(plan, &use));
    if (part->into.out.data)
        ATTEND_TRY(attend_gpu_take_state(gpu, "into", &part->into, &own->state, true, &use_part.into));
    else
        ATTEND_TRY(attend_gpu_take_output(gpu, "out", &args->out, &own->out, &use.out));
    ATTEND_TRY(attend_gpu_take_output(gpu, "lse", &args->lse, &own->lse, &use.lse));
    ATTEND_TRY(attend_gpu_take_input(gpu, "q", &args->q, &own->q, &use.q));
    ATTEND_TRY(attend_gpu_take_input(gpu, "k", &args->k, &k, &use.k));
    ATTEND_TRY(attend_gpu_take_input(gpu, "v", &args->v, &v, &use.v));
    if (part->from.out.data)
        ATTEND_TRY(attend_gpu_take_state(gpu, "from", &part->from, &own->state, false, &use_part.from));
    ATTEND_TRY(attend_gpu_attention(plan, &use, &use_part));
    if (part->into.out.data) ATTEND_TRY(attend_gpu_give_state(gpu, &part->into, &use_part.into));
    ATTEND_TRY(attend_gpu_give_output(gpu, &args->out, &use.out));
    return attend_gpu_give_output(gpu, &args->lse, &use.lse);
}
