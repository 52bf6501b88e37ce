// Which tile of queries, head and batch entry a block computes. One grid axis counts them all. The order
// keeps K and V of neighbouring blocks in L2 and starts the longest causal rows first. No result depends on
// it.
#pragma once

#include "kernels.h"
#include "shared/dtype.h"

#include <algorithm>
#include <climits>

namespace attend
{

struct block_order {
    uint32_t tiles; // tiles of queries a head
    uint32_t heads;
    uint32_t pairs;                   // pairs of (batch, head), heads fastest
    uint32_t section;                 // pairs that run at once because their K and V fit in L2 together
    uint32_t first;                   // first block of this launch
    uint32_t first_head, first_batch; // of the box
};

struct block_coordinates {
    int64_t tile, head, batch;
};

__device__ inline block_coordinates find_block(const block_order &order, uint32_t index)
{
    const uint32_t block = order.first + index;
    uint32_t section = block / (order.tiles * order.section);
    uint32_t first = section * order.section, width = min(order.section, order.pairs - first);
    uint32_t within = block - first * order.tiles;
    uint32_t pair = first + within % width;
    return {order.tiles - 1 - within / width, order.first_head + pair % order.heads,
            order.first_batch + pair / order.heads};
}

// The number of blocks, with so many heads a KV head; false where a grid cannot hold them.
inline bool count_blocks(const attend_kernel_box &box, int64_t heads, int64_t tiles, int64_t *blocks)
{
    return !__builtin_mul_overflow(box.kv_heads, heads, blocks) &&
           !__builtin_mul_overflow(*blocks, box.batch, blocks) &&
           !__builtin_mul_overflow(*blocks, tiles, blocks) && *blocks <= INT_MAX;
}

// The order of the blocks; false as count_blocks().
inline bool order_blocks(const attend_kernel_args &args, int64_t heads, int64_t tiles, block_order *order)
{
    const attend_problem &p = args.problem;
    const attend_kernel_box &box = args.box;
    int64_t bytes =
        (box.end_key - box.first_key) * (p.head_dim + p.head_dim_v) * attend_dtypes[p.dtype].bytes;
    int64_t fit = args.l2_bytes / 2 / std::max<int64_t>(bytes, 1);
    int64_t pairs = box.batch * box.kv_heads * heads, blocks;
    if (!count_blocks(box, heads, tiles, &blocks)) return false;
    int64_t section = std::min(pairs, std::max<int64_t>(fit, 1) * heads);
    *order = {static_cast<uint32_t>(tiles),
              static_cast<uint32_t>(box.kv_heads * heads),
              static_cast<uint32_t>(pairs),
              static_cast<uint32_t>(section),
              static_cast<uint32_t>(args.first_block),
              static_cast<uint32_t>(box.first_kv_head * heads),
              static_cast<uint32_t>(box.first_batch)};
    return true;
}

// The number of blocks of this launch; last: whether it includes the grid's last block.
inline uint32_t blocks_to_launch(const attend_kernel_args &args, const block_order &order, bool *last)
{
    const int64_t all = int64_t(order.pairs) * order.tiles,
                  left = std::max<int64_t>(0, all - args.first_block);
    const int64_t count = args.block_count > 0 ? std::min(args.block_count, left) : left;
    *last = args.first_block + count >= all;
    return static_cast<uint32_t>(count);
}

} // namespace attend
