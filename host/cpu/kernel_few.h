/* Few rows against many keys (decoding): bound by reading K and V, which happens once and in place. The roles of the micro-kernel's
   operands change: rows are broadcast, keys (for S) and columns (for O) are the lanes. Each score, weight and sum is the same chain
   of operations as in kernel.c, so the bits are the same. */
#ifndef ATTEND_CPU_KERNEL_FEW_H
#define ATTEND_CPU_KERNEL_FEW_H

#include "kernel_rows.h"

enum {
    FEW_KEYS = ATTEND_CPU_BLOCK,
    FEW_PART = 64, /* keys that are scored, or aggregated, before the next: they stay in L1 from one group of columns to the next */
    FEW_DIMS = 32, /* of K transposed at a time: a cache line of 16-bit elements */
    FEW_ROWS = ATTEND_CPU_FEW_ROWS,
    FEW_HEADS = ATTEND_CPU_FEW_HEADS
};

typedef struct few {
    const attend_cpu_task *task;
    int64_t rows, width; /* width: of an output row, padded to vectors */
    float *q;            /* [head_dim][FEW_ROWS], scaled */
    float *kt;           /* [FEW_DIMS][FEW_PART] */
    float *s;            /* [FEW_ROWS][FEW_KEYS]: scores, then weights; rows past `rows` fill up the micro-kernel */
    float *o;            /* [FEW_ROWS][width] */
    float m[FEW_ROWS], l[FEW_ROWS];
    int64_t begin[FEW_ROWS], end[FEW_ROWS]; /* keys that each row sees */
    int64_t low, high;                      /* that some row sees */
} few;

static int64_t few_floats(const attend_problem *p)
{
    return FEW_DIMS * FEW_PART + FEW_ROWS * FEW_KEYS + FEW_HEADS * FEW_ROWS * (p->head_dim + attend_cpu_round_up(p->head_dim_v, LANES));
}

/* index: which of the tasks that share the scratch. */
static void few_begin(few *f, const attend_cpu_task *task, int64_t index)
{
    int64_t d = task->problem->head_dim;
    *f = (few){.task = task, .rows = task->rows, .width = attend_cpu_round_up(task->problem->head_dim_v, LANES)};
    f->kt = task->scratch;
    f->s = f->kt + FEW_DIMS * FEW_PART;
    f->o = f->s + FEW_ROWS * FEW_KEYS + index * FEW_ROWS * (f->width + d);
    f->q = f->o + FEW_ROWS * f->width;
    for (int64_t r = 0; r < FEW_ROWS; r++)
        for (int64_t c = 0; c < d; c++)
            f->q[c * FEW_ROWS + r] =
                r < f->rows ? load_one(task->q.data, row_offset(task, &task->q, task->first_row + r) + c, task->problem->dtype) *
                                  row_scale(task, task->first_row + r)
                            : 0;
    f->low = INT64_MAX, f->high = 0;
    for (int64_t r = 0; r < f->rows; r++) {
        visible(task, task->first_row + r, &f->begin[r], &f->end[r]);
        if (f->begin[r] < f->end[r]) f->low = least(f->low, f->begin[r]), f->high = most(f->high, f->end[r]);
    }
}

/* Asks for a row's lines ahead of their use; past the end of the sequence they are asked for in vain. */
ALWAYS_INLINE void few_prefetch(const char *data, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(data + i);
}

/* Up to FEW_DIMS columns of up to LANES rows, as columns of kt. */
ALWAYS_INLINE void few_transpose(float *kt, const char *rows, int64_t stride, int64_t count, int64_t dims, attend_dtype dtype)
{
    for (int64_t c = 0; c < dims; c += LANES) {
        vf tile[2 * LANES];
        if (dtype == ATTEND_BF16 && count >= LANES && dims - c >= 2 * LANES) {
            load_transposed_pairs(tile, rows, stride, c);
            UNROLL(16) for (int i = 0; i < LANES; i++) store(kt + (c + i) * FEW_PART, tile[i]);
            c += LANES;
            UNROLL(16) for (int i = 0; i < LANES; i++) store(kt + (c + i) * FEW_PART, tile[LANES + i]);
            continue;
        }
        load_transposed(tile, rows, stride, count, c, dims, dtype);
        UNROLL(16) for (int i = 0; i < LANES; i++) store(kt + (c + i) * FEW_PART, tile[i]);
    }
}

