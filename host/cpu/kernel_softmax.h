/* Softmax in base 2, by the online rule of Milakov & Gimelshein (2018). The running max m of a row is an
   integer at or above its scores (or below them by at most SLACK), so that every rescaling is by a power of
   two, which is exact. */
#ifndef ATTEND_CPU_KERNEL_SOFTMAX_H
#define ATTEND_CPU_KERNEL_SOFTMAX_H

#include "cpu/vector.h"
#include "shared/running_max.h"

#include <math.h>

/* A row's output is rescaled only when a score exceeds m by more than this: weights up to 2^8 do no harm in
   fp32. */
#define SLACK 8.0f
/* Exponents below this give a weight of 0; the true one is under 2^-119 of the largest. */
#define LEAST -127.0f

/* Adding and subtracting it rounds |x| < 2^22 to an integer, which the sum holds in its low bits. */
#define ROUNDER 0x1.8p23f

/* The constants of weights 2^(score·unit - m), m the integer running max. |m| < 2^21 takes part in `shift`; a
   larger m is subtracted from scores beforehand. */
typedef struct weigher {
    vf far;   /* factor of scores beforehand, to exponents; 1 for a small m */
    vf base;  /* subtracted from them then; 0 for a small m */
    vf unit;  /* factor from them to exponents x */
    vf least; /* exponents up to this have weight 0 */
    /* ROUNDER - m: x + shift holds n, the exponent rounded to an integer, less m, in the low bits */
    vf shift;
} weigher;

/* running_max: an integer, at most SLACK below the exponents. A large one would push `shift` out of its
   binade, so it is subtracted beforehand. */
ALWAYS_INLINE weigher weigher_of(vf running_max, vf unit)
{
    vi usual = (running_max < splat(0x1p21f)) & (running_max > splat(-0x1p21f));
    vf near = choose(usual, running_max, splat(0)), one = splat(1);
    return (weigher){choose(usual, one, unit), choose(usual, splat(0), running_max), choose(usual, unit, one),
                     near + splat(LEAST), splat(ROUNDER) - near};
}

ALWAYS_INLINE vf magnitude(vf x) { return (vf)((vi)x & splat_int(INT32_MAX)); }

ALWAYS_INLINE vi max_is_huge(vf m) { return magnitude(m) >= splat(2 * ATTEND_HUGE_SCORE); }

/* A score's exponent of 2 or, if it is huge, its running max (shared/running_max.h). Never decreases as
   scores increase. */
ALWAYS_INLINE vf exponent_of(vf score, vf unit)
{
    const vf natural = score * (unit * splat(0x1.62e430p-1f)), size = magnitude(natural);
    const vi sign = (vi)natural & splat_int(INT32_MIN);
    vf top = (vf)((vi)splat(1.5f * ATTEND_TOP_SCORE) | sign) + natural * splat(0.5f);
    vf huge = choose(size < splat(ATTEND_TOP_SCORE), natural + natural, top);
    return choose(size >= splat(ATTEND_HUGE_SCORE), huge, score * unit);
}

/* Subtracts a large m from the scores of keys [from, to), `step` apart. From a huge one each exponent is
   rounded first, as the max was: a fused operation would leave the max's rounding error, which may exceed any
   exponent. */
ALWAYS_INLINE void subtract_base(float *scores, int64_t step, int64_t from, int64_t to, const weigher *w)
{
    const vi huge = max_is_huge(w->base);
    if (!any(w->base != splat(0))) return;
    for (int64_t j = from; j < to; j++) {
        const vf score = load(scores + j * step);
        vf x = multiply_into(-w->base, score, w->far);
        if (any(huge)) x = choose(huge, exponent_of(score, w->far) - w->base, x);
        store(scores + j * step, x);
    }
}

/* The weight of a score from which base was subtracted. n and r = x - (n + m), |r| <= 1/2, are exact; then a
   polynomial gives 2^r (relative error 2^-25.5), and n is added to its exponent. `least` and below give
   exactly 0; a NaN stays NaN. */
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

/* 2^x for x <= 2^6; LEAST and below give exactly 0; a NaN stays NaN. */
ALWAYS_INLINE vf exp2_vector(vf x)
{
    const weigher plain = {splat(1), splat(0), splat(1), splat(LEAST), splat(ROUNDER)};
    return weigh(x, &plain);
}

/* 2^x for integers x <= 0, down to 2·LEAST in two factors, since sums of weights up to 2^SLACK are multiplied
   by it; for x = -infinity: 0. */
ALWAYS_INLINE vf power_of_two(vf x)
{
    vf whole = maximum(splat(2 * LEAST), x), half = (whole * splat(0.5f) + splat(ROUNDER)) - splat(ROUNDER);
    vi a = (vi)(half + splat(ROUNDER)) << 23, b = (vi)(whole - half + splat(ROUNDER)) << 23;
    return (vf)(a + splat_int(127 << 23)) * (vf)(b + splat_int(127 << 23));
}

/* The smallest integer at or above x */
ALWAYS_INLINE vf ceiling(vf x)
{
    vf n = (x + splat(ROUNDER)) - splat(ROUNDER);
    n = choose(n < x, n + splat(1), n);
    return choose((x < splat(0x1p22f)) & (x > splat(-0x1p22f)), n, x);
}

/* Whether scores up to `top` raise the running max; of a huge one, whether they may. */
ALWAYS_INLINE vi may_raise(vf m, vf top, vf unit)
{
    return (top * unit > m + splat(SLACK)) | (max_is_huge(m) & (top > splat(-INFINITY)));
}

/* The running max after scores up to `top`, and in *factor the factor that rescales earlier sums. */
ALWAYS_INLINE vf raise(vf m, vf top, vf unit, vf *factor)
{
    vf exponent = exponent_of(top, unit);
    vi grows = exponent > m + splat(SLACK);
    vf raised = choose(grows, ceiling(exponent), m);
    *factor = choose(grows, power_of_two(m - raised), splat(1));
    return raised;
}

/* m, or 0 where m is -infinity: a row without keys so far may subtract any finite number. */
ALWAYS_INLINE vf finite_max(vf m) { return choose(m == splat(-INFINITY), splat(0), m); }

/* The factors of a row's total and of a span's partial in their merged sums, and the merged running max.
   Empty sums have m = -infinity. */
ALWAYS_INLINE vf merge_maxima(vf total, vf part, vf *total_factor, vf *part_factor)
{
    vf m = maximum(total, part), base = finite_max(m);
    *total_factor = power_of_two(total - base);
    *part_factor = power_of_two(part - base);
    return m;
}

ALWAYS_INLINE vf merge_sums(vf total, vf total_factor, vf part, vf part_factor)
{
    return multiply_into(part * part_factor, total, total_factor);
}

#endif
