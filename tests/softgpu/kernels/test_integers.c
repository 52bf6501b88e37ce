/* Integer and logic instructions, comparisons and selection. */
#include "instruction.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

typedef __int128 wide;
typedef unsigned __int128 uwide;

#define ROWS(rows) run_instructions(rows, sizeof(rows) / sizeof *(rows))

static int32_t clamp32(int64_t x) { return (int32_t)(x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : x); }

EXPECT(add32, ua + ub)
EXPECT(add64, wa + wb)
EXPECT(sub32, ua - ub)
EXPECT(sub64, wa - wb)
EXPECT(add_sat, clamp32((int64_t)sa + sb))
EXPECT(sub_sat, clamp32((int64_t)sa - sb))
EXPECT(mul_lo32, ua * ub)
EXPECT(mul_hi_u32, (uint64_t)ua * ub >> 32)
EXPECT(mul_hi_s32, (uint64_t)((int64_t)sa * sb) >> 32)
EXPECT(mul_wide_u32, (uint64_t)ua * ub)
EXPECT(mul_wide_s32, (int64_t)sa * sb)
EXPECT(mul_wide_u16, (ua & 0xffff) * (ub & 0xffff))
EXPECT(mul_wide_s16, (int16_t)ua * (int16_t)ub)
EXPECT(mul_lo64, wa * wb)
EXPECT(mul_hi_u64, (uwide)wa * wb >> 64)
EXPECT(mul_hi_s64, (uwide)((wide)la * lb) >> 64)
EXPECT(mul24_lo, (uint32_t)((uint64_t)(ua & 0xffffff) * (ub & 0xffffff)))
EXPECT(mad_lo32, ua * ub + uc)
EXPECT(mad_hi_u32, ((uint64_t)ua * ub >> 32) + uc)
EXPECT(mad_hi_s32, ((uint64_t)((int64_t)sa * sb) >> 32) + uc)
EXPECT(mad_wide_u32, (uint64_t)ua * ub + wc)
EXPECT(mad_wide_s32, (uint64_t)((int64_t)sa * sb) + wc)
EXPECT(mad_lo64, wa * wb + wc)
EXPECT(div_u32, ua / (ub | 1))
EXPECT(rem_u32, ua % (ub | 1))
EXPECT(div_u64, wa / (wb | 1))
EXPECT(rem_u64, wa % (wb | 1))
EXPECT(div_s32, (int64_t)sa / (sb | 1))
EXPECT(rem_s32, (int64_t)sa % (sb | 1))
EXPECT(div_s64, (wide)la / (lb | 1))
EXPECT(rem_s64, (wide)la % (lb | 1))
EXPECT(abs32, sa < 0 ? 0u - ua : ua)
EXPECT(abs64, la < 0 ? 0ull - wa : wa)
EXPECT(neg32, 0u - ua)
EXPECT(neg64, 0ull - wa)
EXPECT(min_s32, sa < sb ? sa : sb)
EXPECT(max_s32, sa > sb ? sa : sb)
EXPECT(min_u32, ua < ub ? ua : ub)
EXPECT(max_u32, ua > ub ? ua : ub)
EXPECT(min_s64, la < lb ? la : lb)
EXPECT(max_u64, wa > wb ? wa : wb)
EXPECT(min_s16, (int16_t)ua < (int16_t)ub ? ua : ub)
EXPECT(max_u16, (uint16_t)ua > (uint16_t)ub ? ua : ub)
EXPECT(add16, ua + ub)
EXPECT(mul16, ua * ub)
EXPECT(sad_s32, uc + (sa < sb ? ub - ua : ua - ub))
EXPECT(sad_u32, uc + (ua < ub ? ub - ua : ua - ub))

