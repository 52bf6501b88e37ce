/* Softmax in base 2, by the online rule of Milakov & Gimelshein (2018). The reference m of a row is an
   integer at or above its scores (or below them by at most SLACK): every rescaling is by a power of two,
   which is exact. */
#ifndef ATTEND_CPU_KERNEL_SOFTMAX_H
#define ATTEND_CPU_KERNEL_SOFTMAX_H

#include "cpu/vector.h"

#include <math.h>

/* A row's output is rescaled only when a score passes m by more than this: weights up to 2^8 do no harm in
   fp32. */
#define SLACK 8.0f
/* Below this a weight is 0; the true one is under 2^-119 of the largest. */
#define LEAST -127.0f

/* Adding and subtracting it rounds |x| < 2^22 to an integer, which is then in the low bits. */
#define ROUNDER 0x1.8p23f

/* How scores become weights, 2^(score·unit - reference). */
typedef struct weigher {
    vf far;   /* what scores are multiplied by beforehand; 1 for a usual reference */
    vf base;  /* what is then taken from them; 0 for a usual reference */
    vf unit;  /* what they are multiplied by to become exponents x */
    vf least; /* exponents up to this weigh 0 */
    /* ROUNDER less the reference: x + shift is n = the exponent's integer less the reference, in the low bits
       */
    vf shift;
} weigher;

/* reference: an integer, at most SLACK below the exponents. A large one would push the shift out of its
   binade, so it goes beforehand. */
ALWAYS_INLINE weigher weigher_of(vf reference, vf unit)
{
    vi usual = (reference < splat(0x1p21f)) & (reference > splat(-0x1p21f));
    vf near = choose(usual, reference, splat(0)), one = splat(1);
    return (weigher){choose(usual, one, unit), choose(usual, splat(0), reference), choose(usual, unit, one),
                     near + splat(LEAST), splat(ROUNDER) - near};
}

ALWAYS_INLINE vf without_base(vf score, const weigher *w) { return multiply_into(-w->base, score, w->far); }

/* The weight of a score without its base. n and r = x - (n + reference), |r| <= 1/2, are exact; then a
   polynomial for 2^r (relative error 2^-25.5), and n added to its exponent. `least` and below give exactly 0;
   a NaN stays. */
ALWAYS_INLINE vf weigh(vf score, const weigher *w)
{
    vf x = maximum(w->least, score * w->unit);
    vf shifted = x + w->shift;
    vf r = x - (shifted - w->shift);
    vf y = splat(0x1.470b48p-13f);
    y = y * r + splat(0x1.5f7276p-10f);
    y = y * r + splat(0x1.3b270ep-7f);
    y = y * r + splat(0x1.c6ae72p-5f);
    y = y * r + splat(0x1.ebfbe2p-3f);
    y = y * r + splat(0x1.62e432p-1f);
    y = y * r + splat(1);
    return (vf)((vi)y + ((vi)shifted << 23));
}

/* 2^x for x <= 2^6; LEAST and below give exactly 0; a NaN stays. */
ALWAYS_INLINE vf exp2_vector(vf x)
{
    const weigher plain = {splat(1), splat(0), splat(1), splat(LEAST), splat(ROUNDER)};
    return weigh(x, &plain);
}

/* 2^x for integers x <= 0, as exact as floats go down; for x = -infinity: 0. Sums of weights up to 2^SLACK
   may wait to be multiplied. */
ALWAYS_INLINE vf power_of_two(vf x)
{
    vf whole = maximum(splat(2 * LEAST), x), half = (whole * splat(0.5f) + splat(ROUNDER)) - splat(ROUNDER);
    vi a = (vi)(half + splat(ROUNDER)) << 23, b = (vi)(whole - half + splat(ROUNDER)) << 23;
    return (vf)(a + splat_int(127 << 23)) * (vf)(b + splat_int(127 << 23));
}

/* The least integer at or above x. */
ALWAYS_INLINE vf ceiling(vf x)
{
    vf n = (x + splat(ROUNDER)) - splat(ROUNDER);
    n = choose(n < x, n + splat(1), n);
    return choose((x < splat(0x1p22f)) & (x > splat(-0x1p22f)), n, x);
}

/* The reference after scores up to `top`, and in *factor what it does to all that was summed under the old
   one. */
ALWAYS_INLINE vf raise(vf m, vf top, vf *factor)
{
    vi grows = top > m + splat(SLACK);
    vf raised = choose(grows, ceiling(top), m);
    *factor = choose(grows, power_of_two(m - raised), splat(1));
    return raised;
}

/* What scores are measured from: a row that has seen nothing yet has m = -infinity, and any finite reference
   will do. */
ALWAYS_INLINE vf reference_of(vf m) { return choose(m == splat(-INFINITY), splat(0), m); }

/* Factors by which a row's total and a span's part enter their merger, and its reference. Empty parts have m
   = -infinity. */
ALWAYS_INLINE vf merge_references(vf total, vf part, vf *total_factor, vf *part_factor)
{
    vf m = maximum(total, part), base = reference_of(m);
    *total_factor = power_of_two(total - base);
    *part_factor = power_of_two(part - base);
    return m;
}

ALWAYS_INLINE vf merge_sums(vf total, vf total_factor, vf part, vf part_factor)
{
    return multiply_into(part * part_factor, total, total_factor);
}

#endif
