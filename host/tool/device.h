/* Tensors in a CUDA device's memory, so that a benchmark measures attention and not the bus. */
#ifndef ATTEND_TOOL_DEVICE_H
#define ATTEND_TOOL_DEVICE_H

#include <attend/attend.h>

/* Copies of q, k and v, or of a layer's x, and room for out on the device; all are freed at once. */
typedef struct device_args {
    attend_attention_args attention;
    attend_layer_args layer;
    void *blocks[4];
} device_args;

/* Where the build has no CUDA these fail with ATTEND_NO_DEVICE. Free it after success and failure. */
attend_status device_attention_make(const attend_attention_args *host, device_args *device);
attend_status device_layer_make(const attend_layer_args *host, device_args *device);
/* What lies in `from` on the device. */
attend_status device_fetch(const attend_tensor *from, const attend_tensor *out);
void device_args_free(device_args *device);

/* Time by events on a context's stream, which waits of the host are no part of. */
typedef struct device_clock {
    void *stream, *begin, *end;
} device_clock;

/* Free it after success and failure. */
attend_status device_clock_make(const attend_context *context, device_clock *clock);
attend_status device_clock_begin(const device_clock *clock);
attend_status device_clock_end(const device_clock *clock);
/* Between the two, once the stream has reached the second, which this waits for. */
attend_status device_clock_seconds(const device_clock *clock, double *seconds);
void device_clock_free(device_clock *clock);

#endif