static void arithmetic(void **state)
{
    (void)state;
    static const instruction rows[] = {
        {"add.s32 $d, $a, $b", 32, 32, 32, 0, add32, BITS, EXACT},
        {"add.u32 $d, $a, 17; sub.u32 $d, $d, 17; add.u32 $d, $d, $b", 32, 32, 32, 0, add32, BITS, EXACT},
        {"add.s64 $d, $a, $b", 64, 64, 64, 0, add64, BITS, EXACT},
        {"add.u16 $d, $a, $b", 16, 16, 16, 0, add16, BITS, EXACT},
        {"sub.s32 $d, $a, $b", 32, 32, 32, 0, sub32, BITS, EXACT},
        {"sub.s64 $d, $a, $b", 64, 64, 64, 0, sub64, BITS, EXACT},
        {"add.sat.s32 $d, $a, $b", 32, 32, 32, 0, add_sat, BITS, EXACT},
        {"sub.sat.s32 $d, $a, $b", 32, 32, 32, 0, sub_sat, BITS, EXACT},
        {"mul.lo.s32 $d, $a, $b", 32, 32, 32, 0, mul_lo32, BITS, EXACT},
        {"mul.lo.u16 $d, $a, $b", 16, 16, 16, 0, mul16, BITS, EXACT},
        {"mul.hi.u32 $d, $a, $b", 32, 32, 32, 0, mul_hi_u32, BITS, EXACT},
        {"mul.hi.s32 $d, $a, $b", 32, 32, 32, 0, mul_hi_s32, BITS, EXACT},
        {"mul.wide.u32 $d, $a, $b", 64, 32, 32, 0, mul_wide_u32, BITS, EXACT},
        {"mul.wide.s32 $d, $a, $b", 64, 32, 32, 0, mul_wide_s32, BITS, EXACT},
        {"mul.wide.u16 $d, $a, $b", 32, 16, 16, 0, mul_wide_u16, BITS, EXACT},
        {"mul.wide.s16 $d, $a, $b", 32, 16, 16, 0, mul_wide_s16, BITS, EXACT},
        {"mul.lo.s64 $d, $a, $b", 64, 64, 64, 0, mul_lo64, BITS, EXACT},
        {"mul.hi.u64 $d, $a, $b", 64, 64, 64, 0, mul_hi_u64, BITS, EXACT},
        {"mul.hi.s64 $d, $a, $b", 64, 64, 64, 0, mul_hi_s64, BITS, EXACT},
        {"mul24.lo.u32 $d, $a, $b", 32, 32, 32, 0, mul24_lo, BITS, EXACT},
        {"mad.lo.s32 $d, $a, $b, $c", 32, 32, 32, 32, mad_lo32, BITS, EXACT},
        {"mad.hi.u32 $d, $a, $b, $c", 32, 32, 32, 32, mad_hi_u32, BITS, EXACT},
        {"mad.hi.s32 $d, $a, $b, $c", 32, 32, 32, 32, mad_hi_s32, BITS, EXACT},
        {"mad.wide.u32 $d, $a, $b, $c", 64, 32, 32, 64, mad_wide_u32, BITS, EXACT},
        {"mad.wide.s32 $d, $a, $b, $c", 64, 32, 32, 64, mad_wide_s32, BITS, EXACT},
        {"mad.lo.s64 $d, $a, $b, $c", 64, 64, 64, 64, mad_lo64, BITS, EXACT},
        {"or.b32 $b, $b, 1; div.u32 $d, $a, $b", 32, 32, 32, 0, div_u32, BITS, EXACT},
        {"or.b32 $b, $b, 1; rem.u32 $d, $a, $b", 32, 32, 32, 0, rem_u32, BITS, EXACT},
        {"or.b64 $b, $b, 1; div.u64 $d, $a, $b", 64, 64, 64, 0, div_u64, BITS, EXACT},
        {"or.b64 $b, $b, 1; rem.u64 $d, $a, $b", 64, 64, 64, 0, rem_u64, BITS, EXACT},
        {"or.b32 $b, $b, 1; div.s32 $d, $a, $b", 32, 32, 32, 0, div_s32, BITS, EXACT},
        {"or.b32 $b, $b, 1; rem.s32 $d, $a, $b", 32, 32, 32, 0, rem_s32, BITS, EXACT},
        {"or.b64 $b, $b, 1; div.s64 $d, $a, $b", 64, 64, 64, 0, div_s64, BITS, EXACT},
        {"or.b64 $b, $b, 1; rem.s64 $d, $a, $b", 64, 64, 64, 0, rem_s64, BITS, EXACT},
        {"abs.s32 $d, $a", 32, 32, 0, 0, abs32, BITS, EXACT},
        {"abs.s64 $d, $a", 64, 64, 0, 0, abs64, BITS, EXACT},
        {"neg.s32 $d, $a", 32, 32, 0, 0, neg32, BITS, EXACT},
        {"neg.s64 $d, $a", 64, 64, 0, 0, neg64, BITS, EXACT},
        {"min.s32 $d, $a, $b", 32, 32, 32, 0, min_s32, BITS, EXACT},
        {"max.s32 $d, $a, $b", 32, 32, 32, 0, max_s32, BITS, EXACT},
        {"min.u32 $d, $a, $b", 32, 32, 32, 0, min_u32, BITS, EXACT},
        {"max.u32 $d, $a, $b", 32, 32, 32, 0, max_u32, BITS, EXACT},
        {"min.s64 $d, $a, $b", 64, 64, 64, 0, min_s64, BITS, EXACT},
        {"max.u64 $d, $a, $b", 64, 64, 64, 0, max_u64, BITS, EXACT},
        {"min.s16 $d, $a, $b", 16, 16, 16, 0, min_s16, BITS, EXACT},
        {"max.u16 $d, $a, $b", 16, 16, 16, 0, max_u16, BITS, EXACT},
        {"sad.s32 $d, $a, $b, $c", 32, 32, 32, 32, sad_s32, BITS, EXACT},
        {"sad.u32 $d, $a, $b, $c", 32, 32, 32, 32, sad_u32, BITS, EXACT},
    };
    ROWS(rows);
}

