/* Every memcpy and memset is one of two things: a box copied or a box filled, waited for or not. */
#include "runtime/copy.h"
#include "runtime/stream.h"
#include <stdlib.h>
#include <string.h>

enum { STAGED_BYTES = 65536 }; /* a pageable source up to this size is copied aside at the call */

typedef enum location { PAGEABLE, PINNED, MANAGED, DEVICE } location;

static location location_of(uint64_t address) {
    static const location locations[] = {[SG_MEMORY_DEVICE] = DEVICE,
                                         [SG_MEMORY_HOST] = PINNED,
                                         [SG_MEMORY_REGISTERED] = PINNED,
                                         [SG_MEMORY_MANAGED] = MANAGED,
                                         [SG_MEMORY_MODULE] = DEVICE};
    sg_allocation found;
    return sg_memory_find(address, &found) ? locations[found.kind] : PAGEABLE;
}

/* A box that leaves the allocation it starts in is refused at the call, and reported. */
static cudaError_t check_range(uint64_t address, int64_t pitch, int64_t slice, const int64_t size[3], const char *what) {
    sg_allocation found;
    if (!sg_memory_find(address, &found)) return cudaSuccess;
    int64_t bytes = (size[2] - 1) * slice + (size[1] - 1) * pitch + size[0];
    int64_t left = (int64_t)(found.address + (uint64_t)found.bytes - address);
    if (bytes <= left) return cudaSuccess;
    sg_finding("out of bounds", "%s of %lld bytes at 0x%llx: only %lld are left of the allocation of %lld", what,
               (long long)bytes, (unsigned long long)address, (long long)left, (long long)found.bytes);
    return cudaErrorInvalidValue;
}

static cudaError_t check_direction(const copy_task *copy) {
    location to = location_of(copy->to), from = location_of(copy->from);
    bool to_device = to != PAGEABLE, from_device = from != PAGEABLE;
    bool to_host = to != DEVICE, from_host = from != DEVICE;
    bool fits;
    switch (copy->kind) {
    case cudaMemcpyHostToHost: fits = to_host && from_host; break;
    case cudaMemcpyHostToDevice: fits = to_device && from_host; break;
    case cudaMemcpyDeviceToHost: fits = to_host && from_device; break;
    case cudaMemcpyDeviceToDevice: fits = to_device && from_device; break;
    case cudaMemcpyDefault: fits = true; break;
    default: return cudaErrorInvalidMemcpyDirection;
    }
    return fits ? cudaSuccess : cudaErrorInvalidValue;
}

static enum cudaMemcpyKind actual_kind(const copy_task *copy) {
    bool to = location_of(copy->to) == DEVICE, from = location_of(copy->from) == DEVICE;
    return to && from ? cudaMemcpyDeviceToDevice : to ? cudaMemcpyHostToDevice : from ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
}

static bool nothing(const copy_task *copy) { return !copy->width || !copy->height || !copy->depth; }

static cudaError_t check_copy(copy_task *copy, const char *what) {
    const int64_t size[3] = {copy->width, copy->height, copy->depth};
    TRY(copy->to && copy->from ? cudaSuccess : cudaErrorInvalidValue);
    TRY(check_direction(copy));
    TRY(check_range(copy->to, copy->to_pitch, copy->to_slice, size, what));
    TRY(check_range(copy->from, copy->from_pitch, copy->from_slice, size, what));
    copy->kind = actual_kind(copy);
    return cudaSuccess;
}

static cudaError_t stage(copy_task *copy) {
    copy_task aside = *copy;
    aside.staged = malloc((size_t)(copy->width * copy->height * copy->depth));
    if (!aside.staged) return cudaErrorMemoryAllocation;
    char *to = aside.staged;
    for (int64_t row = 0; row < copy->height * copy->depth; row++) {
        uint64_t from = copy->from + (uint64_t)(row / copy->height * copy->from_slice + row % copy->height * copy->from_pitch);
        memcpy(to, (const void *)(uintptr_t)from, (size_t)copy->width);
        to += copy->width;
    }
    *copy = aside;
    return cudaSuccess;
}

