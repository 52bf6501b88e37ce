/* The entry points of cuBLAS that attend uses, looked up when a CUDA context is made: the library takes 600
   MB of address space and 200 MB of memory, which a program on the CPU should not pay for. Depends on nothing
   else of attend, since the command uses it too. */
#ifndef ATTEND_GPU_BLAS_H
#define ATTEND_GPU_BLAS_H

#include <cublas_v2.h>
#include <stdbool.h>
#include <stddef.h>

#define ATTEND_BLAS_CALLS(call)                                                                  \
    call(create, cublasCreate) call(destroy, cublasDestroy) call(set_stream, cublasSetStream)    \
        call(set_workspace, cublasSetWorkspace) call(set_math_mode, cublasSetMathMode)           \
            call(multiply, cublasGemmStridedBatchedEx_64) call(status_name, cublasGetStatusName) \
                call(status_text, cublasGetStatusString)

typedef struct attend_blas {
#define ATTEND_BLAS_FIELD(field, function) __typeof__(function) *field;
    ATTEND_BLAS_CALLS(ATTEND_BLAS_FIELD)
#undef ATTEND_BLAS_FIELD
} attend_blas;

/* Loads the version of the library that attend was compiled for; it stays loaded. On failure returns false
   and writes to `why` what is missing. */
bool attend_blas_load(attend_blas *blas, char *why, size_t bytes);

#endif
