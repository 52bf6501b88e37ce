/* Score terms beyond softmax_scale·q·k, and masks beyond the visible interval: shared by the CPU path and
   every CUDA kernel, as visibility.h is. A kernel calls attend_is_elementwise() once. If it returns false,
   scores are scale·dot and visible keys are an interval. If true, each score within the interval passes
   through attend_element_score(). */
#ifndef ATTEND_SHARED_SCORE_H
#define ATTEND_SHARED_SCORE_H

#include "shared/segment.h"
#include "shared/visibility.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
#include "shared/float16.h"
#endif
#include <math.h>

/* A tensor indexed by (batch, head, query, key); the stride of an axis that it lacks is 0. data NULL:
   absent. */
typedef struct attend_plane {
    const void *data;
    int64_t batch, head, query, key; /* strides in elements */
    attend_dtype dtype;
} attend_plane;

/* The feature tensors of a run, all that args hold beside q, k, v, out, lse and lists. */
typedef struct attend_terms {
    attend_plane mask, block_mask, bias;
    attend_plane block_offsets, block_indices;               /* i64, indexed by query; i32, indexed by key */
    attend_plane segments_q, segments_k;                     /* indexed by query; by key */
    attend_plane slopes, head_scales, sinks, relative_table; /* fp32; the table's buckets lie along key */
    const int32_t *relative_buckets; /* for the distances -max_distance … max_distance; made with the plan */
    /* summaries of segments_k by blocks of attend_id_block keys, made before a run; NULL: not needed */
    const attend_ids *key_ids;
    int64_t key_id_blocks; /* blocks a batch entry */
} attend_terms;

/* The terms of one head of one batch entry. */
typedef struct attend_head {
    int64_t head;
    const attend_problem *problem;
    const attend_terms *terms;
    attend_sequence sequence;
    float scale, slope;
    int64_t mask, block_mask, bias, relative, block_offsets; /* element offsets of this head */
} attend_head;

/* Whether scores are more than scale·dot. */
ATTEND_SHARED bool attend_adds_terms(const attend_problem *p)
{
    return p->bias_axes || p->softcap > 0 || p->alibi || p->relative_buckets > 0;
}

/* Whether masks can hide whole tiles within a row's interval. */
ATTEND_SHARED bool attend_hides_tiles(const attend_problem *p)
{
    return p->segments || p->block_q > 0 || attend_has_gap(p);
}

/* Whether scores are more than scale·dot or visible keys fewer than the interval. */
ATTEND_SHARED bool attend_is_elementwise(const attend_problem *p)
{
    return p->mask_axes || attend_adds_terms(p) || attend_hides_tiles(p);
}

/* The paper's slopes: 2^(-8/n), 2^(-16/n), …, 2^-8 for n, the largest power of two up to num_heads; the
   remaining heads take every other slope of the series for 2n. */
ATTEND_SHARED float attend_alibi_slope(int64_t head, int64_t num_heads)
{
    int64_t n = 1;
    while (2 * n <= num_heads) n *= 2;
    return exp2f(head < n ? -8 * (float)(head + 1) / (float)n : -4 * (float)(2 * (head - n) + 1) / (float)n);
}

ATTEND_SHARED float attend_float_at(const attend_plane *plane, int64_t offset)
{
    if (plane->dtype == ATTEND_F32) return ((const float *)plane->data)[offset];
#ifdef __CUDACC__
    const unsigned short bits = ((const unsigned short *)plane->data)[offset];
    return plane->dtype == ATTEND_F16 ? __half2float(__ushort_as_half(bits))
                                      : __bfloat162float(__ushort_as_bfloat16(bits));
#else
    const uint16_t bits = ((const uint16_t *)plane->data)[offset];
    return attend_from_bits16(plane->dtype, bits);
#endif
}

/* softmax_scale for this head. */
ATTEND_SHARED float attend_head_scale(const attend_problem *p, const attend_terms *terms, int64_t head)
{
    return p->head_scales
               ? p->softmax_scale * ((const float *)terms->head_scales.data)[head * terms->head_scales.head]
               : p->softmax_scale;
}

/* The head's sink; the problem must have sinks. */
ATTEND_SHARED float attend_head_sink(const attend_terms *terms, int64_t head)
{
    return ((const float *)terms->sinks.data)[head * terms->sinks.head];
}

