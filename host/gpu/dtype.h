/* Dtypes as cuBLAS names them. */
#ifndef ATTEND_GPU_DTYPE_H
#define ATTEND_GPU_DTYPE_H

#include <attend/tensor.h>
#include <library_types.h>

static inline cudaDataType_t attend_gpu_blas_type(attend_dtype dtype)
{
    static const cudaDataType_t types[] = {
        [ATTEND_F32] = CUDA_R_32F, [ATTEND_F16] = CUDA_R_16F, [ATTEND_BF16] = CUDA_R_16BF};
    return types[dtype];
}

#endif
