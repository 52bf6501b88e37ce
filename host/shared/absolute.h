/* Absolute positions, which a layer adds to x. Plain C, also compiled by nvcc. */
#ifndef ATTEND_SHARED_ABSOLUTE_H
#define ATTEND_SHARED_ABSOLUTE_H

#include "shared/positions.h"

static inline bool attend_has_sinusoids(const attend_problem *p)
{
    return p->absolute == ATTEND_ABSOLUTE_SINUSOIDAL || p->absolute == ATTEND_ABSOLUTE_SINUSOIDAL_HALVES;
}

/* The number of sinusoids of a problem: each is a sine and a cosine, but the last of an odd hidden_size a
   sine alone. 0 without sinusoidal positions. */
static inline int64_t attend_sinusoid_count(const attend_problem *p)
{
    return attend_has_sinusoids(p) ? p->hidden_size / 2 + p->hidden_size % 2 : 0;
}

/* Their frequencies, in turns of 2π a position; in double, as those of rotary embedding. */
void attend_sinusoid_frequencies(const attend_problem *problem, double *turns);

/* The columns of a sinusoid's sine and cosine in a row. */
ATTEND_SHARED int64_t attend_sine_column(attend_absolute kind, int64_t sinusoid)
{
    return kind == ATTEND_ABSOLUTE_SINUSOIDAL ? 2 * sinusoid : sinusoid;
}
ATTEND_SHARED int64_t attend_cosine_column(attend_absolute kind, int64_t sinusoids, int64_t sinusoid)
{
    return kind == ATTEND_ABSOLUTE_SINUSOIDAL ? 2 * sinusoid + 1 : sinusoids + sinusoid;
}

#endif
