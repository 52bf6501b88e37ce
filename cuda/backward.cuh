// What kernels of gradients share: where a block is, which tiles meet, what a query keeps between the stages
// of a run (backward_kernels.h), and how results leave.
#pragma once

#include "backward_kernels.h"
#include "dtype.cuh"
#include "mask.cuh"
#include "search.cuh"
#include "softmax.cuh"

#include <climits>

namespace attend
{

// ---- where a block is ----

// Tile, head and batch entry of a block; by keys the head is a KV head. A bias's gradient has a tile of keys
// besides, and the first of those heads and entries that add to it.
struct backward_block {
    int64_t tile, head, batch, tile_k;
};

struct bias_grid {
    int64_t batch, heads; // that differ

    __host__ __device__ bias_grid(const attend_problem &p)
        : batch(p.bias_axes & ATTEND_PER_BATCH ? p.batch : 1),
          heads(p.bias_axes & ATTEND_PER_HEAD ? p.num_heads : 1)
    {
    }
};

inline int64_t tiles_of(int64_t rows, int64_t tile) { return (rows + tile - 1) / tile; }

// Blocks of a stage, for tiles of so many queries and keys in the stage; false: more than a grid holds.
inline bool count_backward_blocks(const attend_problem &p, attend_backward_stage stage, int64_t tile_q,
                                  int64_t tile_k, int64_t *blocks)
{
    const bias_grid bias(p);
    int64_t factors[4] = {p.batch, p.num_heads, tiles_of(p.seqlen_q, tile_q), 1};
    if (stage == ATTEND_BACKWARD_KEYS) factors[1] = p.num_kv_heads, factors[2] = tiles_of(p.seqlen_k, tile_k);
    if (stage == ATTEND_BACKWARD_BIAS)
        factors[0] = bias.batch, factors[1] = bias.heads, factors[3] = tiles_of(p.seqlen_k, tile_k);
    *blocks = 1;
    for (int i = 0; i < 4; i++)
        if (__builtin_mul_overflow(*blocks, factors[i], blocks)) return false;
    return *blocks <= INT_MAX;
}

// Tiles of a head come one after the other, so that they find its other side in L2; those of causal queries
// that see the most come first.
template <attend_backward_stage stage>
__device__ backward_block find_backward_block(const attend_problem &p, int64_t index, int64_t tile_q,
                                              int64_t tile_k)
{
    if (stage == ATTEND_BACKWARD_BIAS) {
        const int64_t across = (p.seqlen_k + tile_k - 1) / tile_k, down = (p.seqlen_q + tile_q - 1) / tile_q,
                      heads = bias_grid(p).heads, pair = index / across / down;
        return {index / across % down, pair % heads, pair / heads, index % across};
    }
    const bool by_keys = stage == ATTEND_BACKWARD_KEYS;
    const int64_t tiles = by_keys ? (p.seqlen_k + tile_k - 1) / tile_k : (p.seqlen_q + tile_q - 1) / tile_q,
                  heads = by_keys ? p.num_kv_heads : p.num_heads, tile = index % tiles, pair = index / tiles;
    return {by_keys ? tile : tiles - 1 - tile, pair % heads, pair / heads, 0};
}

// The first row at an entry and head of a view.
template <typename T>
__device__ T *rows_of(const attend_view &view, const attend_sequence &s, int64_t first, int64_t head)
{
    return static_cast<T *>(view.data) + s.batch * view.batch + first * view.seqlen + head * view.head;
}

// A row of attend_backward_sums.
__device__ inline int64_t sum_of_query(const attend_problem &p, const attend_sequence &s, int64_t head,
                                       int64_t row)
{
    return (s.batch * p.num_heads + head) * (p.packed ? p.total_q : p.seqlen_q) + s.first_q + row;
}
__device__ inline int64_t sum_of_key(const attend_problem &p, const attend_sequence &s, int64_t head,
                                     int64_t key)
{
    return (s.batch * p.num_heads + head) * (p.packed ? p.total_k : p.seqlen_k) + s.first_k + key;
}

// ---- which tiles meet ----

// The first row of which this holds, as it does of all that follow.
template <typename F> __device__ int64_t first_row(int64_t rows, const F &holds)
{
    int64_t low = 0, high = rows;
#pragma unroll 1
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (holds(middle))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

// Tiles of queries of which some row sees some of the keys [key, key + keys), and those of which all rows see
// all: ends of visible intervals never decrease from row to row.
__device__ inline tile_range tiles_that_see(const attend_problem &p, const attend_sequence &s, int64_t key,
                                            int64_t keys, int tile_rows)
{
    const int64_t end = min(key + keys, s.seqlen_k);
    const auto ends_behind = [&](int64_t at) {
        return first_row(s.seqlen_q, [&](int64_t row) { return attend_visible_end(&p, &s, row) >= at; });
    };
    const auto begins_behind = [&](int64_t at) {
        return first_row(s.seqlen_q, [&](int64_t row) { return attend_visible_begin(&p, &s, row) >= at; });
    };
    const int64_t first = ends_behind(key + 1), last = begins_behind(end);
    if (key >= end || first >= last) return {0, 0, 0, 0};
    const auto tiles_before = [&](int64_t row) {
        return static_cast<int>((row + tile_rows - 1) / tile_rows);
    };
    const int full = tiles_before(ends_behind(key + keys));
    return {static_cast<int>(first / tile_rows), full,
            max(full, static_cast<int>(begins_behind(key + 1) / tile_rows)), tiles_before(last)};
}

// Whether prefix, block masks and segments leave the row anything of keys within its sequence.
__device__ inline bool row_meets(const attend_head &head, int64_t row, int64_t key, int64_t keys)
{
    const attend_problem &p = *head.problem;
    if (attend_tile_hidden(&head, row, 1, key, keys)) return false;
    if (!p.segments) return true;
    const attend_ids theirs = attend_ids_of_keys(head.terms, &head.sequence, key, keys);
    const attend_plane &of_queries = head.terms->segments_q;
    return attend_ids_hold(&theirs, attend_segment(&of_queries, &head.sequence,
                                                   (head.sequence.first_q + row) * of_queries.query));
}

// ---- queries ----

// A weight is 2^(unit·score - lse2 - rest), with the forward's unit, so that the rounding of that is the
// LSE's too. lse2 + rest is log2 e · lse; of a row that sees nothing all is hidden.
struct row_lse {
    float lse2 = 0, rest = 0;

    row_lse() = default;
    __device__ explicit row_lse(float lse)
    {
        constexpr float log2e_rest = 1.92596299112661746887e-8f; // log2 e - log2e
        if (lse == -INFINITY) return;
        lse2 = lse * log2e;
        rest = isfinite(lse2) ? fmaf(lse, log2e, -lse2) + lse * log2e_rest : 0;
    }
    __device__ row_lse(const attend_backward_args &args, const attend_sequence &s, int64_t head, int64_t row)
        : row_lse(*rows_of<float>(args.lse, s, s.first_q + row, head))
    {
    }
    // Makes weights of this `sum` add up to 1, and delta, a sum of them, that of the new ones. Returns what
    // the rest grew by. The LSE is another kernel's, whose scores are rounded otherwise.
    __device__ float normalise(float sum, float &delta)
    {
        const float shift = sum == 0 ? 0 : log2f(sum);
        if (sum != 0) delta /= sum;
        rest += shift;
        return shift;
    }
    __device__ float weight(float score, float unit) const { return ex2(fmaf(score, unit, -lse2) - rest); }
};

// The same behind the stage of queries.
__device__ inline row_lse row_of_sums(const attend_backward_args &args, const attend_sequence &s,
                                      int64_t head, int64_t row)
{
    row_lse lse(args, s, head, row);
    if (!args.out.data) lse.rest += args.sums.shift[sum_of_query(args.problem, s, head, row)];
    return lse;
}

// ---- results ----

__device__ inline void *gradient_row(const attend_gradient_view &g, const attend_sequence &s, int64_t row,
                                     int64_t head)
{
    return g.dtype == ATTEND_F32 ? static_cast<void *>(rows_of<float>(g.view, s, row, head))
                                 : static_cast<void *>(rows_of<uint16_t>(g.view, s, row, head));
}

template <typename T> __device__ void add_value(T &to, float value, bool accumulate)
{
    to = static_cast<T>(accumulate ? static_cast<float>(to) + value : value);
}
__device__ inline void store_gradient(const attend_gradient_view &g, void *row, int64_t column, float value,
                                      bool accumulate)
{
    if (g.dtype == ATTEND_F32)
        add_value(static_cast<float *>(row)[column], value, accumulate);
    else if (g.dtype == ATTEND_F16)
        add_value(static_cast<__half *>(row)[column], value, accumulate);
    else
        add_value(static_cast<__nv_bfloat16 *>(row)[column], value, accumulate);
}

__device__ inline float *bias_gradient(const attend_backward_args &args, int64_t batch, int64_t head,
                                       int64_t row)
{
    return static_cast<float *>(const_cast<void *>(args.bias.data)) + batch * args.bias.batch +
           head * args.bias.head + row * args.bias.query;
}

} // namespace attend
