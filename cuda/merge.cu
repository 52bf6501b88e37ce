// Merges carried states over consecutive ranges of keys, in their order, by the arithmetic of spans.cuh and
// combine.cuh: states of one span each give the bits of one run over all keys. One block a row, its threads
// take columns.
#include "dtype.cuh"
#include "kernels.h"
#include "softmax.cuh"

#include <algorithm>
#include <climits>

namespace attend
{
namespace
{

struct row_of_heads {
    int64_t batch, query, head;

    __device__ float *in(const attend_view &view) const
    {
        return static_cast<float *>(view.data) + offset(view);
    }
    __device__ int64_t offset(const attend_view &view) const
    {
        return batch * view.batch + query * view.seqlen + head * view.head;
    }
};

template <typename T> __global__ void merge_states(const __grid_constant__ attend_merging m)
{
    const int64_t index = blockIdx.x;
    const row_of_heads row = {index / m.num_heads / m.seqlen_q, index / m.num_heads % m.seqlen_q,
                              index % m.num_heads};
    softmax_row total;
    for (int n = 0; n < m.count; n++) {
        softmax_row next;
        float own, others;
        next.load(*row.in(m.states[n].max), *row.in(m.states[n].sum));
        total.merge(next, own, others);
    }
    float normaliser, lse;
    total.finish(m.sinks ? m.sinks[row.head * m.sinks_head] : -INFINITY, normaliser, lse);
    for (int64_t column = threadIdx.x; column < m.dims; column += blockDim.x) {
        softmax_row so_far;
        float o = 0;
        for (int n = 0; n < m.count; n++) {
            softmax_row next;
            float own, others;
            next.load(*row.in(m.states[n].max), *row.in(m.states[n].sum));
            so_far.merge(next, own, others);
            o = softmax_row::merged(o, own, row.in(m.states[n].out)[column], others);
        }
        if (m.into.out.data)
            row.in(m.into.out)[column] = total.sum == 0 ? 0 : o;
        else
            (static_cast<T *>(m.out.data) + row.offset(m.out))[column] =
                static_cast<T>(softmax_row::finished(o, normaliser));
    }
    __syncthreads(); // all threads have read the states, which `into` may alias
    if (threadIdx.x != 0) return;
    if (m.into.out.data)
        total.store(row.in(m.into.max), row.in(m.into.sum));
    else if (m.lse.data)
        *row.in(m.lse) = lse;
}

} // namespace
} // namespace attend

cudaError_t attend_merge_states(const attend_merging *merging, attend_dtype dtype, cudaStream_t stream)
{
    const int64_t rows = merging->batch * merging->seqlen_q * merging->num_heads;
    if (rows == 0) return cudaSuccess;
    if (rows > INT_MAX) return cudaErrorInvalidConfiguration;
    const unsigned threads = static_cast<unsigned>(std::min<int64_t>(256, (merging->dims + 31) / 32 * 32));
    const void *const kernel = ATTEND_KERNEL_OF(dtype, attend::merge_states);
    attend_merging m = *merging;
    void *parameters[] = {&m};
    return cudaLaunchKernel(kernel, static_cast<unsigned>(rows), threads, parameters, 0, stream);
}
