/* Comparisons: setp into one predicate or two, set into a register, testp. Each makes a mask of the lanes where it holds. */
#include "engine/lanes.h"

#include <stdio.h>

/* ---- comparisons ----------------------------------------------------------------------------------------------------------- */

/* Every comparison is one of five, with its sides swapped first and its answer turned around last. */
typedef enum base { EQUAL, UNEQUAL, LESS, LESS_OR_EQUAL, ORDERED } base;
typedef struct comparison {
    base base;
    bool swapped, opposite;
} comparison;

/* The unordered ones (…u) hold for NaN: they are opposites of ordered ones. */
static comparison comparison_of(const insn *i)
{
    static const comparison table[] = {
        [W_EQ] = {EQUAL, false, false},         [W_NE] = {UNEQUAL, false, false},       [W_LT] = {LESS, false, false},
        [W_LE] = {LESS_OR_EQUAL, false, false}, [W_GT] = {LESS, true, false},           [W_GE] = {LESS_OR_EQUAL, true, false},
        [W_LO] = {LESS, false, false},          [W_LS] = {LESS_OR_EQUAL, false, false}, [W_HI] = {LESS, true, false},
        [W_HS] = {LESS_OR_EQUAL, true, false},  [W_EQU] = {UNEQUAL, false, true},       [W_NEU] = {EQUAL, false, true},
        [W_LTU] = {LESS_OR_EQUAL, true, true},  [W_LEU] = {LESS, true, true},           [W_GTU] = {LESS_OR_EQUAL, false, true},
        [W_GEU] = {LESS, false, true},          [W_NUM] = {ORDERED, false, false},      [W_NAN] = {ORDERED, false, true},
    };
    return table[i->op];
}

#define LANE_BITS(condition)                                                                                           \
    for (int l = 0; l < LANES; l++) bits |= (u32)(condition) << l

/* The lanes where a comparison of a and b holds. */
#define HOLDS(type, x_is_ordered)                                                                                      \
    PART u32 holds_##type(comparison c, const type##_reg *a, const type##_reg *b)                             \
    {                                                                                                                  \
        const type##_reg *x = c.swapped ? b : a, *y = c.swapped ? a : b;                                               \
        u32 bits = 0;                                                                                                  \
        switch (c.base) {                                                                                              \
        case EQUAL: LANE_BITS((type)x[l] == (type)y[l]); break;                                                        \
        case UNEQUAL: LANE_BITS((type)x[l] < (type)y[l] || (type)x[l] > (type)y[l]); break;                            \
        case LESS: LANE_BITS((type)x[l] < (type)y[l]); break;                                                          \
        case LESS_OR_EQUAL: LANE_BITS((type)x[l] <= (type)y[l]); break;                                                \
        case ORDERED: LANE_BITS(x_is_ordered); break;                                                                  \
        }                                                                                                              \
        return c.opposite ? ~bits : bits;                                                                              \
    }
HOLDS(u16, true)
HOLDS(s16, true)
HOLDS(u32, true)
HOLDS(s32, true)
HOLDS(u64, true)
HOLDS(s64, true)
HOLDS(f32, !__builtin_isunordered(x[l], y[l]))
HOLDS(f64, !__builtin_isunordered(x[l], y[l]))

PART u32 holds_flushed(comparison c, const f32 *a, const f32 *b)
{
    f32 x[LANES], y[LANES];
    for (int l = 0; l < LANES; l++) x[l] = sg_ftz(a[l]), y[l] = sg_ftz(b[l]);
    return holds_f32(c, x, y);
}

/* Of the low halves (shift 0) or the high ones (16). */
PART u32 holds_half(comparison c, const insn *i, const u32 *a, const u32 *b, bool bf16, int shift)
{
    f32 x[LANES], y[LANES];
    for (int l = 0; l < LANES; l++) {
        u16 p = (u16)(a[l] >> shift), q = (u16)(b[l] >> shift);
        if ((i->flags & F_FTZ) && !(p & 0x7c00)) p &= 0x8000;
        if ((i->flags & F_FTZ) && !(q & 0x7c00)) q &= 0x8000;
        x[l] = bf16 ? sg_bf16_to_float(p) : sg_f16_to_float(p);
        y[l] = bf16 ? sg_bf16_to_float(q) : sg_f16_to_float(q);
    }
    return holds_f32(c, x, y);
}

