// The tile of flash_mma: its sizes, the rows of a block, what lanes own, and what the block's threads share.
#pragma once

#include "kernels.h"
#include "keys.cuh"
#include "mask.cuh"
#include "order.cuh"
#include "search.cuh"
#include "tile.cuh"

namespace attend
{

template <typename tile> struct mma_block;

template <typename T, int dim_, int warps_, int m_, int keys_, bool q_stays_> struct mma_tile {
    using element = T;
    static constexpr int dim = dim_, warps = warps_, m = m_, keys = keys_, threads = 32 * warps;
    static constexpr int warp_rows = 16 * m, rows = warps * warp_rows, lane_rows = 2 * m;
    // in registers; otherwise its fragments are read again for each tile of keys
    static constexpr bool q_stays = q_stays_;
    static constexpr int key_steps = keys / 16, dim_steps = dim / 16;
    static constexpr int span_tiles = attend_span_keys / keys;
    static_assert(attend_span_keys % keys == 0);
    // a thread's part of a slot, in float4: its fragments of O, then (max, sum) of each two rows
    static_assert(threads * m * (2 * dim_steps + 1) * 16 <= attend_slot_bytes);
    using q_tile = shared_tile<rows, dim>;
    using kv_tile = shared_tile<keys, dim>;
    using kv_share = tile_share<kv_tile, threads>;
    // O and S fill the registers: what a thread needs once a tile lies in shared memory
    static constexpr bool tight = m * (dim + keys) / 2 >= 160;
    // no register is left in full tiles for a look into the table of pages: all tiles of keys in pages are
    // taken as masked, which load them out of line
    static constexpr bool pages_are_masked = dim > 192;
    // at least this many blocks a multiprocessor: 168 registers a thread, or 255
    static constexpr int blocks = m * (dim + keys) / 2 <= 96 ? 3 : 1;
    using scores = float[m][2 * key_steps][4];
    using weights = uint32_t[m][key_steps][4];
    using output = float[m][2 * dim_steps][4];
    // offsets in shared memory: Q, K, V
    static constexpr int k_at = q_tile::bytes, v_at = k_at + kv_tile::bytes,
                         tile_bytes = v_at + kv_tile::bytes;
    using k_fragments = fragments<kv_tile, k_at>;
    using v_fragments = fragments<kv_tile, v_at>;
    using block = mma_block<mma_tile>;
    static constexpr int block_threads = threads;
    static constexpr bool architecture_exact = false;
    static constexpr int most_shared_bytes = 163 * 1024; // an A100's

    // A barrier of the threads that compute
    static __device__ void sync() { __syncthreads(); }
};

// A lane's elements of mma's 16x8 results: row i is half i % 2 of fragment i / 2 down, columns 8n … 8n + 7
// are fragment n across.
__device__ inline int lane_row(int i, uint32_t thread = threadIdx.x)
{
    return i / 2 * 16 + i % 2 * 8 + thread % 32 / 4;
}
__device__ inline int lane_column(int n, int e) { return n * 8 + threadIdx.x % 4 * 2 + e % 2; }

// Over the four lanes that share a row
__device__ inline float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ inline float quad_sum(float x)
{
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}
__device__ inline bool quad_any(bool x) { return __ballot_sync(~0u, x) >> (threadIdx.x & 28) & 15; }

// The rows of a block: row r is query query0 + (first + r) / group of head (first + r) % group of the group.
struct packed_rows {
    int64_t query0;
    uint32_t first, group;
    int64_t valid, all; // rows within the query length; rows within the tensor

