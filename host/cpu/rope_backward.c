/* The way back through rotary embedding and QK-norm on the CPU. The gradients of a norm's weight and bias are
   sums over tokens and heads: of each part of the tokens first, then of the parts, in their order. */
#include "cpu/angles.h"
#include "cpu/cpu.h"

#include <math.h>
#include <string.h>

enum { TOKENS = 64 }; /* of a part */

typedef struct job {
    const attend_rope *rope;
    const attend_row_positions *row_positions;
    const attend_cpu_rope_gradient *g;
    const float *weight;
    float *heads; /* a line a thread */
    double *sums; /* [parts][2][head_dim]; NULL: not wanted */
} job;

static int64_t line_of(int64_t head_dim) { return attend_cpu_round_up(head_dim, 16); }

static void turn_back(const attend_rope *t, const float *cosines, const float *sines, float *dy)
{
    for (int i = 0; i < t->dims / 2; i++) {
        float *a = dy + attend_rope_first(t, i), *b = dy + attend_rope_second(t, i);
        const float first = *a, second = *b;
        *a = first * cosines[i] + second * sines[i];
        *b = second * cosines[i] - first * sines[i];
    }
}

/* With n = (y - mean)·f: z = n·w + b, and dy = f·(g - mean of g - n·mean of g·n) for g = dz·w; an RMS norm
   has neither mean. */
static void normalise_back(const attend_rope *t, int64_t d, const float *weight, const float *y, float *dy,
                           double *sums)
{
    const bool centres = t->norm == ATTEND_QK_NORM_LAYER;
    double mean = 0, squares = 0, shift = 0, along = 0;
    for (int64_t c = 0; c < d && centres; c++) mean += y[c];
    mean /= (double)d;
    for (int64_t c = 0; c < d; c++) squares += (y[c] - mean) * (y[c] - mean);
    const double factor = 1 / sqrt(squares / (double)d + t->epsilon);
    for (int64_t c = 0; c < d; c++) {
        const double normal = (y[c] - mean) * factor, g = (double)dy[c] * weight[c];
        if (sums) sums[c] += dy[c] * normal, sums[d + c] += dy[c];
        shift += g, along += g * normal;
    }
    shift = centres ? shift / (double)d : 0, along /= (double)d;
    for (int64_t c = 0; c < d; c++)
        dy[c] = (float)(factor * ((double)dy[c] * weight[c] - shift - (y[c] - mean) * factor * along));
}

/* All heads of one token. A head without a gradient is left: its y may be NaN. */
static void go_back(const job *j, int64_t token, const float *cosines, const float *sines, float *y,
                    double *sums)
{
    const attend_tensor *dy = &j->g->dy, *from = &j->g->y;
    const int64_t b = token / dy->shape[1], i = token % dy->shape[1], d = dy->shape[3];
    for (int64_t h = 0; h < dy->shape[2]; h++) {
        float *row = (float *)dy->data + b * dy->stride[0] + i * dy->stride[1] + h * dy->stride[2];
        bool any = false;
        for (int64_t c = 0; c < d; c++) any |= row[c] != 0;
        if (!any) continue;
        turn_back(j->rope, cosines, sines, row);
        if (j->rope->norm == ATTEND_QK_NORM_NONE) continue;
        attend_cpu_load_row(y, from->data, b * from->stride[0] + i * from->stride[1] + h * from->stride[2], d,
                            from->dtype);
        normalise_back(j->rope, d, j->weight, y, row, sums);
    }
}

static void go_back_part(void *data, int64_t part, int thread)
{
    const job *j = data;
    const attend_tensor *dy = &j->g->dy;
    const int64_t tokens = dy->shape[0] * dy->shape[1], d = dy->shape[3];
    float cosines[ATTEND_ROPE_PAIRS], sines[ATTEND_ROPE_PAIRS];
    double *sums = j->sums ? j->sums + part * 2 * d : NULL;
    if (sums) memset(sums, 0, (size_t)(2 * d) * sizeof *sums);
    for (int64_t n = part * TOKENS; n < tokens && n < (part + 1) * TOKENS; n++) {
        if (!attend_is_there(j->row_positions, n / dy->shape[1], n % dy->shape[1])) continue;
        attend_cpu_angles(j->rope->turns, j->rope->dims / 2,
                          attend_row_position(j->row_positions, n / dy->shape[1], n % dy->shape[1]),
                          j->rope->factor, j->rope->sine_factor, cosines, sines);
        go_back(j, n, cosines, sines, j->heads + thread * line_of(d), sums);
    }
}

static void leave_sums(const job *j, int64_t parts)
{
    const attend_cpu_rope_gradient *g = j->g;
    const int64_t d = g->dy.shape[3];
    const attend_tensor *const to[] = {&g->dweight, &g->dbias};
    for (int which = 0; which < 2; which++)
        for (int64_t c = 0; c < d && to[which]->data; c++) {
            float *at = (float *)to[which]->data + c * to[which]->stride[0];
            double sum = g->accumulate ? (double)*at : 0;
            for (int64_t part = 0; part < parts; part++) sum += j->sums[(2 * part + which) * d + c];
            *at = (float)sum;
        }
}

static int64_t parts_of(int64_t tokens) { return attend_parts_of(tokens, TOKENS); }

int64_t attend_cpu_rope_backward_sums(const attend_problem *p)
{
    int64_t sums = 0;
    if (p->qk_norm == ATTEND_QK_NORM_NONE) return 0;
    return attend_multiply(parts_of(attend_tensor_batch(p) * attend_rows_q(p)), 2 * p->head_dim, &sums)
               ? sums
               : INT64_MAX;
}

void attend_cpu_rope_backward(attend_pool *pool, const attend_rope *rope,
                              const attend_row_positions *row_positions, const attend_cpu_rope_gradient *g,
                              float *memory, double *sums)
{
    const int64_t d = g->dy.shape[3], tokens = g->dy.shape[0] * g->dy.shape[1], parts = parts_of(tokens);
    float *weight = memory;
    job j = {.rope = rope,
             .row_positions = row_positions,
             .g = g,
             .weight = weight,
             .heads = memory + 4 * line_of(d),
             .sums = g->dweight.data || g->dbias.data ? sums : NULL};
    for (int64_t c = 0; c < d && rope->norm != ATTEND_QK_NORM_NONE; c++) {
        weight[c] = 1;
        if (g->weight.data)
            attend_cpu_load_row(&weight[c], g->weight.data, c * g->weight.stride[0], 1, g->weight.dtype);
    }
    attend_pool_run(pool, parts, 2.0 * (double)tokens * (double)(2 * rope->dims + g->dy.shape[2] * d),
                    go_back_part, &j);
    if (j.sums) leave_sums(&j, parts);
}
