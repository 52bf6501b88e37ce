// Which keys a row of a tile sees, and where the tiles lie that all or only some rows of a block see. The
// rule itself is in host/shared/visibility.h; rows see intervals whose ends do not decrease from one query to
// the next.
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

// Tiles of keys, counted from key 0, of which the queries from one to another see something, and all see
// everything.
struct tile_range {
    int begin, full_begin, full_end, end;

    __device__ bool sees(int tile) const { return tile >= begin && tile < end; }
    __device__ bool border(int tile) const { return tile < full_begin || tile >= full_end; }
    __device__ void restrict(int first, int behind)
    {
        begin = max(begin, first);
        end = min(end, behind);
    }
    // To the keys that take part: they begin with a tile, or behind the last key.
    __device__ void restrict(const attend_kernel_args &args, int tile_keys)
    {
        restrict(static_cast<int>((args.first_key + tile_keys - 1) / tile_keys),
                 static_cast<int>((args.end_key + tile_keys - 1) / tile_keys));
    }
};

__device__ inline tile_range visible_tiles(const key_interval &first, const key_interval &last, int tile_keys)
{
    return {first.begin / tile_keys, (last.begin + tile_keys - 1) / tile_keys, first.end / tile_keys,
            (last.end + tile_keys - 1) / tile_keys};
}

} // namespace attend
