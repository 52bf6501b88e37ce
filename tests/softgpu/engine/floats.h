/* What the floating-point rows share: rounding modes, flushing and clamping, extremes, and the approximated functions. Everything but
   the rounding is free of branches, so that loops over lanes vectorise. */
#ifndef SOFTGPU_FLOATS_H
#define SOFTGPU_FLOATS_H

#include "lanes.h"

#include <fenv.h>

/* The host's rounding mode for an instruction's; set it back to FE_TONEAREST afterwards. */
static inline void set_rounding(const insn *i)
{
    static const int modes[] = {[R_NONE] = FE_TONEAREST, [R_RN] = FE_TONEAREST, [R_RZ] = FE_TOWARDZERO, [R_RM] = FE_DOWNWARD,
                                [R_RP] = FE_UPWARD};
    fesetround(i->round <= R_RP ? modes[i->round] : FE_TONEAREST);
}

/* For rows with rounding words: the four of arithmetic only. */
static inline bool rounding_known(insn *i, char *error, size_t bytes)
{
    (void)error, (void)bytes;
    return i->round <= R_RP;
}

/* To [0, 1]; NaN becomes 0. */
PART f32 saturated(f32 x) { return x > 0 ? (x > 1 ? 1 : x) : 0; }
PART f32 flushed_if(bool flush, f32 x) { return flush ? sg_ftz(x) : x; }
/* What flags make of a result. */
PART f32 result_of(uint32_t flags, f32 x)
{
    x = sg_canonical(flushed_if(flags & F_FTZ, x));
    return flags & F_SAT ? saturated(x) : x;
}

/* The extremes of PTX: a number wins over NaN, -0 is less than +0. Equal values differ at most in their signs. */
PART f32 least_f32(f32 a, f32 b)
{
    f32 same = sg_bits_float(sg_float_bits(a) | sg_float_bits(b)), less = a < b ? a : b;
    f32 known = a == b ? same : less;
    return sg_canonical(b != b ? a : known);
}
PART f32 most_f32(f32 a, f32 b)
{
    f32 same = sg_bits_float(sg_float_bits(a) & sg_float_bits(b)), more = a > b ? a : b;
    f32 known = a == b ? same : more;
    return sg_canonical(b != b ? a : known);
}

/* min and max with their words: .NaN, .xorsign.abs; inputs as they are to be compared. */
PART f32 extreme_f32(bool largest, uint32_t flags, f32 a, f32 b)
{
    u32 sign = (sg_float_bits(a) ^ sg_float_bits(b)) & 0x80000000u;
    if (flags & F_XORSIGN) a = __builtin_fabsf(a), b = __builtin_fabsf(b);
    f32 x = largest ? most_f32(a, b) : least_f32(a, b);
    if ((flags & F_NAN) && (a != a || b != b)) x = sg_bits_float(0x7fffffff);
    return flags & F_XORSIGN && x == x ? sg_bits_float(sg_float_bits(x) | sign) : x;
}

/* 2^x to 2^-37, exactly for integers: the power's Taylor series around the nearest integer, which goes into the exponent. x is clamped to
   where floats are neither all zero nor all infinite. */
PART f64 power_of_two(f64 x)
{
    const f64 shift = 0x1.8p52;
    x = x < -1000 ? -1000 : x;
    x = x > 1000 ? 1000 : x;
    f64 moved = x + shift, f = x - (moved - shift);
    u64 bits;
    memcpy(&bits, &moved, sizeof bits);
    bits = (bits << 52) + (UINT64_C(1023) << 52);
    f64 scale;
    memcpy(&scale, &bits, sizeof scale);
    f64 p = 0x1.b5253d395e7c4p-24;
    p = p * f + 0x1.62c0223a5c824p-20;
    p = p * f + 0x1.ffcbfc588b0c7p-17;
    p = p * f + 0x1.430912f86c787p-13;
    p = p * f + 0x1.5d87fe78a6731p-10;
    p = p * f + 0x1.3b2ab6fba4e77p-7;
    p = p * f + 0x1.c6b08d704a0c0p-5;
    p = p * f + 0x1.ebfbdff82c58fp-3;
    p = p * f + 0x1.62e42fefa39efp-1;
    return (p * f + 1) * scale;
}

PART f32 exp2_f32(f32 x) { return sg_canonical((f32)power_of_two((f64)x)); }

/* 1 - 2/(e^2x + 1); near zero that cancels, but there tanh x is x. */
PART f32 tanh_f32(f32 x)
{
    f64 far = 1 - 2 / (power_of_two((f64)x * 0x1.71547652b82fep1) + 1);
    return sg_canonical(__builtin_fabsf(x) < 0x1p-12f ? x : (f32)far);
}

#endif
