/* A CUDA context: one device, one stream of its own, one cuBLAS handle with a workspace of its own, and slots
   where kernels park running totals. */
#include "gpu/gpu.h"
#include "kernel_choice.h"

#include <attend/attend_cuda.h>
#include <stdio.h>
#include <stdlib.h>

int attend_cuda_device_count(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
    cudaGetLastError();
    return 0;
}

static attend_status find_device(int index)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return attend_fail(error == cudaErrorMemoryAllocation ? ATTEND_OUT_OF_MEMORY : ATTEND_NO_DEVICE,
                           "no CUDA device can be used: cudaGetDeviceCount failed: %s (%s)",
                           cudaGetErrorName(error), cudaGetErrorString(error));
    }
    if (index >= count)
        return attend_fail(ATTEND_NO_DEVICE, "device_index is %d, but there %s %d CUDA device%s", index,
                           count == 1 ? "is" : "are", count, count == 1 ? "" : "s");
    return ATTEND_OK;
}

static attend_status read_properties(attend_gpu_context *gpu, attend_context *context)
{
    struct cudaDeviceProp properties;
    ATTEND_TRY(
        attend_gpu_check(cudaGetDeviceProperties(&properties, gpu->device), "cudaGetDeviceProperties"));
    gpu->architecture = 10 * properties.major + properties.minor;
    gpu->l2_bytes = properties.l2CacheSize;
    int kilohertz = 0;
    ATTEND_TRY(attend_gpu_check(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, gpu->device),
                                "cudaDeviceGetAttribute"));
    gpu->cycles_per_second = 1e3 * kilohertz;
    gpu->multiprocessors = properties.multiProcessorCount;
    gpu->shared_bytes = (int64_t)properties.sharedMemPerBlockOptin;
    snprintf(context->name, sizeof context->name, "%.100s (sm_%d)", properties.name, gpu->architecture);
    const int least = attend_gpu_least_architecture();
    if (gpu->architecture < least)
        return attend_fail(
            ATTEND_NO_DEVICE,
            "%s is too old: attend, built with ATTEND_ARCHITECTURES %s, needs sm_%d or later%s",
            context->name, ATTEND_ARCHITECTURES, least,
            gpu->architecture < 80 ? "; its kernels use cp.async and mma.m16n8k16, which began "
                                     "with sm_80"
                                   : "");
    return ATTEND_OK;
}

/* Attention does not need cuBLAS, layers do. ATTEND_AUTO takes CUDA only where both work. */
static attend_status load_blas(const attend_context_options *options, attend_gpu_context *gpu)
{
    if (attend_blas_load(&gpu->cublas, gpu->no_blas, sizeof gpu->no_blas)) gpu->no_blas[0] = 0;
    if (!gpu->no_blas[0] || options->device == ATTEND_CUDA) return ATTEND_OK;
    return attend_fail(ATTEND_NO_DEVICE, "no CUDA device can be used: %s", gpu->no_blas);
}

