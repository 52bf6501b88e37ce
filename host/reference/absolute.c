/* Absolute positions by their definitions, in fp64, with the error that fp32 arithmetic and storage may make. */
#include "reference.h"
#include "../absolute.h"
#include "../arguments.h"
#include "../problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double epsilon = 0x1p-24, pi = 3.14159265358979323846;

/* What is added to element c of a token. */
static double added(const attend_problem *p, const attend_tensor *table, const double *turns, int64_t position, int64_t c)
{
    const int64_t waves = attend_wave_count(p);
    if (p->absolute == ATTEND_ABSOLUTE_LEARNED) return attend_load(table, position * table->stride[0] + c * table->stride[1]);
    const bool side_by_side = p->absolute == ATTEND_ABSOLUTE_SINUSOIDAL, cosine = side_by_side ? c % 2 : c >= waves;
    const double angle = 2 * pi * attend_turned(turns[side_by_side ? c / 2 : c % waves], position);
    return cosine ? cos(angle) : sin(angle);
}

static attend_tensor make(const attend_problem *p)
{
    const int64_t batch = attend_tensor_batch(p), rows = attend_rows_q(p), hidden = p->hidden_size;
    attend_tensor t = attend_tensor_3d(malloc((size_t)(batch * rows * hidden + 1) * sizeof(double)), ATTEND_REFERENCE_F64, batch, rows, hidden);
    memcpy(t.stride, (int64_t[]){rows * hidden, hidden, 1, 0}, sizeof t.stride);
    return t;
}

bool attend_reference_place(const attend_problem *p, const attend_layer_weights *weights, const attend_layer_args *args, bool rounded,
                            attend_tensor *placed, attend_tensor *bound)
{
    const attend_tensor *x = &args->x;
    const attend_places places = attend_layer_places(p, args);
    const int64_t rows = attend_rows_q(p), hidden = p->hidden_size;
    const double u = attend_unit_roundoff(p->dtype);
    double *turns = malloc((size_t)(attend_wave_count(p) + 1) * sizeof *turns);
    *placed = make(p);
    if (bound) *bound = make(p);
    bool complete = turns && placed->data && (!bound || bound->data);
    if (complete) attend_wave_fill(p, turns);
    for (int64_t n = 0; complete && n < attend_tensor_batch(p) * rows; n++) {
        const int64_t position = attend_place(&places, n / rows, n % rows);
        for (int64_t c = 0; c < hidden; c++) {
            const double own = attend_load(x, n / rows * x->stride[0] + n % rows * x->stride[1] + c * x->stride[2]);
            const double sum = own + added(p, &weights->position_table, turns, position, c);
            ((double *)placed->data)[n * hidden + c] = rounded ? attend_round(sum, p->dtype) : sum;
            /* a sine within 8ε, the sum, and its rounding to storage */
            if (bound) ((double *)bound->data)[n * hidden + c] = (attend_problem_waves(p) ? 8 * epsilon : 0) + (epsilon + u) * fabs(sum) + attend_half_least(p->dtype);
        }
    }
    free(turns);
    return complete;
}
