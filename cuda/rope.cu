// Rotary embedding and QK-norm of Q and K, in place or not, or of new keys into a cache. A block takes all
// heads of its tokens, so that the cosine and sine of an angle, a fraction of a turn taken in double, are
// computed once a token and not once a head. A warp takes one head at a time: it first reduces the norm's
// sums over its lanes; then each lane rotates pairs of elements.
#include "dtype.cuh"
#include "position_kernels.h"
#include "warp.cuh"

#include <algorithm>
#include <climits>

namespace
{

constexpr int lanes = 32, warps = 8, most_tensors = 2;

struct rope_operand {
    attend_view from, to;
    int heads;
    const void *weight, *bias; // of the norm, shape [head_dim]; null: 1 and 0
    int64_t weight_step, bias_step;
};

struct rope_args {
    attend_rope rope;
    attend_row_positions row_positions;
    rope_operand tensors[most_tensors];
    int64_t rows, all_tokens;
    int count, head_dim, tokens; // tokens a block, each with an equal share of its warps
    bool appends;                // rows go to slots of a cache, and those of `values` with them, as they are
    attend_append append;
    rope_operand values;
    int head_dim_v;
};

template <typename T> struct plain {
    const T *y;
    __device__ float operator()(int c) const { return static_cast<float>(y[c]); }
};

template <typename T> struct normalised {
    const T *y, *weight, *bias;
    int64_t weight_step, bias_step;
    float mean = 0, factor;

    __device__ normalised(const rope_args &a, const rope_operand &tensor, const T *y)
        : y(y), weight(static_cast<const T *>(tensor.weight)), bias(static_cast<const T *>(tensor.bias)),
          weight_step(tensor.weight_step), bias_step(tensor.bias_step)
    {
        const int lane = threadIdx.x % lanes, d = a.head_dim;
        if (a.rope.norm == ATTEND_QK_NORM_LAYER) {
            float sum = 0;
            for (int c = lane; c < d; c += lanes) sum += static_cast<float>(y[c]);
            mean = attend::warp_sum(sum) / static_cast<float>(d);
        }
        float squares = 0;
        for (int c = lane; c < d; c += lanes) {
            const float x = static_cast<float>(y[c]) - mean;
            squares = fmaf(x, x, squares);
        }
        factor = 1 / sqrtf(attend::warp_sum(squares) / static_cast<float>(d) + a.rope.epsilon);
        __syncwarp(); // all lanes have read before any writes
    }
    __device__ float operator()(int c) const
    {
        const float w = weight ? static_cast<float>(weight[c * weight_step]) : 1,
                    z = bias ? static_cast<float>(bias[c * bias_step]) : 0;
        return fmaf((static_cast<float>(y[c]) - mean) * factor, w, z);
    }
};

template <typename T, typename Value>
__device__ void rope_pairs(const rope_args &a, T *to, const Value &value, const float2 *angles)
{
    for (int pair = threadIdx.x % lanes; pair < a.rope.dims / 2; pair += lanes) {
        const int i = attend_rope_first(&a.rope, pair), j = attend_rope_second(&a.rope, pair);
        const float first = value(i), second = value(j);
        const float2 angle = angles[pair];
        to[i] = static_cast<T>(first * angle.x - second * angle.y);
        to[j] = static_cast<T>(second * angle.x + first * angle.y);
    }
}

template <typename T, typename Value> __device__ void move_rest(const rope_args &a, T *to, const Value &value)
{
    for (int c = a.rope.dims + threadIdx.x % lanes; c < a.head_dim; c += lanes)
        to[c] = static_cast<T>(value(c));
}

template <typename T>
__device__ void rope_head(const rope_args &a, const rope_operand &tensor, const T *from, T *to,
                          const float2 *angles)
{
    if (a.rope.norm == ATTEND_QK_NORM_NONE) {
        rope_pairs(a, to, plain<T>{from}, angles);
        if (from != to) move_rest(a, to, plain<T>{from});
        return;
    }
    const normalised<T> value(a, tensor, from);
    rope_pairs(a, to, value, angles);
    move_rest(a, to, value);
}

template <typename T> __device__ const T *row_at(const attend_view &view, int64_t entry, int64_t row)
{
    return static_cast<const T *>(view.data) + entry * view.batch + row * view.seqlen;
}

// Where a token's heads go: its own row, or a slot of the cache; entry -1: nowhere.
__device__ inline attend_key_slot place_of(const rope_args &a, int64_t b, int64_t row)
{
    if (a.appends) return attend_append_slot(&a.append, &a.row_positions, b, row);
    return {attend_is_there(&a.row_positions, b, row) ? b : -1, row};
}

template <typename T>
__global__ void __launch_bounds__(lanes *warps) rope_heads(const __grid_constant__ rope_args a)
{
    __shared__ float2 angles[warps][ATTEND_ROPE_PAIRS];
    const int lane = threadIdx.x % lanes, team = warps / a.tokens, token = threadIdx.x / (lanes * team),
              member = threadIdx.x / lanes % team;
    const int64_t number = blockIdx.x * int64_t(a.tokens) + token, b = number / a.rows, row = number % a.rows;
    const attend_key_slot place =
        token < a.tokens && number < a.all_tokens ? place_of(a, b, row) : attend_key_slot{-1, 0};
    const bool valid = place.entry >= 0;
    if (valid && a.rope.dims) {
        const int64_t position = attend_row_position(&a.row_positions, b, row);
        for (int pair = member * lanes + lane; pair < a.rope.dims / 2; pair += team * lanes) {
            float sine, cosine;
            sincospif(2 * static_cast<float>(attend_turn_fraction(a.rope.turns[pair], position)), &sine,
                      &cosine);
            angles[token][pair] = make_float2(cosine * a.rope.factor, sine * a.rope.sine_factor);
        }
    }
    __syncthreads();
    if (!valid) return;
    for (int s = 0; s < a.count; s++) {
        const rope_operand &tensor = a.tensors[s];
        const T *from = row_at<T>(tensor.from, b, row);
        T *to = const_cast<T *>(row_at<T>(tensor.to, place.entry, place.row));
        for (int head = member; head < tensor.heads; head += team)
            rope_head(a, tensor, from + head * tensor.from.head, to + head * tensor.to.head, angles[token]);
    }
    for (int head = member; a.appends && head < a.values.heads; head += team) {
        const T *from = row_at<T>(a.values.from, b, row) + head * a.values.from.head;
        T *to = const_cast<T *>(row_at<T>(a.values.to, place.entry, place.row)) + head * a.values.to.head;
        for (int c = lane; c < a.head_dim_v; c += lanes) to[c] = from[c];
    }
}

rope_operand operand_of(const attend_rope_tensor &t)
{
    return {attend_view_of(&t.from), attend_view_of(&t.to), static_cast<int>(t.from.shape[2]),
            t.weight.data,           t.bias.data,           t.weight.stride[0],
            t.bias.stride[0]};
}

} // namespace

