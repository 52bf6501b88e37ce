/* fp16 and bf16 in plain C, the same bits on every machine: round to nearest even, subnormals, infinities and
   NaN kept. */
#ifndef ATTEND_SHARED_FLOAT16_H
#define ATTEND_SHARED_FLOAT16_H

#include <attend/tensor.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t attend_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float attend_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float attend_from_bf16(uint16_t h) { return attend_bits_float((uint32_t)h << 16); }

static inline uint16_t attend_to_bf16(float x)
{
    uint32_t bits = attend_float_bits(x);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float attend_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) return attend_bits_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    if (rest >= 0x400) return attend_bits_float(sign | ((rest << 13) + 0x38000000));
    float subnormal = (float)rest * 0x1p-24f;
    return sign ? -subnormal : subnormal;
}

static inline uint16_t attend_to_f16(float x)
{
    uint32_t bits = attend_float_bits(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (rest >> 13 & 0x3ff));
    if (rest >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and up rounds to infinity */
    /* below 2^-14: adding 0.5 leaves the subnormal, rounded, in the low mantissa bits */
    if (rest < 0x38800000)
        return (uint16_t)(sign | (attend_float_bits(attend_bits_float(rest) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | (rest + 0xfff + (rest >> 13 & 1) - 0x38000000) >> 13);
}

/* The bits of either 16-bit dtype. */
static inline float attend_from_bits16(attend_dtype dtype, uint16_t bits)
{
    return dtype == ATTEND_BF16 ? attend_from_bf16(bits) : attend_from_f16(bits);
}
static inline uint16_t attend_to_bits16(attend_dtype dtype, float x)
{
    return dtype == ATTEND_BF16 ? attend_to_bf16(x) : attend_to_f16(x);
}

/* Rounds fp64 to fp32 such that rounding the result to fp16 or bf16 gives the correctly rounded value:
   round-to-odd, which avoids double rounding. */
static inline float attend_double_to_odd(double x)
{
    float f = (float)x;
    if (x != x || (double)f == x) return f;
    uint32_t bits = attend_float_bits(f);
    if (bits & 1) return f;
    float towards_zero = ((double)f > x) == (x > 0) ? attend_bits_float(bits - 1) : f;
    return attend_bits_float(attend_float_bits(towards_zero) | 1);
}

#endif
