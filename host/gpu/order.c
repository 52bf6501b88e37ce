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
static attend_status belongs_here(const attend_gpu_context *gpu, cudaStream_t handle, cudaEvent_t done)
{
    const cudaError_t error = cudaEventRecord(done, handle);
    if (error != cudaErrorInvalidResourceHandle) return attend_gpu_check(error, "cudaEventRecord");
    cudaGetLastError();
    return attend_fail(ATTEND_INVALID_ARGUMENT, "stream does not belong to the context's device, %d",
                       gpu->device);
}

/* Asking whether work is done would break a capture of another thread, were it not for the mode. */
static bool is_done(const attend_gpu_stream *stream)
{
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    if (cudaThreadExchangeStreamCaptureMode(&mode) != cudaSuccess) return cudaGetLastError(), false;
    const bool done = cudaEventQuery(stream->done) == cudaSuccess;
    cudaThreadExchangeStreamCaptureMode(&mode);
    cudaGetLastError();
    return done;
}

static attend_status make(attend_gpu_context *gpu, attend_gpu_stream **made)
{
    attend_gpu_stream *stream = calloc(1, sizeof *stream);
    if (!stream) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a stream's event");
    attend_status status = attend_gpu_check(cudaEventCreateWithFlags(&stream->done, cudaEventDisableTiming),
                                            "cudaEventCreateWithFlags");
    if (status) {
        free(stream);
        return status;
    }
    stream->next = gpu->own.next, gpu->own.next = stream;
    *made = stream;
    return ATTEND_OK;
}

/* Beyond a few, a stream that was not given before takes the place of one whose work is done: a server may
   take a new one for each request. */
static attend_status find(attend_gpu_context *gpu, cudaStream_t handle, attend_gpu_stream **found)
{
    attend_gpu_stream *s;
    int kept = 0;
    *found = &gpu->own;
    if (handle == gpu->own.handle) return ATTEND_OK;
    for (s = gpu->own.next; s && s->handle != handle; s = s->next) kept++;
    if (!s) {
        if (kept >= ATTEND_GPU_STREAMS)
            for (s = gpu->own.next; s && !is_done(s);) s = s->next;
        if (!s) ATTEND_TRY(make(gpu, &s));
        ATTEND_TRY(belongs_here(gpu, handle, s->done));
        s->handle = handle, s->generation++;
    }
    *found = s;
    return ATTEND_OK;
}

static attend_status wait_for(cudaStream_t stream, const attend_gpu_stream *before)
{
    return attend_gpu_check(cudaStreamWaitEvent(stream, before->done, 0), "cudaStreamWaitEvent");
}

attend_status attend_gpu_begin_work(attend_gpu_context *gpu, cudaStream_t stream,
                                    attend_gpu_use *const last[2], attend_gpu_stream **on)
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
    for (int i = 0; i < 2; i++) {
        const attend_gpu_stream *before = last[i] ? last[i]->stream : NULL;
        if (before && before != here && before->generation == last[i]->generation)
            ATTEND_TRY(wait_for(stream, before));
    }
    for (int i = 0; i < 2; i++)
        if (last[i]) *last[i] = (attend_gpu_use){here, here->generation};
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
