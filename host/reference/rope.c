/* Rotary embedding and QK-norm of one head by their definitions, in fp64, with the error bound of fp32
   arithmetic. */
#include "shared/append.h"
#include "reference/reference.h"
#include "core/arguments.h"
#include "core/problem.h"
#include "shared/rope.h"

#include <math.h>
#include <stdlib.h>

static const double epsilon = 0x1p-24;

static double parameter(const attend_tensor *t, int64_t c, double absent)
{
    return t->data ? attend_load(t, c * t->stride[0]) : absent;
}

/* y = (y - mean) / sqrt(mean of squares + eps)·w + b, with a mean in layer norm alone. To first order, errors
   b of the elements change the root by Σ|y|b / (d·root), relatively. */
static void normalise(const attend_reference_rotation *t, int64_t d, const attend_tensor *weight,
                      const attend_tensor *bias, double *y, double *bound)
{
    double mean = 0, mean_bound = 0, squares = 0, moved = 0, n = (double)d;
    for (int64_t c = 0; c < d && t->norm == ATTEND_QK_NORM_LAYER; c++)
        mean += y[c] / n, mean_bound += (bound ? bound[c] + n * epsilon * fabs(y[c]) : 0) / n;
    for (int64_t c = 0; c < d; c++) {
        y[c] -= mean;
        squares += y[c] * y[c] / n;
        if (bound) bound[c] += mean_bound, moved += fabs(y[c]) * bound[c] / n;
    }
    double root = sqrt(squares + t->epsilon);
    for (int64_t c = 0; c < d; c++) {
        double w = parameter(weight, c, 1), b = parameter(bias, c, 0), scaled = y[c] / root * w;
        if (bound)
            bound[c] = 1.1 * fabs(w) / root * bound[c] +
                       fabs(scaled) * (1.1 * moved / (root * root) + (n + 8) * epsilon) +
                       2 * epsilon * fabs(b);
        y[c] = scaled + b;
    }
}

void attend_reference_rope(const attend_reference_rotation *t, int64_t head_dim, const attend_tensor *weight,
                           const attend_tensor *bias, int64_t position, double *y, double *bound)
{
    if (t->norm != ATTEND_QK_NORM_NONE) normalise(t, head_dim, weight, bias, y, bound);
    for (int64_t i = 0; i < t->dims / 2; i++) {
        int64_t at_a, at_b;
        attend_reference_pair(t, i, &at_a, &at_b);
        double angle = (double)position * t->angles[i], cosine = t->factor * cos(angle),
               sine = t->factor * sin(t->backward ? -angle : angle);
        double first = y[at_a], second = y[at_b];
        y[at_a] = first * cosine - second * sine;
        y[at_b] = second * cosine + first * sine;
        if (!bound) continue;
        /* 8ε for cosine and sine, 3ε for two products and a sum; and the fp64 error of the angle, which grows
           with the position */
        double own = t->factor * ((8 + 3) * epsilon + 0x1p-50 * fabs(angle)) * (fabs(first) + fabs(second)),
               ea = bound[at_a], eb = bound[at_b];
        bound[at_a] = fabs(cosine) * ea + fabs(sine) * eb + own;
        bound[at_b] = fabs(cosine) * eb + fabs(sine) * ea + own;
    }
}

/* With n = (y - mean)·f and f = 1/root: z = n·w + b, and dy = f·(g - mean of g - n·mean of g·n) for g = dz·w;
   the mean of g falls away with the norm's own mean, in an RMS norm. */
static void normalise_backward(const attend_reference_rotation *t, int64_t d, const attend_tensor *weight,
                               const double *y, double *dy, double *dweight, double *dbias)
{
    double mean = 0, squares = 0, shift = 0, along = 0;
    const double n = (double)d;
    const bool centres = t->norm == ATTEND_QK_NORM_LAYER;
    for (int64_t c = 0; c < d && centres; c++) mean += y[c] / n;
    for (int64_t c = 0; c < d; c++) squares += (y[c] - mean) * (y[c] - mean) / n;
    const double factor = 1 / sqrt(squares + t->epsilon);
    for (int64_t c = 0; c < d; c++) {
        const double normal = (y[c] - mean) * factor, g = dy[c] * parameter(weight, c, 1);
        if (dweight) dweight[c] += dy[c] * normal;
        if (dbias) dbias[c] += dy[c];
        if (centres) shift += g / n;
        along += g * normal / n;
    }
    for (int64_t c = 0; c < d; c++)
        dy[c] = factor * (dy[c] * parameter(weight, c, 1) - shift - (y[c] - mean) * factor * along);
}

