/* What libcudart.so.13 of the software device offers to its sister libraries (libcublas.so.13) beside CUDA's own API
   and the engine's sg_… door, both of which it exports too: work in stream order, faults on request, loud refusals. */
#ifndef SOFTGPU_RUNTIME_QUEUE_H
#define SOFTGPU_RUNTIME_QUEUE_H

#include "engine/engine.h"
#include <driver_types.h>

/* Runs once the stream reaches it, perhaps long after the call that queued it, on whichever host thread synchronises;
   several times, and with other work between, if the stream was capturing a graph. It reads and writes device memory
   through sg_memory_read and sg_memory_write and must not call CUDA's API. An error it returns is sticky, as a
   kernel's would be; sg_memory_…'s refusal of an address (a finding) is cudaErrorIllegalAddress. */
typedef cudaError_t softgpu_work(sg_device *device, void *argument);

/* Queues work on a stream (0: the legacy default stream; cudaStreamLegacy and cudaStreamPerThread as usual) behind
   all that is queued there, or adds it to the graph which the stream is capturing. `bytes` bytes at `argument` are
   copied, so they must be complete in themselves: values and device pointers, host pointers only to what lives as
   long as a graph may. `what` (a string constant: "cublasSgemm") names the work in reports. Returns the sticky error
   if there is one already, cudaErrorInvalidResourceHandle for a stream that does not exist. */
cudaError_t softgpu_stream_enqueue(cudaStream_t stream, const char *what, softgpu_work *work, const void *argument,
                                   size_t bytes);

/* The device whose work the stream carries; NULL for a stream that does not exist. */
sg_device *softgpu_stream_device(cudaStream_t stream);

/* Counts one call of a kind; the counts are in the report. NULL: go on. Otherwise SOFTGPU_FAULT wants this call to
   fail (or the device was lost) and the result is the name of the error to return: as the variable says
   ("CUBLAS_STATUS_ALLOC_FAILED", "cudaErrorMemoryAllocation"), or else the kind's usual one (the table in fault.c). */
typedef enum softgpu_call {
    SOFTGPU_ALLOC,  /* device, pooled, managed and pinned allocations */
    SOFTGPU_COPY,   /* memcpy and memset of every kind */
    SOFTGPU_LAUNCH, /* kernels, cooperative ones, graphs */
    SOFTGPU_CUBLAS, /* every call of libcublas that queues work, and cublasCreate */
    SOFTGPU_SYNC,   /* waits of the host: device, stream, event */
    SOFTGPU_EVENT,  /* events: made, recorded; and a stream's waits for them */
    SOFTGPU_CONTEXT, /* the driver's contexts: retained, pushed; what was pushed can be popped */
    SOFTGPU_ORDER,   /* waits of a stream or of the host for an event that work is before; a fault leaves it out */
    SOFTGPU_CALLS
} softgpu_call;
const char *softgpu_fault(softgpu_call call);

/* For tests, which find them by dlsym: counts calls from 0 again, with other faults ("copy:3", as in SOFTGPU_FAULT; "" for none) and
   a device that is there; and the number of calls of a kind since ("copy"; "lost": those that lost:k counts). */
void softgpu_set_faults(const char *specification);
int64_t softgpu_calls(const char *kind);

/* Says on stderr that the software device lacks `function`, once per function, and returns cudaErrorNotSupported. */
cudaError_t softgpu_unsupported(const char *function);

#endif
