/* The table of mma.sync and how fragments become matrices: a register, read across the warp as packed elements, is an
   8-row block in row-major order (of the transpose, for b), which is what the ISA's layout figures come to. */
#include "numbers/mma.h"

#include "numbers/mma_sum.h"

#include <fenv.h>
#include <math.h>
#include <string.h>

enum { MAX_M = 16, MAX_N = 8, MAX_K = 64 };

static int type_bits(sg_type type) {
    switch (type) {
    case SG_TYPE_F64: return 64;
    case SG_TYPE_F16:
    case SG_TYPE_BF16: return 16;
    case SG_TYPE_E4M3:
    case SG_TYPE_E5M2:
    case SG_TYPE_S8:
    case SG_TYPE_U8: return 8;
    case SG_TYPE_S4:
    case SG_TYPE_U4: return 4;
    case SG_TYPE_B1: return 1;
    default: return 32;
    }
}

/* ---- floating point ------------------------------------------------------------------------------------------------- */

static float fp8_values[2][256];

__attribute__((constructor)) static void fill_fp8_values(void) {
    for (uint32_t bits = 0; bits < 256; bits++) {
        fp8_values[0][bits] = (float)sg_decode(&sg_e4m3, bits);
        fp8_values[1][bits] = (float)sg_decode(&sg_e5m2, bits);
    }
}

/* One register's elements as floats, lane by lane. */
static inline void widen(sg_type type, const void *lanes, float *values) {
    const uint32_t *words = lanes;
    const uint16_t *halves = lanes;
    const uint8_t *bytes = lanes;
    switch (type) {
    case SG_TYPE_F16:
        for (int i = 0; i < 64; i++) values[i] = sg_f16_to_float(halves[i]);
        break;
    case SG_TYPE_BF16:
        for (int i = 0; i < 64; i++) values[i] = sg_bf16_to_float(halves[i]);
        break;
    case SG_TYPE_TF32:
        for (int i = 0; i < 32; i++) values[i] = sg_tf32_to_float(words[i]);
        break;
    case SG_TYPE_E4M3:
    case SG_TYPE_E5M2:
        for (int i = 0; i < 128; i++) values[i] = fp8_values[type == SG_TYPE_E5M2][bytes[i]];
        break;
    default: memcpy(values, lanes, 32 * sizeof *values);
    }
}

SG_VECTOR_CLONES
static void run_float(const sg_mma *mma, void *const *d, const void *const *a, const void *const *b,
                      const void *const *c, sg_mma_mode mode) {
    _Alignas(64) float am[MAX_M * MAX_K], bm[MAX_K * MAX_N], sum[MAX_M * MAX_N], block[128];
    int width = 4 * 32 / type_bits(mma->a); /* elements of a row of a register's block */
    bool half = mma->accumulator == SG_TYPE_F16;
    for (int r = 0; r < mma->a_registers; r++) {
        float *rows = am + (r % 2) * 8 * mma->k + (r / 2) * width;
        widen(mma->a, a[r], block);
        for (int row = 0; row < 8; row++)
            memcpy(rows + row * mma->k, block + row * width, (size_t)width * sizeof *rows);
    }
    for (int r = 0; r < mma->b_registers; r++) {
        widen(mma->b, b[r], block);
        for (int k = 0; k < width; k++)
            for (int n = 0; n < 8; n++) bm[(r * width + k) * 8 + n] = block[n * width + k];
    }
    for (int r = 0; r < mma->c_registers && half; r++) widen(SG_TYPE_F16, c[r], sum + 64 * r);
    for (int r = 0; r < mma->c_registers && !half; r++)
        for (int lane = 0; lane < 32; lane++) sum[64 * (r / 2) + 2 * lane + r % 2] = ((const float *)c[r])[lane];
    sg_mma_tile(mma->a, mma->m, 8, mma->k, am, bm, sum, half, mode);
    for (int r = 0; r < mma->c_registers && half; r++)
        for (int i = 0; i < 64; i++) ((uint16_t *)d[r])[i] = sg_f16_from_float(sum[64 * r + i]);
    for (int r = 0; r < mma->c_registers && !half; r++)
        for (int lane = 0; lane < 32; lane++) ((float *)d[r])[lane] = sum[64 * (r / 2) + 2 * lane + r % 2];
}

/* ---- fp64 -------------------------------------------------------------------------------------------------------------- */