/* ---- setp ------------------------------------------------------------------------------------------------------------------ */

PART u32 combined(const warp *w, const insn *i, u32 bits)
{
    if (i->s_count < 3) return bits;
    u32 with = predicate(w, &i->s[2]);
    return i->op2 == W_AND ? bits & with : i->op2 == W_OR ? bits | with : bits ^ with;
}

PART void give(warp *w, const insn *i, uint32_t mask, u32 first, u32 second)
{
    u32 p = combined(w, i, first), q = combined(w, i, second); /* both before either is written: the source may be a result */
    set_predicate(w, &i->d[0], mask, p);
    if (i->d_count > 1) set_predicate(w, &i->d[1], mask, q);
}

#define SETP(name, holds)                                                                                              \
    EXEC(name)                                                                                                         \
    {                                                                                                                  \
        u32 bits = holds(comparison_of(i), lanes_of(w, &i->s[0]), lanes_of(w, &i->s[1]));                              \
        give(w, i, mask, bits, ~bits);                                                                                 \
    }
SETP(setp_u16, holds_u16)
SETP(setp_s16, holds_s16)
SETP(setp_u32, holds_u32)
SETP(setp_s32, holds_s32)
SETP(setp_u64, holds_u64)
SETP(setp_s64, holds_s64)
SETP(setp_f64, holds_f64)
SETP(setp_f32, holds_f32)
SETP(setp_f32_ftz, holds_flushed)

/* Of pairs, the second predicate is the high halves' comparison, not the opposite of the first. */
static void compare_halves(const warp *w, const insn *i, ptx_type type, u32 bits[2])
{
    const u32 *a = lanes32(w, &i->s[0]), *b = lanes32(w, &i->s[1]);
    const bool bf16 = type == T_BF16 || type == T_BF16X2, pair = type == T_F16X2 || type == T_BF16X2;
    bits[0] = holds_half(comparison_of(i), i, a, b, bf16, 0);
    bits[1] = pair ? holds_half(comparison_of(i), i, a, b, bf16, 16) : ~bits[0];
}

static void setp_half(warp *w, const insn *i, uint32_t mask)
{
    u32 bits[2];
    compare_halves(w, i, (ptx_type)i->type[0], bits);
    give(w, i, mask, bits[0], bits[1]);
}

/* ---- set ------------------------------------------------------------------------------------------------------------------- */

static void compare_any(const warp *w, const insn *i, u32 bits[2])
{
    const comparison c = comparison_of(i);
    const void *a = lanes_of(w, &i->s[0]), *b = lanes_of(w, &i->s[1]);
    bits[1] = 0;
    switch ((ptx_type)i->type[1]) {
    case T_B16:
    case T_U16: bits[0] = holds_u16(c, a, b); break;
    case T_S16: bits[0] = holds_s16(c, a, b); break;
    case T_B32:
    case T_U32: bits[0] = holds_u32(c, a, b); break;
    case T_S32: bits[0] = holds_s32(c, a, b); break;
    case T_B64:
    case T_U64: bits[0] = holds_u64(c, a, b); break;
    case T_S64: bits[0] = holds_s64(c, a, b); break;
    case T_F32: bits[0] = (i->flags & F_FTZ) ? holds_flushed(c, a, b) : holds_f32(c, a, b); break;
    case T_F64: bits[0] = holds_f64(c, a, b); break;
    default: compare_halves(w, i, (ptx_type)i->type[1], bits); break;
    }
}

/* What "true" is in the result's type; of pairs in each half. */
static u32 truth(ptx_type type, bool pair)
{
    switch (type) {
    case T_F32: return 0x3f800000;
    case T_F16:
    case T_F16X2: return 0x3c00;
    case T_BF16:
    case T_BF16X2: return 0x3f80;
    case T_U16:
    case T_S16: return 0xffff;
    default: return pair ? 0xffff : UINT32_MAX;
    }
}

static void set(warp *w, const insn *i, uint32_t mask)
{
    const bool pair = i->type[1] == T_F16X2 || i->type[1] == T_BF16X2;
    const u32 one = truth((ptx_type)i->type[0], pair);
    u32 bits[2], *d = lanes32(w, &i->d[0]);
    compare_any(w, i, bits);
    bits[0] = combined(w, i, bits[0]), bits[1] = combined(w, i, bits[1]);
    SET_LANES(d, (bits[0] >> l & 1 ? one : 0) | (pair && (bits[1] >> l & 1) ? one << 16 : 0));
}

