// Kernels around the products of a layer's gradients: sums over rows, the way back through rotary embedding
// and QK-norm, gradients of inputs and of learned positions. All are bound by the memory that they read once.
#include "dtype.cuh"
#include "layer_backward_kernels.h"
#include "warp.cuh"

#include <algorithm>
#include <climits>

namespace
{

constexpr int lanes = 32, warps = 8, threads = lanes * warps;

struct rows_view {
    attend_view at;
    int64_t rows; // of an entry
    int heads, dim;

    template <typename T> __device__ const T *head(int64_t row, int h) const
    {
        return static_cast<const T *>(at.data) + row / rows * at.batch + row % rows * at.seqlen + h * at.head;
    }
};

rows_view rows_of(const attend_tensor &t)
{
    return {attend_view_of(&t), t.shape[1], static_cast<int>(t.shape[2]), static_cast<int>(t.shape[3])};
}

int64_t rows_in(const attend_tensor &t) { return t.shape[0] * t.shape[1]; }

// ---- sums over rows ----

constexpr int64_t least_part = 64, most_parts = 512;

int64_t rows_a_part(int64_t rows) { return std::max(least_part, (rows + most_parts - 1) / most_parts); }
int64_t parts_of(int64_t rows) { return (rows + rows_a_part(rows) - 1) / rows_a_part(rows); }

struct sum_args {
    rows_view x;
    int64_t columns, all_rows, part;
    float *sums; // [parts][columns]
};

// A block sums some columns over one part of the rows.
template <typename T> __global__ void __launch_bounds__(threads) sum_part(const __grid_constant__ sum_args a)
{
    const int64_t column = blockIdx.y * int64_t(threads) + threadIdx.x, first = blockIdx.x * a.part,
                  end = min(first + a.part, a.all_rows);
    if (column >= a.columns) return;
    const int h = static_cast<int>(column / a.x.dim), c = static_cast<int>(column % a.x.dim);
    float sum = 0;
    for (int64_t row = first; row < end; row++) sum += static_cast<float>(a.x.head<T>(row, h)[c]);
    a.sums[blockIdx.x * a.columns + column] = sum;
}

__global__ void __launch_bounds__(threads)
    join_parts(const float *sums, int64_t parts, int64_t line, int64_t columns, attend_row_sum to)
{
    const int64_t column = blockIdx.x * int64_t(threads) + threadIdx.x;
    if (column >= columns) return;
    float sum = 0;
    for (int64_t part = 0; part < parts; part++) sum += sums[part * line + column];
    float *at = to.data + column * to.step;
    *at = to.accumulate ? *at + sum : sum;
}

cudaError_t join(const float *sums, int64_t parts, int64_t line, int64_t columns, attend_row_sum to,
                 cudaStream_t stream)
{
    void *parameters[] = {&sums, &parts, &line, &columns, &to};
    if (!to.data || columns == 0) return cudaSuccess;
    return cudaLaunchKernel(reinterpret_cast<const void *>(&join_parts),
                            static_cast<unsigned>((columns + threads - 1) / threads), threads, parameters, 0,
                            stream);
}

// ---- rotary embedding and QK-norm ----

constexpr int most_dim = 256, own = most_dim / lanes; // elements of a head; of them a lane's

struct rope_back_args {
    attend_rope rope;
    attend_row_positions row_positions;
    rows_view dy, y;
    const void *weight;
    int64_t weight_step, all_rows, part;
    float *sums; // [parts][2][dim]; null: not wanted
};

// What the turn back leaves, in shared memory: the gradient of the head behind its norm. Whether any of it is
// not 0.
template <typename T>
__device__ bool turn_back(const rope_back_args &a, const T *dy, const float2 *angles, float *z)
{
    bool any = false;
    const int lane = threadIdx.x % lanes;
    for (int pair = lane; pair < a.rope.dims / 2; pair += lanes) {
        const int i = attend_rope_first(&a.rope, pair), j = attend_rope_second(&a.rope, pair);
        const float first = static_cast<float>(dy[i]), second = static_cast<float>(dy[j]);
        z[i] = first * angles[pair].x + second * angles[pair].y;
        z[j] = second * angles[pair].x - first * angles[pair].y;
        any |= first != 0 || second != 0;
    }
    for (int c = a.rope.dims + lane; c < a.dy.dim; c += lanes) {
        z[c] = static_cast<float>(dy[c]);
        any |= z[c] != 0;
    }
    __syncwarp(); // all lanes see z, and have read dy
    return __any_sync(~0u, any);
}

struct norm_sums {
    float weight[own] = {}, bias[own] = {};
};

// With n = (y - mean)·f and z = n·w + b: dy = f·(g - mean of g - n·mean of g·n), g = dz·w; an RMS norm has no
// mean.
template <typename T>
__device__ void normalise_back(const rope_back_args &a, const T *y, T *dy, const float *z, norm_sums &sums)
{
    const int lane = threadIdx.x % lanes, d = a.dy.dim;
    const bool centres = a.rope.norm == ATTEND_QK_NORM_LAYER;
    const float share = 1 / static_cast<float>(d);
    float n[own], g[own], mean = 0, squares = 0, shift = 0, along = 0;
#pragma unroll
    for (int i = 0; i < own; i++) {
        const int c = i * lanes + lane;
        n[i] = c < d ? static_cast<float>(y[c]) : 0;
        mean += n[i];
    }
    mean = centres ? attend::warp_sum(mean) * share : 0;
#pragma unroll
    for (int i = 0; i < own; i++) {
        n[i] = i * lanes + lane < d ? n[i] - mean : 0;
        squares = fmaf(n[i], n[i], squares);
    }
    const float factor = 1 / sqrtf(attend::warp_sum(squares) * share + a.rope.epsilon);
#pragma unroll
    for (int i = 0; i < own; i++) {
        const int c = i * lanes + lane;
        const float dz = c < d ? z[c] : 0;
        n[i] *= factor;
        g[i] =
            dz *
            (a.weight && c < d ? static_cast<float>(static_cast<const T *>(a.weight)[c * a.weight_step]) : 1);
        sums.weight[i] = fmaf(dz, n[i], sums.weight[i]), sums.bias[i] += dz;
        shift += g[i], along = fmaf(g[i], n[i], along);
    }
    shift = centres ? attend::warp_sum(shift) * share : 0, along = attend::warp_sum(along) * share;
#pragma unroll
    for (int i = 0; i < own; i++)
        if (i * lanes + lane < d)
            dy[i * lanes + lane] = static_cast<T>(factor * (g[i] - shift - n[i] * along));
}

// The sums of a block's warps, in their order.
__device__ inline void leave_sums(const rope_back_args &a, const norm_sums &sums, float *shared)
{
    const int lane = threadIdx.x % lanes, warp = threadIdx.x / lanes, d = a.dy.dim;
    for (int which = 0; which < 2; which++) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < own; i++)
            shared[warp * most_dim + i * lanes + lane] = which ? sums.bias[i] : sums.weight[i];
        __syncthreads();
        float sum = 0;
        for (int w = 0; w < warps; w++) sum += shared[w * most_dim + threadIdx.x];
        if (static_cast<int>(threadIdx.x) < d)
            a.sums[(2 * blockIdx.x + which) * int64_t(d) + threadIdx.x] = sum;
    }
}
static_assert(threads >= most_dim, "a thread sums one column");

