// Rotary embedding and QK-norm of a layer's projected Q or K, in place. A warp takes one head of one token: its lanes hold pairs of
// elements that turn together, after the root of the squares has gone round the warp. The angle is a fraction of a turn, from double.
#include "kernels.h"

#include <algorithm>
#include <climits>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace {

constexpr int lanes = 32, warps = 8;

struct turn_args {
    attend_problem problem;
    attend_turn turn;
    attend_lists lists;
    attend_view x;
    const int32_t *positions;
    int64_t positions_batch, positions_row, rows, heads, units;
    const void *weight, *bias; // of the norm; null: 1 and 0
    int64_t weight_step, bias_step;
};

__device__ float over_warp(float x)
{
#pragma unroll
    for (int lane = lanes / 2; lane; lane /= 2) x += __shfl_xor_sync(~0u, x, lane);
    return x;
}

template <typename T> __global__ void __launch_bounds__(lanes *warps) turn_heads(const __grid_constant__ turn_args a)
{
    const int lane = threadIdx.x % lanes;
    const int64_t unit = blockIdx.x * int64_t(warps) + threadIdx.x / lanes, d = a.problem.head_dim;
    if (unit >= a.units) return;
    const int64_t head = unit % a.heads, row = unit / a.heads % a.rows, b = unit / (a.heads * a.rows);
    T *y = static_cast<T *>(a.x.data) + b * a.x.batch + row * a.x.seqlen + head * a.x.head;
    float mean = 0, factor = 1;
    const bool norm = a.turn.norm != ATTEND_QK_NORM_NONE;
    if (a.turn.norm == ATTEND_QK_NORM_LAYER) {
        for (int64_t c = lane; c < d; c += lanes) mean += static_cast<float>(y[c]);
        mean = over_warp(mean) / static_cast<float>(d);
    }
    if (norm) {
        float squares = 0;
        for (int64_t c = lane; c < d; c += lanes) {
            const float x = static_cast<float>(y[c]) - mean;
            squares = fmaf(x, x, squares);
        }
        factor = 1 / sqrtf(over_warp(squares) / static_cast<float>(d) + a.turn.epsilon);
    }
    const T *weight = static_cast<const T *>(a.weight), *bias = static_cast<const T *>(a.bias);
    const auto normalised = [&](int64_t c) {
        const float x = static_cast<float>(y[c]);
        if (!norm) return x;
        const float w = weight ? static_cast<float>(weight[c * a.weight_step]) : 1, z = bias ? static_cast<float>(bias[c * a.bias_step]) : 0;
        return fmaf((x - mean) * factor, w, z);
    };
    const int64_t position = attend_token_position(&a.problem, &a.lists, a.positions, a.positions_batch, a.positions_row, b, row);
    // All lanes read before any writes.
    for (int64_t base = 0; base < a.turn.dims / 2; base += lanes) {
        const int64_t pair = min(base + lane, a.turn.dims / 2 - 1), i = attend_turn_first(&a.turn, pair), j = attend_turn_second(&a.turn, pair);
        const float first = normalised(i), second = normalised(j);
        float sine, cosine;
        sincospif(2 * static_cast<float>(attend_turn_fraction(&a.turn, pair, position)), &sine, &cosine);
        sine *= a.turn.factor, cosine *= a.turn.factor;
        __syncwarp();
        if (base + lane > pair) continue;
        y[i] = static_cast<T>(first * cosine - second * sine);
        y[j] = static_cast<T>(second * cosine + first * sine);
    }
    for (int64_t base = a.turn.dims; norm && base < d; base += lanes) {
        const int64_t c = min(base + lane, d - 1);
        const float value = normalised(c);
        __syncwarp();
        if (base + lane == c) y[c] = static_cast<T>(value);
    }
}

const void *kernel_of(attend_dtype dtype)
{
    return dtype == ATTEND_F32   ? reinterpret_cast<const void *>(&turn_heads<float>)
           : dtype == ATTEND_F16 ? reinterpret_cast<const void *>(&turn_heads<__half>)
                                 : reinterpret_cast<const void *>(&turn_heads<__nv_bfloat16>);
}

} // namespace

cudaError_t attend_turn_heads(const attend_problem *problem, const attend_turn *turn, const attend_lists *lists, const attend_view *x,
                              int64_t batch, int64_t rows, int64_t heads, const attend_tensor *positions, const attend_tensor *weight,
                              const attend_tensor *bias, cudaStream_t stream)
{
    turn_args a = {*problem, *turn, *lists, *x, static_cast<const int32_t *>(positions->data), positions->stride[0], positions->stride[1],
                   rows, heads, batch * rows * heads, weight->data, bias->data, weight->stride[0], bias->stride[0]};
    const int64_t blocks = (a.units + warps - 1) / warps;
    if (blocks > INT_MAX) return cudaErrorInvalidConfiguration;
    if (blocks == 0) return cudaSuccess;
    void *parameters[] = {&a};
    return cudaLaunchKernel(kernel_of(problem->dtype), static_cast<unsigned>(blocks), lanes * warps, parameters, 0, stream);
}
