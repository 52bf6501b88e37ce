/* A layer's absolute positions on the device: one small launch writes x with them to the workspace, where the
   projections read it. */
#include "gpu/gpu.h"
#include "gpu/range.h"

#include <stdlib.h>

attend_status attend_gpu_reserve_place(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    bool on_host;
    if (!p->absolute) return ATTEND_OK;
    attend_gpu_reserve_tensor(&arenas->run, &own->placed, p->dtype, 3,
                              (int64_t[]){attend_tensor_batch(p), attend_rows_q(p), p->hidden_size});
    attend_gpu_reserve(&arenas->constants, (void **)&own->waves, attend_wave_count(p), sizeof *own->waves);
    own->table = plan->weights.position_table;
    ATTEND_TRY(attend_gpu_is_on_host(own->gpu, "position_table", own->table.data, &on_host));
    if (on_host)
        attend_gpu_reserve_tensor(&arenas->constants, &own->table, p->dtype, 2,
                                  (int64_t[]){p->max_positions, p->hidden_size});
    return ATTEND_OK;
}

/* The caller waits before the plan is given out. */
attend_status attend_gpu_create_place(attend_plan *plan)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const int64_t count = attend_wave_count(p);
    if (own->table.data != plan->weights.position_table.data)
        ATTEND_TRY(
            attend_gpu_copy(own->gpu, &own->table, &plan->weights.position_table, cudaMemcpyHostToDevice));
    if (count == 0) return ATTEND_OK;
    double *waves = malloc((size_t)count * sizeof *waves);
    if (!waves)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the frequencies of sinusoidal positions");
    attend_wave_fill(p, waves);
    cudaError_t error = cudaMemcpyAsync(own->waves, waves, (size_t)count * sizeof *waves,
                                        cudaMemcpyHostToDevice, own->gpu->stream);
    if (!error) error = cudaStreamSynchronize(own->gpu->stream);
    free(waves);
    return attend_gpu_check(error, "cudaMemcpyAsync of the frequencies");
}

/* What can be known on the host: positions that lie there, and counted ones unless their starts lie on the
   device. */
static attend_status check(const attend_plan *plan, const attend_layer_args *args)
{
    const attend_gpu_context *gpu = ((const attend_gpu_plan *)plan->state)->gpu;
    bool positions_here, starts_here;
    ATTEND_TRY(attend_gpu_is_on_host(gpu, "positions", args->positions.data, &positions_here));
    ATTEND_TRY(attend_gpu_is_on_host(gpu, "starts_k", args->starts_k, &starts_here));
    if (args->positions.data ? !positions_here : args->starts_k && !starts_here) return ATTEND_OK;
    const attend_places places = attend_layer_places(&plan->problem, args);
    return attend_absolute_check(&plan->problem, &places);
}

attend_status attend_gpu_place(const attend_plan *plan, const attend_layer_args *args,
                               const attend_attention_args *attention, attend_tensor *x)
{
    const attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const attend_lists lists = attend_lists_of(attention);
    attend_tensor positions = args->positions;
    if (!p->absolute) return ATTEND_OK;
    ATTEND_TRY(check(plan, args));
    if (positions.data)
        ATTEND_TRY(
            attend_gpu_take_input(own->gpu, "positions", &args->positions, &own->positions, &positions));
    const attend_places places = attend_places_of(p, &lists, &positions);
    attend_range_begin("attend: add positions");
    attend_status status = attend_gpu_check(
        attend_add_positions(p, &places, own->waves, &own->table, x, &own->placed, own->gpu->stream),
        "cudaLaunchKernel of add_positions");
    attend_range_end();
    *x = own->placed;
    return status;
}