/* Does the host wait for the copy? CUDA's rules ("API synchronization behavior"): an asynchronous call waits where
   pageable memory is the destination or a source too large to stage, or no device takes part. A synchronous one waits
   unless it stays on the device or its pageable source has been staged. */
static bool waits(const copy_task *copy, bool asynchronous) {
    location to = location_of(copy->to), from = location_of(copy->from);
    if (to == DEVICE && from == DEVICE) return false;
    if (copy->staged) return false;
    if (!asynchronous) return true;
    return to == PAGEABLE || from == PAGEABLE || actual_kind(copy) == cudaMemcpyHostToHost;
}

static cudaError_t issue(copy_task copy, cudaStream_t handle, bool asynchronous, const char *what) {
    stream *s;
    TRY(fault_or_success(SOFTGPU_COPY));
    TRY(stream_of(handle, &s));
    if (!asynchronous) TRY(capture_refuse_unsafe());
    if (!asynchronous) TRY(capture_refuse_wait(s));
    if (nothing(&copy)) return cudaSuccess;
    TRY(check_copy(&copy, what));
    bool capturing = s->capture.capture != NULL;
    bool small = copy.width * copy.height * copy.depth <= STAGED_BYTES;
    bool pageable_source = location_of(copy.from) == PAGEABLE && location_of(copy.to) != PAGEABLE;
    if (!capturing && small && pageable_source) TRY(stage(&copy));
    task *t = task_create(TASK_COPY, what);
    if (!t) return free(copy.staged), cudaErrorMemoryAllocation;
    t->copy = copy;
    bool wait = !capturing && waits(&copy, asynchronous);
    TRY(stream_append(s, t));
    return wait ? wait_stream(s) : cudaSuccess;
}

static copy_task box(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                     enum cudaMemcpyKind kind) {
    return (copy_task){.to = (uint64_t)(uintptr_t)to,
                       .from = (uint64_t)(uintptr_t)from,
                       .to_pitch = (int64_t)to_pitch,
                       .from_pitch = (int64_t)from_pitch,
                       .width = (int64_t)width,
                       .height = (int64_t)height,
                       .depth = 1,
                       .kind = kind};
}

static cudaError_t copy_1d(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t handle,
                           bool asynchronous, const char *what) {
    return issue(box(to, bytes, from, bytes, bytes, 1, kind), handle, asynchronous, what);
}

static cudaError_t copy_2d(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                           enum cudaMemcpyKind kind, cudaStream_t handle, bool asynchronous) {
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidPitchValue;
    return issue(box(to, to_pitch, from, from_pitch, width, height, kind), handle, asynchronous,
                 asynchronous ? "cudaMemcpy2DAsync" : "cudaMemcpy2D");
}

static uint64_t start_of(const struct cudaPitchedPtr *p, const struct cudaPos *at) {
    return (uint64_t)(uintptr_t)p->ptr + at->x + at->y * p->pitch + at->z * p->pitch * p->ysize;
}

static cudaError_t box_of(const struct cudaMemcpy3DParms *p, copy_task *copy) {
    if (!p) return cudaErrorInvalidValue;
    if (p->srcArray || p->dstArray) return softgpu_unsupported("copies from and to CUDA arrays");
    bool rows = p->extent.height > 1 || p->extent.depth > 1;
    if (rows && (p->extent.width > p->srcPtr.pitch || p->extent.width > p->dstPtr.pitch)) return cudaErrorInvalidPitchValue;
    *copy = (copy_task){.to = start_of(&p->dstPtr, &p->dstPos),
                        .from = start_of(&p->srcPtr, &p->srcPos),
                        .to_pitch = (int64_t)p->dstPtr.pitch,
                        .to_slice = (int64_t)(p->dstPtr.pitch * p->dstPtr.ysize),
                        .from_pitch = (int64_t)p->srcPtr.pitch,
                        .from_slice = (int64_t)(p->srcPtr.pitch * p->srcPtr.ysize),
                        .width = (int64_t)p->extent.width,
                        .height = (int64_t)p->extent.height,
                        .depth = (int64_t)p->extent.depth,
                        .kind = p->kind};
    return cudaSuccess;
}

