/* Every row of the mma table against a triple loop in double, with fragments placed by the ISA's own formulas; the cut
   sums against their definition and against the facts published about tensor cores. */
#include "numbers/mma_sum.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The figures "Matrix Fragments for mma.m..n..k.." of the PTX ISA: element i of lane (group = lane / 4, t = lane % 4). */
static int group_of(int lane) { return lane >> 2; }
static int thread_of(int lane) { return lane & 3; }

static int bits_of(sg_type type)
{
    static const int bits[] = {[SG_TYPE_F16] = 16, [SG_TYPE_BF16] = 16, [SG_TYPE_TF32] = 32, [SG_TYPE_F64] = 64,
                               [SG_TYPE_E4M3] = 8, [SG_TYPE_E5M2] = 8,  [SG_TYPE_S8] = 8,    [SG_TYPE_U8] = 8,
                               [SG_TYPE_S4] = 4,   [SG_TYPE_U4] = 4,    [SG_TYPE_B1] = 1};
    return bits[type];
}

static void place_a(const sg_mma *mma, int lane, int i, int *row, int *k)
{
    int g = group_of(lane), t = thread_of(lane), bits = bits_of(mma->a);
    if (bits >= 32) { /* tf32 and f64: one element a register */
        *row = mma->m == 16 && i % 2 ? g + 8 : g;
        *k = t + 4 * (mma->m == 16 ? i / 2 : i);
    } else if (bits == 16) {
        *row = i < 2 || (i >= 4 && i < 6) ? g : g + 8;
        *k = i < 4 ? t * 2 + (i & 1) : t * 2 + (i & 1) + 8;
    } else if (bits == 8) {
        *row = i < 4 || (i >= 8 && i < 12) ? g : g + 8;
        *k = i < 8 ? t * 4 + (i & 3) : t * 4 + (i & 3) + 16;
    } else if (bits == 4) {
        *row = i < 8 || (i >= 16 && i < 24) ? g : g + 8;
        *k = i < 16 ? t * 8 + (i & 7) : t * 8 + (i & 7) + 32;
    } else {
        *row = i < 32 || (i >= 64 && i < 96) ? g : g + 8;
        *k = i < 64 ? t * 32 + (i & 31) : t * 32 + (i & 31) + 128;
    }
}

static void place_b(const sg_mma *mma, int lane, int i, int *k, int *column)
{
    int t = thread_of(lane), bits = bits_of(mma->b);
    *column = group_of(lane);
    if (bits >= 32)
        *k = t + 4 * i;
    else if (bits == 16)
        *k = t * 2 + (i & 1) + (i >= 2 ? 8 : 0);
    else if (bits == 8)
        *k = t * 4 + (i & 3) + (i >= 4 ? 16 : 0);
    else if (bits == 4)
        *k = t * 8 + (i & 7) + (i >= 8 ? 32 : 0);
    else
        *k = t * 32 + (i & 31) + (i >= 32 ? 128 : 0);
}

static void place_c(int lane, int i, int *row, int *column)
{
    *row = i < 2 ? group_of(lane) : group_of(lane) + 8;
    *column = thread_of(lane) * 2 + (i & 1);
}

typedef struct problem {
    uint64_t a[8][32], b[8][32], c[8][32], d[8][32]; /* registers; narrower ones use the front of a row */
    double am[16][256], bm[256][8], cm[16][8];
} problem;

static uint32_t encode(sg_type type, double value)
{
    switch (type) {
    case SG_TYPE_F16: return sg_encode(&sg_f16, value, SG_RN, 0);
    case SG_TYPE_BF16: return sg_encode(&sg_bf16, value, SG_RN, 0);
    case SG_TYPE_E4M3: return sg_encode(&sg_e4m3, value, SG_RN, SG_SATFINITE);
    case SG_TYPE_E5M2: return sg_encode(&sg_e5m2, value, SG_RN, SG_SATFINITE);
    case SG_TYPE_TF32: return sg_encode(&sg_tf32, value, SG_RN, 0) | 0x1abc; /* the low bits must not matter */
    case SG_TYPE_F32: return sg_encode(&sg_f32, value, SG_RN, 0);
    default: return (uint32_t)(int32_t)value;
    }
}

static void put(void *registers, sg_type type, int lane, int i, double value)
{
    uint64_t(*rows)[32] = registers;
    int bits = type == SG_TYPE_F32 || type == SG_TYPE_S32 ? 32 : bits_of(type);
    if (bits == 64) {
        ((double *)rows[i])[lane] = value;
        return;
    }
    int per = 32 / bits;
    uint32_t mask = bits == 32 ? UINT32_MAX : (1u << bits) - 1, *word = &((uint32_t *)rows[i / per])[lane];
    *word = (*word & ~(mask << i % per * bits)) | (encode(type, value) & mask) << i % per * bits;
}

