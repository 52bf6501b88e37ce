// Online softmax (Milakov and Gimelshein, arXiv:1805.02867): the state of one row, folded tile by tile. Scores enter as
// plain dot products; `scale` > 0 turns them into exponents of two. Safe where a row has seen no key yet (max = -inf).
#pragma once

#include "ptx.cuh"

#include <cmath>

namespace attend {

constexpr float ln2 = 0.693147180559945309f, log2e = 1.44269504088896341f;

struct softmax_row {
    float max = -INFINITY; // of the dot products that the weights refer to
    float base = 0;        // max, or 0 before the first visible key: never -inf, so that -inf - base is -inf
    float sum = 0;         // Σ weight, or this lane's share of it

    // Takes the maximum of a tile's row; returns by how much all that was summed before must shrink.
    __device__ float fold(float tile_max, float scale)
    {
        if (!(tile_max > max)) return 1;
        const float shrink = ex2((max - tile_max) * scale);
        max = base = tile_max;
        sum *= shrink;
        return shrink;
    }

    // Exactly 1 for every key that ties with the largest, as in the textbook's three loops.
    __device__ float weight(float score, float scale) const { return ex2((score - base) * scale); }

    // Once `sum` is the whole row's. A row that saw no key gives zeros and an LSE of -inf.
    __device__ float normaliser() const { return 1 / sum; }
    __device__ float finish(float o, float normaliser) const { return sum == 0 ? 0 : o * normaliser; }
    __device__ float lse(float scale) const { return sum == 0 ? -INFINITY : fmaf(base * scale, ln2, logf(sum)); }
};

// How many of a tile's keys lie before a limit that is `left` keys from its first.
__device__ inline int clamp_keys(int64_t left, int tile_keys)
{
    return static_cast<int>(max(int64_t(0), min(int64_t(tile_keys), left)));
}

} // namespace attend
