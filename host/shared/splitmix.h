/* SplitMix64 (Steele, Lea & Flood 2014): pseudo-random numbers that depend on the seed alone, on every
   machine. */
#ifndef ATTEND_TOOL_SPLITMIX_H
#define ATTEND_TOOL_SPLITMIX_H

#include <stdint.h>

#define ATTEND_MIX_STEP UINT64_C(0x9e3779b97f4a7c15)

/* A hash of a counter */
static inline uint64_t attend_mix(uint64_t x)
{
    x += ATTEND_MIX_STEP;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The next number of a sequence */
static inline uint64_t attend_draw(uint64_t *state)
{
    const uint64_t next = attend_mix(*state);
    *state += ATTEND_MIX_STEP;
    return next;
}

#endif
