/* cvt between every pair of types that code uses, with its rounding and saturation, against numbers.h and the host. */
#include "kernels/instruction.h"

#include "numbers/numbers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#define ROWS(rows) run_instructions(rows, sizeof(rows) / sizeof *(rows))

/* To integers the device clamps to the range, and NaN becomes 0 (2^63 for 64 bits). */
static uint64_t to_integer(double x, double low, double high, uint64_t nan)
{
    if (isnan(x)) return nan;
    if (x <= low) return low < 0 ? (uint64_t)(int64_t)low : 0;
    if (x >= high) return high >= 0x1p64 ? UINT64_MAX : high == 0x1p63 ? INT64_MAX : (uint64_t)high;
    return x < 0 ? (uint64_t)(int64_t)x : (uint64_t)x;
}

static uint64_t to_s32(double x) { return to_integer(x, -0x1p31, 0x1p31 - 1, 0); }
static uint64_t to_u32(double x) { return to_integer(x, 0, 0x1p32 - 1, 0); }
static uint64_t to_s64(double x) { return to_integer(x, -0x1p63, 0x1p63, 0x8000000000000000); }
static uint64_t to_u64(double x) { return to_integer(x, 0, 0x1p64, 0x8000000000000000); }

EXPECT(s32_rni, to_s32(rint((double)fa)))
EXPECT(s32_rzi, to_s32(trunc((double)fa)))
EXPECT(s32_rmi, to_s32(floor((double)fa)))
EXPECT(s32_rpi, to_s32(ceil((double)fa)))
EXPECT(u32_rzi, to_u32(trunc((double)fa)))
EXPECT(s64_rzi, to_s64(trunc((double)fa)))
EXPECT(u64_rni, to_u64(rint((double)fa)))
EXPECT(s32_d, to_s32(trunc(da)))
EXPECT(s64_d, to_s64(rint(da)))
EXPECT(u64_d, to_u64(floor(da)))
EXPECT(s16_f, ({ double x = rint((double)fa); isnan(x) ? 0 : x > 32767 ? 32767 : x < -32768 ? (uint64_t)-32768 : (uint64_t)(int64_t)x; }))
EXPECT(u8_f, ({ double x = rint((double)fa); !(x > 0) ? 0 : x > 255 ? 255 : (uint64_t)x; }))
EXPECT(integral_rni, float_bits(rintf(fa)))
EXPECT(integral_rzi, float_bits(truncf(fa)))
EXPECT(integral_rmi, float_bits(floorf(fa)))
EXPECT(integral_rpi_d, double_bits(ceil(da)))
EXPECT(f_s32, float_bits((float)sa))
EXPECT(f_s32_rz, sg_encode_exact(&sg_f32, sa < 0, sa < 0 ? 0u - ua : ua, 0, SG_RZ, 0))
EXPECT(f_u32_rp, sg_encode_exact(&sg_f32, false, ua, 0, SG_RP, 0))
EXPECT(f_s64, sg_encode_exact(&sg_f32, la < 0, la < 0 ? 0 - wa : wa, 0, SG_RN, 0))
EXPECT(f_u64_rm, sg_encode_exact(&sg_f32, false, wa, 0, SG_RM, 0))
EXPECT(f_u8, float_bits((float)(ua & 255)))
EXPECT(d_s32, double_bits((double)sa))
EXPECT(d_u64, double_bits((double)wa))
EXPECT(f_d_rn, float_bits((float)da))
EXPECT(f_d_rz, sg_encode(&sg_f32, da, SG_RZ, 0))
EXPECT(f_d_rp, sg_encode(&sg_f32, da, SG_RP, 0))
EXPECT(d_f, double_bits((double)fa))
EXPECT(f_f_sat, float_bits(!(fa > 0) ? 0 : fa > 1 ? 1 : fa))
EXPECT(h_f_rn, sg_encode(&sg_f16, (double)fa, SG_RN, 0))
EXPECT(h_f_rz, sg_encode(&sg_f16, (double)fa, SG_RZ, 0))
EXPECT(h_d, sg_encode(&sg_f16, da, SG_RN, 0))
EXPECT(h_s32, sg_encode_exact(&sg_f16, sa < 0, sa < 0 ? 0u - ua : ua, 0, SG_RN, 0))
EXPECT(f_h, float_bits((float)sg_decode(&sg_f16, ua)))
EXPECT(d_h, double_bits(sg_decode(&sg_f16, ua)))
EXPECT(s32_h, to_s32(rint(sg_decode(&sg_f16, ua))))
EXPECT(b_f_rn, sg_encode(&sg_bf16, (double)fa, SG_RN, 0))
EXPECT(b_f_rz_relu, sg_encode(&sg_bf16, (double)fa, SG_RZ, SG_RELU))
EXPECT(f_b, float_bits((float)sg_decode(&sg_bf16, ua)))
EXPECT(tf32, sg_encode(&sg_tf32, (double)fa, SG_RNA, 0))
EXPECT(tf32_rn, sg_encode(&sg_tf32, (double)fa, SG_RN, 0))
EXPECT(pair_h, sg_encode(&sg_f16, (double)fa, SG_RN, 0) << 16 | sg_encode(&sg_f16, (double)fb, SG_RN, 0))
EXPECT(pair_h_relu, sg_encode(&sg_f16, (double)fa, SG_RN, SG_RELU) << 16 | sg_encode(&sg_f16, (double)fb, SG_RN, SG_RELU))
EXPECT(pair_b, sg_encode(&sg_bf16, (double)fa, SG_RN, 0) << 16 | sg_encode(&sg_bf16, (double)fb, SG_RN, 0))
EXPECT(pair_e4m3, sg_encode(&sg_e4m3, (double)fa, SG_RN, SG_SATFINITE) << 8 | sg_encode(&sg_e4m3, (double)fb, SG_RN, SG_SATFINITE))
EXPECT(pair_e5m2, sg_encode(&sg_e5m2, (double)fa, SG_RN, SG_SATFINITE) << 8 | sg_encode(&sg_e5m2, (double)fb, SG_RN, SG_SATFINITE))
EXPECT(halves_e4m3, sg_encode(&sg_f16, sg_decode(&sg_e4m3, ua >> 8 & 255), SG_RN, 0) << 16 |
                        sg_encode(&sg_f16, sg_decode(&sg_e4m3, ua & 255), SG_RN, 0))
