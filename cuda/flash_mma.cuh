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
#include "mma_block.cuh"
#include "mma_output.cuh"
#include "mma_spans.cuh"
#include "poison.cuh"
#include "softmax.cuh"

namespace attend
{

template <typename tile>
__device__ void load_queries(uint32_t to, const attend_kernel_args &args, const mma_block<tile> &block)
{
    using T = typename tile::element;
    using share = tile_share<typename tile::q_tile, tile::threads>;
    const T *q = static_cast<const T *>(args.q.data) + block.query_offset(args.q);
    const int dims = static_cast<int>(args.problem.head_dim);
#pragma unroll 1
    for (int i = 0; i < share::passes_down; i++) {
        const int row = share::row() + i * share::down;
        const bool valid = row < block.rows.valid;
        const T *from = valid ? q + block.rows.offset(row, args.q) : q;
#pragma unroll
        for (int j = 0; j < share::passes_across; j++) {
            const int vector = share::vector() + j * share::across;
            cp_async(to + share::offset() + share::step(i, j), from + 8 * vector,
                     valid ? vector_bytes(dims, vector) : 0);
        }
    }
    cp_async_commit();
}

// Negates Q where the scale is negative: all that follows uses |scale|. Each thread negates what it copied
// itself.
template <typename tile> __device__ void negate_queries(unsigned char *q_bytes)
{
    using share = tile_share<typename tile::q_tile, tile::threads>;
#pragma unroll 1
    for (int i = 0; i < share::passes_down * share::passes_across; i++) {
        uint4 *const vector = reinterpret_cast<uint4 *>(
            q_bytes + share::offset() + share::step(i / share::passes_across, i % share::passes_across));
        constexpr uint32_t signs = 0x80008000u;
        *vector = {vector->x ^ signs, vector->y ^ signs, vector->z ^ signs, vector->w ^ signs};
    }
}

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

// Updates the running max of the lane's rows, and rescales l and O if it grows in any row of the warp; in
// most tiles it does not.
template <typename tile>
__device__ void follow(softmax_row (&state)[tile::lane_rows], typename tile::output &o,
                       const typename tile::scores &s, float scale)
{
    float most[tile::lane_rows];
    bool grown = false;
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        most[i] = fmaxf(s[i / 2][0][i % 2 * 2], s[i / 2][0][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 1; n < 2 * tile::key_steps; n++)
            most[i] = fmaxf(most[i], fmaxf(s[i / 2][n][i % 2 * 2], s[i / 2][n][i % 2 * 2 + 1]));
        grown = grown || state[i].below(most[i], scale);
    }
    if (!__any_sync(~0u, grown)) return;
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        const float shrink = state[i].fold(quad_max(most[i]), scale);
#pragma unroll
        for (int n = 0; n < 2 * tile::dim_steps; n++)
            o[i / 2][n][i % 2 * 2] *= shrink, o[i / 2][n][i % 2 * 2 + 1] *= shrink;
    }
}

// P = 2^(c·S - m), and l += its sums over the lane's columns.
template <typename tile>
__device__ void weigh(typename tile::weights &p, softmax_row (&state)[tile::lane_rows],
                      const typename tile::scores &s, float scale)
{
#pragma unroll
    for (int i = 0; i < tile::lane_rows; i++) {
        float sum;
#pragma unroll
        for (int n = 0; n < 2 * tile::key_steps; n++) {
            const float low = state[i].weight(s[i / 2][n][i % 2 * 2], scale),
                        high = state[i].weight(s[i / 2][n][i % 2 * 2 + 1], scale);
            sum = n == 0 ? low + high : sum + low + high;
            p[i / 2][n / 2][n % 2 * 2 + i % 2] = pack<typename tile::element>(low, high);
        }
        state[i].sum += sum;
    }
}

