// The tile of flash_wgmma, and the stages through which its keys arrive.
//
// A block has `groups` warpgroups that compute, 64 rows each, and behind them one that loads. Tiles of K and
// V pass through a ring of stages. Of each stage four mbarriers say: K is here, V is here, K was used, V was
// used.
#pragma once

#include "mma_block.cuh"
#include "ptx_hopper.cuh"

namespace attend
{

template <typename tile> struct wgmma_block;

template <typename T, int dim_, int groups_, int stages_> struct wgmma_tile {
    using element = T;
    using block = wgmma_block<wgmma_tile>;
    static constexpr int dim = dim_, groups = groups_, stages = stages_, warps = 4 * groups, m = 1,
                         keys = 128;
    // that compute; the loading ones come behind them
    static constexpr int threads = 32 * warps, loading = 128, block_threads = threads + loading;
    static constexpr bool architecture_exact = true;
    static constexpr int most_shared_bytes = 227 * 1024; // an H100's
    // of a thread; what loading does not need goes to those that compute
    static constexpr int loading_registers = 88,
                         registers = (65536 / 128 - loading_registers) / groups / 8 * 8;
    static constexpr int warp_rows = 16, rows = warps * warp_rows, lane_rows = 2, blocks = 1;
    static constexpr int key_steps = keys / 16, dim_steps = dim / 16;
    static constexpr int span_tiles = attend_span_keys / keys;
    static_assert(attend_span_keys % keys == 0);
    static_assert(threads * (2 * dim_steps + 1) * 16 <= attend_slot_bytes);
    using q_tile = panel_tile<rows, dim>;
    using kv_tile = panel_tile<keys, dim>;
    using kv_share = tile_share<kv_tile, loading, threads>;
    static constexpr bool tight = false, pages_are_masked = false;
    using scores = float[1][2 * key_steps][4];
    using weights = uint32_t[1][key_steps][4];
    using output = float[1][2 * dim_steps][4];
    // offsets in shared memory: Q, then K and V of each stage
    static constexpr int k_at = q_tile::bytes, stage_bytes = 2 * kv_tile::bytes,
                         tile_bytes = k_at + stages * stage_bytes;
    static_assert(k_at % panel_alignment == 0 && kv_tile::bytes % panel_alignment == 0);

    // A barrier of the threads that compute; 0 is __syncthreads()
    static __device__ void sync() { bar_sync<threads>(1); }
    static __device__ bool any(bool x) { return bar_or<threads>(1, x); }
    // The same of those that load
    static __device__ void sync_loading() { bar_sync<loading>(2); }
};

// A tile of keys in a stage: what the loading warps tell the others of it.
struct staged_tile {
    int t;          // its number; no_tile behind the last
    int16_t border; // tile_range::border()
    int16_t whole;  // all rows see all of it, though it is a border tile
};
constexpr int no_tile = INT_MAX;

struct __align__(8) key_stage
{
    uint64_t k_full, v_full, k_empty, v_empty; // mbarriers
    staged_tile tile;
};

template <typename tile> struct wgmma_block : mma_block<tile> {
    key_stage stages[tile::stages];

    __device__ void make_barriers()
    {
        for (key_stage &stage : stages) {
            mbarrier_init(shared_address(&stage.k_full), tile::loading);
            mbarrier_init(shared_address(&stage.v_full), tile::loading);
            mbarrier_init(shared_address(&stage.k_empty), tile::warps);
            mbarrier_init(shared_address(&stage.v_empty), tile::warps);
        }
    }
};

// The place of a thread in the ring.
template <int stages> struct ring_place {
    int stage = 0;
    uint32_t parity = 0; // of the phase of its mbarriers

    __device__ void advance()
    {
        if (++stage == stages) stage = 0, parity ^= 1;
    }
};

} // namespace attend