// A block takes a part of the rows, row by row, each warp some of their heads. A head without a gradient
// stays as it is: its y may be NaN.
template <typename T>
__global__ void __launch_bounds__(threads) rope_back(const __grid_constant__ rope_back_args a)
{
    __shared__ float2 angles[ATTEND_ROPE_PAIRS];
    __shared__ float heads[warps * most_dim];
    const int warp = threadIdx.x / lanes, lane = threadIdx.x % lanes;
    float *z = heads + warp * most_dim;
    norm_sums sums;
    const int64_t end = min((blockIdx.x + 1) * a.part, a.all_rows);
    for (int64_t row = blockIdx.x * a.part; row < end; row++) {
        const int64_t b = row / a.dy.rows, i = row % a.dy.rows;
        if (!attend_is_there(&a.row_positions, b, i)) continue;
        const int64_t position = a.rope.dims ? attend_row_position(&a.row_positions, b, i) : 0;
        __syncthreads();
        for (int pair = threadIdx.x; pair < a.rope.dims / 2; pair += threads) {
            float sine, cosine;
            sincospif(2 * static_cast<float>(attend_turn_fraction(a.rope.turns[pair], position)), &sine,
                      &cosine);
            angles[pair] = make_float2(cosine * a.rope.factor, sine * a.rope.sine_factor);
        }
        __syncthreads();
        for (int h = warp; h < a.dy.heads; h += warps) {
            T *dy = const_cast<T *>(a.dy.head<T>(row, h));
            const bool any = turn_back(a, dy, angles, z);
            if (any && a.rope.norm != ATTEND_QK_NORM_NONE)
                normalise_back(a, a.y.head<T>(row, h), dy, z, sums);
            else if (any)
                for (int c = lane; c < a.rope.dims; c += lanes) dy[c] = static_cast<T>(z[c]);
            __syncwarp(); // z is free
        }
    }
    if (a.sums) leave_sums(a, sums, heads);
}