/* b: an index into the problem's batch, not into the tensors. */
ATTEND_SHARED attend_head attend_head_of(const attend_problem *p, const attend_terms *terms,
                                         const attend_sequence *s, int64_t b, int64_t head)
{
    attend_head h = {head, p, terms, *s, attend_head_scale(p, terms, head), 0, 0, 0, 0, 0, 0};
    h.mask = b * terms->mask.batch + head * terms->mask.head;
    h.block_mask = b * terms->block_mask.batch + head * terms->block_mask.head;
    h.block_offsets = b * terms->block_offsets.batch + head * terms->block_offsets.head;
    h.bias = b * terms->bias.batch + head * terms->bias.head;
    h.relative = head * terms->relative_table.head;
    if (p->alibi)
        h.slope = terms->slopes.data ? ((const float *)terms->slopes.data)[head * terms->slopes.head]
                                     : attend_alibi_slope(head, p->num_heads);
    return h;
}

ATTEND_SHARED int32_t attend_segment(const attend_plane *segments, const attend_sequence *s, int64_t at)
{
    return ((const int32_t *)segments->data)[s->batch * segments->batch + at];
}

/* The first visible block of keys from block `from` on, for block `block` of queries, by the block list;
   INT64_MAX: none. */
ATTEND_SHARED int64_t attend_listed_from(const attend_head *h, int64_t block, int64_t from)
{
    const attend_terms *t = h->terms;
    const int64_t *offsets =
        (const int64_t *)t->block_offsets.data + h->block_offsets + block * t->block_offsets.query;
    const int32_t *indices = (const int32_t *)t->block_indices.data;
    int64_t low = attend_clamp(offsets[0], 0, h->problem->block_list);
    const int64_t end = attend_clamp(offsets[t->block_offsets.query], low, h->problem->block_list);
    int64_t high = end;
    ATTEND_ROLLED
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (indices[middle * t->block_indices.key] < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end ? indices[low * t->block_indices.key] : INT64_MAX;
}

/* Whether a block is visible by block_mask or block list; the problem must have one of them. */
ATTEND_SHARED bool attend_block_visible(const attend_head *h, int64_t block_q, int64_t block_k)
{
    const attend_plane *mask = &h->terms->block_mask;
    if (h->problem->block_list > 0) return attend_listed_from(h, block_q, block_k) == block_k;
    return ((const uint8_t *)mask->data)[h->block_mask + block_q * mask->query + block_k * mask->key] != 0;
}

/* Whether a key within a row's interval is visible to it. */
ATTEND_SHARED bool attend_element_visible(const attend_head *h, int64_t row, int64_t key)
{
    const attend_problem *p = h->problem;
    const attend_terms *t = h->terms;
    const attend_sequence *s = &h->sequence;
    if (attend_has_gap(p) && key >= s->start + p->prefix && key < attend_local_begin(p, s, row)) return false;
    if (p->segments && attend_segment(&t->segments_q, s, (s->first_q + row) * t->segments_q.query) !=
                           attend_segment(&t->segments_k, s, (s->first_k + key) * t->segments_k.key))
        return false;
    if (p->block_q > 0 && !attend_block_visible(h, row / p->block_q, key / p->block_k)) return false;
    return !p->mask_axes ||
           ((const uint8_t *)t->mask.data)[h->mask + row * t->mask.query + key * t->mask.key];
}

/* The score of a visible key, given q·k; not in base 2. */
ATTEND_SHARED float attend_visible_score(const attend_head *h, int64_t row, int64_t key, float dot)
{
    const attend_problem *p = h->problem;
    const attend_terms *t = h->terms;
    float s = dot * h->scale;
    if (p->softcap > 0) s = p->softcap * tanhf(s / p->softcap);
    int64_t distance = key - attend_position(p, &h->sequence, row);
    if (p->alibi) {
        float by = (float)distance;
        s += h->slope * (p->alibi == ATTEND_ALIBI_CAUSAL ? by : -fabsf(by));
    }
    if (p->relative_buckets > 0) {
        int64_t limit = p->relative_max_distance;
        int32_t bucket = t->relative_buckets[attend_clamp(distance, -limit, limit) + limit];
        s += ((const float *)t->relative_table.data)[h->relative + bucket * t->relative_table.key];
    }
    if (p->bias_axes) {
        float bias = attend_float_at(&t->bias, h->bias + row * t->bias.query + key * t->bias.key);
        s = bias == -INFINITY ? bias : s + bias;
    }
    return s;
}

/* How a gradient of that score goes back, term by term. Of a bias it is the bias's own, of a relative bias
   the bucket's; of ALiBi's slope it counts so many times; and of scale·q·k this many times, `scaled` being
   that. */
ATTEND_SHARED float attend_alibi_factor(const attend_problem *p, int64_t distance)
{
    return (float)(p->alibi == ATTEND_ALIBI_CAUSAL || distance < 0 ? distance : -distance);
}

ATTEND_SHARED int32_t attend_bucket_of(const attend_problem *p, const attend_terms *t, int64_t distance)
{
    return t->relative_buckets[attend_clamp(distance, -(int64_t)p->relative_max_distance,
                                            p->relative_max_distance) +
                               p->relative_max_distance];
}

ATTEND_SHARED float attend_softcap_slope(const attend_problem *p, float scaled)
{
    const float bent = p->softcap > 0 ? tanhf(scaled / p->softcap) : 0;
    return 1 - bent * bent;
}

/* The same for any key of the row's interval: -infinity where it is masked. */
ATTEND_SHARED float attend_element_score(const attend_head *h, int64_t row, int64_t key, float dot)
{
    return attend_element_visible(h, row, key) ? attend_visible_score(h, row, key, dot) : -INFINITY;
}

/* e^x for x <= 0. x is double: rounding it to fp32 first would lose digits where it is far from 0. */
ATTEND_SHARED float attend_exp_of_double(double x)
{
    const float near = (float)x;
    return x < -200 ? 0 : expf(near) * (1 + (float)(x - near));
}

/* Finishes a row with a sink. max: the running max of its visible keys, not in base 2; sum: Σ exp(score -
   max); -infinity and 0 if no key is visible. normaliser: the factor of the sums of weighted values; lse: the
   row's LSE. */
ATTEND_SHARED void attend_softmax_finish(double max, float sum, float sink, float *normaliser, float *lse)
{
    const double top = sink > max ? sink : max;
    *normaliser = 0, *lse = -INFINITY;
    if (top == -INFINITY) return;
    const float shrink = attend_exp_of_double(max - top),
                total = sum * shrink + attend_exp_of_double(sink - top);
    *normaliser = shrink / total;
    *lse = (float)(top + logf(total));
}

/* Whether prefix and block mask hide all keys [key, key + keys) from all rows [row, row + rows): such tiles
   are skipped. The ranges lie within the sequence. */
ATTEND_SHARED bool attend_tile_hidden(const attend_head *h, int64_t row, int64_t rows, int64_t key,
                                      int64_t keys)
{
    const attend_problem *p = h->problem;
    const attend_sequence *s = &h->sequence;
    if (attend_has_gap(p) && key >= s->start + p->prefix && key + keys <= attend_local_begin(p, s, row))
        return true;
    if (p->block_q <= 0) return false;
    ATTEND_ROLLED
    for (int64_t i = row / p->block_q; i * p->block_q < row + rows; i++) {
        if (p->block_list > 0 && attend_listed_from(h, i, key / p->block_k) <= (key + keys - 1) / p->block_k)
            return false;
        ATTEND_ROLLED
        for (int64_t j = key / p->block_k; p->block_list == 0 && j * p->block_k < key + keys; j++)
            if (attend_block_visible(h, i, j)) return false;
    }
    return true;
}

/* Whether prefix and block mask hide no key [key, key + keys) within their intervals from rows [row, row +
   rows). */
ATTEND_SHARED bool attend_tile_whole(const attend_head *h, int64_t row, int64_t rows, int64_t key,
                                     int64_t keys)
{
    const attend_problem *p = h->problem;
    const attend_sequence *s = &h->sequence;
    if (attend_has_gap(p) && key + keys > s->start + p->prefix &&
        key < attend_local_begin(p, s, row + rows - 1))
        return false;
    if (p->block_q <= 0) return true;
    ATTEND_ROLLED
    for (int64_t i = row / p->block_q; i * p->block_q < row + rows; i++) ATTEND_ROLLED
    for (int64_t j = key / p->block_k; j * p->block_k < key + keys; j++)
        if (!attend_block_visible(h, i, j)) return false;
    return true;
}

/* A summary of the segments of keys [key, key + keys); key_ids must have been made. */
ATTEND_SHARED attend_ids attend_ids_of_keys(const attend_terms *t, const attend_sequence *s, int64_t key,
                                            int64_t keys)
{
    const int64_t first = s->first_k + key, last = first + keys - 1;
    attend_ids ids = attend_no_ids();
    ATTEND_ROLLED
    for (int64_t block = first / attend_id_block; block <= last / attend_id_block; block++)
        attend_ids_join(&ids, &t->key_ids[s->batch * t->key_id_blocks + block]);
    return ids;
}

#endif
