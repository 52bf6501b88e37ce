/* Counting, finding, reversing, extracting and inserting bits, and the dot products of bytes. */
#include "engine/lanes.h"

/* ---- counting ---------------------------------------------------------------------------------------------------------- */

UNARY(popc_32, u32, u32, __builtin_popcount(a))
UNARY(popc_64, u32, u64, __builtin_popcountll(a))
UNARY(clz_32, u32, u32, a ? __builtin_clz(a) : 32)
UNARY(clz_64, u32, u64, a ? __builtin_clzll(a) : 64)

/* The highest bit that differs from the sign; .shiftamt: how far to the left that bit may go. */
PART u32 highest(u64 a, int width, bool shift)
{
    if (!a) return UINT32_MAX;
    u32 position = 63u - (u32)__builtin_clzll(a);
    return shift ? (u32)width - 1 - position : position;
}

UNARY(bfind_u32, u32, u32, highest(a, 32, i->flags & F_SHIFTAMT))
UNARY(bfind_s32, u32, s32, highest((u32)(a < 0 ? ~a : a), 32, i->flags & F_SHIFTAMT))
UNARY(bfind_u64, u32, u64, highest(a, 64, i->flags & F_SHIFTAMT))
UNARY(bfind_s64, u32, s64, highest((u64)(a < 0 ? ~a : a), 64, i->flags & F_SHIFTAMT))

/* Find the n-th set bit: from `base` up for a positive n, down for a negative one; n 0: base itself. */
PART u32 nth_set(u32 bits, u32 base, s32 n)
{
    if (!n) return base < 32 && (bits >> base & 1) ? base : UINT32_MAX;
    u32 count = n < 0 ? 0u - (u32)n : (u32)n;
    for (s64 at = (s32)base; at >= 0 && at < 32; at += n < 0 ? -1 : 1)
        if (bits >> at & 1 && !--count) return (u32)at;
    return UINT32_MAX;
}

TERNARY(fns, u32, u32, u32, s32, nth_set(a, b, c))

/* ---- reversing ----------------------------------------------------------------------------------------------------------- */

PART u32 reversed(u32 x)
{
    x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
    x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
    x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(x);
}

UNARY(brev_32, u32, u32, reversed(a))
UNARY(brev_64, u64, u64, (u64)reversed((u32)a) << 32 | reversed((u32)(a >> 32)))

/* ---- fields -------------------------------------------------------------------------------------------------------------- */

/* `length` bits of a from `position` on; beyond the top of a and of the field: zeros, or the field's top bit. */
#define EXTRACT(name, type, signed_type, width)                                                                        \
    PART type name##_unsigned(type a, u32 position, u32 length)                                               \
    {                                                                                                                  \
        type field = position < width ? a >> position : 0;                                                             \
        return length < width ? field & (((type)1 << length) - 1) : field;                                             \
    }                                                                                                                  \
    PART type name##_signed(type a, u32 position, u32 length)                                                 \
    {                                                                                                                  \
        signed_type field = (signed_type)a >> (position < width ? position : width - 1);                               \
        u32 unused = length < width ? width - length : 0;                                                              \
        return length ? (type)((signed_type)((type)field << (length ? unused : 0)) >> (length ? unused : 0)) : 0;      \
    }
EXTRACT(field_32, u32, s32, 32)
EXTRACT(field_64, u64, s64, 64)

TERNARY(bfe_u32, u32, u32, u32, u32, field_32_unsigned(a, b & 255, c & 255))
TERNARY(bfe_s32, u32, u32, u32, u32, field_32_signed(a, b & 255, c & 255))
TERNARY(bfe_u64, u64, u64, u32, u32, field_64_unsigned(a, b & 255, c & 255))
TERNARY(bfe_s64, u64, u64, u32, u32, field_64_signed(a, b & 255, c & 255))

PART u64 low_ones(u32 length) { return length < 64 ? (UINT64_C(1) << length) - 1 : UINT64_MAX; }

/* The low bits of a put into b. */
PART u64 inserted(u64 a, u64 b, u32 position, u32 length)
{
    u64 place = position < 64 ? low_ones(length) << position : 0;
    return (b & ~place) | ((a << (position & 63)) & place);
}

#define INSERT(name, type)                                                                                             \
    EXEC(name)                                                                                                         \
    {                                                                                                                  \
        type *d = lanes_of(w, &i->d[0]);                                                                               \
        const type *a = lanes_of(w, &i->s[0]), *b = lanes_of(w, &i->s[1]);                                             \
        const u32 *position = lanes32(w, &i->s[2]), *length = lanes32(w, &i->s[3]);                                    \
        SET_LANES(d, (type)inserted(a[l], b[l], position[l] & 255, length[l] & 255));                                  \
    }
INSERT(bfi_32, u32)
INSERT(bfi_64, u64)

/* `b` ones from bit `a` on. .clamp: positions and widths from 32 on stand for 32; .wrap: they count modulo 32. */
BINARY(bmsk_wrap, u32, u32, u32, low_ones(b & 31) << (a & 31))
BINARY(bmsk_clamp, u32, u32, u32, a < 32 ? low_ones(b < 32 ? b : 32) << (a & 31) : 0)

