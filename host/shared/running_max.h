/* The running max of a row, as sums and states carry it: an exponent of 2, near the largest score times log2
   e. From 2^29 on scores differ by 32 or more, so that weights relative to the largest are 1 or next to 0,
   and the running max only has to say which score that is. There it is twice the score: exact, and farther
   from 0 than any usual exponent. A product with log2 e would be rounded by more than any weight survives,
   and overflow. The last two binades share one. */
#ifndef ATTEND_SHARED_RUNNING_MAX_H
#define ATTEND_SHARED_RUNNING_MAX_H

#include "shared/visibility.h"

#include <float.h>
#include <math.h>

#define ATTEND_HUGE_SCORE 0x1p29f /* huge scores' least magnitude; twice that of their running max */
#define ATTEND_TOP_SCORE  0x1p126f

/* Whether a running max is that of a huge score; so may be that of no key. */
ATTEND_SHARED bool attend_max_is_huge(float max) { return fabsf(max) >= 2 * ATTEND_HUGE_SCORE; }

/* The running max of a huge score */
ATTEND_SHARED float attend_max_of_huge(float score)
{
    if (fabsf(score) < ATTEND_TOP_SCORE) return 2 * score;
    return copysignf(1.5f * ATTEND_TOP_SCORE, score) + score / 2;
}

/* The huge score of a running max */
ATTEND_SHARED float attend_score_of_huge(float max)
{
    if (fabsf(max) < 2 * ATTEND_TOP_SCORE) return max / 2;
    return copysignf(fminf(2 * (fabsf(max) - 1.5f * ATTEND_TOP_SCORE), FLT_MAX), max);
}

/* What a running max says of the LSE */
ATTEND_SHARED double attend_score_of_max(float max)
{
    return attend_max_is_huge(max) && !isinf(max) ? attend_score_of_huge(max) : max * 0x1.62e42fefa39efp-1;
}

#endif
