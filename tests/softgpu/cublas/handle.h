/* A cuBLAS handle of the software device, and what every entry point does with it: check it, count the call, queue. */
#ifndef SOFTGPU_CUBLAS_HANDLE_H
#define SOFTGPU_CUBLAS_HANDLE_H

#include <cublas_v2.h>
#include <stdbool.h>
#include <stdint.h>

#include "../runtime/queue.h"

struct cublasContext {
    uint64_t magic;
    int device;
    cudaStream_t stream;
    cublasPointerMode_t pointer_mode;
    cublasMath_t math_mode;
    cublasAtomicsMode_t atomics_mode;
    cublasEmulationStrategy_t emulation_strategy;
    int sm_count_target;
    void *workspace;
    size_t workspace_bytes;
};

/* CUBLAS_STATUS_NOT_INITIALIZED unless cublasCreate made the handle and cublasDestroy has not ended it. */
cublasStatus_t handle_check(cublasHandle_t handle);

/* Queues work on the handle's stream, after the call was counted and any fault asked for was given its turn. */
cublasStatus_t handle_enqueue(cublasHandle_t handle, const char *what, softgpu_work *work, const void *argument,
                              size_t bytes);

/* Waits for results that go to host memory, where pointer mode says that they do. */
cublasStatus_t handle_wait_for_result(cublasHandle_t handle);

#endif
