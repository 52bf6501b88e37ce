/* Every gemm of the library as one description: entry points fill it, one function checks and queues it. */
#ifndef SOFTGPU_CUBLAS_GEMM_H
#define SOFTGPU_CUBLAS_GEMM_H

#include "cublas/handle.h"
#include "cublas/scalar.h"

typedef enum gemm_batching {
    GEMM_STRIDED, /* one matrix is a batch of one */
    GEMM_POINTERS /* operands are arrays of pointers, in device memory, read when the work runs */
} gemm_batching;

typedef struct gemm_operand {
    const void *address;
    cudaDataType type;
    int64_t leading, stride;
    cublasOperation_t operation; /* of A and B */
} gemm_operand;

typedef struct gemm {
    const char *what;
    gemm_operand a, b, c;
    int64_t m, n, k, batch;
    gemm_batching batching;
    const void *alpha, *beta;
    cublasComputeType_t compute;
} gemm;

/* C = alpha op(A) op(B) + beta C for the whole batch, in stream order, with cuBLAS's checks of the arguments. */
cublasStatus_t gemm_submit(cublasHandle_t handle, const gemm *call);

#endif