// ---- rows of inputs ----

struct keep_args {
    rows_view dy[3], x, to;
    int64_t all_rows;
    int count;
};

template <typename T> __device__ bool any_in_row(const rows_view &dy, int64_t row)
{
    bool any = false;
    for (int n = threadIdx.x % lanes; n < dy.heads * dy.dim; n += lanes)
        any |= static_cast<float>(dy.head<T>(row, n / dy.dim)[n % dy.dim]) != 0;
    return __any_sync(~0u, any);
}

template <typename T>
__global__ void __launch_bounds__(threads) keep_rows(const __grid_constant__ keep_args a)
{
    const int64_t row = blockIdx.x * int64_t(warps) + threadIdx.x / lanes;
    if (row >= a.all_rows) return;
    bool any = false;
    for (int i = 0; i < a.count && !any; i++) any = any_in_row<T>(a.dy[i], row);
    const T *from = a.x.head<T>(row, 0);
    T *to = const_cast<T *>(a.to.head<T>(row, 0));
    for (int c = threadIdx.x % lanes; c < a.x.dim; c += lanes) to[c] = any ? from[c] : static_cast<T>(0.0f);
}

struct leave_args {
    const float *from;
    rows_view to;
    int64_t all_rows;
    bool accumulate;
};

template <typename T>
__global__ void __launch_bounds__(threads) leave_rows(const __grid_constant__ leave_args a)
{
    const int64_t row = blockIdx.x * int64_t(warps) + threadIdx.x / lanes;
    if (row >= a.all_rows) return;
    T *to = const_cast<T *>(a.to.head<T>(row, 0));
    for (int c = threadIdx.x % lanes; c < a.to.dim; c += lanes) {
        const float x = a.from[row * a.to.dim + c];
        to[c] = static_cast<T>(a.accumulate ? static_cast<float>(to[c]) + x : x);
    }
}

struct table_args {
    const float *dx;
    int64_t batch, rows, width;
    attend_row_positions row_positions;
    float *table;
    int64_t step;
    bool accumulate;
};

// A block makes one row of the table: it looks for the rows at that position and adds them in their order, a
// thread some of the columns.
__global__ void __launch_bounds__(threads) sum_positions(const __grid_constant__ table_args a)
{
    __shared__ unsigned found[warps];
    float *to = a.table + blockIdx.x * a.step;
    const int64_t all = a.batch * a.rows;
    for (int64_t c = threadIdx.x; c < a.width && !a.accumulate; c += threads) to[c] = 0;
    for (int64_t first = 0; first < all; first += threads) {
        const int64_t row = first + threadIdx.x;
        const bool here = row < all && attend_is_there(&a.row_positions, row / a.rows, row % a.rows) &&
                          attend_row_position(&a.row_positions, row / a.rows, row % a.rows) == blockIdx.x;
        const unsigned ballot = __ballot_sync(~0u, here);
        if (threadIdx.x % lanes == 0) found[threadIdx.x / lanes] = ballot;
        __syncthreads();
        for (int w = 0; w < warps; w++)
            for (unsigned rest = found[w]; rest; rest &= rest - 1) {
                const float *from = a.dx + (first + w * lanes + __ffs(static_cast<int>(rest)) - 1) * a.width;
                for (int64_t c = threadIdx.x; c < a.width; c += threads) to[c] += from[c];
            }
        __syncthreads();
    }
}

// Whether dimensions of the kernels hold all of these; rows go along the grid's first axis.
bool fits(const attend_tensor &t, int64_t blocks)
{
    return t.shape[2] <= INT_MAX / 2 && t.shape[3] <= INT_MAX / 2 && t.shape[2] * t.shape[3] <= INT_MAX / 2 &&
           blocks <= INT_MAX;
}

// [batch, rows, width] with one head.
attend_tensor one_head(const attend_tensor &t)
{
    attend_tensor rows = t;
    rows.shape[2] = 1, rows.shape[3] = t.shape[2], rows.stride[2] = 0, rows.stride[3] = 1;
    return rows;
}

int64_t blocks_of_rows(const attend_tensor &t) { return (rows_in(t) + warps - 1) / warps; }

} // namespace

int64_t attend_row_sum_floats(int64_t rows, int64_t columns)
{
    int64_t floats;
    return __builtin_mul_overflow(parts_of(rows), columns, &floats) ? INT64_MAX : floats;
}

