/* Absolute positions on the CPU: x, with what is added to it, in memory of the plan that the projections then
   read. */
#include "shared/absolute.h"
#include "cpu/angles.h"
#include "cpu/cpu.h"

#include <stdlib.h>

attend_status attend_cpu_place_create(attend_plan *plan)
{
    attend_cpu_plan *cpu = plan->state;
    const attend_problem *p = &plan->problem;
    size_t *bytes = &plan->memory.host_bytes;
    if (!p->absolute) return ATTEND_OK;
    cpu->placed = attend_cpu_allocate(attend_tensor_batch(p) * attend_rows_q(p) * p->hidden_size,
                                      attend_dtype_bytes(p->dtype), bytes);
    cpu->waves = attend_cpu_allocate(attend_wave_count(p), sizeof *cpu->waves, bytes);
    cpu->placing =
        attend_cpu_allocate(p->hidden_size, 3 * (size_t)cpu->context->threads * sizeof *cpu->placing, bytes);
    if (!cpu->placed || !cpu->waves || !cpu->placing)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the layer's x with its positions");
    attend_wave_fill(p, cpu->waves);
    return ATTEND_OK;
}

void attend_cpu_place_destroy(attend_cpu_plan *cpu)
{
    free(cpu->placed), free(cpu->waves), free(cpu->placing);
}

static void add_waves(const attend_problem *p, const double *turns, int64_t position, float *row,
                      float *sines, float *cosines)
{
    /* an odd size has one more sine */
    const int64_t waves = attend_wave_count(p), whole = p->hidden_size / 2;
    attend_cpu_angles(turns, waves, position, 1, 1, cosines, sines);
    for (int64_t w = 0; w < waves; w++) row[attend_wave_sine(p->absolute, w)] += sines[w];
    for (int64_t w = 0; w < whole; w++) row[attend_wave_cosine(p->absolute, waves, w)] += cosines[w];
}

typedef struct placing {
    const attend_cpu_plan *cpu;
    const attend_tensor *x, *table;
    attend_places places;
} placing;

static void place_token(void *job, int64_t n, int thread)
{
    const placing *to = job;
    const attend_cpu_plan *cpu = to->cpu;
    const attend_problem *p = cpu->problem;
    const attend_tensor *x = to->x;
    const int64_t hidden = p->hidden_size, rows = x->shape[1],
                  position = attend_place(&to->places, n / rows, n % rows);
    float *row = cpu->placing + 3 * hidden * thread, *more = row + hidden;
    attend_cpu_load_row(row, x->data, n / rows * x->stride[0] + n % rows * x->stride[1], hidden, x->dtype);
    if (p->absolute == ATTEND_ABSOLUTE_LEARNED) {
        attend_cpu_load_row(more, to->table->data, position * to->table->stride[0], hidden, to->table->dtype);
        for (int64_t c = 0; c < hidden; c++) row[c] += more[c];
    } else {
        add_waves(p, cpu->waves, position, row, more, more + hidden);
    }
    attend_cpu_store_row(cpu->placed, n * hidden, row, hidden, x->dtype);
}

attend_tensor attend_cpu_place(const attend_plan *plan, const attend_layer_args *args)
{
    const attend_problem *p = &plan->problem;
    placing to = {plan->state, &args->x, &plan->weights.position_table, attend_layer_places(p, args)};
    const int64_t hidden = p->hidden_size, rows = args->x.shape[1], tokens = args->x.shape[0] * rows;
    attend_tensor placed = args->x;
    placed.data = to.cpu->placed;
    placed.stride[0] = rows * hidden, placed.stride[1] = hidden, placed.stride[2] = 1;
    attend_pool_run(to.cpu->context->pool, tokens, 2.0 * (double)(tokens * hidden), place_token, &to);
    return placed;
}
