/* Every pattern of every short format, and every place between two neighbours where a rounding mode decides. */
#include "numbers/numbers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct {
    const char *name;
    const sg_format *format;
    int exponent_bits, mantissa_bits, shift;
    double largest; /* from the formats' definitions */
} formats[] = {
    {"f16", &sg_f16, 5, 10, 0, 65504},  {"bf16", &sg_bf16, 8, 7, 0, 0x1.fep127}, {"tf32", &sg_tf32, 8, 10, 13, 0x1.ffcp127},
    {"e4m3", &sg_e4m3, 4, 3, 0, 448},   {"e5m2", &sg_e5m2, 5, 2, 0, 57344},      {"e2m1", &sg_e2m1, 2, 1, 0, 6},
    {"e2m3", &sg_e2m3, 2, 3, 0, 7.5},   {"e3m2", &sg_e3m2, 3, 2, 0, 28},
};
enum { FORMATS = sizeof formats / sizeof *formats };

/* A finite magnitude from its digits, in long double and without the code under test. */
static double magnitude(int f, uint32_t pattern)
{
    int bias = (1 << (formats[f].exponent_bits - 1)) - 1, mantissa_bits = formats[f].mantissa_bits;
    int exponent = (int)(pattern >> mantissa_bits);
    double fraction = (double)(pattern & ((1u << mantissa_bits) - 1)) / (double)(1u << mantissa_bits);
    return exponent ? (1 + fraction) * pow(2, exponent - bias) : fraction * pow(2, 1 - bias);
}

static uint32_t sign_of(int f) { return 1u << (formats[f].exponent_bits + formats[f].mantissa_bits + formats[f].shift); }

static void finite_patterns_decode_and_encode_back(void **state)
{
    (void)state;
    for (int f = 0; f < FORMATS; f++) {
        for (uint32_t p = 0; magnitude(f, p) <= formats[f].largest; p++) {
            uint32_t bits = p << formats[f].shift;
            double value = magnitude(f, p);
            if (sg_decode(formats[f].format, bits) != value || sg_decode(formats[f].format, bits | sign_of(f)) != -value)
                fail_msg("%s pattern %#x decodes to %a, not %a", formats[f].name, bits, sg_decode(formats[f].format, bits), value);
            for (sg_round round = SG_RN; round <= SG_RNA; round++)
                if (sg_encode(formats[f].format, -value, round, 0) != (bits | sign_of(f)))
                    fail_msg("%s: %a does not encode to its own pattern in mode %d", formats[f].name, -value, (int)round);
        }
        assert_true(sg_decode(formats[f].format, formats[f].format->max) == formats[f].largest);
    }
}

/* What IEEE 754 says of a magnitude between two neighbours. */
static bool goes_up(sg_round round, bool negative, double low, double value, double high, bool low_is_odd)
{
    double below = value - low, above = high - value;
    switch (round) {
    case SG_RN: return below > above || (below == above && low_is_odd);
    case SG_RNA: return below >= above;
    case SG_RM: return negative;
    case SG_RP: return !negative;
    default: return false;
    }
}

static void every_gap_rounds_as_its_mode_says(void **state)
{
    (void)state;
    for (int f = 0; f < FORMATS; f++)
        for (uint32_t p = 0; magnitude(f, p + 1) <= formats[f].largest; p++) {
            double low = magnitude(f, p), high = magnitude(f, p + 1), middle = (low + high) / 2;
            double tiny = (high - low) * 0x1p-20;
            const double inside[] = {low + tiny, middle - tiny, middle, middle + tiny, high - tiny};
            for (int i = 0; i < 5; i++)
                for (int negative = 0; negative < 2; negative++)
                    for (sg_round round = SG_RN; round <= SG_RNA; round++) {
                        uint32_t up = goes_up(round, negative, low, inside[i], high, p & 1);
                        uint32_t wanted = ((p + up) << formats[f].shift) | (negative ? sign_of(f) : 0);
                        double value = negative ? -inside[i] : inside[i];
                        if (sg_encode(formats[f].format, value, round, 0) != wanted)
                            fail_msg("%s: %a rounds to %#x in mode %d, expected %#x", formats[f].name, value,
                                     sg_encode(formats[f].format, value, round, 0), (int)round, wanted);
                    }
        }
}

/* By its definition: not every compiler has the type. */
static float value_of_half(uint32_t h)
{
    int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
    float value = ldexpf((float)(mantissa + (exponent ? 1024 : 0)), (exponent ? exponent : 1) - 25);
    if (exponent == 31) value = mantissa ? NAN : INFINITY;
    return h >> 15 ? -value : value;
}

