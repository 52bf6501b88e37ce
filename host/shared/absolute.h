/* Absolute positions: what a layer adds to a token of x for its place. Plain C, also compiled by nvcc. */
#ifndef ATTEND_SHARED_ABSOLUTE_H
#define ATTEND_SHARED_ABSOLUTE_H

#include "shared/positions.h"

static inline bool attend_has_sinusoids(const attend_problem *p)
{
    return p->absolute == ATTEND_ABSOLUTE_SINUSOIDAL || p->absolute == ATTEND_ABSOLUTE_SINUSOIDAL_HALVES;
}

/* Sinusoids of a problem, each a sine and, but for the last of an odd hidden_size, a cosine; 0 without. */
static inline int64_t attend_sinusoid_count(const attend_problem *p)
{
    return attend_has_sinusoids(p) ? p->hidden_size / 2 + p->hidden_size % 2 : 0;
}

/* Their turns from one position to the next, in double as rotary's. */
void attend_sinusoid_frequencies(const attend_problem *problem, double *turns);

/* Where wave w's sine and cosine lie in a row. */
ATTEND_SHARED int64_t attend_sine_column(attend_absolute kind, int64_t sinusoid)
{
    return kind == ATTEND_ABSOLUTE_SINUSOIDAL ? 2 * sinusoid : sinusoid;
}
ATTEND_SHARED int64_t attend_cosine_column(attend_absolute kind, int64_t sinusoids, int64_t sinusoid)
{
    return kind == ATTEND_ABSOLUTE_SINUSOIDAL ? 2 * sinusoid + 1 : sinusoids + sinusoid;
}

/* A learned position outside the table: an error for those that are given on the host, and for those that are
   counted. */
attend_status attend_absolute_check(const attend_problem *problem, const attend_row_positions *row_positions);

#endif