EXPECT(carry_sum, ((uwide)wa + wb))
EXPECT(borrow_difference, wa - wb)
EXPECT(carry_high, ((uwide)wa + wb) >> 64)
EXPECT(mad_carry_high, ((uint64_t)ua * ub + wc) >> 32)

/* 64-bit sums out of 32-bit halves, as compilers write them. */
static void carries(void **state)
{
    (void)state;
#define SPLIT(op, next)                                                                                                 \
    "mov.b64 {$x, $y}, $a; mov.b64 {$t, $u}, $b; " op " $x, $x, $t; " next " $y, $y, $u; mov.b64 $d, {$x, $y}"
    static const instruction rows[] = {
        {SPLIT("add.cc.u32", "addc.u32"), 64, 64, 64, 0, carry_sum, BITS, EXACT},
        {SPLIT("sub.cc.u32", "subc.u32"), 64, 64, 64, 0, borrow_difference, BITS, EXACT},
        {"add.cc.u64 $v, $a, $b; addc.u64 $d, 0, 0", 64, 64, 64, 0, carry_high, BITS, EXACT},
        {"mad.lo.cc.u32 $d, $a, $b, $c", 32, 32, 32, 32, mad_lo32, BITS, EXACT},
        {"mov.b64 {$x, $y}, $c; mad.lo.cc.u32 $t, $a, $b, $x; madc.hi.u32 $d, $a, $b, $y", 32, 32, 32, 64, mad_carry_high, BITS,
         EXACT},
    };
    ROWS(rows);
}

static uint32_t reversed(uint32_t x)
{
    uint32_t r = 0;
    for (int i = 0; i < 32; i++) r |= (x >> i & 1) << (31 - i);
    return r;
}

static uint32_t highest(uint32_t x) { return x ? 31u - (uint32_t)__builtin_clz(x) : UINT32_MAX; }

static uint32_t field(uint32_t a, uint32_t position, uint32_t length, int is_signed)
{
    position &= 255, length &= 255;
    uint32_t result = 0, last = position + length - 1;
    uint32_t sign = !is_signed || !length ? 0 : a >> (last < 31 ? last : 31) & 1;
    for (uint32_t i = 0; i < 32; i++) {
        uint32_t bit = i < length && position + i < 32 ? a >> (position + i) & 1 : sign;
        result |= bit << i;
    }
    return result;
}

/* b with the low c & 7 bits... of a put in at (b >> 3) & 31, both taken from one operand. */
static uint32_t inserted(uint32_t a, uint32_t b, uint32_t position, uint32_t length)
{
    for (uint32_t i = 0; i < length && position + i < 32; i++)
        b = (b & ~(1u << (position + i))) | (a >> i & 1) << (position + i);
    return b;
}