PART u32 zero_extended(u32 a, u32 width) { return width < 32 ? a & ((1u << width) - 1) : a; }
PART u32 sign_extended(u32 a, u32 width)
{
    u32 unused = width < 32 ? 32 - width : 0;
    return width ? (u32)((s32)(a << (width ? unused : 0)) >> (width ? unused : 0)) : 0;
}

BINARY(szext_wrap_u32, u32, u32, u32, zero_extended(a, b & 31))
BINARY(szext_wrap_s32, u32, u32, u32, sign_extended(a, b & 31))
BINARY(szext_clamp_u32, u32, u32, u32, zero_extended(a, b))
BINARY(szext_clamp_s32, u32, u32, u32, sign_extended(a, b))

/* ---- dot products ---------------------------------------------------------------------------------------------------------- */

PART s32 part(u32 x, int shift, int width, bool is_signed)
{
    u32 top = x << (32 - width - shift);
    return is_signed ? (s32)top >> (32 - width) : (s32)(top >> (32 - width));
}

PART u32 dot4(u32 a, u32 b, u32 c, bool signed_a, bool signed_b)
{
    for (int at = 0; at < 32; at += 8) c += (u32)(part(a, at, 8, signed_a) * part(b, at, 8, signed_b));
    return c;
}

PART u32 dot2(u32 a, u32 b, u32 c, bool high, bool signed_a, bool signed_b)
{
    b = high ? b >> 16 : b;
    c += (u32)(part(a, 0, 16, signed_a) * part(b, 0, 8, signed_b));
    return c + (u32)(part(a, 16, 16, signed_a) * part(b, 8, 8, signed_b));
}

TERNARY(dp4a, u32, u32, u32, u32, dot4(a, b, c, i->type[0] == T_S32, i->type[1] == T_S32))
TERNARY(dp2a, u32, u32, u32, u32, dot2(a, b, c, i->flags & F_HI, i->type[0] == T_S32, i->type[1] == T_S32))

/* ---- rows ------------------------------------------------------------------------------------------------------------------ */

const ptx_row ptx_bits_rows[] = {
    {"popc", "b32", 0, "", "d=32 s", PIPE_MUFU, 0, popc_32, NULL},
    {"popc", "b64", 0, "", "d=32 s", PIPE_MUFU, 0, popc_64, NULL},
    {"clz", "b32", 0, "", "d=32 s", PIPE_MUFU, 0, clz_32, NULL},
    {"clz", "b64", 0, "", "d=32 s", PIPE_MUFU, 0, clz_64, NULL},
    {"bfind", "u32", F_SHIFTAMT, "", "d=32 s", PIPE_MUFU, 0, bfind_u32, NULL},
    {"bfind", "s32", F_SHIFTAMT, "", "d=32 s", PIPE_MUFU, 0, bfind_s32, NULL},
    {"bfind", "u64", F_SHIFTAMT, "", "d=32 s", PIPE_MUFU, 0, bfind_u64, NULL},
    {"bfind", "s64", F_SHIFTAMT, "", "d=32 s", PIPE_MUFU, 0, bfind_s64, NULL},
    {"fns", "b32", 0, "", "d s s s", PIPE_ALU, 0, fns, NULL},
    {"brev", "b32", 0, "", "d s", PIPE_MUFU, 0, brev_32, NULL},
    {"brev", "b64", 0, "", "d s", PIPE_MUFU, 0, brev_64, NULL},
    {"bfe", "u32", 0, "", "d s s=32 s=32", PIPE_ALU, 0, bfe_u32, NULL},
    {"bfe", "s32", 0, "", "d s s=32 s=32", PIPE_ALU, 0, bfe_s32, NULL},
    {"bfe", "u64", 0, "", "d s s=32 s=32", PIPE_ALU, 0, bfe_u64, NULL},
    {"bfe", "s64", 0, "", "d s s=32 s=32", PIPE_ALU, 0, bfe_s64, NULL},
    {"bfi", "b32", 0, "", "d s s s=32 s=32", PIPE_ALU, 0, bfi_32, NULL},
    {"bfi", "b64", 0, "", "d s s s=32 s=32", PIPE_ALU, 0, bfi_64, NULL},
    {"bmsk", "b32", F_WRAP, "", "d s s", PIPE_ALU, 0, bmsk_wrap, NULL},
    {"bmsk", "b32", F_CLAMP, "", "d s s", PIPE_ALU, 0, bmsk_clamp, NULL},
    {"szext", "u32", F_WRAP, "", "d s s", PIPE_ALU, 0, szext_wrap_u32, NULL},
    {"szext", "s32", F_WRAP, "", "d s s", PIPE_ALU, 0, szext_wrap_s32, NULL},
    {"szext", "u32", F_CLAMP, "", "d s s", PIPE_ALU, 0, szext_clamp_u32, NULL},
    {"szext", "s32", F_CLAMP, "", "d s s", PIPE_ALU, 0, szext_clamp_s32, NULL},
    {"dp4a", "u32|s32.u32|s32", 0, "", "d=32 s0 s1 s=32", PIPE_FMA, 0, dp4a, NULL},
    {"dp2a", "u32|s32.u32|s32", F_LO | F_HI, "", "d=32 s0 s1 s=32", PIPE_FMA, 0, dp2a, NULL},
    {0},
};
