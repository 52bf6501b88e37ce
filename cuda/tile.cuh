// Tiles of 16-bit elements in shared memory, and their copies from global memory and into registers.
//
// A row of a tile is a row of the tensor: `dim` elements, dim/8 vectors of 16 bytes. Vector v of row r lies
// where vector v ^ s(r) would in a plain layout; s(r) puts one column's vectors of every 8 rows into
// different banks, so that cp.async writes and ldmatrix reads (8 rows of a column at a time) are free of
// conflicts.
#pragma once

#include "ptx.cuh"

namespace attend
{

// Keeps an address in its register: ptxas would compute it again for every tile.
__device__ inline uint32_t keep(uint32_t address)
{
    asm("" : "+r"(address));
    return address;
}
// Hides a value's origin, so that nothing is computed from it ahead of its use: rarely used results take no
// register of a loop.
__device__ inline uint32_t late(uint32_t value)
{
    asm volatile("" : "+r"(value));
    return value;
}
// Reads shared memory now: a value read before would take a register until here.
__device__ inline int again(const int &value) { return *static_cast<const volatile int *>(&value); }
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
    static constexpr int period = wide ? 4 : 2; // the permutation stays within this many pairs of vectors
    static constexpr int period_bytes = period * 32; // from a vector to the one `period` pairs further
    static_assert(dim % 32 == 0 && rows % 16 == 0);

    static __device__ uint32_t permute(uint32_t row) { return wide ? row & 7 : row >> 1 & 3; }
    static __device__ uint32_t offset(uint32_t row, uint32_t vector)
    {
        return row * row_bytes + ((vector ^ permute(row)) << 4);
    }
};

// The same in panels of 64 columns, one after the other: rows of 128 bytes, as wgmma reads them by its
// 128-byte swizzle. Begins at a multiple of panel_alignment.
constexpr int panel_alignment = 1024;
template <int rows_, int dim_> struct panel_tile {
    static constexpr int rows = rows_, dim = dim_, vectors = dim / 8, row_bytes = 128, bytes = rows * dim * 2;
    static constexpr bool wide = true;
    static constexpr int period = 4, period_bytes = rows * row_bytes;
    static_assert(dim % 64 == 0 && rows % 8 == 0);

    static __device__ uint32_t permute(uint32_t row) { return row & 7; }
    static __device__ uint32_t offset(uint32_t row, uint32_t vector)
    {
        return vector / 8 * period_bytes + row * row_bytes + ((vector % 8 ^ permute(row)) << 4);
    }
    // Where a step of 16 columns begins, before the swizzle
    static __device__ constexpr uint32_t step(int column_step)
    {
        return column_step / period * period_bytes + column_step % period * 32;
    }
};

// Addresses of a lane's part of the 16x16 fragments of a tile: fragments start at row `row0` and advance in
// steps of 16 rows and 16 columns. The base is computed once; a step costs an XOR with a constant. The tile
// begins `at` bytes after the address of which the base is made: `at` is added after the XOR, as the constant
// offset of the instruction, which is free.
template <typename tile, int at = 0> struct fragments {
    uint32_t base;
    static_assert(at % 128 == 0, "XORs stay within a line");

    __device__ fragments(uint32_t address, uint32_t lane_row, uint32_t lane_vector)
        : base(keep(address + tile::offset(lane_row, lane_vector)))
    {
    }

    // The same base with its origin hidden, so that no address is computed ahead of its use: a loop would
    // keep the result of every XOR in a register.
    __device__ fragments here() const
    {
        fragments f = *this;
        asm volatile("" : "+r"(f.base));
        return f;
    }

    __device__ uint32_t address(int row_step, int column_step) const
    {
        return (base ^ (column_step % tile::period * 32)) + column_step / tile::period * tile::period_bytes +
               row_step * (16 * tile::row_bytes) + at;
    }
};

// A 16x16 fragment as ldmatrix reads it, its four 8x8 matrices in column order: the A operand, and B of a
// transposed tile.
template <typename tile, int at = 0> __device__ fragments<tile, at> down_first(uint32_t address, int row0)
{
    const uint32_t lane = threadIdx.x % 32;
    return fragments<tile, at>(address, row0 + lane % 16, lane / 16);
}

// The same in row order: B of a tile whose rows are the columns of the product.
template <typename tile, int at = 0> __device__ fragments<tile, at> across_first(uint32_t address)
{
    const uint32_t lane = threadIdx.x % 32;
    return fragments<tile, at>(address, lane / 16 * 8 + lane % 8, lane / 8 % 2);
}

// How `threads` threads of a block, from `first` on, share the vectors of a tile: `across` neighbouring
// threads take neighbouring vectors of a row.
template <typename tile_, int threads, int first = 0> struct tile_share {
    using tile = tile_;
    static constexpr int across = tile::wide ? 8 : 4, down = threads / across;
    static constexpr int passes_down = tile::rows / down, passes_across = tile::vectors / across;
    static_assert(tile::rows % down == 0 && down % 8 == 0);

    static __device__ int row() { return (threadIdx.x - first) / across; }
    static __device__ int vector() { return threadIdx.x % across; }
    static __device__ uint32_t offset() { return tile::offset(row(), vector()); }
    // All of a thread's rows have the same permutation, which acts within each group of `across` vectors.
    static __device__ constexpr uint32_t step(int pass_down, int pass_across)
    {
        return pass_down * down * tile::row_bytes + pass_across * tile::period_bytes;
    }
};

// Bytes of a vector that hold dims of the tensor; the rest become zeros.
__device__ inline int vector_bytes(int dims, int vector) { return max(0, min(16, (dims - 8 * vector) * 2)); }

// Copies consecutive tiles of a tensor's rows to shared memory. `from` is the source of this thread's first
// vector and advances to the next tile, `to` its destination, `step` the bytes from one row of the thread to
// its next.
template <typename share> struct tile_copy {
    static __device__ const char *start(const void *rows, int64_t row_bytes)
    {
        return static_cast<const char *>(rows) + share::row() * row_bytes + share::vector() * 16;
    }

    // A tile with all rows and dims.
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

    // Rows [0, valid) and the first `dims` dims of each; zeros elsewhere.
    static __device__ const char *part(uint32_t to, const char *from, int64_t step, int valid, int dims)
    {
#pragma unroll 1
        for (int i = 0; i < share::passes_down; i++, from += step)
#pragma unroll
            for (int j = 0; j < share::passes_across; j++) {
                const bool in_range = share::row() + i * share::down < valid;
                cp_async(to + share::step(i, j), from + j * share::across * 16,
                         in_range ? vector_bytes(dims, share::vector() + j * share::across) : 0);
            }
        cp_async_commit();
        return from;
    }
};

} // namespace attend