static int host_rounding(sg_round round) {
    return round == SG_RZ ? FE_TOWARDZERO : round == SG_RM ? FE_DOWNWARD : round == SG_RP ? FE_UPWARD : FE_TONEAREST;
}

static void run_double(const sg_mma *mma, void *const *d, const void *const *a, const void *const *b,
                       const void *const *c, sg_mma_mode mode) {
    double sum[MAX_M * MAX_N];
    int previous = fegetround(), halves = mma->m / 8;
    fesetround(host_rounding(mode.round));
    for (int row = 0; row < mma->m; row++)
        for (int column = 0; column < 8; column++) {
            int half = row / 8, group = row % 8;
            double s = ((const double *)c[2 * half + column % 2])[group * 4 + column / 2];
            for (int k = 0; k < mma->k; k++)
                s = fma(((const double *)a[half + halves * (k / 4)])[group * 4 + k % 4],
                        ((const double *)b[k / 4])[column * 4 + k % 4], s);
            sum[row * 8 + column] = s;
        }
    fesetround(previous);
    for (int r = 0; r < mma->c_registers; r++)
        for (int lane = 0; lane < 32; lane++)
            ((double *)d[r])[lane] = sum[(r / 2 * 8 + lane / 4) * 8 + lane % 4 * 2 + r % 2];
}

/* ---- integers ---------------------------------------------------------------------------------------------------------- */

/* Element i of a register, lane by lane. */
static int32_t element(sg_type type, const void *lanes, int i) {
    const uint8_t *bytes = lanes;
    unsigned nibble = bytes[i / 2] >> (i % 2 * 4) & 15;
    switch (type) {
    case SG_TYPE_S8: return (int8_t)bytes[i];
    case SG_TYPE_U8: return bytes[i];
    case SG_TYPE_S4: return (int32_t)(nibble ^ 8) - 8;
    default: return (int32_t)nibble;
    }
}

static int32_t accumulate(int64_t sum, bool satfinite) {
    if (satfinite) return (int32_t)(sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum);
    return (int32_t)(uint32_t)(uint64_t)sum;
}

static void store_integers(const sg_mma *mma, void *const *d, const int32_t *sum) {
    for (int r = 0; r < mma->c_registers; r++)
        for (int lane = 0; lane < 32; lane++)
            ((int32_t *)d[r])[lane] = sum[(r / 2 * 8 + lane / 4) * 8 + lane % 4 * 2 + r % 2];
}

SG_VECTOR_CLONES
static void run_integer(const sg_mma *mma, void *const *d, const void *const *a, const void *const *b,
                        const void *const *c, sg_mma_mode mode) {
    int32_t am[MAX_M * MAX_K], bm[MAX_K * MAX_N], sum[MAX_M * MAX_N];
    int width = 4 * 32 / type_bits(mma->a), halves = mma->m / 8;
    for (int r = 0; r < mma->a_registers; r++)
        for (int i = 0; i < 8 * width; i++)
            am[(r % halves * 8 + i / width) * mma->k + r / halves * width + i % width] = element(mma->a, a[r], i);
    for (int r = 0; r < mma->b_registers; r++)
        for (int i = 0; i < 8 * width; i++) bm[(r * width + i % width) * 8 + i / width] = element(mma->b, b[r], i);
    for (int row = 0; row < mma->m; row++) {
        int32_t dot[8] = {0};
        for (int k = 0; k < mma->k; k++)
            for (int n = 0; n < 8; n++) dot[n] += am[row * mma->k + k] * bm[k * 8 + n];
        for (int n = 0; n < 8; n++) {
            int32_t start = ((const int32_t *)c[row / 8 * 2 + n % 2])[row % 8 * 4 + n / 2];
            sum[row * 8 + n] = accumulate((int64_t)start + dot[n], mode.satfinite);
        }
    }
    store_integers(mma, d, sum);
}

static void run_bits(const sg_mma *mma, void *const *d, const void *const *a, const void *const *b,
                     const void *const *c, sg_mma_mode mode) {
    int32_t sum[MAX_M * MAX_N];
    int halves = mma->m / 8;
    for (int row = 0; row < mma->m; row++)
        for (int n = 0; n < 8; n++) {
            uint32_t s = ((const uint32_t *)c[row / 8 * 2 + n % 2])[row % 8 * 4 + n / 2];
            for (int word = 0; word < mma->k / 32; word++) {
                uint32_t x = ((const uint32_t *)a[row / 8 + halves * (word / 4)])[row % 8 * 4 + word % 4];
                uint32_t y = ((const uint32_t *)b[word / 4])[n * 4 + word % 4];
                s += (uint32_t)__builtin_popcount(mode.and_popc ? x & y : x ^ y);
            }
            sum[row * 8 + n] = (int32_t)s;
        }
    store_integers(mma, d, sum);
}

