/* Absolute positions by their definitions, in fp64, with the error bound of fp32 arithmetic and storage. */
#include "reference/reference.h"
#include "shared/absolute.h"
#include "core/arguments.h"
#include "core/problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double epsilon = 0x1p-24;

/* The term added to element c of a token. */
static double added(const attend_problem *p, const attend_tensor *table, const double *angles,
                    int64_t position, int64_t c)
{
    const int64_t sinusoids = (p->hidden_size + 1) / 2;
    if (p->absolute == ATTEND_ABSOLUTE_LEARNED)
        return attend_load(table, position * table->stride[0] + c * table->stride[1]);
    const bool side_by_side = p->absolute == ATTEND_ABSOLUTE_SINUSOIDAL,
               cosine = side_by_side ? c % 2 : c >= sinusoids;
    const double angle = (double)position * angles[side_by_side ? c / 2 : c % sinusoids];
    return cosine ? cos(angle) : sin(angle);
}

static attend_tensor make(const attend_problem *p)
{
    const int64_t batch = attend_tensor_batch(p), rows = attend_rows_q(p), hidden = p->hidden_size;
    attend_tensor t = attend_tensor_3d(malloc((size_t)(batch * rows * hidden + 1) * sizeof(double)),
                                       ATTEND_REFERENCE_F64, batch, rows, hidden);
    memcpy(t.stride, (int64_t[]){rows * hidden, hidden, 1, 0}, sizeof t.stride);
    return t;
}

bool attend_reference_add_positions(const attend_problem *p, const attend_layer_weights *weights,
                                    const attend_layer_args *args, bool rounded,
                                    attend_tensor *x_with_positions, attend_tensor *bound)
{
    const attend_tensor *x = &args->x;
    const attend_row_positions row_positions = attend_row_positions_of(p, args->features, args->cache);
    const int64_t rows = attend_rows_q(p), hidden = p->hidden_size;
    const double u = attend_unit_roundoff(p->dtype);
    double *angles = malloc((size_t)(hidden / 2 + 1) * sizeof *angles);
    *x_with_positions = make(p);
    if (bound) *bound = make(p);
    bool complete = angles && x_with_positions->data && (!bound || bound->data);
    for (int64_t w = 0; complete && attend_has_sinusoids(p) && 2 * w < hidden; w++)
        angles[w] = attend_reference_sinusoid(p, w);
    for (int64_t n = 0; complete && n < attend_tensor_batch(p) * rows; n++) {
        const int64_t position = attend_is_there(&row_positions, n / rows, n % rows)
                                     ? attend_row_position(&row_positions, n / rows, n % rows)
                                     : 0;
        for (int64_t c = 0; c < hidden; c++) {
            const double own =
                attend_load(x, n / rows * x->stride[0] + n % rows * x->stride[1] + c * x->stride[2]);
            const double sum = own + added(p, &weights->position_table, angles, position, c);
            ((double *)x_with_positions->data)[n * hidden + c] = rounded ? attend_round(sum, p->dtype) : sum;
            /* the sinusoid: 8ε, and the fp64 error of its angle, which is at most the position; then the sum,
               and its rounding to storage */
            const double sinusoid =
                attend_has_sinusoids(p) ? 8 * epsilon + 0x1p-50 * fabs((double)position) : 0;
            if (bound)
                ((double *)bound->data)[n * hidden + c] =
                    sinusoid + (epsilon + u) * fabs(sum) + attend_half_least(p->dtype);
        }
    }
    free(angles);
    return complete;
}
