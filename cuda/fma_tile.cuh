// Tiles of fp32 in shared memory, and their products by plain multiply-adds. A tile of S has 16 threads
// across; thread (x, y) owns the rows 4y..4y+3 and the columns x + 16j.
#pragma once

#include "keys.cuh"
#include "ptx.cuh"

#include <cstdint>

namespace attend
{

constexpr int fma_across = 16, fma_rows = 4; // threads across a tile; rows of a thread
constexpr int fma_summand = 16;              // dims of a dot product that are summed separately

// Copies rows [0, valid) and columns [0, dim_used) of a tile into shared memory as fp32; the rest become
// zeros.
template <typename T, int tile_rows, int dim, int pitch, int threads, typename Rows>
__device__ void load_rows(float *tile, const Rows &rows, int64_t valid, int dim_used, bool aligned)
{
    for (int vector = threadIdx.x; vector < tile_rows * (dim / 4); vector += threads) {
        int row = vector / (dim / 4), column = vector % (dim / 4) * 4;
        const found_row<T> found = row < valid ? rows.find(row) : found_row<T>{rows.anywhere(), false};
        int elements = found.there ? max(0, min(4, dim_used - column)) : 0;
        const T *source = elements ? found.at + column : rows.anywhere();
        float *target = tile + row * pitch + column;
        if (sizeof(T) == 4 && aligned) {
            cp_async(shared_address(target), source, elements * 4);
            continue;
        }
        float values[4];
#pragma unroll
        for (int i = 0; i < 4; i++) values[i] = i < elements ? static_cast<float>(source[i]) : 0;
        *reinterpret_cast<float4 *>(target) = {values[0], values[1], values[2], values[3]};
    }
    cp_async_commit();
}
template <typename T, int tile_rows, int dim, int pitch, int threads>
__device__ void load_tile(float *tile, const T *from, int64_t stride, int64_t valid, int dim_used,
                          bool aligned)
{
    load_rows<T, tile_rows, dim, pitch, threads>(tile, rows_apart<T>{from, stride}, valid, dim_used, aligned);
}

__device__ inline float dot4(float4 a, float4 b, float sum)
{
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// S += A·Bᵀ over `fma_summand` dims, which are summed separately first: that keeps the rounding errors of
// long dot products small.
template <typename tile, int keys>
__device__ void score(float (&s)[fma_rows][keys], const float *a_rows, const float *b_rows)
{
    float part[fma_rows][keys] = {};
#pragma unroll
    for (int c = 0; c < fma_summand; c += 4) {
        float4 a[fma_rows], b[keys];
#pragma unroll
        for (int i = 0; i < fma_rows; i++)
            a[i] = *reinterpret_cast<const float4 *>(a_rows + i * tile::pitch + c);
#pragma unroll
        for (int j = 0; j < keys; j++)
            b[j] = *reinterpret_cast<const float4 *>(b_rows + fma_across * j * tile::pitch + c);
#pragma unroll
        for (int i = 0; i < fma_rows; i++)
#pragma unroll
            for (int j = 0; j < keys; j++) part[i][j] = dot4(a[i], b[j], part[i][j]);
    }
#pragma unroll
    for (int i = 0; i < fma_rows; i++)
#pragma unroll
        for (int j = 0; j < keys; j++) s[i][j] += part[i][j];
}

// The weight of a masked key: -0, which is not the weight of any visible key.
constexpr float hidden = -0.0f;
__device__ inline bool is_hidden(float weight) { return __float_as_uint(weight) == 0x80000000u; }

// A thread's weights of four neighbouring keys.
template <int pitch> __device__ void load_weights(float (&weight)[fma_rows][4], const float *p)
{
#pragma unroll
    for (int i = 0; i < fma_rows; i++)
        *reinterpret_cast<float4 *>(weight[i]) = *reinterpret_cast<const float4 *>(p + i * pitch);
}

// O += the j-th of four weights times its row of V, two columns in each 32. In `border` tiles rows skip the
// keys that are hidden from them, since 0·NaN and 0·infinity are NaN.
template <bool border, int columns>
__device__ void add_row(float2 (&o)[fma_rows][columns], const float (&weight)[fma_rows][4], int j,
                        const float *v)
{
#pragma unroll
    for (int c = 0; c < columns; c++) {
        const float2 value = *reinterpret_cast<const float2 *>(v + 32 * c);
#pragma unroll
        for (int i = 0; i < fma_rows; i++) {
            if (border && is_hidden(weight[i][j])) continue;
            o[i][c].x = fmaf(weight[i][j], value.x, o[i][c].x);
            o[i][c].y = fmaf(weight[i][j], value.y, o[i][c].y);
        }
    }
}

} // namespace attend
