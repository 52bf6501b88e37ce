/* What of a block a tile's rows see, and P and dS of it. */
#ifndef ATTEND_CPU_BACKWARD_KERNEL_WEIGH_H
#define ATTEND_CPU_BACKWARD_KERNEL_WEIGH_H

#include "cpu/backward_kernel_block.h"
#include "cpu/kernel_softmax.h"

static void row_visible(block *b, int64_t first_row, int64_t r, int64_t rows)
{
    int64_t begin = 0, end = 0;
    if (r < rows) visible(&b->task->head, first_row + r, &begin, &end);
    b->begin[r] = (int32_t)attend_clamp(begin - b->task->first_key, 0, BLOCK);
    b->end[r] = (int32_t)attend_clamp(end - b->task->first_key, 0, BLOCK);
}

/* Which rows see any of the panel, and whether all see all of it. */
static void panel_visible(const block *b, key_panel *panel, int64_t rows)
{
    const int64_t end = panel->first + panel->step;
    panel->low = TILE, panel->high = 0, panel->whole = true;
    for (int64_t r = 0; r < rows; r++)
        if (b->begin[r] < least(b->end[r], end) && b->end[r] > panel->first)
            panel->low = least(panel->low, r / ROWS * ROWS), panel->high = r / ROWS * ROWS + ROWS;
    /* features are applied to all rows of a tile */
    if (b->elements && panel->high > 0) panel->low = 0, panel->high = rounded(rows, ROWS);
    for (int64_t r = panel->low; r < panel->high; r++)
        panel->whole = panel->whole && b->begin[r] <= panel->first && b->end[r] >= end;
}

/* Which keys of the block the tile's rows see; false where none. Neither end of what rows see decreases, so
   that the first and the last row decide for most tiles. */
static bool tile_visible(block *b, int64_t first_row, int64_t rows)
{
    const int64_t last = rows - 1;
    row_visible(b, first_row, 0, rows), row_visible(b, first_row, last, rows);
    if (b->end[last] == 0 || b->begin[0] == BLOCK) return false;
    const bool whole = rows == TILE && b->keys == BLOCK && b->begin[last] == 0 && b->end[0] == BLOCK;
    for (int64_t r = 0; r < TILE; r++) {
        if (!whole)
            row_visible(b, first_row, r, rows);
        else
            b->begin[r] = 0, b->end[r] = BLOCK;
    }
    for (int n = 0; n < b->panels; n++) panel_visible(b, &b->panel[n], rows);
    return true;
}

/* S and dP become dS and P; keys from `from` to `to` of the panel are looked at, others hidden. */
ALWAYS_INLINE void weigh_panel(const block *b, const attend_cpu_backward_tile *t, const key_panel *panel,
                               bool partly, int64_t from, int64_t to)
{
    const int vectors = panel->vectors;
    vi lane;
    UNROLL_FOR (16, int i = 0; i < LANES; i++) lane[i] = i + (int32_t)panel->first;
    for (int64_t r = panel->low; r < panel->high; r++) {
        const vf unit = splat(t->unit[r]), lse2 = splat(-t->lse2[r]), rest = splat(t->lse2_rest[r]),
                 delta = splat(t->delta[r]);
        const bool huge = attend_max_is_huge(t->lse2[r]);
        const vi begin = splat_int((int32_t)most(b->begin[r], panel->first + from)),
                 end = splat_int((int32_t)least(b->end[r], panel->first + to));
        for (int v = 0; v < vectors; v++) {
            float *s = b->ds + panel->first * TILE + r * panel->step + v * LANES,
                  *w = b->weights + r * panel->step + v * LANES;
            vf x = multiply_into(lse2, load(s), unit);
            if (huge) x = exponent_of(load(s), unit) + lse2, x = choose(x > splat(0), splat(0), x);
            x -= rest;
            if (partly) {
                const vi key = lane + splat_int(v * LANES);
                x = choose((begin <= key) & (key < end), x, splat(-INFINITY));
            }
            const vf weight = exp2_vector(x);
            vf ds = weight * (load(w) - delta);
            if (partly) ds = choose(weight == splat(0), weight, ds);
            store(w, weight), store(s, ds);
        }
    }
}

/* Of the elements: what of the panel is hidden, scores, slopes. Returns whether any of it is visible. */
static bool score_panel(block *b, key_panel *panel, int64_t *from, int64_t *to)
{
    const attend_cpu_task *head = &b->task->head;
    attend_cpu_scores tile = {b->ds + panel->first * TILE, panel->step, b->task->first_key + panel->first,
                              least(panel->step, b->keys - panel->first), 1};
    const attend_cpu_scores all = tile;
    const attend_cpu_visibility visibility =
        OF_ISA(attend_cpu_scorer).visibility_of_tile(head->elements, b->elements, &tile);
    if (visibility == ATTEND_CPU_HIDDEN) return false;
    *from = tile.first_key - all.first_key, *to = *from + tile.keys;
    if (b->p->softcap > 0) {
        const attend_cpu_scores slopes = {b->slopes, panel->step, all.first_key, all.keys, 1};
        memcpy(b->slopes, all.scores, (size_t)(b->elements->rows * panel->step) * sizeof(float));
        OF_ISA(attend_cpu_scorer).softcap_slopes(head->elements, b->elements, &slopes);
    }
    const bool hides = OF_ISA(attend_cpu_scorer).score(head->elements, b->elements, &tile, visibility);
    if (hides || tile.keys < panel->step) panel->whole = false;
    return true;
}

#endif
