/* Which position the row of a tensor stands for: given one by one, or counted within its sequence. Plain C,
   also compiled by nvcc. */
#ifndef ATTEND_SHARED_POSITIONS_H
#define ATTEND_SHARED_POSITIONS_H

#include <attend/layer.h>
#include "shared/visibility.h"

#include <math.h>

/* Host or device memory throughout, as its reader needs it. */
typedef struct attend_row_positions {
    const int32_t *positions; /* NULL: counted */
    int64_t positions_batch, positions_row;
    const int64_t *firsts;     /* of each sequence; NULL: `first` of all */
    const int64_t *starts;     /* the first row of each sequence that is not padding; NULL: 0 */
    const int64_t *lengths;    /* rows of each sequence that are there; NULL: all */
    const int64_t *cu_seqlens; /* where packed sequences begin; NULL: the batch's entries are the sequences */
    int64_t first, sequences;
} attend_row_positions;

/* The furthest that positions are counted from. */
#define ATTEND_LAST_POSITION INT32_MAX

/* Rows of a problem's q. lists may bring starts_k and cu_seqlens_q; positions may be absent. */
attend_row_positions attend_row_positions_of(const attend_problem *problem, const attend_lists *lists,
                                             const attend_tensor *positions);
/* The same of a layer's arguments, where they lie. */
attend_row_positions attend_layer_row_positions(const attend_problem *problem, const attend_layer_args *args);

/* The packed sequence that a row belongs to: the last that begins at or before it. */
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

/* The position of row `row` of entry b along the tensor's first axis. Padding before a sequence stands where
   that begins. */
ATTEND_SHARED int64_t attend_row_position(const attend_row_positions *p, int64_t b, int64_t row)
{
    if (p->positions) return p->positions[b * p->positions_batch + row * p->positions_row];
    const int64_t sequence = p->cu_seqlens ? attend_packed_sequence(p, row) : b;
    const int64_t begin = p->cu_seqlens ? p->cu_seqlens[sequence] : p->starts ? p->starts[b] : 0;
    const int64_t first =
        p->firsts ? attend_clamp(p->firsts[sequence], -ATTEND_LAST_POSITION, ATTEND_LAST_POSITION) : p->first;
    return first + (row > begin ? row - begin : 0);
}

/* The part of a turn, from -1/2 to 1/2, that an angle of `turns` a position has come to: in double, so that
   far positions lose nothing. */
ATTEND_SHARED double attend_turn_fraction(double turns, int64_t position)
{
    const double all = (double)position * turns;
    return all - rint(all);
}

/* Whether a row is one of its sequence's. */
ATTEND_SHARED bool attend_is_there(const attend_row_positions *p, int64_t b, int64_t row)
{
    return !p->lengths || row < p->lengths[b];
}

#endif
