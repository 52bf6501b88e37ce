/* Rotary embedding and QK-norm of the heads of Q and K: of a layer's projected ones, and of those that
   callers bring. Angles are counted in turns and in double, so that positions beyond 2^17 lose nothing; only
   the fraction of a turn becomes a cosine and a sine. */
#ifndef ATTEND_SHARED_ROPE_H
#define ATTEND_SHARED_ROPE_H

#include "shared/positions.h"

enum { ATTEND_ROPE_PAIRS = 256 };

/* A problem's rotary embedding and norm; kernels take it by value. */
typedef struct attend_rope {
    int dims; /* of a head that turn, in pairs; 0: none */
    bool interleaved;
    float factor, sine_factor; /* of cosines; of sines: its negative turns the other way */
    attend_qk_norm norm;
    float epsilon;
    double turns[ATTEND_ROPE_PAIRS]; /* of each pair, from one position to the next */
} attend_rope;

/* One tensor to turn, [batch, rows, heads, head_dim]; `to` is `from` where it is turned in place. Absent
   parameters of the norm: 1 and 0. */
typedef struct attend_rope_tensor {
    attend_tensor from, to, weight, bias;
} attend_rope_tensor;

static inline bool attend_has_rope_or_norm(const attend_problem *p)
{
    return p->rotary != ATTEND_ROTARY_NONE || p->qk_norm != ATTEND_QK_NORM_NONE;
}

attend_rope attend_rope_of(const attend_problem *problem);

/* Where the two elements of a pair lie in a head. */
ATTEND_SHARED int attend_rope_first(const attend_rope *rope, int pair)
{
    return rope->interleaved ? 2 * pair : pair;
}
ATTEND_SHARED int attend_rope_second(const attend_rope *rope, int pair)
{
    return rope->interleaved ? 2 * pair + 1 : pair + rope->dims / 2;
}

#endif
