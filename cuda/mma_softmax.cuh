// The online softmax of flash_mma and flash_wgmma over a tile of scores in registers.
#pragma once

#include "mma_block.cuh"
#include "softmax.cuh"

namespace attend
{

// The largest score of a lane in its row i
template <typename tile> __device__ float lane_max(const typename tile::scores &s, int i)
{
    float most = fmaxf(s[i / 2][0][i % 2 * 2], s[i / 2][0][i % 2 * 2 + 1]);
#pragma unroll
    for (int n = 1; n < 2 * tile::key_steps; n++)
        most = fmaxf(most, fmaxf(s[i / 2][n][i % 2 * 2], s[i / 2][n][i % 2 * 2 + 1]));
    return most;
}

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
        most[i] = lane_max<tile>(s, i);
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

// ---- far rows ----
//
// Scores whose exponents are far from 0 (far_exponent) need other weights than weigh() makes. Tiles take no
// notice. At the end of a span a block sees from its sums whether it met such a row, and then computes all of
// its tiles once more, as masked ones, with far_weights; other rows get the same bits as before. So whoever
// has no such rows pays nothing.

// Remembers rows of which a finite score became an exponent of -infinity: if that is all they have, they are
// far, and their sums look as if they saw no key.
template <typename tile>
__device__ void note_lost(mma_block<tile> &block, const typename tile::scores &s, float scale)
{
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        const float most = lane_max<tile>(s, i);
        if (most * scale == -INFINITY && most >= -FLT_MAX) block.lost[threadIdx.x] |= 1 << i;
    }
}

// At the end of a span, of whole sums: notes that a row is far.
template <typename tile>
__device__ void find_far(mma_block<tile> &block, const softmax_row (&state)[tile::lane_rows],
                         const typename tile::output &o)
{
    if (block.far) return;
    bool far = false;
    const int lost = block.scored ? block.lost[threadIdx.x] : 0;
    if (block.scored) block.lost[threadIdx.x] = 0;
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        const bool empty = state[i].max == -FLT_MAX && state[i].sum == 0,
                   is_lost = quad_any(empty && (lost >> i & 1));
        // A tile of far scores may be forgotten for usual ones; then infinite weights of it have left NaN in
        // all columns.
        far = far || is_lost || (!empty && !(fabsf(state[i].max) < far_exponent)) ||
              !(fabsf(state[i].sum) <= FLT_MAX) || isnan(o[i / 2][0][i % 2 * 2]);
    }
    if (far) atomicOr(&block.met_far, 1);
}

// follow() and weigh() in one, for any score.
template <typename tile>
__device__ void weigh_far(typename tile::weights &p, softmax_row (&state)[tile::lane_rows],
                          typename tile::output &o, const typename tile::scores &s, float scale)
{
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        const far_weights row(state[i], quad_max(lane_max<tile>(s, i)), scale);
        float sum;
#pragma unroll
        for (int n = 0; n < 2 * tile::dim_steps; n++)
            o[i / 2][n][i % 2 * 2] *= row.shrink, o[i / 2][n][i % 2 * 2 + 1] *= row.shrink;
#pragma unroll
        for (int n = 0; n < 2 * tile::key_steps; n++) {
            const float low = row.weight(s[i / 2][n][i % 2 * 2], scale),
                        high = row.weight(s[i / 2][n][i % 2 * 2 + 1], scale);
            sum = n == 0 ? low + high : sum + low + high;
            p[i / 2][n / 2][n % 2 * 2 + i % 2] = pack<typename tile::element>(low, high);
        }
        state[i].sum += sum;
    }
}

} // namespace attend
