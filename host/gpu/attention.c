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

const char *attend_gpu_odd_rows(const attend_attention_args *args, const attend_tensor *dout)
{
    return !is_aligned(&args->q)       ? "q"
           : !is_aligned(&args->k)     ? "k"
           : !is_aligned(&args->v)     ? "v"
           : dout && !is_aligned(dout) ? "dout"
                                       : NULL;
}

attend_status attend_gpu_refuse_odd(const char *odd, const attend_kernel_info *row,
                                    const attend_kernel_info *fallback)
{
    return attend_fail(ATTEND_UNSUPPORTED,
                       "%s has rows that are not at multiples of 16 bytes, but %s needs that, and the "
                       "context is strict, which forbids the fallback, %s",
                       odd, row->name, fallback->name);
}

/* The plan's kernel, or its fallback for tensors that are not aligned to 16 bytes. A strict context refuses
   the fallback. */
static attend_status choose_row(const attend_gpu_plan *own, const attend_attention_args *args, bool *aligned,
                                const attend_kernel_row **row)
{
    const char *odd = attend_gpu_odd_rows(args, NULL);
    *aligned = !odd;
    *row = odd ? own->row_any : own->row;
    if (*row == own->row || !own->gpu->strict) return ATTEND_OK;
    return attend_gpu_refuse_odd(odd, &own->row->info, &own->row_any->info);
}

