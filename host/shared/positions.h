/* The position of a tensor's row: given one by one, or counted within its sequence. Plain C, also compiled by
   nvcc. */
#ifndef ATTEND_SHARED_POSITIONS_H
#define ATTEND_SHARED_POSITIONS_H

#include <attend/features.h>
#include "shared/visibility.h"

#include <math.h>

/* All pointers are to host memory or all to device memory, as the reader needs. */
typedef struct attend_row_positions {
    const int32_t *positions; /* NULL: positions are counted */
    int64_t positions_batch, positions_row;
    const int64_t *firsts;     /* added to `first` for each sequence; NULL: 0 */
    const int64_t *starts;     /* the first row of each sequence that is not padding; NULL: 0 */
    const int64_t *lengths;    /* valid rows of each sequence; NULL: all */
    const int64_t *cu_seqlens; /* first rows of packed sequences; NULL: an entry each */
    int64_t first, sequences;
    int64_t first_row; /* of a block of rows: what row 0 is of the whole */
} attend_row_positions;

/* The largest magnitude of a first position. */
#define ATTEND_LAST_POSITION INT32_MAX

struct attend_cache;

/* The positions of a problem's q rows; reads starts_k, cu_seqlens_q and positions of features. With a cache
   (NULL: none) they follow its keys, and are there as far as seqlens_q says. */
attend_row_positions attend_row_positions_of(const attend_problem *problem,
                                             const attend_feature_args *features,
                                             const struct attend_cache *cache);

/* The packed sequence that holds a row: the last that begins at or before it. */
ATTEND_SHARED int64_t attend_packed_sequence(const attend_row_positions *p, int64_t row)
{
    int64_t low = 0, high = p->sequences;
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (p->cu_seqlens[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The position of row `row` of entry b of the tensor's first axis. Padding before a sequence has the position
   of the sequence's first row. */
ATTEND_SHARED int64_t attend_row_position(const attend_row_positions *p, int64_t b, int64_t row)
{
    row += p->first_row;
    if (p->positions) return p->positions[b * p->positions_batch + row * p->positions_row];
    const int64_t sequence = p->cu_seqlens ? attend_packed_sequence(p, row) : b;
    const int64_t begin = p->cu_seqlens ? p->cu_seqlens[sequence] : p->starts ? p->starts[b] : 0;
    const int64_t first =
        p->firsts ? attend_clamp(p->firsts[sequence], -ATTEND_LAST_POSITION, ATTEND_LAST_POSITION) : 0;
    return p->first + first + (row > begin ? row - begin : 0);
}

/* The angle position·turns, in turns of 2π, reduced to [-1/2, 1/2]; in double, so that large positions lose
   no accuracy. */
ATTEND_SHARED double attend_turn_fraction(double turns, int64_t position)
{
    const double all = (double)position * turns;
    return all - rint(all);
}

/* Whether a row lies within its sequence's length. */
ATTEND_SHARED bool attend_is_there(const attend_row_positions *p, int64_t b, int64_t row)
{
    return !p->lengths || row < p->lengths[b];
}

#endif
