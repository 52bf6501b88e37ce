/* Gradients by blocks (Dao et al. 2022). Compiled once per instruction set; backward.h is its interface.
   
   Keys of a block are the lanes, in panels of up to VECTORS vectors. For each tile of rows and each panel
       S = Q·Kᵀ, dP = dO·Vᵀ;  P = 2^(S·unit - lse2), dS = P∘(dP - Δ);  dVᵀ += dOᵀ·P, dKᵀ += Qᵀ·dS
   and once for the tile dQ += dS·K over all panels. S and dP of a panel stay in the first-level cache. Rows
   are the operand that is broadcast, so that only dQ reads dS across its lanes, as broadcasts too. */

#include "cpu/backward_kernel_pack.h"
#include "cpu/backward_kernel_multiply.h"
#include "cpu/backward_kernel_weigh.h"
#include "cpu/backward_kernel_features.h"

/* P and dS of a panel against a tile; false where nothing of it is visible. */
static bool make_panel(block *b, const attend_cpu_backward_tile *t, key_panel *panel)
{
    int64_t from = 0, to = panel->step;
    if (panel->high == 0) return false;
    const int64_t tiles = (panel->high - panel->low) / ROWS, at = panel->low * panel->step;
    scores[panel->vectors](t->q_rows + panel->low * b->d, b->k + panel->first * b->d, b->d,
                           b->ds + panel->first * TILE + at, tiles);
    if (b->elements && !score_panel(b, panel, &from, &to)) {
        panel->low = panel->high = 0;
        return false;
    }
    scores[panel->vectors](t->dout_rows + panel->low * b->dv, b->v + panel->first * b->dv, b->dv,
                           b->weights + at, tiles);
    if (panel->whole)
        weigh_panel(b, t, panel, false, from, to);
    else
        weigh_panel(b, t, panel, true, from, to);
    return true;
}

static void sum_delta_tile(block *b, int64_t index)
{
    const attend_cpu_backward_task *task = b->task;
    const int64_t first_row = index * TILE, rows = least(task->head.rows - first_row, TILE);
    attend_cpu_backward_tile t = tile_of(b->p, task->tiles + index * tile_floats(b->p));
    vf sums[TILE], weights[TILE];
    bool any_far = false;
    if (!tile_visible(b, first_row, rows)) {
        attend_cpu_backward_wait(task->before, index + 1);
        return;
    }
    if (b->elements) attend_cpu_prepare_rows(task->head.elements, first_row, rows, LANES, b->elements);
    float none[TILE] = {0}; /* the sum so far, which others may be adding to, is no part of p·dP */
    attend_cpu_backward_tile without = t;
    without.delta = none;
    for (int r = 0; r < TILE; r++) sums[r] = weights[r] = splat(0);
    for (int64_t r = 0; r < rows; r++)
        any_far = any_far || attend_cpu_lse_is_far(lse_of(task, first_row + r));
    for (int n = 0; n < b->panels; n++) {
        key_panel *panel = &b->panel[n];
        if (!make_panel(b, &without, panel)) continue;
        for (int64_t r = panel->low; r < panel->high; r++)
            for (int v = 0; v < panel->vectors; v++)
                sums[r] += load(b->ds + panel->first * TILE + r * panel->step + v * LANES);
        for (int64_t r = panel->low; any_far && r < panel->high; r++)
            for (int v = 0; v < panel->vectors; v++)
                weights[r] += load(b->weights + r * panel->step + v * LANES);
    }
    attend_cpu_backward_wait(task->before, index + 1);
    for (int64_t r = 0; r < rows; r++) {
        float sum = 0, weight = 0;
        for (int i = 0; i < LANES; i++) sum += sums[r][i], weight += weights[r][i];
        const bool far = attend_cpu_lse_is_far(lse_of(task, first_row + r));
        if (!task->out.data || far) t.delta[r] += sum;
        if (far) t.sum[r] += weight;
    }
}

static void normalise(const attend_cpu_backward_task *task)
{
    const attend_problem *p = task->head.problem;
    const int64_t first = task->tile * TILE, count = least(task->head.rows - first, TILE);
    attend_cpu_backward_tile t = tile_of(p, task->tiles + task->tile * tile_floats(p));
    for (int64_t r = 0; r < count; r++) {
        const float lse = lse_of(task, first + r), dlse = dlse_of(task, first + r);
        if (!attend_cpu_lse_is_far(lse)) continue;
        const attend_head *head = &task->head.heads[packed_row_of(&task->head, first + r).head];
        if (p->sinks) t.sum[r] += expf(attend_head_sink(head->terms, head->head) - lse);
        if (t.sum[r] == 0) continue;
        t.lse2_rest[r] += log2f(t.sum[r]);
        t.delta[r] = (t.delta[r] + dlse) / t.sum[r] - dlse;
    }
}

