/* The streams of the API: creation, default streams, handles, waits, queries, host functions. */
#include "runtime/stream.h"
#include <stdlib.h>
#include <string.h>

enum { STREAM_MAGIC = 0x73747265, LEGACY_ID = 1, PER_THREAD_ID = 2, LEAST_PRIORITY = 0, GREATEST_PRIORITY = -5 };

static uint64_t next_id = 16;
static stream *graveyard; /* a handle is never reused, so that a stale one is recognised */

stream *stream_create(context *c, unsigned flags, int priority) {
    stream *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->magic = STREAM_MAGIC;
    s->context = c;
    s->flags = flags;
    s->priority = priority < GREATEST_PRIORITY ? GREATEST_PRIORITY : priority > LEAST_PRIORITY ? LEAST_PRIORITY : priority;
    s->id = next_id++;
    s->next = c->streams;
    c->streams = s;
    return s;
}

void stream_bury(stream *s) {
    if (!s->destroyed || s->finished < s->queued) return;
    for (stream **link = &s->context->streams; *link; link = &(*link)->next)
        if (*link == s) {
            *link = s->next;
            s->next = graveyard;
            graveyard = s;
            return;
        }
}

void streams_forget(context *c) {
    while (c->streams) {
        capture_invalidate(c->streams, cudaSuccess);
        capture_drop(c->streams);
        c->streams->destroyed = true;
        c->streams->finished = c->streams->queued;
        stream_bury(c->streams);
    }
}

static cudaError_t per_thread_stream(stream **s) {
    context *c = current_context();
    stream **mine = &this_thread()->per_thread[c->index];
    if (!*mine || (*mine)->destroyed) {
        *mine = stream_create(c, cudaStreamDefault, 0);
        if (*mine) (*mine)->id = PER_THREAD_ID;
    }
    *s = *mine;
    return *s ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t stream_of(cudaStream_t handle, stream **s) {
    if (handle == cudaStreamPerThread || (!handle && this_thread()->default_is_per_thread)) return per_thread_stream(s);
    if (!handle || handle == cudaStreamLegacy) {
        *s = current_context()->legacy;
        return *s ? cudaSuccess : cudaErrorMemoryAllocation;
    }
    if (handle->magic != STREAM_MAGIC || handle->destroyed) return cudaErrorInvalidResourceHandle;
    *s = handle;
    return handle->context->sticky;
}

cudaError_t stream_append(stream *s, task *t) {
    if (!t) return cudaErrorMemoryAllocation;
    if (s->capture.capture) return capture_append(s, t);
    cudaError_t status = capture_refuse_implicit(s);
    if (status != cudaSuccess) return task_release(t), status;
    return queue_append(s, t, NULL, 0, NULL);
}

cudaError_t softgpu_stream_enqueue(cudaStream_t handle, const char *what, softgpu_work *work, const void *argument,
                                   size_t bytes) {
    runtime_enter();
    stream *s;
    cudaError_t status = device_lost();
    if (status == cudaSuccess) status = stream_of(handle, &s);
    if (status == cudaSuccess) status = s->context->sticky;
    task *t = status == cudaSuccess ? task_create(TASK_LIBRARY, what) : NULL;
    if (t) {
        t->library.work = work;
        t->library.argument = malloc(bytes + 1);
        t->library.bytes = bytes;
        if (t->library.argument) memcpy(t->library.argument, argument, bytes);
        status = t->library.argument ? stream_append(s, t) : cudaErrorMemoryAllocation;
    } else if (status == cudaSuccess) {
        status = cudaErrorMemoryAllocation;
    }
    runtime_leave();
    return status;
}

sg_device *softgpu_stream_device(cudaStream_t handle) {
    stream *s;
    runtime_enter();
    sg_device *device = device_count() > 0 && stream_of(handle, &s) == cudaSuccess ? s->context->device : NULL;
    runtime_leave();
    return device;
}

static cudaError_t create(cudaStream_t *handle, unsigned flags, int priority) {
    if (!handle || (flags & ~(unsigned)cudaStreamNonBlocking)) return cudaErrorInvalidValue;
    *handle = stream_create(current_context(), flags, priority);
    return *handle ? cudaSuccess : cudaErrorMemoryAllocation;
}

static cudaError_t destroy(cudaStream_t handle) {
    stream *s;
    if (!handle || handle == cudaStreamLegacy || handle == cudaStreamPerThread) return cudaErrorInvalidResourceHandle;
    TRY(stream_of(handle, &s));
    capture_drop(s);
    s->destroyed = true;
    stream_bury(s);
    return cudaSuccess;
}

static cudaError_t synchronize(cudaStream_t handle) {
    stream *s;
    TRY(fault_or_success(SOFTGPU_SYNC));
    TRY(stream_of(handle, &s));
    TRY(capture_refuse_wait(s));
    return wait_stream(s);
}

static cudaError_t query(cudaStream_t handle) {
    stream *s;
    TRY(stream_of(handle, &s));
    TRY(capture_refuse_wait(s));
    return query_place((place){s, s->queued});
}

static cudaError_t host_task_append(cudaStream_t handle, host_task host) {
    stream *s;
    TRY(stream_of(handle, &s));
    if (!host.function && !host.callback) return cudaErrorInvalidValue;
    if (host.callback && s->capture.capture) return capture_invalidate(s, cudaErrorStreamCaptureUnsupported);
    task *t = task_create(TASK_HOST, host.callback ? "cudaStreamAddCallback" : "cudaLaunchHostFunc");
    if (!t) return cudaErrorMemoryAllocation;
    t->host = host;
    return stream_append(s, t);
}

cudaError_t cudaStreamCreate(cudaStream_t *handle) API(create(handle, cudaStreamDefault, 0))
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *handle, unsigned flags) API(create(handle, flags, 0))
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *handle, unsigned flags, int priority)
    API(create(handle, flags, priority))
