/* Vectors of ATTEND_LANES floats: GNU vectors, and instructions that compilers do not select by themselves.
   Included by files that are compiled once per instruction set; every function is inlined. */
#ifndef ATTEND_CPU_VECTOR_H
#define ATTEND_CPU_VECTOR_H

#include "shared/dtype.h"
#include "shared/float16.h"

#include <attend/attend.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))
/* OF_ISA(f): f_avx2 where this file is compiled for AVX2. */
#define CONCAT_(a, b) a##_##b
#define CONCAT(a, b)  CONCAT_(a, b)
#define OF_ISA(name)  CONCAT(name, ATTEND_ISA)

#define PRAGMA_(text) _Pragma(#text)
#ifdef __clang__
#define UNROLL_FOR(n, ...) PRAGMA_(clang loop unroll(full)) for (__VA_ARGS__)
#else
#define UNROLL_FOR(n, ...) PRAGMA_(GCC unroll n) for (__VA_ARGS__)
#endif

enum { LANES = ATTEND_LANES };

typedef float vf __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t vh __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef int32_t vpair __attribute__((vector_size(4 * LANES), aligned(2), may_alias));

ALWAYS_INLINE vf load(const float *p) { return *(const vf *)p; }
ALWAYS_INLINE void store(float *p, vf v) { *(vf *)p = v; }
ALWAYS_INLINE vf splat(float x) { return x - (vf){0}; }
ALWAYS_INLINE vi splat_int(int32_t x) { return x - (vi){0}; }

/* Adjacent 16-bit elements, two a lane, the first in the low half. */
ALWAYS_INLINE vi load_pairs(const uint16_t *p) { return *(const vpair *)p; }

/* Lane by lane a > b ? a : b, so b if either is NaN. */
ALWAYS_INLINE vf maximum(vf a, vf b)
{
#if ATTEND_LANES == 16 && defined(__AVX512F__)
    return _mm512_max_ps(a, b);
#elif ATTEND_LANES == 8 && defined(__AVX__)
    return _mm256_max_ps(a, b);
#elif ATTEND_LANES == 4 && defined(__SSE__)
    return _mm_max_ps(a, b);
#else
    vi greater = a > b;
    return (vf)((greater & (vi)a) | (~greater & (vi)b));
#endif
}

/* `yes` where the mask's lane is all ones, `no` where it is 0. */
ALWAYS_INLINE vf choose(vi mask, vf yes, vf no)
{
#if ATTEND_LANES == 8 && defined(__AVX__)
    return _mm256_blendv_ps(no, yes, (vf)mask);
#else
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
#endif
}

ALWAYS_INLINE bool any(vi mask)
{
#if ATTEND_LANES == 8 && defined(__AVX__)
    return _mm256_movemask_ps((vf)mask) != 0;
#else
    int32_t lanes = 0;
    for (int i = 0; i < LANES; i++) lanes |= mask[i];
    return lanes != 0;
#endif
}

ALWAYS_INLINE float max_lanes(vf v)
{
    float m = v[0];
    for (int i = 1; i < LANES; i++) m = v[i] > m ? v[i] : m;
    return m;
}

/* sum + a·b, rounded once where the processor can. Explicit, because in a sum of two products a compiler may
   fuse either. */
ALWAYS_INLINE vf multiply_into(vf sum, vf a, vf b)
{
#if ATTEND_LANES == 16 && defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, sum);
#elif ATTEND_LANES == 8 && defined(__FMA__)
    return _mm256_fmadd_ps(a, b, sum);
#elif ATTEND_LANES == 4 && defined(__aarch64__)
    return vfmaq_f32(sum, a, b);
#else
    return sum + a * b;
#endif
}

/* sum[r][v] += a[r]·b[v] for a tile of 4 × 3 vectors, which takes all sixteen registers: gcc by itself moves
   sums between registers, or reads b once a row. Functions for one, two and four consecutive steps. */
#if ATTEND_LANES == 8 && defined(__FMA__)
#define TILE_4X3 1
#define TILE_ROW(address, s0, s1, s2)                                                   \
    "vbroadcastss " address ", %%ymm15\n\tvfmadd231ps %%ymm12, %%ymm15, %[" #s0 "]\n\t" \
    "vfmadd231ps %%ymm13, %%ymm15, %[" #s1 "]\n\tvfmadd231ps %%ymm14, %%ymm15, %[" #s2 "]\n\t"
#define TILE_B(k)                                                                               \
    "vmovups 96*" #k "(%[b]), %%ymm12\n\tvmovups 96*" #k "+32(%[b]), %%ymm13\n\tvmovups 96*" #k \
    "+64(%[b]), %%ymm14\n\t"
