/* Integer arithmetic: sums, products, quotients, extremes, and the chains of add.cc and madc. */
#include "engine/lanes.h"

PART s32 clamp32(s64 x) { return (s32)(x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : x); }
PART s32 sign24(u32 x) { return (s32)(x << 8) >> 8; }
/* Two 16-bit halves, of which each macro argument computes one. */
#define PAIR(low, high) ((u32)(u16)(low) | (u32)(u16)(high) << 16)
#define HIGH(x)         ((x) >> 16)

/* ---- sums ------------------------------------------------------------------------------------------------------------ */

BINARY(add_16, u16, u16, u16, a + b)
BINARY(add_32, u32, u32, u32, a + b)
BINARY(add_64, u64, u64, u64, a + b)
BINARY(add_sat, s32, s32, s32, clamp32((s64)a + b))
BINARY(add_pair, u32, u32, u32, PAIR(a + b, HIGH(a) + HIGH(b)))
BINARY(sub_16, u16, u16, u16, a - b)
BINARY(sub_32, u32, u32, u32, a - b)
BINARY(sub_64, u64, u64, u64, a - b)
BINARY(sub_sat, s32, s32, s32, clamp32((s64)a - b))

/* ---- products ---------------------------------------------------------------------------------------------------------- */

BINARY(mul_lo_16, u16, u16, u16, (u32)a * b)
BINARY(mul_lo_32, u32, u32, u32, a * b)
BINARY(mul_lo_64, u64, u64, u64, a * b)
BINARY(mul_hi_u16, u16, u16, u16, (u32)a * b >> 16)
BINARY(mul_hi_s16, s16, s16, s16, (u32)(a * b) >> 16)
BINARY(mul_hi_u32, u32, u32, u32, (u64)a * b >> 32)
BINARY(mul_hi_s32, s32, s32, s32, (u64)((s64)a * b) >> 32)
BINARY(mul_hi_u64, u64, u64, u64, (u128)a * b >> 64)
BINARY(mul_hi_s64, s64, s64, s64, (u128)((s128)a * b) >> 64)
BINARY(mul_wide_u16, u32, u16, u16, (u32)a * b)
BINARY(mul_wide_s16, u32, s16, s16, a * b)
BINARY(mul_wide_u32, u64, u32, u32, (u64)a * b)
BINARY(mul_wide_s32, u64, s32, s32, (s64)a * b)

TERNARY(mad_lo_16, u16, u16, u16, u16, (u32)a * b + c)
TERNARY(mad_lo_32, u32, u32, u32, u32, a * b + c)
TERNARY(mad_lo_64, u64, u64, u64, u64, a * b + c)
TERNARY(mad_hi_u16, u16, u16, u16, u16, ((u32)a * b >> 16) + c)
TERNARY(mad_hi_s16, s16, s16, s16, u16, ((u32)(a * b) >> 16) + c)
TERNARY(mad_hi_u32, u32, u32, u32, u32, ((u64)a * b >> 32) + c)
TERNARY(mad_hi_s32, u32, s32, s32, u32, ((u64)((s64)a * b) >> 32) + c)
TERNARY(mad_hi_sat, s32, s32, s32, s32, clamp32(((s64)a * b >> 32) + c))
TERNARY(mad_hi_u64, u64, u64, u64, u64, (u64)((u128)a * b >> 64) + c)
TERNARY(mad_hi_s64, u64, s64, s64, u64, (u64)((u128)((s128)a * b) >> 64) + c)
TERNARY(mad_wide_u16, u32, u16, u16, u32, (u32)a * b + c)
TERNARY(mad_wide_s16, u32, s16, s16, u32, (u32)(a * b) + c)
TERNARY(mad_wide_u32, u64, u32, u32, u64, (u64)a * b + c)
TERNARY(mad_wide_s32, u64, s32, s32, u64, (u64)((s64)a * b) + c)

PART u64 product24u(u32 a, u32 b) { return (u64)(a & 0xffffff) * (b & 0xffffff); }
PART s64 product24s(u32 a, u32 b) { return (s64)sign24(a) * sign24(b); }

