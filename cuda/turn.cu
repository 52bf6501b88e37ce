// Rotary embedding and QK-norm of a layer's projected Q or K, in place. A block takes all heads of its tokens, so that an angle, a fraction of
// a turn from double, is made once a token and not once a head. A warp takes one head at a time: its lanes hold pairs of elements that
// turn together, after the root of the squares has gone round the warp.
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
    int64_t positions_batch, positions_row, rows, all_tokens;
    int heads, tokens; // tokens: of a block, each with a team of its warps
    const void *weight, *bias; // of the norm; null: 1 and 0
    int64_t weight_step, bias_step;
};

__device__ float over_warp(float x)
{
#pragma unroll
    for (int lane = lanes / 2; lane; lane /= 2) x += __shfl_xor_sync(~0u, x, lane);
    return x;
}

template <typename T> struct plain {
    const T *y;
    __device__ float operator()(int c) const { return static_cast<float>(y[c]); }
};

template <typename T> struct normalised {
    const T *y, *weight, *bias;
    int64_t weight_step, bias_step;
    float mean = 0, factor;

    __device__ normalised(const turn_args &a, const T *y)
        : y(y), weight(static_cast<const T *>(a.weight)), bias(static_cast<const T *>(a.bias)), weight_step(a.weight_step), bias_step(a.bias_step)
    {
        const int lane = threadIdx.x % lanes, d = static_cast<int>(a.problem.head_dim);
        if (a.turn.norm == ATTEND_QK_NORM_LAYER) {
            float sum = 0;
            for (int c = lane; c < d; c += lanes) sum += static_cast<float>(y[c]);
            mean = over_warp(sum) / static_cast<float>(d);
        }
        float squares = 0;
        for (int c = lane; c < d; c += lanes) {
            const float x = static_cast<float>(y[c]) - mean;
            squares = fmaf(x, x, squares);
        }
        factor = 1 / sqrtf(over_warp(squares) / static_cast<float>(d) + a.turn.epsilon);
        __syncwarp(); // all have read before any writes
    }
    __device__ float operator()(int c) const
    {
        const float w = weight ? static_cast<float>(weight[c * weight_step]) : 1, z = bias ? static_cast<float>(bias[c * bias_step]) : 0;
        return fmaf((static_cast<float>(y[c]) - mean) * factor, w, z);
    }
};

template <typename T, typename Value> __device__ void turn_pairs(const turn_args &a, T *y, const Value &value, const float2 *angles)
{
    for (int pair = threadIdx.x % lanes; pair < a.turn.dims / 2; pair += lanes) {
        const int i = attend_turn_first(&a.turn, pair), j = attend_turn_second(&a.turn, pair);
        const float first = value(i), second = value(j);
        const float2 angle = angles[pair];
        y[i] = static_cast<T>(first * angle.x - second * angle.y);
        y[j] = static_cast<T>(second * angle.x + first * angle.y);
    }
}

template <typename T> __device__ void turn_head(const turn_args &a, T *y, const float2 *angles)
{
    if (a.turn.norm == ATTEND_QK_NORM_NONE) {
        turn_pairs(a, y, plain<T>{y}, angles);
        return;
    }
    const normalised<T> value(a, y);
    turn_pairs(a, y, value, angles);
    for (int c = a.turn.dims + threadIdx.x % lanes; c < a.problem.head_dim; c += lanes) y[c] = static_cast<T>(value(c));
}

template <typename T> __global__ void __launch_bounds__(lanes *warps) turn_heads(const __grid_constant__ turn_args a)
{
    __shared__ float2 angles[warps][ATTEND_TURN_PAIRS];
    const int lane = threadIdx.x % lanes, team = warps / a.tokens, token = threadIdx.x / (lanes * team), member = threadIdx.x / lanes % team;
    const int64_t number = blockIdx.x * int64_t(a.tokens) + token, b = number / a.rows, row = number % a.rows;
    const bool there = token < a.tokens && number < a.all_tokens;
    if (there && a.turn.dims) {
        const int64_t position = attend_token_position(&a.problem, &a.lists, a.positions, a.positions_batch, a.positions_row, b, row);
        for (int pair = member * lanes + lane; pair < a.turn.dims / 2; pair += team * lanes) {
            float sine, cosine;
            sincospif(2 * static_cast<float>(attend_turn_fraction(&a.turn, pair, position)), &sine, &cosine);
            angles[token][pair] = make_float2(cosine * a.turn.factor, sine * a.turn.factor);
        }
    }
    __syncthreads();
    T *y = static_cast<T *>(a.x.data) + b * a.x.batch + row * a.x.seqlen;
    for (int head = member; there && head < a.heads; head += team) turn_head(a, y + head * a.x.head, angles[token]);
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
                   rows, batch * rows, static_cast<int>(heads), static_cast<int>(std::max(warps / heads, int64_t(1))), weight->data, bias->data,
                   weight->stride[0], bias->stride[0]};
    const int64_t blocks = (a.all_tokens + a.tokens - 1) / a.tokens;
    if (blocks > INT_MAX || heads > INT_MAX / warps) return cudaErrorInvalidConfiguration;
    if (blocks == 0) return cudaSuccess;
    void *parameters[] = {&a};
    return cudaLaunchKernel(kernel_of(problem->dtype), static_cast<unsigned>(blocks), lanes * warps, parameters, 0, stream);
}
