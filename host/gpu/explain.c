/* The CUDA part of an explanation: kernel, memory and projections of a plan. */
#include "gpu/gpu.h"

#include <stdio.h>

static void explain_projections(const attend_gpu_plan *own, attend_explanation *e)
{
    for (int j = 0, call = 0; j < ATTEND_GPU_O; j = own->layer.group_end[j], call++) {
        for (int i = j; i < own->layer.group_end[j]; i++) e->projections[i].call = call;
        e->projections[ATTEND_GPU_O].call = call + 1;
    }
    e->projection_library =
        own->layer.aligned
            ? "cuBLAS, sums in fp32"
            : "cuBLAS, sums in fp32, by kernels for weights whose lines are not at multiples of 16 bytes";
}

/* Operations of a multiprocessor in a cycle with sums in fp32: CUDA C++ Programming Guide, "Arithmetic
   Instructions", and the dense peak of each GPU's white paper over its clock; what attention reaches of them,
   by docs/kernels.md. */
static double seconds_of_one_flop(const attend_gpu_context *gpu, attend_dtype dtype)
{
    static const struct {
        int architecture;
        double tensor, scalar;
    } rates[] = {{80, 2048, 128}, {86, 512, 256},   {87, 1024, 256}, {89, 512, 256},
                 {90, 2730, 256}, {100, 2730, 256}, {120, 1024, 256}};
    static const double reached = 0.7;
    size_t i = 0;
    while (i + 1 < sizeof rates / sizeof *rates && rates[i + 1].architecture <= gpu->architecture) i++;
    const double rate = dtype == ATTEND_F32 ? rates[i].scalar : rates[i].tensor;
    return 1 / (reached * rate * gpu->multiprocessors * gpu->cycles_per_second);
}

/* Copies of one run of attention whose inputs, outputs lie on the host. */
static void count_transfers(const attend_plan *plan, bool inputs, bool outputs, attend_explanation *e)
{
    const attend_gpu_plan *own = plan->state;
    const attend_gpu_offload *o = &own->offload;
    const attend_problem *p = &plan->problem;
    const attend_lists longest = {0};
    const double element = (double)attend_dtype_bytes(p->dtype),
                 group = (double)p->num_heads / (double)p->num_kv_heads;
    attend_gpu_steps steps = {.problem = p,
                              .blocks = &o->blocks,
                              .lists = p->packed ? NULL : &longest,
                              .whole = attend_whole_box(p)};
    while (attend_gpu_next_step(&steps)) {
        const attend_gpu_step *at = &steps.at;
        const attend_kernel_box *box = &at->box;
        const double pairs = (double)box->kv_heads * (double)(p->packed ? 1 : box->batch),
                     queries =
                         pairs * group * (double)(p->packed ? p->total_q : box->end_query - box->first_query),
                     keys = pairs * (double)(p->packed ? p->total_k : box->end_key - box->first_key);
        e->query_blocks += at->begins, e->key_parts += at->loads;
        if (at->begins && inputs) e->bytes_to_device += queries * (double)p->head_dim * element;
        if (at->loads && inputs) e->bytes_to_device += keys * (double)(p->head_dim + p->head_dim_v) * element;
        if (at->ends && outputs) e->bytes_to_host += queries * (double)p->head_dim_v * element;
    }
}

/* A layer's x, context and output; and Q, K, V and the heads' output where they do not stay on the device. */
static void count_layer_transfers(const attend_plan *plan, bool inputs, bool outputs, attend_explanation *e)
{
    const attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const double element = (double)attend_dtype_bytes(p->dtype), batch = (double)attend_tensor_batch(p),
                 rows_q = batch * (double)attend_rows_q(p) * element,
                 rows_k = batch * (double)attend_rows_projected(p) * element;
    if (inputs)
        e->bytes_to_device += rows_q * (double)p->hidden_size + rows_k * (double)p->context_hidden_size;
    if (outputs) e->bytes_to_host += rows_q * (double)p->output_size;
    if (!own->layer.rows.spills) return;
    count_transfers(plan, true, true, e);
    e->bytes_to_host += rows_q * (double)(p->num_heads * p->head_dim) +
                        rows_k * (double)(p->num_kv_heads * (p->head_dim + p->head_dim_v));
    e->bytes_to_device += rows_q * (double)(p->num_heads * p->head_dim_v);
}

/* One run's copies, if all that may lies on the host. */
static attend_status explain_transfers(const attend_plan *plan, attend_explanation *e)
{
    attend_gpu_plan *own = plan->state;
    const bool inputs = own->offload.host_tensors & ATTEND_HOST_INPUTS,
               outputs = own->offload.host_tensors & ATTEND_HOST_OUTPUTS;
    (plan->operation == ATTEND_LAYER ? count_layer_transfers : count_transfers)(plan, inputs, outputs, e);
    ATTEND_TRY(attend_gpu_measure_link(own));
    e->link_bytes_per_second = own->gpu->link_bytes_per_second;
    e->compute_seconds = seconds_of_one_flop(own->gpu, plan->problem.dtype);
    return ATTEND_OK;
}

attend_status attend_gpu_explain(const attend_plan *plan, attend_explanation *e)
{
    const attend_gpu_plan *own = plan->state;
    const attend_kernel_row *row = own->row;
    const int64_t terms = attend_scores_terms(&plan->problem) ? row->term_bytes : 0;
    const attend_kernel_box whole = attend_whole_box(&plan->problem);
    attend_kernel_grid grid;
    row->grid(&plan->problem, &whole, &grid);
    e->kernel = row->info.name, e->kernel_unaligned = own->row_any->info.name;
    e->tile_q = row->info.tile_q, e->tile_k = row->info.tile_k, e->threads = row->info.threads;
    e->grouped = grid.grouped;
    e->shared_bytes = row->info.shared_bytes + terms;
    e->splits = grid.splits, e->blocks = grid.blocks;
    e->blocks_at_once = (int64_t)attend_gpu_blocks_at_once(own->gpu, row, terms) * own->gpu->multiprocessors;
    if (plan->operation == ATTEND_LAYER) explain_projections(own, e);
    return own->offload.host_tensors ? explain_transfers(plan, e) : ATTEND_OK;
}