/* ---- testp ------------------------------------------------------------------------------------------------------------------ */

/* By the magnitude's bits: those of infinity and of the least normal number are the borders. */
#define TESTP(name, type, infinity, least_normal)                                                                      \
    static void name(warp *w, const insn *i, uint32_t mask)                                                            \
    {                                                                                                                  \
        const type *a = lanes_of(w, &i->s[0]);                                                                         \
        u32 bits = 0;                                                                                                  \
        for (int l = 0; l < LANES; l++) {                                                                              \
            const type x = a[l] & ((type)-1 >> 1);                                                                     \
            const bool holds = i->op == W_FINITE      ? x < infinity                                                   \
                               : i->op == W_INFINITE  ? x == infinity                                                  \
                               : i->op == W_NUMBER    ? x <= infinity                                                  \
                               : i->op == W_NORMAL    ? x >= least_normal && x < infinity                              \
                               : i->op == W_SUBNORMAL ? x && x < least_normal                                          \
                                                      : x > infinity;                                                  \
            bits |= (u32)holds << l;                                                                                   \
        }                                                                                                              \
        set_predicate(w, &i->d[0], mask, bits);                                                                        \
    }
TESTP(testp_f32, u32, 0x7f800000, 0x00800000)
TESTP(testp_f64, u64, 0x7ff0000000000000, 0x0010000000000000)

/* ---- rows -------------------------------------------------------------------------------------------------------------------- */

static bool comparison_known(insn *i, char *error, size_t bytes)
{
    bool compares = i->op >= W_EQ && i->op <= W_NAN;
    bool combines = i->op2 == W_AND || i->op2 == W_OR || i->op2 == W_XOR;
    if (compares && (i->s_count > 2 ? combines : i->op2 == W_NONE)) return true;
    snprintf(error, bytes, "%s: not a comparison, or not one word (and, or, xor) for a third source", i->row->name);
    return false;
}

static bool test_known(insn *i, char *error, size_t bytes)
{
    if (i->op >= W_FINITE && i->op <= W_SUBNORMAL) return true;
    snprintf(error, bytes, "testp without the class to test for");
    return false;
}

#define SETP_ROW(types, flags, pipe, exec) {"setp", types, flags, "c", "p s s q?", pipe, 0, exec, comparison_known}
#define SET_ROW(types, pipe)               {"set", types, F_FTZ, "c", "d s1 s1 q?", pipe, 0, set, comparison_known}

const ptx_row ptx_compare_rows[] = {
    SETP_ROW("s32", 0, PIPE_ALU, setp_s32),
    SETP_ROW("b32|u32", 0, PIPE_ALU, setp_u32),
    SETP_ROW("f32", 0, PIPE_ALU, setp_f32),
    SETP_ROW("f32", F_FTZ, PIPE_ALU, setp_f32_ftz),
    SETP_ROW("b16|u16", 0, PIPE_ALU, setp_u16),
    SETP_ROW("s16", 0, PIPE_ALU, setp_s16),
    SETP_ROW("b64|u64", 0, PIPE_ALU, setp_u64),
    SETP_ROW("s64", 0, PIPE_ALU, setp_s64),
    SETP_ROW("f64", 0, PIPE_FP64, setp_f64),
    SETP_ROW("f16|bf16|f16x2|bf16x2", F_FTZ, PIPE_HALF, setp_half),
    SET_ROW("u32|s32|f32.b16|u16|s16|b32|u32|s32|b64|u64|s64|f32", PIPE_ALU),
    SET_ROW("u32|s32|f32.f64", PIPE_FP64),
    SET_ROW("f16|u16|s16|u32|s32|f32.f16", PIPE_HALF),
    SET_ROW("bf16|u16|s16|u32|s32|f32.bf16", PIPE_HALF),
    SET_ROW("f16x2|u32|s32.f16x2", PIPE_HALF),
    SET_ROW("bf16x2|u32|s32.bf16x2", PIPE_HALF),
    {"testp", "f32", 0, "c", "p s", PIPE_ALU, 0, testp_f32, test_known},
    {"testp", "f64", 0, "c", "p s", PIPE_FP64, 0, testp_f64, test_known},
    {0},
};