static double get_d(const problem *p, const sg_mma *mma, int lane, int i)
{
    if (mma->accumulator == SG_TYPE_F64) return ((const double *)p->d[i])[lane];
    if (mma->accumulator == SG_TYPE_F32) return (double)((const float *)p->d[i])[lane];
    if (mma->accumulator == SG_TYPE_S32) return ((const int32_t *)p->d[i])[lane];
    return sg_decode(&sg_f16, ((const uint32_t *)p->d[i / 2])[lane] >> i % 2 * 16 & 0xffff);
}

static double small_integer(sg_type type)
{
    int value = (int)(random() % 8);
    if (type == SG_TYPE_B1) return value & 1;
    if (type == SG_TYPE_U8 || type == SG_TYPE_U4) return value;
    return value - 4;
}

static void fill(problem *p, const sg_mma *mma)
{
    int row, k, column;
    memset(p, 0, sizeof *p);
    for (int lane = 0; lane < 32; lane++) {
        for (int i = 0; i < mma->m * mma->k / 32; i++) {
            place_a(mma, lane, i, &row, &k);
            put(p->a, mma->a, lane, i, p->am[row][k] = small_integer(mma->a));
        }
        for (int i = 0; i < mma->k * 8 / 32; i++) {
            place_b(mma, lane, i, &k, &column);
            put(p->b, mma->b, lane, i, p->bm[k][column] = small_integer(mma->b));
        }
        for (int i = 0; i < mma->m * 8 / 32; i++) {
            place_c(lane, i, &row, &column);
            put(p->c, mma->accumulator, lane, i, p->cm[row][column] = (double)(random() % 100));
        }
    }
}

static void run(problem *p, const sg_mma *mma, sg_mma_mode mode)
{
    const void *a[8], *b[8], *c[8];
    void *d[8];
    for (int r = 0; r < 8; r++) a[r] = p->a[r], b[r] = p->b[r], c[r] = p->c[r], d[r] = p->d[r];
    mma->run(mma, d, a, b, c, mode);
}

/* Small integers are exact in every type and any order of summation, so a wrong place shows as a wrong number. */
static void fragments_lie_where_the_isa_says(void **state)
{
    (void)state;
    static problem p;
    srandom(2);
    for (int t = 0; t < sg_mma_count; t++)
        for (int turn = 0; turn < 8; turn++) {
            const sg_mma *mma = &sg_mma_table[t];
            sg_mma_mode mode = {.rounds = turn & 1, .and_popc = turn & 2, .satfinite = turn & 4};
            fill(&p, mma);
            run(&p, mma, mode);
            for (int lane = 0; lane < 32; lane++)
                for (int i = 0; i < mma->m * 8 / 32; i++) {
                    int row, column;
                    place_c(lane, i, &row, &column);
                    double sum = p.cm[row][column];
                    for (int k = 0; k < mma->k; k++) {
                        double x = p.am[row][k], y = p.bm[k][column];
                        sum += mma->a != SG_TYPE_B1 || mode.and_popc ? x * y : x != y;
                    }
                    if (get_d(&p, mma, lane, i) != sum)
                        fail_msg("row %d of the table (m%dn%dk%d): d[%d][%d] is %g, expected %g", t, mma->m, mma->n,
                                 mma->k, row, column, get_d(&p, mma, lane, i), sum);
                }
        }
}

static void results_may_overwrite_their_inputs(void **state)
{
    (void)state;
    static problem p, q;
    for (int t = 0; t < sg_mma_count; t++) {
        const sg_mma *mma = &sg_mma_table[t];
        fill(&p, mma);
        q = p;
        run(&p, mma, (sg_mma_mode){0});
        const void *a[8], *b[8], *c[8];
        void *d[8];
        for (int r = 0; r < 8; r++) a[r] = q.a[r], b[r] = q.b[r], c[r] = q.c[r], d[r] = r % 2 ? q.a[r] : q.c[r];
        mma->run(mma, d, a, b, c, (sg_mma_mode){0});
        size_t bytes = mma->accumulator == SG_TYPE_F64 ? 256 : 128;
        for (int r = 0; r < mma->c_registers; r++) assert_memory_equal(d[r], p.d[r], bytes);
    }
}