static void run_tile(block *b, int64_t index)
{
    const attend_cpu_backward_task *task = b->task;
    const attend_gradients *g = task->gradients;
    const int64_t first_row = index * TILE, rows = least(task->head.rows - first_row, TILE),
                  d = rounded(b->d, LANES);
    const attend_cpu_backward_tile t = tile_of(b->p, task->tiles + index * tile_floats(b->p));
    const bool adds = g->of[ATTEND_GRADIENT_BIAS].data || g->of[ATTEND_GRADIENT_SLOPES].data ||
                      g->of[ATTEND_GRADIENT_RELATIVE_TABLE].data;
    bool careful = false;
    if (adds) {
        attend_cpu_backward_wait(task->before, index + 1);
        attend_cpu_backward_wait(task->before_shared, index + 1);
        begin_bias(b, first_row, rows);
    }
    if (!tile_visible(b, first_row, rows)) {
        attend_cpu_backward_wait(task->before, index + 1);
        return;
    }
    if (b->elements) attend_cpu_prepare_rows(task->head.elements, first_row, rows, LANES, b->elements);
    for (int n = 0; n < b->panels; n++) {
        key_panel *panel = &b->panel[n];
        if (!make_panel(b, &t, panel)) continue;
        const int64_t low = panel->low, depth = panel->high - low;
        float *ds = b->ds + panel->first * TILE;
        if (adds) add_features(b, panel, first_row);
        for (int64_t i = low * panel->step; b->p->softcap > 0 && i < panel->high * panel->step; i += LANES)
            store(ds + i, choose(load(ds + i) == splat(0), splat(0), load(ds + i) * load(b->slopes + i)));
        const bool weighed = !panel->whole && !(b->finite && *t.finite);
        float *dv = b->dv_sum + panel->first * rounded(b->dv, ROWS),
              *dk = b->dk + panel->first * rounded(b->d, ROWS);
        careful = careful || weighed;
        if (weighed) {
            output_weighed(panel, t.dout_columns + low * ROWS, b->weights + low * panel->step, depth, dv,
                           rounded(b->dv, ROWS));
            output_weighed(panel, t.q_columns + low * ROWS, ds + low * panel->step, depth, dk,
                           rounded(b->d, ROWS));
            continue;
        }
        if (task->dv.data)
            outputs[panel->vectors](t.dout_columns + low * ROWS, TILE * ROWS, b->weights + low * panel->step,
                                    depth, dv, rounded(b->dv, ROWS) / ROWS);
        if (task->dk.data)
            outputs[panel->vectors](t.q_columns + low * ROWS, TILE * ROWS, ds + low * panel->step, depth, dk,
                                    rounded(b->d, ROWS) / ROWS);
    }
    attend_cpu_backward_wait(task->before, index + 1);
    int64_t left = d / LANES;
    for (int64_t c = 0; left > 0;) {
        const int vectors = vectors_at(left);
        for (int64_t r = 0; r < rounded(rows, ROWS); r += careful ? 1 : ROWS)
            if (careful)
                dq_weighed(b, r, b->k_columns + BLOCK * c, vectors * LANES, t.dq + r * d + c);
            else
                dqs[vectors](b, r, b->k_columns + BLOCK * c, t.dq + r * d + c, d);
        c += vectors * LANES, left -= vectors;
    }
}

/* dK or dV of the block to their rows, and zeros past the sequence's keys. */
static void leave_keys(const block *b, const attend_cpu_rows *to, attend_dtype dtype, const float *sums,
                       int64_t columns)
{
    const int64_t width = rounded(columns, ROWS), first = b->task->first_key,
                  last = b->p->packed ? b->task->head.sequence.seqlen_k : b->p->seqlen_k;
    if (!to->data) return;
    const bool adds = b->task->gradients->accumulate;
    for (int n = 0; n < b->panels; n++)
        for (int v = 0; v < b->panel[n].vectors; v++) {
            const int64_t key = b->panel[n].first + v * LANES;
            for (int64_t c = 0; c < columns; c += LANES) {
                vf tile[LANES];
                for (int i = 0; i < LANES; i++)
                    tile[i] =
                        c + i < columns
                            ? load(sums + b->panel[n].first * width + (c + i) * b->panel[n].step + v * LANES)
                            : splat(0);
                transpose(tile);
                for (int64_t i = 0; i < LANES && key + i < b->keys; i++) {
                    const int64_t at = (first + key + i) * to->stride + c;
                    vf value = tile[i];
                    if (adds) value += load_some(to->data, at, columns - c, dtype);
                    store_some(to->data, at, value, columns - c, dtype);
                }
            }
        }
    for (int64_t key = first + most(b->keys, 0); !adds && key < least(first + BLOCK, last); key++)
        for (int64_t c = 0; c < columns; c += LANES)
            store_some(to->data, key * to->stride + c, splat(0), columns - c, dtype);
}

