// Rows of flash_mma and flash_wgmma for the kernel table: grid, preparation, launch.
#pragma once

#include "choice.cuh"
#include "combine.cuh"
#include "core/feature_set.h"
#include "elements.cuh"
#include "named.cuh"

#include <algorithm>
#include <climits>

namespace attend
{

template <typename tile> constexpr int shared_bytes()
{
    constexpr int bytes = tile::tile_bytes + sizeof(typename tile::block);
    static_assert(bytes <= tile::most_shared_bytes);
    return bytes;
}

// Counts (query tile, split) pairs of one KV head. False where they, or the rows of a group, exceed the
// limits.
template <typename tile>
bool count_tiles(const attend_problem &p, const attend_kernel_box &box, int64_t *tiles)
{
    const int64_t group = p.num_heads / p.num_kv_heads, queries = box.end_query - box.first_query;
    int64_t rows;
    return group <= INT_MAX && !__builtin_mul_overflow(queries, group, &rows) &&
           !__builtin_mul_overflow((rows + tile::rows - 1) / tile::rows, split_spans(p, box), tiles);
}

template <typename tile>
bool mma_grid(const attend_problem *p, const attend_kernel_box *box, attend_kernel_grid *grid)
{
    int64_t tiles;
    *grid = {0, split_spans(*p, *box), true};
    return count_tiles<tile>(*p, *box, &tiles) && count_blocks(*box, 1, tiles, &grid->blocks);
}

using mma_kernel = void(attend_kernel_args, block_order);

template <typename tile, mma_kernel *kernel> cudaError_t prepare_mma()
{
    int device, most;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error != cudaSuccess) return error;
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                cudaFuncAttributeMaxDynamicSharedMemorySize,
                                std::min(most, shared_bytes<tile>() + term_bytes<tile>()));
}

template <typename tile, mma_kernel *kernel, combine_kernel *merge>
cudaError_t launch_mma(const attend_kernel_args *given, cudaStream_t stream)
{
    attend_kernel_args args = *given;
    const attend_problem &p = args.problem;
    const attend_kernel_box &box = args.box;
    int64_t tiles;
    block_order order;
    args.splits = split_spans(p, box);
    if (!count_tiles<tile>(p, box, &tiles)) return cudaErrorInvalidConfiguration;
    if (!order_blocks(args, 1, tiles, &order)) return cudaErrorInvalidConfiguration;
    bool last;
    const uint32_t blocks = blocks_to_launch(args, order, &last);
    if (blocks == 0) return cudaSuccess;
    void *parameters[] = {&args, &order};
    cudaError_t error =
        cudaLaunchKernel(reinterpret_cast<const void *>(kernel), blocks, tile::block_threads, parameters,
                         shared_bytes<tile>() + (attend_scores_terms(&p) ? term_bytes<tile>() : 0), stream);
    return error == cudaSuccess && last ? launch_combine(merge, args, stream) : error;
}

template <typename tile, mma_kernel *kernel, combine_kernel *merge>
constexpr attend_kernel_row mma_row(const char *name, attend_dtype dtype)
{
    return {{name,
             ATTEND_CUDA,
             dtype,
             tile::dim,
             tile::dim,
             least_architecture,
             tile::rows,
             tile::keys,
             tile::block_threads,
             shared_bytes<tile>(),
             ATTEND_FEATURES_INTERVAL | ATTEND_FEATURES_ELEMENT | ATTEND_FEATURES_HEAD,
             false,
             tile::architecture_exact,
             {}},
            false,
            term_bytes<tile>(),
            partial_bytes,
            mma_grid<tile>,
            prepare_mma<tile, kernel>,
            launch_mma<tile, kernel, merge>};
}

} // namespace attend

// A kernel of a dtype's family (named.cuh) under the name that its row has: FUNCTION on the tile that … is.
#define ATTEND_MMA_KERNEL_(name, function, ...)                                                             \
    using name##_tile = attend::__VA_ARGS__;                                                                \
    extern "C" __global__ void __launch_bounds__(name##_tile::block_threads, name##_tile::blocks) name(     \
        const __grid_constant__ attend_kernel_args args, const __grid_constant__ attend::block_order order) \
    {                                                                                                       \
        attend::function<name##_tile>(args, order);                                                         \
    }
#define ATTEND_MMA_KERNEL(name, function, ...) ATTEND_MMA_KERNEL_(name, function, __VA_ARGS__)
#define ATTEND_MMA_ROW_(name, combine, dtype)  attend::mma_row<name##_tile, name, combine>(#name, dtype)
#define ATTEND_MMA_ROW(name, combine, dtype)   ATTEND_MMA_ROW_(name, combine, dtype)
#define ROW(suffix)                            ATTEND_MMA_ROW(NAMED(suffix), NAMED(_combine), ATTEND_DTYPE)