static void vector_sums_equal_their_definition(void **state)
{
    (void)state;
    srandom(3);
    static const struct {
        sg_type type;
        int k, count, fraction_bits;
    } cases[] = {{SG_TYPE_BF16, 16, 8, 23}, {SG_TYPE_TF32, 8, 4, 23}, {SG_TYPE_E4M3, 32, 32, 13}, {SG_TYPE_E5M2, 16, 16, 13}};
    for (int turn = 0; turn < 40000; turn++) {
        int which = turn % 4, spread = turn % 11 * 30 + 1, k = cases[which].k;
        float a[32], b[32 * 8], d[8], column[32];
        for (int i = 0; i < k; i++) a[i] = ldexpf((float)(random() % 255 - 127), (int)(random() % spread) - spread / 2 - 7);
        for (int i = 0; i < k * 8; i++)
            b[i] = turn % 5 ? ldexpf((float)(random() % 2047 - 1023), -(int)(random() % 30)) : (float)(random() % 3 - 1);
        for (int n = 0; n < 8; n++) d[n] = ldexpf((float)(random() % 16777215 - 8388607), (int)(random() % spread) - spread / 2 - 23);
        if (turn % 97 == 0) b[random() % (k * 8)] = turn % 2 ? INFINITY : NAN;
        float got[8];
        memcpy(got, d, sizeof got);
        sg_mma_tile(cases[which].type, 1, 8, k, a, b, got, false, (sg_mma_mode){0});
        for (int n = 0; n < 8; n++) {
            float expected = d[n];
            for (int i = 0; i < k; i++) column[i] = b[i * 8 + n];
            for (int i = 0; i < k; i += cases[which].count)
                expected = sg_mma_cut_sum(a + i, column + i, cases[which].count, expected, cases[which].fraction_bits);
            if (memcmp(&expected, &got[n], sizeof expected))
                fail_msg("turn %d: %a, by the definition %a", turn, (double)got[n], (double)expected);
        }
    }
}

/* d = c + sum of the products, in the first output of a tile. */
static float one_sum(sg_type type, int k, float c, const float *products, bool rounds)
{
    float a[32] = {0}, b[32 * 8] = {0}, d[8] = {c};
    for (int i = 0; i < k; i++) a[i] = products[i], b[i * 8] = 1;
    sg_mma_tile(type, 1, 8, k, a, b, d, false, (sg_mma_mode){.rounds = rounds});
    return d[0];
}

static void sums_are_cut_as_documented(void **state)
{
    (void)state;
    float small[32] = {0x1p-24f, 0x1p-24f, 0x1p-24f, 0x1p-24f};
    assert_true(one_sum(SG_TYPE_F16, 8, 1, small, false) == 1);               /* each is cut before it is added */
    assert_true(one_sum(SG_TYPE_F16, 8, 1, small, true) == 1 + 0x1p-22f);     /* the exact sum, rounded */
    assert_true(one_sum(SG_TYPE_F16, 8, -1, small, false) == -1);             /* towards zero, not down */
    float carry[32] = {1, 0x1p-23f};
    assert_true(one_sum(SG_TYPE_F16, 8, 1, carry, false) == 2);               /* the last bit falls off after a carry */
    float cancel[32] = {0x1p30f, -0x1p30f, 1};
    assert_true(one_sum(SG_TYPE_BF16, 8, 0, cancel, false) == 0);             /* 1 lies below the cut at 2^7 */
    float later[32] = {0x1p30f, -0x1p30f, 0, 0, 0, 0, 0, 0, 1};
    assert_true(one_sum(SG_TYPE_BF16, 16, 0, later, false) == 1);             /* another block */
    float fp8[32] = {1, 0x1p-14f};
    assert_true(one_sum(SG_TYPE_E5M2, 32, 0, fp8, false) == 1);               /* fp8: 13 fraction bits */
    fp8[1] = 0x1p-13f;
    assert_true(one_sum(SG_TYPE_E5M2, 32, 0, fp8, false) == 1 + 0x1p-13f);
    float tiny[32] = {0x1p-149f, 0x1p-149f};
    assert_true(one_sum(SG_TYPE_TF32, 4, 0, tiny, false) == 0x1p-148f);       /* subnormals are kept */
}

static void integers_wrap_or_saturate(void **state)
{
    (void)state;
    static problem p;
    const sg_mma *mma = sg_mma_find(16, 8, 32, SG_TYPE_S32, SG_TYPE_S8, SG_TYPE_S8);
    assert_non_null(mma);
    assert_null(sg_mma_find(16, 8, 64, SG_TYPE_F32, SG_TYPE_F16, SG_TYPE_F16));
    memset(p.a, 1, sizeof p.a);
    memset(p.b, 1, sizeof p.b);
    for (int r = 0; r < 4; r++)
        for (int lane = 0; lane < 32; lane++) ((int32_t *)p.c[r])[lane] = INT32_MAX - 3;
    run(&p, mma, (sg_mma_mode){.satfinite = true});
    assert_int_equal(((int32_t *)p.d[3])[31], INT32_MAX);
    run(&p, mma, (sg_mma_mode){0});
    assert_int_equal(((int32_t *)p.d[3])[31], INT32_MIN + 28);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fragments_lie_where_the_isa_says),   cmocka_unit_test(results_may_overwrite_their_inputs),
        cmocka_unit_test(vector_sums_equal_their_definition), cmocka_unit_test(sums_are_cut_as_documented),
        cmocka_unit_test(integers_wrap_or_saturate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
