/* New keys and values on their way into a cache: the slot of each token. Plain C, also compiled by nvcc. */
#ifndef ATTEND_SHARED_APPEND_H
#define ATTEND_SHARED_APPEND_H

#include "shared/keys.h"
#include "shared/positions.h"

/* All pointers are to host memory or all to device memory, as the reader needs. */
typedef struct attend_append {
    attend_key_layout slots;
    int64_t capacity;         /* keys of a sequence */
    const int64_t *seqlens;   /* keys that each sequence has; NULL: none */
    attend_tensor v, cache_v; /* copied as they are */
} attend_append;

/* Where row `row` of entry b of the new tokens goes. entry -1: nowhere, since it lies behind its sequence's
   end, or its slot behind the cache's capacity or in no page. */
ATTEND_SHARED attend_key_slot attend_append_slot(const attend_append *a, const attend_row_positions *p,
                                                 int64_t b, int64_t row)
{
    const attend_key_slot nowhere = {-1, 0};
    const int64_t sequence = p->cu_seqlens ? attend_packed_sequence(p, row) : b;
    const int64_t token = row - (p->cu_seqlens ? p->cu_seqlens[sequence] : 0),
                  first = a->seqlens ? a->seqlens[sequence] : 0;
    const attend_sequence s = {sequence, 0, 0, 0, 0, 0};
    if (p->cu_seqlens ? token < 0 || row >= p->cu_seqlens[sequence + 1] : !attend_is_there(p, b, row))
        return nowhere;
    if (first < 0 || first >= a->capacity - token) return nowhere;
    return attend_slot_of(&a->slots, &s, first + token);
}

#endif
