/* The visibility of a tile of keys for some rows, feature by feature: visible if all features leave it
   visible, hidden if one hides it. Included by elements_kernel.c alone. */
#ifndef ATTEND_CPU_ELEMENTS_VISIBILITY_H
#define ATTEND_CPU_ELEMENTS_VISIBILITY_H

#include "cpu/elements.h"
#include "cpu/vector.h"

#include <string.h>

typedef attend_cpu_visibility visibility_of(const attend_cpu_elements *e, const attend_cpu_element_rows *x,
                                            int64_t first, int64_t keys);

static attend_cpu_visibility gap_visibility(const attend_cpu_elements *e, const attend_cpu_element_rows *x,
                                            int64_t first, int64_t keys)
{
    const attend_head *h = e->heads;
    const int64_t begin = h->sequence.start + h->problem->prefix;
    if (first >= begin && first + keys <= x->gap_least) return ATTEND_CPU_HIDDEN;
    return first + keys <= begin || first >= x->gap_most ? ATTEND_CPU_VISIBLE : ATTEND_CPU_PARTLY;
}

static attend_cpu_visibility segment_visibility(const attend_cpu_elements *e,
                                                const attend_cpu_element_rows *x, int64_t first, int64_t keys)
{
    const attend_ids *of = &e->ids[first / ATTEND_CPU_BLOCK];
    (void)keys;
    if (!attend_ids_meet(of, &x->ids)) return ATTEND_CPU_HIDDEN;
    return attend_ids_same(of, &x->ids) ? ATTEND_CPU_VISIBLE : ATTEND_CPU_PARTLY;
}

static attend_cpu_visibility block_visibility(const attend_cpu_elements *e, const attend_cpu_element_rows *x,
                                              int64_t first, int64_t keys)
{
    const int64_t size = e->heads->problem->block_k;
    bool seen = false, hidden = false;
    for (int64_t r = 0; r < x->rows; r++) {
        if (r > 0 && x->block_row[r] == x->block_row[r - 1]) continue;
        for (int64_t block = first / size; block * size < first + keys; block++) {
            const bool visible = attend_block_visible(x->head[r], x->block[r], block);
            seen |= visible, hidden |= !visible;
            if (seen && hidden) return ATTEND_CPU_PARTLY;
        }
    }
    return seen ? ATTEND_CPU_VISIBLE : ATTEND_CPU_HIDDEN;
}

/* Whether any of n bytes is not 0. */
static bool any_byte(const uint8_t *bytes, size_t n)
{
    uint64_t word, all = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) memcpy(&word, bytes + i, 8), all |= word;
    for (; i < n; i++) all |= bytes[i];
    return all != 0;
}

static void read_mask(const attend_plane *mask, int64_t offset, int64_t keys, bool *seen, bool *hidden)
{
    const uint8_t *from = (const uint8_t *)mask->data + offset;
    if (mask->key == 1) {
        const size_t bytes = (size_t)keys;
        *seen = *seen || any_byte(from, bytes), *hidden = *hidden || memchr(from, 0, bytes);
        return;
    }
    for (int64_t k = 0; k < keys && !(*seen && *hidden); k++) *(from[k * mask->key] ? seen : hidden) = true;
}

static attend_cpu_visibility mask_visibility(const attend_cpu_elements *e, const attend_cpu_element_rows *x,
                                             int64_t first, int64_t keys)
{
    const attend_plane *mask = &e->heads->terms->mask;
    bool seen = false, hidden = false;
    for (int64_t r = 0; r < (x->one_mask ? 1 : x->rows); r++) {
        read_mask(mask, x->mask[r] + first * mask->key, keys, &seen, &hidden);
        if (seen && hidden) return ATTEND_CPU_PARTLY;
    }
    return seen ? ATTEND_CPU_VISIBLE : ATTEND_CPU_HIDDEN;
}

/* A bias of -infinity for all keys hides the tile; single ones are found when scores are computed. */
static attend_cpu_visibility bias_visibility(const attend_cpu_elements *e, const attend_cpu_element_rows *x,
                                             int64_t first, int64_t keys)
{
    const attend_plane *bias = &e->heads->terms->bias;
    for (int64_t r = 0; r < (x->one_bias ? 1 : x->rows); r++)
        for (int64_t k = 0; k < keys;) {
            const int64_t at = x->bias[r] + (first + k) * bias->key;
            if (bias->key == 1 && keys - k >= LANES) {
                if (any(load_vector(bias->data, at, bias->dtype) != splat(-INFINITY)))
                    return ATTEND_CPU_VISIBLE;
                k += LANES;
                continue;
            }
            if (load_one(bias->data, at, bias->dtype) != -INFINITY) return ATTEND_CPU_VISIBLE;
            k++;
        }
    return ATTEND_CPU_HIDDEN;
}

/* Removes keys from either end whose segment no row has. */
static void trim(const attend_cpu_elements *e, const attend_cpu_element_rows *x, attend_cpu_scores *tile)
{
    const attend_head *h = e->heads;
    const attend_plane *segments = &h->terms->segments_k;
    for (bool front = true;;) {
        if (tile->keys == 0) return;
        const int64_t key = tile->first_key + (front ? 0 : tile->keys - 1);
        const int32_t id =
            attend_segment(segments, &h->sequence, (h->sequence.first_k + key) * segments->key);
        if (attend_ids_hold(&x->ids, id)) {
            if (!front) return;
            front = false;
            continue;
        }
        tile->keys--, tile->first_key += front, tile->scores += front ? tile->key_stride : 0;
    }
}

static attend_cpu_visibility visibility_of_tile(const attend_cpu_elements *e,
                                                const attend_cpu_element_rows *x, attend_cpu_scores *tile)
{
    const attend_problem *p = e->heads->problem;
    visibility_of *const tests[] = {
        attend_has_gap(p) ? gap_visibility : NULL, p->segments ? segment_visibility : NULL,
        p->block_q > 0 ? block_visibility : NULL, p->mask_axes ? mask_visibility : NULL,
        p->bias_axes ? bias_visibility : NULL};
    attend_cpu_visibility all = ATTEND_CPU_VISIBLE;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (!tests[i]) continue;
        const attend_cpu_visibility visibility = tests[i](e, x, tile->first_key, tile->keys);
        if (visibility == ATTEND_CPU_HIDDEN) return visibility;
        if (visibility == ATTEND_CPU_PARTLY) all = visibility;
    }
    if (all == ATTEND_CPU_PARTLY && p->segments) trim(e, x, tile);
    return tile->keys > 0 ? all : ATTEND_CPU_HIDDEN;
}

#endif
