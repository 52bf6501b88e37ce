/* cublasSetVector, cublasGetMatrix and their kin: strided copies, which the runtime does as two-dimensional ones. */
#include "cublas/handle.h"

#include <cuda_runtime_api.h>

static cublasStatus_t transfer(int64_t rows, int64_t columns, int64_t bytes, const void *from, int64_t from_leading, void *to,
                               int64_t to_leading, enum cudaMemcpyKind kind, bool asynchronous, cudaStream_t stream)
{
    if (rows < 0 || columns < 0 || bytes <= 0 || from_leading <= 0 || to_leading <= 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (!rows || !columns) return CUBLAS_STATUS_SUCCESS;
    size_t width = (size_t)(rows * bytes), height = (size_t)columns;
    size_t from_pitch = (size_t)(from_leading * bytes), to_pitch = (size_t)(to_leading * bytes);
    cudaError_t error = asynchronous ? cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, height, kind, stream)
                                     : cudaMemcpy2D(to, to_pitch, from, from_pitch, width, height, kind);
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_MAPPING_ERROR;
}

#define TRANSFERS(INT, NAME)                                                                                              \
    cublasStatus_t NAME(cublasSetVector)(INT n, INT bytes, const void *x, INT incx, void *y, INT incy)                    \
    {                                                                                                                     \
        return transfer(1, n, bytes, x, incx, y, incy, cudaMemcpyHostToDevice, false, NULL);                              \
    }                                                                                                                     \
    cublasStatus_t NAME(cublasGetVector)(INT n, INT bytes, const void *x, INT incx, void *y, INT incy)                    \
    {                                                                                                                     \
        return transfer(1, n, bytes, x, incx, y, incy, cudaMemcpyDeviceToHost, false, NULL);                              \
    }                                                                                                                     \
    cublasStatus_t NAME(cublasSetMatrix)(INT rows, INT columns, INT bytes, const void *A, INT lda, void *B, INT ldb)      \
    {                                                                                                                     \
        return transfer(rows, columns, bytes, A, lda, B, ldb, cudaMemcpyHostToDevice, false, NULL);                       \
    }                                                                                                                     \
    cublasStatus_t NAME(cublasGetMatrix)(INT rows, INT columns, INT bytes, const void *A, INT lda, void *B, INT ldb)      \
    {                                                                                                                     \
        return transfer(rows, columns, bytes, A, lda, B, ldb, cudaMemcpyDeviceToHost, false, NULL);                       \
    }                                                                                                                     \
    cublasStatus_t NAME(cublasSetVectorAsync)(INT n, INT bytes, const void *x, INT incx, void *y, INT incy,               \
                                              cudaStream_t stream)                                                        \
    {                                                                                                                     \
        return transfer(1, n, bytes, x, incx, y, incy, cudaMemcpyHostToDevice, true, stream);                             \
    }                                                                                                                     \
    cublasStatus_t NAME(cublasGetVectorAsync)(INT n, INT bytes, const void *x, INT incx, void *y, INT incy,               \
                                              cudaStream_t stream)                                                        \
    {                                                                                                                     \
        return transfer(1, n, bytes, x, incx, y, incy, cudaMemcpyDeviceToHost, true, stream);                             \
    }                                                                                                                     \
    cublasStatus_t NAME(cublasSetMatrixAsync)(INT rows, INT columns, INT bytes, const void *A, INT lda, void *B, INT ldb, \
                                              cudaStream_t stream)                                                        \
    {                                                                                                                     \
        return transfer(rows, columns, bytes, A, lda, B, ldb, cudaMemcpyHostToDevice, true, stream);                      \
    }                                                                                                                     \
    cublasStatus_t NAME(cublasGetMatrixAsync)(INT rows, INT columns, INT bytes, const void *A, INT lda, void *B, INT ldb, \
                                              cudaStream_t stream)                                                        \
    {                                                                                                                     \
        return transfer(rows, columns, bytes, A, lda, B, ldb, cudaMemcpyDeviceToHost, true, stream);                      \
    }

#define PLAIN(name) name
#define WIDE(name)  name##_64
TRANSFERS(int, PLAIN)
TRANSFERS(int64_t, WIDE)
