/* Decoding and encoding every format from one description of its bits. */
#include "numbers/numbers.h"

#include <math.h>

const sg_format sg_f32 = {8, 23, 127, SG_IEEE, 0x7fffffff, 0x7f7fffff};
const sg_format sg_tf32 = {8, 10, 127, SG_IEEE, 0x7fffffff, 0x7f7fe000};
const sg_format sg_f16 = {5, 10, 15, SG_IEEE, 0x7fff, 0x7bff};
const sg_format sg_bf16 = {8, 7, 127, SG_IEEE, 0x7fff, 0x7f7f};
const sg_format sg_e4m3 = {4, 3, 7, SG_ONE_NAN, 0x7f, 0x7e};
const sg_format sg_e5m2 = {5, 2, 15, SG_IEEE, 0x7f, 0x7b};
const sg_format sg_e2m1 = {2, 1, 1, SG_FINITE, 0x7, 0x7};
const sg_format sg_e2m3 = {2, 3, 1, SG_FINITE, 0x1f, 0x1f};
const sg_format sg_e3m2 = {3, 2, 3, SG_FINITE, 0x1f, 0x1f};

/* Where the format's lowest bit lies in its register: tf32 fills a 32-bit register from the top. */
static int low_bit(const sg_format *format) { return format == &sg_tf32 ? 13 : 0; }

static uint32_t sign_bit(const sg_format *format) {
    return 1u << (format->exponent_bits + format->mantissa_bits + low_bit(format));
}

double sg_decode(const sg_format *format, uint32_t bits) {
    bool negative = bits & sign_bit(format);
    uint32_t magnitude = (bits & (sign_bit(format) - 1)) >> low_bit(format);
    int exponent = (int)(magnitude >> format->mantissa_bits);
    uint32_t mantissa = magnitude & ((1u << format->mantissa_bits) - 1);
    bool top = exponent == (1 << format->exponent_bits) - 1;
    double value;
    if (format->specials == SG_IEEE && top)
        value = mantissa ? (double)NAN : (double)INFINITY;
    else if (format->specials == SG_ONE_NAN && magnitude == format->nan)
        value = (double)NAN;
    else if (exponent == 0)
        value = ldexp(mantissa, 1 - format->bias - format->mantissa_bits);
    else
        value = ldexp(mantissa | 1u << format->mantissa_bits, exponent - format->bias - format->mantissa_bits);
    return negative ? -value : value;
}

/* Whether a magnitude is to be rounded up, given its last kept bit and the discarded ones: half is the first of them. */
static bool rounds_up(sg_round round, bool negative, bool odd, bool half, bool rest) {
    switch (round) {
    case SG_RN: return half && (rest || odd);
    case SG_RNA: return half;
    case SG_RM: return negative && (half || rest);
    case SG_RP: return !negative && (half || rest);
    default: return false;
    }
}

/* What becomes of a magnitude beyond the largest finite value. */
static uint32_t overflow(const sg_format *format, bool negative, sg_round round, unsigned flags) {
    bool away = round == SG_RN || round == SG_RNA || (round == SG_RP && !negative) || (round == SG_RM && negative);
    uint32_t infinity = format->max + (1u << low_bit(format));
    if ((flags & SG_SATFINITE) || !away || format->specials == SG_FINITE) return format->max;
    return format->specials == SG_IEEE ? infinity : format->nan;
}

/* The magnitude's pattern as an integer in steps of the format, which carry from the mantissa into the exponent. */
static uint32_t encode_magnitude(const sg_format *format, bool negative, uint64_t significand, int exponent,
                                 sg_round round, unsigned flags) {
    int width = 64 - __builtin_clzll(significand);
    int top = width - 1 + exponent; /* 2^top <= value < 2^(top + 1) */
    int least = 1 - format->bias;
    int step = (top < least ? least : top) - format->mantissa_bits; /* exponent of the last bit kept */
    int discard = step - exponent;
    uint64_t kept;
    if (discard <= 0) {
        kept = significand << -discard;
    } else {
        bool half = discard <= 64 && (significand >> (discard - 1) & 1);
        bool rest = discard > 64 || (significand & ((UINT64_C(1) << (discard - 1)) - 1)) != 0;
        kept = discard < 64 ? significand >> discard : 0;
        kept += rounds_up(round, negative, kept & 1, half, rest);
    }
    /* A normal number's leading bit adds one to the biased exponent, a subnormal that rounded up to 2^least too. */
    uint64_t biased = (uint64_t)(step + format->mantissa_bits - least);
    uint64_t pattern = ((biased << format->mantissa_bits) + kept) << low_bit(format);
    return pattern > format->max ? overflow(format, negative, round, flags) : (uint32_t)pattern;
}

uint32_t sg_encode_exact(const sg_format *format, bool negative, uint64_t significand, int exponent, sg_round round,
                         unsigned flags) {
    if (negative && (flags & (SG_RELU | SG_SAT))) return 0;
    uint32_t sign = negative ? sign_bit(format) : 0;
    if (!significand) return sign;
    if ((flags & SG_SAT) && ldexp((double)significand, exponent) >= 1) significand = 1, exponent = 0;
    return sign | encode_magnitude(format, negative, significand, exponent, round, flags);
}

uint32_t sg_encode(const sg_format *format, double value, sg_round round, unsigned flags) {
    bool negative = signbit(value);
    if (isnan(value)) return flags & SG_SAT ? 0 : format->nan;
    if (isinf(value)) {
        if (negative && (flags & (SG_RELU | SG_SAT))) return 0;
        if (flags & SG_SAT) return sg_encode(format, 1, round, 0);
        return overflow(format, false, SG_RN, flags) | (negative ? sign_bit(format) : 0);
    }
    if ((flags & SG_FTZ) && fabs(value) < 0x1p-126) value = negative ? -0.0 : 0.0;
    int exponent;
    double fraction = frexp(fabs(value), &exponent);
    return sg_encode_exact(format, negative, (uint64_t)ldexp(fraction, 53), exponent - 53, round, flags);
}

uint32_t sg_encode_stochastic(const sg_format *format, float value, uint32_t random, int random_bits, unsigned flags) {
    if (!isfinite(value) || value == 0) return sg_encode(format, (double)value, SG_RZ, flags);
    int exponent;
    frexp((double)value, &exponent);
    int least = 1 - format->bias;
    int step = (exponent - 1 < least ? least : exponent - 1) - format->mantissa_bits;
    double noise = ldexp((double)(random & (uint32_t)((UINT64_C(1) << random_bits) - 1)), step - random_bits);
    double moved = value < 0 ? (double)value - noise : (double)value + noise;
    return sg_encode(format, moved, SG_RZ, flags);
}

float sg_ue8m0_to_float(uint8_t bits) {
    return bits == 0xff ? sg_bits_float(0x7fffffffu) : (float)ldexp(1.0, bits - 127);
}

uint8_t sg_ue8m0_from_float(float value, sg_round round) {
    if (isnan(value)) return 0xff;
    if (isinf(value)) return 0xfe;
    if (value == 0) return 0;
    int exponent;
    float fraction = frexpf(fabsf(value), &exponent);
    int biased = exponent - 1 + 127 + (round == SG_RP && fraction != 0.5f);
    return (uint8_t)(biased < 0 ? 0 : biased > 0xfe ? 0xfe : biased);
}
