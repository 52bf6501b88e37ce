// Elementwise masks and score terms (host/shared/score.h), for all columns of a lane at once. The visible
// keys of a row within a tile are a mask, one bit a column. Masks are built before S = QKᵀ, so that their
// live ranges do not overlap. Terms are added to S in place, one feature after the other, so that a problem
// pays only for the features that it has.
#pragma once

#include "mma_block.cuh"

namespace attend
{

// Column c of the 4·key_steps columns of a lane's row i is element (i / 2, c / 2, 2·(i % 2) + c % 2) of S.
template <typename tile> constexpr int lane_columns = 4 * tile::key_steps;
template <typename tile> __device__ int element_column(int c) { return lane_column(c / 2, c % 2); }
// The same, counted from a lane's first column
__device__ constexpr int from_first_column(int c) { return c / 2 * 8 + c % 2; }

// The visible columns of a lane's rows, one bit a column: row i has lane_columns bits of a word.
template <typename tile> constexpr int lane_words = tile::lane_rows *lane_columns<tile> / 32;
template <typename tile> using lane_mask = uint32_t[lane_words<tile>];
template <typename tile> __device__ constexpr int word_of(int i) { return i * lane_columns<tile> / 32; }
template <typename tile> __device__ constexpr int shift_of(int i) { return i * lane_columns<tile> % 32; }

// ---- visible keys ----

// The number of a lane's columns before column `end` of the tile.
template <typename tile> __device__ int columns_before(int end)
{
    const int within = max(0, min(end, tile::keys));
    return within / 8 * 2 + max(0, min(within % 8 - lane_column(0, 0), 2));
}
template <typename tile> __device__ uint32_t first_columns(int count)
{
    return lane_columns<tile> == 32 && count == 32 ? ~0u : (1u << count) - 1;
}
template <typename tile> __device__ uint32_t columns_between(int begin, int end)
{
    const uint32_t before = first_columns<tile>(columns_before<tile>(begin)),
                   past = first_columns<tile>(columns_before<tile>(end));
    return past & ~before;
}

// Which of `columns` segments, block masks, prefix, mask and pages leave visible to a row:
// attend_element_visible for all of them, with what depends on the row loaded once, and with independent
// loads.
template <typename tile>
__device__ uint32_t shown_columns(uint32_t columns, const attend_kernel_args &args,
                                  const mma_block<tile> &block, int row, int key)
{
    const attend_problem &p = args.problem;
    const attend_terms &t = args.terms;
    const attend_sequence &s = block.sequence;
    const int64_t query = block.rows.query(row);
    const attend_head head = block.head_of(args, row);
    if (attend_has_gap(&p)) {
        const int64_t prefix_end = min(s.start + p.prefix, s.seqlen_k);
        columns &= ~columns_between<tile>(
            static_cast<int>(prefix_end) - key,
            static_cast<int>(max(prefix_end, attend_local_begin(&p, &s, query))) - key);
    }
    if (p.segments) {
        const int32_t mine = attend_segment(&t.segments_q, &s, (s.first_q + query) * t.segments_q.query);
        const int32_t *const ids = static_cast<const int32_t *>(t.segments_k.data) +
                                   s.batch * t.segments_k.batch +
                                   (s.first_k + key + lane_column(0, 0)) * t.segments_k.key;
#pragma unroll
        for (int c = 0; c < lane_columns<tile>; c++)
            if (columns >> c & 1 && ids[from_first_column(c) * t.segments_k.key] != mine)
                columns &= ~(1u << c);
    }
    if (p.block_q > 0) {
        const int64_t block_q = query / p.block_q;
        const int block_k = static_cast<int>(min(p.block_k, int64_t(INT_MAX)));
        int last = -1;
        bool shown = false;
#pragma unroll 1
        for (uint32_t left = columns; left; left &= left - 1) {
            const int c = __ffs(left) - 1, of = (key + element_column<tile>(c)) / block_k;
            if (of != last) shown = attend_block_visible(&head, block_q, of);
            last = of;
            if (!shown) columns &= ~(1u << c);
        }
    }
    if (block.holes) {
#pragma unroll 1
        for (uint32_t left = columns; left; left &= left - 1) {
            const int c = __ffs(left) - 1;
            if (!has_page(args.keys, s, static_cast<int>(late(key + element_column<tile>(c)))))
                columns &= ~(1u << c);
        }
    }
    if (p.mask_axes) {
        const uint8_t *const mask = static_cast<const uint8_t *>(t.mask.data) + head.mask +
                                    query * t.mask.query + (key + lane_column(0, 0)) * t.mask.key;
#pragma unroll
        for (int c = 0; c < lane_columns<tile>; c++)
            if (columns >> c & 1 && !mask[from_first_column(c) * t.mask.key]) columns &= ~(1u << c);
    }
    return columns;
}

template <typename tile>
__device__ void visible_columns(lane_mask<tile> &visible, const attend_kernel_args &args,
                                const mma_block<tile> &block, int key)
{
#pragma unroll
    for (int i = 0; i < lane_words<tile>; i++) visible[i] = 0;
#pragma unroll 1
    for (int i = 0; i < tile::lane_rows; i++) {
        const int row = warp_row<tile>() + lane_row(i, thread_now());
        const key_interval keys = block.visible_keys_of[row];
        uint32_t columns = columns_between<tile>(keys.begin - key, keys.end - key);
        if (block.hides && columns) columns = shown_columns(columns, args, block, row, key);
#pragma unroll
        for (int j = 0; j < lane_words<tile>; j++)
            visible[j] |= j == word_of<tile>(i) ? columns << shift_of<tile>(i) : 0;
    }
}
template <typename tile> __device__ bool sees_column(const lane_mask<tile> &visible, int i, int c)
{
    return visible[word_of<tile>(i)] >> (shift_of<tile>(i) + c) & 1;
}

// Whether segments, block masks or the prefix's gap hide the whole tile from all rows of the warp. Each lane
// checks one row.
template <typename tile>
__device__ bool tile_hidden(const attend_kernel_args &args, const mma_block<tile> &block, int key)
{
    const int lane = threadIdx.x % 32, row = warp_row<tile>() + lane;
    const int64_t keys = min(int64_t(tile::keys), block.sequence.seqlen_k - key);
    bool hidden = true;
    if (lane < tile::warp_rows && row < block.rows.valid) {
        const attend_head head = block.head_of(args, row);
        hidden = attend_tile_hidden(&head, block.rows.query(row), 1, key, keys);
    }
    if (args.problem.segments) {
        const attend_ids theirs = attend_ids_of_keys(&args.terms, &block.sequence, key, keys);
        const bool strangers = !attend_ids_meet(&block.ids[threadIdx.x / 32], &theirs);
        hidden = hidden || strangers;
    }
    return __all_sync(~0u, hidden);
}

// ---- score terms ----

// The parts of a row's terms that do not depend on the key. They are computed once a block and lie in shared
// memory behind mma_block.
struct row_terms {
    float scale, slope;
    int64_t position;       // of the query, in keys
    int64_t bias, relative; // element offsets of the row
};
template <typename tile> constexpr int term_bytes() { return tile::rows * sizeof(row_terms); }

template <typename tile>
__device__ row_terms terms_of(const attend_kernel_args &args, const mma_block<tile> &block, int row)
{
    if (row >= block.rows.valid) return {0, 0, 0, 0, 0};
    const attend_head head = block.head_of(args, row);
    const int64_t query = block.rows.query(row);
    return {head.scale, head.slope, attend_position(&args.problem, &block.sequence, query),
            head.bias + query * args.terms.bias.query, head.relative};
}

// Calls f(score, c) for all columns c of a lane's row i. After 16, a barrier against moving loads ahead: no
// register is free.
template <typename tile, typename F> __device__ void each_score(typename tile::scores &s, int i, const F &f)
{
#pragma unroll
    for (int c = 0; c < lane_columns<tile>; c++) {
        if (c == 16) __syncwarp();
        f(s[i / 2][c / 2][i % 2 * 2 + c % 2], c);
    }
}

template <typename tile> __device__ void hide(typename tile::scores &s, const lane_mask<tile> &visible)
{
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++)
        each_score<tile>(s, i, [&](float &score, int c) {
            if (!sees_column<tile>(visible, i, c)) score = -INFINITY;
        });
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename tile, typename B>
__device__ void add_bias(typename tile::scores &s, int i, const attend_plane &bias, int64_t row, int key,
                         const lane_mask<tile> &visible)
{
    const B *const of_row = static_cast<const B *>(bias.data) + row + (key + lane_column(0, 0)) * bias.key;
    each_score<tile>(s, i, [&](float &score, int c) {
        if (!sees_column<tile>(visible, i, c)) return;
        const float b = to_float(of_row[from_first_column(c) * bias.key]);
        score = b == -INFINITY ? b : score + b;
    });
}

// Applies attend_visible_score to q·k in S, for visible keys. One row at a time: registers are the limit.
template <typename tile>
__device__ void add_terms(typename tile::scores &s, const attend_kernel_args &args, const row_terms *terms,
                          int key, const lane_mask<tile> &visible)
{
    const attend_problem &p = args.problem;
    const attend_terms &t = args.terms;
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        const row_terms &row = terms[warp_row<tile>() + lane_row(i)];
        const float scale = row.scale;
        each_score<tile>(s, i, [&](float &score, int) { score *= scale; });
        if (p.softcap > 0) {
            const float inverse = 1 / p.softcap;
            each_score<tile>(s, i, [&](float &score, int) { score = p.softcap * tanhf(score * inverse); });
        }
        if (p.alibi) {
            const float slope = row.slope, from = static_cast<float>(key + lane_column(0, 0) - row.position);
            if (p.alibi == ATTEND_ALIBI_CAUSAL)
                each_score<tile>(
                    s, i, [&](float &score, int c) { score += slope * (from + from_first_column(c)); });
            else
                each_score<tile>(
                    s, i, [&](float &score, int c) { score -= slope * fabsf(from + from_first_column(c)); });
        }
        if (p.relative_buckets > 0) {
            const int limit = static_cast<int>(p.relative_max_distance);
            const int from = static_cast<int>(attend_clamp(key - row.position, -limit - tile::keys, limit)) +
                             lane_column(0, 0);
            const int32_t *const buckets = t.relative_buckets + limit;
            const float *const table = static_cast<const float *>(t.relative_table.data) + row.relative;
            each_score<tile>(s, i, [&](float &score, int c) {
                score += table[buckets[max(-limit, min(from + from_first_column(c), limit))] *
                               t.relative_table.key];
            });
        }
        if (p.bias_axes) {
            if (t.bias.dtype == ATTEND_F32)
                add_bias<tile, float>(s, i, t.bias, row.bias, key, visible);
            else if (t.bias.dtype == ATTEND_F16)
                add_bias<tile, __half>(s, i, t.bias, row.bias, key, visible);
            else
                add_bias<tile, __nv_bfloat16>(s, i, t.bias, row.bias, key, visible);
        }
    }
}

} // namespace attend