cudaError_t copy_of_3d(const struct cudaMemcpy3DParms *p, copy_task *copy) {
    TRY(box_of(p, copy));
    return nothing(copy) ? cudaErrorInvalidValue : check_copy(copy, "graph memcpy node");
}

static cudaError_t copy_3d(const struct cudaMemcpy3DParms *p, cudaStream_t handle, bool asynchronous) {
    copy_task copy;
    TRY(box_of(p, &copy));
    return issue(copy, handle, asynchronous, asynchronous ? "cudaMemcpy3DAsync" : "cudaMemcpy3D");
}

/* A copy between devices is ordered with the work of both. */
static cudaError_t copy_peer(void *to, int to_device, const void *from, int from_device, size_t bytes,
                             cudaStream_t handle, bool asynchronous) {
    context *a = context_at(to_device), *b = context_at(from_device);
    if (!a || !b) return cudaErrorInvalidDevice;
    if (!asynchronous) TRY(capture_refuse_unsafe());
    if (!asynchronous) TRY(wait_context(initialised(a)));
    if (!asynchronous) TRY(wait_context(initialised(b)));
    return copy_1d(to, from, bytes, cudaMemcpyDefault, handle, asynchronous,
                   asynchronous ? "cudaMemcpyPeerAsync" : "cudaMemcpyPeer");
}

static cudaError_t copy_3d_peer(const struct cudaMemcpy3DPeerParms *p, cudaStream_t handle, bool asynchronous) {
    if (!p || !context_at(p->srcDevice) || !context_at(p->dstDevice)) return cudaErrorInvalidDevice;
    struct cudaMemcpy3DParms plain = {p->srcArray, p->srcPos, p->srcPtr, p->dstArray, p->dstPos, p->dstPtr, p->extent,
                                      cudaMemcpyDefault};
    return copy_3d(&plain, handle, asynchronous);
}

static cudaError_t copy_symbol(const void *symbol, size_t offset, void *other, size_t bytes, enum cudaMemcpyKind kind,
                               bool to_symbol, cudaStream_t handle, bool asynchronous) {
    uint64_t address;
    int64_t size;
    stream *s;
    TRY(stream_of(handle, &s));
    TRY(symbol_address(symbol, s->context, &address, &size));
    if (offset > (size_t)size || bytes > (size_t)size - offset) return cudaErrorInvalidValue;
    void *inside = (void *)(uintptr_t)(address + offset);
    const char *what = to_symbol ? "cudaMemcpyToSymbol" : "cudaMemcpyFromSymbol";
    return copy_1d(to_symbol ? inside : other, to_symbol ? other : inside, bytes, kind, handle, asynchronous, what);
}

/* A fill is asynchronous to the host unless it fills pinned host memory. */
static cudaError_t fill(struct cudaPitchedPtr to, int value, struct cudaExtent extent, cudaStream_t handle,
                        bool asynchronous, const char *what) {
    stream *s;
    const int64_t size[3] = {(int64_t)extent.width, (int64_t)extent.height, (int64_t)extent.depth};
    TRY(fault_or_success(SOFTGPU_COPY));
    TRY(stream_of(handle, &s));
    if (!asynchronous) TRY(capture_refuse_unsafe());
    if (!asynchronous) TRY(capture_refuse_wait(s));
    if (!size[0] || !size[1] || !size[2]) return cudaSuccess;
    bool rows = extent.height > 1 || extent.depth > 1;
    if (rows && extent.width > to.pitch) return cudaErrorInvalidValue;
    uint64_t address = (uint64_t)(uintptr_t)to.ptr;
    location where = location_of(address);
    if (where == PAGEABLE) return cudaErrorInvalidValue;
    TRY(check_range(address, (int64_t)to.pitch, (int64_t)(to.pitch * to.ysize), size, what));
    task *t = task_create(TASK_FILL, what);
    if (!t) return cudaErrorMemoryAllocation;
    t->fill = (fill_task){.to = address,
                          .pitch = (int64_t)to.pitch,
                          .slice = (int64_t)(to.pitch * to.ysize),
                          .width = size[0],
                          .height = size[1],
                          .depth = size[2],
                          .element_bytes = 1,
                          .value = (unsigned char)value};
    TRY(stream_append(s, t));
    return where == PINNED && !asynchronous ? wait_stream(s) : cudaSuccess;
}

