/* Finds out whether a tensor is on the host or on the device, and copies strided views between them in stream
   order. */
#include "gpu/gpu.h"
#include "gpu/range.h"

#include <string.h>

attend_status attend_gpu_is_on_host(const attend_gpu_context *gpu, const char *name, const void *data,
                                    bool *on_host)
{
    struct cudaPointerAttributes attributes;
    *on_host = false;
    if (!data) return ATTEND_OK; /* an empty tensor */
    ATTEND_TRY(attend_gpu_check(cudaPointerGetAttributes(&attributes, data), "cudaPointerGetAttributes"));
    *on_host = attributes.type == cudaMemoryTypeUnregistered || attributes.type == cudaMemoryTypeHost;
    if (attributes.type == cudaMemoryTypeDevice && attributes.device != gpu->device)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s lies on CUDA device %d, but the context is on device %d", name,
                           attributes.device, gpu->device);
    return ATTEND_OK;
}

/* ---- strided copies ---- */

typedef struct axis {
    int64_t count, to, from; /* strides in bytes */
} axis;

/* The axes, outermost first, with neighbours joined where both tensors are contiguous across them. The
   innermost axis counts bytes. */
static int join_axes(const attend_tensor *to, const attend_tensor *from, axis axes[ATTEND_MAX_RANK + 1])
{
    int64_t element = (int64_t)attend_dtype_bytes(to->dtype);
    int count = 0;
    axis inner = {element, 1, 1};
    for (int i = to->rank - 1; i >= 0; i--) {
        axis next = {to->shape[i], to->stride[i] * element, from->stride[i] * element};
        if (next.count == 1) continue;
        if (next.to == inner.count * inner.to && next.from == inner.count * inner.from) {
            inner.count *= next.count;
            continue;
        }
        axes[count++] = inner;
        inner = next;
    }
    axes[count++] = inner;
    for (int i = 0; i < count / 2; i++) { /* reverses them: innermost last */
        axis swap = axes[i];
        axes[i] = axes[count - 1 - i];
        axes[count - 1 - i] = swap;
    }
    return count;
}

enum { PITCH_LIMIT = 0x7fffffff };

static bool is_pitch(int64_t stride, int64_t width) { return stride >= width && stride <= PITCH_LIMIT; }

static attend_status copy_axes(char *to, const char *from, const axis *axes, int count,
                               enum cudaMemcpyKind kind, cudaStream_t stream)
{
    if (count == 1)
        return attend_gpu_check(cudaMemcpyAsync(to, from, (size_t)axes->count, kind, stream),
                                "cudaMemcpyAsync");
    if (count == 2 && is_pitch(axes[0].to, axes[1].count) && is_pitch(axes[0].from, axes[1].count))
        return attend_gpu_check(cudaMemcpy2DAsync(to, (size_t)axes[0].to, from, (size_t)axes[0].from,
                                                  (size_t)axes[1].count, (size_t)axes[0].count, kind, stream),
                                "cudaMemcpy2DAsync");
    for (int64_t i = 0; i < axes->count; i++)
        ATTEND_TRY(copy_axes(to + i * axes->to, from + i * axes->from, axes + 1, count - 1, kind, stream));
    return ATTEND_OK;
}

attend_status attend_gpu_copy(const attend_gpu_context *gpu, const attend_tensor *to,
                              const attend_tensor *from, enum cudaMemcpyKind kind)
{
    axis axes[ATTEND_MAX_RANK + 1];
    if (attend_tensor_elements(to) == 0) return ATTEND_OK;
    int count = join_axes(to, from, axes);
    attend_range_begin(kind == cudaMemcpyHostToDevice ? "attend: copy in" : "attend: copy out");
    attend_status status = copy_axes(to->data, from->data, axes, count, kind, gpu->stream);
    attend_range_end();
    return status;
}

/* ---- arguments ---- */

attend_status attend_gpu_refuse_host(const attend_gpu_context *gpu, const char *name,
                                     attend_host_tensors unannounced)
{
    if (gpu->no_staging)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s lies on the host, but the %s", name, gpu->no_staging);
    return attend_fail(ATTEND_INVALID_ARGUMENT,
                       "%s lies on the host, but the plan's host_tensors does not have %s", name,
                       unannounced == ATTEND_HOST_INPUTS    ? "ATTEND_HOST_INPUTS"
                       : unannounced == ATTEND_HOST_OUTPUTS ? "ATTEND_HOST_OUTPUTS"
                                                            : "ATTEND_HOST_STATES");
}

attend_status attend_gpu_take_input(const attend_gpu_context *gpu, const char *name,
                                    const attend_tensor *given, const attend_tensor *staging,
                                    attend_tensor *use)
{
    bool on_host;
    *use = *given;
    ATTEND_TRY(attend_gpu_is_on_host(gpu, name, given->data, &on_host));
    if (!on_host || attend_tensor_elements(given) == 0) return ATTEND_OK;
    if (!staging->data) return attend_gpu_refuse_host(gpu, name, ATTEND_HOST_INPUTS);
    *use = *staging;
    return attend_gpu_copy(gpu, staging, given, cudaMemcpyHostToDevice);
}

attend_status attend_gpu_take_output(const attend_gpu_context *gpu, const char *name,
                                     const attend_tensor *given, const attend_tensor *staging,
                                     attend_tensor *use)
{
    bool on_host;
    *use = *given;
    ATTEND_TRY(attend_gpu_is_on_host(gpu, name, given->data, &on_host));
    if (!on_host || attend_tensor_elements(given) == 0) return ATTEND_OK;
    if (!staging->data) return attend_gpu_refuse_host(gpu, name, ATTEND_HOST_OUTPUTS);
    *use = *staging;
    return ATTEND_OK;
}

attend_status attend_gpu_give_output(const attend_gpu_context *gpu, const attend_tensor *given,
                                     const attend_tensor *used)
{
    if (!given->data || given->data == used->data) return ATTEND_OK;
    return attend_gpu_copy(gpu, given, used, cudaMemcpyDefault);
}
