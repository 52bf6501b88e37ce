// What dS is to biases, slopes and tables of distances, for backward_fma.cu.
#pragma once

#include "backward_fma_tile.cuh"
#include "warp.cuh"

namespace attend
{
namespace
{

// Where a tile of dS lies, which is [own][other] in shared memory: its first query and key.
struct ds_tile {
    const float *cells;
    const attend_head &head;
    int64_t batch, row0, key0;
};

// dS of a tile to the buckets of the block: along a diagonal the distance is one, and so the bucket; a
// bucket's distances are neighbours, so that one thread adds to it.
template <typename tile>
__device__ void sum_buckets(const attend_backward_args &args, const ds_tile &ds, float *diagonals,
                            float *buckets)
{
    constexpr int count = tile::own + tile::other - 1;
    const attend_problem &p = args.problem;
    const int64_t first = ds.key0 - attend_position(&p, &ds.head.sequence, ds.row0) - (tile::own - 1);
    const int d = threadIdx.x;
    const auto bucket_of = [&](int diagonal) { return attend_bucket_of(&p, &args.terms, first + diagonal); };
    if (d < count) {
        float sum = 0;
#pragma unroll 1
        for (int r = max(0, tile::own - 1 - d); r < min(tile::own, count - d); r++)
            sum += ds.cells[r * tile::pitch_p + d - (tile::own - 1) + r];
        diagonals[d] = sum;
    }
    __syncthreads();
    if (bucket_of(0) == bucket_of(count - 1)) {
        float sum = 0;
        if (d >= 32) return;
        for (int n = d; n < count; n += 32) sum += diagonals[n];
        sum = warp_sum(sum);
        if (d == 0) buckets[bucket_of(0)] += sum;
        return;
    }
    if (d >= count || (d > 0 && bucket_of(d - 1) == bucket_of(d))) return;
    float sum = 0;
    for (int n = d; n < count && bucket_of(n) == bucket_of(d); n++) sum += diagonals[n];
    buckets[bucket_of(d)] += sum;
}

// dS of a tile to all that features bring. sums: [row_sums][own]. Not inlined, so that it takes no registers
// from problems without such features.
template <typename tile, bool by_keys>
__device__ __noinline__ void sum_features(const attend_backward_args &args, const ds_tile &ds, float *sums,
                                          float *diagonals, float *buckets)
{
    const attend_problem &p = args.problem;
    const int r = threadIdx.x;
    __syncthreads(); // all of dS is there
    if (r < tile::own) {
        const int64_t distance = ds.key0 - attend_position(&p, &ds.head.sequence, ds.row0 + r);
        float all = 0, slope = 0;
#pragma unroll 1
        for (int c = 0; c < tile::other; c += 4) {
            const float4 x = *reinterpret_cast<const float4 *>(ds.cells + r * tile::pitch_p + c);
            const float of[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                all += of[i];
                if (!by_keys && args.sums.slopes && !is_hidden(of[i]))
                    slope = fmaf(of[i], attend_alibi_factor(&p, distance + c + i), slope);
            }
        }
        sums[sum_bias * tile::own + r] += all, sums[sum_slopes * tile::own + r] += slope;
    }
    if (!by_keys && buckets) sum_buckets<tile>(args, ds, diagonals, buckets);
    if (!by_keys && args.bias.data && attend_bias_is_whole(&p) && !attend_bias_is_shared(&p)) {
        const attend_sequence &s = ds.head.sequence;
        const int last = static_cast<int>(min(int64_t(tile::own), s.seqlen_q - ds.row0)),
                  end = static_cast<int>(min(int64_t(tile::other), s.seqlen_k - ds.key0));
#pragma unroll 1
        for (int n = threadIdx.x; n < last * tile::other; n += tile::threads) {
            const int row = n / tile::other, c = n % tile::other;
            if (c < end)
                bias_gradient(args, ds.batch, ds.head.head, ds.row0 + row)[(ds.key0 + c) * args.bias.key] +=
                    ds.cells[row * tile::pitch_p + c];
        }
    }
    __syncthreads(); // all have read it
}

// Zeros in the rows of a whole bias's gradient, of which a block visits what some row sees.
template <typename tile>
__device__ __noinline__ void clear_bias(const attend_backward_args &args, const backward_block &at,
                                        int64_t row0)
{
    const attend_problem &p = args.problem;
    const int64_t last = min(int64_t(tile::own), p.seqlen_q - row0);
    for (int64_t row = 0; row < last; row++)
        for (int64_t key = threadIdx.x; key < p.seqlen_k; key += tile::threads)
            bias_gradient(args, at.batch, at.head, row0 + row)[key * args.bias.key] = 0;
    __syncthreads();
}

} // namespace
} // namespace attend
