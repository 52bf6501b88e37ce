/* Stream-ordered allocation. An allocation has its memory at once; a free runs in stream order, so that work which
   still uses the memory in another stream is seen to use it after. Pools count, and keep nothing back. */
#include "runtime/graph.h"
#include "runtime/memory.h"
#include "runtime/stream.h"
#include <stdlib.h>

enum { POOL_MAGIC = 0x706f6f6c, REUSE_FLAGS = 3 };

struct CUmemPoolHandle_st {
    uint32_t magic;
    pool *next;
    context *context;
    uint64_t max_bytes; /* 0: the device's memory */
    uint64_t threshold, used, used_high;
    int reuse[REUSE_FLAGS];
};

static pool *pools;

pool *pool_create(context *c, uint64_t max_bytes) {
    pool *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    *p = (pool){.magic = POOL_MAGIC, .next = pools, .context = c, .max_bytes = max_bytes, .reuse = {1, 1, 1}};
    pools = p;
    return p;
}

static cudaError_t pool_of(cudaMemPool_t handle) {
    for (pool *p = pools; p; p = p->next)
        if (p == handle) return cudaSuccess;
    return cudaErrorInvalidValue;
}

static void destroy(pool *p) {
    for (pool **link = &pools; *link; link = &(*link)->next)
        if (*link == p) {
            *link = p->next;
            break;
        }
    free(p);
}

void pools_release(context *c) {
    for (pool *p = pools, *next; p; p = next) {
        next = p->next;
        if (p->context == c) destroy(p);
    }
    c->default_pool = c->current_pool = NULL;
}

static void pool_take(pool *p, allocation *a) {
    a->pool = p;
    p->used += a->bytes;
    if (p->used > p->used_high) p->used_high = p->used;
}

void pool_give(pool *p, size_t bytes) {
    if (p && pool_of(p) == cudaSuccess) p->used -= bytes;
}

void pool_returned(pool *p, int64_t bytes) {
    pthread_mutex_lock(&runtime_lock);
    pool_give(p, (size_t)bytes);
    pthread_mutex_unlock(&runtime_lock);
}

static cudaError_t allocate_in_graph(stream *s, size_t bytes, void **pointer) {
    task *t;
    TRY(task_of_alloc(s->context, bytes, &t));
    *pointer = (void *)(uintptr_t)t->memory.address;
    return stream_append(s, t);
}

static cudaError_t allocate(void **pointer, size_t bytes, pool *p, cudaStream_t handle) {
    stream *s;
    if (!pointer) return cudaErrorInvalidValue;
    TRY(stream_of(handle, &s));
    *pointer = NULL;
    if (bytes == 0) return cudaSuccess;
    if (s->capture.capture) return allocate_in_graph(s, bytes, pointer);
    if (!p) p = s->context->current_pool;
    TRY(pool_of(p));
    if (p->max_bytes && p->used + bytes > p->max_bytes) {
        TRY(wait_context(s->context));
        if (p->used + bytes > p->max_bytes) return cudaErrorMemoryAllocation;
    }
    TRY(memory_allocate(p->context, SG_MEMORY_DEVICE, bytes, "cudaMallocAsync", pointer));
    pool_take(p, memory_of(*pointer));
    return queue_append(s, task_create(TASK_EMPTY, "cudaMallocAsync"), NULL, 0, NULL);
}

static cudaError_t free_async(void *pointer, cudaStream_t handle) {
    stream *s;
    task *t;
    TRY(stream_of(handle, &s));
    if (!pointer) return cudaErrorInvalidValue;
    allocation *a = memory_of(pointer);
    if (!a || (a->kind != SG_MEMORY_DEVICE && a->kind != SG_MEMORY_MANAGED)) return cudaErrorInvalidValue;
    if (s->capture.capture) {
        TRY(task_of_free(a->address, &t));
        return stream_append(s, t);
    }
    if (a->in_graph) return queue_append(s, task_create(TASK_EMPTY, "cudaFreeAsync"), NULL, 0, NULL);
    if (!(t = task_create(TASK_FREE, "cudaFreeAsync"))) return cudaErrorMemoryAllocation;
    t->memory.address = a->address;
    t->memory.bytes = (int64_t)a->bytes;
    t->memory.pool = a->pool;
    memory_drop(a);
    return stream_append(s, t);
}

static cudaError_t create(cudaMemPool_t *made, const struct cudaMemPoolProps *properties) {
    if (!made || !properties) return cudaErrorInvalidValue;
    if (properties->location.type != cudaMemLocationTypeDevice || properties->allocType != cudaMemAllocationTypePinned)
        return softgpu_unsupported("cudaMemPoolCreate for memory other than a device's");
    context *c = context_at(properties->location.id);
    if (!c || properties->handleTypes != cudaMemHandleTypeNone) return cudaErrorInvalidValue;
    return (*made = pool_create(initialised(c), properties->maxSize)) ? cudaSuccess : cudaErrorMemoryAllocation;
}

