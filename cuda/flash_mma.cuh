// Attention on the tensor cores: FlashAttention-2 (arXiv:2307.08691) on mma.sync, ldmatrix and cp.async, fp16
// or bf16 in and out. For a tile of query rows Q and, one after the other, the tiles K, V of keys:
//     S = Q·Kᵀ;  m' = max(m, c·rowmax S);  P = 2^(c·S - m');
//     l = l·2^(m - m') + rowsum P;  O = O·2^(m - m') + P·V
// and in the end out = O / l, lse = ln 2·m + ln l, where c = scale·log2 e. A warp rescales l and O only in
// tiles where the running max of one of its rows grows.
//
// The rows of a block are the queries of all heads that share a KV head, query by query, so that K and V are
// read once for all of them. A warp owns 16·m rows and keeps their O (16·m x dim) and S (16·m x keys) in
// registers, fp32. Shared memory holds Q and one tile each of K and V, swizzled (tile.cuh); V arrives during
// Q·Kᵀ, the next K during P·V. P stays in registers: the layout in which mma leaves S is that of its A
// operand.
#pragma once

#include "elements.cuh"
#include "mma_copies.cuh"
#include "mma_output.cuh"
#include "mma_softmax.cuh"
#include "mma_spans.cuh"
#include "poison.cuh"

