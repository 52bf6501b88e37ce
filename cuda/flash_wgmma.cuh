// Attention on Hopper's tensor cores: flash_mma.cuh's algorithm on wgmma, whose operands the tensor cores
// read from shared memory themselves. As in FlashAttention-3 (arXiv:2407.08608) a block is divided in roles:
// one warpgroup loads K and V through a ring of stages (wgmma_tile.cuh), the others compute, 64 rows each.
// They wait for tiles, not for each other, so that one's softmax runs beside the other's products.
//
// S and O lie in registers as flash_mma's do with one fragment of 16 rows a warp: masks, terms, softmax,
// spans and output are the same code. Tiles have 128 keys, so that bits are those of another class than
// flash_mma's.
#pragma once

#include "flash_mma.cuh"
#include "wgmma_tile.cuh"

namespace attend
{

// ---- the warpgroup that loads ----

template <typename tile>
__device__ void load_tiles(const attend_kernel_args &args, wgmma_block<tile> &block, uint32_t shared)
{
    const uint32_t own = shared + tile::k_at + tile::kv_share::offset();
    const tile_range &run = block.search.run;
    key_copies<tile> copies = {args, block, own};
    ring_place<tile::stages> place;
    int t = run.begin;
    copies.start(t);
#pragma unroll 1
    for (;; place.advance()) {
        key_stage &stage = block.stages[place.stage];
        copies.to = own + place.stage * tile::stage_bytes;
        mbarrier_wait(shared_address(&stage.k_empty), place.round ^ 1);
        const bool done = t >= run.end;
        if (threadIdx.x == tile::threads) {
            stage.tile = {done ? no_tile : t, run.border(t), block.last_whole && t + 1 == run.end};
            mbarrier_arrive(shared_address(&stage.k_full)); // cp.async's arrival orders copies alone
        }
        if (!done) copies.load_k(t);
        cp_async_mbarrier_arrive(shared_address(&stage.k_full));
        if (done) return;
        mbarrier_wait(shared_address(&stage.v_empty), place.round ^ 1);
        copies.load_v(t);
        cp_async_mbarrier_arrive(shared_address(&stage.v_full));
        if (++t < run.end || !block.searches) continue;
        tile::sync_loading(); // all have read the run
        if (threadIdx.x < tile::threads + 32) block.next_run(args, t);
        tile::sync_loading();
        if (run.begin > t) {
            copies.skip(run.begin - t);
            t = run.begin;
        }
    }
}

// ---- the warpgroups that compute ----

// S = Q·Kᵀ
template <typename tile> __device__ void multiply_keys(typename tile::scores &s, uint64_t q, uint64_t k)
{
    hold(s);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < tile::dim_steps; step++)
        wgmma<typename tile::element>::shared(s[0], further(q, tile::q_tile::step(step)),
                                              further(k, tile::kv_tile::step(step)), step > 0);
    wgmma_commit();
    wgmma_wait<0>();
    hold(s);
}

// O += P·V
template <typename tile>
__device__ void multiply_values(typename tile::output &o, typename tile::weights &p, uint64_t v)
{
    hold(o);
    hold(p);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < tile::key_steps; step++)
        wgmma<typename tile::element>::registers(o[0], p[0][step],
                                                 further(v, step * 16 * tile::kv_tile::row_bytes));
    wgmma_commit();
    wgmma_wait<0>();
    hold(o);
    hold(p);
}

// The registers of a thread that live as long as the block.
template <typename tile> struct wgmma_warp {
    uint64_t q; // its warpgroup's rows
    float scale;
    softmax_row state[tile::lane_rows] = {};
    typename tile::output o = {};
};

// A stage as those that compute see it. The barriers' phases order the loading warps' writes before their
// reads, the fence before those of the tensor cores.
template <typename tile> struct stage_reader {
    key_stage &stage;
    uint32_t round, at; // address of K

    __device__ void wait_for_k() const { wait(stage.k_full); }
    __device__ void wait_for_v() const { wait(stage.v_full); }
    __device__ void release_k() const { release(stage.k_empty); }
    __device__ void release_v() const { release(stage.v_empty); }
    __device__ uint64_t k() const { return matrix_descriptor(at, tile::kv_tile::period_bytes); }
    __device__ uint64_t v() const
    {
        return matrix_descriptor(at + tile::kv_tile::bytes, tile::kv_tile::period_bytes);
    }

  private:
    __device__ void wait(uint64_t &barrier) const
    {
        mbarrier_wait(shared_address(&barrier), round);
        __syncwarp(); // lanes may have left the wait one by one
        fence_proxy_async();
    }
    __device__ void release(uint64_t &barrier) const
    {
        __syncwarp();
        if (threadIdx.x % 32 == 0) mbarrier_arrive(shared_address(&barrier));
    }
};

// A tile of which all rows see all keys.
template <typename tile>
__device__ __forceinline__ void full_tile(wgmma_warp<tile> &w, const stage_reader<tile> &stage)
{
    typename tile::weights p;
    {
        typename tile::scores s;
        multiply_keys<tile>(s, w.q, stage.k());
        stage.release_k();
        follow<tile>(w.state, w.o, s, w.scale);
        weigh<tile>(p, w.state, s, w.scale);
    }
    stage.wait_for_v();
    multiply_values<tile>(w.o, p, stage.v());
    stage.release_v();
}