cudaError_t attend_rope_heads(const attend_rope *rope, const attend_row_positions *row_positions,
                              const attend_rope_tensor *tensors, int count, const attend_append *append,
                              cudaStream_t stream)
{
    rope_args a = {};
    const int64_t *shape = tensors[0].from.shape;
    int64_t heads = 0;
    for (int s = 0; s < count; s++) heads += tensors[s].from.shape[2];
    if (heads > INT_MAX / warps || shape[3] > INT_MAX / 2 || (append && append->v.shape[3] > INT_MAX / 2))
        return cudaErrorInvalidConfiguration;
    a.rope = *rope, a.row_positions = *row_positions, a.count = count;
    for (int s = 0; s < count; s++) a.tensors[s] = operand_of(tensors[s]);
    if (append) {
        a.appends = true, a.append = *append;
        a.values = operand_of({append->v, append->cache_v, {}, {}});
        a.head_dim_v = static_cast<int>(append->v.shape[3]);
    }
    a.rows = shape[1], a.all_tokens = shape[0] * shape[1], a.head_dim = static_cast<int>(shape[3]);
    a.tokens = static_cast<int>(std::max(warps / heads, int64_t(1)));
    const int64_t blocks = (a.all_tokens + a.tokens - 1) / a.tokens;
    if (blocks > INT_MAX) return cudaErrorInvalidConfiguration;
    if (blocks == 0) return cudaSuccess;
    void *parameters[] = {&a};
    return cudaLaunchKernel(ATTEND_KERNEL_OF(tensors[0].from.dtype, rope_heads),
                            static_cast<unsigned>(blocks), lanes * warps, parameters, 0, stream);
}
