/* Rotary embedding and QK-norm on the CPU: cosines and sines are computed once a token, for all heads of Q
   and K. */
#include "core/arguments.h"
#include "core/rotary.h"
#include "core/tensor.h"
#include "cpu/angles.h"
#include "cpu/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void normalise(const attend_rope *t, int64_t d, const float *weight, const float *bias, float *y)
{
    double mean = 0, squares = 0;
    for (int64_t c = 0; c < d && t->norm == ATTEND_QK_NORM_LAYER; c++) mean += y[c];
    mean /= (double)d;
    for (int64_t c = 0; c < d; c++) squares += (y[c] - mean) * (y[c] - mean);
    float shift = (float)mean, factor = (float)(1 / sqrt(squares / (double)d + t->epsilon));
    for (int64_t c = 0; c < d; c++) y[c] = (y[c] - shift) * factor * weight[c] + bias[c];
}

static void rotate_halves(int pairs, const float *restrict cosines, const float *restrict sines,
                          float *restrict first, float *restrict second)
{
    for (int i = 0; i < pairs; i++) {
        const float a = first[i], b = second[i];
        first[i] = a * cosines[i] - b * sines[i];
        second[i] = b * cosines[i] + a * sines[i];
    }
}

static void rotate_neighbours(int pairs, const float *restrict cosines, const float *restrict sines,
                              float *restrict y)
{
    for (int i = 0; i < pairs; i++) {
        const float a = y[2 * i], b = y[2 * i + 1];
        y[2 * i] = a * cosines[i] - b * sines[i];
        y[2 * i + 1] = b * cosines[i] + a * sines[i];
    }
}

/* What all tokens of a call share: the norm's parameters of each tensor, and a buffer for one head a
   thread. */
typedef struct job {
    const attend_rope *rope;
    const attend_row_positions *row_positions;
    const attend_rope_tensor *tensors;
    const attend_append *append; /* NULL: the tensors have rows of the same numbers */
    int count;
    const float *weight[2], *bias[2];
    float *heads; /* [threads][d], padded to whole cache lines */
} job;

static void load_parameter(const attend_tensor *t, int64_t d, float absent, float *to)
{
    for (int64_t c = 0; c < d; c++) {
        to[c] = absent;
        if (t->data) attend_cpu_load_row(&to[c], t->data, c * t->stride[0], 1, t->dtype);
    }
}

/* All heads of one token of tensor s, from row i of entry b to a row of the tensor's `to`. */
static void rope_token(const job *j, int s, int64_t b, int64_t i, attend_key_slot row, const float *cosines,
                       const float *sines, float *y)
{
    const attend_rope *t = j->rope;
    const attend_tensor *from = &j->tensors[s].from, *to = &j->tensors[s].to;
    const int64_t d = from->shape[3];
    const int pairs = t->dims / 2;
    for (int64_t h = 0; h < from->shape[2]; h++) {
        attend_cpu_load_row(y, from->data, b * from->stride[0] + i * from->stride[1] + h * from->stride[2], d,
                            from->dtype);
        if (t->norm != ATTEND_QK_NORM_NONE) normalise(t, d, j->weight[s], j->bias[s], y);
        if (t->interleaved)
            rotate_neighbours(pairs, cosines, sines, y);
        else
            rotate_halves(pairs, cosines, sines, y, y + pairs);
        attend_cpu_store_row(to->data,
                             row.entry * to->stride[0] + row.row * to->stride[1] + h * to->stride[2], y, d,
                             to->dtype);
    }
}

static void append_values(const attend_append *a, int64_t b, int64_t i, attend_key_slot row)
{
    const attend_tensor *from = &a->v, *to = &a->cache_v;
    const int64_t bytes = (int64_t)attend_dtype_bytes(from->dtype);
    for (int64_t h = 0; h < from->shape[2]; h++)
        memcpy((char *)to->data +
                   (row.entry * to->stride[0] + row.row * to->stride[1] + h * to->stride[2]) * bytes,
               (const char *)from->data +
                   (b * from->stride[0] + i * from->stride[1] + h * from->stride[2]) * bytes,
               (size_t)(from->shape[3] * bytes));
}

static int64_t line_of(int64_t head_dim) { return attend_cpu_round_up(head_dim, 16); }