static uint32_t permuted(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t pick = selector >> 4 * i & 15, byte = (uint32_t)(bytes >> (pick & 7) * 8) & 255;
        if (pick & 8) byte = byte & 128 ? 255 : 0;
        result |= byte << 8 * i;
    }
    return result;
}

/* The f4e, b4e, rc8, ecl, ecr and rc16 modes: a byte for each of 4 places, by the ISA's table. */
static uint32_t permuted_mode(uint32_t a, uint32_t b, const char *places)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) result |= (uint32_t)(bytes >> (places[3 - i] - '0') * 8 & 255) << 8 * i;
    return result;
}

static uint32_t dot4(uint32_t a, uint32_t b, uint32_t c, int signed_a, int signed_b)
{
    for (int i = 0; i < 32; i += 8) {
        int32_t x = signed_a ? (int8_t)(a >> i) : (int32_t)(a >> i & 255), y = signed_b ? (int8_t)(b >> i) : (int32_t)(b >> i & 255);
        c += (uint32_t)(x * y);
    }
    return c;
}

static uint32_t dot2(uint32_t a, uint32_t b, uint32_t c, int high)
{
    for (int i = 0; i < 2; i++) c += (uint32_t)((int16_t)(a >> 16 * i) * (int8_t)(b >> (16 * high + 8 * i)));
    return c;
}

EXPECT(and32, ua & ub)
EXPECT(or32, ua | ub)
EXPECT(xor32, ua ^ ub)
EXPECT(and64, wa & wb)
EXPECT(or64, wa | wb)
EXPECT(xor64, wa ^ wb)
EXPECT(not32, ~ua)
EXPECT(not64, ~wa)
EXPECT(cnot32, ua == 0)
EXPECT(and_pred, wa & wb)
EXPECT(xor_pred, wa ^ wb)
EXPECT(not_pred, !wa)
EXPECT(shl32, ub > 31 ? 0 : ua << ub)
EXPECT(shr_u32, ub > 31 ? 0 : ua >> ub)
EXPECT(shr_s32, ub > 31 ? sa >> 31 : sa >> ub)
EXPECT(shl64, ub > 63 ? 0 : wa << ub)
EXPECT(shr_u64, ub > 63 ? 0 : wa >> ub)
EXPECT(shr_s64, ub > 63 ? la >> 63 : la >> ub)
EXPECT(shl16, ub > 15 ? 0 : ua << ub)
EXPECT(shf_l_wrap, ((uint64_t)ub << 32 | ua) << (uc & 31) >> 32)
EXPECT(shf_r_wrap, ((uint64_t)ub << 32 | ua) >> (uc & 31))
EXPECT(shf_l_clamp, uc > 31 ? ua : ((uint64_t)ub << 32 | ua) << uc >> 32)
EXPECT(shf_r_clamp, uc > 31 ? ub : ((uint64_t)ub << 32 | ua) >> uc)
EXPECT(popc32, __builtin_popcount(ua))
EXPECT(popc64, __builtin_popcountll(wa))
EXPECT(clz32, ua ? __builtin_clz(ua) : 32)
EXPECT(clz64, wa ? __builtin_clzll(wa) : 64)
EXPECT(brev32, reversed(ua))
EXPECT(brev64, (uint64_t)reversed(ua) << 32 | reversed((uint32_t)(wa >> 32)))
EXPECT(bfind_u32, highest(ua))
EXPECT(bfind_s32, highest(sa < 0 ? ~ua : ua))
EXPECT(bfind_shift, ua ? 31 - highest(ua) : UINT32_MAX)
EXPECT(bfe_u32, field(ua, ub, uc, 0))
EXPECT(bfe_s32, field(ua, ub, uc, 1))
EXPECT(bfi32, inserted(ua, ub, uc & 31, uc >> 3 & 31))
EXPECT(prmt_plain, permuted(ua, ub, uc))
EXPECT(prmt_f4e, permuted_mode(ua, ub, (const char *[]){"3210", "4321", "5432", "6543"}[uc & 3]))
EXPECT(prmt_b4e, permuted_mode(ua, ub, (const char *[]){"5670", "6701", "7012", "0123"}[uc & 3]))
EXPECT(prmt_rc8, permuted_mode(ua, ub, (const char *[]){"0000", "1111", "2222", "3333"}[uc & 3]))
EXPECT(prmt_ecl, permuted_mode(ua, ub, (const char *[]){"3210", "3211", "3222", "3333"}[uc & 3]))
EXPECT(prmt_ecr, permuted_mode(ua, ub, (const char *[]){"0000", "1110", "2210", "3210"}[uc & 3]))
EXPECT(prmt_rc16, permuted_mode(ua, ub, (const char *[]){"1010", "3232", "1010", "3232"}[uc & 3]))
EXPECT(lop3_f8, ua | (ub & uc))
EXPECT(lop3_96, ua ^ ub ^ uc)
EXPECT(lop3_ca, (ua & ub) | (~ua & uc))
EXPECT(dp4a_ss, dot4(ua, ub, uc, 1, 1))
EXPECT(dp4a_us, dot4(ua, ub, uc, 0, 1))
EXPECT(dp4a_uu, dot4(ua, ub, uc, 0, 0))
EXPECT(dp2a_lo, dot2(ua, ub, uc, 0))
EXPECT(dp2a_hi, dot2(ua, ub, uc, 1))
EXPECT(fns_first, ua ? (uint32_t)__builtin_ctz(ua) : UINT32_MAX)
EXPECT(bmsk, (ub & 31) == 0 ? 0 : (uint32_t)(((UINT64_C(1) << (ub & 31)) - 1) << (ua & 31)))
EXPECT(szext_s, (ub & 31) == 0 ? 0 : (uint32_t)((int32_t)(ua << (32 - (ub & 31))) >> (32 - (ub & 31))))

