/* Tensors in a CUDA device's memory, so that a benchmark does not time copies from the host. */
#ifndef ATTEND_TOOL_DEVICE_H
#define ATTEND_TOOL_DEVICE_H

#include <attend/attend.h>

/* Device copies of q, k and v, or of a layer's x, and a buffer for out; or of a cache. */
typedef struct device_args {
    attend_attention_args attention;
    attend_layer_args layer;
    attend_cache cache;
    void *blocks[4];
} device_args;

/* Tensors that are absent stay so. Fail with ATTEND_NO_DEVICE in a build without CUDA. Call
   device_args_free() after success and failure. */
attend_status device_attention_make(const attend_attention_args *host, device_args *device);
attend_status device_layer_make(const attend_layer_args *host, device_args *device);
attend_status device_cache_make(const attend_cache *host, device_args *device);
/* Copies `from`, on the device, to `out`, on the host. */
attend_status device_fetch(const attend_tensor *from, const attend_tensor *out);
void device_args_free(device_args *device);

/* What its memory can move at most, by its clock and width; 0: unknown. */
double device_bytes_per_second(int index);

/* Device time between two events on a context's stream; time of the host does not count. */
typedef struct device_clock {
    void *stream, *begin, *end;
} device_clock;

/* Call device_clock_free() after success and failure. */
attend_status device_clock_make(const attend_context *context, device_clock *clock);
attend_status device_clock_begin(const device_clock *clock);
attend_status device_clock_end(const device_clock *clock);
/* Waits for the second event; *seconds is the time since the first. */
attend_status device_clock_seconds(const device_clock *clock, double *seconds);
void device_clock_free(device_clock *clock);

#endif
