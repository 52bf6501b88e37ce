/* Bits of words and predicates: and, or, xor, not, shifts, any function of three words (lop3), permuted bytes. */
#include "engine/lanes.h"

#include <stdio.h>

/* ---- words --------------------------------------------------------------------------------------------------------------- */

#define AT_WIDTHS(define, name, expression)                                                                            \
    define(name##_16, u16, expression) define(name##_32, u32, expression) define(name##_64, u64, expression)
#define UNARY_OF(name, type, expression)  UNARY(name, type, type, expression)
#define BINARY_OF(name, type, expression) BINARY(name, type, type, type, expression)

AT_WIDTHS(BINARY_OF, and, a & b)
AT_WIDTHS(BINARY_OF, or, a | b)
AT_WIDTHS(BINARY_OF, xor, a ^ b)
AT_WIDTHS(UNARY_OF, not, ~a)
AT_WIDTHS(UNARY_OF, cnot, !a)

/* ---- predicates ------------------------------------------------------------------------------------------------------------ */

#define PREDICATES(name, expression)                                                                                   \
    static void name(warp *w, const insn *i, uint32_t mask)                                                            \
    {                                                                                                                  \
        const uint32_t a = predicate(w, &i->s[0]), b = predicate(w, &i->s[i->s_count - 1]);                            \
        (void)b;                                                                                                       \
        set_predicate(w, &i->d[0], mask, expression);                                                                  \
    }
PREDICATES(and_pred, a & b)
PREDICATES(or_pred, a | b)
PREDICATES(xor_pred, a ^ b)
PREDICATES(not_pred, ~a)

/* ---- shifts: by more than the width they leave nothing, or the sign ------------------------------------------------------------ */

#define SHIFTS(width, type, signed_type)                                                                               \
    BINARY(shl_##width, type, type, u32, b < width ? (type)(a << (b & (width - 1))) : 0)                               \
    BINARY(shr_u##width, type, type, u32, b < width ? a >> (b & (width - 1)) : 0)                                      \
    BINARY(shr_s##width, signed_type, signed_type, u32, a >> (b < width ? b : width - 1))
SHIFTS(16, u16, s16)
SHIFTS(32, u32, s32)
SHIFTS(64, u64, s64)

/* The upper (left) or lower word of b:a shifted by c, which counts modulo 32 or as 32 at most. */
TERNARY(shf_l_wrap, u32, u32, u32, u32, ((u64)b << 32 | a) << (c & 31) >> 32)
TERNARY(shf_r_wrap, u32, u32, u32, u32, ((u64)b << 32 | a) >> (c & 31))
TERNARY(shf_l_clamp, u32, u32, u32, u32, ((u64)b << 32 | a) << (c < 32 ? c : 32) >> 32)
TERNARY(shf_r_clamp, u32, u32, u32, u32, ((u64)b << 32 | a) >> (c < 32 ? c : 32))

/* ---- lop3: the table's bit number 4a + 2b + c ------------------------------------------------------------------------------------ */

PART u32 chosen(u32 selector, u32 one, u32 zero) { return zero ^ (selector & (one ^ zero)); }

PART u32 looked_up(u32 table, u32 a, u32 b, u32 c)
{
#define ONES(bit) (0u - (table >> (bit) & 1))
    u32 ab = chosen(c, ONES(7), ONES(6)), a_only = chosen(c, ONES(5), ONES(4));
    u32 b_only = chosen(c, ONES(3), ONES(2)), neither = chosen(c, ONES(1), ONES(0));
#undef ONES
    return chosen(a, chosen(b, ab, a_only), chosen(b, b_only, neither));
}

TERNARY(lop3, u32, u32, u32, u32, looked_up((u32)i->imm[0], a, b, c))

/* lop3.and, lop3.or: also the predicate (result != 0) combined with another. */
static void lop3_predicate(warp *w, const insn *i, uint32_t mask)
{
    const u32 *a = lanes32(w, &i->s[0]), *b = lanes32(w, &i->s[1]), *c = lanes32(w, &i->s[2]);
    u32 *d = lanes32(w, &i->d[0]), with = predicate(w, &i->s[3]), bits = 0;
    for (int l = 0; l < LANES; l++) {
        u32 value = looked_up((u32)i->imm[0], a[l], b[l], c[l]);
        bits |= (u32)(value != 0) << l;
        if (mask >> l & 1) d[l] = value;
    }
    set_predicate(w, &i->d[1], mask, i->op == W_AND ? bits & with : bits | with);
}

/* ---- prmt: four bytes of b:a, by a nibble each; its top bit: the byte's sign instead --------------------------------------------- */

PART u32 permuted(u32 a, u32 b, u32 selector)
{
    const u64 bytes = (u64)b << 32 | a;
    u32 result = 0;
    for (int at = 0; at < 4; at++) {
        u32 pick = selector >> 4 * at, byte = (u32)(bytes >> (pick & 7) * 8) & 255;
        u32 sign = 255 * (byte >> 7);
        result |= (pick & 8 ? sign : byte) << 8 * at;
    }
    return result;
}

TERNARY(prmt, u32, u32, u32, u32, permuted(a, b, c))

/* The named modes: selectors by the low two bits of c. */
static void prmt_mode(warp *w, const insn *i, uint32_t mask)
{
    static const u16 selectors[][4] = {
        [W_F4E] = {0x3210, 0x4321, 0x5432, 0x6543}, [W_B4E] = {0x5670, 0x6701, 0x7012, 0x0123},
        [W_RC8] = {0x0000, 0x1111, 0x2222, 0x3333}, [W_ECL] = {0x3210, 0x3211, 0x3222, 0x3333},
        [W_ECR] = {0x0000, 0x1110, 0x2210, 0x3210}, [W_RC16] = {0x1010, 0x3232, 0x1010, 0x3232},
    };
    u32 *d = lanes32(w, &i->d[0]);
    const u32 *a = lanes32(w, &i->s[0]), *b = lanes32(w, &i->s[1]), *c = lanes32(w, &i->s[2]);
    SET_LANES(d, permuted(a[l], b[l], selectors[i->op][c[l] & 3]));
}

static bool prmt_mode_known(insn *i, char *error, size_t bytes)
{
    if (i->op >= W_F4E && i->op <= W_RC16) return true;
    snprintf(error, bytes, "prmt.b32 with a mode that it does not have");
    return false;
}

/* ---- rows ------------------------------------------------------------------------------------------------------------------ */

#define AT_ALL(name, operands, stem)                                                                                   \
    {name, "b16", 0, "", operands, PIPE_ALU, 0, stem##_16, NULL}, {name, "b32", 0, "", operands, PIPE_ALU, 0, stem##_32, NULL}, \
        {name, "b64", 0, "", operands, PIPE_ALU, 0, stem##_64, NULL}
#define SHIFT(name, types, exec)  {name, types, 0, "", "d s s=32", PIPE_ALU, 0, exec, NULL}
#define FUNNEL(flags, exec)       {"shf", "b32", flags, "", "d s s s", PIPE_ALU, 0, exec, NULL}

const ptx_row ptx_logic_rows[] = {
    AT_ALL("and", "d s s", and),
    AT_ALL("or", "d s s", or),
    AT_ALL("xor", "d s s", xor),
    AT_ALL("not", "d s", not),
    AT_ALL("cnot", "d s", cnot),
    {"and", "pred", 0, "", "p q q", PIPE_ALU, 0, and_pred, NULL},
    {"or", "pred", 0, "", "p q q", PIPE_ALU, 0, or_pred, NULL},
    {"xor", "pred", 0, "", "p q q", PIPE_ALU, 0, xor_pred, NULL},
    {"not", "pred", 0, "", "p q", PIPE_ALU, 0, not_pred, NULL},
    SHIFT("shl", "b16", shl_16),
    SHIFT("shl", "b32", shl_32),
    SHIFT("shl", "b64", shl_64),
    SHIFT("shr", "b16|u16", shr_u16),
    SHIFT("shr", "b32|u32", shr_u32),
    SHIFT("shr", "b64|u64", shr_u64),
    SHIFT("shr", "s16", shr_s16),
    SHIFT("shr", "s32", shr_s32),
    SHIFT("shr", "s64", shr_s64),
    FUNNEL(F_LEFT | F_WRAP, shf_l_wrap),
    FUNNEL(F_RIGHT | F_WRAP, shf_r_wrap),
    FUNNEL(F_LEFT | F_CLAMP, shf_l_clamp),
    FUNNEL(F_RIGHT | F_CLAMP, shf_r_clamp),
    {"lop3", "b32", 0, "", "d s s s i", PIPE_ALU, 0, lop3, NULL},
    {"lop3", "b32", 0, "c", "d s s s i q", PIPE_ALU, 0, lop3_predicate, NULL},
    {"prmt", "b32", 0, "", "d s s s", PIPE_ALU, 0, prmt, NULL},
    {"prmt", "b32", 0, "c", "d s s s", PIPE_ALU, 0, prmt_mode, prmt_mode_known},
    {0},
};
