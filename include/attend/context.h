/* Where to run: a CPU with its threads, or a CUDA device with a stream. */
#ifndef ATTEND_CONTEXT_H
#define ATTEND_CONTEXT_H

#include <attend/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum attend_device {
    /* CUDA where a device can be used (another process may have it for itself), else the CPU */
    ATTEND_AUTO = 0,
    ATTEND_CPU,
    ATTEND_CUDA,
    ATTEND_REFERENCE /* naive fp64 on the CPU: the definition of correct, slow */
} attend_device;

#define ATTEND_MAX_THREADS 4096

/* Called by the thread that called the library, during a run. Only the ratio done / total has a meaning; it
 * never decreases and ends at 1. Returning false cancels: the run soon returns ATTEND_CANCELLED, the contents
 * of its outputs are undefined, and the plan can run again. The value returned at 1 is ignored. The callback
 * must not change the thread's current CUDA device. */
typedef bool attend_progress(void *user, int64_t done, int64_t total);

typedef struct attend_context_options {
    attend_device device;
    int device_index; /* which CUDA device */
    /* CPU threads, at most ATTEND_MAX_THREADS; 0: as many as the process may use. They are created with
     * the context and sleep between runs. A run uses as many as its work justifies; results do not depend on
     * the number. After a fork() the child can use CPU contexts, unless another thread was using them during
     * the fork, and starts its own threads. */
    int threads;
    bool device_tensors_only; /* CUDA: no call takes a tensor on the host, and no plan announces any */
    /* No fallback: ATTEND_AUTO is refused. A run on CUDA with rows of q, k or v that do not begin at
     * multiples of 16 bytes is UNSUPPORTED if the plan's kernel needs that, instead of using the slower
     * kernel that attend_plan_explain() names. Dtypes are never replaced, strict or not. */
    bool strict;
    uint8_t reserved[2];
    /* Called for every run and inspection of the context, layers included; NULL: none, at no cost. On CUDA a
     * run with a callback works in slices, waits for each, is done when the call returns, and cannot be
     * captured in a graph. */
    attend_progress *progress;
    void *progress_user;
} attend_context_options;

typedef struct attend_context attend_context;

/* attend_context_create() for bindings, which pass the size of their struct themselves. */
ATTEND_API attend_status attend_context_create_sized(const attend_context_options *options,
                                                     size_t options_bytes, attend_context **context);

/* Makes a context; options may be NULL. Errors: INVALID_ARGUMENT, NO_DEVICE, OUT_OF_MEMORY, DEVICE_ERROR;
 * *context is NULL then. The caller destroys it, after its plans. */
static inline attend_status attend_context_create(const attend_context_options *options,
                                                  attend_context **context)
{
    return attend_context_create_sized(options, sizeof *options, context);
}

#define ATTEND_MAX_DEVICES 64

ATTEND_API attend_status attend_context_create_group_sized(const attend_context_options *options,
                                                           size_t options_bytes, const int *devices,
                                                           int count, attend_context **context);

/* Makes a context over several CUDA devices of one architecture, each of them with a plan and a budget of its
 * own: pairs of batch entry and KV head are shared out, or, where there are fewer than devices, blocks of
 * queries. The bits are those of one device, whatever their number. Attention alone, forwards; q, k, v, out
 * and states lie on the host, in managed memory, or on every device at once, and no device reads another's
 * memory. A run takes no stream, and keeps a thread of the host for each device but the first; progress is the
 * sum over the devices. Merges, inspections and explanations are the first device's. memory_limit_bytes is
 * each device's; attend_plan_memory is of all. options->device_index counts for nothing. Errors: as above, and
 * UNSUPPORTED for devices of several architectures. */
static inline attend_status attend_context_create_group(const attend_context_options *options,
                                                        const int *devices, int count,
                                                        attend_context **context)
{
    return attend_context_create_group_sized(options, sizeof *options, devices, count, context);
}

/* Waits for the work in flight, then frees the context. NULL is allowed. Errors: INVALID_ARGUMENT if plans of
 * the context still exist; nothing is freed then. */
ATTEND_API attend_status attend_context_destroy(attend_context *context);

/* The device that ATTEND_AUTO chose, or the one asked for. */
ATTEND_API attend_device attend_context_device(const attend_context *context);

/* A name for people: "NVIDIA H100 80GB HBM3 (sm_90)", "CPU, 2 threads, avx512". Lives as long as the context.
   */
ATTEND_API const char *attend_context_device_name(const attend_context *context);

/* Waits for all work that the library enqueued for the context, on every stream, and returns the first error.
 * It does not wait for the caller's own work on those streams, nor for launches of graphs that captured runs.
 * */
ATTEND_API attend_status attend_synchronize(attend_context *context);

/* CUDA devices that can be used; 0 without a driver or in a build without CUDA. */
ATTEND_API int attend_cuda_device_count(void);

#ifdef __cplusplus
}
#endif

#endif
