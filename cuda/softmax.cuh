// Online softmax (Milakov and Gimelshein, arXiv:1805.02867): the state of one row, folded tile by tile.
// Scores enter as plain dot products; `scale` >= 0 turns them into exponents of two. Until a row has seen a
// key its maximum is finite: -inf minus it is -inf, and a scale of 0 makes a 0 of it.
#pragma once

#include "ptx.cuh"

#include <cfloat>
#include <cmath>

namespace attend
{

constexpr float ln2 = 0.693147180559945309f, log2e = 1.44269504088896341f;

struct softmax_row {
    float max = -FLT_MAX; // of the dot products that the weights refer to
    float sum = 0;        // Σ weight, or this lane's share of it

    // Takes the maximum of a tile's row; returns by how much all that was summed before must shrink.
    __device__ float fold(float tile_max, float scale)
    {
        if (!(tile_max > max)) return 1;
        const float shrink = ex2((max - tile_max) * scale);
        max = tile_max;
        sum *= shrink;
        return shrink;
    }

    // Exactly 1 for every key that ties with the largest, as in the textbook's three loops.
    __device__ float weight(float score, float scale) const { return ex2((score - max) * scale); }

    // Once `sum` is the whole row's. A row that saw no key gives zeros and an LSE of -inf.
    __device__ float normaliser() const { return 1 / sum; }
    __device__ float finish(float o, float normaliser) const { return sum == 0 ? 0 : o * normaliser; }
    __device__ float lse(float scale) const
    {
        return sum == 0 ? -INFINITY : fmaf(max * scale, ln2, logf(sum));
    }
};

// The same with the maximum in exponents of two, so that a weight costs one fma before its ex2.
struct base2_row {
    // of 2^(score·scale - reference): the maximum; never -inf, so that -inf - reference is -inf
    float reference = -FLT_MAX;
    float sum = 0; // Σ weight, or this lane's share of it

    __device__ bool below(float score, float scale) const { return score * scale > reference; }
    __device__ float fold(float tile_max, float scale)
    {
        const float most = tile_max * scale;
        if (!below(tile_max, scale)) return 1;
        const float shrink = ex2(reference - most);
        reference = most;
        sum *= shrink;
        return shrink;
    }

    // 1 for the largest score, but for a rounding error of c·score, which the rounding to 16 bits takes back.
    __device__ float weight(float score, float scale) const { return ex2(fmaf(score, scale, -reference)); }

    // Takes in the same row's state over other keys; the reference must be the larger of both. Returns the
    // factor of its output.
    __device__ float merge(float other_reference, float other_sum)
    {
        const float factor = ex2(other_reference - reference);
        sum = fmaf(other_sum, factor, sum);
        return factor;
    }

    // Once `sum` is the whole row's: what O is multiplied by, and the LSE. The sink takes weight and gives no
    // value; -inf: none. A row that saw no key gives zeros.
    __device__ void finish(float sink, float &normaliser, float &lse) const
    {
        float shrink = 1, total = sum, top = reference;
        if (sink > -INFINITY) {
            top = fmaxf(reference, sink * log2e);
            shrink = ex2(reference - top);
            total = fmaf(sum, shrink, ex2(sink * log2e - top));
        }
        normaliser = total == 0 ? 0 : shrink / total;
        lse = total == 0 ? -INFINITY : fmaf(top, ln2, logf(total));
    }
};

// How many of a tile's keys lie before a limit that is `left` keys from its first.
__device__ inline int clamp_keys(int64_t left, int tile_keys)
{
    return static_cast<int>(max(int64_t(0), min(int64_t(tile_keys), left)));
}

} // namespace attend
