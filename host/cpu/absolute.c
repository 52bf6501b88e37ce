/* Absolute positions on the CPU: writes x plus its positions to memory of the plan, which the projections
   read. */
#include "shared/absolute.h"
#include "cpu/angles.h"
#include "cpu/cpu.h"

#include <stdlib.h>

attend_status attend_cpu_positions_create(attend_plan *plan)
{
    attend_cpu_plan *cpu = plan->state;
    const attend_problem *p = &plan->problem;
    size_t *bytes = &plan->memory.host_bytes;
    if (!p->absolute) return ATTEND_OK;
    cpu->x_with_positions = attend_cpu_allocate(attend_tensor_batch(p) * attend_rows_q(p) * p->hidden_size,
                                                attend_dtype_bytes(p->dtype), bytes);
    cpu->sinusoids = attend_cpu_allocate(attend_sinusoid_count(p), sizeof *cpu->sinusoids, bytes);
    cpu->position_rows = attend_cpu_allocate(
        p->hidden_size, 3 * (size_t)cpu->context->threads * sizeof *cpu->position_rows, bytes);
    if (!cpu->x_with_positions || !cpu->sinusoids || !cpu->position_rows)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the layer's x with its positions");
    attend_sinusoid_frequencies(p, cpu->sinusoids);
    return ATTEND_OK;
}

void attend_cpu_positions_destroy(attend_cpu_plan *cpu)
{
    free(cpu->x_with_positions), free(cpu->sinusoids), free(cpu->position_rows);
}

static void add_sinusoids(const attend_problem *p, const double *turns, int64_t position, float *row,
                          float *sines, float *cosines)
{
    /* an odd hidden_size has one sine more than cosines */
    const int64_t sinusoids = attend_sinusoid_count(p), whole = p->hidden_size / 2;
    attend_cpu_angles(turns, sinusoids, position, 1, 1, cosines, sines);
    for (int64_t w = 0; w < sinusoids; w++) row[attend_sine_column(p->absolute, w)] += sines[w];
    for (int64_t w = 0; w < whole; w++) row[attend_cosine_column(p->absolute, sinusoids, w)] += cosines[w];
}

typedef struct position_rows {
    const attend_cpu_plan *cpu;
    const attend_tensor *x, *table;
    attend_row_positions row_positions;
} position_rows;

static void add_position(void *job, int64_t n, int thread)
{
    const position_rows *to = job;
    const attend_cpu_plan *cpu = to->cpu;
    const attend_problem *p = cpu->problem;
    const attend_tensor *x = to->x;
    const int64_t hidden = p->hidden_size, rows = x->shape[1],
                  position = attend_is_there(&to->row_positions, n / rows, n % rows)
                                 ? attend_row_position(&to->row_positions, n / rows, n % rows)
                                 : 0;
    float *row = cpu->position_rows + 3 * hidden * thread, *more = row + hidden;
    attend_cpu_load_row(row, x->data, n / rows * x->stride[0] + n % rows * x->stride[1], hidden, x->dtype);
    if (p->absolute == ATTEND_ABSOLUTE_LEARNED) {
        attend_cpu_load_row(more, to->table->data, position * to->table->stride[0], hidden, to->table->dtype);
        for (int64_t c = 0; c < hidden; c++) row[c] += more[c];
    } else {
        add_sinusoids(p, cpu->sinusoids, position, row, more, more + hidden);
    }
    attend_cpu_store_row(cpu->x_with_positions, n * hidden, row, hidden, x->dtype);
}

attend_tensor attend_cpu_add_positions(const attend_plan *plan, const attend_layer_args *args)
{
    const attend_problem *p = &plan->problem;
    position_rows to = {plan->state, &args->x, &plan->weights.position_table,
                        attend_row_positions_of(p, args->features, args->cache)};
    const int64_t hidden = p->hidden_size, rows = args->x.shape[1], tokens = args->x.shape[0] * rows;
    attend_tensor x_with_positions = args->x;
    x_with_positions.data = to.cpu->x_with_positions;
    x_with_positions.stride[0] = rows * hidden, x_with_positions.stride[1] = hidden,
    x_with_positions.stride[2] = 1;
    attend_pool_run(to.cpu->context->pool, tokens, 2.0 * (double)(tokens * hidden), add_position, &to);
    return x_with_positions;
}
