// The online softmax of flash_mma and flash_wgmma over a tile of scores in registers.
#pragma once

#include "mma_block.cuh"
#include "softmax.cuh"

namespace attend
{

// Updates the running max of the lane's rows, and rescales l and O if it grows in any row of the warp; in
// most tiles it does not.
template <typename tile>
__device__ void follow(softmax_row (&state)[tile::lane_rows], typename tile::output &o,
                       const typename tile::scores &s, float scale)
{
    float most[tile::lane_rows];
    bool grown = false;
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        most[i] = fmaxf(s[i / 2][0][i % 2 * 2], s[i / 2][0][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 1; n < 2 * tile::key_steps; n++)
            most[i] = fmaxf(most[i], fmaxf(s[i / 2][n][i % 2 * 2], s[i / 2][n][i % 2 * 2 + 1]));
        grown = grown || state[i].below(most[i], scale);
    }
    if (!__any_sync(~0u, grown)) return;
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        const float shrink = state[i].fold(quad_max(most[i]), scale);
#pragma unroll
        for (int n = 0; n < 2 * tile::dim_steps; n++)
            o[i / 2][n][i % 2 * 2] *= shrink, o[i / 2][n][i % 2 * 2 + 1] *= shrink;
    }
}

// P = 2^(c·S - m), and l += its sums over the lane's columns.
template <typename tile>
__device__ void weigh(typename tile::weights &p, softmax_row (&state)[tile::lane_rows],
                      const typename tile::scores &s, float scale)
{
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        float sum;
#pragma unroll
        for (int n = 0; n < 2 * tile::key_steps; n++) {
            const float low = state[i].weight(s[i / 2][n][i % 2 * 2], scale),
                        high = state[i].weight(s[i / 2][n][i % 2 * 2 + 1], scale);
            sum = n == 0 ? low + high : sum + low + high;
            p[i / 2][n / 2][n % 2 * 2 + i % 2] = pack<typename tile::element>(low, high);
        }
        state[i].sum += sum;
    }
}

} // namespace attend
