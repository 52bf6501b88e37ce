/* Tensors in a CUDA device's memory, so that a benchmark measures attention and not the bus. */
#ifndef ATTEND_TOOL_DEVICE_H
#define ATTEND_TOOL_DEVICE_H

#include <attend/attend.h>

/* Copies of q, k and v and room for out on the device; all are freed at once. */
typedef struct device_args {
    attend_attention_args args;
    void *blocks[4];
} device_args;

/* Where the build has no CUDA this fails with ATTEND_NO_DEVICE. Free it after success and failure. */
attend_status device_args_make(const attend_attention_args *host, device_args *device);
attend_status device_args_fetch(const device_args *device, const attend_tensor *out);
void device_args_free(device_args *device);

#endif
