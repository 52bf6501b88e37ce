/* Allocation calls: device, pitched, managed, pinned, registered; what a pointer is; how much memory there is. */
#include "runtime/memory.h"
#include "runtime/stream.h"
#include <stdlib.h>

enum { BUCKETS = 4096, PITCH_BYTES = 512 };
static allocation *buckets[BUCKETS];

static allocation **bucket(uint64_t address) { return &buckets[(address >> 8 ^ address >> 20) % BUCKETS]; }

allocation *memory_of(const void *start) {
    uint64_t address = (uint64_t)(uintptr_t)start;
    for (allocation *a = *bucket(address); a; a = a->next)
        if (a->address == address) return a;
    return NULL;
}

static cudaError_t enter(context *c, sg_memory_kind kind, uint64_t address, size_t bytes) {
    allocation *a = calloc(1, sizeof *a);
    if (!a) return cudaErrorMemoryAllocation;
    *a = (allocation){.address = address, .bytes = bytes, .kind = kind, .context = c, .next = *bucket(address)};
    *bucket(address) = a;
    return cudaSuccess;
}

void memory_drop(allocation *a) {
    for (allocation **link = bucket(a->address); *link; link = &(*link)->next)
        if (*link == a) {
            *link = a->next;
            break;
        }
    free(a);
}

void memory_forget(uint64_t start) {
    allocation *a = memory_of((void *)(uintptr_t)start);
    if (!a) return;
    memory_drop(a);
    sg_memory_free(start);
}

void memory_release_all(context *c) {
    for (int i = 0; i < BUCKETS; i++)
        for (allocation *a = buckets[i], *next; a; a = next) {
            next = a->next;
            if (a->context == c) memory_forget(a->address);
        }
    pools_release(c);
}

void memory_leave_pool(const pool *p) {
    for (int i = 0; i < BUCKETS; i++)
        for (allocation *a = buckets[i]; a; a = a->next)
            if (a->pool == p) a->pool = NULL;
}

cudaError_t memory_allocate(context *c, sg_memory_kind kind, size_t bytes, const char *origin, void **pointer) {
    TRY(fault_or_success(SOFTGPU_ALLOC));
    if (bytes > INT64_MAX) return cudaErrorMemoryAllocation;
    uint64_t address = sg_memory_allocate(c->device, kind, (int64_t)bytes, origin);
    if (!address && wait_context(c) == cudaSuccess) address = sg_memory_allocate(c->device, kind, (int64_t)bytes, origin);
    if (!address) return cudaErrorMemoryAllocation;
    *pointer = (void *)(uintptr_t)address;
    return enter(c, kind, address, bytes);
}

static cudaError_t allocate(void **pointer, size_t bytes, sg_memory_kind kind, unsigned flags, const char *origin) {
    if (!pointer) return cudaErrorInvalidValue;
    TRY(capture_refuse_unsafe());
    *pointer = NULL;
    if (bytes == 0) return kind == SG_MEMORY_MANAGED ? cudaErrorInvalidValue : cudaSuccess;
    TRY(memory_allocate(current_context(), kind, bytes, origin, pointer));
    memory_of(*pointer)->flags = flags;
    return cudaSuccess;
}

static cudaError_t allocate_managed(void **pointer, size_t bytes, unsigned flags) {
    if (flags != cudaMemAttachGlobal && flags != cudaMemAttachHost) return cudaErrorInvalidValue;
    return allocate(pointer, bytes, SG_MEMORY_MANAGED, flags, "cudaMallocManaged");
}

static cudaError_t allocate_host(void **pointer, size_t bytes, unsigned flags, const char *origin) {
    if (flags & ~(unsigned)(cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined))
        return cudaErrorInvalidValue;
    return allocate(pointer, bytes, SG_MEMORY_HOST, flags | cudaHostAllocMapped, origin);
}

static cudaError_t allocate_pitched(struct cudaPitchedPtr *p, struct cudaExtent extent, const char *origin) {
    size_t bytes;
    if (!p) return cudaErrorInvalidValue;
    size_t pitch = (extent.width + PITCH_BYTES - 1) / PITCH_BYTES * PITCH_BYTES;
    bool overflow = pitch < extent.width || __builtin_mul_overflow(pitch, extent.height, &bytes) ||
                    __builtin_mul_overflow(bytes, extent.depth, &bytes);
    if (overflow) return cudaErrorMemoryAllocation;
    *p = (struct cudaPitchedPtr){.pitch = pitch, .xsize = extent.width, .ysize = extent.height};
    return allocate(&p->ptr, bytes, SG_MEMORY_DEVICE, 0, origin);
}

