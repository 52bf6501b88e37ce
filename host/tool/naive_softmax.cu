// Softmax of rows of scores in memory, one block per row: a pass for maximum and sum, a pass for the weights.
// Simple, but not slow on purpose: attend is benchmarked against it.
#include "dtype.cuh"
#include "tool/naive_softmax.h"

#include <climits>

namespace
{

constexpr int threads = 256, warps = threads / 32;

struct state {
    float max, sum;
};

__device__ state merge(state a, state b)
{
    const float max = fmaxf(a.max, b.max);
    if (max == -INFINITY) return a;
    return {max, a.sum * expf(a.max - max) + b.sum * expf(b.max - max)};
}

__device__ state merge_lanes(state s)
{
    for (int lane = 16; lane; lane /= 2)
        s = merge(s, {__shfl_xor_sync(~0u, s.max, lane), __shfl_xor_sync(~0u, s.sum, lane)});
    return s;
}

template <typename T> __global__ void naive_softmax_rows(const __grid_constant__ naive_rows rows)
{
    __shared__ state parts[warps];
    T *const row = static_cast<T *>(rows.scores) + blockIdx.x * rows.keys;
    const int64_t last = blockIdx.x % rows.queries + rows.diagonal + 1;
    const int64_t seen = rows.causal ? max(int64_t(0), min(rows.keys, last)) : rows.keys;
    state own = {-INFINITY, 0};
    for (int64_t j = threadIdx.x; j < seen; j += threads) own = merge(own, {static_cast<float>(row[j]), 1});
    own = merge_lanes(own);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = own;
    __syncthreads();
    const int lane = threadIdx.x % 32;
    own = merge_lanes(lane < warps ? parts[lane] : state{-INFINITY, 0});
    for (int64_t j = threadIdx.x; j < rows.keys; j += threads)
        row[j] = static_cast<T>(j < seen ? expf(static_cast<float>(row[j]) - own.max) / own.sum : 0);
}

} // namespace

cudaError_t naive_softmax(const naive_rows *rows, cudaStream_t stream)
{
    const void *kernel = ATTEND_KERNEL_OF(rows->dtype, naive_softmax_rows);
    void *parameters[] = {const_cast<naive_rows *>(rows)};
    if (rows->rows == 0 || rows->keys == 0) return cudaSuccess;
    if (rows->rows > INT_MAX) return cudaErrorInvalidConfiguration;
    return cudaLaunchKernel(kernel, static_cast<unsigned>(rows->rows), threads, parameters, 0, stream);
}
