// The element types of dtypes, and the instance of a kernel for one.
#pragma once

#include <attend/tensor.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

// The address of kernel<T> for T, the element type of `dtype`, which is one of the first three.
#define ATTEND_KERNEL_OF(dtype, kernel)                                        \
    ((dtype) == ATTEND_F32   ? reinterpret_cast<const void *>(&kernel<float>)  \
     : (dtype) == ATTEND_F16 ? reinterpret_cast<const void *>(&kernel<__half>) \
                             : reinterpret_cast<const void *>(&kernel<__nv_bfloat16>))