static cudaError_t fill_2d(void *to, size_t pitch, int value, size_t width, size_t height, cudaStream_t handle,
                           bool asynchronous, const char *what) {
    struct cudaPitchedPtr p = {to, pitch, width, height};
    return fill(p, value, (struct cudaExtent){width, height, 1}, handle, asynchronous, what);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
    API(copy_1d(to, from, bytes, kind, 0, false, "cudaMemcpy"))
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t handle)
    API(copy_1d(to, from, bytes, kind, handle, true, "cudaMemcpyAsync"))
cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                         enum cudaMemcpyKind kind)
    API(copy_2d(to, to_pitch, from, from_pitch, width, height, kind, 0, false))
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t handle)
    API(copy_2d(to, to_pitch, from, from_pitch, width, height, kind, handle, true))
cudaError_t cudaMemcpy3D(const struct cudaMemcpy3DParms *p) API(copy_3d(p, 0, false))
cudaError_t cudaMemcpy3DAsync(const struct cudaMemcpy3DParms *p, cudaStream_t handle) API(copy_3d(p, handle, true))
cudaError_t cudaMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t bytes)
    API(copy_peer(to, to_device, from, from_device, bytes, 0, false))
cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes,
                                cudaStream_t handle) API(copy_peer(to, to_device, from, from_device, bytes, handle, true))
cudaError_t cudaMemcpy3DPeer(const struct cudaMemcpy3DPeerParms *p) API(copy_3d_peer(p, 0, false))
cudaError_t cudaMemcpy3DPeerAsync(const struct cudaMemcpy3DPeerParms *p, cudaStream_t handle)
    API(copy_3d_peer(p, handle, true))
cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset,
                               enum cudaMemcpyKind kind)
    API(copy_symbol(symbol, offset, (void *)from, bytes, kind, true, 0, false))
cudaError_t cudaMemcpyToSymbolAsync(const void *symbol, const void *from, size_t bytes, size_t offset,
                                    enum cudaMemcpyKind kind, cudaStream_t handle)
    API(copy_symbol(symbol, offset, (void *)from, bytes, kind, true, handle, true))
cudaError_t cudaMemcpyFromSymbol(void *to, const void *symbol, size_t bytes, size_t offset, enum cudaMemcpyKind kind)
    API(copy_symbol(symbol, offset, to, bytes, kind, false, 0, false))
cudaError_t cudaMemcpyFromSymbolAsync(void *to, const void *symbol, size_t bytes, size_t offset,
                                      enum cudaMemcpyKind kind, cudaStream_t handle)
    API(copy_symbol(symbol, offset, to, bytes, kind, false, handle, true))
cudaError_t cudaMemset(void *to, int value, size_t bytes)
    API(fill_2d(to, bytes, value, bytes, 1, 0, false, "cudaMemset"))
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t handle)
    API(fill_2d(to, bytes, value, bytes, 1, handle, true, "cudaMemsetAsync"))
cudaError_t cudaMemset2D(void *to, size_t pitch, int value, size_t width, size_t height)
    API(fill_2d(to, pitch, value, width, height, 0, false, "cudaMemset2D"))
cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t height, cudaStream_t handle)
    API(fill_2d(to, pitch, value, width, height, handle, true, "cudaMemset2DAsync"))
cudaError_t cudaMemset3D(struct cudaPitchedPtr to, int value, struct cudaExtent extent)
    API(fill(to, value, extent, 0, false, "cudaMemset3D"))
cudaError_t cudaMemset3DAsync(struct cudaPitchedPtr to, int value, struct cudaExtent extent, cudaStream_t handle)
    API(fill(to, value, extent, handle, true, "cudaMemset3DAsync"))
