/* fp32 arithmetic with its rounding modes, .ftz and .sat; pairs of fp32. The plain and the flushing forms in round-to-nearest have loops
   of their own. */
#include "engine/floats.h"

/* ---- arithmetic ---------------------------------------------------------------------------------------------------------- */

/* The expression is one of a, b, c: the first, second and last source. */
#define LOOP(in, out, expression)                                                                                      \
    SET_LANES(d_, ({                                                                                                   \
                  const f32 a = in(a_[l]), b = in(b_[l]), c = in(c_[l]);                                               \
                  (void)b, (void)c;                                                                                    \
                  out(expression);                                                                                     \
              }))
#define FLUSH_RESULT(x)  sg_canonical(sg_ftz(x))
#define IN_AS_FLAGGED(x) flushed_if(i->flags & F_FTZ, x)
#define AS_FLAGGED(x)    result_of(i->flags, x)
#define ARITHMETIC(name, expression)                                                                                   \
    static __attribute__((noinline)) void name##_rounded(warp *w, const insn *i, uint32_t mask)                        \
    {                                                                                                                  \
        f32 *d_ = lanes_f32(w, &i->d[0]);                                                                              \
        const f32 *a_ = lanes_f32(w, &i->s[0]), *b_ = lanes_f32(w, &i->s[i->s_count > 1]);                             \
        const f32 *c_ = lanes_f32(w, &i->s[i->s_count - 1]);                                                           \
        set_rounding(i);                                                                                               \
        LOOP(IN_AS_FLAGGED, AS_FLAGGED, expression);                                                                   \
        fesetround(FE_TONEAREST);                                                                                      \
    }                                                                                                                  \
    EXEC(name)                                                                                                         \
    {                                                                                                                  \
        f32 *d_ = lanes_f32(w, &i->d[0]);                                                                              \
        const f32 *a_ = lanes_f32(w, &i->s[0]), *b_ = lanes_f32(w, &i->s[i->s_count > 1]);                             \
        const f32 *c_ = lanes_f32(w, &i->s[i->s_count - 1]);                                                           \
        if (i->round > R_RN || (i->flags & F_SAT))                                                                     \
            name##_rounded(w, i, mask);                                                                                \
        else if (i->flags & F_FTZ)                                                                                     \
            LOOP(sg_ftz, FLUSH_RESULT, expression);                                                                    \
        else                                                                                                           \
            LOOP(, sg_canonical, expression);                                                                          \
    }

ARITHMETIC(add_f32, a + b)
ARITHMETIC(sub_f32, a - b)
ARITHMETIC(mul_f32, a *b)
ARITHMETIC(fma_f32, __builtin_fmaf(a, b, c))
ARITHMETIC(div_f32, a / b)
ARITHMETIC(rcp_f32, 1 / a)
ARITHMETIC(sqrt_f32, __builtin_sqrtf(a))

/* ---- signs ----------------------------------------------------------------------------------------------------------------- */

UNARY(neg_f32, f32, f32, sg_bits_float(sg_float_bits(flushed_if(i->flags & F_FTZ, a)) ^ 0x80000000u))
UNARY(abs_f32, f32, f32, __builtin_fabsf(flushed_if(i->flags & F_FTZ, a)))
BINARY(copysign_f32, u32, u32, u32, (a & 0x80000000u) | (b & 0x7fffffffu))

/* ---- extremes of two or three ------------------------------------------------------------------------------------------------ */