static attend_status open_blas(attend_gpu_context *gpu)
{
    /* cuBLAS's own default sizes */
    gpu->blas_workspace_bytes = (size_t)(gpu->architecture >= 90 ? 32 : 4) << 20;
    ATTEND_TRY(attend_gpu_check(cudaMalloc(&gpu->blas_workspace, gpu->blas_workspace_bytes),
                                "cudaMalloc of cuBLAS's workspace"));
    ATTEND_TRY(attend_gpu_check_blas(gpu, gpu->cublas.create(&gpu->blas), "cublasCreate"));
    /* fp32 products never use TF32, and split sums are not rounded to 16 bits before they are added. */
    const cublasMath_t mode =
        (cublasMath_t)(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    return attend_gpu_check_blas(gpu, gpu->cublas.set_math_mode(gpu->blas, mode), "cublasSetMathMode");
}

/* The flags are zeroed once, here: each block clears the flag that it took. */
static attend_status make_slots(attend_gpu_context *gpu)
{
    attend_slots *slots = &gpu->slots;
    slots->count = (int64_t)gpu->multiprocessors * attend_slots_at_once;
    const size_t bytes = (size_t)slots->count * attend_slot_bytes, flags = (size_t)slots->count * sizeof(int);
    ATTEND_TRY(attend_gpu_check(cudaMalloc((void **)&slots->memory, bytes + flags), "cudaMalloc of slots"));
    slots->taken = (int *)(slots->memory + bytes);
    ATTEND_TRY(
        attend_gpu_check(cudaMemsetAsync(slots->taken, 0, flags, gpu->stream), "cudaMemsetAsync of slots"));
    /* the caller's streams do not wait for this stream */
    return attend_gpu_check(cudaStreamSynchronize(gpu->stream), "cudaStreamSynchronize");
}

static attend_status open_device(const attend_context_options *options, attend_gpu_context *gpu,
                                 attend_context *context)
{
    gpu->device_tensors_only = options->device_tensors_only;
    gpu->no_staging = options->device_tensors_only ? "context was made with device_tensors_only" : NULL;
    gpu->strict = options->strict;
    gpu->tracker = &context->tracker;
    ATTEND_TRY(attend_gpu_check(cudaStreamCreateWithFlags(&gpu->own.handle, cudaStreamNonBlocking),
                                "cudaStreamCreateWithFlags"));
    ATTEND_TRY(attend_gpu_check(cudaEventCreateWithFlags(&gpu->own.done, cudaEventDisableTiming),
                                "cudaEventCreateWithFlags"));
    gpu->stream = gpu->own.handle;
    ATTEND_TRY(make_slots(gpu));
    return gpu->no_blas[0] ? ATTEND_OK : open_blas(gpu);
}

static void close_device(attend_gpu_context *gpu)
{
    if (gpu->own.handle) attend_gpu_wait_for_all(gpu);
    if (gpu->blas) gpu->cublas.destroy(gpu->blas);
    if (gpu->blas_workspace) cudaFree(gpu->blas_workspace);
    if (gpu->slots.memory) cudaFree(gpu->slots.memory);
    attend_gpu_forget_streams(gpu);
    attend_pool_destroy(gpu->pool);
}

attend_status attend_gpu_context_create(const attend_context_options *options, attend_context *context)
{
    ATTEND_TRY(find_device(options->device_index));
    attend_gpu_context *gpu = calloc(1, sizeof *gpu);
    if (!gpu) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a context");
    gpu->device = options->device_index;
    attend_status status = read_properties(gpu, context);
    if (!status) status = load_blas(options, gpu);
    /* it takes some hundred MB and stays until the process ends: so only after all checks have passed */
    if (!status) status = attend_gpu_open_primary(gpu);
    if (!status) status = attend_gpu_enter(gpu);
    if (!status) {
        status = open_device(options, gpu, context);
        if (status) close_device(gpu);
        attend_gpu_leave(gpu);
    }
    if (status)
        free(gpu);
    else
        context->state = gpu;
    return status;
}

void attend_gpu_context_destroy(attend_context *context)
{
    attend_gpu_context *gpu = context->state;
    bool entered = attend_gpu_enter(gpu) == ATTEND_OK;
    close_device(gpu);
    if (entered) attend_gpu_leave(gpu);
    free(gpu);
}

attend_status attend_gpu_synchronize(attend_context *context)
{
    const attend_gpu_context *gpu = context->state;
    ATTEND_TRY(attend_gpu_enter(gpu));
    attend_status status = attend_gpu_wait_for_all(gpu);
    attend_gpu_leave(gpu);
    return status;
}

static attend_status check_is_cuda(const attend_context *context)
{
    if (!context) return attend_fail(ATTEND_INVALID_ARGUMENT, "context is NULL");
    if (context->backend == &attend_gpu_group_backend)
        return attend_fail(ATTEND_UNSUPPORTED,
                           "the context is over several devices, each with a stream of its own");
    if (context->backend->device != ATTEND_CUDA)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "the context is not on CUDA");
    return ATTEND_OK;
}

attend_status attend_context_set_stream(attend_context *context, cudaStream_t stream)
{
    ATTEND_TRY(check_is_cuda(context));
    ((attend_gpu_context *)context->state)->stream = stream;
    return ATTEND_OK;
}

attend_status attend_context_stream(const attend_context *context, cudaStream_t *stream)
{
    ATTEND_TRY(check_is_cuda(context));
    if (!stream) return attend_fail(ATTEND_INVALID_ARGUMENT, "stream is NULL");
    *stream = ((const attend_gpu_context *)context->state)->stream;
    return ATTEND_OK;
}