BINARY(mul24_lo_u32, u32, u32, u32, product24u(a, b))
BINARY(mul24_lo_s32, u32, u32, u32, product24s(a, b))
BINARY(mul24_hi_u32, u32, u32, u32, product24u(a, b) >> 16)
BINARY(mul24_hi_s32, u32, u32, u32, product24s(a, b) >> 16)
TERNARY(mad24_lo_u32, u32, u32, u32, u32, product24u(a, b) + c)
TERNARY(mad24_lo_s32, u32, u32, u32, u32, product24s(a, b) + c)
TERNARY(mad24_hi_u32, u32, u32, u32, u32, (product24u(a, b) >> 16) + c)
TERNARY(mad24_hi_s32, u32, u32, u32, u32, (product24s(a, b) >> 16) + c)
TERNARY(mad24_hi_sat, s32, u32, u32, s32, clamp32((product24s(a, b) >> 16) + c))

#define SAD(type, bits) TERNARY(sad_##type, bits, type, type, bits, c + (a < b ? (bits)b - (bits)a : (bits)a - (bits)b))
SAD(u16, u16)
SAD(s16, u16)
SAD(u32, u32)
SAD(s32, u32)
SAD(u64, u64)
SAD(s64, u64)

/* ---- quotients: by zero they are all ones, and the remainder is the dividend; -MIN wraps ------------------------------------ */