static void bits(void **state)
{
    (void)state;
    static const instruction rows[] = {
        {"and.b32 $d, $a, $b", 32, 32, 32, 0, and32, BITS, EXACT},
        {"or.b32 $d, $a, $b", 32, 32, 32, 0, or32, BITS, EXACT},
        {"xor.b32 $d, $a, $b", 32, 32, 32, 0, xor32, BITS, EXACT},
        {"and.b64 $d, $a, $b", 64, 64, 64, 0, and64, BITS, EXACT},
        {"or.b64 $d, $a, $b", 64, 64, 64, 0, or64, BITS, EXACT},
        {"xor.b64 $d, $a, $b", 64, 64, 64, 0, xor64, BITS, EXACT},
        {"not.b32 $d, $a", 32, 32, 0, 0, not32, BITS, EXACT},
        {"not.b64 $d, $a", 64, 64, 0, 0, not64, BITS, EXACT},
        {"cnot.b32 $d, $a", 32, 32, 0, 0, cnot32, BITS, EXACT},
        {"and.pred $d, $a, $b", 1, 1, 1, 0, and_pred, BITS, EXACT},
        {"xor.pred $d, $a, $b", 1, 1, 1, 0, xor_pred, BITS, EXACT},
        {"not.pred $d, $a", 1, 1, 0, 0, not_pred, BITS, EXACT},
        {"shl.b32 $d, $a, $b", 32, 32, 32, 0, shl32, BITS, EXACT},
        {"shr.u32 $d, $a, $b", 32, 32, 32, 0, shr_u32, BITS, EXACT},
        {"shr.s32 $d, $a, $b", 32, 32, 32, 0, shr_s32, BITS, EXACT},
        {"shl.b64 $d, $a, $b", 64, 64, 32, 0, shl64, BITS, EXACT},
        {"shr.u64 $d, $a, $b", 64, 64, 32, 0, shr_u64, BITS, EXACT},
        {"shr.s64 $d, $a, $b", 64, 64, 32, 0, shr_s64, BITS, EXACT},
        {"shl.b16 $d, $a, $b", 16, 16, 32, 0, shl16, BITS, EXACT},
        {"shf.l.wrap.b32 $d, $a, $b, $c", 32, 32, 32, 32, shf_l_wrap, BITS, EXACT},
        {"shf.r.wrap.b32 $d, $a, $b, $c", 32, 32, 32, 32, shf_r_wrap, BITS, EXACT},
        {"shf.l.clamp.b32 $d, $a, $b, $c", 32, 32, 32, 32, shf_l_clamp, BITS, EXACT},
        {"shf.r.clamp.b32 $d, $a, $b, $c", 32, 32, 32, 32, shf_r_clamp, BITS, EXACT},
        {"popc.b32 $d, $a", 32, 32, 0, 0, popc32, BITS, EXACT},
        {"popc.b64 $d, $a", 32, 64, 0, 0, popc64, BITS, EXACT},
        {"clz.b32 $d, $a", 32, 32, 0, 0, clz32, BITS, EXACT},
        {"clz.b64 $d, $a", 32, 64, 0, 0, clz64, BITS, EXACT},
        {"brev.b32 $d, $a", 32, 32, 0, 0, brev32, BITS, EXACT},
        {"brev.b64 $d, $a", 64, 64, 0, 0, brev64, BITS, EXACT},
        {"bfind.u32 $d, $a", 32, 32, 0, 0, bfind_u32, BITS, EXACT},
        {"bfind.s32 $d, $a", 32, 32, 0, 0, bfind_s32, BITS, EXACT},
        {"bfind.shiftamt.u32 $d, $a", 32, 32, 0, 0, bfind_shift, BITS, EXACT},
        {"bfe.u32 $d, $a, $b, $c", 32, 32, 32, 32, bfe_u32, BITS, EXACT},
        {"bfe.s32 $d, $a, $b, $c", 32, 32, 32, 32, bfe_s32, BITS, EXACT},
        {"bfe.u32 $d, $a, $b, $c", 32, 32, 32, 32, bfe_u32, SMALL, EXACT},
        {"bfe.s32 $d, $a, $b, $c", 32, 32, 32, 32, bfe_s32, SMALL, EXACT},
        {"and.b32 $t, $c, 31; shr.u32 $u, $c, 3; and.b32 $u, $u, 31; bfi.b32 $d, $a, $b, $t, $u", 32, 32, 32, 32, bfi32, BITS,
         EXACT},
        {"prmt.b32 $d, $a, $b, $c", 32, 32, 32, 32, prmt_plain, BITS, EXACT},
        {"prmt.b32.f4e $d, $a, $b, $c", 32, 32, 32, 32, prmt_f4e, BITS, EXACT},
        {"prmt.b32.b4e $d, $a, $b, $c", 32, 32, 32, 32, prmt_b4e, BITS, EXACT},
        {"prmt.b32.rc8 $d, $a, $b, $c", 32, 32, 32, 32, prmt_rc8, BITS, EXACT},
        {"prmt.b32.ecl $d, $a, $b, $c", 32, 32, 32, 32, prmt_ecl, BITS, EXACT},
        {"prmt.b32.ecr $d, $a, $b, $c", 32, 32, 32, 32, prmt_ecr, BITS, EXACT},
        {"prmt.b32.rc16 $d, $a, $b, $c", 32, 32, 32, 32, prmt_rc16, BITS, EXACT},
        {"lop3.b32 $d, $a, $b, $c, 0xf8", 32, 32, 32, 32, lop3_f8, BITS, EXACT},
        {"lop3.b32 $d, $a, $b, $c, 0x96", 32, 32, 32, 32, lop3_96, BITS, EXACT},
        {"lop3.b32 $d, $a, $b, $c, 0xca", 32, 32, 32, 32, lop3_ca, BITS, EXACT},
        {"dp4a.s32.s32 $d, $a, $b, $c", 32, 32, 32, 32, dp4a_ss, BITS, EXACT},
        {"dp4a.u32.s32 $d, $a, $b, $c", 32, 32, 32, 32, dp4a_us, BITS, EXACT},
        {"dp4a.u32.u32 $d, $a, $b, $c", 32, 32, 32, 32, dp4a_uu, BITS, EXACT},
        {"dp2a.lo.s32.s32 $d, $a, $b, $c", 32, 32, 32, 32, dp2a_lo, BITS, EXACT},
        {"dp2a.hi.s32.s32 $d, $a, $b, $c", 32, 32, 32, 32, dp2a_hi, BITS, EXACT},
        {"fns.b32 $d, $a, 0, 1", 32, 32, 0, 0, fns_first, BITS, EXACT},
        {"bmsk.wrap.b32 $d, $a, $b", 32, 32, 32, 0, bmsk, BITS, EXACT},
        {"szext.wrap.s32 $d, $a, $b", 32, 32, 32, 0, szext_s, BITS, EXACT},
    };
    ROWS(rows);
}

