/* Memory on a CUDA device for bench. */
#include "tool/device.h"
#include "file/fail.h"

#include <string.h>

#ifdef ATTEND_HAVE_CUDA
#include <cuda_runtime_api.h>

static size_t bytes_of(const attend_tensor *t)
{
    return (size_t)(t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3]) * attend_dtype_bytes(t->dtype);
}

static attend_status check(cudaError_t error, const char *call)
{
    if (error == cudaSuccess) return ATTEND_OK;
    return attend_file_fail(error == cudaErrorMemoryAllocation ? ATTEND_OUT_OF_MEMORY : ATTEND_DEVICE_ERROR,
                            "%s failed: %s (%s)", call, cudaGetErrorName(error), cudaGetErrorString(error));
}

attend_status device_args_make(const attend_attention_args *host, device_args *device)
{
    memset(device, 0, sizeof *device);
    device->args = *host;
    device->args.lse = (attend_tensor){0};
    attend_tensor *const tensors[] = {&device->args.q, &device->args.k, &device->args.v, &device->args.out};
    for (int i = 0; i < 4; i++) {
        const void *from = tensors[i]->data;
        ATTEND_TRY(check(cudaMalloc(&device->blocks[i], bytes_of(tensors[i]) + 1), "cudaMalloc"));
        ATTEND_TRY(check(cudaMemcpy(device->blocks[i], from, bytes_of(tensors[i]), cudaMemcpyHostToDevice),
                         "cudaMemcpy"));
        tensors[i]->data = device->blocks[i];
    }
    return check(cudaDeviceSynchronize(),
                 /* copies may return early, and attend's stream does not wait for them */
                 "cudaDeviceSynchronize");
}

attend_status device_args_fetch(const device_args *device, const attend_tensor *out)
{
    return check(cudaMemcpy(out->data, device->args.out.data, bytes_of(out), cudaMemcpyDeviceToHost),
                 "cudaMemcpy");
}

void device_args_free(device_args *device)
{
    for (int i = 0; i < 4; i++) cudaFree(device->blocks[i]);
    memset(device, 0, sizeof *device);
}

#else

attend_status device_args_make(const attend_attention_args *host, device_args *device)
{
    (void)host;
    memset(device, 0, sizeof *device);
    return attend_file_fail(ATTEND_NO_DEVICE, "this build of attend has no CUDA backend");
}

attend_status device_args_fetch(const device_args *device, const attend_tensor *out)
{
    (void)device, (void)out;
    return ATTEND_NO_DEVICE;
}

void device_args_free(device_args *device) { memset(device, 0, sizeof *device); }

#endif