#define TILE_STEP(k)                             \
    TILE_B(k)                                    \
    TILE_ROW("16*" #k "(%[a])", s00, s01, s02)   \
    TILE_ROW("16*" #k "+4(%[a])", s10, s11, s12) \
    TILE_ROW("16*" #k "+8(%[a])", s20, s21, s22) TILE_ROW("16*" #k "+12(%[a])", s30, s31, s32)
/* The same where steps of a row of A are consecutive, and rows `bytes` apart. */
#define TILE_STEP_OF_ROWS(k)                           \
    TILE_B(k)                                          \
    TILE_ROW("4*" #k "(%[a])", s00, s01, s02)          \
    TILE_ROW("4*" #k "(%[a],%[bytes])", s10, s11, s12) \
    TILE_ROW("4*" #k "(%[a],%[bytes],2)", s20, s21, s22) TILE_ROW("4*" #k "(%[a3])", s30, s31, s32)
#define TILE_STEPS(name, steps, text)                                                                     \
    ALWAYS_INLINE void name(const float *a, const float *b, vf sum[8][8])                                 \
    {                                                                                                     \
        __asm__(                                                                                          \
            text                                                                                          \
            : [s00] "+v"(sum[0][0]), [s01] "+v"(sum[0][1]), [s02] "+v"(sum[0][2]), [s10] "+v"(sum[1][0]), \
              [s11] "+v"(sum[1][1]), [s12] "+v"(sum[1][2]), [s20] "+v"(sum[2][0]), [s21] "+v"(sum[2][1]), \
              [s22] "+v"(sum[2][2]), [s30] "+v"(sum[3][0]), [s31] "+v"(sum[3][1]), [s32] "+v"(sum[3][2])  \
            : [a] "r"(a), [b] "r"(b), "m"(*(const float(*)[4 * steps]) a),                                \
              "m"(*(const float(*)[24 * steps]) b)                                                        \
            : "ymm12", "ymm13", "ymm14", "ymm15");                                                        \
    }
TILE_STEPS(multiply_add_4x3_1, 1, TILE_STEP(0))
TILE_STEPS(multiply_add_4x3_2, 2, TILE_STEP(0) TILE_STEP(1))
TILE_STEPS(multiply_add_4x3_4, 4, TILE_STEP(0) TILE_STEP(1) TILE_STEP(2) TILE_STEP(3))
ALWAYS_INLINE void multiply_add_rows_4x3_4(const float *a, int64_t row, const float *b, vf sum[8][8])
{
    __asm__(TILE_STEP_OF_ROWS(0) TILE_STEP_OF_ROWS(1) TILE_STEP_OF_ROWS(2) TILE_STEP_OF_ROWS(3)
            : [s00] "+v"(sum[0][0]), [s01] "+v"(sum[0][1]), [s02] "+v"(sum[0][2]), [s10] "+v"(sum[1][0]),
              [s11] "+v"(sum[1][1]), [s12] "+v"(sum[1][2]), [s20] "+v"(sum[2][0]), [s21] "+v"(sum[2][1]),
              [s22] "+v"(sum[2][2]), [s30] "+v"(sum[3][0]), [s31] "+v"(sum[3][1]), [s32] "+v"(sum[3][2])
            : [a] "r"(a), [a3] "r"(a + 3 * row), [bytes] "r"(row * (int64_t)sizeof *a), [b] "r"(b),
              "m"(*(const float(*)[3 * row + 4]) a), "m"(*(const float(*)[24 * 4]) b)
            : "ymm12", "ymm13", "ymm14", "ymm15");
}
#endif

/* Conversions of LANES stored elements to floats, and back (to nearest, ties to even). */
ALWAYS_INLINE vf load_bf16(const uint16_t *p)
{
#if ATTEND_LANES == 16 && defined(__AVX512F__)
    return (vf)(vi)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
#elif ATTEND_LANES == 8 && defined(__AVX2__)
    return (vf)(vi)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16);
#else
    return (vf)(__builtin_convertvector(*(const vh *)p, vi) << 16);
#endif
}

ALWAYS_INLINE void store_bf16(uint16_t *p, vf v)
{
    vi bits = (vi)v, rounded = bits + 0x7fff + ((bits >> 16) & 1);
    vi kept = (v == v) & rounded, quiet = (v != v) & (bits | 0x400000);
    *(vh *)p = __builtin_convertvector(((kept | quiet) >> 16) & 0xffff, vh);
}

ALWAYS_INLINE vf load_f16(const uint16_t *p)
{
#if ATTEND_LANES == 16 && defined(__AVX512F__)
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif ATTEND_LANES == 8 && defined(__F16C__)
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif ATTEND_LANES == 4 && defined(__aarch64__)
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
    vf v;
    for (int i = 0; i < LANES; i++) v[i] = attend_from_f16(p[i]);
    return v;
#endif
}

ALWAYS_INLINE void store_f16(uint16_t *p, vf v)
{
#if ATTEND_LANES == 16 && defined(__AVX512F__)
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif ATTEND_LANES == 8 && defined(__F16C__)
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif ATTEND_LANES == 4 && defined(__aarch64__)
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
#else
    for (int i = 0; i < LANES; i++) p[i] = attend_to_f16(v[i]);
#endif
}

/* One element of any dtype, at `index` */
ALWAYS_INLINE float load_one(const void *p, int64_t index, attend_dtype dtype)
{
    if (dtype == ATTEND_F32) return ((const float *)p)[index];
    uint16_t half = ((const uint16_t *)p)[index];
    return attend_from_bits16(dtype, half);
}

ALWAYS_INLINE vf load_vector(const void *p, int64_t index, attend_dtype dtype)
{
    if (dtype == ATTEND_F32) return load((const float *)p + index);
    const uint16_t *half = (const uint16_t *)p + index;
    return dtype == ATTEND_BF16 ? load_bf16(half) : load_f16(half);
}

/* The first n of LANES elements; the others are not read and become zeros. */
ALWAYS_INLINE vf load_some(const void *p, int64_t index, int64_t n, attend_dtype dtype)
{
    if (n >= LANES) return load_vector(p, index, dtype);
    vf v = {0};
    for (int i = 0; i < n; i++) v[i] = load_one(p, index + i, dtype);
    return v;
}

ALWAYS_INLINE void store_some(void *p, int64_t index, vf v, int64_t n, attend_dtype dtype)
{
    float spare[LANES];
    uint16_t half[LANES];
    if (dtype == ATTEND_F32) {
        if (n >= LANES) {
            store((float *)p + index, v);
        } else {
            store(spare, v);
            for (int i = 0; i < n; i++) ((float *)p)[index + i] = spare[i];
        }
        return;
    }
    uint16_t *to = n >= LANES ? (uint16_t *)p + index : half;
    if (dtype == ATTEND_BF16)
        store_bf16(to, v);
    else
        store_f16(to, v);
    if (n < LANES)
        for (int i = 0; i < n; i++) ((uint16_t *)p)[index + i] = half[i];
}

/* Transposes a matrix of LANES by LANES. Four rows at a time become columns within 128 bits by two rounds of
   interleaving, of single elements and of pairs, each of them one instruction everywhere; then the
   off-diagonal blocks of size 4 and 8 are exchanged. */
#if ATTEND_LANES == 4
#define ZIP_LOW   0, 4, 1, 5
#define ZIP_HIGH  2, 6, 3, 7
#define PAIR_LOW  0, 1, 4, 5
#define PAIR_HIGH 2, 3, 6, 7
#elif ATTEND_LANES == 8
#define ZIP_LOW   0, 8, 1, 9, 4, 12, 5, 13
#define ZIP_HIGH  2, 10, 3, 11, 6, 14, 7, 15
#define PAIR_LOW  0, 1, 8, 9, 4, 5, 12, 13
#define PAIR_HIGH 2, 3, 10, 11, 6, 7, 14, 15
#define LOW4      0, 1, 2, 3, 8, 9, 10, 11
#define HIGH4     4, 5, 6, 7, 12, 13, 14, 15
#elif ATTEND_LANES == 16
#define ZIP_LOW   0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define ZIP_HIGH  2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define PAIR_LOW  0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define PAIR_HIGH 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define LOW4      0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define HIGH4     4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define LOW8      0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define HIGH8     8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#endif
#define SWAP(h)                                                  \
    UNROLL_FOR (16, int i = 0; i < LANES; i++)                   \
        if (!(i & h)) {                                          \
            vf a = row[i], b = row[i + h];                       \
            row[i] = __builtin_shufflevector(a, b, LOW##h);      \
            row[i + h] = __builtin_shufflevector(a, b, HIGH##h); \
        }

ALWAYS_INLINE void transpose(vf row[LANES])
{
    UNROLL_FOR (4, int i = 0; i < LANES; i += 4) {
        vf low01 = __builtin_shufflevector(row[i], row[i + 1], ZIP_LOW),
           high01 = __builtin_shufflevector(row[i], row[i + 1], ZIP_HIGH);
        vf low23 = __builtin_shufflevector(row[i + 2], row[i + 3], ZIP_LOW),
           high23 = __builtin_shufflevector(row[i + 2], row[i + 3], ZIP_HIGH);
        row[i] = __builtin_shufflevector(low01, low23, PAIR_LOW),
        row[i + 1] = __builtin_shufflevector(low01, low23, PAIR_HIGH);
        row[i + 2] = __builtin_shufflevector(high01, high23, PAIR_LOW),
                row[i + 3] = __builtin_shufflevector(high01, high23, PAIR_HIGH);
    }
#if ATTEND_LANES >= 8
    SWAP(4)
#endif
#if ATTEND_LANES >= 16
    SWAP(8)
#endif
}

#endif