void attend_reference_rope_backward(const attend_reference_rotation *t, int64_t head_dim,
                                    const attend_tensor *weight, int64_t position, const double *y,
                                    double *dy, double *dweight, double *dbias)
{
    for (int64_t i = 0; i < t->dims / 2; i++) {
        int64_t at_a, at_b;
        attend_reference_pair(t, i, &at_a, &at_b);
        const double angle = (double)position * t->angles[i], cosine = t->factor * cos(angle),
                     sine = t->factor * sin(angle), first = dy[at_a], second = dy[at_b];
        dy[at_a] = first * cosine + second * sine;
        dy[at_b] = second * cosine - first * sine;
    }
    if (t->norm != ATTEND_QK_NORM_NONE) normalise_backward(t, head_dim, weight, y, dy, dweight, dbias);
}

void attend_reference_rope_all(const attend_problem *p, const attend_row_positions *row_positions,
                               const attend_tensor *weight, const attend_tensor *bias, int64_t heads,
                               bool rounded, double *y, double *bound)
{
    const attend_reference_rotation rope = attend_reference_rotation_of(p, false);
    if (!attend_has_rope_or_norm(p)) return;
    int64_t rows = attend_rows_q(p), d = p->head_dim;
    double u = attend_unit_roundoff(p->dtype);
    for (int64_t n = 0; n < attend_tensor_batch(p) * rows; n++) {
        int64_t position = attend_row_position(row_positions, n / rows, n % rows);
        for (int64_t at = n * heads * d; at < (n + 1) * heads * d; at += d) {
            attend_reference_rope(&rope, d, weight, bias, position, y + at, bound ? bound + at : NULL);
            for (int64_t c = at; c < at + d; c++) {
                /* the rotated head is stored again */
                if (bound) bound[c] += u * fabs(y[c]) + attend_half_least(p->dtype);
                if (rounded) y[c] = attend_round(y[c], p->dtype);
            }
        }
    }
}

/* One head of one token, from offset `from` to offset `to`. */
static void rope_stored(const attend_reference_rotation *t, const attend_rope_tensor *tensor,
                        int64_t position, int64_t from, int64_t to, double *y)
{
    int64_t d = tensor->from.shape[3];
    for (int64_t c = 0; c < d; c++) y[c] = attend_load(&tensor->from, from + c);
    attend_reference_rope(t, d, &tensor->weight, &tensor->bias, position, y, NULL);
    for (int64_t c = 0; c < d; c++) attend_store(&tensor->to, to + c, y[c]);
}

typedef struct rope_job {
    const attend_reference_rotation *rope;
    const attend_row_positions *row_positions;
    const attend_rope_tensor *tensor;
    const struct attend_append *append; /* NULL: the tensors have rows of the same numbers */
} rope_job;

static void rope_token(void *job, int64_t n, int thread, double *y)
{
    const rope_job *j = job;
    const attend_tensor *from = &j->tensor->from, *to = &j->tensor->to;
    const int64_t b = n / from->shape[1], i = n % from->shape[1];
    (void)thread;
    attend_key_slot row = {b, i};
    if (j->append) row = attend_append_slot(j->append, j->row_positions, b, i);
    if (row.entry < 0 || !attend_is_there(j->row_positions, b, i)) return;
    const int64_t position = attend_row_position(j->row_positions, b, i);
    for (int64_t h = 0; h < from->shape[2]; h++)
        rope_stored(j->rope, j->tensor, position,
                    b * from->stride[0] + i * from->stride[1] + h * from->stride[2],
                    row.entry * to->stride[0] + row.row * to->stride[1] + h * to->stride[2], y);
    if (!j->append) return;
    const attend_tensor *v = &j->append->v, *cache_v = &j->append->cache_v;
    for (int64_t h = 0; h < v->shape[2]; h++)
        for (int64_t c = 0; c < v->shape[3]; c++)
            attend_store(cache_v,
                         row.entry * cache_v->stride[0] + row.row * cache_v->stride[1] +
                             h * cache_v->stride[2] + c,
                         attend_load(v, b * v->stride[0] + i * v->stride[1] + h * v->stride[2] + c));
}

bool attend_reference_rope_tensor(const attend_reference_rotation *t,
                                  const attend_row_positions *row_positions, const attend_rope_tensor *tensor,
                                  const attend_append *append, int threads)
{
    const int64_t *n = tensor->from.shape, tokens = n[0] * n[1];
    rope_job job = {t, row_positions, tensor, append};
    return attend_reference_spread(threads, tokens, 20.0 * (double)(tokens * n[2]) * (double)n[3], n[3],
                                   rope_token, &job);
}
