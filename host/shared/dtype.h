/* The table of dtypes, one row each. Activations and weights have one of the first three. A new dtype needs
   its row here, its conversions in float16.h, its element type in cuda/dtype.cuh, its cuBLAS type in
   gpu/dtype.h, and its rounding in reference/numbers.c, which shares nothing with what it judges. Plain C,
   also compiled by nvcc. */
#ifndef ATTEND_SHARED_DTYPE_H
#define ATTEND_SHARED_DTYPE_H

#include <attend/tensor.h>

typedef struct attend_dtype_row {
    const char *name;
    const char *npy, *safetensors; /* name in files; NULL: not written */
    int bytes;
} attend_dtype_row;

/* In the order of attend_dtype. */
static const attend_dtype_row attend_dtypes[] = {
    {"f32", "<f4", "F32", 4},  /* ATTEND_F32 */
    {"f16", "<f2", "F16", 2},  /* ATTEND_F16 */
    {"bf16", NULL, "BF16", 2}, /* ATTEND_BF16 */
    {"u8", NULL, NULL, 1},     /* ATTEND_U8 */
    {"i32", NULL, NULL, 4},    /* ATTEND_I32 */
    {"i64", NULL, NULL, 8},    /* ATTEND_I64 */
};
enum { ATTEND_DTYPES = sizeof attend_dtypes / sizeof *attend_dtypes };

#endif
