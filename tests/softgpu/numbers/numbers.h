/* The device's number formats: what a bit pattern means, and which pattern a value rounds to, in every rounding mode and
   saturation that PTX's cvt has. Pure functions. The short formats' nearest-even conversions are inline and free of
   branches, so that loops over a warp's lanes vectorise. Expects the host's default floating-point environment. */
#ifndef SOFTGPU_NUMBERS_NUMBERS_H
#define SOFTGPU_NUMBERS_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef enum sg_round {
    SG_RN,  /* nearest, ties to even */
    SG_RZ,  /* towards zero */
    SG_RM,  /* towards -infinity */
    SG_RP,  /* towards +infinity */
    SG_RNA, /* nearest, ties away from zero */
    SG_RS   /* stochastic: sg_encode_stochastic only */
} sg_round;

enum {
    SG_FTZ = 1,       /* a subnormal fp32 input counts as zero of its sign */
    SG_SATFINITE = 2, /* beyond the largest finite value (infinity too): that value, with the sign */
    SG_RELU = 4,      /* negative becomes +0; NaN stays NaN */
    SG_SAT = 8        /* clamp to [0, 1]; NaN becomes +0 */
};

/* How a format spends its all-ones exponent. */
typedef enum sg_specials {
    SG_IEEE,    /* infinities and NaNs */
    SG_ONE_NAN, /* e4m3: all ones is NaN, there is no infinity */
    SG_FINITE   /* e2m1, e2m3, e3m2: neither */
} sg_specials;

typedef struct sg_format {
    int exponent_bits, mantissa_bits, bias;
    sg_specials specials;
    uint32_t nan; /* the pattern of a NaN result (PTX: canonical) */
    uint32_t max; /* the pattern of the largest finite value */
} sg_format;

extern const sg_format sg_f32, sg_f16, sg_bf16, sg_e4m3, sg_e5m2, sg_e2m1, sg_e2m3, sg_e3m2;
extern const sg_format sg_tf32; /* 19 bits, held in the upper bits of a 32-bit register: sg_encode gives them shifted */

/* The value of a pattern, exactly. Bits above the format's width (below, for tf32) are ignored. */
double sg_decode(const sg_format *format, uint32_t bits);

/* The pattern that a double (so also any float) rounds to, rounding once. Where the format has no NaN, NaN becomes the
   largest finite value; where it has no infinity, overflow without SG_SATFINITE becomes NaN (or, with no NaN, max). */
uint32_t sg_encode(const sg_format *format, double value, sg_round round, unsigned flags);
/* The same for (-1)^negative * significand * 2^exponent: 64-bit integers convert with one rounding. */
uint32_t sg_encode_exact(const sg_format *format, bool negative, uint64_t significand, int exponent, sg_round round,
                         unsigned flags);
/* cvt.rs: the discarded bits plus `random` (random_bits of them, aligned below the last bit kept) decide by their carry. */
uint32_t sg_encode_stochastic(const sg_format *format, float value, uint32_t random, int random_bits, unsigned flags);

/* ue8m0, the scale format: 2^(bits - 127), 0xff is NaN; no sign, no zero. Rounds up (SG_RP) or towards zero (SG_RZ). */
float sg_ue8m0_to_float(uint8_t bits);
uint8_t sg_ue8m0_from_float(float value, sg_round round);

static inline uint32_t sg_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float sg_bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Subnormals to zero of the same sign. */
static inline float sg_ftz(float value) {
    uint32_t bits = sg_float_bits(value);
    return sg_bits_float((bits & 0x7f800000u) ? bits : (bits & 0x80000000u));
}