cudaError_t attend_sum_rows(const attend_tensor *x, const attend_row_sum *to, float *scratch,
                            cudaStream_t stream)
{
    sum_args a = {rows_of(*x), x->shape[2] * x->shape[3], rows_in(*x), rows_a_part(rows_in(*x)), scratch};
    const int64_t parts = parts_of(a.all_rows), blocks = (a.columns + threads - 1) / threads;
    void *parameters[] = {&a};
    if (!to->data || a.columns == 0) return cudaSuccess;
    if (!fits(*x, parts) || blocks > 65535) return cudaErrorInvalidConfiguration;
    const dim3 grid(static_cast<unsigned>(parts), static_cast<unsigned>(blocks));
    const cudaError_t error =
        parts ? cudaLaunchKernel(ATTEND_KERNEL_OF(x->dtype, sum_part), grid, threads, parameters, 0, stream)
              : cudaSuccess;
    return error ? error : join(scratch, parts, a.columns, a.columns, *to, stream);
}

cudaError_t attend_rope_backward(const attend_rope *rope, const attend_row_positions *row_positions,
                                 const attend_rope_gradient *g, float *scratch, cudaStream_t stream)
{
    const int64_t rows = rows_in(g->dy), parts = parts_of(rows), d = g->dy.shape[3];
    const bool sums = g->dweight.data || g->dbias.data;
    rope_back_args a = {};
    a.rope = *rope, a.row_positions = *row_positions, a.dy = rows_of(g->dy);
    if (g->y.data) a.y = rows_of(g->y);
    a.weight = g->weight.data, a.weight_step = g->weight.stride[0];
    a.all_rows = rows, a.part = rows_a_part(rows), a.sums = sums ? scratch : nullptr;
    void *parameters[] = {&a};
    if (d > most_dim || !fits(g->dy, parts)) return cudaErrorInvalidConfiguration;
    cudaError_t error = parts ? cudaLaunchKernel(ATTEND_KERNEL_OF(g->dy.dtype, rope_back),
                                                 static_cast<unsigned>(parts), threads, parameters, 0, stream)
                              : cudaSuccess;
    if (!error) error = join(scratch, parts, 2 * d, d, g->dweight, stream);
    return error ? error : join(scratch + d, parts, 2 * d, d, g->dbias, stream);
}

cudaError_t attend_keep_rows(const attend_tensor *dy, int count, const attend_tensor *x,
                             const attend_tensor *to, cudaStream_t stream)
{
    const attend_tensor wide = one_head(*x);
    keep_args a = {{}, rows_of(wide), rows_of(one_head(*to)), rows_in(*x), count};
    for (int i = 0; i < count; i++) {
        a.dy[i] = rows_of(dy[i]);
        if (!fits(dy[i], 1)) return cudaErrorInvalidConfiguration;
    }
    void *parameters[] = {&a};
    if (!fits(wide, blocks_of_rows(*x))) return cudaErrorInvalidConfiguration;
    if (a.all_rows == 0) return cudaSuccess;
    return cudaLaunchKernel(ATTEND_KERNEL_OF(x->dtype, keep_rows), static_cast<unsigned>(blocks_of_rows(*x)),
                            threads, parameters, 0, stream);
}

cudaError_t attend_leave_rows(const float *from, const attend_tensor *to, bool accumulate,
                              cudaStream_t stream)
{
    const attend_tensor wide = one_head(*to);
    leave_args a = {from, rows_of(wide), rows_in(*to), accumulate};
    void *parameters[] = {&a};
    if (!fits(wide, blocks_of_rows(*to))) return cudaErrorInvalidConfiguration;
    if (a.all_rows == 0) return cudaSuccess;
    return cudaLaunchKernel(ATTEND_KERNEL_OF(to->dtype, leave_rows),
                            static_cast<unsigned>(blocks_of_rows(*to)), threads, parameters, 0, stream);
}

cudaError_t attend_sum_positions(const float *dx, int64_t batch, int64_t rows,
                                 const attend_row_positions *row_positions, const attend_tensor *table,
                                 bool accumulate, cudaStream_t stream)
{
    table_args a = {dx,
                    batch,
                    rows,
                    table->shape[1],
                    *row_positions,
                    static_cast<float *>(table->data),
                    table->stride[0],
                    accumulate};
    void *parameters[] = {&a};
    if (table->shape[0] > INT_MAX) return cudaErrorInvalidConfiguration;
    if (table->shape[0] == 0) return cudaSuccess;
    return cudaLaunchKernel(reinterpret_cast<const void *>(&sum_positions),
                            static_cast<unsigned>(table->shape[0]), threads, parameters, 0, stream);
}
