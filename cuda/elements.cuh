// Scores that are more than scale·q·k, and keys that are hidden one by one (host/score.h). S goes through shared memory, each
// lane's part in a column of its own, so that one copy of attend_element_score serves all elements; problems without such terms
// never get here.
#pragma once

#include "mma_block.cuh"

namespace attend
{

// Floats of a block's S, behind what else lies in shared memory.
template <typename tile> constexpr int element_bytes() { return tile::rows * tile::keys * 4; }

// Element c of a lane's row i, c counting its columns, is element (i / 2, c / 2, 2·(i % 2) + c % 2) of S.
template <typename tile> __device__ int element_column(int c) { return lane_column(c / 2, c % 2); }

template <typename tile>
__device__ void score_elements(typename tile::scores &s, const attend_kernel_args &args, const mma_block<tile> &block, int key,
                               float *elements)
{
    constexpr int columns = 4 * tile::key_steps;
    float *const mine = elements + threadIdx.x;
    const bool scored = block.scored; // else scores stay products, and the scale is the softmax's
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++)
#pragma unroll
        for (int c = 0; c < columns; c++) mine[(i * columns + c) * tile::threads] = s[i / 2][c / 2][i % 2 * 2 + c % 2];
#pragma unroll 1
    for (int i = 0; i < tile::lane_rows; i++) {
        const int row = warp_row<tile>() + lane_row(i);
        const key_interval keys = block.sight[row];
        const attend_head head = block.head_of(args, row);
        const int64_t query = block.rows.query(row);
#pragma unroll 1
        for (int c = 0; c < columns; c++) {
            float &element = mine[(i * columns + c) * tile::threads];
            const int column = key + element_column<tile>(c);
            if (!keys.holds(column) || !attend_element_visible(&head, query, column))
                element = -INFINITY;
            else if (scored)
                element = attend_visible_score(&head, query, column, element);
        }
    }
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++)
#pragma unroll
        for (int c = 0; c < columns; c++) s[i / 2][c / 2][i % 2 * 2 + c % 2] = mine[(i * columns + c) * tile::threads];
}

// Whether none of the warp's rows sees a key of the tile, as far as segments, blocks and prefix tell. A lane looks at a row.
template <typename tile> __device__ bool tile_hidden(const attend_kernel_args &args, const mma_block<tile> &block, int key)
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

// Which of a lane's columns each of its rows sees, a bit each.
template <typename tile>
__device__ void visible_columns(uint32_t (&visible)[tile::lane_rows], const attend_kernel_args &args,
                                const mma_block<tile> &block, int key)
{
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) visible[i] = 0;
#pragma unroll 1
    for (int i = 0; i < tile::lane_rows; i++) {
        const int row = warp_row<tile>() + lane_row(i);
        const key_interval keys = block.sight[row];
        uint32_t bits = 0;
#pragma unroll 1
        for (int c = 0; c < 4 * tile::key_steps; c++) {
            const int column = key + element_column<tile>(c);
            bool sees = keys.holds(column);
            if (sees && block.hides) {
                const attend_head head = block.head_of(args, row);
                sees = attend_element_visible(&head, block.rows.query(row), column);
            }
            bits |= uint32_t(sees) << c;
        }
#pragma unroll
        for (int j = 0; j < tile::lane_rows; j++) visible[j] = j == i ? bits : visible[j];
    }
}

} // namespace attend
