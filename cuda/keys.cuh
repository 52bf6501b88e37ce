// Rows of K and V by their key: so many elements apart, or in pages of a pool (host/shared/keys.h). Kernels
// take either through the same three functions. A table on the device is not checked before a run, so a key
// may have no page: it is not read, and no row sees it.
#pragma once

#include "kernels.h"

namespace attend
{

// A row, or any address of the tensor where the key has none.
template <typename T> struct found_row {
    const T *at;
    bool there;
};

// Keys of one head in one piece, counted from the one at `first`.
template <typename T> struct rows_apart {
    const T *first;
    int64_t stride;

    __device__ found_row<T> find(int64_t row) const { return {first + row * stride, true}; }
    __device__ const T *anywhere() const { return first; }
};

// Keys of one head of a sequence in pages, counted from key `first`.
template <typename T> struct rows_in_pages {
    const attend_view &pool;
    const attend_key_layout &keys;
    const attend_sequence &sequence;
    int64_t head, first;

    __device__ found_row<T> find(int64_t row) const
    {
        const attend_key_slot s = attend_paged_slot(&keys, &sequence, first + row);
        if (s.entry < 0) return {anywhere(), false};
        return {anywhere() + s.entry * pool.batch + s.row * pool.seqlen + head * pool.head, true};
    }
    __device__ const T *anywhere() const { return static_cast<const T *>(pool.data); }
};

// Whether pages are of a size that loops take without divisions, and entries of a table follow each other.
__device__ inline bool in_powers_of_two(const attend_key_layout &keys)
{
    return keys.shift >= 0 && keys.shift < 31 && keys.table_page == 1;
}

// Whether a key has a page.
__device__ inline bool has_page(const attend_key_layout &keys, const attend_sequence &sequence, int64_t key)
{
    return attend_paged_slot(&keys, &sequence, key).entry >= 0;
}

// Whether some key of [first, end) has no page, found by all threads of a block.
__device__ inline bool lacks_pages(const attend_key_layout &keys, const attend_sequence &sequence,
                                   int64_t first, int64_t end)
{
    bool lacks = false;
    if (first < end) {
        const int64_t last = attend_page_of(&keys, end - 1);
        for (int64_t page = attend_page_of(&keys, first) + threadIdx.x; page <= last; page += blockDim.x)
            lacks = lacks || !has_page(keys, sequence, page * keys.page_size);
    }
    return __syncthreads_or(lacks);
}

} // namespace attend
