// The small kernels around a layer's projections: rows prefilled with a bias, pointer arrays for cuBLAS, lengths that arrive
// as kernel parameters. All are capturable in a graph; none is worth tuning.
#include "kernels.h"

#include <algorithm>
#include <climits>

namespace {

constexpr int threads = 256;

template <typename T>
__global__ void fill_bias(attend_view y, const T *bias, int64_t seqlen, int64_t heads, int64_t dim, int64_t elements)
{
    for (int64_t n = blockIdx.x * int64_t(threads) + threadIdx.x; n < elements; n += int64_t(gridDim.x) * threads) {
        int64_t column = n % dim, head = n / dim % heads, row = n / (dim * heads) % seqlen, batch = n / (dim * heads * seqlen);
        static_cast<T *>(y.data)[batch * y.batch + row * y.seqlen + head * y.head + column] = bias[head * dim + column];
    }
}

struct projection_list {
    attend_projection_pointers pointers;
    int64_t first, products, heads;
    const char *weight, *x;
    char *y;
    int64_t weight_step, x_step, y_batch_step, y_head_step; // in bytes
};

__global__ void list_projections(projection_list list)
{
    int64_t n = blockIdx.x * int64_t(threads) + threadIdx.x;
    if (n >= list.products) return;
    int64_t head = n % list.heads, batch = n / list.heads;
    list.pointers.weight[list.first + n] = list.weight + head * list.weight_step;
    list.pointers.x[list.first + n] = list.x + batch * list.x_step;
    list.pointers.y[list.first + n] = list.y + batch * list.y_batch_step + head * list.y_head_step;
}

constexpr int lengths_a_launch = 448; // with the other parameters less than the 4 KiB that every device takes

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
cudaError_t launch_fill_bias(const attend_view *y, const void *bias, int64_t seqlen, int64_t heads, int64_t dim, int64_t elements,
                             cudaStream_t stream)
{
    attend_view view = *y;
    void *parameters[] = {&view, &bias, &seqlen, &heads, &dim, &elements};
    dim3 grid(static_cast<unsigned>(std::min<int64_t>(blocks_for(elements), 1 << 20)));
    return cudaLaunchKernel(reinterpret_cast<const void *>(&fill_bias<T>), grid, threads, parameters, 0, stream);
}

} // namespace

cudaError_t attend_fill_bias(attend_dtype dtype, const attend_view *y, const void *bias, int64_t batch, int64_t seqlen,
                             int64_t heads, int64_t dim, cudaStream_t stream)
{
    int64_t elements = batch * seqlen * heads * dim;
    if (elements == 0) return cudaSuccess;
    return dtype == ATTEND_F32 ? launch_fill_bias<uint32_t>(y, bias, seqlen, heads, dim, elements, stream)
                               : launch_fill_bias<uint16_t>(y, bias, seqlen, heads, dim, elements, stream);
}

cudaError_t attend_list_projections(const attend_projection_pointers *pointers, int64_t first, size_t element_bytes,
                                    const void *weight, int64_t weight_step, const void *x, int64_t x_step,
                                    const attend_view *y, int64_t batch, int64_t heads, cudaStream_t stream)
{
    int64_t element = static_cast<int64_t>(element_bytes);
    projection_list list = {*pointers, first, batch * heads, heads, static_cast<const char *>(weight), static_cast<const char *>(x),
                            static_cast<char *>(y->data), weight_step * element, x_step * element, y->batch * element,
                            y->head * element};
    const int64_t blocks = blocks_for(list.products);
    if (blocks == 0) return cudaSuccess;
    if (blocks > INT_MAX) return cudaErrorInvalidConfiguration;
    void *parameters[] = {&list};
    return cudaLaunchKernel(reinterpret_cast<const void *>(&list_projections), static_cast<unsigned>(blocks), threads, parameters, 0, stream);
}

cudaError_t attend_set_lengths(int64_t *device_lengths, const int64_t *host_lengths, int64_t count, cudaStream_t stream)
{
    for (int64_t done = 0; done < count; done += lengths_a_launch) {
        length_list list;
        list.to = device_lengths + done;
        list.count = std::min<int64_t>(count - done, lengths_a_launch);
        std::copy_n(host_lengths + done, list.count, list.lengths);
        void *parameters[] = {&list};
        cudaError_t error = cudaLaunchKernel(reinterpret_cast<const void *>(&set_lengths), 1, threads, parameters, 0, stream);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}
