// Attention on Hopper's tensor cores: flash_mma.cuh's algorithm on wgmma, whose operands the tensor cores
// read from shared memory themselves. As in FlashAttention-3 (arXiv:2407.08608) a block is divided in roles:
// one warpgroup loads K and V through a ring of stages (wgmma_tile.cuh), the others compute, 64 rows each.
// They wait for tiles, not for each other, so that one's softmax runs beside the other's products.
//
// S and O lie in registers as flash_mma's do with one fragment of 16 rows a warp: masks, terms, softmax,
// spans and output are the same code. Tiles have 128 keys, so that bits are those of another class than
// flash_mma's.
#pragma once

#include "elements.cuh"
#include "mma_copies.cuh"
#include "mma_output.cuh"
#include "mma_softmax.cuh"
#include "mma_spans.cuh"
#include "poison.cuh"
#include "wgmma_tile.cuh"

namespace attend
{

// ---- the warpgroup that loads ----

// Says of a tile that it is here once the next one's copies are on their way.
struct late_arrival {
    uint32_t barrier = 0;

    __device__ void say() { arrive<1>(); }
    __device__ void say_last() { arrive<0>(); }

  private:
    template <int pending> __device__ void arrive()
    {
        if (!barrier) return;
        cp_async_wait<pending>();
        fence_proxy_async();
        mbarrier_arrive(barrier);
    }
};

template <typename tile>
__device__ void load_tiles(const attend_kernel_args &args, wgmma_block<tile> &block, uint32_t shared,
                           ring_place<tile::stages> &place)
{
    const uint32_t own = shared + tile::kv_share::offset();
    const tile_range &run = block.search.run;
    key_copies<tile> copies = {args, block, own};
    late_arrival arrival;
    int t = run.begin;
    copies.start(t);
#pragma unroll 1
    for (;; place.advance()) {
        key_stage &stage = block.stages[place.stage];
        copies.to = own + place.stage * tile::stage_bytes;
        mbarrier_wait(shared_address(&stage.k_empty), place.parity ^ 1);
        const bool done = t >= run.end;
        if (threadIdx.x == tile::threads)
            stage.tile = {done ? no_tile : t, run.border(t), block.last_whole && t + 1 == run.end};
        if (done) {
            arrival.say_last();
            mbarrier_arrive(shared_address(&stage.k_full));
            mbarrier_wait(shared_address(&stage.v_empty), place.parity ^ 1);
            mbarrier_arrive(shared_address(&stage.v_full)); // the stage was used as any other
            place.advance();
            return;
        }
        copies.load_k(t);
        arrival.say();
        arrival.barrier = shared_address(&stage.k_full);
        mbarrier_wait(shared_address(&stage.v_empty), place.parity ^ 1);
        copies.load_v(t);
        arrival.say();
        arrival.barrier = shared_address(&stage.v_full);
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

// A stage as those that compute see it.
template <typename tile> struct stage_reader {
    key_stage *stage;
    uint32_t parity, at; // address of K, uniform for ptxas

    __device__ stage_reader(wgmma_block<tile> &block, const ring_place<tile::stages> &place,
                            uint32_t stages_at)
        : stage(&block.stages[place.stage]), parity(place.parity),
          at(__shfl_sync(~0u, stages_at + place.stage * tile::stage_bytes, 0))
    {
    }
    __device__ void wait_for_k() const { wait(stage->k_full); }
    __device__ void wait_for_v() const { wait(stage->v_full); }
    __device__ void release_k() const { release(stage->k_empty); }
    __device__ void release_v() const { release(stage->v_empty); }
    __device__ uint32_t v_at() const { return at + tile::kv_tile::bytes; }

  private:
    __device__ void wait(uint64_t &barrier) const
    {
        mbarrier_wait(shared_address(&barrier), parity);
        __syncwarp(); // lanes may have left the wait one by one
    }
    __device__ void release(uint64_t &barrier) const
    {
        __syncwarp();
        mbarrier_arrive(shared_address(&barrier), threadIdx.x % 32 == 0);
    }
};

// S = Q·Kᵀ; begins it
template <typename tile>
__device__ void multiply_keys(typename tile::scores &s, uint32_t q_at, const stage_reader<tile> &stage)
{
    const uint32_t q = matrix_at(q_at, tile::q_tile::period_bytes),
                   k = matrix_at(stage.at, tile::kv_tile::period_bytes);
    wgmma<typename tile::element>::start(s[0], descriptor(q, 0), descriptor(k, 0));
#pragma unroll
    for (int step = 1; step < tile::dim_steps; step++)
        wgmma<typename tile::element>::add(s[0], descriptor(q, tile::q_tile::step(step)),
                                           descriptor(k, tile::kv_tile::step(step)));
}

// O += P·V; begins it
template <typename tile>
__device__ void multiply_values(typename tile::output &o, const typename tile::weights &p,
                                const stage_reader<tile> &stage)
{
    const uint32_t v = matrix_at(stage.v_at(), tile::kv_tile::period_bytes);
#pragma unroll
    for (int step = 0; step < tile::key_steps; step++)
        wgmma<typename tile::element>::add(o[0], p[0][step],
                                           descriptor(v, step * 16 * tile::kv_tile::row_bytes));
}

// The warpgroups take turns at the tensor cores, so that the softmax of one runs beside the products of
// another.
template <typename tile> struct product_turns {
    static constexpr int first = 3,
                         threads = 2 * 128; // barriers 3, 4 …, one a warpgroup; who passes, who takes
    int group;

    __device__ void start() const
    {
        if (group == tile::groups - 1) bar_arrive<threads>(first);
    }
    __device__ void take() const { bar_sync<threads>(first + group); }
    __device__ void pass(bool last = false) const
    {
        if (!last || group + 1 < tile::groups) bar_arrive<threads>(first + (group + 1) % tile::groups);
    }
};

// Gives the poison of V's visible keys to O, and takes it out of the stage (poison.cuh).
template <typename tile>
__device__ void handle_poison(typename tile::output &o, const stage_reader<tile> &stage,
                              const attend_kernel_args &args, const mma_block<tile> &block, int key,
                              unsigned char *shared)
{
    using T = typename tile::element;
    using v_tile = typename tile::kv_tile;
    unsigned char *const v_bytes = shared + (stage.v_at() - shared_address(shared));
    if (!tile::any(holds_poison<T, v_tile, tile::threads>(v_bytes))) return;
    lane_mask<tile> visible;
    visible_columns<tile>(visible, args, block, key);
    add_poison<T>(o, down_first<v_tile>(stage.v_at(), 0), visible);
    tile::sync();
    remove_poison<T, v_tile, tile::threads>(v_bytes);
    fence_proxy_async();
    tile::sync();
}

// From q·k to scores, in a tile that is partly masked for some rows, or whose scores have terms.
template <typename tile>
__device__ __forceinline__ void mask_scores(typename tile::scores &s, const staged_tile &at,
                                            const attend_kernel_args &args, const mma_block<tile> &block,
                                            const row_terms *terms)
{
    const int key = at.t * tile::keys;
    const bool hides =
        !at.whole && (block.hides || block.tiles(warp_row<tile>(), tile::warp_rows).border(at.t));
    lane_mask<tile> visible;
    if (hides || args.problem.bias_axes) visible_columns<tile>(visible, args, block, key);
    if (block.scored) add_terms<tile>(s, args, terms, key, visible);
    if (hides) hide<tile>(s, visible);
}

// Whether all tiles are to be computed once more, for far rows: called by all threads at their end.
template <typename tile, bool loads>
__device__ bool begin_again(const attend_kernel_args &args, wgmma_block<tile> &block)
{
    __syncthreads(); // all threads are done
    if (!block.repeats()) return false;
    __syncthreads();                                 // all threads have read `far`
    if (loads && threadIdx.x < tile::threads + 32) { // those that compute call no function
        if (threadIdx.x == tile::threads) {
            if (block.slot >= 0) release_slot(args, block.slot);
            block.slot = -1, block.far = true;
        }
        __syncwarp();
        block.start(args);
    }
    __syncthreads();
    return true;
}

// Tile by tile: scores to weights, then at once O += P·V and the next tile's S = Q·Kᵀ.
template <typename tile>
__device__ void compute(const attend_kernel_args &args, wgmma_block<tile> &block, const row_terms *terms,
                        unsigned char *shared)
{
    const uint32_t q_at = shared_address(shared), stages_at = q_at + tile::k_at;
    const attend_problem &problem = args.problem;
    const float scale = block.scored ? log2e : fabsf(problem.softmax_scale) * log2e;
    const product_turns<tile> turns = {warp_row<tile>() / 64};
    const uint32_t group_q_at = q_at + turns.group * 64 * tile::q_tile::row_bytes;
    softmax_row state[tile::lane_rows] = {};
    typename tile::output o = {};
    load_queries<tile>(q_at, args, block);
    cp_async_wait<0>();
    if (problem.softmax_scale < 0 && !block.scored) negate_queries<tile>(shared);
    fence_proxy_async();
    if (args.from.out.data && args.splits == 1) load_total<tile>(args, block);
    tile::sync(); // Q is here, and all threads have read `from`, which `into` may alias
    turns.start();

    ring_place<tile::stages> place;
    stage_reader<tile> stage(block, place, stages_at);
    stage.wait_for_k();
    staged_tile now = stage.stage->tile;
    if (now.t == no_tile) {
        end_span<tile>(o, state, args, block, no_tile, true); // the caller's state goes on
        begin_again<tile, false>(args, block);
    }
#pragma unroll 1
    while (now.t != no_tile) {
        const int span_end = (now.t / tile::span_tiles + 1) * tile::span_tiles;
        typename tile::scores s;
        typename tile::weights p;
        wgmma_fence();
        multiply_keys<tile>(s, group_q_at, stage);
        wgmma_commit();
        wgmma_wait<0>();
        hold(s);
        stage.release_k();
#pragma unroll 1
        for (;;) {
            if (now.border) {
                mask_scores<tile>(s, now, args, block, terms);
                if (block.scored && !block.far) note_lost<tile>(block, s, scale);
            }
            if (now.border && block.far) {
                weigh_far<tile>(p, state, o, s, scale);
            } else {
                follow<tile>(state, o, s, scale);
                weigh<tile>(p, state, s, scale);
            }
            stage.wait_for_v();
            if (now.border) handle_poison<tile>(o, stage, args, block, now.t * tile::keys, shared);
            place.advance();
            const stage_reader<tile> next(block, place, stages_at);
            next.wait_for_k();
            now = next.stage->tile;
            turns.take();
            if (now.t >= span_end) break;
            hold(o), hold(p);
            wgmma_fence();
            multiply_values<tile>(o, p, stage);
            multiply_keys<tile>(s, group_q_at, next);
            wgmma_commit();
            turns.pass();
            wgmma_wait<0>();
            hold(o), hold(p), hold(s);
            stage.release_v(), next.release_k();
            stage = next;
        }
        hold(o), hold(p);
        wgmma_fence();
        multiply_values<tile>(o, p, stage);
        wgmma_commit();
        turns.pass(now.t == no_tile);
        wgmma_wait<0>();
        hold(o);
        stage.release_v();
        stage = stage_reader<tile>(block, place, stages_at);
        end_span<tile>(o, state, args, block, now.t, now.t == no_tile);
        if (now.t != no_tile || !begin_again<tile, false>(args, block)) continue;
        stage.wait_for_v(); // the stage without a tile ends as any other
        stage.release_k(), stage.release_v();
        forget<tile>(o, state);
        if (args.from.out.data && args.splits == 1) load_total<tile>(args, block);
        tile::sync();
        turns.start();
        place.advance();
        stage = stage_reader<tile>(block, place, stages_at);
        stage.wait_for_k();
        now = stage.stage->tile;
    }
    forget_padding<tile>(o, state, block);
    tile::sync(); // no product reads Q any more, and all threads have read the slot
    if (args.splits > 1)
        store_partial<tile>(o, state, args, block);
    else if (args.into.out.data)
        store_state<tile>(o, state, args.into, block);
    else
        store<tile>(o, state, args, block, shared);
    if (threadIdx.x == 0 && block.slot >= 0) release_slot(args, block.slot);
}

template <typename tile> __device__ void flash_wgmma(const attend_kernel_args &args, const block_order &order)
{
    extern __shared__ __align__(1024) unsigned char shared[]; // Q, stages of K and V, wgmma_block, row_terms
    wgmma_block<tile> &block = *reinterpret_cast<wgmma_block<tile> *>(shared + tile::tile_bytes);
    if (threadIdx.x == 0) {
        block.find(args, order);
        block.make_barriers();
        block.far = false, block.met_far = 0;
    }
    if (threadIdx.x < tile::threads) block.lost[threadIdx.x] = 0;
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
        ring_place<tile::stages> place;
        do {
            load_tiles<tile>(args, block, shared_address(shared), place);
        } while (begin_again<tile, true>(args, block));
    } else {
        setmaxnreg_inc<tile::registers>();
        compute<tile>(args, block, terms, shared);
    }
}

} // namespace attend
