// Infinities and NaNs ("poison") in border tiles of V. mma would multiply them by the zero weights of masked
// keys and so give NaN to rows for which the key is masked. A tile with such values is found by testing its
// bits. Then the rows that see such a key get its infinities and NaNs, counted by mma, and the values become
// zeros in the tile. Rare, so nothing here is tuned.
#pragma once

#include "tile.cuh"

namespace attend
{

template <typename T> struct format;
template <> struct format<__half> {
    static constexpr uint32_t exponent = 0x7c00, exponent_unit = 0x0400, plus_one = 0x3c00,
                              count_128 = 0x5800, count_16384 = 0x7400;
};
template <> struct format<__nv_bfloat16> {
    static constexpr uint32_t exponent = 0x7f80, exponent_unit = 0x0080, plus_one = 0x3f80,
                              count_128 = 0x4300, count_16384 = 0x4680;
};

// Bits 15 and 31: whether the low and high half of a pair are infinite or NaN.
template <typename T> __device__ uint32_t not_finite(uint32_t pair)
{
    constexpr uint32_t exponents = format<T>::exponent * 0x10001u,
                       units = format<T>::exponent_unit * 0x10001u;
    return ((pair & exponents) + units) & 0x80008000u;
}

// The counts of a pair: 1 for inf, 128 for -inf, 16384 for NaN, so that one sum counts up to 127 of each.
template <typename T> __device__ uint32_t counters(uint32_t pair)
{
    uint32_t result = 0;
#pragma unroll
    for (int shift = 0; shift < 32; shift += 16) {
        const uint32_t x = pair >> shift & 0xffff;
        const uint32_t count = (x & 0x7fff) > format<T>::exponent ? format<T>::count_16384
                               : x >> 15                          ? format<T>::count_128
                                                                  : format<T>::plus_one;
        if ((x & format<T>::exponent) == format<T>::exponent) result |= count << shift;
    }
    return result;
}

__device__ inline float poison_of(float sum)
{
    const int n = static_cast<int>(sum);
    const float plus = n % 128 ? INFINITY : 0, minus = n / 128 % 128 ? -INFINITY : 0;
    return n >= 16384 ? NAN : plus + minus;
}

// Whether the vectors that this thread copied hold poison (its copies are complete, but not yet visible to
// other threads).
template <typename T, typename tile, int threads>
__device__ bool holds_poison(const unsigned char *tile_bytes)
{
    using share = tile_share<tile, threads>;
    uint32_t found = 0;
#pragma unroll
    for (int i = 0; i < share::passes_down; i++)
#pragma unroll
        for (int j = 0; j < share::passes_across; j++) {
            const uint4 x =
                *reinterpret_cast<const uint4 *>(tile_bytes + share::offset() + share::step(i, j));
            found |= not_finite<T>(x.x) | not_finite<T>(x.y) | not_finite<T>(x.z) | not_finite<T>(x.w);
        }
    return found != 0;
}

template <typename T> __device__ void keep_finite(uint32_t &pair)
{
    pair &= ~((not_finite<T>(pair) >> 15) * 0xffffu);
}

template <typename T, typename tile, int threads> __device__ void remove_poison(unsigned char *tile_bytes)
{
    using share = tile_share<tile, threads>;
#pragma unroll 1
    for (int i = 0; i < share::passes_down; i++)
#pragma unroll 1
        for (int j = 0; j < share::passes_across; j++) {
            uint4 *const vector = reinterpret_cast<uint4 *>(tile_bytes + share::offset() + share::step(i, j));
            uint4 x = *vector;
            keep_finite<T>(x.x), keep_finite<T>(x.y), keep_finite<T>(x.z), keep_finite<T>(x.w);
            *vector = x;
        }
}

// A pair of weights: 1 where the key is visible, by bits `column` and `column` + 1.
template <typename T> __device__ uint32_t visible_pair(uint32_t visible, int column)
{
    return (visible >> column & 1 ? format<T>::plus_one : 0) |
           (visible >> column & 2 ? format<T>::plus_one << 16 : 0);
}

// Adds the poison of visible keys to O of a warp's 16·m rows. visible has a bit for each of a lane's columns,
// four a step of 16 keys, row after row, each in half a word or a whole one; rows 2i and 2i + 1 are those of
// fragment i.
template <typename T, typename tile, int at, int m, int words>
__device__ void add_poison(float (&o)[m][tile::dim / 8][4], const fragments<tile, at> &v,
                           const uint32_t (&visible)[words])
{
    const auto pair = [&](int row, int column) {
        constexpr int bits = words / m * 16;
        return visible_pair<T>(visible[row * bits / 32], row * bits % 32 + column);
    };
#pragma unroll
    for (int n = 0; n < tile::dim / 16; n++) {
        float sum[m][2][4] = {};
#pragma unroll 1
        for (int step = 0; step < tile::rows / 16; step++) {
            uint32_t b[4];
            ldmatrix_trans(b, v.address(step, n));
#pragma unroll
            for (int i = 0; i < 4; i++) b[i] = counters<T>(b[i]);
#pragma unroll
            for (int i = 0; i < m; i++) {
                const uint32_t a[4] = {pair(2 * i, step * 4), pair(2 * i + 1, step * 4),
                                       pair(2 * i, step * 4 + 2), pair(2 * i + 1, step * 4 + 2)};
                mma<T>(sum[i][0], a, b[0], b[1]);
                mma<T>(sum[i][1], a, b[2], b[3]);
            }
        }
#pragma unroll
        for (int i = 0; i < m; i++)
#pragma unroll
            for (int e = 0; e < 8; e++) o[i][2 * n + e / 4][e % 4] += poison_of(sum[i][e / 4][e % 4]);
    }
}

} // namespace attend
