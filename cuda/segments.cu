// Summaries of the segment ids of each block of keys (host/shared/segment.h): a pass over the ids before
// attention's kernel. There each block of rows tests for each tile of keys whether they share a segment. From
// the ids themselves that would take 64 reads a tile instead of one, more work than visiting a tile where an
// eighth of the tiles is visible or less.
#include "search.cuh"

namespace
{

constexpr int warps = 8, lanes = 32;

// One warp a block of keys.
__global__ void __launch_bounds__(warps *lanes)
    note_segments(attend_plane segments, int64_t batch, int64_t keys, int64_t blocks, attend_ids *summaries)
{
    const int64_t n = blockIdx.x * int64_t(warps) + threadIdx.x / lanes, entry = n / blocks,
                  block = n % blocks;
    if (entry >= batch) return;
    const int32_t *const ids = static_cast<const int32_t *>(segments.data) + entry * segments.batch;
    attend_ids found = attend_no_ids();
    for (int64_t key = block * attend_id_block + threadIdx.x % lanes;
         key < min(keys, (block + 1) * attend_id_block); key += lanes)
        attend_ids_add(&found, ids[key * segments.key]);
    found = attend::joined_ids(found);
    if (threadIdx.x % lanes == 0) summaries[n] = found;
}

} // namespace

cudaError_t attend_note_segments(const attend_plane *segments, int64_t batch, int64_t keys,
                                 attend_ids *summaries, cudaStream_t stream)
{
    int64_t blocks = attend_id_blocks(keys);
    const int64_t count = (batch * blocks + warps - 1) / warps;
    if (count > INT_MAX) return cudaErrorInvalidConfiguration;
    if (count == 0) return cudaSuccess;
    attend_plane plane = *segments;
    void *parameters[] = {&plane, &batch, &keys, &blocks, &summaries};
    return cudaLaunchKernel(reinterpret_cast<const void *>(&note_segments), static_cast<unsigned>(count),
                            warps * lanes, parameters, 0, stream);
}