// Copies a tile of which all rows and dims are there, in pages whose size is a power of two: one look into
// the table where a page holds the tile, else one a row. `pool` is where this thread's first row and vector
// would be if the tile began the first page, `step` the bytes from one row of the thread to its next.
template <typename tile>
__device__ __forceinline__ void load_whole_pages(uint32_t to, const char *pool, const attend_key_layout &keys,
                                                 int64_t page_bytes, const int32_t *table, int64_t step,
                                                 int t)
{
    using share = typename tile::kv_share;
    using copy = tile_copy<typename tile::kv_share>;
    const int shift = static_cast<int>(keys.shift), size = static_cast<int>(keys.page_size);
    if (size >= tile::keys) {
        const int within = t & (size / tile::keys - 1);
        copy::whole(to,
                    pool + table[t * tile::keys >> shift] * page_bytes + within * (step * share::passes_down),
                    step);
        return;
    }
    // rows of a pass are so many passes into their page
    const auto within = [&](int pass) { return pass & (max(size / share::down, 1) - 1); };
    const int key = t * tile::keys + share::row();
    const char *rows[share::passes_down];
#pragma unroll
    for (int i = 0; i < share::passes_down; i++)
        rows[i] = pool + table[(key + i * share::down) >> shift] * page_bytes + within(i) * step;
#pragma unroll
    for (int i = 0; i < share::passes_down; i++)
#pragma unroll
        for (int j = 0; j < share::passes_across; j++)
            cp_async(to + share::step(i, j), rows[i] + j * share::across * 16);
    cp_async_commit();
}

// Copies a tile in pages, whatever their size and whichever of its rows and dims are there, with a look into
// the table a row. Not inlined, so that it takes no registers from what full tiles do.
template <typename tile>
__device__ __noinline__ void load_pages(uint32_t to, const char *at, const attend_kernel_args &args,
                                        const attend_view &pool, const mma_block<tile> &block,
                                        const tile_copies &copies, int t)
{
    const int dims = copies.dims;
    if (t < -copies.whole) {
        load_whole_pages<tile>(to, at, args.keys, 2 * pool.batch, block.table, copies.step, t);
        return;
    }
    using T = typename tile::element;
    using share = typename tile::kv_share;
    const int64_t first = int64_t(t) * tile::keys;
    const int valid = static_cast<int>(min(int64_t(tile::keys), block.sequence.seqlen_k - first));
    const rows_in_pages<T> rows = {pool, args.keys, block.sequence, block.block_at.head, first};
#pragma unroll 1
    for (int i = 0; i < share::passes_down; i++) {
        const int row = share::row() + i * share::down;
        const found_row<T> found = row < valid ? rows.find(row) : found_row<T>{rows.anywhere(), false};
#pragma unroll
        for (int j = 0; j < share::passes_across; j++) {
            const int vector = share::vector() + j * share::across;
            cp_async(to + share::step(i, j), found.at + 8 * vector,
                     found.there ? vector_bytes(dims, vector) : 0);
        }
    }
    cp_async_commit();
}

