/* The sums inside mma: products aligned to the largest exponent, cut, and added, eight outputs at a time in int32 lanes. A
   lane with infinities, NaNs or exponents near fp32's ends is left to the scalar definition. */
#include "numbers/mma_sum.h"

#include <math.h>
#include <string.h>

typedef float floats __attribute__((vector_size(32)));
typedef int32_t ints __attribute__((vector_size(32)));
typedef uint32_t uints __attribute__((vector_size(32)));
typedef double doubles __attribute__((vector_size(64)));
typedef int64_t longs __attribute__((vector_size(64)));
typedef int64_t longs_4 __attribute__((vector_size(32)));
typedef floats unaligned_floats __attribute__((aligned(4), may_alias));

#define LOAD(from) (*(const unaligned_floats *)(from))
#define SELECT(mask, x, y) (((x) & (mask)) | ((y) & ~(mask)))

enum {
    MANTISSA = 23,
    INFINITE = 0xff << MANTISSA,
    SMALLEST = (127 - 102) << MANTISSA /* below 2^-102 a term's cut would meet fp32's subnormals */
};

/* ---- the definition ----------------------------------------------------------------------------------------------------- */

typedef struct term {
    int64_t significand; /* signed */
    int exponent;        /* of the significand's unit */
} term;

static term exact(float value) {
    int exponent;
    float fraction = frexpf(value, &exponent);
    return (term){(int64_t)ldexpf(fraction, 24), exponent - 24};
}

static int leading(term t) {
    uint64_t magnitude = (uint64_t)(t.significand < 0 ? -t.significand : t.significand);
    return magnitude ? 63 - __builtin_clzll(magnitude) + t.exponent : INT32_MIN;
}

static int64_t cut(term t, int unit) {
    int shift = unit - t.exponent;
    if (t.significand == 0 || shift >= 63) return 0;
    return shift >= 0 ? t.significand / (INT64_C(1) << shift) : t.significand * (INT64_C(1) << -shift);
}

/* sum * 2^unit towards zero in fp32, subnormals included, infinity beyond the range. */
static float truncate(int64_t sum, int unit) {
    uint64_t magnitude = (uint64_t)(sum < 0 ? -sum : sum);
    if (!magnitude) return 0;
    int last = 63 - __builtin_clzll(magnitude) + unit - 23; /* exponent of the last bit fp32 keeps */
    if (last < -149) last = -149;
    if (last > unit) magnitude = last - unit < 64 ? magnitude >> (last - unit) << (last - unit) : 0;
    float result = (float)ldexp((double)magnitude, unit);
    return sum < 0 ? -result : result;
}

float sg_mma_cut_sum(const float *a, const float *b, int count, float sum, int fraction_bits) {
    double special = (double)sum;
    for (int k = 0; k < count; k++) special += (double)a[k] * (double)b[k];
    if (!isfinite(special)) return isnan(special) ? sg_bits_float(0x7fffffffu) : (float)special;
    term terms[65];
    int most = INT32_MIN;
    for (int k = 0; k < count; k++) {
        term x = exact(a[k]), y = exact(b[k]);
        terms[k] = (term){x.significand * y.significand, x.exponent + y.exponent};
    }
    terms[count] = exact(sum);
    for (int k = 0; k <= count; k++)
        if (leading(terms[k]) > most) most = leading(terms[k]);
    if (most == INT32_MIN) return 0;
    int64_t total = 0;
    for (int k = 0; k <= count; k++) total += cut(terms[k], most - fraction_bits);
    return truncate(total, most - fraction_bits);
}

/* ---- eight outputs at a time --------------------------------------------------------------------------------------------- */

/* The lanes that the integers cannot do, again by the definition. */
__attribute__((noinline)) static void redo(const int32_t *odd, const float *a, const float *b, int stride, int count,
                                           const float *before, float *after, int fraction_bits) {
    float column[64];
    for (int n = 0; n < 8; n++) {
        if (!odd[n]) continue;
        for (int k = 0; k < count; k++) column[k] = b[k * stride + n];
        after[n] = sg_mma_cut_sum(a, column, count, before[n], fraction_bits);
    }
}

