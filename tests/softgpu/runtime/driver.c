/* The functions of the driver that programs fetch through the runtime: primary contexts and the thread's stack of them, tensor maps. */
#include "runtime/driver.h"
#include "runtime/state.h"
#include <string.h>

/* Every driver call: under the lock, and its result is a number that the runtime's errors share. */
static CUresult leave(cudaError_t status) {
    runtime_leave();
    return (CUresult)status;
}

static CUresult retain(CUcontext *primary, CUdevice device) {
    runtime_enter();
    context *c = context_at(device);
    if (!primary) return leave(cudaErrorInvalidValue);
    if (!c) return leave(cudaErrorInvalidDevice);
    if (c->busy) return leave(cudaErrorDevicesUnavailable);
    cudaError_t fault = fault_or_success(SOFTGPU_CONTEXT);
    if (fault != cudaSuccess) return leave(fault);
    *primary = (CUcontext)initialised(c);
    return leave(cudaSuccess);
}

static CUresult release(CUdevice device) {
    runtime_enter();
    return leave(context_at(device) ? cudaSuccess : cudaErrorInvalidDevice);
}

static CUresult state(CUdevice device, unsigned *flags, int *active) {
    runtime_enter();
    const context *c = context_at(device);
    if (!c) return leave(cudaErrorInvalidDevice);
    *flags = c->flags, *active = c->device != NULL;
    return leave(cudaSuccess);
}

static CUresult push(CUcontext pushed) {
    runtime_enter();
    thread_state *t = this_thread();
    if (!pushed || t->pushes == MAX_PUSHES) return leave(cudaErrorDeviceUninitialized);
    cudaError_t fault = fault_or_success(SOFTGPU_CONTEXT);
    if (fault != cudaSuccess) return leave(fault);
    t->pushed[t->pushes++] = (context *)pushed;
    return leave(cudaSuccess);
}

static CUresult pop(CUcontext *popped) {
    runtime_enter();
    thread_state *t = this_thread();
    if (t->pushes == 0) return leave(cudaErrorDeviceUninitialized);
    t->pushes--;
    if (popped) *popped = (CUcontext)t->pushed[t->pushes];
    return leave(cudaSuccess);
}

static const struct {
    const char *name;
    uintptr_t function;
} entries[] = {
    {"cuTensorMapEncodeTiled", (uintptr_t)driver_encode_tiled},
    {"cuDevicePrimaryCtxRetain", (uintptr_t)retain},
    {"cuDevicePrimaryCtxRelease", (uintptr_t)release},
    {"cuDevicePrimaryCtxGetState", (uintptr_t)state},
    {"cuCtxPushCurrent", (uintptr_t)push},
    {"cuCtxPopCurrent", (uintptr_t)pop},
};

static cudaError_t find_entry(const char *symbol, void **function, enum cudaDriverEntryPointQueryResult *result) {
    if (!symbol || !function) return cudaErrorInvalidValue;
    if (device_count() == 0) return cudaErrorNoDevice;
    if (device_lost() != cudaSuccess) return device_lost();
    *function = NULL;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        if (!strcmp(symbol, entries[i].name)) *function = (void *)entries[i].function;
    if (result) *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return *function ? cudaSuccess : softgpu_unsupported("cudaGetDriverEntryPoint of a function not in driver.c");
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *result) {
    (void)version, (void)flags;
    API_ANY(find_entry(symbol, function, result))
}
cudaError_t cudaGetDriverEntryPoint(const char *symbol, void **function, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *result) {
    (void)flags;
    API_ANY(find_entry(symbol, function, result))
}
cudaError_t cudaGetDriverEntryPointByVersion_ptsz(const char *symbol, void **function, unsigned version,
                                                  unsigned long long flags,
                                                  enum cudaDriverEntryPointQueryResult *result);
cudaError_t cudaGetDriverEntryPointByVersion_ptsz(const char *symbol, void **function, unsigned version,
                                                  unsigned long long flags,
                                                  enum cudaDriverEntryPointQueryResult *result) {
    return cudaGetDriverEntryPointByVersion(symbol, function, version, flags, result);
}
cudaError_t cudaGetDriverEntryPoint_ptsz(const char *symbol, void **function, unsigned long long flags,
                                         enum cudaDriverEntryPointQueryResult *result);
cudaError_t cudaGetDriverEntryPoint_ptsz(const char *symbol, void **function, unsigned long long flags,
                                         enum cudaDriverEntryPointQueryResult *result) {
    (void)flags;
    API_ANY(find_entry(symbol, function, result))
}