EXPECT(eq32, ua == ub)
EXPECT(ne32, ua != ub)
EXPECT(lt_s32, sa < sb)
EXPECT(le_s32, sa <= sb)
EXPECT(gt_s32, sa > sb)
EXPECT(ge_s32, sa >= sb)
EXPECT(lo_u32, ua < ub)
EXPECT(ls_u32, ua <= ub)
EXPECT(hi_u32, ua > ub)
EXPECT(hs_u32, ua >= ub)
EXPECT(lt_u32, ua < ub)
EXPECT(lt_s64, la < lb)
EXPECT(gt_u64, wa > wb)
EXPECT(lt_s16, (int16_t)ua < (int16_t)ub)
EXPECT(lt_and, sa < sb && (uc & 1))
EXPECT(lt_or_not, sa < sb || !(uc & 1))
EXPECT(lt_xor, (sa < sb) ^ (uc & 1))
EXPECT(set_word, sa < sb ? UINT32_MAX : 0)
EXPECT(set_float, sa < sb ? 0x3f800000 : 0)
EXPECT(selected, wc & 1 ? ua : ub)
EXPECT(slct_s, sc >= 0 ? ua : ub)
EXPECT(both_sides, (sa < sb) != !(sa < sb))
EXPECT(float_lt, fa < fb)
EXPECT(float_ltu, !(fa >= fb))
EXPECT(float_equ, !(fa < fb || fa > fb))
EXPECT(float_ne, fa < fb || fa > fb)
EXPECT(float_neu, fa != fb)
EXPECT(float_num, !isnan(fa) && !isnan(fb))
EXPECT(float_nan, isnan(fa) || isnan(fb))
EXPECT(float_ge_ftz, (fabsf(fa) < 0x1p-126f ? 0 : fa) >= (fabsf(fb) < 0x1p-126f ? 0 : fb))
EXPECT(double_gt, da > db)
EXPECT(double_leu, !(da > db))