/* S of up to FEW_PART keys from `key` on; s: [FEW_ROWS][FEW_KEYS]. */
ALWAYS_INLINE void few_score(few *f, int64_t key, int64_t count, float *s, attend_dtype dtype)
{
    const attend_cpu_rows *k = &f->task->k;
    int64_t d = f->task->problem->head_dim, element = dtype == ATTEND_F32 ? 4 : 2;
    for (int64_t c0 = 0; c0 < d; c0 += FEW_DIMS) {
        int64_t dims = least(d - c0, FEW_DIMS);
        for (int64_t j = 0; j < count; j += LANES) {
            const char *rows = (const char *)k->data + ((key + j) * k->stride + c0) * element;
            for (int i = 0; i < LANES; i++) few_prefetch(rows + (i + FEW_PART) * k->stride * element, dims * element);
            few_transpose(f->kt + j, rows, k->stride, count - j, dims, dtype);
        }
        steps at = {1, FEW_ROWS, FEW_PART, FEW_KEYS};
        for (int64_t r = 0; r < f->rows;) {
            const float *q = f->q + c0 * FEW_ROWS + r;
            float *to = s + r * FEW_KEYS;
            int64_t rest = f->rows - r;
            if (rest >= 3) {
                for (int64_t j = 0; j < count; j += 2 * LANES) multiply(4, 2, at, q, f->kt + j, dims, to + j, c0 > 0);
                r += 4;
            } else if (rest == 2) {
                for (int64_t j = 0; j < count; j += 4 * LANES) multiply(2, 4, at, q, f->kt + j, dims, to + j, c0 > 0);
                r += 2;
            } else {
                for (int64_t j = 0; j < count; j += 4 * LANES) multiply(1, 4, at, q, f->kt + j, dims, to + j, c0 > 0);
                r += 1;
            }
        }
    }
}

/* Weights of row r, which sees keys [from, to) of the block. */
static void few_fold(few *f, int64_t r, int64_t from, int64_t to)
{
    float *s = f->s + r * FEW_KEYS;
    for (int64_t j = 0; j < FEW_KEYS; j++)
        if (j < from || j >= to) s[j] = -INFINITY;
    vf top = splat(-INFINITY), factor, m = splat(f->m[r]);
    for (int64_t j = 0; j < FEW_KEYS; j += LANES) top = maximum(load(s + j), top);
    top = splat(max_lanes(top));
    if (any(top > m + splat(SLACK))) {
        m = raise(m, top, &factor);
        f->m[r] = m[0], f->l[r] *= factor[0];
        float *o = f->o + r * f->width;
        for (int64_t c = 0; c < f->width; c += LANES) store(o + c, load(o + c) * factor);
    }
    m = reference_of(m);
    for (int64_t j = 0; j < FEW_KEYS; j += LANES) store(s + j, exp2_vector(load(s + j) - m));
    float l = f->l[r];
    for (int64_t j = from; j < to; j++) l += s[j];
    f->l[r] = l;
}

/* Columns [c, c + columns) of O += P·V for `rows` rows from r on and keys [from, to). */
ALWAYS_INLINE void few_multiply(few *f, int rows, int vectors, int64_t r, int64_t key, int64_t from, int64_t to, int64_t c,
                                int64_t columns, attend_dtype dtype, bool elementwise)
{
    const attend_cpu_rows *v = &f->task->v;
    int64_t element = dtype == ATTEND_F32 ? 4 : 2;
    vf sum[4][4];
    float *o = f->o + r * f->width + c;
    UNROLL(4) for (int i = 0; i < rows; i++)
        UNROLL(4) for (int n = 0; n < vectors; n++) sum[i][n] = load(o + i * f->width + n * LANES);
    for (int64_t j = from; j < to; j++) {
        vf column[4];
        int64_t at = (key + j) * v->stride + c;
        UNROLL(4) for (int n = 0; n < vectors; n++) column[n] = load_some(v->data, at + n * LANES, columns - n * LANES, dtype);
        __builtin_prefetch((const char *)v->data + (at + FEW_PART * v->stride) * element);
        UNROLL(4) for (int i = 0; i < rows; i++)
        {
            vf weight = splat(f->s[(r + i) * FEW_KEYS + j]);
            if (elementwise && weight[0] == 0) continue; /* hidden: its value reaches the row in no way */
            UNROLL(4) for (int n = 0; n < vectors; n++) sum[i][n] = multiply_into(sum[i][n], weight, column[n]);
        }
    }
    UNROLL(4) for (int i = 0; i < rows; i++)
        UNROLL(4) for (int n = 0; n < vectors; n++) store(o + i * f->width + n * LANES, sum[i][n]);
}

/* O += P·V, part by part. */
ALWAYS_INLINE void few_aggregate(few *f, int rows, int vectors, int64_t r, int64_t key, int64_t from, int64_t to, attend_dtype dtype,
                                 bool elementwise)
{
    int64_t dv = f->task->problem->head_dim_v;
    for (int64_t end; from < to; from = end) {
        int64_t c = 0;
        end = least((from / FEW_PART + 1) * FEW_PART, to);
        for (; c + vectors * LANES <= dv; c += vectors * LANES) few_multiply(f, rows, vectors, r, key, from, end, c, vectors * LANES, dtype, elementwise);
        for (; c < dv; c += LANES) few_multiply(f, rows, 1, r, key, from, end, c, dv - c, dtype, elementwise);
    }
}

