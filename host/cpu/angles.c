/* Cosines and sines by Taylor series on [-π/4, π/4], in double and without branches, so that compilers
   vectorise the loop: a libm call for each pair costs more than rotating a token's heads. */
#include "cpu/angles.h"

/* Rounds to the nearest integer; |x| < 2^51. rint() would be a call where the instruction set has no such
   instruction. */
static inline double nearest(double x)
{
    const double shift = 0x1.8p52;
    return (x + shift) - shift;
}

void attend_cpu_angles(const double *turns, int64_t count, int64_t position, float cosine_factor,
                       float sine_factor, float *restrict cosines, float *restrict sines)
{
    const double at = (double)position;
    for (int64_t i = 0; i < count; i++) {
        const double whole = at * turns[i], fraction = whole - nearest(whole); /* in turns of 2π */
        const double quarters = nearest(4 * fraction),
                     x = 6.28318530717958647692 * (fraction - 0.25 * quarters), y = x * x;
        /* |x| <= π/4: the omitted terms are below 1e-11 */
        const double sine =
            x *
            (1 + y * (-1. / 6 + y * (1. / 120 + y * (-1. / 5040 + y * (1. / 362880 - y * (1. / 39916800))))));
        const double cosine =
            1 + y * (-0.5 + y * (1. / 24 + y * (-1. / 720 + y * (1. / 40320 + y * (-1. / 3628800 +
                                                                                   y * (1. / 479001600))))));
        /* cosine and sine of `quarters` quarter turns, from -2 to 2, without a branch */
        const double size = quarters < 0 ? -quarters : quarters, c = 1 - size, s = quarters * (2 - size);
        cosines[i] = (float)(cosine_factor * (c * cosine - s * sine));
        sines[i] = (float)(sine_factor * (c * sine + s * cosine));
    }
}
