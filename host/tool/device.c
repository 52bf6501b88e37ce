/* Memory and time on a CUDA device for attend bench. */
#include "tool/library.h"
#include "tool/device.h"
#include "file/fail.h"

#include <string.h>

#ifdef ATTEND_HAVE_CUDA
#include "tool/job.h"
#include <attend/attend_cuda.h>

static size_t bytes_of(const attend_tensor *t)
{
    size_t elements = 1;
    for (int axis = 0; axis < t->rank; axis++) elements *= (size_t)t->shape[axis];
    return elements * attend_dtype_bytes(t->dtype);
}

static attend_status check(cudaError_t error, const char *call)
{
    if (error == cudaSuccess) return ATTEND_OK;
    return attend_file_fail(error == cudaErrorMemoryAllocation ? ATTEND_OUT_OF_MEMORY : ATTEND_DEVICE_ERROR,
                            "%s failed: %s (%s)", call, cudaGetErrorName(error), cudaGetErrorString(error));
}

static attend_status copy_all(attend_tensor *const *tensors, int count, device_args *device)
{
    for (int i = 0; i < count; i++) {
        const void *from = tensors[i]->data;
        if (!from) continue;
        ATTEND_TRY(check(cudaMalloc(&device->blocks[i], bytes_of(tensors[i]) + 1), "cudaMalloc"));
        ATTEND_TRY(check(cudaMemcpy(device->blocks[i], from, bytes_of(tensors[i]), cudaMemcpyHostToDevice),
                         "cudaMemcpy"));
        tensors[i]->data = device->blocks[i];
    }
    return check(cudaDeviceSynchronize(),
                 /* cudaMemcpy may return early, and attend's stream does not wait for it */
                 "cudaDeviceSynchronize");
}

attend_status device_attention_make(const attend_attention_args *host, device_args *device)
{
    attend_attention_args *args = &device->attention;
    memset(device, 0, sizeof *device);
    *args = *host;
    args->lse = (attend_tensor){0};
    return copy_all((attend_tensor *const[]){&args->q, &args->k, &args->v, &args->out}, 4, device);
}

attend_status device_layer_make(const attend_layer_args *host, device_args *device)
{
    memset(device, 0, sizeof *device);
    device->layer = *host;
    return copy_all((attend_tensor *const[]){&device->layer.x, &device->layer.out}, 2, device);
}

attend_status device_cache_make(const attend_cache *host, device_args *device)
{
    memset(device, 0, sizeof *device);
    device->cache = *host;
    return copy_all((attend_tensor *const[]){&device->cache.k, &device->cache.v, &device->cache.block_table},
                    3, device);
}

attend_status device_fetch(const attend_tensor *from, const attend_tensor *out)
{
    return check(cudaMemcpy(out->data, from->data, bytes_of(out), cudaMemcpyDeviceToHost), "cudaMemcpy");
}

void device_args_free(device_args *device)
{
    for (int i = 0; i < 4; i++) cudaFree(device->blocks[i]);
    memset(device, 0, sizeof *device);
}

double device_bytes_per_second(int index)
{
    int kilohertz, bits;
    if (cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, index) != cudaSuccess ||
        cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, index) != cudaSuccess)
        return 0;
    return 2e3 * kilohertz * bits / 8; /* twice a clock */
}

attend_status device_clock_make(const attend_context *context, device_clock *clock)
{
    cudaEvent_t begin, end;
    cudaStream_t stream;
    memset(clock, 0, sizeof *clock);
    ATTEND_TRY(from_library(attend_context_stream(context, &stream)));
    ATTEND_TRY(check(cudaEventCreate(&begin), "cudaEventCreate"));
    clock->stream = stream, clock->begin = begin;
    ATTEND_TRY(check(cudaEventCreate(&end), "cudaEventCreate"));
    clock->end = end;
    return ATTEND_OK;
}

attend_status device_clock_begin(const device_clock *clock)
{
    return check(cudaEventRecord(clock->begin, clock->stream), "cudaEventRecord");
}

attend_status device_clock_end(const device_clock *clock)
{
    return check(cudaEventRecord(clock->end, clock->stream), "cudaEventRecord");
}

attend_status device_clock_seconds(const device_clock *clock, double *seconds)
{
    float milliseconds = 0;
    ATTEND_TRY(check(cudaEventSynchronize(clock->end), "cudaEventSynchronize"));
    ATTEND_TRY(check(cudaEventElapsedTime(&milliseconds, clock->begin, clock->end), "cudaEventElapsedTime"));
    *seconds = 1e-3 * (double)milliseconds;
    return ATTEND_OK;
}

void device_clock_free(device_clock *clock)
{
    if (clock->begin) cudaEventDestroy(clock->begin);
    if (clock->end) cudaEventDestroy(clock->end);
    memset(clock, 0, sizeof *clock);
}

#else

static attend_status no_cuda(void)
{
    return attend_file_fail(ATTEND_NO_DEVICE, "this build of attend has no CUDA backend");
}

attend_status device_attention_make(const attend_attention_args *host, device_args *device)
{
    (void)host;
    memset(device, 0, sizeof *device);
    return no_cuda();
}

attend_status device_layer_make(const attend_layer_args *host, device_args *device)
{
    (void)host;
    memset(device, 0, sizeof *device);
    return no_cuda();
}

attend_status device_cache_make(const attend_cache *host, device_args *device)
{
    (void)host;
    memset(device, 0, sizeof *device);
    return no_cuda();
}

attend_status device_fetch(const attend_tensor *from, const attend_tensor *out)
{
    return (void)from, (void)out, no_cuda();
}
void device_args_free(device_args *device) { memset(device, 0, sizeof *device); }
double device_bytes_per_second(int index) { return (void)index, 0; }

attend_status device_clock_make(const attend_context *context, device_clock *clock)
{
    (void)context;
    memset(clock, 0, sizeof *clock);
    return no_cuda();
}

attend_status device_clock_begin(const device_clock *clock) { return (void)clock, no_cuda(); }
attend_status device_clock_end(const device_clock *clock) { return (void)clock, no_cuda(); }
attend_status device_clock_seconds(const device_clock *clock, double *seconds)
{
    return (void)clock, (void)seconds, no_cuda();
}
void device_clock_free(device_clock *clock) { memset(clock, 0, sizeof *clock); }

#endif