attend_status attend_gpu_check_row(const attend_plan *plan, const attend_attention_args *args)
{
    const attend_kernel_row *row;
    bool aligned;
    return choose_row(plan->state, args, &aligned, &row);
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

/* Where element 0 of the problem would lie of what begins at these ones. */
static attend_view from_box(attend_view view, int64_t batch, int64_t row, int64_t head, attend_dtype dtype)
{
    const int64_t elements = batch * view.batch + row * view.seqlen + head * view.head;
    if (view.data)
        view.data = (void *)((uintptr_t)view.data - (uintptr_t)elements * attend_dtype_bytes(dtype));
    return view;
}

static attend_view queries_view(const attend_problem *p, const attend_kernel_box *box, attend_view view,
                                attend_dtype dtype)
{
    return from_box(view, box->first_batch, box->first_query,
                    box->first_kv_head * (p->num_heads / p->num_kv_heads), dtype);
}

/* Pools of pages begin at their first page and key, whatever the box. */
static attend_view keys_view(const attend_kernel_box *box, const attend_key_layout *keys,
                             const attend_tensor *t)
{
    return from_box(attend_view_of(t), keys->table ? 0 : box->first_batch, keys->table ? 0 : box->first_key,
                    box->first_kv_head, t->dtype);
}

static attend_state_view state_view(const attend_problem *p, const attend_kernel_box *box,
                                    const attend_state *state)
{
    const attend_state_view view = attend_gpu_state_view(state);
    return (attend_state_view){queries_view(p, box, view.out, ATTEND_F32),
                               queries_view(p, box, view.max, ATTEND_F32),
                               queries_view(p, box, view.sum, ATTEND_F32)};
}

attend_kernel_box attend_gpu_box_of(const attend_problem *p, const attend_key_part *part)
{
    attend_kernel_box box = attend_whole_box(p);
    box.first_query = part->first_query, box.end_query = part->end_query;
    box.first_key = part->first, box.end_key = part->end;
    return box;
}

attend_status attend_gpu_launch_box(const attend_plan *plan, const attend_kernel_box *box,
                                    const attend_key_layout *keys, const attend_attention_args *args,
                                    const attend_state *from, const attend_state *into,
                                    const attend_terms *terms)
{
    const attend_gpu_plan *gpu_plan = plan->state;
    const attend_gpu_context *gpu = gpu_plan->gpu;
    const attend_problem *p = &plan->problem;
    const attend_view lse = attend_rows_view_of(&args->lse);
    const attend_kernel_row *row;
    bool aligned;
    ATTEND_TRY(choose_row(gpu_plan, args, &aligned, &row));
    attend_kernel_grid grid;
    launching l = {gpu,
                   row,
                   {
                       .problem = *p,
                       .q = queries_view(p, box, attend_view_of(&args->q), p->dtype),
                       .k = keys_view(box, keys, &args->k),
                       .v = keys_view(box, keys, &args->v),
                       .keys = *keys,
                       .out = queries_view(p, box, attend_view_of(&args->out), p->dtype),
                       .lse = queries_view(p, box, lse, ATTEND_F32),
                       .lists = attend_lists_of(args->features),
                       .terms = *terms,
                       .l2_bytes = gpu->l2_bytes,
                       .aligned = aligned,
                       .out_aligned = is_aligned(&args->out),
                       .box = *box,
                       .from = state_view(p, box, from),
                       .into = state_view(p, box, into),
                       .splits = 1,
                       .partials = gpu_plan->partials,
                       .slots = gpu->slots,
                   }};
    attend_range_begin(row->info.name);
    row->grid(p, box, &grid);
    attend_status status = attend_gpu_launch_slices(gpu, grid.blocks, launch, &l);
    attend_range_end();
    return status;
}

attend_status attend_gpu_attention(const attend_plan *plan, const attend_attention_args *args,
                                   const attend_key_part *part)
{
    const attend_gpu_plan *own = plan->state;
    const attend_kernel_box box = attend_gpu_box_of(&plan->problem, part);
    attend_progress_tracker *tracker = own->gpu->tracker;
    attend_kernel_grid grid;
    attend_terms terms;
    ATTEND_TRY(attend_gpu_make_terms(plan, args->features, &terms));
    own->row->grid(&plan->problem, &box, &grid);
    attend_progress_stage(tracker, tracker->work.attention, grid.blocks);
    return attend_gpu_launch_box(plan, &box, &part->keys, args, &part->from, &part->into, &terms);
}

/* Whether a tensor lies on the host that is copied in parts; fails for one where none is announced. */
static attend_status find_on_host(const attend_gpu_plan *own, const attend_attention_args *args,
                                  const attend_key_part *part, bool *found)
{
    const attend_gpu_blocks *blocks = &own->offload.blocks;
    const struct {
        const char *name;
        const attend_tensor *tensor;
        attend_host_tensors kind;
    } all[] = {{"q", &args->q, ATTEND_HOST_INPUTS},
               {"k", &args->k, ATTEND_HOST_INPUTS},
               {"v", &args->v, ATTEND_HOST_INPUTS},
               {"out", &args->out, ATTEND_HOST_OUTPUTS},
               {"lse", &args->lse, ATTEND_HOST_OUTPUTS},
               {"from.out", &part->from.out, ATTEND_HOST_STATES},
               {"from.max", &part->from.max, ATTEND_HOST_STATES},
               {"from.sum", &part->from.sum, ATTEND_HOST_STATES},
               {"into.out", &part->into.out, ATTEND_HOST_STATES},
               {"into.max", &part->into.max, ATTEND_HOST_STATES},
               {"into.sum", &part->into.sum, ATTEND_HOST_STATES},
               {"mask", blocks->streams_mask ? &args->features->mask : NULL, ATTEND_HOST_INPUTS},
               {"bias", blocks->streams_bias ? &args->features->bias : NULL, ATTEND_HOST_INPUTS}};
    *found = false;
    for (size_t i = 0; i < sizeof all / sizeof *all && !*found; i++) {
        if (!all[i].tensor || attend_tensor_elements(all[i].tensor) == 0) continue;
        ATTEND_TRY(attend_gpu_is_on_host(own->gpu, all[i].name, all[i].tensor->data, found));
        if (*found && !own->offload.host_tensors)
            return attend_gpu_refuse_host(own->gpu, all[i].name, all[i].kind);
    }
    return ATTEND_OK;
}

static attend_status run(const attend_plan *plan, const attend_attention_args *args,
                         const attend_key_part *part)
{
    const attend_gpu_plan *own = plan->state;
    attend_attention_args use = *args;
    attend_feature_args features = *args->features;
    bool on_host;
    ATTEND_TRY(find_on_host(own, args, part, &on_host));
    if (on_host || own->offload.blocks.partials_of_box)
        return attend_gpu_offload_run(plan, args, part, NULL, NULL, 0);
    ATTEND_TRY(attend_gpu_take_features(plan, &features));
    use.features = &features;
    return attend_gpu_attention(plan, &use, part);
}

attend_status attend_gpu_attention_forward(attend_plan *plan, const attend_attention_args *args,
                                           const attend_key_part *part)
{
    attend_gpu_pages pages;
    attend_status status = attend_gpu_take_pages(plan, args, part, &pages);
    if (!status) status = run(plan, args, &pages.part);
    return attend_gpu_release_pages(plan, &pages, status);
}