static void comparing(void **state)
{
    (void)state;
    static const instruction rows[] = {
        {"setp.eq.s32 $d, $a, $b", 1, 32, 32, 0, eq32, BITS, EXACT},
        {"setp.ne.b32 $d, $a, $b", 1, 32, 32, 0, ne32, BITS, EXACT},
        {"setp.lt.s32 $d, $a, $b", 1, 32, 32, 0, lt_s32, BITS, EXACT},
        {"setp.le.s32 $d, $a, $b", 1, 32, 32, 0, le_s32, BITS, EXACT},
        {"setp.gt.s32 $d, $a, $b", 1, 32, 32, 0, gt_s32, BITS, EXACT},
        {"setp.ge.s32 $d, $a, $b", 1, 32, 32, 0, ge_s32, BITS, EXACT},
        {"setp.lo.u32 $d, $a, $b", 1, 32, 32, 0, lo_u32, BITS, EXACT},
        {"setp.ls.u32 $d, $a, $b", 1, 32, 32, 0, ls_u32, BITS, EXACT},
        {"setp.hi.u32 $d, $a, $b", 1, 32, 32, 0, hi_u32, BITS, EXACT},
        {"setp.hs.u32 $d, $a, $b", 1, 32, 32, 0, hs_u32, BITS, EXACT},
        {"setp.lt.u32 $d, $a, $b", 1, 32, 32, 0, lt_u32, BITS, EXACT},
        {"setp.lt.s64 $d, $a, $b", 1, 64, 64, 0, lt_s64, BITS, EXACT},
        {"setp.gt.u64 $d, $a, $b", 1, 64, 64, 0, gt_u64, BITS, EXACT},
        {"setp.lt.s16 $d, $a, $b", 1, 16, 16, 0, lt_s16, BITS, EXACT},
        {"setp.lt.and.s32 $d, $a, $b, $c", 1, 32, 32, 1, lt_and, BITS, EXACT},
        {"setp.lt.or.s32 $d, $a, $b, !$c", 1, 32, 32, 1, lt_or_not, BITS, EXACT},
        {"setp.lt.xor.s32 $d, $a, $b, $c", 1, 32, 32, 1, lt_xor, BITS, EXACT},
        {"setp.lt.s32 $p|$q, $a, $b; xor.pred $d, $p, $q", 1, 32, 32, 0, both_sides, BITS, EXACT},
        {"set.lt.u32.s32 $d, $a, $b", 32, 32, 32, 0, set_word, BITS, EXACT},
        {"set.lt.f32.s32 $d, $a, $b", 32, 32, 32, 0, set_float, BITS, EXACT},
        {"selp.b32 $d, $a, $b, $c", 32, 32, 32, 1, selected, BITS, EXACT},
        {"slct.u32.s32 $d, $a, $b, $c", 32, 32, 32, 32, slct_s, BITS, EXACT},
        {"setp.lt.f32 $d, $a, $b", 1, 32, 32, 0, float_lt, FLOATS, EXACT},
        {"setp.ltu.f32 $d, $a, $b", 1, 32, 32, 0, float_ltu, FLOATS, EXACT},
        {"setp.equ.f32 $d, $a, $b", 1, 32, 32, 0, float_equ, FLOATS, EXACT},
        {"setp.ne.f32 $d, $a, $b", 1, 32, 32, 0, float_ne, FLOATS, EXACT},
        {"setp.neu.f32 $d, $a, $b", 1, 32, 32, 0, float_neu, FLOATS, EXACT},
        {"setp.num.f32 $d, $a, $b", 1, 32, 32, 0, float_num, FLOATS, EXACT},
        {"setp.nan.f32 $d, $a, $b", 1, 32, 32, 0, float_nan, FLOATS, EXACT},
        {"setp.ge.ftz.f32 $d, $a, $b", 1, 32, 32, 0, float_ge_ftz, FLOATS, EXACT},
        {"setp.gt.f64 $d, $a, $b", 1, 64, 64, 0, double_gt, DOUBLES, EXACT},
        {"setp.leu.f64 $d, $a, $b", 1, 64, 64, 0, double_leu, DOUBLES, EXACT},
    };
    ROWS(rows);
}