static cudaError_t allocate_2d(void **pointer, size_t *pitch, size_t width, size_t height) {
    struct cudaPitchedPtr p;
    if (!pointer || !pitch) return cudaErrorInvalidValue;
    TRY(allocate_pitched(&p, (struct cudaExtent){width, height, 1}, "cudaMallocPitch"));
    *pointer = p.ptr;
    *pitch = p.pitch;
    return cudaSuccess;
}

/* Frees wait for the device, as cudaFree does: what is queued may still use the memory. */
static cudaError_t release(void *pointer, bool host) {
    TRY(capture_refuse_unsafe());
    if (!pointer) return cudaSuccess;
    allocation *a = memory_of(pointer);
    if (!a || (a->kind == SG_MEMORY_HOST) != host || a->kind == SG_MEMORY_REGISTERED) return cudaErrorInvalidValue;
    TRY(wait_context(a->context));
    if (a->in_graph) return cudaSuccess; /* the node keeps the address for the next launch */
    pool_give(a->pool, a->bytes);
    memory_forget(a->address);
    return cudaSuccess;
}

static cudaError_t register_host(void *pointer, size_t bytes, unsigned flags) {
    const unsigned known = cudaHostRegisterPortable | cudaHostRegisterMapped | cudaHostRegisterReadOnly;
    sg_allocation found;
    if (!pointer || !bytes || (flags & ~known)) return cudaErrorInvalidValue;
    TRY(capture_refuse_unsafe());
    TRY(fault_or_success(SOFTGPU_ALLOC));
    if (sg_memory_find((uint64_t)(uintptr_t)pointer, &found)) return cudaErrorHostMemoryAlreadyRegistered;
    if (!sg_memory_register(current_context()->device, pointer, (int64_t)bytes)) return cudaErrorInvalidValue;
    TRY(enter(current_context(), SG_MEMORY_REGISTERED, (uint64_t)(uintptr_t)pointer, bytes));
    memory_of(pointer)->flags = flags | cudaHostAllocMapped;
    return cudaSuccess;
}

static cudaError_t unregister_host(void *pointer) {
    TRY(capture_refuse_unsafe());
    if (!pointer) return cudaErrorInvalidValue;
    allocation *a = memory_of(pointer);
    if (!a || a->kind != SG_MEMORY_REGISTERED) return cudaErrorHostMemoryNotRegistered;
    TRY(wait_context(a->context));
    memory_forget(a->address);
    return cudaSuccess;
}

static bool on_host(sg_memory_kind kind) { return kind == SG_MEMORY_HOST || kind == SG_MEMORY_REGISTERED; }

static cudaError_t device_pointer(void **mapped, void *pointer, unsigned flags) {
    sg_allocation found;
    if (!mapped || flags) return cudaErrorInvalidValue;
    if (!sg_memory_find((uint64_t)(uintptr_t)pointer, &found) || !on_host(found.kind)) return cudaErrorInvalidValue;
    *mapped = pointer;
    return cudaSuccess;
}

static cudaError_t host_flags(unsigned *flags, void *pointer) {
    sg_allocation found;
    if (!flags) return cudaErrorInvalidValue;
    if (!sg_memory_find((uint64_t)(uintptr_t)pointer, &found) || !on_host(found.kind)) return cudaErrorInvalidValue;
    allocation *a = memory_of((void *)(uintptr_t)found.address);
    *flags = a ? a->flags : 0;
    return cudaSuccess;
}

static cudaError_t pointer_attributes(struct cudaPointerAttributes *attributes, const void *pointer) {
    sg_allocation found;
    if (!attributes) return cudaErrorInvalidValue;
    *attributes = (struct cudaPointerAttributes){.type = cudaMemoryTypeUnregistered,
                                                 .device = cudaInvalidDeviceId,
                                                 .hostPointer = (void *)pointer};
    if (!sg_memory_find((uint64_t)(uintptr_t)pointer, &found)) return cudaSuccess;
    attributes->device = found.device;
    attributes->devicePointer = (void *)pointer;
    switch (found.kind) {
    case SG_MEMORY_DEVICE:
    case SG_MEMORY_MODULE:
        attributes->type = cudaMemoryTypeDevice;
        attributes->hostPointer = NULL;
        break;
    case SG_MEMORY_HOST:
    case SG_MEMORY_REGISTERED: attributes->type = cudaMemoryTypeHost; break;
    case SG_MEMORY_MANAGED: attributes->type = cudaMemoryTypeManaged; break;
    }
    return cudaSuccess;
}

