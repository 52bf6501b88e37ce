/* Events: places in streams' queues that the host, other streams and the modelled clock can ask about. */
#include "runtime/stream.h"
#include <stdlib.h>

enum { EVENT_MAGIC = 0x65766e74 };
static cudaEvent_t events;

static cudaError_t create(cudaEvent_t *handle, unsigned flags) {
    const unsigned known = cudaEventBlockingSync | cudaEventDisableTiming | cudaEventInterprocess;
    TRY(fault_or_success(SOFTGPU_EVENT));
    if (!handle || (flags & ~known)) return cudaErrorInvalidValue;
    if ((flags & cudaEventInterprocess) && !(flags & cudaEventDisableTiming)) return cudaErrorInvalidValue;
    cudaEvent_t event = calloc(1, sizeof *event);
    if (!event) return cudaErrorMemoryAllocation;
    event->magic = EVENT_MAGIC;
    event->context = current_context();
    event->flags = flags;
    event->next = events;
    events = event;
    *handle = event;
    return cudaSuccess;
}

cudaError_t event_of(cudaEvent_t handle) {
    return handle && handle->magic == EVENT_MAGIC ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

static void forget_capture(cudaEvent_t event) {
    node_list_clear(&event->captured);
    event->capture = NULL;
}

void events_forget_capture(const capture *k) {
    for (cudaEvent_t event = events; event; event = event->next)
        if (event->capture == k) forget_capture(event);
}

/* An entry still queued may point to the event, so its memory stays; only the handle dies. */
static cudaError_t destroy(cudaEvent_t handle) {
    TRY(event_of(handle));
    forget_capture(handle);
    handle->magic = 0;
    return cudaSuccess;
}

cudaError_t event_record(cudaEvent_t event, stream *s, unsigned flags) {
    TRY(event_of(event));
    if (flags & ~(unsigned)cudaEventRecordExternal) return cudaErrorInvalidValue;
    if (event->context != s->context) return cudaErrorInvalidResourceHandle;
    forget_capture(event);
    if (s->capture.capture && !(flags & cudaEventRecordExternal)) return capture_record(event, s);
    task *t = task_create(TASK_EVENT_RECORD, "cudaEventRecord");
    if (!t) return cudaErrorMemoryAllocation;
    t->event = event;
    if (s->capture.capture) return capture_append(s, t);
    cudaError_t status = capture_refuse_implicit(s);
    if (status != cudaSuccess) return task_release(t), status;
    event->at = (place){s, s->queued + 1};
    return queue_append(s, t, NULL, 0, event);
}

static cudaError_t record(cudaEvent_t event, cudaStream_t handle, unsigned flags) {
    stream *s;
    TRY(fault_or_success(SOFTGPU_EVENT));
    TRY(stream_of(handle, &s));
    return event_record(event, s, flags);
}

static cudaError_t wait_for(cudaStream_t handle, cudaEvent_t event, unsigned flags) {
    stream *s;
    TRY(fault_or_success(SOFTGPU_EVENT));
    TRY(stream_of(handle, &s));
    TRY(event_of(event));
    if (flags & ~(unsigned)cudaEventWaitExternal) return cudaErrorInvalidValue;
    if (event->capture) return capture_join(s, event);
    if (s->capture.capture) {
        if (!event->at.stream && !(flags & cudaEventWaitExternal)) return cudaSuccess;
        if (!(flags & cudaEventWaitExternal)) return capture_invalidate(s, cudaErrorStreamCaptureIsolation);
        task *wait = task_create(TASK_EVENT_WAIT, "cudaStreamWaitEvent");
        if (wait) wait->event = event;
        return stream_append(s, wait);
    }
    if (!event->at.stream || fault_leaves_out_wait()) return cudaSuccess;
    TRY(capture_refuse_implicit(s));
    return queue_append(s, task_create(TASK_EMPTY, "cudaStreamWaitEvent"), &event->at, 1, NULL);
}

static cudaError_t query(cudaEvent_t event) {
    TRY(event_of(event));
    if (event->capture) return capture_invalidate(NULL, cudaErrorCapturedEvent);
    TRY(capture_refuse_unsafe());
    return event->at.stream ? query_place(event->at) : cudaSuccess;
}

static cudaError_t synchronize(cudaEvent_t event) {
    TRY(fault_or_success(SOFTGPU_SYNC));
    TRY(event_of(event));
    if (event->capture) return capture_invalidate(NULL, cudaErrorCapturedEvent);
    TRY(capture_refuse_unsafe());
    return event->at.stream && !fault_leaves_out_wait() ? wait_place(event->at) : cudaSuccess;
}

static cudaError_t elapsed(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    if (!milliseconds) return cudaErrorInvalidValue;
    TRY(event_of(start));
    TRY(event_of(end));
    if ((start->flags | end->flags) & cudaEventDisableTiming) return cudaErrorInvalidResourceHandle;
    if (!start->at.stream || !end->at.stream) return cudaErrorInvalidResourceHandle;
    if (start->context != end->context) return cudaErrorInvalidResourceHandle;
    TRY(query_place(start->at));
    TRY(query_place(end->at));
    *milliseconds = (float)((end->seconds - start->seconds) * 1e3);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) API(create(event, cudaEventDefault))
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) API(create(event, flags))
cudaError_t cudaEventDestroy(cudaEvent_t event) API(destroy(event))
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) API(record(event, handle, 0))
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t handle, unsigned flags)
    API(record(event, handle, flags))
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags)
    API(wait_for(handle, event, flags))
cudaError_t cudaEventQuery(cudaEvent_t event) API(query(event))
cudaError_t cudaEventSynchronize(cudaEvent_t event) API(synchronize(event))
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
    API(elapsed(milliseconds, start, end))
