/* What dS is to biases, slopes and tables of distances: their gradients. */
#ifndef ATTEND_CPU_BACKWARD_KERNEL_FEATURES_H
#define ATTEND_CPU_BACKWARD_KERNEL_FEATURES_H

#include "cpu/backward_kernel_block.h"

ALWAYS_INLINE const attend_tensor *gradient_of(const block *b, attend_gradient g)
{
    return &b->task->gradients->of[g];
}

static float sum_row(const float *ds, int64_t keys)
{
    float sum = 0;
    for (int64_t k = 0; k < keys; k++) sum += ds[k];
    return sum;
}

static float *bias_row(const block *b, packed_row at)
{
    const attend_tensor *t = gradient_of(b, ATTEND_GRADIENT_BIAS);
    return (float *)t->data + b->task->batch * attend_tensor_step(t, 0) +
           b->task->head.heads[at.head].head * attend_tensor_step(t, 1) + at.query * attend_tensor_step(t, 2);
}

/* Rows of a bias's gradient lie far apart: asked for before the tile's products, they are there behind them.
   Where nobody else adds to them they begin here. */
static void begin_bias(const block *b, int64_t first_row, int64_t rows)
{
    const attend_tensor *t = gradient_of(b, ATTEND_GRADIENT_BIAS);
    const int64_t step = t->data ? attend_tensor_step(t, 3) : 0;
    if (!t->data || (!b->task->begins_bias && (attend_tensor_step(t, 2) == 0 || step != 1))) return;
    for (int64_t r = 0; r < rows; r++) {
        float *to = bias_row(b, packed_row_of(&b->task->head, first_row + r)) + b->task->first_key * step;
        for (int64_t k = 0; b->task->begins_bias && k < b->keys; k++) to[k * step] = 0;
        for (int64_t k = 0; !b->task->begins_bias && k < b->keys; k += 16) __builtin_prefetch(to + k, 1, 2);
    }
}

/* dS of a panel joins the bias's gradient; rows and blocks come in their order. */
static void add_bias(const block *b, const key_panel *panel, int64_t first_row, int64_t keys)
{
    const attend_tensor *t = gradient_of(b, ATTEND_GRADIENT_BIAS);
    const bool by_query = b->p->bias_axes & ATTEND_PER_QUERY, by_key = b->p->bias_axes & ATTEND_PER_KEY;
    const int64_t key = b->task->first_key + panel->first, step = attend_tensor_step(t, 3),
                  rows = b->elements->rows;
    for (int64_t r = 0; r < rows; r++) {
        const packed_row at = packed_row_of(&b->task->head, first_row + r);
        const float *ds = b->ds + panel->first * TILE + r * panel->step;
        if (!by_query && by_key) {
            double *sums = b->key_bias + at.head * BLOCK + panel->first;
            for (int64_t k = 0; k < keys; k++) sums[k] += ds[k];
        } else if (!by_query) {
            b->task->sums[at.head * attend_cpu_backward_sums(b->p)] += sum_row(ds, keys);
        } else if (!by_key) {
            *bias_row(b, at) += sum_row(ds, keys);
        } else {
            float *to = bias_row(b, at) + key * step;
            int64_t k = 0;
            for (; step == 1 && k + LANES <= keys; k += LANES) store(to + k, load(to + k) + load(ds + k));
            for (; k < keys; k++) to[k * step] += ds[k];
        }
    }
}

/* Of each score its term's: score.h says how a gradient goes back. */
static void add_features(const block *b, const key_panel *panel, int64_t first_row)
{
    const attend_cpu_task *head = &b->task->head;
    const attend_problem *p = b->p;
    const bool table = gradient_of(b, ATTEND_GRADIENT_RELATIVE_TABLE)->data,
               slopes = gradient_of(b, ATTEND_GRADIENT_SLOPES)->data;
    const int64_t keys = least(panel->step, b->keys - panel->first);
    if (gradient_of(b, ATTEND_GRADIENT_BIAS)->data) add_bias(b, panel, first_row, keys);
    for (int64_t r = 0; (slopes || table) && r < b->elements->rows; r++) {
        const packed_row at = packed_row_of(head, first_row + r);
        const float *ds = b->ds + panel->first * TILE + r * panel->step;
        double *sums = b->task->sums + at.head * attend_cpu_backward_sums(p);
        const int64_t distance = b->task->first_key + panel->first - b->elements->position[r];
        float slope = 0;
        for (int64_t k = 0; slopes && k < keys; k++) slope += ds[k] * attend_alibi_factor(p, distance + k);
        sums[1] += slope;
        for (int64_t k = 0; table && k < keys; k++)
            sums[2 + attend_bucket_of(p, head->heads->terms, distance + k)] += ds[k];
    }
}

/* At the end of the block; who shares it is done. */
static void leave_key_bias(const block *b)
{
    const attend_tensor *t = gradient_of(b, ATTEND_GRADIENT_BIAS);
    for (int64_t g = 0; g < b->task->head.group; g++)
        for (int64_t k = 0; k < b->keys; k++)
            ((float *)t->data)[b->task->batch * attend_tensor_step(t, 0) +
                               b->task->head.heads[g].head * attend_tensor_step(t, 1) +
                               (b->task->first_key + k) * attend_tensor_step(t, 3)] +=
                (float)b->key_bias[g * BLOCK + k];
}

#endif
