/* fp32 and fp64 arithmetic in every rounding mode, the approximations within the ISA's bounds, fp16 and bf16 in pairs. */
#include "kernels/instruction.h"

#include "numbers/numbers.h"

#include <fenv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#define ROWS(rows) run_instructions(rows, sizeof(rows) / sizeof *(rows))

/* An operation of the host in one of its rounding modes; volatile, so that it happens there. */
#define ROUNDED(type, mode, operation)                                                                                 \
    ({                                                                                                                 \
        fesetround(mode);                                                                                              \
        volatile type result_ = (operation);                                                                           \
        fesetround(FE_TONEAREST);                                                                                      \
        result_;                                                                                                       \
    })

static float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }
static float saturated(float x) { return !(x > 0) ? 0 : x > 1 ? 1 : x; }
static float least(float a, float b) { return isnan(a) ? b : isnan(b) ? a : a < b || (a == b && signbit(a)) ? a : b; }
static float most(float a, float b) { return isnan(a) ? b : isnan(b) ? a : a > b || (a == b && signbit(b)) ? a : b; }
static double least_d(double a, double b) { return isnan(a) ? b : isnan(b) ? a : a < b || (a == b && signbit(a)) ? a : b; }
static double most_d(double a, double b) { return isnan(a) ? b : isnan(b) ? a : a > b || (a == b && signbit(b)) ? a : b; }