EXPECT(packed, wb << 32 | ua)
EXPECT(low_half, ua & 0xffff)
EXPECT(swapped_halves, ua << 16 | ua >> 16)
EXPECT(same, wa)
EXPECT(predicated, sb > 0 ? ua : ua + 1)
EXPECT(branched, sb > 0 ? ua * 3 : ua - 5)
EXPECT(looped, ({ uint32_t s = 0; for (uint32_t i = 0; i < (ua & 15); i++) s += ub; s; }))

static void moving_and_branching(void **state)
{
    (void)state;
    static const instruction rows[] = {
        {"mov.b64 $d, {$a, $b}", 64, 32, 32, 0, packed, BITS, EXACT},
        {"mov.b32 {$h, $k}, $a; cvt.u32.u16 $d, $h", 32, 32, 0, 0, low_half, BITS, EXACT},
        {"mov.b32 {$h, $k}, $a; mov.b32 $d, {$k, $h}", 32, 32, 0, 0, swapped_halves, BITS, EXACT},
        {"mov.u64 $d, $a", 64, 64, 0, 0, same, BITS, EXACT},
        {"mov.b32 $d, $a; setp.gt.s32 $p, $b, 0; @!$p add.s32 $d, $d, 1", 32, 32, 32, 0, predicated, BITS, EXACT},
        {"setp.gt.s32 $p, $b, 0; @$p bra L1; sub.s32 $d, $a, 5; bra.uni L2; L1: mul.lo.s32 $d, $a, 3; L2: mov.u32 $t, $d",
         32, 32, 32, 0, branched, BITS, EXACT},
        {"mov.u32 $d, 0; and.b32 $t, $a, 15; L1: setp.eq.s32 $p, $t, 0; @$p bra L2; add.s32 $d, $d, $b; add.s32 $t, $t, -1; "
         "bra L1; L2: mov.u32 $u, $d",
         32, 32, 32, 0, looped, BITS, EXACT},
    };
    ROWS(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic), cmocka_unit_test(carries),   cmocka_unit_test(bits),
        cmocka_unit_test(comparing),  cmocka_unit_test(moving_and_branching),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
