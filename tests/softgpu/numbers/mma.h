/* mma.sync as pure functions on a warp's fragments, laid out in registers as the PTX ISA's figures say. One row of the
   table a shape and type. How sums are rounded inside, which the ISA leaves open, is stated at sg_mma_mode. */
#ifndef SOFTGPU_NUMBERS_MMA_H
#define SOFTGPU_NUMBERS_MMA_H

#include <stdbool.h>
#include <stdint.h>

#include "numbers/numbers.h"

typedef enum sg_type {
    SG_TYPE_F16, SG_TYPE_BF16, SG_TYPE_TF32, SG_TYPE_F32, SG_TYPE_F64,
    SG_TYPE_E4M3, SG_TYPE_E5M2, SG_TYPE_S8, SG_TYPE_U8, SG_TYPE_S4, SG_TYPE_U4, SG_TYPE_B1, SG_TYPE_S32
} sg_type;

/* Floating-point accumulation. Products are exact. Products are taken in blocks along k (8 for fp16 and bf16, 4 for tf32, all of
   k for fp8). Of a block and the accumulator, the largest exponent is found; every term is cut towards zero to 23
   fraction bits (13 for fp8) relative to that exponent; the cut terms are added exactly; the sum is cut towards zero to
   fp32, or rounded to nearest in fp16 where the accumulator is fp16. This loses at least as much as what has been measured on
   compute 8.0 to 9.0 (Fasi, Higham, Mikaitis, Pranesh 2021; for fp8's 13 bits DeepSeek-V3's report), which keep one or two
   bits more. With `rounds`, a block and the accumulator are added in double and rounded once to nearest. NaN results
   are 0x7fffffff; fp64 is a chain of fused multiply-adds along k in the given rounding; integers wrap or saturate. */
typedef struct sg_mma_mode {
    bool rounds;    /* nearest instead of truncation */
    bool satfinite; /* integers: clamp the sum to the int32 range instead of wrapping */
    bool and_popc;  /* b1: and instead of xor before the population count */
    sg_round round; /* fp64 only */
} sg_mma_mode;

typedef struct sg_mma sg_mma;
/* Each operand is a list of registers, each an array of the warp's 32 lanes: uint32_t, or uint64_t where the type is f64.
   d may share registers with a, b and c. */
typedef void sg_mma_function(const sg_mma *mma, void *const *d, const void *const *a, const void *const *b,
                             const void *const *c, sg_mma_mode mode);
struct sg_mma {
    int m, n, k;
    sg_type a, b, accumulator;                        /* c and d have one type */
    int a_registers, b_registers, c_registers;        /* d: as c */
    sg_mma_function *run;
};

/* The row of mma.sync.aligned.mMnNkK.row.col.ACC.A.B.ACC; NULL if there is none. */
const sg_mma *sg_mma_find(int m, int n, int k, sg_type accumulator, sg_type a, sg_type b);

/* The table, for those who test all of it. */
extern const sg_mma sg_mma_table[];
extern const int sg_mma_count;

/* d[m x n] = a[m x k] b[k x n] + c on plain matrices with the accumulation above, for wgmma: `a` and `b` hold values of
   `type` widened to float, c and d fp32 (or fp16 values widened, with half_accumulator). b is [k][n]; n a multiple of 8. */
void sg_mma_tile(sg_type type, int m, int n, int k, const float *a, const float *b, float *d, bool half_accumulator,
                 sg_mma_mode mode);

#endif
