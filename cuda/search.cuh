// Which tiles of keys a block visits. Where visible keys are intervals: all tiles that the rows' intervals
// meet. Where a prefix's gap, block masks or segments hide whole tiles (host/shared/score.h): runs of tiles
// of which some row sees a key. One warp finds the next run while the last tile of the run before is
// computed, so that hidden tiles are neither loaded nor waited for. Block lists and gaps are skipped at once;
// of the tiles between, 32 are tested together, one a lane, and the results are kept until they are used up.
#pragma once

#include "kernels.h"
#include "mask.cuh"

#include <climits>

namespace attend
{

// The visibility of 32 tiles from `first` on, one bit each: `seen` if some row sees a key, `whole` if all
// rows see every key.
struct tile_window {
    int first;
    uint32_t seen, whole;

    __device__ bool holds_from(int tile) const { return tile - first < 32 && seen >> (tile - first) != 0; }
    static __device__ int ones(uint32_t bits) { return ~bits ? __ffs(~bits) - 1 : 32; }
    // The first run from a tile on; there must be one.
    __device__ tile_range run(int from) const
    {
        const int begin = from + __ffs(seen >> (from - first)) - 1,
                  end = begin + ones(seen >> (begin - first));
        const uint32_t full = whole >> (begin - first);
        const int full_begin = full ? min(end, begin + __ffs(full) - 1) : end;
        return {begin, full_begin, min(end, full_begin + (full ? ones(full >> (full_begin - begin)) : 0)),
                end};
    }
};

// Kept and read in shared memory: registers are the limit.
struct tile_search {
    tile_range run;    // being visited: some row sees a key of each of its tiles
    tile_range within; // tiles that the rows' intervals meet, and those that all intervals contain
    tile_window window;
    attend_sequence sequence;
    int64_t batch, query, head; // batch: of the problem, not of the tensors
    int queries, heads;         // the rows are `queries` queries of `heads` heads
    attend_ids ids;             // segments of the rows

    __device__ void begin(const tile_range &tiles, const attend_sequence &sequence_, int64_t batch_,
                          int64_t query0, int64_t query_end, int64_t head0, int64_t head_count)
    {
        within = tiles, sequence = sequence_;
        window = {tiles.begin - 32, 0, 0};
        batch = batch_, head = head0, heads = static_cast<int>(head_count);
        query = query0, queries = static_cast<int>(query_end - query0);
    }
    __device__ attend_head head_of(const attend_kernel_args &args, int n) const
    {
        return attend_head_of(&args.problem, &args.terms, &sequence, batch, head + n);
    }

    // Skips tiles that the prefix's gap and the block list hide from all rows. Lanes share the rows of
    // blocks.
    template <int keys> __device__ int jump(const attend_kernel_args &args, int from) const
    {
        const attend_problem &p = args.problem;
        int64_t key = int64_t(from) * keys;
        if (attend_has_gap(&p) && key >= sequence.start + p.prefix)
            key = max(key, attend_local_begin(&p, &sequence, query));
        if (p.block_list > 0) {
            const int64_t row = query / p.block_q;
            const int rows = static_cast<int>((query + queries - 1) / p.block_q - row) + 1;
            int nearest = INT_MAX;
#pragma unroll 1
            for (int i = threadIdx.x % 32; i < heads * rows; i += 32) {
                const attend_head h = head_of(args, i / rows);
                nearest = static_cast<int>(
                    min(int64_t(nearest), attend_listed_from(&h, row + i % rows, key / p.block_k)));
            }
            key = max(key, int64_t(__reduce_min_sync(~0u, nearest)) * p.block_k);
        }
        return static_cast<int>(min(key / keys, int64_t(within.end)));
    }

    // The visibility of 32 tiles, one a lane.
    template <int keys> __device__ tile_window window_at(const attend_kernel_args &args, int from) const
    {
        const attend_problem &p = args.problem;
        const int tile = from + static_cast<int>(threadIdx.x % 32);
        const int64_t key = int64_t(tile) * keys, count = min(int64_t(keys), sequence.seqlen_k - key);
        bool sees = tile < within.end, all = sees && !within.border(tile) && !p.mask_axes;
        if (sees && p.segments) {
            const attend_ids theirs = attend_ids_of_keys(&args.terms, &sequence, key, count);
            sees = attend_ids_meet(&ids, &theirs), all = all && attend_ids_same(&ids, &theirs);
        }
        if (sees && (p.block_q > 0 || attend_has_gap(&p))) {
            sees = false;
#pragma unroll 1
            for (int n = 0; n < heads && (all || !sees); n++) {
                const attend_head h = head_of(args, n);
                sees = sees || !attend_tile_hidden(&h, query, queries, key, count);
                all = all && attend_tile_whole(&h, query, queries, key, count);
            }
        }
        return {from, __ballot_sync(~0u, sees), __ballot_sync(~0u, all)};
    }
};

// Finds the run after tile `from`, by all lanes of a warp; an empty one at within.end if there is none. Not
// inlined, so that it takes no registers from the path of full tiles.
template <int keys>
__device__ __noinline__ void find_run(const attend_kernel_args &args, tile_search &search, int from)
{
    tile_window window = search.window;
    tile_range run = {search.within.end, search.within.end, search.within.end, search.within.end};
#pragma unroll 1
    while (from < run.end && !window.holds_from(from)) {
        from = search.jump<keys>(args, max(from, window.first + 32));
        window = search.window_at<keys>(args, from);
    }
    if (from < run.end) run = window.run(from);
    __syncwarp(); // all lanes have read search.window
    if (threadIdx.x % 32 == 0) search.window = window, search.run = run;
}

// Joins the ids of all lanes of a warp.
__device__ inline attend_ids joined_ids(const attend_ids &ids)
{
    const uint32_t low = __reduce_or_sync(~0u, static_cast<uint32_t>(ids.remainders)),
                   high = __reduce_or_sync(~0u, static_cast<uint32_t>(ids.remainders >> 32));
    return {__reduce_min_sync(~0u, ids.least), __reduce_max_sync(~0u, ids.most), uint64_t(high) << 32 | low};
}

// The segments of rows [query, query + queries), by all lanes of a warp.
__device__ inline attend_ids ids_of_rows(const attend_terms &terms, const attend_sequence &sequence,
                                         int64_t query, int queries)
{
    attend_ids ids = attend_no_ids();
#pragma unroll 1
    for (int i = threadIdx.x % 32; i < queries; i += 32)
        attend_ids_add(&ids, attend_segment(&terms.segments_q, &sequence,
                                            (sequence.first_q + query + i) * terms.segments_q.query));
    return joined_ids(ids);
}

} // namespace attend
