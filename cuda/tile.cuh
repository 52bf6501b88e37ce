// Tiles of 16-bit elements in shared memory, and how they get there and into registers.
//
// A row of a tile is a row of the tensor: `dim` elements, dim/8 chunks of 16 bytes. Chunk c of row r lies
// where chunk c ^ s(r) would in a plain layout; s(r) makes every 8 rows' chunks of one column lie in
// different banks, so that cp.async writes and ldmatrix reads (8 rows of a column at a time) are free of
// conflicts.
#pragma once

#include "ptx.cuh"

namespace attend
{

// An address that stays in its register: ptxas would rather compute it again for every tile.
__device__ inline uint32_t keep(uint32_t address)
{
    asm("" : "+r"(address));
    return address;
}
// A value from which nothing is computed ahead: what is rarely asked for takes no register of a loop.
__device__ inline uint32_t late(uint32_t value)
{
    asm volatile("" : "+r"(value));
    return value;
}
template <typename T> __device__ T *keep(T *address)
{
    asm("" : "+l"(address));
    return address;
}

template <int rows_, int dim_> struct shared_tile {
    static constexpr int rows = rows_, dim = dim_, vectors = dim / 8, row_bytes = dim * 2,
                         bytes = rows * row_bytes;
    // a row fills whole lines of 128 bytes, or ends in half a line
    static constexpr bool wide = vectors % 8 == 0;
    static constexpr int period = wide ? 4 : 2; // of pairs of chunks that the permutation stays within
    static_assert(dim % 32 == 0 && rows % 16 == 0);

    static __device__ uint32_t permute(uint32_t row) { return wide ? row & 7 : row >> 1 & 3; }
    static __device__ uint32_t offset(uint32_t row, uint32_t vector)
    {
        return row * row_bytes + ((vector ^ permute(row)) << 4);
    }
};

// Where a lane's part of the 16x16 fragments of a tile lies: fragments start at row `row0` and walk in steps
// of 16 rows and 16 columns. The address is computed once; a step costs an XOR with a constant. The tile
// begins `at` bytes after the address that the base is made from: added after the XOR, where instructions add
// constants for nothing.
template <typename tile, int at = 0> struct fragments {
    uint32_t base;
    static_assert(at % 128 == 0, "XORs stay within a line");

    __device__ fragments(uint32_t address, uint32_t lane_row, uint32_t lane_vector)
        : base(keep(address + tile::offset(lane_row, lane_vector)))
    {
    }

    // The same, from which nothing is computed ahead of its use: saves registers where a loop could keep
    // every XOR's result.
    __device__ fragments here() const
    {
        fragments f = *this;
        asm volatile("" : "+r"(f.base));
        return f;
    }

    __device__ uint32_t address(int row_step, int column_step) const
    {
        return (base ^ (column_step % tile::period * 32)) + column_step / tile::period * (tile::period * 32) +
               row_step * (16 * tile::row_bytes) + at;
    }
};

// A 16x16 fragment as ldmatrix reads it, its four 8x8 matrices down first: the A operand, and B of a
// transposed tile.
template <typename tile, int at = 0> __device__ fragments<tile, at> down_first(uint32_t address, int row0)
{
    const uint32_t lane = threadIdx.x % 32;
    return fragments<tile, at>(address, row0 + lane % 16, lane / 16);
}

// The same across first: B of a tile whose rows are the columns of the product.
template <typename tile, int at = 0> __device__ fragments<tile, at> across_first(uint32_t address)
{
    const uint32_t lane = threadIdx.x % 32;
    return fragments<tile, at>(address, lane / 16 * 8 + lane % 8, lane / 8 % 2);
}

// How the threads of a block share the chunks of a tile: `across` neighbours take neighbouring chunks of a
// row.
template <typename tile, int threads> struct tile_share {
    static constexpr int across = tile::wide ? 8 : 4, down = threads / across;
    static constexpr int passes_down = tile::rows / down, passes_across = tile::vectors / across;
    static_assert(tile::rows % down == 0 && down % 8 == 0);

    static __device__ int row() { return threadIdx.x / across; }
    static __device__ int vector() { return threadIdx.x % across; }
    static __device__ uint32_t offset() { return tile::offset(row(), vector()); }
    // The permutation is the same in all of a thread's rows, and acts within its chunk's group.
    static __device__ constexpr uint32_t step(int pass_down, int pass_across)
    {
        return pass_down * down * tile::row_bytes + pass_across * across * 16;
    }
};

// Bytes of a chunk that hold dims of the tensor; the rest become zeros.
__device__ inline int vector_bytes(int dims, int vector) { return max(0, min(16, (dims - 8 * vector) * 2)); }

// Copying consecutive tiles of a tensor's rows to a place in shared memory. `from` is this thread's first
// chunk of the next tile and moves on, `to` its first chunk there, `step` the bytes from one row of the
// thread to its next.
template <typename tile, int threads> struct tile_copy {
    using share = tile_share<tile, threads>;

    static __device__ const char *start(const void *rows, int64_t row_bytes)
    {
        return static_cast<const char *>(rows) + share::row() * row_bytes + share::vector() * 16;
    }

    // All rows and dims are there.
    static __device__ const char *whole(uint32_t to, const char *from, int64_t step)
    {
#pragma unroll
        for (int i = 0; i < share::passes_down; i++, from = keep(from + step))
#pragma unroll
            for (int j = 0; j < share::passes_across; j++)
                cp_async(to + share::step(i, j), from + j * share::across * 16);
        cp_async_commit();
        return from;
    }

    // Only rows [0, valid) and `dims` dims of each: zeros elsewhere.
    static __device__ const char *part(uint32_t to, const char *from, int64_t step, int valid, int dims)
    {
#pragma unroll 1
        for (int i = 0; i < share::passes_down; i++, from += step)
#pragma unroll
            for (int j = 0; j < share::passes_across; j++) {
                const bool there = share::row() + i * share::down < valid;
                cp_async(to + share::step(i, j), from + j * share::across * 16,
                         there ? vector_bytes(dims, share::vector() + j * share::across) : 0);
            }
        cp_async_commit();
        return from;
    }
};

} // namespace attend
