// Visible keys of a row, and the tiles of keys that all rows or only some rows of a block see. The rule
// itself is in host/shared/visibility.h: visible keys are an interval, neither end of which decreases from
// one query to the next.
#pragma once

#include "kernels.h"
#include "shared/visibility.h"

namespace attend
{

// Keys are counted in 32 bits: selection refuses more than attend_most_keys.
struct key_interval {
    int begin, end;

    __device__ bool holds(int key) const { return key >= begin && key < end; }
};

__device__ inline key_interval visible_keys(const attend_problem &problem, const attend_sequence &sequence,
                                            int64_t query)
{
    const int end = static_cast<int>(attend_visible_end(&problem, &sequence, query));
    return {min(static_cast<int>(attend_visible_begin(&problem, &sequence, query)), end), end};
}

// Tiles of keys, counted from key 0, for a range of queries: some query sees keys of the tiles [begin, end),
// and all queries see all keys of [full_begin, full_end).
struct tile_range {
    int begin, full_begin, full_end, end;

    __device__ bool sees(int tile) const { return tile >= begin && tile < end; }
    __device__ bool border(int tile) const { return tile < full_begin || tile >= full_end; }
    __device__ void restrict(int first, int behind)
    {
        begin = max(begin, first);
        end = min(end, behind);
    }
    // To the run's range of keys. A range starts at a multiple of the tile, or behind the last key.
    __device__ void restrict(const attend_kernel_args &args, int tile_keys)
    {
        restrict(static_cast<int>((args.box.first_key + tile_keys - 1) / tile_keys),
                 static_cast<int>((args.box.end_key + tile_keys - 1) / tile_keys));
    }
};

__device__ inline tile_range visible_tiles(const key_interval &first, const key_interval &last, int tile_keys)
{
    return {first.begin / tile_keys, (last.begin + tile_keys - 1) / tile_keys, first.end / tile_keys,
            (last.end + tile_keys - 1) / tile_keys};
}

} // namespace attend