// Copies consecutive tiles of K and V to shared memory.
template <typename tile> struct key_copies {
    using copy = tile_copy<typename tile::kv_share>;
    const attend_kernel_args &args;
    mma_block<tile> &block;
    uint32_t to; // address of this thread's first vector of K's tile
    const char *in_registers[2];

    // The source of this thread's first vector of the next tile of K (0) or V (1); in pages,
    // load_whole_pages()'s `pool`.
    __device__ const char *&from(int which)
    {
        return tile::tight ? block.from[which][threadIdx.x] : in_registers[which];
    }
    __device__ void start(int t)
    {
        using T = typename tile::element;
        const T *const k = static_cast<const T *>(args.k.data) + block.key_offset(args.k),
                       *const v = static_cast<const T *>(args.v.data) + block.key_offset(args.v);
        if (args.keys.table) {
            const int within =
                tile::kv_share::row() & static_cast<int>(min(args.keys.page_size, int64_t(tile::keys)) - 1);
            from(0) = reinterpret_cast<const char *>(pool_row<T>(args.k, within));
            from(1) = reinterpret_cast<const char *>(pool_row<T>(args.v, within));
            return;
        }
        from(0) = copy::start(k + int64_t(t) * tile::keys * args.k.seqlen, 2 * args.k.seqlen);
        from(1) = copy::start(v + int64_t(t) * tile::keys * args.v.seqlen, 2 * args.v.seqlen);
    }
    // paged: the keys may lie in pages
    template <bool paged = true> __device__ void load_k(int t)
    {
        load<paged>(to, from(0), args.k, block.k, t);
    }
    template <bool paged = true> __device__ void load_v(int t)
    {
        load<paged>(to + tile::kv_tile::bytes, from(1), args.v, block.v, t);
    }
    __device__ void skip(int64_t tiles)
    {
        if (args.keys.table) tiles = 0;
        from(0) += tiles * block.k.step * tile::kv_share::passes_down;
        from(1) += tiles * block.v.step * tile::kv_share::passes_down;
    }

  private:
    template <typename T> __device__ const T *pool_row(const attend_view &pool, int row) const
    {
        return static_cast<const T *>(pool.data) + block.block_at.head * pool.head + row * pool.seqlen +
               8 * tile::kv_share::vector();
    }
    template <bool paged>
    __device__ void load(uint32_t into, const char *&at, const attend_view &pool, const tile_copies &copies,
                         int t)
    {
        const tile_copies c = copies;
        if (t < c.whole)
            at = copy::whole(into, at, c.step);
        else if (paged && args.keys.table)
            load_pages(into, at, args, pool, block, copies, t);
        else
            at = copy::part(
                into, at, c.step,
                static_cast<int>(min(int64_t(tile::keys), block.sequence.seqlen_k - int64_t(t) * tile::keys)),
                c.dims);
    }
};

// A tile of K (0) or V (1) that may lie in pages.
template <typename tile>
__device__ __noinline__ void load_out_of_line(const attend_kernel_args &args, mma_block<tile> &block,
                                              uint32_t to, int which, int t)
{
    static_assert(tile::tight || !tile::pages_are_masked);
    key_copies<tile> copies = {args, block, to};
    which ? copies.load_v(t) : copies.load_k(t);
}
template <typename tile> __device__ __forceinline__ void load(key_copies<tile> &copies, int which, int t)
{
    if constexpr (tile::pages_are_masked)
        load_out_of_line<tile>(copies.args, copies.block, copies.to, which, t);
    else
        which ? copies.load_v(t) : copies.load_k(t);
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
        follow<tile>(w.state, w.o, s, w.scale);
        weigh<tile>(p, w.state, s, w.scale);
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

template <typename tile> __device__ void flash_mma(const attend_kernel_args &args, const block_order &order)
{
    extern __shared__ __align__(128) unsigned char shared[]; // Q, K, V, mma_block, row_terms
    mma_block<tile> &block = *reinterpret_cast<mma_block<tile> *>(shared + tile::tile_bytes);
    unsigned char *const q_bytes = shared, *const v_bytes = shared + tile::v_at;
    const uint32_t q_shared = shared_address(q_bytes);

    if (threadIdx.x == 0) block.find(args, order);
    __syncthreads();
    row_terms *const terms = reinterpret_cast<row_terms *>(&block + 1);
    if (threadIdx.x < tile::rows) {
        block.find_visible(args.problem, threadIdx.x);
        if (block.scored) terms[threadIdx.x] = terms_of(args, block, threadIdx.x);
    }
    if (args.problem.segments) block.note_segments(args.terms, threadIdx.x / 32);
    __syncthreads();
    if (args.keys.table) block.find_holes(args);
    if (threadIdx.x < 32) block.start(args);
    __syncthreads();
    if (block.idle) return;
    const tile_range &seen = block.search.run;
    const attend_problem &problem = args.problem;

    key_copies<tile> copies = {args, block, keep(q_shared + tile::k_at + tile::kv_share::offset())};
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
    forget_padding<tile>(warp.o, warp.state, block);
    if (args.splits > 1)
        store_partial<tile>(warp.o, warp.state, args, block);
    else if (args.into.out.data)
        store_state<tile>(warp.o, warp.state, args.into, block);
    else
        store<tile>(warp.o, warp.state, args, block, q_bytes);
    if (block.slot < 0) return;
    __syncthreads(); // all threads have read the slot
    if (threadIdx.x == 0) release_slot(args, block.slot);
}

} // namespace attend