/* ---- the table --------------------------------------------------------------------------------------------------------- */

/* m, n, k, a, b, accumulator; registers of a, b and c. */
#define FLOATS(k, a, b, ra, rb)                                                                                         \
    {16, 8, k, SG_TYPE_##a, SG_TYPE_##b, SG_TYPE_F32, ra, rb, 4, run_float},                                            \
    {16, 8, k, SG_TYPE_##a, SG_TYPE_##b, SG_TYPE_F16, ra, rb, 2, run_float}
#define INTEGERS(m, k, a, b, ra, rb) {m, 8, k, SG_TYPE_##a, SG_TYPE_##b, SG_TYPE_S32, ra, rb, m / 4, run_integer}
#define SIGNS(m, k, bits, ra, rb)                                                                                       \
    INTEGERS(m, k, S##bits, S##bits, ra, rb), INTEGERS(m, k, S##bits, U##bits, ra, rb),                                 \
    INTEGERS(m, k, U##bits, S##bits, ra, rb), INTEGERS(m, k, U##bits, U##bits, ra, rb)

const sg_mma sg_mma_table[] = {
    FLOATS(8, F16, F16, 2, 1),
    FLOATS(16, F16, F16, 4, 2),
    {16, 8, 8, SG_TYPE_BF16, SG_TYPE_BF16, SG_TYPE_F32, 2, 1, 4, run_float},
    {16, 8, 16, SG_TYPE_BF16, SG_TYPE_BF16, SG_TYPE_F32, 4, 2, 4, run_float},
    {16, 8, 4, SG_TYPE_TF32, SG_TYPE_TF32, SG_TYPE_F32, 2, 1, 4, run_float},
    {16, 8, 8, SG_TYPE_TF32, SG_TYPE_TF32, SG_TYPE_F32, 4, 2, 4, run_float},
    FLOATS(16, E4M3, E4M3, 2, 1), FLOATS(16, E4M3, E5M2, 2, 1),
    FLOATS(16, E5M2, E4M3, 2, 1), FLOATS(16, E5M2, E5M2, 2, 1),
    FLOATS(32, E4M3, E4M3, 4, 2), FLOATS(32, E4M3, E5M2, 4, 2),
    FLOATS(32, E5M2, E4M3, 4, 2), FLOATS(32, E5M2, E5M2, 4, 2),
    {8, 8, 4, SG_TYPE_F64, SG_TYPE_F64, SG_TYPE_F64, 1, 1, 2, run_double},
    {16, 8, 4, SG_TYPE_F64, SG_TYPE_F64, SG_TYPE_F64, 2, 1, 4, run_double},
    {16, 8, 8, SG_TYPE_F64, SG_TYPE_F64, SG_TYPE_F64, 4, 2, 4, run_double},
    {16, 8, 16, SG_TYPE_F64, SG_TYPE_F64, SG_TYPE_F64, 8, 4, 4, run_double},
    SIGNS(8, 16, 8, 1, 1), SIGNS(16, 16, 8, 2, 1), SIGNS(16, 32, 8, 4, 2),
    SIGNS(8, 32, 4, 1, 1), SIGNS(16, 32, 4, 2, 1), SIGNS(16, 64, 4, 4, 2),
    {8, 8, 128, SG_TYPE_B1, SG_TYPE_B1, SG_TYPE_S32, 1, 1, 2, run_bits},
    {16, 8, 128, SG_TYPE_B1, SG_TYPE_B1, SG_TYPE_S32, 2, 1, 4, run_bits},
    {16, 8, 256, SG_TYPE_B1, SG_TYPE_B1, SG_TYPE_S32, 4, 2, 4, run_bits},
};
const int sg_mma_count = sizeof sg_mma_table / sizeof *sg_mma_table;

const sg_mma *sg_mma_find(int m, int n, int k, sg_type accumulator, sg_type a, sg_type b) {
    for (const sg_mma *row = sg_mma_table; row < sg_mma_table + sg_mma_count; row++)
        if (row->m == m && row->n == n && row->k == k && row->accumulator == accumulator && row->a == a && row->b == b)
            return row;
    return NULL;
}
