// Online softmax (Milakov and Gimelshein, arXiv:1805.02867): the state of one row, folded tile by tile. Scores enter as
// plain dot products; `scale` > 0 turns them into exponents of two. Safe where a row has seen no key yet (max = -inf).
#pragma once

#include "ptx.cuh"

#include <cmath>

namespace attend {

constexpr float ln2 = 0.693147180559945309f, log2e = 1.44269504088896341f;

struct softmax_row {
    float max = -INFINITY; // of the dot products that the weights refer to
    float base = 0;        // max·scale, or 0 before the first visible key
    float sum = 0;         // this lane's share of Σ weight

    // Takes the maximum of a tile's row; returns by how much all that was summed before must shrink. The maximum stays
    // where it is until a score exceeds it by `slack` (in powers of two): the quotient in the end is the same, and the
    // rule looks at this row alone, so its bits do not depend on its neighbours.
    __device__ float fold(float tile_max, float scale, float slack = 0)
    {
        float exponent = tile_max * scale;
        bool first = max == -INFINITY;
        if (!(tile_max > max) || (!first && exponent <= base + slack)) return 1;
        float shrink = first ? 0 : ex2(base - exponent);
        max = tile_max;
        base = exponent;
        sum *= shrink;
        return shrink;
    }

    __device__ float weight(float score, float scale) const { return ex2(fmaf(score, scale, -base)); }

    // Once `sum` is the whole row's. A row that saw no key gives zeros and an LSE of -inf.
    __device__ float normaliser() const { return sum == 0 ? 0 : 1 / sum; }
    __device__ float lse() const { return sum == 0 ? -INFINITY : fmaf(base, ln2, logf(sum)); }
};

} // namespace attend
