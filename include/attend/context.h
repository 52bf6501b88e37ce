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

/* Called from the thread that called the library, while a run works: done of total units, which say nothing
 * but their ratio, from 0 to 1 and never back. Returns false to stop: the run ends soon with
 * ATTEND_CANCELLED, and its outputs hold anything; the plan can run again. What it returns once all is done
 * does not matter. It leaves the thread's current CUDA device as it is. */
typedef bool attend_progress(void *user, int64_t done, int64_t total);

typedef struct attend_context_options {
    attend_device device;
    int device_index; /* which CUDA device */
    /* CPU threads, at most ATTEND_MAX_THREADS; 0: as many as the process may use. They start with the context
     * and sleep where there is nothing to do; a run takes as many as its work is worth, and what it computes
     * does not depend on how many come. After a fork() the child may go on with CPU contexts, unless another
     * thread was at work on them, and starts threads of its own. */
    int threads;
    bool device_tensors_only; /* CUDA: plans reserve no staging for host tensors, and refuse them */
    /* Nothing stands in for what was asked: ATTEND_AUTO is refused, and a run on CUDA whose q, k or v has
     * rows that are not at multiples of 16 bytes is UNSUPPORTED where the plan's kernel needs them so,
     * instead of taking the slower one that attend_plan_explain() names. Dtypes and algorithms are never
     * exchanged, strict or not. */
    bool strict;
    uint8_t reserved[2];
    /* Of every run and inspection on the context, a whole layer too; NULL: none, at no cost. On CUDA a run
     * with it goes slice by slice, waits for each, is done when the call returns, and can be no part of a
     * graph. */
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

/* Waits for the work in flight, then frees the context. NULL is allowed. Errors: INVALID_ARGUMENT while plans
 * of the context are there, which use it: nothing is freed then. */
ATTEND_API attend_status attend_context_destroy(attend_context *context);

/* The device that ATTEND_AUTO chose, or the one asked for. */
ATTEND_API attend_device attend_context_device(const attend_context *context);

/* A name for people: "NVIDIA H100 80GB HBM3 (sm_90)", "CPU, 2 threads, avx512". Lives as long as the context.
   */
ATTEND_API const char *attend_context_device_name(const attend_context *context);

/* Waits until all that was enqueued on the context is done, on every stream that it was given, which is not
 * what the caller enqueues there besides; returns the first error that happened on the way. Launches of
 * graphs that captured its work are the caller's own to wait for. */
ATTEND_API attend_status attend_synchronize(attend_context *context);

/* CUDA devices that can be used; 0 without a driver or in a build without CUDA. */
ATTEND_API int attend_cuda_device_count(void);

#ifdef __cplusplus
}
#endif

#endif