static void rope_tensors(void *data, int64_t n, int thread)
{
    const job *j = data;
    const attend_rope *t = j->rope;
    const int64_t rows = j->tensors->from.shape[1], b = n / rows, i = n % rows;
    float cosines[ATTEND_ROPE_PAIRS], sines[ATTEND_ROPE_PAIRS];
    attend_key_slot row = {b, i};
    if (j->append) row = attend_append_slot(j->append, j->row_positions, b, i);
    if (row.entry < 0 || !attend_is_there(j->row_positions, b, i)) return;
    attend_cpu_angles(t->turns, t->dims / 2, attend_row_position(j->row_positions, b, i), t->factor,
                      t->sine_factor, cosines, sines);
    for (int s = 0; s < j->count; s++)
        rope_token(j, s, b, i, row, cosines, sines, j->heads + thread * line_of(j->tensors->from.shape[3]));
    if (j->append) append_values(j->append, b, i, row);
}

int64_t attend_cpu_rope_floats(const attend_pool *pool, int64_t head_dim)
{
    int64_t floats;
    return head_dim < INT64_MAX - 16 &&
                   attend_multiply(attend_pool_threads(pool) + 4, line_of(head_dim), &floats)
               ? floats
               : INT64_MAX;
}

void attend_cpu_rope(attend_pool *pool, const attend_rope *t, const attend_row_positions *row_positions,
                     const attend_rope_tensor *tensors, int count, const attend_append *append, float *memory)
{
    const int64_t d = tensors->from.shape[3], tokens = tensors->from.shape[0] * tensors->from.shape[1];
    job j = {.rope = t,
             .row_positions = row_positions,
             .tensors = tensors,
             .append = append,
             .count = count,
             .heads = memory + 4 * line_of(d)};
    int64_t heads = 0;
    for (int s = 0; s < count; s++) {
        float *weight = memory + 2 * s * line_of(d), *bias = weight + line_of(d);
        heads += tensors[s].from.shape[2];
        j.weight[s] = weight, j.bias[s] = bias;
        if (t->norm == ATTEND_QK_NORM_NONE) continue;
        load_parameter(&tensors[s].weight, d, 1, weight);
        load_parameter(&tensors[s].bias, d, 0, bias);
    }
    attend_pool_run(pool, tokens, (double)tokens * (double)(2 * t->dims + heads * d), rope_tensors, &j);
}

void attend_cpu_layer_rope(const attend_plan *plan, const attend_row_positions *row_positions,
                           const attend_tensor *q, const attend_tensor *k, const attend_appending *appending)
{
    const attend_cpu_plan *cpu = plan->state;
    const attend_layer_weights *w = &plan->weights;
    const attend_rope rope = attend_rope_of(&plan->problem);
    const attend_rope_tensor tensors[] = {{*q, *q, w->q_norm, w->q_norm_bias},
                                          {*k, *k, w->k_norm, w->k_norm_bias}};
    attend_pool *pool = cpu->context->pool;
    if (attend_has_rope_or_norm(&plan->problem))
        attend_cpu_rope(pool, &rope, row_positions, tensors, appending ? 1 : 2, NULL, cpu->rope_scratch);
    if (appending)
        attend_cpu_rope(pool, &rope, row_positions, &appending->k, 1, &appending->append, cpu->rope_scratch);
}

static attend_status run(attend_context *context, const attend_rope *rope,
                         const attend_row_positions *row_positions, const attend_rope_tensor *tensors,
                         int count, const attend_append *append)
{
    attend_pool *pool = ((const attend_cpu_context *)context->state)->pool;
    size_t bytes = 0;
    float *memory =
        attend_cpu_allocate(attend_cpu_rope_floats(pool, tensors->from.shape[3]), sizeof *memory, &bytes);
    if (!memory)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory to rotate a token's heads: %zu bytes", bytes);
    attend_cpu_rope(pool, rope, row_positions, tensors, count, append, memory);
    free(memory);
    return ATTEND_OK;
}

attend_status attend_cpu_append(attend_context *context, const attend_problem *p, const attend_appending *a,
                                const attend_run *brought)
{
    const attend_rope rope = attend_rope_of(p);
    (void)brought;
    ATTEND_TRY(attend_appending_check(p, a));
    return run(context, &rope, &a->rows, &a->k, 1, &a->append);
}

attend_status attend_cpu_rotary(attend_context *context, const attend_problem *p,
                                const attend_rotary_args *args)
{
    const attend_rope rope = attend_rotary_rope(p, args);
    const attend_row_positions row_positions = attend_rotary_row_positions(p, args);
    attend_rope_tensor tensors[2];
    ATTEND_TRY(attend_rotary_lists_check(p, args));
    const int count = attend_rotary_tensors(args, tensors);
    return run(context, &rope, &row_positions, tensors, count, NULL);
}
