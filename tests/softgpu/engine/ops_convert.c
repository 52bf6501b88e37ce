/* cvt and cvt.pack. The frequent conversions have loops of their own; every other pair of types goes lane by lane through a sign and a
   64-bit magnitude, or a double, both of which hold every source exactly, and is rounded once by numbers.c. */
#include "engine/floats.h"

#include <math.h>
#include <stdio.h>

/* ---- types ------------------------------------------------------------------------------------------------------------------ */

typedef struct kind {
    uint8_t bits;             /* of an element */
    bool is_integer, is_signed, is_pair;
    const sg_format *format;  /* NULL: an integer, or fp64 */
} kind;

static const kind kinds[PTX_TYPES] = {
    [T_U8] = {8, true, false, false, NULL},        [T_S8] = {8, true, true, false, NULL},
    [T_U16] = {16, true, false, false, NULL},      [T_S16] = {16, true, true, false, NULL},
    [T_U32] = {32, true, false, false, NULL},      [T_S32] = {32, true, true, false, NULL},
    [T_U64] = {64, true, false, false, NULL},      [T_S64] = {64, true, true, false, NULL},
    [T_U4] = {4, true, false, false, NULL},        [T_S4] = {4, true, true, false, NULL},
    [T_F16] = {16, false, true, false, &sg_f16},   [T_F16X2] = {16, false, true, true, &sg_f16},
    [T_BF16] = {16, false, true, false, &sg_bf16}, [T_BF16X2] = {16, false, true, true, &sg_bf16},
    [T_F32] = {32, false, true, false, &sg_f32},   [T_TF32] = {32, false, true, false, &sg_tf32},
    [T_F64] = {64, false, true, false, NULL},      [T_E4M3X2] = {8, false, true, true, &sg_e4m3},
    [T_E5M2X2] = {8, false, true, true, &sg_e5m2},
};

static u64 register_lane(const warp *w, const operand *o, int l) { return o->bits > 32 ? lanes64(w, o)[l] : lanes32(w, o)[l]; }

/* A result narrower than its register is extended to it: by its sign, or by zeros. */
static void set_register_lane(const warp *w, const operand *o, int l, u64 value)
{
    if (o->bits > 32)
        lanes64(w, o)[l] = value;
    else
        lanes32(w, o)[l] = (u32)(value & ((UINT64_C(1) << o->bits) - 1));
}

static u64 extended(u64 value, const kind *k)
{
    const int unused = 64 - k->bits;
    return k->is_signed ? (u64)((s64)(value << unused) >> unused) : value << unused >> unused;
}

/* ---- between integers ------------------------------------------------------------------------------------------------------------ */

static s64 clamped(s64 value, bool huge, const kind *to)
{
    const s64 low = to->is_signed ? INT64_MIN >> (64 - to->bits) : 0;
    const s64 high = to->bits == 64 ? INT64_MAX : (INT64_C(1) << (to->bits - to->is_signed)) - 1;
    return huge || value > high ? high : value < low ? low : value;
}

EXEC(cvt_integer)
{
    const kind *from = &kinds[i->type[1]], *to = &kinds[i->type[0]];
    s64 value[LANES];
    if (i->s[0].bits > 32) {
        const u64 *s = lanes64(w, &i->s[0]);
        for (int l = 0; l < LANES; l++) value[l] = (s64)s[l];
    } else {
        const u32 *s = lanes32(w, &i->s[0]);
        for (int l = 0; l < LANES; l++) value[l] = s[l];
    }
    for (int l = 0; l < LANES; l++) value[l] = (s64)extended((u64)value[l], from);
    if ((i->flags & F_SAT) && !(from->bits == 64 && to->bits == 64 && !from->is_signed && !to->is_signed))
        for (int l = 0; l < LANES; l++) value[l] = clamped(value[l], value[l] < 0 && !from->is_signed, to);
    for (int l = 0; l < LANES; l++) value[l] = (s64)extended((u64)value[l], to);
    if (i->d[0].bits > 32) {
        u64 *d = lanes64(w, &i->d[0]);
        SET_LANES(d, (u64)value[l]);
    } else {
        u32 *d = lanes32(w, &i->d[0]);
        const u32 kept = i->d[0].bits == 32 ? UINT32_MAX : (1u << i->d[0].bits) - 1;
        SET_LANES(d, (u32)value[l] & kept);
    }
}

