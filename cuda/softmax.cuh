// Online softmax (Milakov and Gimelshein, arXiv:1805.02867): the state of one row, updated tile by tile.
// Scores enter as plain dot products; `scale` >= 0 makes them exponents of 2, so that a weight costs one fma
// before its ex2.
#pragma once

#include "ptx.cuh"
#include "shared/running_max.h"

#include <cfloat>
#include <cmath>

namespace attend
{

constexpr float ln2 = 0.693147180559945309f, log2e = 1.44269504088896341f;

// From this exponent on a row is far: the rounding error of score·scale, 4 at least, is a factor of its
// weights that 16 bits may not hold.
constexpr float far_exponent = 0x1p26f;

// A score's exponent of 2 or, if it is huge, its running max (shared/running_max.h). Never decreases as
// scores increase.
__device__ inline float exponent_of(float score, float scale)
{
    const float natural = score * (scale * ln2);
    return fabsf(natural) < ATTEND_HUGE_SCORE ? score * scale : attend_max_of_huge(natural);
}

// The state of one row over some of its keys, without its output.
struct softmax_row {
    // the running max of score·scale; never -inf, so that -inf - max is -inf
    float max = -FLT_MAX;
    float sum = 0; // Σ weight, or this lane's share of it

    __device__ bool below(float score, float scale) const { return score * scale > max; }
    // Raises the maximum to that of a tile's row; returns the factor that rescales the sums so far.
    __device__ float fold(float tile_max, float scale)
    {
        const float most = tile_max * scale;
        if (!below(tile_max, scale)) return 1;
        const float shrink = ex2(max - most);
        max = most;
        sum *= shrink;
        return shrink;
    }

    // 1 for the largest score, up to the rounding error of score·scale.
    __device__ float weight(float score, float scale) const { return ex2(fmaf(score, scale, -max)); }

    // Merges the state of the same row over the keys that follow; both sums are over whole rows. O becomes
    // O·own + O'·others. If one state is empty, its factor is 0 and the other's is 1.
    __device__ void merge(const softmax_row &next, float &own, float &others)
    {
        const float most = fmaxf(max, next.max);
        own = ex2(max - most), others = ex2(next.max - most);
        sum = fmaf(sum, own, next.sum * others);
        max = most;
    }
    static __device__ float merged(float o, float own, float next, float others)
    {
        return fmaf(o, own, next * others);
    }

    // O times the normaliser. Adding +0 makes zeros positive: merging with empty states may have changed
    // their sign.
    static __device__ float finished(float o, float normaliser) { return fmaf(o, normaliser, 0.0f); }

    // Reads and writes a state in memory, where a row without visible keys has a maximum of -inf.
    __device__ void load(float max_, float sum_) { max = fmaxf(max_, -FLT_MAX), sum = sum_; }
    __device__ void store(float *max_, float *sum_) const { *max_ = sum == 0 ? -INFINITY : max, *sum_ = sum; }

    // For a `sum` over the whole row: the factor of O, and the LSE. The sink adds weight but no value; -inf:
    // none. A row without visible keys gives zeros.
    __device__ void finish(float sink, float &normaliser, float &lse) const
    {
        float shrink = 1, total = sum, top = max;
        if ((sum != 0 && attend_max_is_huge(max)) || (fabsf(sink) >= ATTEND_HUGE_SCORE && sink > -INFINITY)) {
            const float score = sum == 0 ? -INFINITY : static_cast<float>(attend_score_of_max(max));
            top = fmaxf(score, sink), shrink = expf(score - top);
            total = fmaf(sum, shrink, expf(sink - top));
            normaliser = shrink / total, lse = top + logf(total);
            return;
        }
        if (sink > -INFINITY) {
            constexpr float log2e_rest = 1.92596299112661746887e-8f; // log2 e - log2e
            top = fmaxf(max, sink * log2e);
            shrink = ex2(max - top);
            total = fmaf(sum, shrink, ex2(fmaf(sink, log2e_rest, fmaf(sink, log2e, -top))));
        }
        normaliser = total == 0 ? 0 : shrink / total;
        lse = total == 0 ? -INFINITY : fmaf(top, ln2, logf(total));
    }
};

// Weights of a row's scores in one tile, whose largest is tile_max. Where that is far they are made of the
// difference to it, which is exact; elsewhere they have the bits of softmax_row::weight. Raises the row's
// maximum and rescales its sum by `shrink`.
struct far_weights {
    float from, base, shrink;

    __device__ far_weights(softmax_row &row, float tile_max, float scale)
    {
        const bool far = !(fabsf(tile_max * scale) < far_exponent);
        from = far ? fmaxf(tile_max, -FLT_MAX) : 0; // no visible key: any finite score
        const float exponent = far ? exponent_of(from, scale) : tile_max * scale,
                    most = fmaxf(row.max, exponent);
        shrink = ex2(row.max - most);
        row.max = most, row.sum *= shrink;
        base = (far ? exponent : 0) - most;
    }
    __device__ float weight(float score, float scale) const { return ex2(fmaf(score - from, scale, base)); }
};

// The number of a tile's keys before a limit that is `left` keys from its first.
__device__ inline int clamp_keys(int64_t left, int tile_keys)
{
    return static_cast<int>(max(int64_t(0), min(int64_t(tile_keys), left)));
}

} // namespace attend
