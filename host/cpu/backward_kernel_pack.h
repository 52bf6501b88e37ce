/* Packing: rows of a tile and keys of a block to the panels that the products read, and what rows' scores are
   relative to. */
#ifndef ATTEND_CPU_BACKWARD_KERNEL_PACK_H
#define ATTEND_CPU_BACKWARD_KERNEL_PACK_H

#include "cpu/backward_kernel_block.h"
#include "cpu/kernel_softmax.h"

ALWAYS_INLINE vf nan_unless_finite(vf v) { return v * splat(0); }

/* LANES rows of the tile from row r on as panels of rows and of columns: [d] each, times a factor of each
   row. Returns lanes of which one is NaN where an element is not finite. */
static vf pack_some_rows(const attend_cpu_backward_task *task, const attend_cpu_rows *from, int64_t row,
                         int64_t r, int64_t count, int64_t d, vf row_factor, vf column_factor, float *rows,
                         float *columns)
{
    const attend_cpu_task *head = &task->head;
    const int64_t width = rounded(d, ROWS);
    vf bad = splat(0);
    for (int64_t c = 0; c < width; c += LANES) {
        vf tile[LANES];
        for (int i = 0; i < LANES; i++) {
            tile[i] = splat(0);
            if (i < count)
                tile[i] =
                    load_some(from->data, row_offset(head, from, row + i) + c, d - c, head->problem->dtype);
            bad += nan_unless_finite(tile[i]);
            const vf v = tile[i] * splat(column_factor[i]);
            if (c + LANES <= width)
                store_vectors(columns, TILE, c, r + i, v);
            else
                for (int64_t n = 0; n < width - c; n++)
                    columns[(c + n) / ROWS * TILE * ROWS + (r + i) * ROWS + (c + n) % ROWS] = v[n];
        }
        transpose(tile);
        for (int64_t i = 0; i < LANES && c + i < d; i++)
            store_vectors(rows, d, r, c + i, tile[i] * row_factor);
    }
    return bad;
}

static float lse_of(const attend_cpu_backward_task *task, int64_t row)
{
    const packed_row at = packed_row_of(&task->head, row);
    return task->head.lse[at.query * task->head.lse_stride + at.head * task->head.lse_head_stride];
}

static float dlse_of(const attend_cpu_backward_task *task, int64_t row)
{
    const packed_row at = packed_row_of(&task->head, row);
    return task->dlse ? task->dlse[at.query * task->dlse_stride + at.head * task->dlse_head_stride] : 0;
}

/* What a row's scores are relative to, and Σ dout·out - dlse. */
static void pack_row(const attend_cpu_backward_task *task, int64_t row, int64_t r,
                     attend_cpu_backward_tile *t)
{
    const attend_cpu_task *head = &task->head;
    const attend_problem *p = head->problem;
    const float lse = lse_of(task, row);
    const bool huge = isfinite(lse) && fabsf(lse) >= ATTEND_HUGE_SCORE;
    const double lse2 = lse == -INFINITY ? 0 : huge ? attend_max_of_huge(lse) : lse * ATTEND_LOG2E;
    t->lse2[r] = (float)lse2, t->lse2_rest[r] = isfinite(lse2) ? (float)(lse2 - t->lse2[r]) : 0;
    t->sum[r] = attend_cpu_lse_is_far(lse) ? 0 : 1;
    t->delta[r] = -dlse_of(task, row);
    if (!task->out.data || attend_cpu_lse_is_far(lse)) return;
    vf sum = splat(0);
    for (int64_t c = 0; c < p->head_dim_v; c += LANES) {
        const vf out = load_some(task->out.data, row_offset(head, &task->out, row) + c, p->head_dim_v - c,
                                 ATTEND_F32),
                 dout = load_some(task->dout.data, row_offset(head, &task->dout, row) + c, p->head_dim_v - c,
                                  p->dtype);
        /* a row that sees nothing has out 0, whatever its dout is */
        sum = choose(out == splat(0), sum, multiply_into(sum, out, dout));
    }
    float total = 0;
    for (int i = 0; i < LANES; i++) total += sum[i];
    t->delta[r] += total;
}

static void pack_tile(const attend_cpu_backward_task *task)
{
    const attend_problem *p = task->head.problem;
    const int64_t first = task->tile * TILE, count = least(task->head.rows - first, TILE);
    attend_cpu_backward_tile t = tile_of(p, task->tiles + task->tile * tile_floats(p));
    vf bad = splat(0);
    memset(t.dq, 0, (size_t)(TILE * rounded(p->head_dim, LANES)) * sizeof *t.dq);
    memset(t.unit, 0, 5 * TILE * sizeof *t.unit);
    for (int64_t r = 0; r < count; r++) {
        t.unit[r] = row_scale_of(&task->head, first + r).unit;
        pack_row(task, first + r, r, &t);
    }
    for (int64_t r = 0; r < TILE; r += LANES) {
        vf power = splat(0), scale = splat(0);
        for (int64_t i = 0; i < LANES && r + i < count; i++) {
            power[i] = row_scale_of(&task->head, first + r + i).power;
            scale[i] = task->head.heads[packed_row_of(&task->head, first + r + i).head].scale;
        }
        bad += pack_some_rows(task, &task->head.q, first + r, r, count - r, p->head_dim, power, scale,
                              t.q_rows, t.q_columns);
        bad += pack_some_rows(task, &task->dout, first + r, r, count - r, p->head_dim_v, splat(1), splat(1),
                              t.dout_rows, t.dout_columns);
    }
    *t.finite = !any(bad != bad);
}

/* Panels [columns][lanes] of keys of `from`. */
static bool pack_key_panels(const block *b, const attend_cpu_rows *from, int64_t columns, float *to)
{
    const attend_cpu_task *head = &b->task->head;
    vf bad = splat(0);
    for (int i = 0; i < b->panels; i++)
        for (int v = 0; v < b->panel[i].vectors; v++) {
            const int64_t key = b->panel[i].first + v * LANES, at = (b->task->first_key + key) * from->stride,
                          element = (int64_t)attend_dtype_bytes(head->problem->dtype);
            for (int64_t c = 0; c < columns; c += LANES) {
                vf tile[LANES];
                load_transposed(tile, (const char *)from->data + at * element, from->stride, b->keys - key, c,
                                columns, head->problem->dtype);
                for (int64_t n = 0; n < LANES && c + n < columns; n++) {
                    bad += nan_unless_finite(tile[n]);
                    store(to + b->panel[i].first * columns + (c + n) * b->panel[i].step + v * LANES, tile[n]);
                }
            }
        }
    return !any(bad != bad);
}

/* K as panels [BLOCK][columns], keys that are not there 0. */
static void pack_key_columns(const block *b)
{
    const attend_cpu_rows *from = &b->task->k;
    int64_t left = rounded(b->d, LANES) / LANES;
    for (int64_t c = 0; left > 0;) {
        const int vectors = vectors_at(left);
        for (int64_t j = 0; j < BLOCK; j++)
            for (int v = 0; v < vectors; v++) {
                const int64_t column = c + v * LANES;
                vf k = splat(0);
                if (j < b->keys)
                    k = load_some(from->data, (b->task->first_key + j) * from->stride + column, b->d - column,
                                  b->p->dtype);
                store(b->k_columns + BLOCK * c + j * vectors * LANES + v * LANES, k);
            }
        c += vectors * LANES, left -= vectors;
    }
}

#endif
