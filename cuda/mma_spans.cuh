// Merging of spans in flash_mma (spans.cuh).
#pragma once

#include "mma_softmax.cuh"
#include "spans.cuh"

namespace attend
{

template <typename tile>
__device__ void forget(typename tile::output &o, softmax_row (&state)[tile::lane_rows])
{
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        state[i] = softmax_row();
#pragma unroll
        for (int n = 0; n < 2 * tile::dim_steps; n++) o[i / 2][n][i % 2 * 2] = o[i / 2][n][i % 2 * 2 + 1] = 0;
    }
}

// Clears rows past the query length as if they had no visible key: the zeros of Q got weights too.
template <typename tile>
__device__ void forget_padding(typename tile::output &o, softmax_row (&state)[tile::lane_rows],
                               const mma_block<tile> &block)
{
    if (block.rows.valid >= tile::rows) return;
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        if (warp_row<tile>() + lane_row(i) < block.rows.valid) continue;
        state[i] = softmax_row();
#pragma unroll
        for (int n = 0; n < 2 * tile::dim_steps; n++) o[i / 2][n][i % 2 * 2] = o[i / 2][n][i % 2 * 2 + 1] = 0;
    }
}

// The two rows of a fragment that a lane shares
struct row_pair {
    softmax_row low, high;
};

// Merges the span's sums behind the total in the block's slot; the result stays in registers.
template <typename tile>
__device__ void merge_slot(typename tile::output &o, softmax_row (&state)[tile::lane_rows],
                           const slot_part<tile::threads> &slot)
{
#pragma unroll
    for (int i = 0; i < tile::m; i++) {
        const auto merge_rows = [&](float(&own)[2], float(&others)[2]) {
            const float4 rows = slot[tile::m * 2 * tile::dim_steps + i];
            row_pair merged;
            merged.low.max = rows.x, merged.low.sum = rows.y, merged.high.max = rows.z,
            merged.high.sum = rows.w;
            merged.low.merge(state[2 * i], own[0], others[0]);
            merged.high.merge(state[2 * i + 1], own[1], others[1]);
            return merged;
        };
        float own[2], others[2];
        merge_rows(own, others);
#pragma unroll
        for (int n = 0; n < 2 * tile::dim_steps; n++) {
            const float4 total = slot[i * 2 * tile::dim_steps + n];
            o[i][n][0] = softmax_row::merged(total.x, own[0], o[i][n][0], others[0]);
            o[i][n][1] = softmax_row::merged(total.y, own[0], o[i][n][1], others[0]);
            o[i][n][2] = softmax_row::merged(total.z, own[1], o[i][n][2], others[1]);
            o[i][n][3] = softmax_row::merged(total.w, own[1], o[i][n][3], others[1]);
            if (n % 4 == 3) __syncwarp(); // a barrier against moving loads ahead: no register is free
        }
        // once more: merged rows would have taken registers meanwhile
        const row_pair merged = merge_rows(own, others);
        state[2 * i] = merged.low, state[2 * i + 1] = merged.high;
    }
}

// Stores the caller's state (args.from) in a slot, as the total before the first span. Rows past the query
// length get an empty state.
template <typename tile> __device__ void load_total(const attend_kernel_args &args, mma_block<tile> &block)
{
    if (thread_now() == 0) block.slot = acquire_slot(args);
    tile::sync();
    const slot_part<tile::threads> slot(args, block.slot);
    const attend_state_view &from = args.from;
    const int row0 = warp_row<tile>() + lane_row(0), dims = block.v.dims;
#pragma unroll 1
    for (int i = 0; i < tile::m; i++) {
        const float *rows[2];
        softmax_row state[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = row0 + 16 * i + 8 * half;
            const auto at = [&](const attend_view &view) {
                return static_cast<const float *>(view.data) + block.query_offset(view) +
                       block.rows.offset(row, view);
            };
            rows[half] = row < block.rows.valid ? at(from.out) : nullptr;
            if (rows[half]) state[half].load(*at(from.max), *at(from.sum));
        }
        slot[tile::m * 2 * tile::dim_steps + i] = {state[0].max, state[0].sum, state[1].max, state[1].sum};
#pragma unroll 1
        for (int n = 0; n < 2 * tile::dim_steps; n++) {
            float4 o = {0, 0, 0, 0};
            const int column = lane_column(n, 0);
            if (rows[0] && column < dims) o.x = rows[0][column];
            if (rows[0] && column + 1 < dims) o.y = rows[0][column + 1];
            if (rows[1] && column < dims) o.z = rows[1][column];
            if (rows[1] && column + 1 < dims) o.w = rows[1][column + 1];
            slot[i * 2 * tile::dim_steps + n] = o;
        }
    }
}

// At the end of a span: merges it into the total. If tile t of another span follows, stores the total in the
// slot and clears the registers.
template <typename tile>
__device__ void end_span(typename tile::output &o, softmax_row (&state)[tile::lane_rows],
                         const attend_kernel_args &args, mma_block<tile> &block, int t, bool last)
{
    const uint32_t thread = thread_now();
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) state[i].sum = quad_sum(state[i].sum);
    find_far<tile>(block, state, o);
    if (block.slot >= 0) merge_slot<tile>(o, state, slot_part<tile::threads>(args, block.slot, thread));
    if (last) return;

    tile::sync(); // all threads have read span_end and slot
    if (thread == 0) {
        block.span_end = (t / tile::span_tiles + 1) * tile::span_tiles;
        if (block.slot < 0) block.slot = acquire_slot(args);
    }
    tile::sync();
    const slot_part<tile::threads> slot(args, block.slot, thread);
#pragma unroll
    for (int i = 0; i < tile::m; i++) {
        slot[tile::m * 2 * tile::dim_steps + i] = {state[2 * i].max, state[2 * i].sum, state[2 * i + 1].max,
                                                   state[2 * i + 1].sum};
        state[2 * i] = state[2 * i + 1] = softmax_row();
#pragma unroll
        for (int n = 0; n < 2 * tile::dim_steps; n++) {
            slot[i * 2 * tile::dim_steps + n] = {o[i][n][0], o[i][n][1], o[i][n][2], o[i][n][3]};
#pragma unroll
            for (int e = 0; e < 4; e++) o[i][n][e] = 0;
        }
    }
}

} // namespace attend
