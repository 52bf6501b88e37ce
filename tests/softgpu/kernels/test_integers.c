/* Integer instructions, comparisons and selection; test_bits.c has those on bits. */
#include "kernels/instruction.h"

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
        cmocka_unit_test(arithmetic),
        cmocka_unit_test(carries),
        cmocka_unit_test(comparing),
        cmocka_unit_test(moving_and_branching),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
