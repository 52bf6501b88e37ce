/* fp16 and bf16 arithmetic, single and in pairs. A 16-bit register is the low half of a pair whose high half stays zero, so one function
   serves both. Formats and their fused operations are numbers.h's. */
#include "engine/floats.h"

#include <stdio.h>

/* ---- words of the opcode ------------------------------------------------------------------------------------------------- */

PART u16 f16_flushed(u16 x) { return x & 0x7c00 ? x : x & 0x8000; }
PART u16 bf16_flushed(u16 x) { return x & 0x7f80 ? x : x & 0x8000; }
PART u16 f16_in(uint32_t flags, u16 x) { return flags & F_FTZ ? f16_flushed(x) : x; }
PART u16 bf16_in(uint32_t flags, u16 x) { return flags & F_FTZ ? bf16_flushed(x) : x; }
/* .relu keeps NaN, .sat makes it 0; both make -0 +0. */
PART u16 f16_out(uint32_t flags, u16 x)
{
    x = f16_in(flags, x);
    if (flags & (F_RELU | F_SAT)) x = (x & 0x8000) && (x & 0x7fff) <= 0x7c00 ? 0 : x;
    if (flags & F_SAT) x = (x & 0x7fff) > 0x7c00 ? 0 : x > 0x3c00 ? 0x3c00 : x;
    return x;
}
PART u16 bf16_out(uint32_t flags, u16 x)
{
    x = bf16_in(flags, x);
    return (flags & F_RELU) && (x & 0x8000) && (x & 0x7fff) <= 0x7f80 ? 0 : x;
}

/* ---- functions of one, two, three halves ------------------------------------------------------------------------------------- */

/* The expression is one of a, b, c: halves of the first, second and last source. */
#define BOTH_HALVES(define, name, expression)                                                                          \
    define(name)                                                                                                       \
    {                                                                                                                  \
        u32 *d_ = lanes32(w, &i->d[0]);                                                                                \
        const u32 *a_ = lanes32(w, &i->s[0]), *b_ = lanes32(w, &i->s[i->s_count > 1]);                                 \
        const u32 *c_ = lanes32(w, &i->s[i->s_count - 1]);                                                             \
        const u32 kept = i->type[0] == T_F16X2 || i->type[0] == T_BF16X2 ? UINT32_MAX : 0xffff;                        \
        SET_LANES(d_, ({                                                                                               \
                      u32 low, high;                                                                                   \
                      {                                                                                                \
                          const u16 a = (u16)a_[l], b = (u16)b_[l], c = (u16)c_[l];                                    \
                          (void)b, (void)c;                                                                            \
                          low = (u16)(expression);                                                                     \
                      }                                                                                                \
                      {                                                                                                \
                          const u16 a = (u16)(a_[l] >> 16), b = (u16)(b_[l] >> 16), c = (u16)(c_[l] >> 16);            \
                          (void)b, (void)c;                                                                            \
                          high = (u16)(expression);                                                                    \
                      }                                                                                                \
                      (low | high << 16) & kept;                                                                       \
                  }));                                                                                                 \
    }
#define RARE(name) static void name(warp *w, const insn *i, uint32_t mask)
#define F16_IN(x)  f16_in(i->flags, x)
#define F16(x)     f16_out(i->flags, x)
#define BF16_IN(x) bf16_in(i->flags, x)
#define BF16(x)    bf16_out(i->flags, x)

BOTH_HALVES(EXEC, f16_add, sg_f16_add(a, b))
BOTH_HALVES(EXEC, f16_sub, sg_f16_add(a, b ^ 0x8000))
BOTH_HALVES(EXEC, f16_mul, sg_f16_mul(a, b))
BOTH_HALVES(EXEC, f16_fma, sg_f16_fma(a, b, c))
BOTH_HALVES(RARE, f16_add_flagged, F16(sg_f16_add(F16_IN(a), F16_IN(b))))
BOTH_HALVES(RARE, f16_sub_flagged, F16(sg_f16_add(F16_IN(a), F16_IN(b) ^ 0x8000)))
BOTH_HALVES(RARE, f16_mul_flagged, F16(sg_f16_mul(F16_IN(a), F16_IN(b))))
BOTH_HALVES(RARE, f16_fma_flagged, F16(sg_f16_fma(F16_IN(a), F16_IN(b), F16_IN(c))))
BOTH_HALVES(EXEC, bf16_add, sg_bf16_add(a, b))
BOTH_HALVES(EXEC, bf16_sub, sg_bf16_add(a, b ^ 0x8000))
BOTH_HALVES(EXEC, bf16_mul, sg_bf16_mul(a, b))
BOTH_HALVES(EXEC, bf16_fma, sg_bf16_fma(a, b, c))
BOTH_HALVES(RARE, bf16_fma_relu, BF16(sg_bf16_fma(a, b, c)))

BOTH_HALVES(EXEC, f16_neg, F16_IN(a) ^ 0x8000)
BOTH_HALVES(EXEC, f16_abs, F16_IN(a) & 0x7fff)
BOTH_HALVES(EXEC, bf16_neg, a ^ 0x8000)
BOTH_HALVES(EXEC, bf16_abs, a & 0x7fff)

