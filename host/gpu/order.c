/* Order among streams: runs that share memory wait for each other by events, and the host can wait for all
   work. A caller's stream is used only during a call, so that it may be destroyed afterwards; its event
   remains. */
#include "gpu/gpu.h"

#include <stdlib.h>

static attend_status is_captured(cudaStream_t stream, bool *captured)
{
    enum cudaStreamCaptureStatus status;
    ATTEND_TRY(attend_gpu_check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing"));
    *captured = status != cudaStreamCaptureStatusNone;
    return ATTEND_OK;
}

/* An event can be recorded only on a stream of its own device. Tried when a stream is new, before any work is
   enqueued. */
static attend_status belongs_here(const attend_gpu_context *gpu, cudaStream_t handle, cudaEvent_t done)
{
    const cudaError_t error = cudaEventRecord(done, handle);
    if (error != cudaErrorInvalidResourceHandle) return attend_gpu_check(error, "cudaEventRecord");
    cudaGetLastError();
    return attend_fail(ATTEND_INVALID_ARGUMENT, "stream does not belong to the context's device, %d",
                       gpu->device);
}

/* cudaEventQuery() would invalidate another thread's capture unless this thread's capture mode is relaxed. */
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

/* Beyond ATTEND_GPU_STREAMS entries, a new stream takes the entry of one whose work is done: a server may use
   a new stream for each request. */
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
    /* CUDA may have given this stream the handle of a destroyed one whose work is unfinished: waiting for the
       old event makes the next record cover that work. */
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
    if (error) cudaStreamSynchronize(on->handle); /* or nobody could wait for the work */
    if (!status) return attend_gpu_check(error, "cudaEventRecord");
    cudaGetLastError(); /* the first failure is returned, later ones are cleared */
    return status;
}

attend_status attend_gpu_wait_for_all(const attend_gpu_context *gpu)
{
    attend_status status = attend_gpu_check(cudaStreamSynchronize(gpu->own.handle), "cudaStreamSynchronize");
    for (const attend_gpu_stream *s = gpu->own.next; s; s = s->next) {
        const cudaError_t error = cudaEventSynchronize(s->done);
        if (status)
            cudaGetLastError(); /* the first failure is returned, later ones are cleared */
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