UNARY(cvt_widen_unsigned, u64, u32, a)
UNARY(cvt_widen_signed, u64, s32, (s64)a)
UNARY(cvt_narrow, u32, u64, a)

/* ---- any pair with a float ----------------------------------------------------------------------------------------------------------- */

static f64 decoded(const kind *k, u64 bits)
{
    if (k->format) return sg_decode(k->format, (u32)bits);
    f64 value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static sg_round rounding_of(const insn *i)
{
    switch ((ptx_round)i->round) {
    case R_RZ: return SG_RZ;
    case R_RM: return SG_RM;
    case R_RP: return SG_RP;
    case R_RNA: return SG_RNA;
    default: return SG_RN;
    }
}

static f64 to_integral(const insn *i, f64 value)
{
    switch ((ptx_round)i->round) {
    case R_RNI: return rint(value);
    case R_RZI: return trunc(value);
    case R_RMI: return floor(value);
    case R_RPI: return ceil(value);
    default: return value;
    }
}

/* Beyond the range: its end. NaN: 0, in 64 bits the top bit. */
static u64 integer_of(f64 value, const kind *to)
{
    const f64 end = ldexp(1, to->bits - to->is_signed);
    if (isnan(value)) return to->bits == 64 ? UINT64_C(1) << 63 : 0;
    if (value >= end) return UINT64_MAX >> (64 - to->bits + to->is_signed);
    if (!to->is_signed) return value <= 0 ? 0 : (u64)value;
    return value <= -end ? (u64)INT64_MIN >> (64 - to->bits) : (u64)(s64)value;
}

static u64 double_bits(f64 value, uint32_t flags)
{
    u64 bits;
    if (flags & F_SAT) value = value > 0 ? (value > 1 ? 1 : value) : 0;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static unsigned number_flags(uint32_t flags)
{
    return (flags & F_SAT ? SG_SAT : 0u) | (flags & F_RELU ? SG_RELU : 0u) | (flags & F_SATFINITE ? SG_SATFINITE : 0u);
}

/* .ftz concerns fp32 only, as source and as result. */
static u64 flushed_bits(const insn *i, ptx_type type, u64 bits)
{
    return (i->flags & F_FTZ) && type == T_F32 && !(bits & 0x7f800000) ? bits & 0x80000000 : bits;
}

static u64 from_integer(const insn *i, u64 bits, const kind *from, const kind *to)
{
    const u64 value = extended(bits, from);
    const bool negative = from->is_signed && (s64)value < 0;
    const u64 magnitude = negative ? 0 - value : value;
    if (to->format) return sg_encode_exact(to->format, negative, magnitude, 0, rounding_of(i), number_flags(i->flags));
    set_rounding(i);
    volatile f64 rounded = negative ? (f64)(s64)value : (f64)magnitude;
    fesetround(FE_TONEAREST);
    return double_bits(rounded, i->flags);
}

static u64 from_float(const insn *i, f64 value, const kind *to)
{
    value = to_integral(i, value);
    if (to->is_integer) return integer_of(value, to);
    if (!to->format) return double_bits(value, i->flags);
    return sg_encode(to->format, value, rounding_of(i), number_flags(i->flags));
}

static void cvt_any(warp *w, const insn *i, uint32_t mask)
{
    const kind *from = &kinds[i->type[1]], *to = &kinds[i->type[0]];
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1)) continue;
        const u64 bits = flushed_bits(i, (ptx_type)i->type[1], register_lane(w, &i->s[0], l));
        u64 result = from->is_integer ? from_integer(i, bits, from, to) : from_float(i, decoded(from, bits), to);
        if (to->is_integer) result = extended(result, to);
        set_register_lane(w, &i->d[0], l, flushed_bits(i, (ptx_type)i->type[0], result));
    }
}

/* ---- pairs: of two fp32, the first for the upper half, or element by element --------------------------------------------------------------- */

static void cvt_pair(warp *w, const insn *i, uint32_t mask)
{
    const kind *from = &kinds[i->type[1]], *to = &kinds[i->type[0]];
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1)) continue;
        u32 result = 0;
        for (int k = 0; k < 2; k++) {
            u64 bits = from->is_pair ? register_lane(w, &i->s[0], l) >> k * from->bits : register_lane(w, &i->s[1 - k], l);
            result |= (u32)from_float(i, decoded(from, flushed_bits(i, (ptx_type)i->type[1], bits)), to) << k * to->bits;
        }
        set_register_lane(w, &i->d[0], l, result);
    }
}

