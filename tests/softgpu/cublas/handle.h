/* A cuBLAS handle of the software device, and what every entry point does with it: check it, count the call, queue. */
#ifndef SOFTGPU_CUBLAS_HANDLE_H
#define SOFTGPU_CUBLAS_HANDLE_H

#include <cublas_v2.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/queue.h"

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

/* A call that works in a workspace is two pieces of work: the first leaves its number at both ends, the second expects it there. So a
   workspace that another call uses meanwhile shows, and one that is freed or shorter than was said. */
typedef struct workspace_claim {
    char *workspace; /* NULL: the handle has none of the caller's */
    size_t bytes;
    uint64_t number;
} workspace_claim;

/* Queues the first piece; in a capture without a workspace it allocates one by nodes of the graph, as documented under "CUDA Graphs
   Support", and handle_release_workspace() frees that. */
cublasStatus_t handle_claim_workspace(cublasHandle_t handle, const char *what, workspace_claim *claim);
cublasStatus_t handle_release_workspace(cublasHandle_t handle, const workspace_claim *claim);
/* False after a finding. */
bool workspace_is_still(const workspace_claim *claim, const char *what);

/* Waits for results that go to host memory, where pointer mode says that they do. */
cublasStatus_t handle_wait_for_result(cublasHandle_t handle);

#endif