static void pass(const attend_cpu_backward_task *task, int64_t tiles)
{
    atomic_store_explicit(task->passed, tiles, memory_order_release);
}

static void sum_delta(const attend_cpu_backward_task *task)
{
    block b = block_of(task);
    if (b.keys > 0) pack_key_panels(&b, &task->k, b.d, b.k), pack_key_panels(&b, &task->v, b.dv, b.v);
    for (int64_t i = 0; b.keys > 0 && i * TILE < task->head.rows && attend_progress_continues(task->tracker);
         i++)
        sum_delta_tile(&b, i), pass(task, i + 1);
    pass(task, INT64_MAX);
}

static void run(const attend_cpu_backward_task *task)
{
    block b = block_of(task);
    const attend_tensor *of = task->gradients->of;
    const bool key_bias = of[ATTEND_GRADIENT_BIAS].data &&
                          (b.p->bias_axes & (ATTEND_PER_QUERY | ATTEND_PER_KEY)) == ATTEND_PER_KEY;
    memset(task->sums, 0, (size_t)(task->head.group * attend_cpu_backward_sums(b.p)) * sizeof *task->sums);
    if (b.keys > 0) {
        pack_key_panels(&b, &task->v, b.dv, b.v);
        b.finite = pack_key_panels(&b, &task->k, b.d, b.k);
        pack_key_columns(&b);
        memset(b.dk, 0, (size_t)(BLOCK * rounded(b.d, ROWS)) * sizeof *b.dk);
        memset(b.dv_sum, 0, (size_t)(BLOCK * rounded(b.dv, ROWS)) * sizeof *b.dv_sum);
        if (key_bias) memset(b.key_bias, 0, (size_t)(task->head.group * BLOCK) * sizeof *b.key_bias);
    }
    for (int64_t i = 0; b.keys > 0 && i * TILE < task->head.rows && attend_progress_continues(task->tracker);
         i++)
        run_tile(&b, i), pass(task, i + 1);
    leave_keys(&b, &task->dk, of[ATTEND_GRADIENT_K].dtype, b.dk, b.d);
    leave_keys(&b, &task->dv, of[ATTEND_GRADIENT_V].dtype, b.dv_sum, b.dv);
    if (task->ends_in_order) attend_cpu_backward_wait(task->before, INT64_MAX);
    attend_cpu_backward_wait(task->before_shared, INT64_MAX);
    if (key_bias) leave_key_bias(&b);
    pass(task, INT64_MAX);
}

static void finish_tile(const attend_cpu_backward_task *task)
{
    const attend_problem *p = task->head.problem;
    const attend_tensor *of = &task->gradients->of[ATTEND_GRADIENT_Q];
    const int64_t first = task->tile * TILE,
                  last = least(TILE, task->head.group * attend_rows_of(p, &task->head.sequence) - first);
    const attend_cpu_backward_tile t = tile_of(p, task->tiles + task->tile * tile_floats(p));
    for (int64_t r = 0; r < last; r++) {
        const bool there = first + r < task->head.rows;
        const int64_t at = row_offset(&task->head, &task->dq, first + r);
        const vf scale = splat(task->head.heads[packed_row_of(&task->head, first + r).head].scale);
        for (int64_t c = 0; c < p->head_dim; c += LANES) {
            vf value = splat(0);
            if (there) value = load(t.dq + r * rounded(p->head_dim, LANES) + c) * scale;
            if (task->gradients->accumulate)
                value += load_some(task->dq.data, at + c, p->head_dim - c, of->dtype);
            store_some(task->dq.data, at + c, value, p->head_dim - c, of->dtype);
        }
    }
}

const attend_cpu_backward_kernel OF_ISA(attend_cpu_backward) = {
    tile_floats, scratch_floats, pack_tile, sum_delta, normalise, run, finish_tile, tile_of};
