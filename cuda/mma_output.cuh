// Stores flash_mma's results: out = O / l and the LSE, or a state, or a split's partial result.
#pragma once

#include "combine.cuh"
#include "mma_block.cuh"
#include "softmax.cuh"

namespace attend
{

// The state of a row over this block's split, for combine() to merge.
template <typename tile>
__device__ void store_partial(const typename tile::output &o, const softmax_row (&state)[tile::lane_rows],
                              const attend_kernel_args &args, const mma_block<tile> &block)
{
    const attend_kernel_box &box = args.box;
    const partial_rows rows(args.problem, box, args.splits);
    const int64_t count = block.rows.all, span = block.span - box.first_key / attend_span_keys,
                  first = ((block.block_at.batch - box.first_batch) * box.kv_heads + block.block_at.head -
                           box.first_kv_head) *
                          count;
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        const int row = warp_row<tile>() + lane_row(i);
        if (row >= count) continue;
        float *const to = args.partials + rows.output(first + row, span) + lane_column(0, 0);
#pragma unroll
        for (int n = 0; n < 2 * tile::dim_steps; n++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (lane_column(0, 0) < rows.dims - (8 * n + e)) to[8 * n + e] = o[i / 2][n][i % 2 * 2 + e];
        if (threadIdx.x % 4 == 0)
            *reinterpret_cast<float2 *>(args.partials + rows.state(first + row, span)) = {state[i].max,
                                                                                          state[i].sum};
    }
}

// The state for the caller (args.into), in place of out and lse.
template <typename tile>
__device__ void store_state(const typename tile::output &o, const softmax_row (&state)[tile::lane_rows],
                            const attend_state_view &into, const mma_block<tile> &block)
{
    float *const out = static_cast<float *>(into.out.data) + block.query_offset(into.out),
                 *const max = static_cast<float *>(into.max.data) + block.query_offset(into.max),
                 *const sum = static_cast<float *>(into.sum.data) + block.query_offset(into.sum);
    const int dims = block.v.dims;
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        const int row = warp_row<tile>() + lane_row(i);
        if (row >= block.rows.all) continue;
        float *const to = out + block.rows.offset(row, into.out) + lane_column(0, 0);
#pragma unroll
        for (int n = 0; n < 2 * tile::dim_steps; n++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (lane_column(0, 0) < dims - (8 * n + e))
                    to[8 * n + e] = state[i].sum == 0 ? 0 : o[i / 2][n][i % 2 * 2 + e];
        if (threadIdx.x % 4 == 0)
            state[i].store(max + block.rows.offset(row, into.max), sum + block.rows.offset(row, into.sum));
    }
}

// Writes O / l to whole rows, staged through this warp's rows of Q's shared memory, which no other warp
// reads.
template <typename tile>
__device__ void store(const typename tile::output &o, const softmax_row (&state)[tile::lane_rows],
                      const attend_kernel_args &args, const mma_block<tile> &block, unsigned char *q_bytes)
{
    using T = typename tile::element;
    using shared = typename tile::q_tile;
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        const int row = warp_row<tile>() + lane_row(i);
        const float sink =
            args.problem.sinks && row < block.rows.valid /* padding: LSE -inf */
                ? attend_head_sink(&args.terms, block.block_at.head * block.rows.group + block.rows.head(row))
                : -INFINITY;
        float normaliser, lse;
        state[i].finish(sink, normaliser, lse);
#pragma unroll
        for (int n = 0; n < 2 * tile::dim_steps; n++)
            *reinterpret_cast<uint32_t *>(q_bytes + shared::offset(row, n) + threadIdx.x % 4 * 4) =
                pack<T>(softmax_row::finished(o[i / 2][n][i % 2 * 2], normaliser),
                        softmax_row::finished(o[i / 2][n][i % 2 * 2 + 1], normaliser));
        if (args.lse.data && threadIdx.x % 4 == 0 && row < block.rows.all)
            static_cast<float *>(
                args.lse.data)[block.query_offset(args.lse) + block.rows.offset(row, args.lse)] = lse;
    }
    __syncwarp();
    T *const out = static_cast<T *>(args.out.data) + block.query_offset(args.out);
    const int dims = static_cast<int>(args.problem.head_dim_v);
#pragma unroll 1
    for (int n = threadIdx.x % 32; n < tile::warp_rows * shared::vectors; n += 32) {
        const int row = warp_row<tile>() + n / shared::vectors, vector = n % shared::vectors,
                  count = min(8, dims - 8 * vector);
        if (row >= block.rows.all || count <= 0) continue;
        const unsigned char *const from = q_bytes + shared::offset(row, vector);
        T *const to = out + block.rows.offset(row, args.out) + 8 * vector;
        if (args.out_aligned && count == 8) {
            *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(from);
            continue;
        }
        for (int c = 0; c < count; c++) to[c] = reinterpret_cast<const T *>(from)[c];
    }
}

} // namespace attend
