/* Cosines and sines of the angles of one position: position times frequency. */
#ifndef ATTEND_CPU_ANGLES_H
#define ATTEND_CPU_ANGLES_H

#include <stdint.h>

/* cosines[i] = cosine_factor·cos(2π·position·turns[i]), sines[i] = sine_factor·sin(…): the product in double,
   the results within one unit in the last place of fp32. */
void attend_cpu_angles(const double *turns, int64_t count, int64_t position, float cosine_factor,
                       float sine_factor, float *cosines, float *sines);

#endif