static void inline_conversions_agree_for_every_pattern(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t bits = (uint16_t)h;
        float f16 = sg_f16_to_float(bits), bf16 = sg_bf16_to_float(bits), expected = value_of_half(h);
        assert_true(isnan(expected) ? sg_float_bits(f16) == 0x7fffffff : sg_float_bits(f16) == sg_float_bits(expected));
        assert_true(isnan(bf16) ? sg_float_bits(bf16) == 0x7fffffff : sg_float_bits(bf16) == h << 16);
        assert_int_equal(sg_f16_from_float(f16), isnan(f16) ? 0x7fff : h);
        assert_int_equal(sg_bf16_from_float(bf16), isnan(bf16) ? 0x7fff : h);
    }
}

/* All exponents and signs, mantissas at and beside every place that decides, against the general encoder. */
static void inline_conversions_round_to_nearest(void **state)
{
    (void)state;
    for (uint32_t top = 0; top < 1u << 19; top++)
        for (int i = 0; i < 5; i++) {
            static const uint32_t low[] = {0, 1, 0xfff, 0x1000, 0x1fff};
            float value = sg_bits_float(top << 13 | low[i]);
            if (isnan(value)) continue;
            if (sg_f16_from_float(value) != sg_encode(&sg_f16, (double)value, SG_RN, 0))
                fail_msg("f16 of %a is %#x", (double)value, sg_f16_from_float(value));
            if (sg_bf16_from_float(value) != sg_encode(&sg_bf16, (double)value, SG_RN, 0))
                fail_msg("bf16 of %a is %#x", (double)value, sg_bf16_from_float(value));
        }
}

static void ends_of_the_range_follow_the_isa(void **state)
{
    (void)state;
    static const double inf = (double)INFINITY;
    const struct {
        const sg_format *format;
        double value;
        sg_round round;
        unsigned flags;
        uint32_t bits;
    } cases[] = {
        {&sg_f16, 65519.99, SG_RN, 0, 0x7bff},     {&sg_f16, 65520, SG_RN, 0, 0x7c00},
        {&sg_f16, 65520, SG_RZ, 0, 0x7bff},        {&sg_f16, 1e9, SG_RM, 0, 0x7bff},
        {&sg_f16, -1e9, SG_RM, 0, 0xfc00},         {&sg_f16, 1e9, SG_RN, SG_SATFINITE, 0x7bff},
        {&sg_f16, -inf, SG_RN, SG_SATFINITE, 0xfbff}, {&sg_f16, -inf, SG_RZ, 0, 0xfc00},
        {&sg_f16, -3, SG_RN, SG_RELU, 0},          {&sg_f16, (double)NAN, SG_RN, SG_RELU, 0x7fff},
        {&sg_f16, 1.5, SG_RN, SG_SAT, 0x3c00},     {&sg_f16, -1.5, SG_RN, SG_SAT, 0},
        {&sg_f16, (double)NAN, SG_RN, SG_SAT, 0},  {&sg_f16, 0x1p-25, SG_RN, 0, 0},
        {&sg_f16, 0x1.8p-25, SG_RN, 0, 1},         {&sg_f16, 0x1p-30, SG_RP, 0, 1},
        {&sg_f16, -0x1p-1000, SG_RM, 0, 0x8001},   {&sg_bf16, 0x1p-130, SG_RN, SG_FTZ, 0},
        {&sg_bf16, (double)NAN, SG_RN, 0, 0x7fff}, {&sg_bf16, 0x1.ffp127, SG_RN, 0, 0x7f80},
        {&sg_tf32, 0x1.ffep127, SG_RNA, 0, 0x7f800000}, {&sg_tf32, inf, SG_RNA, SG_SATFINITE, 0x7f7fe000},
        {&sg_e4m3, 463.9, SG_RN, SG_SATFINITE, 0x7e}, {&sg_e4m3, 464, SG_RN, 0, 0x7e},
        {&sg_e4m3, 464.1, SG_RN, 0, 0x7f},         {&sg_e4m3, -1e6, SG_RN, SG_SATFINITE, 0xfe},
        {&sg_e4m3, (double)NAN, SG_RN, SG_SATFINITE, 0x7f}, {&sg_e5m2, inf, SG_RN, SG_SATFINITE, 0x7b},
        {&sg_e5m2, inf, SG_RN, 0, 0x7c},           {&sg_e2m1, 100, SG_RN, SG_SATFINITE, 7},
        {&sg_e2m1, (double)NAN, SG_RN, SG_SATFINITE, 7}, {&sg_e3m2, -100, SG_RN, SG_SATFINITE, 0x3f},
        {&sg_f32, 0x1.fffffffp127, SG_RZ, 0, 0x7f7fffff}, {&sg_f32, 0x1p-149 * 0.75, SG_RN, 0, 1},
        {&sg_f32, 1 + 0x1p-24, SG_RN, 0, 0x3f800000}, {&sg_f32, 1 + 0x1p-24, SG_RP, 0, 0x3f800001},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t bits = sg_encode(cases[i].format, cases[i].value, cases[i].round, cases[i].flags);
        if (bits != cases[i].bits)
            fail_msg("case %zu: %a gives %#x, expected %#x", i, cases[i].value, bits, cases[i].bits);
    }
    assert_int_equal(sg_encode_exact(&sg_f32, false, UINT64_MAX, 0, SG_RN, 0), 0x5f800000);
    assert_int_equal(sg_encode_exact(&sg_f32, true, UINT64_MAX, 0, SG_RZ, 0), 0xdf7fffff);
    assert_int_equal(sg_encode_exact(&sg_f32, false, (UINT64_C(1) << 63) + 1, 0, SG_RP, 0), 0x5f000001);
    assert_int_equal(sg_ue8m0_from_float(3, SG_RP), 129);
    assert_int_equal(sg_ue8m0_from_float(3, SG_RZ), 128);
    assert_true(sg_ue8m0_to_float(129) == 4);
}