// Gives the poison of V's visible keys to O, and takes it out of the stage (poison.cuh).
template <typename tile>
__device__ void handle_poison(wgmma_warp<tile> &w, const stage_reader<tile> &stage,
                              const attend_kernel_args &args, const mma_block<tile> &block, int key)
{
    using T = typename tile::element;
    using v_tile = typename tile::kv_tile;
    extern __shared__ __align__(1024) unsigned char shared[];
    const uint32_t at = stage.at + v_tile::bytes;
    unsigned char *const v_bytes = shared + (at - shared_address(shared));
    if (!tile::any(holds_poison<T, v_tile, tile::threads>(v_bytes))) return;
    lane_mask<tile> visible;
    visible_columns<tile>(visible, args, block, key);
    add_poison<T>(w.o, down_first<v_tile>(at, 0), visible);
    tile::sync();
    remove_poison<T, v_tile, tile::threads>(v_bytes);
    fence_proxy_async();
    tile::sync();
}

// A tile that is partly masked for some rows, or whose scores have terms.
template <typename tile>
__device__ __forceinline__ void masked_tile(wgmma_warp<tile> &w, const stage_reader<tile> &stage,
                                            const attend_kernel_args &args, const mma_block<tile> &block,
                                            const row_terms *terms)
{
    const staged_tile at = stage.stage.tile;
    const int key = at.t * tile::keys;
    const tile_range group_seen = block.tiles(warp_row<tile>() / 64 * 64, 64);
    const bool sees = at.whole || group_seen.sees(at.t);
    typename tile::weights p;
    if (sees) {
        typename tile::scores s;
        const bool hides = !at.whole && (block.hides || group_seen.border(at.t));
        lane_mask<tile> visible;
        if (hides || args.problem.bias_axes) visible_columns<tile>(visible, args, block, key);
        multiply_keys<tile>(s, w.q, stage.k());
        if (block.scored) add_terms<tile>(s, args, terms, key, visible);
        if (hides) hide<tile>(s, visible);
        follow<tile>(w.state, w.o, s, w.scale);
        weigh<tile>(p, w.state, s, w.scale);
    }
    stage.release_k();
    stage.wait_for_v();
    handle_poison<tile>(w, stage, args, block, key);
    if (sees) multiply_values<tile>(w.o, p, stage.v());
    stage.release_v();
}

template <typename tile>
__device__ void compute(const attend_kernel_args &args, wgmma_block<tile> &block, const row_terms *terms,
                        unsigned char *q_bytes)
{
    const uint32_t shared = shared_address(q_bytes);
    const attend_problem &problem = args.problem;
    wgmma_warp<tile> w = {matrix_descriptor(shared + warp_row<tile>() / 64 * 64 * tile::q_tile::row_bytes,
                                            tile::q_tile::period_bytes),
                          block.scored ? log2e : fabsf(problem.softmax_scale) * log2e};
    load_queries<tile>(shared, args, block);
    cp_async_wait<0>();
    if (problem.softmax_scale < 0 && !block.scored) negate_queries<tile>(q_bytes);
    fence_proxy_async();
    if (args.from.out.data && args.splits == 1) load_total<tile>(args, block);
    tile::sync(); // Q is here, and all threads have read `from`, which `into` may alias

    ring_place<tile::stages> place;
#pragma unroll 1
    for (;; place.advance()) {
        const stage_reader<tile> stage = {block.stages[place.stage], place.round,
                                          shared + tile::k_at + place.stage * tile::stage_bytes};
        stage.wait_for_k();
        const int t = stage.stage.tile.t;
        const bool last = t == no_tile;
        if (t >= block.span_end) end_span<tile>(w.o, w.state, args, block, t, last);
        if (last) break;
        if (stage.stage.tile.border)
            masked_tile<tile>(w, stage, args, block, terms);
        else
            full_tile<tile>(w, stage);
    }
    forget_padding<tile>(w.o, w.state, block);
    tile::sync(); // no product reads Q any more
    if (args.splits > 1)
        store_partial<tile>(w.o, w.state, args, block);
    else if (args.into.out.data)
        store_state<tile>(w.o, w.state, args.into, block);
    else
        store<tile>(w.o, w.state, args, block, q_bytes);
    if (block.slot < 0) return;
    tile::sync(); // all threads have read the slot
    if (threadIdx.x == 0) release_slot(args, block.slot);
}

template <typename tile> __device__ void flash_wgmma(const attend_kernel_args &args, const block_order &order)
{
    extern __shared__ __align__(1024) unsigned char shared[]; // Q, stages of K and V, wgmma_block, row_terms
    wgmma_block<tile> &block = *reinterpret_cast<wgmma_block<tile> *>(shared + tile::tile_bytes);
    if (threadIdx.x == 0) {
        block.find(args, order);
        block.make_barriers();
    }
    __syncthreads();
    row_terms *const terms = reinterpret_cast<row_terms *>(&block + 1);
    if (threadIdx.x < tile::rows) {
        block.find_visible(args.problem, threadIdx.x);
        if (block.scored) terms[threadIdx.x] = terms_of(args, block, threadIdx.x);
    }
    if (args.problem.segments && threadIdx.x < tile::threads)
        block.note_segments(args.terms, threadIdx.x / 32);
    __syncthreads();
    if (args.keys.table) block.find_holes(args);
    if (threadIdx.x < 32) block.start(args);
    __syncthreads();
    if (block.idle) return;
    if (threadIdx.x >= tile::threads) {
        setmaxnreg_dec<tile::loading_registers>();
        load_tiles<tile>(args, block, shared_address(shared));
    } else {
        setmaxnreg_inc<tile::registers>();
        compute<tile>(args, block, terms, shared);
    }
}

} // namespace attend