#define IN_ALL_MODES(name, expression)                                                                                 \
    EXPECT(name##_rn, float_bits(ROUNDED(float, FE_TONEAREST, expression)))                                            \
    EXPECT(name##_rz, float_bits(ROUNDED(float, FE_TOWARDZERO, expression)))                                           \
    EXPECT(name##_rm, float_bits(ROUNDED(float, FE_DOWNWARD, expression)))                                             \
    EXPECT(name##_rp, float_bits(ROUNDED(float, FE_UPWARD, expression)))
#define ALL_MODES(text, operands, d, a, b, c, name)                                                                    \
    {text ".rn.f32 " operands, d, a, b, c, name##_rn, FLOATS, ANY_NAN},                                          \
    {text ".rz.f32 " operands, d, a, b, c, name##_rz, FLOATS, ANY_NAN},                                          \
    {text ".rm.f32 " operands, d, a, b, c, name##_rm, FLOATS, ANY_NAN},                                          \
    {text ".rp.f32 " operands, d, a, b, c, name##_rp, FLOATS, ANY_NAN}

IN_ALL_MODES(add, fa + fb)
IN_ALL_MODES(sub, fa - fb)
IN_ALL_MODES(mul, fa *fb)
IN_ALL_MODES(fma, fmaf(fa, fb, fc))
IN_ALL_MODES(quotient, fa / fb)
IN_ALL_MODES(root, sqrtf(fa))
IN_ALL_MODES(reciprocal, 1 / fa)
EXPECT(add_ftz, float_bits(flushed(flushed(fa) + flushed(fb))))
EXPECT(mul_ftz, float_bits(flushed(flushed(fa) * flushed(fb))))
EXPECT(fma_ftz, float_bits(flushed(fmaf(flushed(fa), flushed(fb), flushed(fc)))))
EXPECT(add_sat, float_bits(saturated(fa + fb)))
EXPECT(fma_sat, float_bits(saturated(fmaf(fa, fb, fc))))
EXPECT(negated, float_bits(-fa))
EXPECT(magnitude, float_bits(fabsf(fa)))
EXPECT(magnitude_ftz, float_bits(fabsf(flushed(fa))))
EXPECT(least_of, float_bits(least(fa, fb)))
EXPECT(most_of, float_bits(most(fa, fb)))
EXPECT(most_nan, float_bits(isnan(fa) || isnan(fb) ? NAN : most(fa, fb)))
EXPECT(least_ftz, float_bits(least(flushed(fa), flushed(fb))))
EXPECT(most_xorsign, ({ float m = most(fabsf(fa), fabsf(fb)); isnan(m) ? 0x7fffffff : float_bits(m) | ((ua ^ ub) & 0x80000000u); }))
EXPECT(sign_of_a, (ua & 0x80000000u) | (ub & 0x7fffffffu))
EXPECT(is_finite, isfinite(fa))
EXPECT(is_infinite, isinf(fa) != 0)
EXPECT(number, !isnan(fa))
EXPECT(not_a_number, isnan(fa))
EXPECT(normal, isnormal(fa))
EXPECT(subnormal, fa != 0 && fabsf(fa) < 0x1p-126f)

static void single_precision(void **state)
{
    (void)state;
    static const instruction rows[] = {
        ALL_MODES("add", "$d, $a, $b", 32, 32, 32, 0, add),
        ALL_MODES("sub", "$d, $a, $b", 32, 32, 32, 0, sub),
        ALL_MODES("mul", "$d, $a, $b", 32, 32, 32, 0, mul),
        ALL_MODES("fma", "$d, $a, $b, $c", 32, 32, 32, 32, fma),
        ALL_MODES("mad", "$d, $a, $b, $c", 32, 32, 32, 32, fma),
        ALL_MODES("div", "$d, $a, $b", 32, 32, 32, 0, quotient),
        ALL_MODES("sqrt", "$d, $a", 32, 32, 0, 0, root),
        ALL_MODES("rcp", "$d, $a", 32, 32, 0, 0, reciprocal),
        {"add.f32 $d, $a, $b", 32, 32, 32, 0, add_rn, FLOATS, ANY_NAN},
        {"add.ftz.f32 $d, $a, $b", 32, 32, 32, 0, add_ftz, FLOATS, ANY_NAN},
        {"mul.rn.ftz.f32 $d, $a, $b", 32, 32, 32, 0, mul_ftz, FLOATS, ANY_NAN},
        {"fma.rn.ftz.f32 $d, $a, $b, $c", 32, 32, 32, 32, fma_ftz, FLOATS, ANY_NAN},
        {"add.sat.f32 $d, $a, $b", 32, 32, 32, 0, add_sat, FLOATS, ANY_NAN},
        {"fma.rn.sat.f32 $d, $a, $b, $c", 32, 32, 32, 32, fma_sat, FLOATS, ANY_NAN},
        {"neg.f32 $d, $a", 32, 32, 0, 0, negated, FLOATS, ANY_NAN},
        {"abs.f32 $d, $a", 32, 32, 0, 0, magnitude, FLOATS, ANY_NAN},
        {"abs.ftz.f32 $d, $a", 32, 32, 0, 0, magnitude_ftz, FLOATS, ANY_NAN},
        {"min.f32 $d, $a, $b", 32, 32, 32, 0, least_of, FLOATS, ANY_NAN},
        {"max.f32 $d, $a, $b", 32, 32, 32, 0, most_of, FLOATS, ANY_NAN},
        {"max.NaN.f32 $d, $a, $b", 32, 32, 32, 0, most_nan, FLOATS, ANY_NAN},
        {"min.ftz.f32 $d, $a, $b", 32, 32, 32, 0, least_ftz, FLOATS, ANY_NAN},
        {"max.xorsign.abs.f32 $d, $a, $b", 32, 32, 32, 0, most_xorsign, FLOATS, ANY_NAN},
        {"copysign.f32 $d, $a, $b", 32, 32, 32, 0, sign_of_a, FLOATS, EXACT},
        {"testp.finite.f32 $d, $a", 1, 32, 0, 0, is_finite, FLOATS, EXACT},
        {"testp.infinite.f32 $d, $a", 1, 32, 0, 0, is_infinite, FLOATS, EXACT},
        {"testp.number.f32 $d, $a", 1, 32, 0, 0, number, FLOATS, EXACT},
        {"testp.notanumber.f32 $d, $a", 1, 32, 0, 0, not_a_number, FLOATS, EXACT},
        {"testp.normal.f32 $d, $a", 1, 32, 0, 0, normal, FLOATS, EXACT},
        {"testp.subnormal.f32 $d, $a", 1, 32, 0, 0, subnormal, FLOATS, EXACT},
    };
    ROWS(rows);
}

EXPECT(d_add_rn, double_bits(ROUNDED(double, FE_TONEAREST, da + db)))
EXPECT(d_add_rp, double_bits(ROUNDED(double, FE_UPWARD, da + db)))
EXPECT(d_sub_rm, double_bits(ROUNDED(double, FE_DOWNWARD, da - db)))
EXPECT(d_mul_rz, double_bits(ROUNDED(double, FE_TOWARDZERO, da * db)))
EXPECT(d_fma_rn, double_bits(ROUNDED(double, FE_TONEAREST, fma(da, db, dc))))
EXPECT(d_fma_rz, double_bits(ROUNDED(double, FE_TOWARDZERO, fma(da, db, dc))))
EXPECT(d_div_rn, double_bits(da / db))
EXPECT(d_div_rm, double_bits(ROUNDED(double, FE_DOWNWARD, da / db)))
EXPECT(d_sqrt_rn, double_bits(sqrt(da)))
EXPECT(d_rcp_rn, double_bits(1 / da))
EXPECT(d_min, double_bits(least_d(da, db)))
EXPECT(d_max, double_bits(most_d(da, db)))
EXPECT(d_abs, double_bits(fabs(da)))
EXPECT(d_neg, double_bits(-da))

static void double_precision(void **state)
{
    (void)state;
    static const instruction rows[] = {
        {"add.f64 $d, $a, $b", 64, 64, 64, 0, d_add_rn, DOUBLES, ANY_NAN},
        {"add.rp.f64 $d, $a, $b", 64, 64, 64, 0, d_add_rp, DOUBLES, ANY_NAN},
        {"sub.rm.f64 $d, $a, $b", 64, 64, 64, 0, d_sub_rm, DOUBLES, ANY_NAN},
        {"mul.rz.f64 $d, $a, $b", 64, 64, 64, 0, d_mul_rz, DOUBLES, ANY_NAN},
        {"fma.rn.f64 $d, $a, $b, $c", 64, 64, 64, 64, d_fma_rn, DOUBLES, ANY_NAN},
        {"fma.rz.f64 $d, $a, $b, $c", 64, 64, 64, 64, d_fma_rz, DOUBLES, ANY_NAN},
        {"div.rn.f64 $d, $a, $b", 64, 64, 64, 0, d_div_rn, DOUBLES, ANY_NAN},
        {"div.rm.f64 $d, $a, $b", 64, 64, 64, 0, d_div_rm, DOUBLES, ANY_NAN},
        {"sqrt.rn.f64 $d, $a", 64, 64, 0, 0, d_sqrt_rn, DOUBLES, ANY_NAN},
        {"rcp.rn.f64 $d, $a", 64, 64, 0, 0, d_rcp_rn, DOUBLES, ANY_NAN},
        {"min.f64 $d, $a, $b", 64, 64, 64, 0, d_min, DOUBLES, ANY_NAN},
        {"max.f64 $d, $a, $b", 64, 64, 64, 0, d_max, DOUBLES, ANY_NAN},
        {"abs.f64 $d, $a", 64, 64, 0, 0, d_abs, DOUBLES, ANY_NAN},
        {"neg.f64 $d, $a", 64, 64, 0, 0, d_neg, DOUBLES, ANY_NAN},
    };
    ROWS(rows);
}

/* Exact to fp32, from the double functions; inputs and results flushed where the row says .ftz. */
EXPECT(exp2_of, float_bits((float)exp2((double)fa)))
EXPECT(exp2_ftz, float_bits(flushed((float)exp2((double)flushed(fa)))))
EXPECT(log2_of, float_bits((float)log2((double)fa)))
EXPECT(log2_ftz, float_bits((float)log2((double)flushed(fa))))
EXPECT(reciprocal_ftz, float_bits(flushed(1 / flushed(fa))))
EXPECT(reciprocal_root, float_bits((float)(1 / sqrt((double)fa))))
EXPECT(reciprocal_root_ftz, float_bits((float)(1 / sqrt((double)flushed(fa)))))
EXPECT(root_ftz, float_bits(flushed((float)sqrt((double)flushed(fa)))))
EXPECT(sine, float_bits((float)sin((double)fa)))
EXPECT(cosine, float_bits((float)cos((double)fa)))
EXPECT(tangent_h, float_bits((float)tanh((double)fa)))

/* The bounds are the ISA's: ex2 2^-22, rcp 1 ulp, rsqrt 2^-22.9, sqrt 2^-23, tanh 2^-11, sin and cos 2^-20.9 absolute. */
static void approximations(void **state)
{
    (void)state;
    static const instruction rows[] = {
        {"ex2.approx.f32 $d, $a", 32, 32, 0, 0, exp2_of, FLOATS, RELATIVE, 0x1p-22},
        {"ex2.approx.ftz.f32 $d, $a", 32, 32, 0, 0, exp2_ftz, FLOATS, RELATIVE, 0x1p-22},
        {"rcp.approx.f32 $d, $a", 32, 32, 0, 0, reciprocal_rn, FLOATS, RELATIVE, 0x1p-23},
        {"rcp.approx.ftz.f32 $d, $a", 32, 32, 0, 0, reciprocal_ftz, FLOATS, RELATIVE, 0x1p-23},
        {"rsqrt.approx.f32 $d, $a", 32, 32, 0, 0, reciprocal_root, FLOATS, RELATIVE, 0x1.2p-23},
        {"rsqrt.approx.ftz.f32 $d, $a", 32, 32, 0, 0, reciprocal_root_ftz, FLOATS, RELATIVE, 0x1.2p-23},
        {"sqrt.approx.f32 $d, $a", 32, 32, 0, 0, root_rn, FLOATS, RELATIVE, 0x1p-22},
        {"sqrt.approx.ftz.f32 $d, $a", 32, 32, 0, 0, root_ftz, FLOATS, RELATIVE, 0x1p-22},
        {"tanh.approx.f32 $d, $a", 32, 32, 0, 0, tangent_h, FLOATS, RELATIVE, 0x1p-10},
        {"lg2.approx.f32 $d, $a", 32, 32, 0, 0, log2_of, FLOATS, RELATIVE, 0x1p-20},
        {"lg2.approx.ftz.f32 $d, $a", 32, 32, 0, 0, log2_ftz, FLOATS, RELATIVE, 0x1p-20},
        {"sin.approx.f32 $d, $a", 32, 32, 0, 0, sine, FLOATS, ABSOLUTE, 0x1p-20, 3.14},
        {"cos.approx.f32 $d, $a", 32, 32, 0, 0, cosine, FLOATS, ABSOLUTE, 0x1p-20, 3.14},
    };
    ROWS(rows);
}

/* Both halves of a register by one operation on 16 bits. */
typedef uint16_t half_operation(uint16_t a, uint16_t b, uint16_t c);

static uint32_t both(half_operation *operation, uint32_t a, uint32_t b, uint32_t c)
{
    return operation((uint16_t)a, (uint16_t)b, (uint16_t)c) |
           (uint32_t)operation((uint16_t)(a >> 16), (uint16_t)(b >> 16), (uint16_t)(c >> 16)) << 16;
}

static uint16_t round_f16(double x) { return (uint16_t)sg_encode(&sg_f16, x, SG_RN, 0); }
static uint16_t round_bf16(double x) { return (uint16_t)sg_encode(&sg_bf16, x, SG_RN, 0); }
static double f16(uint16_t bits) { return sg_decode(&sg_f16, bits); }
static double bf16(uint16_t bits) { return sg_decode(&sg_bf16, bits); }

static uint16_t h_add(uint16_t a, uint16_t b, uint16_t c) { return (void)c, round_f16(f16(a) + f16(b)); }
static uint16_t h_sub(uint16_t a, uint16_t b, uint16_t c) { return (void)c, round_f16(f16(a) - f16(b)); }
static uint16_t h_mul(uint16_t a, uint16_t b, uint16_t c) { return (void)c, round_f16(f16(a) * f16(b)); }
static uint16_t h_fma(uint16_t a, uint16_t b, uint16_t c) { return sg_f16_fma(a, b, c); } /* tested with the formats */
static uint16_t h_fma_relu(uint16_t a, uint16_t b, uint16_t c)
{
    uint16_t x = sg_f16_fma(a, b, c);
    return x & 0x8000 && (x & 0x7fff) <= 0x7c00 ? 0 : x;
}
static uint16_t h_min(uint16_t a, uint16_t b, uint16_t c) { return (void)c, round_f16(least_d(f16(a), f16(b))); }
static uint16_t h_max(uint16_t a, uint16_t b, uint16_t c) { return (void)c, round_f16(most_d(f16(a), f16(b))); }
static uint16_t h_max_nan(uint16_t a, uint16_t b, uint16_t c)
{
    return isnan(f16(a)) || isnan(f16(b)) ? 0x7fff : h_max(a, b, c);
}
static uint16_t h_neg(uint16_t a, uint16_t b, uint16_t c) { return (void)b, (void)c, a ^ 0x8000; }
static uint16_t h_abs(uint16_t a, uint16_t b, uint16_t c) { return (void)b, (void)c, a & 0x7fff; }
static uint16_t b_add(uint16_t a, uint16_t b, uint16_t c) { return (void)c, sg_bf16_fma(a, 0x3f80, b); }
static uint16_t b_sub(uint16_t a, uint16_t b, uint16_t c) { return (void)c, sg_bf16_fma(b, 0xbf80, a); }
static uint16_t b_mul(uint16_t a, uint16_t b, uint16_t c) { return (void)c, round_bf16(bf16(a) * bf16(b)); }
static uint16_t b_fma(uint16_t a, uint16_t b, uint16_t c) { return sg_bf16_fma(a, b, c); }
static uint16_t b_min(uint16_t a, uint16_t b, uint16_t c) { return (void)c, round_bf16(least_d(bf16(a), bf16(b))); }
static uint16_t b_max(uint16_t a, uint16_t b, uint16_t c) { return (void)c, round_bf16(most_d(bf16(a), bf16(b))); }

EXPECT(h_add1, h_add((uint16_t)ua, (uint16_t)ub, 0))
EXPECT(h_fma1, h_fma((uint16_t)ua, (uint16_t)ub, (uint16_t)uc))
EXPECT(h_add2, both(h_add, ua, ub, 0))
EXPECT(h_sub2, both(h_sub, ua, ub, 0))
EXPECT(h_mul2, both(h_mul, ua, ub, 0))
EXPECT(h_fma2, both(h_fma, ua, ub, uc))
EXPECT(h_fma_relu2, both(h_fma_relu, ua, ub, uc))
EXPECT(h_min2, both(h_min, ua, ub, 0))
EXPECT(h_max2, both(h_max, ua, ub, 0))
EXPECT(h_max_nan2, both(h_max_nan, ua, ub, 0))
EXPECT(h_neg2, both(h_neg, ua, 0, 0))
EXPECT(h_abs2, both(h_abs, ua, 0, 0))
EXPECT(b_add2, both(b_add, ua, ub, 0))
EXPECT(b_sub2, both(b_sub, ua, ub, 0))
EXPECT(b_mul2, both(b_mul, ua, ub, 0))
EXPECT(b_fma1, b_fma((uint16_t)ua, (uint16_t)ub, (uint16_t)uc))
EXPECT(b_fma2, both(b_fma, ua, ub, uc))
EXPECT(b_min2, both(b_min, ua, ub, 0))
EXPECT(b_max2, both(b_max, ua, ub, 0))
EXPECT(h_less, f16((uint16_t)ua) < f16((uint16_t)ub))
EXPECT(h_less_high, f16((uint16_t)(ua >> 16)) < f16((uint16_t)(ub >> 16)))
EXPECT(b_more, bf16((uint16_t)ua) > bf16((uint16_t)ub))

static void halves(void **state)
{
    (void)state;
    static const instruction rows[] = {
        {"add.f16 $d, $a, $b", 16, 16, 16, 0, h_add1, HALVES, PACKED_NAN},
        {"fma.rn.f16 $d, $a, $b, $c", 16, 16, 16, 16, h_fma1, HALVES, PACKED_NAN},
        {"add.f16x2 $d, $a, $b", 32, 32, 32, 0, h_add2, HALVES, PACKED_NAN},
        {"sub.f16x2 $d, $a, $b", 32, 32, 32, 0, h_sub2, HALVES, PACKED_NAN},
        {"mul.f16x2 $d, $a, $b", 32, 32, 32, 0, h_mul2, HALVES, PACKED_NAN},
        {"fma.rn.f16x2 $d, $a, $b, $c", 32, 32, 32, 32, h_fma2, HALVES, PACKED_NAN},
        {"fma.rn.relu.f16x2 $d, $a, $b, $c", 32, 32, 32, 32, h_fma_relu2, HALVES, PACKED_NAN},
        {"min.f16x2 $d, $a, $b", 32, 32, 32, 0, h_min2, HALVES, PACKED_NAN},
        {"max.f16x2 $d, $a, $b", 32, 32, 32, 0, h_max2, HALVES, PACKED_NAN},
        {"max.NaN.f16x2 $d, $a, $b", 32, 32, 32, 0, h_max_nan2, HALVES, PACKED_NAN},
        {"neg.f16x2 $d, $a", 32, 32, 0, 0, h_neg2, HALVES, PACKED_NAN},
        {"abs.f16x2 $d, $a", 32, 32, 0, 0, h_abs2, HALVES, PACKED_NAN},
        {"add.bf16x2 $d, $a, $b", 32, 32, 32, 0, b_add2, HALVES, PACKED_NAN},
        {"sub.bf16x2 $d, $a, $b", 32, 32, 32, 0, b_sub2, HALVES, PACKED_NAN},
        {"mul.bf16x2 $d, $a, $b", 32, 32, 32, 0, b_mul2, HALVES, PACKED_NAN},
        {"fma.rn.bf16 $d, $a, $b, $c", 16, 16, 16, 16, b_fma1, HALVES, PACKED_NAN},
        {"fma.rn.bf16x2 $d, $a, $b, $c", 32, 32, 32, 32, b_fma2, HALVES, PACKED_NAN},
        {"min.bf16x2 $d, $a, $b", 32, 32, 32, 0, b_min2, HALVES, PACKED_NAN},
        {"max.bf16x2 $d, $a, $b", 32, 32, 32, 0, b_max2, HALVES, PACKED_NAN},
        {"setp.lt.f16 $d, $a, $b", 1, 16, 16, 0, h_less, HALVES, EXACT},
        {"setp.lt.f16x2 $d|$p, $a, $b", 1, 32, 32, 0, h_less, HALVES, EXACT},
        {"setp.lt.f16x2 $p|$d, $a, $b", 1, 32, 32, 0, h_less_high, HALVES, EXACT},
        {"setp.gt.bf16 $d, $a, $b", 1, 16, 16, 0, b_more, HALVES, EXACT},
    };
    ROWS(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_precision),
        cmocka_unit_test(double_precision),
        cmocka_unit_test(approximations),
        cmocka_unit_test(halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