/* sum[8] += a[count] b[count x 8], cut. */
static inline __attribute__((always_inline)) void fold_cut(const float *a, const float *b, int stride, int count,
                                                           float *sum, int fraction_bits) {
    floats before = LOAD(sum), products[32];
    ints largest = (ints)before & INT32_MAX;
    for (int k = 0; k < count; k++) {
        products[k] = a[k] * LOAD(b + k * stride);
        ints magnitude = (ints)products[k] & INT32_MAX;
        largest = SELECT(magnitude > largest, magnitude, largest);
    }
    ints odd = (largest >= INFINITE) | ((largest < SMALLEST) & (largest != 0));
    ints exponent = largest & INFINITE;
    exponent = SELECT(exponent < SMALLEST, (ints){0} + SMALLEST, exponent);
    floats scale = (floats)(((2 * 127u + (unsigned)fraction_bits) << MANTISSA) - (uints)exponent);
    uints total = (uints)__builtin_convertvector(before * scale, ints); /* towards zero; odd lanes may overflow */
    for (int k = 0; k < count; k++) total += (uints)__builtin_convertvector(products[k] * scale, ints);
    floats unit = (floats)(exponent - (fraction_bits << MANTISSA));
    doubles wide = __builtin_convertvector((ints)total, doubles) * __builtin_convertvector(unit, doubles);
    wide = (doubles)((longs)wide & ~((INT64_C(1) << (52 - MANTISSA)) - 1));
    floats after = __builtin_convertvector(wide, floats);
    memcpy(sum, &after, sizeof after);
    longs_4 any = (longs_4)odd;
    if (__builtin_expect((any[0] | any[1] | any[2] | any[3]) != 0, 0))
        redo((const int32_t *)&odd, a, b, stride, count, (const float *)&before, sum, fraction_bits);
}

static inline __attribute__((always_inline)) void fold_nearest(const float *a, const float *b, int stride, int count,
                                                               float *sum) {
    doubles wide = __builtin_convertvector(LOAD(sum), doubles);
    for (int k = 0; k < count; k++)
        wide += (double)a[k] * __builtin_convertvector(LOAD(b + k * stride), doubles);
    floats after = __builtin_convertvector(wide, floats);
    memcpy(sum, &after, sizeof after);
    for (int n = 0; n < 8; n++) sum[n] = sg_canonical(sum[n]);
}

/* One row of eight outputs through all of k. `count` and `fraction_bits` are constants at each call, so loops unroll. */
static inline __attribute__((always_inline)) void row(const float *a, const float *b, int stride, int k, int count,
                                                      float *sum, int fraction_bits, bool half, bool rounds) {
    for (int first = 0; first < k; first += count) {
        if (rounds)
            fold_nearest(a + first, b + first * stride, stride, count, sum);
        else
            fold_cut(a + first, b + first * stride, stride, count, sum, fraction_bits);
        for (int n = 0; half && n < 8; n++) sum[n] = sg_f16_to_float(sg_f16_from_float(sum[n]));
    }
}

SG_VECTOR_CLONES
void sg_mma_tile(sg_type type, int m, int n, int k, const float *a, const float *b, float *d, bool half_accumulator,
                 sg_mma_mode mode) {
    bool fp8 = type == SG_TYPE_E4M3 || type == SG_TYPE_E5M2;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j += 8) {
            const float *left = a + i * k, *right = b + j;
            float *sum = d + i * n + j;
            if (fp8 && k % 32 == 0)
                row(left, right, n, k, 32, sum, 13, half_accumulator, mode.rounds);
            else if (fp8)
                row(left, right, n, k, 16, sum, 13, half_accumulator, mode.rounds);
            else if (type == SG_TYPE_TF32)
                row(left, right, n, k, 4, sum, MANTISSA, half_accumulator, mode.rounds);
            else
                row(left, right, n, k, 8, sum, MANTISSA, half_accumulator, mode.rounds);
        }
}