    __device__ int64_t query(uint32_t row) const
    {
        return group == 1 ? query0 + row : query0 + (first + row) / group;
    }
    __device__ uint32_t head(uint32_t row) const { return group == 1 ? 0 : (first + row) % group; }
    __device__ int64_t offset(uint32_t row, const attend_view &view) const
    {
        return query(row) * view.seqlen + head(row) * view.head;
    }
};

// How a block copies tiles of K or V. step: bytes from one row of a thread to its next; tiles before `whole`
// have all rows and dims; -whole of them in pages that load_whole_pages() takes.
struct __align__(16) tile_copies
{
    int64_t step;
    int whole, dims;
};

// What all threads of a block share, in shared memory: registers are the limit, and most of it is read
// rarely.
template <typename tile> struct mma_block {
    tile_copies k, v;
    const int32_t *table; // of this sequence, where keys are in pages
    block_coordinates block_at;
    attend_sequence sequence;
    int span;           // of this block, where spans are split
    int slot;           // of scratch memory (spans.cuh); -1: none
    int span_end;       // the first tile behind the current span
    bool scored, hides; // attend_scores_terms(); there are masks beyond the interval
    bool holes;         // some keys have no page
    bool searches;      // attend_hides_tiles(): tiles come in several runs
    bool far;           // tiles are computed once more for far rows (mma_softmax.cuh)
    int met_far;        // the first time: such a row was met
    bool last_whole;    // all rows see all of the run's last tile, though it counts as a border tile
    // no row sees a key of this block's span: it writes nothing, and combine() reads nothing
    bool idle;
    packed_rows rows;
    tile_search search;
    attend_ids ids[tile::warps];                          // segments of each warp's rows
    key_interval visible_keys_of[tile::rows];             // visible interval of each row
    unsigned char lost[tile::threads];                    // of a thread's rows, one bit each: note_lost()
    const char *from[2][tile::tight ? tile::threads : 1]; // tile_copy's source in K and V

    __device__ void find(const attend_kernel_args &args, const block_order &order)
    {
        const attend_problem &p = args.problem;
        const int64_t group = p.num_heads / p.num_kv_heads;
        block_at = find_block(order, blockIdx.x);
        sequence = attend_sequence_of(&p, &args.lists, block_at.batch);
        span = static_cast<int>(args.box.first_key / attend_span_keys + block_at.tile % args.splits),
        slot = -1;
        scored = attend_scores_terms(&p);
        searches = attend_hides_tiles(&p);
        hides = searches || p.mask_axes;
        table = args.keys.table ? args.keys.table + sequence.batch * args.keys.table_batch : nullptr;
        holes = false;
        const int64_t row0 = block_at.tile / args.splits * tile::rows + args.box.first_query * group;
        rows = {row0 / group, static_cast<uint32_t>(row0 % group), static_cast<uint32_t>(group),
                min(sequence.seqlen_q, args.box.end_query) * group - row0,
                min(attend_rows_of(&p, &sequence), args.box.end_query) * group - row0};
        const int whole =
            static_cast<int>(sequence.seqlen_k / tile::keys) * (!args.keys.table              ? 1
                                                                : in_powers_of_two(args.keys) ? -1
                                                                                              : 0);
        k = {args.k.seqlen * (2 * tile::kv_share::down), p.head_dim == tile::dim ? whole : 0,
             static_cast<int>(p.head_dim)};
        v = {args.v.seqlen * (2 * tile::kv_share::down), p.head_dim_v == tile::dim ? whole : 0,
             static_cast<int>(p.head_dim_v)};
    }
    __device__ void find_visible(const attend_problem &problem, int row)
    {
        visible_keys_of[row] = {0, 0};
        if (row < rows.valid) visible_keys_of[row] = visible_keys(problem, sequence, rows.query(row));
    }
    __device__ void note_segments(const attend_terms &terms, int warp)
    {
        const int64_t first = warp * tile::warp_rows, end = min(first + tile::warp_rows, rows.valid);
        attend_ids of_warp = attend_no_ids();
        if (first < end) {
            const int64_t query = rows.query(first);
            of_warp = ids_of_rows(terms, sequence, query, static_cast<int>(rows.query(end - 1) + 1 - query));
        }
        if (threadIdx.x % 32 == 0) ids[warp] = of_warp;
    }
    // Sets `holes`, and masks for them; called by all threads of the block.
    __device__ void find_holes(const attend_kernel_args &args)
    {
        tile_range seen = tiles(0, tile::rows);
        restrict(seen, args);
        const int64_t first = int64_t(seen.begin) * tile::keys, end = int64_t(seen.end) * tile::keys;
        if (lacks_pages(args.keys, sequence, first, min(end, sequence.seqlen_k)) && threadIdx.x == 0)
            holes = hides = true, k.whole = v.whole = 0;
        __syncthreads();
    }
    // To the keys of this block.
    __device__ void restrict(tile_range &range, const attend_kernel_args &args) const
    {
        if (args.splits > 1) range.restrict(span * tile::span_tiles, (span + 1) * tile::span_tiles);
        range.restrict(args, tile::keys);
    }
    // Whether far rows were met for the first time
    __device__ bool repeats() const { return met_far && !far; }
    // Finds the first run of tiles; called by one warp.
    __device__ void start(const attend_kernel_args &args)
    {
        tile_range all = tiles(0, tile::rows);
        if (far || scored || holes || (hides && !searches) || (tile::pages_are_masked && args.keys.table))
            all.full_end = all.full_begin = 0;
        restrict(all, args);
        if (thread_now() % 32 == 0) idle = args.splits > 1 && all.begin >= all.end;
        if (searches && all.begin < all.end) {
            tile_search first;
            const int last = static_cast<int>(min(int64_t(tile::rows), rows.valid)) - 1;
            first.begin(all, sequence, block_at.batch, rows.query(0), rows.query(last) + 1,
                        block_at.head * rows.group, rows.group);
            first.ids = attend_no_ids();
            for (int warp = 0; args.problem.segments && warp < tile::warps; warp++)
                attend_ids_join(&first.ids, &ids[warp]);
            if (thread_now() % 32 == 0) search = first;
            __syncwarp();
            next_run(args, all.begin);
        } else if (thread_now() % 32 == 0) {
            search.run = all, last_whole = false;
        }
        if (thread_now() % 32 == 0) span_end = (search.run.begin / tile::span_tiles + 1) * tile::span_tiles;
    }
    // Finds the run after tile `from`; called by one warp. If another run may follow, the last
    // tile counts as a border tile: masked_tile looks for the next run, full_tile does not.
    __device__ void next_run(const attend_kernel_args &args, int from)
    {
        find_run<tile::keys>(args, search, from);
        if (thread_now() % 32 != 0) return;
        tile_range &run = search.run;
        last_whole = !run.border(run.end - 1) && run.end < search.within.end;
        if (last_whole) run.full_end--;
    }
    // The head of a row, as host/shared/score.h takes it.
    __device__ attend_head head_of(const attend_kernel_args &args, int row) const
    {
        return attend_head_of(&args.problem, &args.terms, &sequence, block_at.batch,
                              block_at.head * rows.group + rows.head(row));
    }
    // Offset of query 0 of the group's first head, or of key 0, in a tensor.
    __device__ int64_t query_offset(const attend_view &view) const
    {
        return sequence.batch * view.batch + sequence.first_q * view.seqlen +
               block_at.head * rows.group * view.head;
    }
    __device__ int64_t key_offset(const attend_view &view) const
    {
        return sequence.batch * view.batch + sequence.first_k * view.seqlen + block_at.head * view.head;
    }
    // The tiles of keys of which rows [first, first + count) see some or all keys.
    __device__ tile_range tiles(int first, int count) const
    {
        const int last = static_cast<int>(min(int64_t(first + count), rows.valid)) - 1;
        if (last < first) return {0, 0, 0, 0};
        return visible_tiles(visible_keys_of[first], visible_keys_of[last], tile::keys);
    }
};

template <typename tile> __device__ int warp_row()
{
    return __shfl_sync(~0u, thread_now() / 32, 0) * tile::warp_rows;
}

} // namespace attend
