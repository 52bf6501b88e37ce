// Small kernels around a layer's projections: filling rows with a bias, passing lengths as kernel parameters.
// All can be captured in a graph; none is worth tuning.
#include "kernels.h"

#include <algorithm>

namespace
{

constexpr int threads = 256;

template <typename T>
__global__ void fill_bias(attend_view y, const T *bias, int64_t seqlen, int64_t heads, int64_t dim,
                          int64_t elements)
{
    for (int64_t n = blockIdx.x * int64_t(threads) + threadIdx.x; n < elements;
         n += int64_t(gridDim.x) * threads) {
        int64_t column = n % dim, head = n / dim % heads, row = n / (dim * heads) % seqlen,
                batch = n / (dim * heads * seqlen);
        static_cast<T *>(y.data)[batch * y.batch + row * y.seqlen + head * y.head + column] =
            bias[head * dim + column];
    }
}

constexpr int lengths_a_launch = 448; // all parameters together fit the 4 KiB that every device takes

struct length_list {
    int64_t *to;
    int64_t count;
    int64_t lengths[lengths_a_launch];
};

__global__ void set_lengths(const __grid_constant__ length_list list)
{
    for (int64_t n = threadIdx.x; n < list.count; n += threads) list.to[n] = list.lengths[n];
}

int64_t blocks_for(int64_t elements) { return (elements + threads - 1) / threads; }

template <typename T>
cudaError_t launch_fill_bias(const attend_view *y, const void *bias, int64_t seqlen, int64_t heads,
                             int64_t dim, int64_t elements, cudaStream_t stream)
{
    attend_view view = *y;
    void *parameters[] = {&view, &bias, &seqlen, &heads, &dim, &elements};
    dim3 grid(static_cast<unsigned>(std::min<int64_t>(blocks_for(elements), 1 << 20)));
    return cudaLaunchKernel(reinterpret_cast<const void *>(&fill_bias<T>), grid, threads, parameters, 0,
                            stream);
}

} // namespace

cudaError_t attend_fill_bias(attend_dtype dtype, const attend_view *y, const void *bias, int64_t batch,
                             int64_t seqlen, int64_t heads, int64_t dim, cudaStream_t stream)
{
    int64_t elements = batch * seqlen * heads * dim;
    if (elements == 0) return cudaSuccess;
    return dtype == ATTEND_F32 ? launch_fill_bias<uint32_t>(y, bias, seqlen, heads, dim, elements, stream)
                               : launch_fill_bias<uint16_t>(y, bias, seqlen, heads, dim, elements, stream);
}

cudaError_t attend_set_lengths(int64_t *device_lengths, const int64_t *host_lengths, int64_t count,
                               cudaStream_t stream)
{
    for (int64_t done = 0; done < count; done += lengths_a_launch) {
        length_list list;
        list.to = device_lengths + done;
        list.count = std::min<int64_t>(count - done, lengths_a_launch);
        std::copy_n(host_lengths + done, list.count, list.lengths);
        void *parameters[] = {&list};
        cudaError_t error =
            cudaLaunchKernel(reinterpret_cast<const void *>(&set_lengths), 1, threads, parameters, 0, stream);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}