cudaError_t cudaStreamDestroy(cudaStream_t handle) API(destroy(handle))
cudaError_t cudaStreamSynchronize(cudaStream_t handle) API(synchronize(handle))
cudaError_t cudaStreamQuery(cudaStream_t handle) API(query(handle))
cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void *data)
    API(host_task_append(handle, (host_task){.function = function, .data = data}))
cudaError_t cudaStreamAddCallback(cudaStream_t handle, cudaStreamCallback_t callback, void *data, unsigned flags)
    API(flags ? cudaErrorInvalidValue
              : host_task_append(handle, (host_task){.callback = callback, .stream = handle, .data = data}))

static cudaError_t device_synchronize(void) {
    TRY(fault_or_success(SOFTGPU_SYNC));
    TRY(capture_refuse_unsafe());
    return wait_context(current_context());
}
cudaError_t cudaDeviceSynchronize(void) API(device_synchronize())

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = LEAST_PRIORITY;
    if (greatest) *greatest = GREATEST_PRIORITY;
    return cudaSuccess;
}

enum stream_fact { FACT_FLAGS, FACT_PRIORITY, FACT_DEVICE, FACT_ID };

static cudaError_t fact(cudaStream_t handle, enum stream_fact which, void *value) {
    stream *s;
    if (!value) return cudaErrorInvalidValue;
    TRY(stream_of(handle, &s));
    switch (which) {
    case FACT_FLAGS: *(unsigned *)value = s->flags; break;
    case FACT_PRIORITY: *(int *)value = s->priority; break;
    case FACT_DEVICE: *(int *)value = s->context->index; break;
    case FACT_ID: *(unsigned long long *)value = s == s->context->legacy ? LEGACY_ID : s->id; break;
    }
    return cudaSuccess;
}
cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned *flags) API(fact(handle, FACT_FLAGS, flags))
cudaError_t cudaStreamGetPriority(cudaStream_t handle, int *priority) API(fact(handle, FACT_PRIORITY, priority))
cudaError_t cudaStreamGetDevice(cudaStream_t handle, int *device) API(fact(handle, FACT_DEVICE, device))
cudaError_t cudaStreamGetId(cudaStream_t handle, unsigned long long *id) API(fact(handle, FACT_ID, id))

static cudaLaunchAttributeValue *attribute(stream *s, cudaLaunchAttributeID id) {
    bool known = id == cudaLaunchAttributeAccessPolicyWindow || id == cudaLaunchAttributeSynchronizationPolicy ||
                 id == cudaLaunchAttributePriority || id == cudaLaunchAttributeMemSyncDomainMap ||
                 id == cudaLaunchAttributeMemSyncDomain;
    return known ? &s->attributes[id] : NULL;
}

/* Attributes are hints to hardware: kept and given back, without effect. */
static cudaError_t exchange_attribute(cudaStream_t handle, cudaLaunchAttributeID id, cudaLaunchAttributeValue *get,
                                      const cudaLaunchAttributeValue *set) {
    stream *s;
    TRY(stream_of(handle, &s));
    cudaLaunchAttributeValue *value = attribute(s, id);
    if (!value || (!get && !set)) return cudaErrorInvalidValue;
    if (id == cudaLaunchAttributePriority) value->priority = set ? set->priority : s->priority;
    else if (set) *value = *set;
    if (id == cudaLaunchAttributePriority && set) s->priority = set->priority;
    if (get) *get = *value;
    return cudaSuccess;
}
cudaError_t cudaStreamGetAttribute(cudaStream_t handle, cudaLaunchAttributeID id, cudaLaunchAttributeValue *value)
    API(exchange_attribute(handle, id, value, NULL))
cudaError_t cudaStreamSetAttribute(cudaStream_t handle, cudaLaunchAttributeID id, const cudaLaunchAttributeValue *value)
    API(exchange_attribute(handle, id, NULL, value))

static cudaError_t copy_attributes(cudaStream_t to, cudaStream_t from) {
    stream *t, *f;
    TRY(stream_of(to, &t));
    TRY(stream_of(from, &f));
    memcpy(t->attributes, f->attributes, sizeof t->attributes);
    return cudaSuccess;
}
cudaError_t cudaStreamCopyAttributes(cudaStream_t to, cudaStream_t from) API(copy_attributes(to, from))
