/* Work on whatever streams a context is given. What shares memory follows each other by events, and the host
   can wait for all of it. A caller's stream is touched only while a call works on it: events stand for it
   afterwards. */
#include "gpu/gpu.h"

#include <stdlib.h>

static attend_status is_captured(cudaStream_t stream, bool *captured)
{
    enum cudaStreamCaptureStatus status;
    ATTEND_TRY(attend_gpu_check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing"));
    *captured = status != cudaStreamCaptureStatusNone;
    return ATTEND_OK;
}

/* Events are recorded on streams of their own device alone: asked when a stream is first given, before
   anything is enqueued there. */
static attend_status belongs_here(const attend_gpu_context *gpu, const attend_gpu_stream *stream)
{
    const cudaError_t error = cudaEventRecord(stream->done, stream->handle);
    if (error != cudaErrorInvalidResourceHandle) return attend_gpu_check(error, "cudaEventRecord");
    cudaGetLastError();
    return attend_fail(ATTEND_INVALID_ARGUMENT, "stream does not belong to the context's device, %d",
                       gpu->device);
}

static attend_status find(attend_gpu_context *gpu, cudaStream_t handle, attend_gpu_stream **found)
{
    attend_gpu_stream **link = &gpu->own.next;
    *found = &gpu->own;
    if (handle == gpu->own.handle) return ATTEND_OK;
    while (*link && (*link)->handle != handle) link = &(*link)->next;
    if (!*link) {
        attend_gpu_stream *made = calloc(1, sizeof *made);
        if (!made) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a stream's event");
        made->handle = handle;
        attend_status status = attend_gpu_check(cudaEventCreateWithFlags(&made->done, cudaEventDisableTiming),
                                                "cudaEventCreateWithFlags");
        if (!status) status = belongs_here(gpu, made);
        if (status) {
            if (made->done) cudaEventDestroy(made->done);
            free(made);
            return status;
        }
        *link = made;
    }
    *found = *link;
    return ATTEND_OK;
}

static attend_status wait_for(cudaStream_t stream, const attend_gpu_stream *before)
{
    return attend_gpu_check(cudaStreamWaitEvent(stream, before->done, 0), "cudaStreamWaitEvent");
}

attend_status attend_gpu_begin_work(attend_gpu_context *gpu, cudaStream_t stream,
                                    attend_gpu_stream **const last[2], attend_gpu_stream **on)
{
    bool captured;
    *on = NULL;
    ATTEND_TRY(is_captured(stream, &captured));
    if (captured) return ATTEND_OK;
    attend_gpu_stream *here;
    ATTEND_TRY(find(gpu, stream, &here));
    /* A stream may have got the handle of one that was destroyed with work still on it: what is recorded next
     * covers that too. */
    if (here != &gpu->own) ATTEND_TRY(wait_for(stream, here));
    for (int i = 0; i < 2; i++)
        if (last[i] && *last[i] && *last[i] != here) ATTEND_TRY(wait_for(stream, *last[i]));
    for (int i = 0; i < 2; i++)
        if (last[i]) *last[i] = here;
    *on = here;
    return ATTEND_OK;
}

attend_status attend_gpu_end_work(const attend_gpu_stream *on, attend_status status)
{
    if (!on) return status;
    const cudaError_t error = cudaEventRecord(on->done, on->handle);
    if (!status) return attend_gpu_check(error, "cudaEventRecord");
    cudaGetLastError(); /* the first failure is what is told */
    return status;
}

attend_status attend_gpu_wait_for_all(const attend_gpu_context *gpu)
{
    attend_status status = attend_gpu_check(cudaStreamSynchronize(gpu->own.handle), "cudaStreamSynchronize");
    for (const attend_gpu_stream *s = gpu->own.next; s; s = s->next) {
        const cudaError_t error = cudaEventSynchronize(s->done);
        if (status)
            cudaGetLastError(); /* the first failure is what is told */
        else
            status = attend_gpu_check(error, "cudaEventSynchronize");
    }
    return status;
}

void attend_gpu_forget_streams(attend_gpu_context *gpu)
{
    for (attend_gpu_stream *s = gpu->own.next, *next; s; s = next) {
        next = s->next;
        cudaEventDestroy(s->done);
        free(s);
    }
    if (gpu->own.done) cudaEventDestroy(gpu->own.done);
    if (gpu->own.handle) cudaStreamDestroy(gpu->own.handle);
}
