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

void attend_gpu_explain(const attend_plan *plan, attend_explanation *e)
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
}
