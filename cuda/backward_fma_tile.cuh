// The tiles of backward_fma.cu: their memory, products over the rows of the one that passes, and loads.
#pragma once

#include "backward.cuh"
#include "fma_tile.cuh"

namespace attend
{
namespace
{

constexpr int across = fma_across, rows = fma_rows;
enum { sum_bias, sum_slopes, row_sums }; // what each row of `own` sums for features

template <int dim_> struct backward_tile {
    static constexpr int dim = dim_,
                         own = dim <= 64    ? 64
                               : dim <= 128 ? 32
                                            : 16,
                         other = dim <= 128 ? 32 : 16;
    static constexpr int threads = own / rows * across, columns = other / across;
    static constexpr int pitch = dim + 4, pitch_p = other + 4;
    static constexpr int floats_own = own * pitch, floats_other = other * pitch, floats_p = own * pitch_p;
    // own₁, own₂, other₁, other₂, P, dS; of other rows lse2, its rest and delta; sums of own rows; of
    // diagonals dS
    static constexpr int floats = 2 * (floats_own + floats_other + floats_p) + 3 * other + row_sums * own +
                                  own + other,
                         shared_bytes = floats * 4;
    static_assert(dim % 32 == 0 && other % across == 0 && own + other - 1 <= threads);
    static_assert(shared_bytes <= 99 * 1024, "the least that a card since Ampere gives a block");
};

// O += A·B over the rows of B, of which `border` tiles skip those that are hidden: 0·NaN and 0·infinity are
// NaN.
template <typename tile, int columns, bool border>
__device__ void multiply(float2 (&o)[rows][columns], const float *a, const float *b)
{
#pragma unroll 1
    for (int key = 0; key < tile::other; key += 4) {
        float weight[rows][4];
        load_weights<tile::pitch_p>(weight, a + key);
#pragma unroll
        for (int j = 0; j < 4; j++) add_row<border>(o, weight, j, b + (key + j) * tile::pitch);
    }
}

template <typename tile, int columns>
__device__ void multiply(float2 (&o)[rows][columns], const float *a, const float *b, bool border)
{
    if (border)
        multiply<tile, columns, true>(o, a, b);
    else
        multiply<tile, columns, false>(o, a, b);
}

// The sum over the 16 neighbouring lanes that share a row.
__device__ inline float row_sum(float x)
{
#pragma unroll
    for (int lane = across / 2; lane; lane /= 2) x += __shfl_xor_sync(~0u, x, lane);
    return x;
}

// Not inlined: of 16-bit tensors these are the rows that no other kernel takes.
template <int rows, typename tile>
__device__ __noinline__ void load_16(float *to, const uint16_t *from, int64_t stride, int64_t count,
                                     int columns, attend_dtype dtype)
{
    if (dtype == ATTEND_F16)
        load_tile<__half, rows, tile::dim, tile::pitch, tile::threads>(
            to, reinterpret_cast<const __half *>(from), stride, count, columns, false);
    else
        load_tile<__nv_bfloat16, rows, tile::dim, tile::pitch, tile::threads>(
            to, reinterpret_cast<const __nv_bfloat16 *>(from), stride, count, columns, false);
}

} // namespace
} // namespace attend
