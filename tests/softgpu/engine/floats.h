/* What the floating-point rows share: rounding modes, flushing and clamping, extremes, and the approximated functions. Everything but
   the rounding is free of branches, so that loops over lanes vectorise. */
#ifndef SOFTGPU_ENGINE_FLOATS_H
#define SOFTGPU_ENGINE_FLOATS_H

#include "engine/lanes.h"

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

/* 2^x within 0.8 ulp and exactly for integers: the Taylor series around the nearest integer, whose power is multiplied in by halves so that
   subnormal results are rounded once. x is clamped to where floats are neither all zero nor all infinite. */
PART f32 exp2_f32(f32 x)
{
    const f32 shift = 0x1.8p23f;
    x = x < -160 ? -160 : x;
    x = x > 160 ? 160 : x;
    const f32 moved = x + shift, f = x - (moved - shift);
    const u32 n = sg_float_bits(moved) - sg_float_bits(shift), half = (u32)((s32)n >> 1);
    f32 p = 0x1.ffcbfcp-17f;
    p = p * f + 0x1.430912p-13f;
    p = p * f + 0x1.5d87fep-10f;
    p = p * f + 0x1.3b2ab6p-7f;
    p = p * f + 0x1.c6b08ep-5f;
    p = p * f + 0x1.ebfbep-3f;
    p = p * f + 0x1.62e43p-1f;
    p = p * f + 1;
    return sg_canonical(p * sg_bits_float((half + 127) << 23) * sg_bits_float((n - half + 127) << 23));
}

/* 1 - 2/(e^2x + 1) within 2^-17; near zero that cancels, but there the series of two terms is closer. */
PART f32 tanh_f32(f32 x)
{
    const f32 far = 1 - 2 / (exp2_f32(x * 0x1.715476p1f) + 1), near = x * (1 - x * x * 0x1.555556p-2f);
    return sg_canonical(__builtin_fabsf(x) < 0x1p-6f ? near : far);
}

#endif
