/* Frequencies of sinusoidal positions. */
#include "shared/absolute.h"

#include <math.h>

void attend_sinusoid_frequencies(const attend_problem *p, double *turns)
{
    for (int64_t w = 0; w < attend_sinusoid_count(p); w++)
        turns[w] =
            pow(p->absolute_base, -2 * (double)w / (double)p->hidden_size) / (2 * 3.14159265358979323846);
}
