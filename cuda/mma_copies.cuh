// Copies of queries, and of tiles of keys and values in one piece or in pages, to the shared memory of
// flash_mma and flash_wgmma.
#pragma once

#include "mma_block.cuh"

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
    uint32_t to; // address of this thread's first vector of a tile that began at the block's shared memory
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
        load<paged>(to + tile::k_at, from(0), args.k, block.k, t);
    }
    template <bool paged = true> __device__ void load_v(int t)
    {
        load<paged>(to + tile::k_at + tile::kv_tile::bytes, from(1), args.v, block.v, t);
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

} // namespace attend