#define UNSIGNED_DIVISION(type)                                                                                        \
    BINARY(div_##type, type, type, type, b ? a / (b ? b : 1) : (type)-1)                                               \
    BINARY(rem_##type, type, type, type, b ? a % (b ? b : 1) : a)
#define SIGNED_DIVISION(type, bits)                                                                                    \
    BINARY(div_##type, type, type, type, !b ? (bits)-1 : b == -1 ? (bits)0 - (bits)a : (bits)(a / (!b || b == -1 ? 1 : b))) \
    BINARY(rem_##type, type, type, type, !b ? a : b == -1 ? 0 : a % (!b || b == -1 ? 1 : b))
UNSIGNED_DIVISION(u16)
UNSIGNED_DIVISION(u32)
UNSIGNED_DIVISION(u64)
SIGNED_DIVISION(s16, u16)
SIGNED_DIVISION(s32, u32)
SIGNED_DIVISION(s64, u64)

/* ---- signs and extremes ---------------------------------------------------------------------------------------------------- */

#define SIGNS(type, bits)                                                                                              \
    UNARY(abs_##type, bits, type, a < 0 ? (bits)0 - (bits)a : (bits)a)                                                 \
    UNARY(neg_##type, bits, bits, (bits)0 - a)
SIGNS(s16, u16)
SIGNS(s32, u32)
SIGNS(s64, u64)

PART s32 least(s32 a, s32 b) { return a < b ? a : b; }
PART s32 most(s32 a, s32 b) { return a > b ? a : b; }

#define EXTREMES(type)                                                                                                 \
    BINARY(min_##type, type, type, type, a < b ? a : b)                                                                \
    BINARY(max_##type, type, type, type, a > b ? a : b)
EXTREMES(u16)
EXTREMES(s16)
EXTREMES(u32)
EXTREMES(s32)
EXTREMES(u64)
EXTREMES(s64)
BINARY(min_relu, s32, s32, s32, most(least(a, b), 0))
BINARY(max_relu, s32, s32, s32, most(most(a, b), 0))

#define PAIRWISE(function, type) PAIR(function((type)a, (type)b), function((type)HIGH(a), (type)HIGH(b)))
BINARY(min_u16x2, u32, u32, u32, PAIRWISE(least, u16))
BINARY(max_u16x2, u32, u32, u32, PAIRWISE(most, u16))
BINARY(min_s16x2, u32, u32, u32, PAIRWISE(least, s16))
BINARY(max_s16x2, u32, u32, u32, PAIRWISE(most, s16))
PART s32 least_relu(s32 a, s32 b) { return most(least(a, b), 0); }
PART s32 most_relu(s32 a, s32 b) { return most(most(a, b), 0); }
BINARY(min_s16x2_relu, u32, u32, u32, PAIRWISE(least_relu, s16))
BINARY(max_s16x2_relu, u32, u32, u32, PAIRWISE(most_relu, s16))

/* ---- chains: the sum in twice the width, with the lane's carry in, and its carry out where the opcode says .cc --------------- */

#define CHAIN(name, type, wide, expression)                                                                            \
    EXEC(name)                                                                                                         \
    {                                                                                                                  \
        type *d_ = lanes_of(w, &i->d[0]);                                                                              \
        const type *a_ = lanes_of(w, &i->s[0]), *b_ = lanes_of(w, &i->s[1]), *c_ = lanes_of(w, &i->s[i->s_count - 1]); \
        uint32_t carries = 0;                                                                                          \
        for (int l = 0; l < LANES; l++) {                                                                              \
            const type a = a_[l], b = b_[l], c = c_[l];                                                                \
            const wide carry = w->carry >> l & 1;                                                                      \
            const wide sum = (expression);                                                                             \
            (void)c, (void)carry;                                                                                      \
            if (mask >> l & 1) d_[l] = (type)sum;                                                                      \
            carries |= (uint32_t)(sum >> (8 * sizeof(type)) & 1) << l;                                                 \
        }                                                                                                              \
        if (i->flags & F_CC) w->carry = (w->carry & ~mask) | (carries & mask);                                         \
    }
#define CHAINS(bits, type, signed_type, wide, signed_wide)                                                             \
    CHAIN(add_cc_##bits, type, wide, (wide)a + b)                                                                      \
    CHAIN(addc_##bits, type, wide, (wide)a + b + carry)                                                                \
    CHAIN(sub_cc_##bits, type, wide, (wide)a - b)                                                                      \
    CHAIN(subc_##bits, type, wide, (wide)a - b - carry)                                                                \
    CHAIN(mad_lo_cc_##bits, type, wide, (wide)(type)(a * b) + c)                                                       \
    CHAIN(madc_lo_##bits, type, wide, (wide)(type)(a * b) + c + carry)                                                 \
    CHAIN(mad_hi_cc_u##bits, type, wide, ((wide)a * b >> bits) + c)                                                    \
    CHAIN(madc_hi_u##bits, type, wide, ((wide)a * b >> bits) + c + carry)                                              \
    CHAIN(mad_hi_cc_s##bits, type, wide, (wide)(type)((signed_wide)(signed_type)a * (signed_type)b >> bits) + c)       \
    CHAIN(madc_hi_s##bits, type, wide, (wide)(type)((signed_wide)(signed_type)a * (signed_type)b >> bits) + c + carry)
CHAINS(32, u32, s32, u64, s64)
CHAINS(64, u64, s64, u128, s128)

/* ---- rows ---------------------------------------------------------------------------------------------------------------- */

#define TWO(name, types, flags, pipe, exec)   {name, types, flags, "", "d s s", pipe, 0, exec, NULL}
#define THREE(name, types, flags, pipe, exec) {name, types, flags, "", "d s s s", pipe, 0, exec, NULL}
#define BY_TYPE(row, name, flags, pipe, stem)                                                                          \
    row(name, "u16", flags, pipe, stem##u16), row(name, "s16", flags, pipe, stem##s16),                                \
        row(name, "u32", flags, pipe, stem##u32), row(name, "s32", flags, pipe, stem##s32),                            \
        row(name, "u64", flags, pipe, stem##u64), row(name, "s64", flags, pipe, stem##s64)
#define BY_WIDTH(row, name, flags, pipe, stem)                                                                         \
    row(name, "u16|s16", flags, pipe, stem##16), row(name, "u32|s32", flags, pipe, stem##32),                          \
        row(name, "u64|s64", flags, pipe, stem##64)
#define CHAIN_ROWS(row, name, flags, pipe, stem)                                                                       \
    row(name, "u32|s32", flags, pipe, stem##32), row(name, "u64|s64", flags, pipe, stem##64)
#define CHAIN_SIGNED(name, flags, stem)                                                                                \
    THREE(name, "u32", flags, PIPE_FMA, stem##u32), THREE(name, "s32", flags, PIPE_FMA, stem##s32),                    \
        THREE(name, "u64", flags, PIPE_FMA, stem##u64), THREE(name, "s64", flags, PIPE_FMA, stem##s64)

const ptx_row ptx_integer_rows[] = {
    BY_WIDTH(TWO, "add", 0, PIPE_ALU, add_),
    TWO("add", "s32", F_SAT, PIPE_ALU, add_sat),
    TWO("add", "u16x2|s16x2", 0, PIPE_ALU, add_pair),
    BY_WIDTH(TWO, "sub", 0, PIPE_ALU, sub_),
    TWO("sub", "s32", F_SAT, PIPE_ALU, sub_sat),
    BY_WIDTH(THREE, "mad", F_LO, PIPE_FMA, mad_lo_),
    BY_TYPE(THREE, "mad", F_HI, PIPE_FMA, mad_hi_),
    THREE("mad", "s32", F_HI | F_SAT, PIPE_FMA, mad_hi_sat),
    {"mad", "u16", F_WIDE, "", "d+ s s s+", PIPE_FMA, 0, mad_wide_u16, NULL},
    {"mad", "s16", F_WIDE, "", "d+ s s s+", PIPE_FMA, 0, mad_wide_s16, NULL},
    {"mad", "u32", F_WIDE, "", "d+ s s s+", PIPE_FMA, 0, mad_wide_u32, NULL},
    {"mad", "s32", F_WIDE, "", "d+ s s s+", PIPE_FMA, 0, mad_wide_s32, NULL},
    BY_WIDTH(TWO, "mul", F_LO, PIPE_FMA, mul_lo_),
    BY_TYPE(TWO, "mul", F_HI, PIPE_FMA, mul_hi_),
    {"mul", "u16", F_WIDE, "", "d+ s s", PIPE_FMA, 0, mul_wide_u16, NULL},
    {"mul", "s16", F_WIDE, "", "d+ s s", PIPE_FMA, 0, mul_wide_s16, NULL},
    {"mul", "u32", F_WIDE, "", "d+ s s", PIPE_FMA, 0, mul_wide_u32, NULL},
    {"mul", "s32", F_WIDE, "", "d+ s s", PIPE_FMA, 0, mul_wide_s32, NULL},
    TWO("mul24", "u32", F_LO, PIPE_FMA, mul24_lo_u32),
    TWO("mul24", "s32", F_LO, PIPE_FMA, mul24_lo_s32),
    TWO("mul24", "u32", F_HI, PIPE_FMA, mul24_hi_u32),
    TWO("mul24", "s32", F_HI, PIPE_FMA, mul24_hi_s32),
    THREE("mad24", "u32", F_LO, PIPE_FMA, mad24_lo_u32),
    THREE("mad24", "s32", F_LO, PIPE_FMA, mad24_lo_s32),
    THREE("mad24", "u32", F_HI, PIPE_FMA, mad24_hi_u32),
    THREE("mad24", "s32", F_HI, PIPE_FMA, mad24_hi_s32),
    THREE("mad24", "s32", F_HI | F_SAT, PIPE_FMA, mad24_hi_sat),
    BY_TYPE(THREE, "sad", 0, PIPE_ALU, sad_),
    BY_TYPE(TWO, "div", 0, PIPE_ALU, div_),
    BY_TYPE(TWO, "rem", 0, PIPE_ALU, rem_),
    {"abs", "s16", 0, "", "d s", PIPE_ALU, 0, abs_s16, NULL},
    {"abs", "s32", 0, "", "d s", PIPE_ALU, 0, abs_s32, NULL},
    {"abs", "s64", 0, "", "d s", PIPE_ALU, 0, abs_s64, NULL},
    {"neg", "s16", 0, "", "d s", PIPE_ALU, 0, neg_s16, NULL},
    {"neg", "s32", 0, "", "d s", PIPE_ALU, 0, neg_s32, NULL},
    {"neg", "s64", 0, "", "d s", PIPE_ALU, 0, neg_s64, NULL},
    BY_TYPE(TWO, "min", 0, PIPE_ALU, min_),
    BY_TYPE(TWO, "max", 0, PIPE_ALU, max_),
    TWO("min", "s32", F_RELU, PIPE_ALU, min_relu),
    TWO("max", "s32", F_RELU, PIPE_ALU, max_relu),
    TWO("min", "u16x2", 0, PIPE_ALU, min_u16x2),
    TWO("max", "u16x2", 0, PIPE_ALU, max_u16x2),
    TWO("min", "s16x2", 0, PIPE_ALU, min_s16x2),
    TWO("max", "s16x2", 0, PIPE_ALU, max_s16x2),
    TWO("min", "s16x2", F_RELU, PIPE_ALU, min_s16x2_relu),
    TWO("max", "s16x2", F_RELU, PIPE_ALU, max_s16x2_relu),
    CHAIN_ROWS(TWO, "add", F_CC, PIPE_ALU, add_cc_),
    CHAIN_ROWS(TWO, "addc", F_CC, PIPE_ALU, addc_),
    CHAIN_ROWS(TWO, "sub", F_CC, PIPE_ALU, sub_cc_),
    CHAIN_ROWS(TWO, "subc", F_CC, PIPE_ALU, subc_),
    CHAIN_ROWS(THREE, "mad", F_CC | F_LO, PIPE_FMA, mad_lo_cc_),
    CHAIN_ROWS(THREE, "madc", F_CC | F_LO, PIPE_FMA, madc_lo_),
    CHAIN_SIGNED("mad", F_CC | F_HI, mad_hi_cc_),
    CHAIN_SIGNED("madc", F_CC | F_HI, madc_hi_),
    {0},
};
