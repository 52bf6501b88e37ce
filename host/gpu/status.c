/* Turns errors of CUDA and cuBLAS into a status and a message. */
#include "gpu/gpu.h"

static attend_status status_of(cudaError_t error)
{
    switch (error) {
    case cudaErrorMemoryAllocation: return ATTEND_OUT_OF_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable: /* another process uses it exclusively */
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch: return ATTEND_NO_DEVICE;
    default: return ATTEND_DEVICE_ERROR;
    }
}

/* After these, says CUDA's manual, the process must be terminated and relaunched. */
static bool is_final(cudaError_t error)
{
    switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorMpsClientTerminated: return true;
    default: return false;
    }
}

attend_status attend_gpu_check(cudaError_t error, const char *call)
{
    if (error == cudaSuccess) return ATTEND_OK;
    cudaGetLastError(); /* clears the error, so that the caller's next check does not return it again */
    return attend_fail(status_of(error), "%s failed: %s (%s)%s", call, cudaGetErrorName(error),
                       cudaGetErrorString(error),
                       is_final(error) ? "; CUDA cannot be used again in this process" : "");
}

attend_status attend_gpu_check_blas(const attend_gpu_context *gpu, cublasStatus_t status, const char *call)
{
    if (status == CUBLAS_STATUS_SUCCESS) return ATTEND_OK;
    cudaGetLastError();
    return attend_fail(status == CUBLAS_STATUS_ALLOC_FAILED ? ATTEND_OUT_OF_MEMORY : ATTEND_DEVICE_ERROR,
                       "%s failed: %s (%s)", call, gpu->cublas.status_name(status),
                       gpu->cublas.status_text(status));
}
