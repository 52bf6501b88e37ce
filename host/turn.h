/* Where a token is: rotary embedding and QK-norm, applied to each head of a layer's projected Q and K. Angles are counted in turns and in
   double, so that positions beyond 2^17 lose nothing; only the fraction of a turn becomes a cosine and a sine. */
#ifndef ATTEND_HOST_TURN_H
#define ATTEND_HOST_TURN_H

#include "visibility.h"

#include <math.h>

enum { ATTEND_TURN_PAIRS = 256 };

/* A problem's rotary embedding and norm, made with the plan; kernels take it by value. */
typedef struct attend_turn {
    int dims; /* of a head that turn, in pairs; 0: none */
    bool interleaved;
    float factor; /* of cosines and sines */
    attend_qk_norm norm;
    float epsilon;
    double turns[ATTEND_TURN_PAIRS]; /* of each pair, from one position to the next */
} attend_turn;

static inline bool attend_problem_turns(const attend_problem *p) { return p->rotary != ATTEND_ROTARY_NONE || p->qk_norm != ATTEND_QK_NORM_NONE; }

attend_turn attend_turn_of(const attend_problem *problem);

/* The part of a turn, from -1/2 to 1/2, by which a pair turns at a position. */
ATTEND_SHARED double attend_turn_fraction(const attend_turn *turn, int pair, int64_t position)
{
    const double turns = (double)position * turn->turns[pair];
    return turns - rint(turns);
}

/* Where the two elements of a pair lie in a head. */
ATTEND_SHARED int attend_turn_first(const attend_turn *turn, int pair) { return turn->interleaved ? 2 * pair : pair; }
ATTEND_SHARED int attend_turn_second(const attend_turn *turn, int pair)
{
    return turn->interleaved ? 2 * pair + 1 : pair + turn->dims / 2;
}

/* The position of row `row` of batch entry b of the tensors: given, or counted within its sequence from the first token on. */
ATTEND_SHARED int64_t attend_token_position(const attend_problem *p, const attend_lists *lists, const int32_t *positions,
                                            int64_t positions_batch, int64_t positions_row, int64_t b, int64_t row)
{
    if (positions) return positions[b * positions_batch + row * positions_row];
    int64_t first = 0;
    if (p->packed) { /* the last sequence that begins at or before the row */
        int64_t low = 0, high = p->batch;
        while (high - low > 1) {
            const int64_t middle = (low + high) / 2;
            if (lists->cu_seqlens_q[middle] <= row)
                low = middle;
            else
                high = middle;
        }
        first = lists->cu_seqlens_q[low];
    } else if (lists->starts_k) {
        first = lists->starts_k[b];
    }
    return p->first_position + (row > first ? row - first : 0);
}

#endif