static uint16_t random_bits(void) { return (uint16_t)(random() >> 3); }

/* Against the exact sum in 113 bits: it lies no nearer to either neighbour, and a tie goes to the even one. */
static void expect_nearest(const sg_format *format, uint16_t got, __float128 exact, const char *what)
{
    double value = sg_decode(format, got), next = sg_decode(format, got + 1u), previous = sg_decode(format, got - 1u);
    __float128 error = exact > (__float128)value ? exact - (__float128)value : (__float128)value - exact;
    if (!isfinite(value) || (got & 0x7fff) == 0 || !isfinite(next)) return;
    __float128 other_1 = exact > (__float128)next ? exact - (__float128)next : (__float128)next - exact;
    __float128 other_2 = exact > (__float128)previous ? exact - (__float128)previous : (__float128)previous - exact;
    if (error > other_1 || error > other_2 || ((error == other_1 || error == other_2) && (got & 1)))
        fail_msg("%s: %a is not the nearest to %a", what, value, (double)exact);
}

static void fused_multiply_add_rounds_once(void **state)
{
    (void)state;
    srandom(1);
    for (int i = 0; i < 400000; i++) {
        uint16_t a = random_bits(), b = random_bits(), c = random_bits();
        double x = sg_decode(&sg_f16, a), y = sg_decode(&sg_f16, b), z = sg_decode(&sg_f16, c);
        if (isfinite(x) && isfinite(y) && isfinite(z))
            expect_nearest(&sg_f16, sg_f16_fma(a, b, c), (__float128)x * (__float128)y + (__float128)z, "f16 fma");
        /* Exponents near one another, where double rounding would show. */
        a = (a & 0x83ff) | 0x3f80, b = (b & 0x83ff) | 0x3f80, c = (c & 0x87ff) | 0x3800;
        x = sg_decode(&sg_bf16, a), y = sg_decode(&sg_bf16, b), z = sg_decode(&sg_bf16, c);
        if (isfinite(x) && isfinite(y) && isfinite(z))
            expect_nearest(&sg_bf16, sg_bf16_fma(a, b, c), (__float128)x * (__float128)y + (__float128)z, "bf16 fma");
    }
    /* 1.5 + 2^-7 + 2^-8 is a tie; 2^-100 below it, which no double holds, it is none. */
    assert_int_equal(sg_bf16_fma(0x3f81, 0x3fc0, 0x0000), 0x3fc2);
    assert_int_equal(sg_bf16_fma(0x3f81, 0x3fc0, 0x8d80), 0x3fc1);
    /* 1 + 2^-9 + 2^-20 + 2^-24: the last term alone lies beyond fp32. */
    assert_int_equal(sg_f16_fma(0x3c01, 0x3c01, 0x0001), 0x3c02);
}

static void stochastic_rounding_follows_the_random_bits(void **state)
{
    (void)state;
    float quarter = 1 + 0x1p-12f; /* a quarter of the way between two halves */
    assert_int_equal(sg_encode_stochastic(&sg_f16, quarter, 0, 16, 0), 0x3c00);
    assert_int_equal(sg_encode_stochastic(&sg_f16, quarter, 0xbfff, 16, 0), 0x3c00);
    assert_int_equal(sg_encode_stochastic(&sg_f16, quarter, 0xc000, 16, 0), 0x3c01);
    assert_int_equal(sg_encode_stochastic(&sg_f16, -quarter, 0xc000, 16, 0), 0xbc01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finite_patterns_decode_and_encode_back),
        cmocka_unit_test(every_gap_rounds_as_its_mode_says),
        cmocka_unit_test(inline_conversions_agree_for_every_pattern),
        cmocka_unit_test(inline_conversions_round_to_nearest),
        cmocka_unit_test(ends_of_the_range_follow_the_isa),
        cmocka_unit_test(fused_multiply_add_rounds_once),
        cmocka_unit_test(stochastic_rounding_follows_the_random_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