EXPECT(halves_e5m2, sg_encode(&sg_f16, sg_decode(&sg_e5m2, ua >> 8 & 255), SG_RN, 0) << 16 |
                        sg_encode(&sg_f16, sg_decode(&sg_e5m2, ua & 255), SG_RN, 0))
EXPECT(sign_8, (uint32_t)(int8_t)ua)
EXPECT(sign_16, (uint32_t)(int16_t)ua)
EXPECT(zero_8, ua & 255)
EXPECT(sign_32_64, (uint64_t)(int64_t)sa)
EXPECT(zero_32_64, ua)
EXPECT(low_32, ua)
EXPECT(sat_s32_s64, la > INT32_MAX ? INT32_MAX : la < INT32_MIN ? (uint32_t)INT32_MIN : ua)
EXPECT(sat_u8_s32, sa < 0 ? 0 : sa > 255 ? 255 : ua)
EXPECT(sat_s8_s32, (uint32_t)(sa < -128 ? -128 : sa > 127 ? 127 : sa))
EXPECT(packed_s8, (uint32_t)(((uint32_t)(sa < -128 ? -128 : sa > 127 ? 127 : sa) & 255) << 8 |
                             ((uint32_t)(sb < -128 ? -128 : sb > 127 ? 127 : sb) & 255) | uc << 16))

