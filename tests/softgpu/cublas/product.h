/* The dense product under every gemm: op(A) op(B) in fp32 or fp64, on host memory. */
#ifndef SOFTGPU_CUBLAS_PRODUCT_H
#define SOFTGPU_CUBLAS_PRODUCT_H

#include <stdbool.h>
#include <stdint.h>

/* Where element (row, column) of op(X) lies in its buffer, in elements. */
typedef struct product_operand {
    int64_t row_step, column_step;
} product_operand;

/* sums[m x n], column-major and dense = op(A) op(B). With half_sums the sum passes through fp16 after every 8 steps of k, as on
   tensor cores that accumulate in fp16. False if memory ran out. */
bool product_float(product_operand a, product_operand b, int64_t m, int64_t n, int64_t k, bool half_sums, const void *left,
                   const void *right, void *sums);
bool product_double(product_operand a, product_operand b, int64_t m, int64_t n, int64_t k, bool half_sums, const void *left,
                    const void *right, void *sums);

#endif
