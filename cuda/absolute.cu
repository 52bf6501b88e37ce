// Absolute positions: y = x + table[position], or y = x + the sines and cosines of position·frequency. Angles
// are counted in turns of 2π, of which only the fraction, taken in double, is passed to sincospif. A block
// takes one token. A warp computes 32 sinusoids at a time, one a lane, and exchanges them by shuffles, so
// that neighbouring lanes write neighbouring columns in either order of sines and cosines.
#include "dtype.cuh"
#include "position_kernels.h"

#include <climits>

namespace
{

constexpr int lanes = 32, warps = 8;

struct position_args {
    attend_row_positions row_positions;
    attend_absolute kind;
    int64_t rows, hidden, sinusoids, table_rows, table_step;
    const double *turns;
    const void *x, *table;
    void *y;
    int64_t x_batch, x_row, y_batch, y_row;
};

struct sinusoid {
    float sine = 0, cosine = 0;
    __device__ sinusoid(const position_args &a, int64_t number, int64_t position)
    {
        if (number >= a.sinusoids) return;
        sincospif(2 * static_cast<float>(attend_turn_fraction(a.turns[number], position)), &sine, &cosine);
    }
};

template <typename T> __device__ void add(T *y, const T *x, int64_t c, float value)
{
    y[c] = static_cast<T>(static_cast<float>(x[c]) + value);
}

template <typename T>
__device__ void add_sinusoids(const position_args &a, T *y, const T *x, int64_t position)
{
    const int lane = threadIdx.x % lanes;
    for (int64_t first = threadIdx.x / lanes * lanes; first < a.sinusoids; first += warps * lanes) {
        const sinusoid own(a, first + lane, position);
        if (a.kind != ATTEND_ABSOLUTE_SINUSOIDAL) {
            const int64_t c = first + lane;
            if (c < a.sinusoids) add(y, x, c, own.sine);
            if (c < a.sinusoids && a.sinusoids + c < a.hidden) add(y, x, a.sinusoids + c, own.cosine);
            continue;
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int from = half * lanes / 2 + lane / 2;
            const float sine = __shfl_sync(~0u, own.sine, from), cosine = __shfl_sync(~0u, own.cosine, from);
            const int64_t c = 2 * first + half * lanes + lane;
            if (c < a.hidden) add(y, x, c, lane % 2 ? cosine : sine);
        }
    }
}

template <typename T> __device__ void add_row(const position_args &a, T *y, const T *x, int64_t position)
{
    const bool in_table = position >= 0 && position < a.table_rows;
    const T *row = static_cast<const T *>(a.table) + (in_table ? position * a.table_step : 0);
    for (int64_t c = threadIdx.x; c < a.hidden; c += lanes * warps)
        add(y, x, c, in_table ? static_cast<float>(row[c]) : NAN);
}

template <typename T>
__global__ void __launch_bounds__(lanes *warps) add_positions(const __grid_constant__ position_args a)
{
    const int64_t b = blockIdx.x / a.rows, row = blockIdx.x % a.rows,
                  position = attend_row_position(&a.row_positions, b, row);
    const T *x = static_cast<const T *>(a.x) + b * a.x_batch + row * a.x_row;
    T *y = static_cast<T *>(a.y) + b * a.y_batch + row * a.y_row;
    if (a.kind == ATTEND_ABSOLUTE_LEARNED)
        add_row(a, y, x, position);
    else
        add_sinusoids(a, y, x, position);
}

} // namespace

cudaError_t attend_add_positions(const attend_problem *problem, const attend_row_positions *row_positions,
                                 const double *sinusoids, const attend_tensor *table, const attend_tensor *x,
                                 const attend_tensor *y, cudaStream_t stream)
{
    const int64_t tokens = x->shape[0] * x->shape[1];
    position_args a = {};
    a.row_positions = *row_positions, a.kind = problem->absolute;
    a.rows = x->shape[1], a.hidden = x->shape[2], a.sinusoids = attend_sinusoid_count(problem);
    a.table_rows = problem->max_positions, a.table_step = table->stride[0];
    a.turns = sinusoids, a.table = table->data, a.x = x->data, a.y = y->data;
    a.x_batch = x->stride[0], a.x_row = x->stride[1], a.y_batch = y->stride[0], a.y_row = y->stride[1];
    if (tokens > INT_MAX) return cudaErrorInvalidConfiguration;
    if (tokens == 0) return cudaSuccess;
    void *parameters[] = {&a};
    return cudaLaunchKernel(ATTEND_KERNEL_OF(x->dtype, add_positions), static_cast<unsigned>(tokens),
                            lanes * warps, parameters, 0, stream);
}
