/* A layer's absolute positions on the device: one small kernel writes x plus its positions to the workspace,
   where the projections read it. */
#include "gpu/gpu.h"
#include "core/positions.h"
#include "gpu/range.h"

#include <stdlib.h>

void attend_gpu_reserve_x(attend_plan *plan, attend_gpu_arena *arena, int64_t batch, int64_t rows)
{
    const attend_problem *p = &plan->problem;
    if (p->absolute)
        attend_gpu_reserve_tensor(arena, &((attend_gpu_plan *)plan->state)->x_with_positions, p->dtype, 3,
                                  (int64_t[]){batch, rows, p->hidden_size});
}

attend_status attend_gpu_reserve_positions(attend_plan *plan, attend_gpu_arena *constants)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    bool on_host;
    if (!p->absolute) return ATTEND_OK;
    attend_gpu_reserve(constants, (void **)&own->sinusoids, attend_sinusoid_count(p), sizeof *own->sinusoids);
    own->table = plan->weights.position_table;
    ATTEND_TRY(attend_gpu_is_on_host(own->gpu, "position_table", own->table.data, &on_host));
    if (on_host)
        attend_gpu_reserve_tensor(constants, &own->table, p->dtype, 2,
                                  (int64_t[]){p->max_positions, p->hidden_size});
    return ATTEND_OK;
}

/* The copy is asynchronous: the caller waits for the stream. */
attend_status attend_gpu_upload_table(const attend_plan *plan)
{
    const attend_gpu_plan *own = plan->state;
    if (own->table.data == plan->weights.position_table.data) return ATTEND_OK;
    return attend_gpu_copy(own->gpu, &own->table, &plan->weights.position_table, cudaMemcpyHostToDevice);
}

attend_status attend_gpu_create_positions(attend_plan *plan)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const int64_t count = attend_sinusoid_count(p);
    if (count == 0) return ATTEND_OK;
    double *sinusoids = malloc((size_t)count * sizeof *sinusoids);
    if (!sinusoids)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the frequencies of sinusoidal positions");
    attend_sinusoid_frequencies(p, sinusoids);
    cudaError_t error = cudaMemcpyAsync(own->sinusoids, sinusoids, (size_t)count * sizeof *sinusoids,
                                        cudaMemcpyHostToDevice, own->gpu->stream);
    if (!error) error = cudaStreamSynchronize(own->gpu->stream);
    free(sinusoids);
    return attend_gpu_check(error, "cudaMemcpyAsync of the frequencies");
}

/* Those that the host can read: a list on the host, and counted positions unless what they are counted from
   is on the device. */
attend_status attend_gpu_check_positions(const attend_plan *plan, const attend_layer_args *args)
{
    const attend_gpu_context *gpu = ((const attend_gpu_plan *)plan->state)->gpu;
    const attend_row_positions at = attend_row_positions_of(&plan->problem, args->features, args->cache);
    const struct {
        const char *name;
        const void *data;
    } lists[] = {{"seqlens_q", at.lengths},
                 {"positions", at.positions},
                 {"starts_k", at.positions ? NULL : at.starts},
                 {"cache.seqlens", at.positions ? NULL : at.firsts}};
    bool on_host;
    if (!plan->problem.absolute) return ATTEND_OK;
    for (int i = 0; i < 4; i++) {
        ATTEND_TRY(attend_gpu_is_on_host(gpu, lists[i].name, lists[i].data, &on_host));
        if (lists[i].data && !on_host) return ATTEND_OK;
    }
    return attend_absolute_check(&plan->problem, &at);
}

attend_status attend_gpu_add_positions(const attend_plan *plan, const attend_row_positions *row_positions,
                                       attend_tensor *x)
{
    const attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    attend_tensor sum = own->x_with_positions;
    if (!p->absolute) return ATTEND_OK;
    sum.shape[0] = x->shape[0], sum.shape[1] = x->shape[1];
    attend_range_begin("attend: add positions");
    attend_status status = attend_gpu_check(
        attend_add_positions(p, row_positions, own->sinusoids, &own->table, x, &sum, own->gpu->stream),
        "cudaLaunchKernel of add_positions");
    attend_range_end();
    *x = sum;
    return status;
}