namespace attend
{

// Q as the A operand: read from shared memory at each step, or (stays) once, into registers.
template <typename tile, bool stays = tile::q_stays> struct query_operand {
    fragments<typename tile::q_tile> from;

    __device__ void keep() {}
    __device__ query_operand here() const { return {from.here()}; }
    __device__ void get(uint32_t (&a)[tile::m][4], int step) const
    {
#pragma unroll
        for (int i = 0; i < tile::m; i++) ldmatrix(a[i], from.address(i, step));
    }
};
template <typename tile> struct query_operand<tile, true> {
    fragments<typename tile::q_tile> from;
    uint32_t kept[tile::dim_steps][tile::m][4] = {};

    __device__ const query_operand &here() const { return *this; }
    __device__ void keep()
    {
#pragma unroll
        for (int step = 0; step < tile::dim_steps; step++)
#pragma unroll
            for (int i = 0; i < tile::m; i++) ldmatrix(kept[step][i], from.address(i, step));
    }
    __device__ void get(uint32_t (&a)[tile::m][4], int step) const
    {
#pragma unroll
        for (int i = 0; i < tile::m; i++)
#pragma unroll
            for (int r = 0; r < 4; r++) a[i][r] = kept[step][i][r];
    }
};

// S = Q·Kᵀ, in steps of 16 dims. Masked tiles use a rolled loop and read Q again from shared memory.
template <typename tile>
__device__ void multiply_step(typename tile::scores &s, const uint32_t (&a)[tile::m][4],
                              const typename tile::k_fragments &k, int step)
{
#pragma unroll
    for (int n = 0; n < tile::key_steps; n++) {
        uint32_t b[4];
        ldmatrix(b, k.address(n, step));
#pragma unroll
        for (int i = 0; i < tile::m; i++) {
            mma<typename tile::element>(s[i][2 * n], a[i], b[0], b[1]);
            mma<typename tile::element>(s[i][2 * n + 1], a[i], b[2], b[3]);
        }
    }
}
template <typename tile> __device__ void clear(typename tile::scores &s)
{
#pragma unroll
    for (int i = 0; i < tile::m; i++)
#pragma unroll
        for (int n = 0; n < 2 * tile::key_steps; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[i][n][e] = 0;
}
template <typename tile>
__device__ void multiply_keys(typename tile::scores &s, const query_operand<tile> &q,
                              const typename tile::k_fragments &k)
{
    const auto keys = k.here();
    const auto &queries = q.here();
    clear<tile>(s);
#pragma unroll
    for (int step = 0; step < tile::dim_steps; step++) {
        uint32_t a[tile::m][4];
        queries.get(a, step);
        multiply_step<tile>(s, a, keys, step);
    }
}
template <typename tile>
__device__ void multiply_keys_looped(typename tile::scores &s, const query_operand<tile> &q,
                                     const typename tile::k_fragments &k)
{
    clear<tile>(s);
#pragma unroll 1
    for (int step = 0; step < tile::dim_steps; step++) {
        uint32_t a[tile::m][4];
#pragma unroll
        for (int i = 0; i < tile::m; i++) ldmatrix(a[i], q.from.address(i, step));
        multiply_step<tile>(s, a, k, step);
    }
}

// O += P·V
template <typename tile>
__device__ void multiply_values(typename tile::output &o, const typename tile::weights &p,
                                const typename tile::v_fragments &v)
{
    const auto values = v.here();
#pragma unroll
    for (int step = 0; step < tile::key_steps; step++)
#pragma unroll
        for (int n = 0; n < tile::dim_steps; n++) {
            uint32_t b[4];
            ldmatrix_trans(b, values.address(step, n));
#pragma unroll
            for (int i = 0; i < tile::m; i++) {
                mma<typename tile::element>(o[i][2 * n], p[i][step], b[0], b[1]);
                mma<typename tile::element>(o[i][2 * n + 1], p[i][step], b[2], b[3]);
            }
        }
}

// The registers of a warp that live as long as the block.
template <typename tile> struct mma_warp {
    typename tile::k_fragments k;
    typename tile::v_fragments v;
    query_operand<tile> q;
    float scale; // from scores to exponents of 2
    softmax_row state[tile::lane_rows] = {};
    typename tile::output o = {};
};

// A tile of which all rows see all keys. V arrives during Q·Kᵀ, the next K during P·V.
template <typename tile>
__device__ __forceinline__ int full_tile(mma_warp<tile> &w, key_copies<tile> &copies, const tile_range &seen,
                                         int t)
{
    typename tile::weights p;
    cp_async_wait<0>();
    __syncthreads(); // K is here, and no thread reads V any more
    copies.template load_v<!tile::pages_are_masked>(t);
    {
        typename tile::scores s;
        multiply_keys<tile>(s, w.q, w.k);
        follow<tile>(w.state, w.o, s, w.scale);
        weigh<tile>(p, w.state, s, w.scale);
    }
    cp_async_wait<0>();
    __syncthreads(); // V is here, and no thread reads K any more
    if (t + 1 < seen.end) copies.template load_k<!tile::pages_are_masked>(t + 1);
    multiply_values<tile>(w.o, p, w.v);
    return t + 1;
}

// A tile that is partly masked for some rows, or whose scores have terms. It may be the last of a run:
// returns the next tile to visit.
template <typename tile>
__device__ __forceinline__ int masked_tile(mma_warp<tile> &w, key_copies<tile> &copies,
                                           const tile_range &seen, int t, const attend_kernel_args &args,
                                           mma_block<tile> &block, const row_terms *terms,
                                           unsigned char *v_bytes)
{
    using T = typename tile::element;
    const int key = t * tile::keys;
    const tile_range warp_seen = block.tiles(warp_row<tile>(), tile::warp_rows);
    const bool whole = block.last_whole && t + 1 == seen.end;
    const bool sees =
        whole || (warp_seen.sees(t) && !(block.searches && tile_hidden<tile>(args, block, key)));
    typename tile::weights p;
    cp_async_wait<0>();
    __syncthreads(); // K is here, and no thread reads V any more
    load<tile>(copies, 1, t);
    if (block.searches && threadIdx.x < 32 && t + 1 == seen.end) block.next_run(args, t + 1);
    if (sees) {
        typename tile::scores s;
        const bool hides = !whole && (block.hides || warp_seen.border(t));
        lane_mask<tile> visible;
        if (hides || args.problem.bias_axes) visible_columns<tile>(visible, args, block, key);
        multiply_keys_looped<tile>(s, w.q, w.k);
        if (block.scored) add_terms<tile>(s, args, terms, key, visible);
        if (hides) hide<tile>(s, visible);
        if (block.far) {
            weigh_far<tile>(p, w.state, w.o, s, w.scale);
        } else {
            if (block.scored) note_lost<tile>(block, s, w.scale);
            follow<tile>(w.state, w.o, s, w.scale);
            weigh<tile>(p, w.state, s, w.scale);
        }
    }
    cp_async_wait<0>();
    // V is here, and no thread reads K any more
    if (__syncthreads_or(holds_poison<T, typename tile::kv_tile, tile::threads>(v_bytes))) {
        lane_mask<tile> visible;
        visible_columns<tile>(visible, args, block, key);
        add_poison<T>(w.o, w.v, visible);
        __syncthreads();
        remove_poison<T, typename tile::kv_tile, tile::threads>(v_bytes);
        __syncthreads();
    }
    int next = t + 1;
    if (seen.begin > next) {
        copies.skip(seen.begin - next);
        next = seen.begin;
    }
    if (next < seen.end) load<tile>(copies, 0, next);
    if (sees) multiply_values<tile>(w.o, p, w.v);
    return next;
}

// All tiles of a block. Returns whether it met far rows, for which all has to be computed once more: then
// nothing was stored.
template <typename tile>
__device__ __forceinline__ bool pass(const attend_kernel_args &args, const block_order &order,
                                     unsigned char *shared)
{
    mma_block<tile> &block = *reinterpret_cast<mma_block<tile> *>(shared + tile::tile_bytes);
    unsigned char *const q_bytes = shared, *const v_bytes = shared + tile::v_at;
    const uint32_t q_shared = shared_address(q_bytes);

    if (thread_now() == 0) block.find(args, order);
    __syncthreads();
    row_terms *const terms = reinterpret_cast<row_terms *>(&block + 1);
    if (thread_now() < tile::rows) {
        block.find_visible(args.problem, thread_now());
        if (block.scored) terms[thread_now()] = terms_of(args, block, thread_now());
    }
    if (args.problem.segments) block.note_segments(args.terms, thread_now() / 32);
    __syncthreads();
    if (args.keys.table) block.find_holes(args);
    if (thread_now() < 32) block.start(args);
    __syncthreads();
    if (block.idle) return false;
    const tile_range &seen = block.search.run;
    const attend_problem &problem = args.problem;

    key_copies<tile> copies = {args, block, keep(q_shared + tile::kv_share::offset())};
    copies.start(seen.begin);
    mma_warp<tile> warp = {across_first<typename tile::kv_tile, tile::k_at>(q_shared),
                           down_first<typename tile::kv_tile, tile::v_at>(q_shared, 0),
                           {down_first<typename tile::q_tile>(q_shared, warp_row<tile>())},
                           block.scored ? log2e : fabsf(problem.softmax_scale) * log2e};
    if (seen.begin < seen.end) {
        load_queries<tile>(q_shared, args, block);
        cp_async_wait<0>();
        if (problem.softmax_scale < 0 && !block.scored) negate_queries<tile>(q_bytes);
        copies.load_k(seen.begin);
        if (tile::q_stays) {
            __syncthreads();
            warp.q.keep();
        }
    }
    if (args.from.out.data && args.splits == 1) {
        load_total<tile>(args, block);
        __syncthreads(); // all threads have read `from`, which `into` may alias
    }
    int t = seen.begin;
#pragma unroll 1
    for (bool last = false; !last;) {
#pragma unroll 1
        while (t < min(again(seen.end), block.span_end))
            t = seen.border(t) ? masked_tile<tile>(warp, copies, seen, t, args, block, terms, v_bytes)
                               : full_tile<tile>(warp, copies, seen, t);
        last = t >= seen.end;
        end_span<tile>(warp.o, warp.state, args, block, t, last);
    }
    __syncthreads(); // all threads have seen whether they met far rows, and have read the slot
    const bool repeats = block.repeats();
    forget_padding<tile>(warp.o, warp.state, block);
    if (repeats)
        ;
    else if (args.splits > 1)
        store_partial<tile>(warp.o, warp.state, args, block);
    else if (args.into.out.data)
        store_state<tile>(warp.o, warp.state, args.into, block);
    else
        store<tile>(warp.o, warp.state, args, block, q_bytes);
    if (thread_now() == 0 && block.slot >= 0) release_slot(args, block.slot);
    return repeats;
}

template <typename tile> __device__ void flash_mma(const attend_kernel_args &args, const block_order &order)
{
    extern __shared__ __align__(128) unsigned char shared[]; // Q, K, V, mma_block, row_terms
    mma_block<tile> &block = *reinterpret_cast<mma_block<tile> *>(shared + tile::tile_bytes);
    if (thread_now() == 0) block.far = false, block.met_far = 0;
    block.lost[thread_now()] = 0;
#pragma unroll 1
    while (pass<tile>(args, order, shared)) {
        __syncthreads(); // all threads have read `far`
        if (thread_now() == 0) block.far = true;
    }
}

} // namespace attend