static cudaError_t destroy_pool(cudaMemPool_t p) {
    TRY(pool_of(p));
    if (p == p->context->default_pool) return cudaErrorInvalidValue;
    if (p == p->context->current_pool) p->context->current_pool = p->context->default_pool;
    memory_leave_pool(p);
    destroy(p);
    return cudaSuccess;
}

static int *reuse_flag(pool *p, enum cudaMemPoolAttr attribute) {
    int index = (int)attribute - (int)cudaMemPoolReuseFollowEventDependencies;
    return index >= 0 && index < REUSE_FLAGS ? &p->reuse[index] : NULL;
}

static cudaError_t get_attribute(cudaMemPool_t p, enum cudaMemPoolAttr attribute, void *value) {
    TRY(pool_of(p));
    if (!value) return cudaErrorInvalidValue;
    switch (attribute) {
    case cudaMemPoolAttrReleaseThreshold: *(uint64_t *)value = p->threshold; return cudaSuccess;
    case cudaMemPoolAttrReservedMemCurrent:
    case cudaMemPoolAttrUsedMemCurrent: *(uint64_t *)value = p->used; return cudaSuccess;
    case cudaMemPoolAttrReservedMemHigh:
    case cudaMemPoolAttrUsedMemHigh: *(uint64_t *)value = p->used_high; return cudaSuccess;
    default: break;
    }
    if (!reuse_flag(p, attribute)) return cudaErrorInvalidValue;
    *(int *)value = *reuse_flag(p, attribute);
    return cudaSuccess;
}

static cudaError_t set_attribute(cudaMemPool_t p, enum cudaMemPoolAttr attribute, const void *value) {
    TRY(pool_of(p));
    if (!value) return cudaErrorInvalidValue;
    bool high = attribute == cudaMemPoolAttrReservedMemHigh || attribute == cudaMemPoolAttrUsedMemHigh;
    if (attribute == cudaMemPoolAttrReleaseThreshold) p->threshold = *(const uint64_t *)value;
    else if (high && *(const uint64_t *)value == 0) p->used_high = p->used;
    else if (reuse_flag(p, attribute)) *reuse_flag(p, attribute) = *(const int *)value;
    else return cudaErrorInvalidValue;
    return cudaSuccess;
}

static cudaError_t device_pool(cudaMemPool_t *found, int device, bool current) {
    context *c = context_at(device);
    if (!found) return cudaErrorInvalidValue;
    if (!c) return cudaErrorInvalidDevice;
    *found = current ? initialised(c)->current_pool : initialised(c)->default_pool;
    return cudaSuccess;
}

static cudaError_t set_device_pool(int device, cudaMemPool_t p) {
    context *c = context_at(device);
    if (!c) return cudaErrorInvalidDevice;
    TRY(pool_of(p));
    if (p->context != c) return cudaErrorInvalidValue;
    c->current_pool = p;
    return cudaSuccess;
}

static cudaError_t access(cudaMemPool_t p, enum cudaMemAccessFlags *flags, const struct cudaMemLocation *where) {
    TRY(pool_of(p));
    if (!where || where->type != cudaMemLocationTypeDevice || !context_at(where->id)) return cudaErrorInvalidValue;
    if (flags) *flags = cudaMemAccessFlagsProtReadWrite; /* every device reaches all memory */
    return cudaSuccess;
}

static cudaError_t set_access(cudaMemPool_t p, const struct cudaMemAccessDesc *list, size_t count) {
    if (count && !list) return cudaErrorInvalidValue;
    for (size_t i = 0; i < count; i++) TRY(access(p, NULL, &list[i].location));
    return pool_of(p);
}

cudaError_t cudaMallocAsync(void **pointer, size_t bytes, cudaStream_t handle)
    API(allocate(pointer, bytes, NULL, handle))
cudaError_t cudaMallocFromPoolAsync(void **pointer, size_t bytes, cudaMemPool_t p, cudaStream_t handle)
    API(p ? allocate(pointer, bytes, p, handle) : cudaErrorInvalidValue)
cudaError_t cudaFreeAsync(void *pointer, cudaStream_t handle) API(free_async(pointer, handle))
cudaError_t cudaMemPoolCreate(cudaMemPool_t *p, const struct cudaMemPoolProps *properties) API(create(p, properties))
cudaError_t cudaMemPoolDestroy(cudaMemPool_t p) API(destroy_pool(p))
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t p, size_t keep) API(((void)keep, pool_of(p)))
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t p, enum cudaMemPoolAttr attribute, void *value)
    API(get_attribute(p, attribute, value))
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t p, enum cudaMemPoolAttr attribute, void *value)
    API(set_attribute(p, attribute, value))
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t p, const struct cudaMemAccessDesc *list, size_t count)
    API(set_access(p, list, count))
cudaError_t cudaMemPoolGetAccess(enum cudaMemAccessFlags *flags, cudaMemPool_t p, struct cudaMemLocation *where)
    API(access(p, flags, where))
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *p, int device) API(device_pool(p, device, false))
cudaError_t cudaDeviceGetMemPool(cudaMemPool_t *p, int device) API(device_pool(p, device, true))
cudaError_t cudaDeviceSetMemPool(int device, cudaMemPool_t p) API(set_device_pool(device, p))
