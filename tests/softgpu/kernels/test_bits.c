/* Instructions on bits: logic, shifts, fields, permutations, and dot products of bytes. */
#include "kernels/instruction.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#define ROWS(rows) run_instructions(rows, sizeof(rows) / sizeof *(rows))

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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