static cudaError_t memory_info(size_t *free_bytes, size_t *total) {
    int64_t left, all;
    if (!free_bytes || !total) return cudaErrorInvalidValue;
    sg_memory_usage(current_context()->device, &left, &all);
    *free_bytes = (size_t)left;
    *total = (size_t)all;
    return cudaSuccess;
}

/* Placement hints for managed memory: checked, ordered in their stream, without effect. */
static cudaError_t hint(const void *pointer, size_t bytes, struct cudaMemLocation where, cudaStream_t handle,
                        const char *what) {
    stream *s;
    sg_allocation found;
    if (!bytes || !sg_memory_find((uint64_t)(uintptr_t)pointer, &found) || found.kind != SG_MEMORY_MANAGED)
        return cudaErrorInvalidValue;
    if ((uint64_t)(uintptr_t)pointer + bytes > found.address + (uint64_t)found.bytes) return cudaErrorInvalidValue;
    if (where.type == cudaMemLocationTypeDevice && !context_at(where.id)) return cudaErrorInvalidDevice;
    if (!what) return cudaSuccess;
    TRY(stream_of(handle, &s));
    return stream_append(s, task_create(TASK_EMPTY, what));
}

static cudaError_t attach(cudaStream_t handle, void *pointer, unsigned flags) {
    sg_allocation found;
    stream *s;
    if (flags != cudaMemAttachGlobal && flags != cudaMemAttachHost && flags != cudaMemAttachSingle)
        return cudaErrorInvalidValue;
    if (!sg_memory_find((uint64_t)(uintptr_t)pointer, &found) || found.kind != SG_MEMORY_MANAGED)
        return cudaErrorInvalidValue;
    TRY(stream_of(handle, &s));
    return stream_append(s, task_create(TASK_EMPTY, "cudaStreamAttachMemAsync"));
}

cudaError_t cudaMalloc(void **pointer, size_t bytes) API(allocate(pointer, bytes, SG_MEMORY_DEVICE, 0, "cudaMalloc"))
cudaError_t cudaMallocManaged(void **pointer, size_t bytes, unsigned flags) API(allocate_managed(pointer, bytes, flags))
cudaError_t cudaMallocHost(void **pointer, size_t bytes) API(allocate_host(pointer, bytes, 0, "cudaMallocHost"))
cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned flags)
    API(allocate_host(pointer, bytes, flags, "cudaHostAlloc"))
cudaError_t cudaMallocPitch(void **pointer, size_t *pitch, size_t width, size_t height)
    API(allocate_2d(pointer, pitch, width, height))
cudaError_t cudaMalloc3D(struct cudaPitchedPtr *p, struct cudaExtent extent)
    API(allocate_pitched(p, extent, "cudaMalloc3D"))
cudaError_t cudaFree(void *pointer) API(release(pointer, false))
cudaError_t cudaFreeHost(void *pointer) API(release(pointer, true))
cudaError_t cudaHostRegister(void *pointer, size_t bytes, unsigned flags) API(register_host(pointer, bytes, flags))
cudaError_t cudaHostUnregister(void *pointer) API(unregister_host(pointer))
cudaError_t cudaHostGetDevicePointer(void **mapped, void *pointer, unsigned flags)
    API(device_pointer(mapped, pointer, flags))
cudaError_t cudaHostGetFlags(unsigned *flags, void *pointer) API(host_flags(flags, pointer))
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer)
    API(pointer_attributes(attributes, pointer))
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) API(memory_info(free_bytes, total))
cudaError_t cudaMemPrefetchAsync(const void *pointer, size_t bytes, struct cudaMemLocation where, unsigned flags,
                                 cudaStream_t handle)
    API(flags ? cudaErrorInvalidValue : hint(pointer, bytes, where, handle, "cudaMemPrefetchAsync"))
cudaError_t cudaMemAdvise(const void *pointer, size_t bytes, enum cudaMemoryAdvise advice, struct cudaMemLocation where)
    API(((void)advice, hint(pointer, bytes, where, NULL, NULL)))
cudaError_t cudaStreamAttachMemAsync(cudaStream_t handle, void *pointer, size_t bytes, unsigned flags)
    API(((void)bytes, attach(handle, pointer, flags)))