/* All NaNs become 0x7fffffff, as the device's arithmetic gives them. */
static inline float sg_canonical(float value) {
    uint32_t bits = sg_float_bits(value);
    return sg_bits_float((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffffffu : bits);
}

static inline float sg_f16_to_float(uint16_t half) {
    uint32_t magnitude = half & 0x7fffu;
    uint32_t finite = sg_float_bits(sg_bits_float(magnitude << 13) * 0x1p112f);
    uint32_t special = magnitude > 0x7c00u ? 0x7fffffffu : 0x7f800000u | (uint32_t)(half & 0x8000u) << 16;
    return sg_bits_float(magnitude >= 0x7c00u ? special : finite | (uint32_t)(half & 0x8000u) << 16);
}

static inline uint16_t sg_f16_from_float(float value) {
    uint32_t bits = sg_float_bits(value), magnitude = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    /* Below 2^-14, adding 1/2 lets the FPU round at 2^-24, the step of subnormal halves. */
    uint32_t subnormal = sg_float_bits(sg_bits_float(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t normal = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    uint32_t half = magnitude >= 0x477ff000u ? 0x7c00u : finite;
    return (uint16_t)(magnitude > 0x7f800000u ? 0x7fffu : half | sign);
}

static inline float sg_bf16_to_float(uint16_t bits) { return sg_canonical(sg_bits_float((uint32_t)bits << 16)); }

static inline uint16_t sg_bf16_from_float(float value) {
    uint32_t bits = sg_float_bits(value);
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : rounded);
}

/* What tensor cores see of a 32-bit register given as tf32: the low 13 bits are dropped. */
static inline float sg_tf32_to_float(uint32_t bits) { return sg_canonical(sg_bits_float(bits & 0xffffe000u)); }

/* a + b and a*b + c in double, and a double in fp32, rounded to odd: where the last bit is even and the result inexact, its
   odd neighbour on the exact value's side. Rounding that once more, to two bits less or fewer, is then correct rounding
   of the exact value in any mode (Boldo and Melquiond 2008). */
static inline double sg_add_odd(double a, double b) {
    double sum = a + b, b_part = sum - a; /* Knuth's exact error of a sum */
    double error = (a - (sum - b_part)) + (b - b_part);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    uint64_t odd = (bits & 1) ? bits : (error > 0) == (sum > 0) ? bits + 1 : bits - 1;
    bits = (error < 0 || error > 0) ? odd : bits; /* NaN, from an infinite sum: as it is */
    memcpy(&sum, &bits, sizeof sum);
    return sum;
}
static inline double sg_fma_odd(float a, float b, float c) { return sg_add_odd((double)a * (double)b, (double)c); }
static inline float sg_float_odd(double value) {
    float nearest = (float)value;
    uint32_t bits = sg_float_bits(nearest);
    double error = value - (double)nearest;
    uint32_t odd = (bits & 1) ? bits : (error > 0) == (nearest > 0) ? bits + 1 : bits - 1;
    return sg_bits_float((error < 0 || error > 0) && (bits & 0x7fffffffu) ? odd : bits);
}

/* The fp16 and bf16 arithmetic of PTX, each rounded once to nearest even. Sums and products of 11-bit significands
   survive the detour through fp32 (24 >= 2*11 + 2); the fused forms go through a double rounded to odd. */
static inline uint16_t sg_f16_add(uint16_t a, uint16_t b) {
    return sg_f16_from_float(sg_f16_to_float(a) + sg_f16_to_float(b));
}
static inline uint16_t sg_f16_mul(uint16_t a, uint16_t b) {
    return sg_f16_from_float(sg_f16_to_float(a) * sg_f16_to_float(b));
}
static inline uint16_t sg_bf16_add(uint16_t a, uint16_t b) {
    return sg_bf16_from_float(sg_bf16_to_float(a) + sg_bf16_to_float(b));
}
static inline uint16_t sg_bf16_mul(uint16_t a, uint16_t b) {
    return sg_bf16_from_float(sg_bf16_to_float(a) * sg_bf16_to_float(b));
}
static inline uint16_t sg_f16_fma(uint16_t a, uint16_t b, uint16_t c) {
    double exact = sg_fma_odd(sg_f16_to_float(a), sg_f16_to_float(b), sg_f16_to_float(c));
    return sg_f16_from_float(sg_float_odd(exact));
}
static inline uint16_t sg_bf16_fma(uint16_t a, uint16_t b, uint16_t c) {
    double exact = sg_fma_odd(sg_bf16_to_float(a), sg_bf16_to_float(b), sg_bf16_to_float(c));
    return sg_bf16_from_float(sg_float_odd(exact));
}

#endif
