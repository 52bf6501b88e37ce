/* Copies and choices: mov between registers, packing and unpacking vectors, selp, slct. */
#include "engine/lanes.h"

/* ---- mov ------------------------------------------------------------------------------------------------------------------- */

UNARY(mov_32, u32, u32, a)
UNARY(mov_64, u64, u64, a)

static void mov_128(warp *w, const insn *i, uint32_t mask)
{
    u64 *d = lanes64(w, &i->d[0]);
    const u64 *s = lanes64(w, &i->s[0]);
    for (int half = 0; half < 2; half++, d += LANES, s += LANES) SET_LANES(d, s[l]);
}

static void mov_pred(warp *w, const insn *i, uint32_t mask)
{
    set_predicate(w, &i->d[0], mask, predicate(w, &i->s[0]));
}

/* A lane's value of up to 128 bits in pieces of at most 64. */
PART u64 piece_of(const warp *w, const operand *o, int bits, int l, int half)
{
    return bits > 32 ? lanes64(w, o)[half * LANES + l] : lanes32(w, o)[l];
}

PART void set_piece(const warp *w, const operand *o, int bits, int l, int half, u64 value)
{
    if (bits > 32)
        lanes64(w, o)[half * LANES + l] = value;
    else
        lanes32(w, o)[l] = (u32)(bits == 32 ? value : value & ((1u << bits) - 1));
}

/* mov.b64 {d0, d1}, s: the lowest element first. No element can be the source: their widths differ. */
static void mov_unpack(warp *w, const insn *i, uint32_t mask)
{
    const int total = ptx_type_bits((ptx_type)i->type[0]), bits = total / i->d_count;
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1)) continue;
        const u64 halves[2] = {piece_of(w, &i->s[0], total, l, 0), total > 64 ? piece_of(w, &i->s[0], total, l, 1) : 0};
        for (int k = 0; k < i->d_count; k++) set_piece(w, &i->d[k], bits, l, 0, halves[k * bits / 64] >> (k * bits % 64));
    }
}

/* mov.b64 d, {s0, s1}. */
static void mov_pack(warp *w, const insn *i, uint32_t mask)
{
    const int total = ptx_type_bits((ptx_type)i->type[0]), bits = total / i->s_count;
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1)) continue;
        u64 halves[2] = {0, 0};
        for (int k = 0; k < i->s_count; k++) {
            u64 element = piece_of(w, &i->s[k], bits, l, 0);
            halves[k * bits / 64] |= (bits < 64 ? element & ((UINT64_C(1) << bits) - 1) : element) << (k * bits % 64);
        }
        for (int half = 0; half < (total > 64 ? 2 : 1); half++) set_piece(w, &i->d[0], total, l, half, halves[half]);
    }
}

/* The pairs that compilers write: 32 bits of two 16, 64 of two 32. */
EXEC(mov_unpack_32)
{
    u32 *low = lanes32(w, &i->d[0]), *high = lanes32(w, &i->d[1]);
    const u32 *s = lanes32(w, &i->s[0]);
    SET_LANES(low, s[l] & 0xffff);
    SET_LANES(high, s[l] >> 16);
}

EXEC(mov_unpack_64)
{
    u32 *low = lanes32(w, &i->d[0]), *high = lanes32(w, &i->d[1]);
    const u64 *s = lanes64(w, &i->s[0]);
    SET_LANES(low, (u32)s[l]);
    SET_LANES(high, (u32)(s[l] >> 32));
}

BINARY(mov_pack_32, u32, u32, u32, (a & 0xffff) | b << 16)
BINARY(mov_pack_64, u64, u32, u32, a | (u64)b << 32)

static bool mov_kind(insn *i, char *error, size_t bytes)
{
    (void)error, (void)bytes;
    const int total = ptx_type_bits((ptx_type)i->type[0]);
    if (i->d_count == 1 && i->s_count == 1)
        i->exec = total == 128 ? mov_128 : total == 64 ? mov_64 : mov_32;
    else if (i->d_count == 2 && total <= 64)
        i->exec = total == 64 ? mov_unpack_64 : total == 32 ? mov_unpack_32 : mov_unpack;
    else if (i->s_count == 2 && total <= 64)
        i->exec = total == 64 ? mov_pack_64 : total == 32 ? mov_pack_32 : mov_pack;
    else
        i->exec = i->d_count > 1 ? mov_unpack : mov_pack;
    return true;
}

/* ---- choices ----------------------------------------------------------------------------------------------------------------- */

#define CHOOSE(name, type)                                                                                             \
    EXEC(name)                                                                                                         \
    {                                                                                                                  \
        type *d = lanes_of(w, &i->d[0]);                                                                               \
        const type *a = lanes_of(w, &i->s[0]), *b = lanes_of(w, &i->s[1]);                                             \
        const u32 chosen = predicate(w, &i->s[2]);                                                                     \
        SET_LANES(d, ({                                                                                                \
                      const type x = a[l], y = b[l];                                                                   \
                      chosen >> l & 1 ? x : y;                                                                         \
                  }));                                                                                                 \
    }
CHOOSE(selp_32, u32)
CHOOSE(selp_64, u64)

PART bool not_negative(f32 x, bool flush) { return (flush ? sg_ftz(x) : x) >= 0; }

TERNARY(slct_s32_32, u32, u32, u32, s32, c >= 0 ? a : b)
TERNARY(slct_s32_64, u64, u64, u64, s32, c >= 0 ? a : b)
TERNARY(slct_f32_32, u32, u32, u32, f32, not_negative(c, i->flags & F_FTZ) ? a : b)
TERNARY(slct_f32_64, u64, u64, u64, f32, not_negative(c, i->flags & F_FTZ) ? a : b)

/* ---- rows -------------------------------------------------------------------------------------------------------------------- */

#define UP_TO_32_BITS "b16|u16|s16|b32|u32|s32|f32"
#define OF_64_BITS    "b64|u64|s64|f64"

const ptx_row ptx_move_rows[] = {
    {"mov", UP_TO_32_BITS "|" OF_64_BITS "|b128|f16|bf16|f16x2|bf16x2", 0, "", "d s", PIPE_ALU, 0, mov_32, mov_kind},
    {"mov", "pred", 0, "", "p q", PIPE_ALU, 0, mov_pred, NULL},
    {"selp", UP_TO_32_BITS, 0, "", "d s s q", PIPE_ALU, 0, selp_32, NULL},
    {"selp", OF_64_BITS, 0, "", "d s s q", PIPE_ALU, 0, selp_64, NULL},
    {"slct", UP_TO_32_BITS ".s32", 0, "", "d s s s1", PIPE_ALU, 0, slct_s32_32, NULL},
    {"slct", OF_64_BITS ".s32", 0, "", "d s s s1", PIPE_ALU, 0, slct_s32_64, NULL},
    {"slct", UP_TO_32_BITS ".f32", F_FTZ, "", "d s s s1", PIPE_ALU, 0, slct_f32_32, NULL},
    {"slct", OF_64_BITS ".f32", F_FTZ, "", "d s s s1", PIPE_ALU, 0, slct_f32_64, NULL},
    {0},
};