/* Extremes are exact in fp32; NaN comes back canonical. */
BOTH_HALVES(EXEC, f16_min, sg_f16_from_float(least_f32(sg_f16_to_float(a), sg_f16_to_float(b))))
BOTH_HALVES(EXEC, f16_max, sg_f16_from_float(most_f32(sg_f16_to_float(a), sg_f16_to_float(b))))
BOTH_HALVES(EXEC, bf16_min, sg_bf16_from_float(least_f32(sg_bf16_to_float(a), sg_bf16_to_float(b))))
BOTH_HALVES(EXEC, bf16_max, sg_bf16_from_float(most_f32(sg_bf16_to_float(a), sg_bf16_to_float(b))))
#define F16_EXTREME(largest)                                                                                           \
    sg_f16_from_float(extreme_f32(largest, i->flags, sg_f16_to_float(F16_IN(a)), sg_f16_to_float(F16_IN(b))))
#define BF16_EXTREME(largest)                                                                                          \
    sg_bf16_from_float(extreme_f32(largest, i->flags, sg_bf16_to_float(a), sg_bf16_to_float(b)))
BOTH_HALVES(RARE, f16_min_flagged, F16_EXTREME(false))
BOTH_HALVES(RARE, f16_max_flagged, F16_EXTREME(true))
BOTH_HALVES(RARE, bf16_min_flagged, BF16_EXTREME(false))
BOTH_HALVES(RARE, bf16_max_flagged, BF16_EXTREME(true))

BOTH_HALVES(EXEC, f16_ex2, sg_f16_from_float(exp2_f32(sg_f16_to_float(a))))
BOTH_HALVES(EXEC, bf16_ex2, BF16(sg_bf16_from_float(exp2_f32(sg_bf16_to_float(BF16_IN(a))))))
BOTH_HALVES(EXEC, f16_tanh, sg_f16_from_float(tanh_f32(sg_f16_to_float(a))))
BOTH_HALVES(EXEC, bf16_tanh, sg_bf16_from_float(tanh_f32(sg_bf16_to_float(a))))

/* ---- rows ---------------------------------------------------------------------------------------------------------------------- */

static bool nearest_only(insn *i, char *error, size_t bytes)
{
    if (i->round <= R_RN) return true;
    snprintf(error, bytes, "%s of 16-bit floats rounds to nearest only", i->row->name);
    return false;
}

/* Single and paired. */
#define ROWS(name, type, flags, operands, flops, exec)                                                                 \
    {name, type, flags, "r", operands, PIPE_HALF, flops, exec, nearest_only},                                          \
        {name, type "x2", flags, "r", operands, PIPE_HALF, 2 * flops, exec, nearest_only}
#define FUNCTION_ROWS(name, type, flags, exec)                                                                         \
    {name, type, flags, "", "d s", PIPE_MUFU, 1, exec, NULL}, {name, type "x2", flags, "", "d s", PIPE_MUFU, 2, exec, NULL}

const ptx_row ptx_half_rows[] = {
    ROWS("fma", "f16", 0, "d s s s", 2, f16_fma),
    ROWS("add", "f16", 0, "d s s", 1, f16_add),
    ROWS("sub", "f16", 0, "d s s", 1, f16_sub),
    ROWS("mul", "f16", 0, "d s s", 1, f16_mul),
    ROWS("fma", "f16", F_FTZ | F_SAT | F_RELU, "d s s s", 2, f16_fma_flagged),
    ROWS("add", "f16", F_FTZ | F_SAT, "d s s", 1, f16_add_flagged),
    ROWS("sub", "f16", F_FTZ | F_SAT, "d s s", 1, f16_sub_flagged),
    ROWS("mul", "f16", F_FTZ | F_SAT, "d s s", 1, f16_mul_flagged),
    ROWS("fma", "bf16", 0, "d s s s", 2, bf16_fma),
    ROWS("fma", "bf16", F_RELU, "d s s s", 2, bf16_fma_relu),
    ROWS("add", "bf16", 0, "d s s", 1, bf16_add),
    ROWS("sub", "bf16", 0, "d s s", 1, bf16_sub),
    ROWS("mul", "bf16", 0, "d s s", 1, bf16_mul),
    ROWS("neg", "f16", F_FTZ, "d s", 0, f16_neg),
    ROWS("abs", "f16", F_FTZ, "d s", 0, f16_abs),
    ROWS("neg", "bf16", 0, "d s", 0, bf16_neg),
    ROWS("abs", "bf16", 0, "d s", 0, bf16_abs),
    ROWS("min", "f16", 0, "d s s", 0, f16_min),
    ROWS("max", "f16", 0, "d s s", 0, f16_max),
    ROWS("min", "bf16", 0, "d s s", 0, bf16_min),
    ROWS("max", "bf16", 0, "d s s", 0, bf16_max),
    ROWS("min", "f16", F_FTZ | F_NAN | F_XORSIGN | F_ABS, "d s s", 0, f16_min_flagged),
    ROWS("max", "f16", F_FTZ | F_NAN | F_XORSIGN | F_ABS, "d s s", 0, f16_max_flagged),
    ROWS("min", "bf16", F_NAN | F_XORSIGN | F_ABS, "d s s", 0, bf16_min_flagged),
    ROWS("max", "bf16", F_NAN | F_XORSIGN | F_ABS, "d s s", 0, bf16_max_flagged),
    FUNCTION_ROWS("ex2", "f16", F_APPROX, f16_ex2),
    FUNCTION_ROWS("ex2", "bf16", F_APPROX | F_FTZ, bf16_ex2),
    FUNCTION_ROWS("tanh", "f16", F_APPROX, f16_tanh),
    FUNCTION_ROWS("tanh", "bf16", F_APPROX, bf16_tanh),
    {0},
};
