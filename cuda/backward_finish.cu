// Gradients of what features bring, from what each query, key or tile of queries adds to them: sums over
// rows, heads and batch entries in fp64, each in an order that is always the same.
#include "backward.cuh"

namespace attend
{
namespace
{

constexpr int threads = 256;

__device__ void leave(const attend_backward_args &args, const attend_plane &to, int64_t at, double sum)
{
    float &gradient = static_cast<float *>(const_cast<void *>(to.data))[at];
    gradient = static_cast<float>(args.accumulate ? gradient + sum : sum);
}

// Of one head and entry, or of all that add to one element: a block.
__global__ void __launch_bounds__(threads)
    sum_rows(const __grid_constant__ attend_backward_args args, const float *values,
             const __grid_constant__ attend_plane to, int64_t batch, int64_t heads)
{
    __shared__ double sums[threads];
    const attend_problem &p = args.problem;
    double sum = 0;
    for (int64_t b = blockIdx.x / heads; b < p.batch; b += batch) {
        const attend_sequence s = attend_sequence_of(&p, &args.lists, b);
        for (int64_t h = blockIdx.x % heads; h < p.num_heads; h += heads)
            for (int64_t row = threadIdx.x; row < s.seqlen_q; row += threads)
                sum += values[sum_of_query(p, s, h, row)];
    }
    sums[threadIdx.x] = sum;
    for (int half = threads / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0)
        leave(args, to, blockIdx.x / heads * to.batch + blockIdx.x % heads * to.head, sums[0]);
}

// Of one query or key, a thread.
template <bool by_keys>
__global__ void __launch_bounds__(threads) sum_heads(const __grid_constant__ attend_backward_args args)
{
    const attend_problem &p = args.problem;
    const attend_plane &to = args.bias;
    const bias_grid grid(p);
    const int64_t n = blockIdx.x * int64_t(threads) + threadIdx.x, all = by_keys ? p.seqlen_k : p.seqlen_q,
                  row = n % all, head = n / all % grid.heads, batch = n / all / grid.heads;
    if (batch >= grid.batch) return;
    double sum = 0;
    for (int64_t b = batch; b < p.batch; b += grid.batch) {
        const attend_sequence s = attend_sequence_of(&p, &args.lists, b);
        for (int64_t h = head; h < p.num_heads; h += grid.heads)
            if (by_keys ? row < s.seqlen_k : row < s.seqlen_q)
                sum += by_keys ? args.sums.key_bias[sum_of_key(p, s, h, row)]
                               : args.sums.bias[sum_of_query(p, s, h, row)];
    }
    leave(args, to, batch * to.batch + head * to.head + row * (by_keys ? to.key : to.query), sum);
}

// Of one bucket of a head, a thread.
__global__ void __launch_bounds__(threads)
    sum_tiles(const __grid_constant__ attend_backward_args args, int tile_q)
{
    const attend_problem &p = args.problem;
    const int64_t n = blockIdx.x * int64_t(threads) + threadIdx.x, bucket = n % p.relative_buckets,
                  head = n / p.relative_buckets;
    if (head >= p.num_heads) return;
    double sum = 0;
    for (int64_t b = 0; b < p.batch; b++) {
        const attend_sequence s = attend_sequence_of(&p, &args.lists, b);
        for (int64_t tile = 0; tile * tile_q < s.seqlen_q; tile++)
            sum += args.sums
                       .buckets[((b * p.num_heads + head) * args.tiles + tile) * p.relative_buckets + bucket];
    }
    leave(args, args.table, head * args.table.head + bucket * args.table.key, sum);
}

cudaError_t launch(const void *kernel, int64_t blocks, void **parameters, cudaStream_t stream)
{
    if (blocks == 0) return cudaSuccess;
    if (blocks > INT_MAX) return cudaErrorInvalidConfiguration;
    return cudaLaunchKernel(kernel, static_cast<unsigned>(blocks), threads, parameters, 0, stream);
}

} // namespace
} // namespace attend

cudaError_t attend_backward_finish(const attend_backward_args *given, int tile_q, cudaStream_t stream)
{
    using namespace attend;
    attend_backward_args args = *given;
    const attend_problem &p = args.problem;
    const attend_backward_sums &sums = args.sums;
    const bias_grid bias(p);
    const bool by_query = p.bias_axes & ATTEND_PER_QUERY, by_key = p.bias_axes & ATTEND_PER_KEY;
    struct {
        const float *values;
        attend_plane to;
        int64_t batch, heads;
    } rows[] = {{sums.slopes, args.slopes, 1, p.num_heads},
                {sums.scales, args.scales, 1, p.num_heads},
                {sums.sinks, args.sinks, 1, p.num_heads},
                {by_query || by_key ? nullptr : sums.bias, args.bias, bias.batch, bias.heads}};
    cudaError_t error = cudaSuccess;
    for (auto &of : rows) {
        void *parameters[] = {&args, &of.values, &of.to, &of.batch, &of.heads};
        if (of.values && !error)
            error =
                launch(reinterpret_cast<const void *>(&sum_rows), of.batch * of.heads, parameters, stream);
    }
    void *parameters[] = {&args, &tile_q};
    if (by_query && sums.bias && !error)
        error = launch(reinterpret_cast<const void *>(&sum_heads<false>),
                       tiles_of(bias.batch * bias.heads * p.seqlen_q, threads), parameters, stream);
    if (sums.key_bias && !error)
        error = launch(reinterpret_cast<const void *>(&sum_heads<true>),
                       tiles_of(bias.batch * bias.heads * p.seqlen_k, threads), parameters, stream);
    if (sums.buckets && !error)
        error = launch(reinterpret_cast<const void *>(&sum_tiles),
                       tiles_of(p.num_heads * p.relative_buckets, threads), parameters, stream);
    return error;
}