/* d = c, a, b: clamped to the first type, a above b; c moves up, and out where they fill the register. */
static void cvt_pack(warp *w, const insn *i, uint32_t mask)
{
    const kind *to = &kinds[i->type[0]];
    const u32 ones = (1u << to->bits) - 1;
    u32 *d = lanes32(w, &i->d[0]);
    const u32 *a = lanes32(w, &i->s[0]), *b = lanes32(w, &i->s[1]), *c = lanes32(w, &i->s[i->s_count - 1]);
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1)) continue;
        u32 packed = ((u32)clamped((s32)a[l], false, to) & ones) << to->bits | ((u32)clamped((s32)b[l], false, to) & ones);
        d[l] = packed | (i->s_count > 2 ? c[l] << 2 * to->bits : 0);
    }
}

/* ---- the frequent ones, in their usual rounding -------------------------------------------------------------------------------------------- */

UNARY(cvt_f32_f16, f32, u16, sg_f16_to_float(a))
UNARY(cvt_f32_bf16, f32, u16, sg_bf16_to_float(a))
UNARY(cvt_f16_f32, u16, f32, sg_f16_from_float(a))
UNARY(cvt_bf16_f32, u16, f32, sg_bf16_from_float(a))
BINARY(cvt_f16x2_f32, u32, f32, f32, (u32)sg_f16_from_float(a) << 16 | sg_f16_from_float(b))
BINARY(cvt_bf16x2_f32, u32, f32, f32, (u32)sg_bf16_from_float(a) << 16 | sg_bf16_from_float(b))
UNARY(cvt_f32_s32, f32, s32, (f32)a)
UNARY(cvt_f32_u32, f32, u32, (f32)a)

PART s32 truncated(f32 x)
{
    f32 inside = x >= -0x1p31f ? x : -0x1p31f;
    s32 value = (s32)(inside < 0x1p31f ? inside : 0);
    value = x >= 0x1p31f ? INT32_MAX : value;
    return x == x ? value : 0;
}
UNARY(cvt_s32_f32, s32, f32, truncated(a))

PART u32 tf32_nearest_away(f32 x)
{
    u32 bits = sg_float_bits(x), rounded = (bits + 0x1000) & 0xffffe000;
    return x == x ? rounded : 0x7fffffff;
}
UNARY(cvt_tf32_f32, u32, f32, tf32_nearest_away(a))

/* ---- rows -------------------------------------------------------------------------------------------------------------------------------------- */

/* Whether the opcode rounds in a way that the types have: to an integral value, or to the nearest representable ones. */
static bool rounds_well(insn *i, char *error, size_t bytes)
{
    const kind *from = &kinds[i->type[1]], *to = &kinds[i->type[0]];
    const bool integral = i->round >= R_RNI, same = i->type[0] == i->type[1];
    if (to->is_integer ? integral : from->is_integer || !same ? !integral : true) return true;
    snprintf(error, bytes, "a rounding that does not fit the types");
    return false;
}

/* Rows of one loop each serve one rounding, the others go the long way. */
#define USUALLY(name, usual, otherwise)                                                                                \
    static bool name(insn *i, char *error, size_t bytes)                                                               \
    {                                                                                                                  \
        if (i->round != (usual) || i->flags) i->exec = otherwise;                                                      \
        return rounds_well(i, error, bytes);                                                                           \
    }
USUALLY(usually_exact, R_NONE, cvt_any)
USUALLY(usually_rn, R_RN, cvt_any)
USUALLY(usually_rn_pair, R_RN, cvt_pair)
USUALLY(usually_rna, R_RNA, cvt_any)
USUALLY(usually_rzi, R_RZI, cvt_any)

/* The compiler takes a clone's address for that of a local variable. */
static void cvt_any_integer(warp *w, const insn *i, uint32_t mask) { cvt_integer(w, i, mask); }

/* Registers may be wider than the types: what is frequent has them as wide. */
static bool usually_as_wide(insn *i, char *error, size_t bytes)
{
    (void)error, (void)bytes;
    if (i->d[0].bits != ptx_type_bits(i->type[0]) || i->s[0].bits != ptx_type_bits(i->type[1])) i->exec = cvt_any_integer;
    return true;
}

static bool usually_rn_as_wide(insn *i, char *error, size_t bytes)
{
    if (!usually_rn(i, error, bytes)) return false;
    if (i->s[0].bits != ptx_type_bits(i->type[1])) i->exec = cvt_any;
    return true;
}

