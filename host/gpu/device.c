/* Sets the thread's current device for one call and restores it. cudaSetDevice() cannot restore: going back
   to device 0 makes a context there (some hundred MB of its memory), even if the thread never used that
   device. So the device's primary context is pushed on the driver's stack of contexts, which the runtime
   follows, and popped again. */
#include "gpu/gpu.h"

#include <string.h>

/* Finds a driver function by name, with the interface that it has had since this version of CUDA. */
static attend_status find(const char *name, unsigned version, void *function)
{
    void *found = NULL;
    enum cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
    cudaError_t error = cudaGetDriverEntryPointByVersion(name, &found, version, cudaEnableDefault, &result);
#else
    (void)version;
    cudaError_t error = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result);
#endif
    memcpy(function, &found, sizeof found);
    if (error == cudaSuccess && !found) error = cudaErrorCallRequiresNewerDriver;
    return attend_gpu_check(error, name);
}

attend_status attend_gpu_open_primary(attend_gpu_context *gpu)
{
    CUresult (*retain)(CUcontext *, CUdevice);
    ATTEND_TRY(find("cuCtxPushCurrent", 4000, &gpu->push));
    ATTEND_TRY(find("cuCtxPopCurrent", 4000, &gpu->pop));
    ATTEND_TRY(find("cuDevicePrimaryCtxRetain", 7000, &retain));
    return attend_gpu_check((cudaError_t)retain(&gpu->primary, gpu->device), "cuDevicePrimaryCtxRetain");
}

attend_status attend_gpu_enter(const attend_gpu_context *gpu)
{
    return attend_gpu_check((cudaError_t)gpu->push(gpu->primary), "cuCtxPushCurrent");
}

void attend_gpu_leave(const attend_gpu_context *gpu)
{
    CUcontext popped;
    gpu->pop(&popped);
}