static void conversions(void **state)
{
    (void)state;
    static const instruction rows[] = {
        {"cvt.rni.s32.f32 $d, $a", 32, 32, 0, 0, s32_rni, FLOATS, EXACT},
        {"cvt.rzi.s32.f32 $d, $a", 32, 32, 0, 0, s32_rzi, FLOATS, EXACT},
        {"cvt.rmi.s32.f32 $d, $a", 32, 32, 0, 0, s32_rmi, FLOATS, EXACT},
        {"cvt.rpi.s32.f32 $d, $a", 32, 32, 0, 0, s32_rpi, FLOATS, EXACT},
        {"cvt.rzi.u32.f32 $d, $a", 32, 32, 0, 0, u32_rzi, FLOATS, EXACT},
        {"cvt.rzi.s64.f32 $d, $a", 64, 32, 0, 0, s64_rzi, FLOATS, EXACT},
        {"cvt.rni.u64.f32 $d, $a", 64, 32, 0, 0, u64_rni, FLOATS, EXACT},
        {"cvt.rzi.s32.f64 $d, $a", 32, 64, 0, 0, s32_d, DOUBLES, EXACT},
        {"cvt.rni.s64.f64 $d, $a", 64, 64, 0, 0, s64_d, DOUBLES, EXACT},
        {"cvt.rmi.u64.f64 $d, $a", 64, 64, 0, 0, u64_d, DOUBLES, EXACT},
        {"cvt.rni.s16.f32 $d, $a", 16, 32, 0, 0, s16_f, FLOATS, EXACT},
        {"cvt.rni.u8.f32 $h, $a; cvt.u32.u8 $d, $h", 32, 32, 0, 0, u8_f, FLOATS, EXACT},
        {"cvt.rni.f32.f32 $d, $a", 32, 32, 0, 0, integral_rni, FLOATS, ANY_NAN},
        {"cvt.rzi.f32.f32 $d, $a", 32, 32, 0, 0, integral_rzi, FLOATS, ANY_NAN},
        {"cvt.rmi.f32.f32 $d, $a", 32, 32, 0, 0, integral_rmi, FLOATS, ANY_NAN},
        {"cvt.rpi.f64.f64 $d, $a", 64, 64, 0, 0, integral_rpi_d, DOUBLES, ANY_NAN},
        {"cvt.rn.f32.s32 $d, $a", 32, 32, 0, 0, f_s32, BITS, EXACT},
        {"cvt.rz.f32.s32 $d, $a", 32, 32, 0, 0, f_s32_rz, BITS, EXACT},
        {"cvt.rp.f32.u32 $d, $a", 32, 32, 0, 0, f_u32_rp, BITS, EXACT},
        {"cvt.rn.f32.s64 $d, $a", 32, 64, 0, 0, f_s64, BITS, EXACT},
        {"cvt.rm.f32.u64 $d, $a", 32, 64, 0, 0, f_u64_rm, BITS, EXACT},
        {"cvt.u16.u32 $h, $a; cvt.rn.f32.u8 $d, $h", 32, 32, 0, 0, f_u8, BITS, EXACT},
        {"cvt.rn.f64.s32 $d, $a", 64, 32, 0, 0, d_s32, BITS, EXACT},
        {"cvt.rn.f64.u64 $d, $a", 64, 64, 0, 0, d_u64, BITS, EXACT},
        {"cvt.rn.f32.f64 $d, $a", 32, 64, 0, 0, f_d_rn, DOUBLES, ANY_NAN},
        {"cvt.rz.f32.f64 $d, $a", 32, 64, 0, 0, f_d_rz, DOUBLES, ANY_NAN},
        {"cvt.rp.f32.f64 $d, $a", 32, 64, 0, 0, f_d_rp, DOUBLES, ANY_NAN},
        {"cvt.f64.f32 $d, $a", 64, 32, 0, 0, d_f, FLOATS, ANY_NAN},
        {"cvt.sat.f32.f32 $d, $a", 32, 32, 0, 0, f_f_sat, FLOATS, ANY_NAN},
        {"cvt.rn.f16.f32 $d, $a", 16, 32, 0, 0, h_f_rn, FLOATS, PACKED_NAN},
        {"cvt.rz.f16.f32 $d, $a", 16, 32, 0, 0, h_f_rz, FLOATS, PACKED_NAN},
        {"cvt.rn.f16.f64 $d, $a", 16, 64, 0, 0, h_d, DOUBLES, PACKED_NAN},
        {"cvt.rn.f16.s32 $d, $a", 16, 32, 0, 0, h_s32, BITS, EXACT},
        {"cvt.f32.f16 $d, $a", 32, 16, 0, 0, f_h, HALVES, ANY_NAN},
        {"cvt.f64.f16 $d, $a", 64, 16, 0, 0, d_h, HALVES, ANY_NAN},
        {"cvt.rni.s32.f16 $d, $a", 32, 16, 0, 0, s32_h, HALVES, EXACT},
        {"cvt.rn.bf16.f32 $d, $a", 16, 32, 0, 0, b_f_rn, FLOATS, PACKED_NAN},
        {"cvt.rz.relu.bf16.f32 $d, $a", 16, 32, 0, 0, b_f_rz_relu, FLOATS, PACKED_NAN},
        {"cvt.f32.bf16 $d, $a", 32, 16, 0, 0, f_b, HALVES, ANY_NAN},
        {"cvt.rna.tf32.f32 $d, $a", 32, 32, 0, 0, tf32, FLOATS, ANY_NAN},
        {"cvt.rn.tf32.f32 $d, $a", 32, 32, 0, 0, tf32_rn, FLOATS, ANY_NAN},
        {"cvt.rn.f16x2.f32 $d, $a, $b", 32, 32, 32, 0, pair_h, FLOATS, PACKED_NAN},
        {"cvt.rn.relu.f16x2.f32 $d, $a, $b", 32, 32, 32, 0, pair_h_relu, FLOATS, PACKED_NAN},
        {"cvt.rn.bf16x2.f32 $d, $a, $b", 32, 32, 32, 0, pair_b, FLOATS, PACKED_NAN},
        {"cvt.rn.satfinite.e4m3x2.f32 $d, $a, $b", 16, 32, 32, 0, pair_e4m3, FLOATS, EXACT},
        {"cvt.rn.satfinite.e5m2x2.f32 $d, $a, $b", 16, 32, 32, 0, pair_e5m2, FLOATS, EXACT},
        {"cvt.rn.f16x2.e4m3x2 $d, $a", 32, 16, 0, 0, halves_e4m3, BITS, PACKED_NAN},
        {"cvt.rn.f16x2.e5m2x2 $d, $a", 32, 16, 0, 0, halves_e5m2, BITS, PACKED_NAN},
        {"cvt.u16.u32 $h, $a; cvt.s32.s8 $d, $h", 32, 32, 0, 0, sign_8, BITS, EXACT},
        {"cvt.s32.s16 $d, $a", 32, 16, 0, 0, sign_16, BITS, EXACT},
        {"cvt.u16.u32 $h, $a; cvt.u32.u8 $d, $h", 32, 32, 0, 0, zero_8, BITS, EXACT},
        {"cvt.s64.s32 $d, $a", 64, 32, 0, 0, sign_32_64, BITS, EXACT},
        {"cvt.u64.u32 $d, $a", 64, 32, 0, 0, zero_32_64, BITS, EXACT},
        {"cvt.u32.u64 $d, $a", 32, 64, 0, 0, low_32, BITS, EXACT},
        {"cvt.sat.s32.s64 $d, $a", 32, 64, 0, 0, sat_s32_s64, BITS, EXACT},
        {"cvt.sat.u8.s32 $d, $a", 32, 32, 0, 0, sat_u8_s32, BITS, EXACT},
        {"cvt.sat.s8.s32 $d, $a", 32, 32, 0, 0, sat_s8_s32, BITS, EXACT},
        {"cvt.pack.sat.s8.s32.b32 $d, $a, $b, $c", 32, 32, 32, 32, packed_s8, BITS, EXACT},
    };
    ROWS(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(conversions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
