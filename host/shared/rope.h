/* Rotary embedding and QK-norm of the heads of Q and K: of a layer's projections, and of a caller's tensors.
   Angles are counted in turns of 2π and in double, so that positions beyond 2^17 lose no accuracy; only the
   fraction of a turn becomes a cosine and a sine. */
#ifndef ATTEND_SHARED_ROPE_H
#define ATTEND_SHARED_ROPE_H

#include "shared/positions.h"

enum { ATTEND_ROPE_PAIRS = 256 };

/* A problem's rotary embedding and norm; passed to kernels by value. */
typedef struct attend_rope {
    int dims; /* leading elements of a head that are rotated, in pairs; 0: none */
    bool interleaved;
    float factor, sine_factor; /* of cosines; of sines: a negative one inverts the rotation */
    attend_qk_norm norm;
    float epsilon;
    double turns[ATTEND_ROPE_PAIRS]; /* frequency of each pair, in turns a position */
} attend_rope;

/* One tensor to normalise and rotate, [batch, rows, heads, head_dim]; `to` equals `from` in place. An absent
   weight is 1, an absent bias 0. */
typedef struct attend_rope_tensor {
    attend_tensor from, to, weight, bias;
} attend_rope_tensor;

static inline bool attend_has_rope_or_norm(const attend_problem *p)
{
    return p->rotary != ATTEND_ROTARY_NONE || p->qk_norm != ATTEND_QK_NORM_NONE;
}

attend_rope attend_rope_of(const attend_problem *problem);

/* The two elements of a pair within a head. */
ATTEND_SHARED int attend_rope_first(const attend_rope *rope, int pair)
{
    return rope->interleaved ? 2 * pair : pair;
}
ATTEND_SHARED int attend_rope_second(const attend_rope *rope, int pair)
{
    return rope->interleaved ? 2 * pair + 1 : pair + rope->dims / 2;
}

#endif