static bool usually_rzi_as_wide(insn *i, char *error, size_t bytes)
{
    if (!usually_rzi(i, error, bytes)) return false;
    if (i->d[0].bits != ptx_type_bits(i->type[0])) i->exec = cvt_any;
    return true;
}

#define INTEGERS "u8|s8|u16|s16|u32|s32|u64|s64"
#define FLOATS   "f16|bf16|f32|f64"

const ptx_row ptx_convert_rows[] = {
    {"cvt", "f16x2.f32", F_RELU | F_SATFINITE | F_FTZ, "r", "d s1 s1", PIPE_ALU, 0, cvt_f16x2_f32, usually_rn_pair},
    {"cvt", "bf16x2.f32", F_RELU | F_SATFINITE | F_FTZ, "r", "d s1 s1", PIPE_ALU, 0, cvt_bf16x2_f32, usually_rn_pair},
    {"cvt", "f32.f16", F_FTZ | F_SAT, "r", "d s1", PIPE_HALF, 0, cvt_f32_f16, usually_exact},
    {"cvt", "f32.bf16", F_FTZ | F_SAT, "r", "d s1", PIPE_ALU, 0, cvt_f32_bf16, usually_exact},
    {"cvt", "f16.f32", F_FTZ | F_SAT | F_RELU | F_SATFINITE, "r", "d s1", PIPE_ALU, 0, cvt_f16_f32, usually_rn},
    {"cvt", "bf16.f32", F_FTZ | F_SAT | F_RELU | F_SATFINITE, "r", "d s1", PIPE_ALU, 0, cvt_bf16_f32, usually_rn},
    {"cvt", "f32.s32", F_FTZ | F_SAT, "r", "d s1~", PIPE_CONVERT, 0, cvt_f32_s32, usually_rn_as_wide},
    {"cvt", "f32.u32", F_FTZ | F_SAT, "r", "d s1~", PIPE_CONVERT, 0, cvt_f32_u32, usually_rn_as_wide},
    {"cvt", "s32.f32", F_FTZ | F_SAT, "r", "d~ s1", PIPE_CONVERT, 0, cvt_s32_f32, usually_rzi_as_wide},
    {"cvt", "tf32.f32", F_RELU | F_SATFINITE, "r", "d s1", PIPE_ALU, 0, cvt_tf32_f32, usually_rna},
    {"cvt", "u64|s64.u32", 0, "", "d~ s1~", PIPE_ALU, 0, cvt_widen_unsigned, usually_as_wide},
    {"cvt", "u64|s64.s32", 0, "", "d~ s1~", PIPE_ALU, 0, cvt_widen_signed, usually_as_wide},
    {"cvt", "u32|s32.u64|s64", 0, "", "d~ s1~", PIPE_ALU, 0, cvt_narrow, usually_as_wide},
    {"cvt", INTEGERS "." INTEGERS, F_SAT, "", "d~ s1~", PIPE_ALU, 0, cvt_integer, NULL},
    {"cvt", FLOATS "." INTEGERS, F_FTZ | F_SAT, "r", "d s1~", PIPE_CONVERT, 0, cvt_any, rounds_well},
    {"cvt", INTEGERS "." FLOATS, F_FTZ | F_SAT, "r", "d~ s1", PIPE_CONVERT, 0, cvt_any, rounds_well},
    {"cvt", FLOATS "." FLOATS, F_FTZ | F_SAT | F_RELU | F_SATFINITE, "r", "d s1", PIPE_CONVERT, 0, cvt_any, rounds_well},
    {"cvt", "e4m3x2|e5m2x2.f32", F_RELU | F_SATFINITE, "r", "d s1 s1", PIPE_CONVERT, 0, cvt_pair, rounds_well},
    {"cvt", "e4m3x2|e5m2x2.f16x2|bf16x2", F_RELU | F_SATFINITE, "r", "d s1", PIPE_CONVERT, 0, cvt_pair, rounds_well},
    {"cvt", "f16x2|bf16x2.e4m3x2|e5m2x2", F_RELU | F_SATFINITE, "r", "d s1", PIPE_CONVERT, 0, cvt_pair, rounds_well},
    {"cvt.pack", "u16|s16.s32", F_SAT, "", "d=32 s1 s1", PIPE_ALU, 0, cvt_pack, NULL},
    {"cvt.pack", "u8|s8|u4|s4.s32.b32", F_SAT, "", "d=32 s1 s1 s2", PIPE_ALU, 0, cvt_pack, NULL},
    {0},
};
