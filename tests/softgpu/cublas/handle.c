/* Handles: creating, destroying, their settings and workspaces. The settings have no effect but the ones cuBLAS documents: pointer
   mode, stream, math mode. SM targets are kept and returned, since the device in software needs none. */
#include "cublas/handle.h"

#include "cublas/scalar.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t LIVE = 0x6375626c6173;

/* A fault asked for by cuBLAS's name of a status, or by an error of the runtime, which surfaces as a failed call. */
static cublasStatus_t status_of_fault(const char *name)
{
    static const struct {
        const char *name;
        cublasStatus_t status;
    } names[] = {
        {"CUBLAS_STATUS_NOT_INITIALIZED", CUBLAS_STATUS_NOT_INITIALIZED},
        {"CUBLAS_STATUS_ALLOC_FAILED", CUBLAS_STATUS_ALLOC_FAILED},
        {"CUBLAS_STATUS_INVALID_VALUE", CUBLAS_STATUS_INVALID_VALUE},
        {"CUBLAS_STATUS_ARCH_MISMATCH", CUBLAS_STATUS_ARCH_MISMATCH},
        {"CUBLAS_STATUS_MAPPING_ERROR", CUBLAS_STATUS_MAPPING_ERROR},
        {"CUBLAS_STATUS_INTERNAL_ERROR", CUBLAS_STATUS_INTERNAL_ERROR},
        {"CUBLAS_STATUS_NOT_SUPPORTED", CUBLAS_STATUS_NOT_SUPPORTED},
        {"CUBLAS_STATUS_LICENSE_ERROR", CUBLAS_STATUS_LICENSE_ERROR},
        {"cudaErrorMemoryAllocation", CUBLAS_STATUS_ALLOC_FAILED},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i].name)) return names[i].status;
    return CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t handle_check(cublasHandle_t handle)
{
    return handle && handle->magic == LIVE ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t handle_enqueue(cublasHandle_t handle, const char *what, softgpu_work *work, const void *argument,
                              size_t bytes)
{
    const char *fault = softgpu_fault(SOFTGPU_CUBLAS);
    if (fault) return status_of_fault(fault);
    return softgpu_stream_enqueue(handle->stream, what, work, argument, bytes) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}

/* ---- workspaces ---- */

typedef struct claiming {
    workspace_claim claim;
    const char *what;
} claiming;

static cudaError_t leave_number(sg_device *device, void *argument)
{
    const claiming *c = argument;
    (void)device;
    for (int end = 0; end < 2; end++) {
        void *to;
        if (!device_write(c->what, "workspace", c->claim.workspace + (end ? c->claim.bytes - 8 : 0), 8, &to)) return cudaErrorIllegalAddress;
        memcpy(to, &c->claim.number, 8);
    }
    return cudaSuccess;
}

bool workspace_is_still(const workspace_claim *claim, const char *what)
{
    for (int end = 0; end < 2 && claim->workspace; end++) {
        const void *there;
        if (!device_read(what, "workspace", claim->workspace + (end ? claim->bytes - 8 : 0), 8, &there)) return false;
        if (!memcmp(there, &claim->number, 8)) continue;
        sg_finding("race", "%s: the workspace at %p was written meanwhile, by another call on another stream perhaps", what, (void *)claim->workspace);
        return false;
    }
    return true;
}

enum { GRAPH_WORKSPACE = 1 << 16 };

cublasStatus_t handle_claim_workspace(cublasHandle_t handle, const char *what, workspace_claim *claim)
{
    static uint64_t numbers;
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaError_t error = cudaSuccess;
    *claim = (workspace_claim){handle->workspace, handle->workspace_bytes, __atomic_add_fetch(&numbers, 1, __ATOMIC_RELAXED)};
    if (!claim->workspace) {
        error = cudaStreamIsCapturing(handle->stream, &status);
        if (error == cudaSuccess && status == cudaStreamCaptureStatusNone) return CUBLAS_STATUS_SUCCESS;
        if (error == cudaSuccess) error = cudaMallocAsync((void **)&claim->workspace, GRAPH_WORKSPACE, handle->stream);
        claim->bytes = GRAPH_WORKSPACE;
    }
    const claiming first = {*claim, what};
    if (error == cudaSuccess && claim->bytes >= 8) error = softgpu_stream_enqueue(handle->stream, what, leave_number, &first, sizeof first);
    if (claim->bytes < 8) claim->workspace = NULL;
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t handle_release_workspace(cublasHandle_t handle, const workspace_claim *claim)
{
    if (!claim->workspace || claim->workspace == handle->workspace) return CUBLAS_STATUS_SUCCESS;
    return cudaFreeAsync(claim->workspace, handle->stream) == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t handle_wait_for_result(cublasHandle_t handle)
{
    if (handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE) return CUBLAS_STATUS_SUCCESS;
    return cudaStreamSynchronize(handle->stream) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
    if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
    *handle = NULL;
    const char *fault = softgpu_fault(SOFTGPU_CUBLAS);
    if (fault) return status_of_fault(fault);
    struct cublasContext *created = calloc(1, sizeof *created);
    if (!created) return CUBLAS_STATUS_ALLOC_FAILED;
    if (cudaGetDevice(&created->device) != cudaSuccess) {
        free(created);
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    created->magic = LIVE;
    created->atomics_mode = CUBLAS_ATOMICS_NOT_ALLOWED;
    *handle = created;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    if (handle_check(handle) != CUBLAS_STATUS_SUCCESS) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->magic = 0;
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
    if (handle_check(handle) != CUBLAS_STATUS_SUCCESS) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    handle->workspace = NULL; /* as documented: the workspace goes back to the handle's own */
    handle->workspace_bytes = 0;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t bytes)
{
    if (handle_check(handle) != CUBLAS_STATUS_SUCCESS) return CUBLAS_STATUS_NOT_INITIALIZED;
    if ((uintptr_t)workspace % 256) return CUBLAS_STATUS_INVALID_VALUE;
    handle->workspace = workspace;
    handle->workspace_bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
}

/* A setting is a field that one call stores and another returns; `valid` says which values cuBLAS takes. */
#define SETTING(type, field, set, get, valid)                                                                          \
    cublasStatus_t set(cublasHandle_t handle, type value)                                                              \
    {                                                                                                                  \
        if (handle_check(handle) != CUBLAS_STATUS_SUCCESS) return CUBLAS_STATUS_NOT_INITIALIZED;                       \
        if (!(valid)) return CUBLAS_STATUS_INVALID_VALUE;                                                              \
        handle->field = value;                                                                                         \
        return CUBLAS_STATUS_SUCCESS;                                                                                  \
    }                                                                                                                  \
    cublasStatus_t get(cublasHandle_t handle, type *value)                                                             \
    {                                                                                                                  \
        if (handle_check(handle) != CUBLAS_STATUS_SUCCESS) return CUBLAS_STATUS_NOT_INITIALIZED;                       \
        if (!value) return CUBLAS_STATUS_INVALID_VALUE;                                                                \
        *value = handle->field;                                                                                        \
        return CUBLAS_STATUS_SUCCESS;                                                                                  \
    }

SETTING(cublasPointerMode_t, pointer_mode, cublasSetPointerMode_v2, cublasGetPointerMode_v2, (unsigned)value <= 1)
SETTING(cublasAtomicsMode_t, atomics_mode, cublasSetAtomicsMode, cublasGetAtomicsMode, (unsigned)value <= 1)
SETTING(cublasMath_t, math_mode, cublasSetMathMode, cublasGetMathMode, (unsigned)value < 32)
SETTING(cublasEmulationStrategy_t, emulation_strategy, cublasSetEmulationStrategy, cublasGetEmulationStrategy,
        (unsigned)value <= 2)
SETTING(int, sm_count_target, cublasSetSmCountTarget, cublasGetSmCountTarget, value >= 0)

cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t *stream)
{
    if (handle_check(handle) != CUBLAS_STATUS_SUCCESS) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!stream) return CUBLAS_STATUS_INVALID_VALUE;
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}