#define EXTREME(name, largest, of_two)                                                                                 \
    static void name##_flagged(warp *w, const insn *i, uint32_t mask)                                                  \
    {                                                                                                                  \
        f32 *d = lanes_f32(w, &i->d[0]);                                                                               \
        const f32 *a = lanes_f32(w, &i->s[0]), *b = lanes_f32(w, &i->s[1]), *c = lanes_f32(w, &i->s[i->s_count - 1]);  \
        const bool flush = i->flags & F_FTZ;                                                                           \
        SET_LANES(d, ({                                                                                                \
                      f32 x = extreme_f32(largest, i->flags, flushed_if(flush, a[l]), flushed_if(flush, b[l]));        \
                      i->s_count > 2 ? extreme_f32(largest, i->flags, x, flushed_if(flush, c[l])) : x;                 \
                  }));                                                                                                 \
    }                                                                                                                  \
    BINARY(name, f32, f32, f32, of_two(a, b))                                                                          \
    BINARY(name##_ftz, f32, f32, f32, of_two(sg_ftz(a), sg_ftz(b)))
EXTREME(min_f32, false, least_f32)
EXTREME(max_f32, true, most_f32)

/* ---- pairs ------------------------------------------------------------------------------------------------------------------- */

/* A 64-bit register holds the low fp32 first, so that a warp's registers are 64 floats. */
#define PAIRED(name, expression)                                                                                       \
    static void name(warp *w, const insn *i, uint32_t mask)                                                            \
    {                                                                                                                  \
        f32 *d = lanes_f32(w, &i->d[0]);                                                                               \
        const f32 *a_ = lanes_f32(w, &i->s[0]), *b_ = lanes_f32(w, &i->s[1]), *c_ = lanes_f32(w, &i->s[i->s_count - 1]); \
        const bool flush = i->flags & F_FTZ;                                                                           \
        set_rounding(i);                                                                                               \
        for (int k = 0; k < 2 * LANES; k++) {                                                                          \
            const f32 a = flushed_if(flush, a_[k]), b = flushed_if(flush, b_[k]), c = flushed_if(flush, c_[k]);        \
            (void)c;                                                                                                   \
            if (mask >> k / 2 & 1) d[k] = result_of(i->flags, expression);                                             \
        }                                                                                                              \
        fesetround(FE_TONEAREST);                                                                                      \
    }
PAIRED(add_f32x2, a + b)
PAIRED(sub_f32x2, a - b)
PAIRED(mul_f32x2, a *b)
PAIRED(fma_f32x2, __builtin_fmaf(a, b, c))

/* ---- rows --------------------------------------------------------------------------------------------------------------------- */

#define ROW(name, type, flags, operands, pipe, flops, exec) {name, type, flags, "r", operands, pipe, flops, exec, rounding_known}

const ptx_row ptx_float_rows[] = {
    ROW("fma", "f32", F_FTZ | F_SAT, "d s s s", PIPE_FMA, 2, fma_f32),
    ROW("mad", "f32", F_FTZ | F_SAT, "d s s s", PIPE_FMA, 2, fma_f32),
    ROW("add", "f32", F_FTZ | F_SAT, "d s s", PIPE_FMA, 1, add_f32),
    ROW("sub", "f32", F_FTZ | F_SAT, "d s s", PIPE_FMA, 1, sub_f32),
    ROW("mul", "f32", F_FTZ | F_SAT, "d s s", PIPE_FMA, 1, mul_f32),
    ROW("div", "f32", F_FTZ, "d s s", PIPE_MUFU, 1, div_f32),
    ROW("rcp", "f32", F_FTZ, "d s", PIPE_MUFU, 1, rcp_f32),
    ROW("sqrt", "f32", F_FTZ, "d s", PIPE_MUFU, 1, sqrt_f32),
    ROW("fma", "f32x2", F_FTZ, "d s s s", PIPE_FMA, 4, fma_f32x2),
    ROW("add", "f32x2", F_FTZ, "d s s", PIPE_FMA, 2, add_f32x2),
    ROW("sub", "f32x2", F_FTZ, "d s s", PIPE_FMA, 2, sub_f32x2),
    ROW("mul", "f32x2", F_FTZ, "d s s", PIPE_FMA, 2, mul_f32x2),
    {"neg", "f32", F_FTZ, "", "d s", PIPE_ALU, 0, neg_f32, NULL},
    {"abs", "f32", F_FTZ, "", "d s", PIPE_ALU, 0, abs_f32, NULL},
    {"copysign", "f32", 0, "", "d s s", PIPE_ALU, 0, copysign_f32, NULL},
    {"min", "f32", 0, "", "d s s", PIPE_ALU, 0, min_f32, NULL},
    {"max", "f32", 0, "", "d s s", PIPE_ALU, 0, max_f32, NULL},
    {"min", "f32", F_FTZ, "", "d s s", PIPE_ALU, 0, min_f32_ftz, NULL},
    {"max", "f32", F_FTZ, "", "d s s", PIPE_ALU, 0, max_f32_ftz, NULL},
    {"min", "f32", F_FTZ | F_NAN | F_XORSIGN | F_ABS, "", "d s s s?", PIPE_ALU, 0, min_f32_flagged, NULL},
    {"max", "f32", F_FTZ | F_NAN | F_XORSIGN | F_ABS, "", "d s s s?", PIPE_ALU, 0, max_f32_flagged, NULL},
    {0},
};