/* The block's part of every row's output; rows see keys [from, to) of it. elementwise: some of those may be hidden as well. */
ALWAYS_INLINE void few_output(few *f, int64_t key, int64_t count, const int64_t *from, const int64_t *to, attend_dtype dtype,
                              bool elementwise)
{
    for (int64_t r = 0; r < f->rows;) {
        int64_t rows = f->rows - r >= 3 ? 4 : f->rows - r, real = least(rows, f->rows - r), low = 0, high = count;
        for (int64_t i = r; i < r + real; i++) low = most(low, from[i]), high = least(high, to[i]);
        high = most(low, high);
        for (int64_t i = r; i < r + real; i++) few_aggregate(f, 1, 4, i, key, from[i], least(low, to[i]), dtype, elementwise);
        if (rows == 4)
            few_aggregate(f, 4, 2, r, key, low, high, dtype, elementwise);
        else if (rows == 2)
            few_aggregate(f, 2, 4, r, key, low, high, dtype, elementwise);
        else
            few_aggregate(f, 1, 4, r, key, low, high, dtype, elementwise);
        for (int64_t i = r; i < r + real; i++) few_aggregate(f, 1, 4, i, key, most(high, from[i]), to[i], dtype, elementwise);
        r += rows;
    }
}

ALWAYS_INLINE void few_block(few *f, int64_t key, int64_t count, attend_dtype dtype)
{
    const attend_cpu_task *task = f->task;
    int64_t from[FEW_ROWS], to[FEW_ROWS];
    const attend_cpu_scores tile = {f->s, task->first_row, f->rows, FEW_KEYS, key, count, 1};
    if (task->modifier.apply && task->modifier.hidden(task->modifier.state, &tile)) return;
    for (int64_t j = 0; j < count; j += FEW_PART) few_score(f, key + j, least(count - j, FEW_PART), f->s + j, dtype);
    if (task->modifier.apply) task->modifier.apply(task->modifier.state, &tile);
    for (int64_t r = 0; r < f->rows; r++) {
        from[r] = least(most(f->begin[r] - key, 0), count), to[r] = least(most(f->end[r] - key, from[r]), count);
        few_fold(f, r, from[r], to[r]);
    }
    if (task->modifier.apply)
        few_output(f, key, count, from, to, dtype, true);
    else
        few_output(f, key, count, from, to, dtype, false);
}

static void few_span_begin(few *f)
{
    for (int64_t r = 0; r < FEW_ROWS; r++) f->m[r] = -INFINITY, f->l[r] = 0;
    memset(f->o, 0, (size_t)(FEW_ROWS * f->width) * sizeof *f->o);
}

static void few_span_leave(const few *f, int64_t span)
{
    for (int64_t r = 0; r < f->rows; r++) {
        float *part = partial_of(f->task, f->task->first_row + r, span), *part_m = partial_m(f->task, part);
        memcpy(part, f->o + r * f->width, (size_t)f->task->problem->head_dim_v * sizeof *part);
        part_m[0] = f->m[r], part_m[1] = f->l[r];
    }
}

/* Tasks of one batch entry that differ in the KV head alone take turns block by block: where heads lie side by side, their keys share
   pages and neighbouring lines. */
static void run_few(const attend_cpu_task *tasks, int64_t count)
{
    few f[FEW_HEADS];
    for (int64_t i = 0; i < count; i++) few_begin(&f[i], &tasks[i], i);
    int64_t seqlen_k = tasks->sequence.seqlen_k;
    for (int64_t span = tasks->first_span; span < tasks->end_span; span++) {
        int64_t start = span * ATTEND_CPU_SPAN, end = least(start + ATTEND_CPU_SPAN, f->high);
        for (int64_t i = 0; i < count; i++) few_span_begin(&f[i]);
        for (int64_t key = most(start, f->low / FEW_KEYS * FEW_KEYS); key < end; key += FEW_KEYS)
            for (int64_t i = 0; i < count; i++) {
                int64_t keys = least(FEW_KEYS, seqlen_k - key);
                switch (tasks->problem->dtype) {
                case ATTEND_F32: few_block(&f[i], key, keys, ATTEND_F32); break;
                case ATTEND_F16: few_block(&f[i], key, keys, ATTEND_F16); break;
                case ATTEND_BF16: few_block(&f[i], key, keys, ATTEND_BF16); break;
                default: break; /* no activation is of another dtype */
                }
            }
        for (int64_t i = 0; i < count; i++) few_span_leave(&f[i], span);
    }
}

#endif
