/* The virtual devices as the API describes them: selection, properties, attributes, limits, peers, versions. */
#include "runtime/memory.h"
#include "runtime/stream.h"
#include <cuda_profiler_api.h>
#include <stdio.h>
#include <string.h>

enum { VERSION = 13000, KIB = 1024, MIB = 1024 * 1024, TEXTURE_ALIGNMENT = 512, TEXTURE_PITCH = 32 };

static cudaError_t properties(struct cudaDeviceProp *p, int device) {
    const context *c = context_at(device);
    if (!p) return cudaErrorInvalidValue;
    if (!c) return cudaErrorInvalidDevice;
    const sg_properties *q = &c->properties;
    *p = (struct cudaDeviceProp){
        .totalGlobalMem = (size_t)q->memory_bytes,
        .sharedMemPerBlock = (size_t)q->shared_per_block_bytes,
        .regsPerBlock = q->registers_per_sm,
        .warpSize = 32,
        .memPitch = 2147483647,
        .maxThreadsPerBlock = 1024,
        .maxThreadsDim = {1024, 1024, 64},
        .maxGridSize = {2147483647, 65535, 65535},
        .totalConstMem = 64 * KIB,
        .major = q->compute_major,
        .minor = q->compute_minor,
        .textureAlignment = TEXTURE_ALIGNMENT,
        .texturePitchAlignment = TEXTURE_PITCH,
        .multiProcessorCount = q->multiprocessors,
        .canMapHostMemory = 1,
        .concurrentKernels = 1,
        .ECCEnabled = 1,
        .pciBusID = device + 1,
        .asyncEngineCount = 3,
        .unifiedAddressing = 1,
        .memoryBusWidth = 5120,
        .l2CacheSize = (int)q->l2_bytes,
        .persistingL2CacheMaxSize = (int)(q->l2_bytes / 4 * 3),
        .maxThreadsPerMultiProcessor = q->threads_per_sm,
        .streamPrioritiesSupported = 1,
        .globalL1CacheSupported = 1,
        .localL1CacheSupported = 1,
        .sharedMemPerMultiprocessor = (size_t)q->shared_per_sm_bytes,
        .regsPerMultiprocessor = q->registers_per_sm,
        .managedMemory = 1,
        .multiGpuBoardGroupID = device,
        .concurrentManagedAccess = 1,
        .computePreemptionSupported = 1,
        .canUseHostPointerForRegisteredMem = 1,
        .cooperativeLaunch = 1,
        .sharedMemPerBlockOptin = (size_t)q->shared_optin_bytes,
        .maxBlocksPerMultiProcessor = q->blocks_per_sm,
        .accessPolicyMaxWindowSize = 128 * MIB,
        .reservedSharedMemPerBlock = KIB,
        .hostRegisterSupported = 1,
        .memoryPoolsSupported = 1,
        .clusterLaunch = q->compute_major >= 9,
        .unifiedFunctionPointers = 1,
        .deviceNumaId = -1,
        .hostNumaId = -1,
    };
    snprintf(p->name, sizeof p->name, "%s (softgpu)", q->name);
    memcpy(p->uuid.bytes, "softgpu device ", sizeof p->uuid.bytes);
    p->uuid.bytes[sizeof p->uuid.bytes - 1] = (char)device;
    return cudaSuccess;
}

/* Attributes that are fields of cudaDeviceProp, by offset; the rest by value. */
typedef struct attribute_row {
    enum cudaDeviceAttr attribute;
    size_t offset;
    bool wide; /* the field is a size_t */
} attribute_row;
#define INT(attribute, field)  {attribute, offsetof(struct cudaDeviceProp, field), false}
#define SIZE(attribute, field) {attribute, offsetof(struct cudaDeviceProp, field), true}

static const attribute_row rows[] = {
    INT(cudaDevAttrMaxThreadsPerBlock, maxThreadsPerBlock),
    INT(cudaDevAttrMaxBlockDimX, maxThreadsDim[0]),
    INT(cudaDevAttrMaxBlockDimY, maxThreadsDim[1]),
    INT(cudaDevAttrMaxBlockDimZ, maxThreadsDim[2]),
    INT(cudaDevAttrMaxGridDimX, maxGridSize[0]),
    INT(cudaDevAttrMaxGridDimY, maxGridSize[1]),
    INT(cudaDevAttrMaxGridDimZ, maxGridSize[2]),
    SIZE(cudaDevAttrMaxSharedMemoryPerBlock, sharedMemPerBlock),
    SIZE(cudaDevAttrTotalConstantMemory, totalConstMem),
    INT(cudaDevAttrWarpSize, warpSize),
    SIZE(cudaDevAttrMaxPitch, memPitch),
    INT(cudaDevAttrMaxRegistersPerBlock, regsPerBlock),
    SIZE(cudaDevAttrTextureAlignment, textureAlignment),
    INT(cudaDevAttrMultiProcessorCount, multiProcessorCount),
    INT(cudaDevAttrIntegrated, integrated),
    INT(cudaDevAttrCanMapHostMemory, canMapHostMemory),
    SIZE(cudaDevAttrSurfaceAlignment, surfaceAlignment),
    INT(cudaDevAttrConcurrentKernels, concurrentKernels),
    INT(cudaDevAttrEccEnabled, ECCEnabled),
    INT(cudaDevAttrPciBusId, pciBusID),
    INT(cudaDevAttrPciDeviceId, pciDeviceID),
    INT(cudaDevAttrTccDriver, tccDriver),
    INT(cudaDevAttrGlobalMemoryBusWidth, memoryBusWidth),
    INT(cudaDevAttrL2CacheSize, l2CacheSize),
    INT(cudaDevAttrMaxThreadsPerMultiProcessor, maxThreadsPerMultiProcessor),
    INT(cudaDevAttrAsyncEngineCount, asyncEngineCount),
    INT(cudaDevAttrUnifiedAddressing, unifiedAddressing),
    INT(cudaDevAttrPciDomainId, pciDomainID),
    SIZE(cudaDevAttrTexturePitchAlignment, texturePitchAlignment),
    INT(cudaDevAttrComputeCapabilityMajor, major),
    INT(cudaDevAttrComputeCapabilityMinor, minor),
    INT(cudaDevAttrStreamPrioritiesSupported, streamPrioritiesSupported),
    INT(cudaDevAttrGlobalL1CacheSupported, globalL1CacheSupported),
    INT(cudaDevAttrLocalL1CacheSupported, localL1CacheSupported),
    SIZE(cudaDevAttrMaxSharedMemoryPerMultiprocessor, sharedMemPerMultiprocessor),
    INT(cudaDevAttrMaxRegistersPerMultiprocessor, regsPerMultiprocessor),
    INT(cudaDevAttrManagedMemory, managedMemory),
    INT(cudaDevAttrIsMultiGpuBoard, isMultiGpuBoard),
    INT(cudaDevAttrMultiGpuBoardGroupID, multiGpuBoardGroupID),
    INT(cudaDevAttrHostNativeAtomicSupported, hostNativeAtomicSupported),
    INT(cudaDevAttrPageableMemoryAccess, pageableMemoryAccess),
    INT(cudaDevAttrConcurrentManagedAccess, concurrentManagedAccess),
    INT(cudaDevAttrComputePreemptionSupported, computePreemptionSupported),
    INT(cudaDevAttrCanUseHostPointerForRegisteredMem, canUseHostPointerForRegisteredMem),
    INT(cudaDevAttrCooperativeLaunch, cooperativeLaunch),
    SIZE(cudaDevAttrMaxSharedMemoryPerBlockOptin, sharedMemPerBlockOptin),
    INT(cudaDevAttrHostRegisterSupported, hostRegisterSupported),
    INT(cudaDevAttrPageableMemoryAccessUsesHostPageTables, pageableMemoryAccessUsesHostPageTables),
    INT(cudaDevAttrDirectManagedMemAccessFromHost, directManagedMemAccessFromHost),
    INT(cudaDevAttrMaxBlocksPerMultiprocessor, maxBlocksPerMultiProcessor),
    INT(cudaDevAttrMaxPersistingL2CacheSize, persistingL2CacheMaxSize),
    INT(cudaDevAttrMaxAccessPolicyWindowSize, accessPolicyMaxWindowSize),
    SIZE(cudaDevAttrReservedSharedMemoryPerBlock, reservedSharedMemPerBlock),
    INT(cudaDevAttrMemoryPoolsSupported, memoryPoolsSupported),
    INT(cudaDevAttrMemoryPoolSupportedHandleTypes, memoryPoolSupportedHandleTypes),
    INT(cudaDevAttrClusterLaunch, clusterLaunch),
    INT(cudaDevAttrNumaConfig, deviceNumaConfig),
    INT(cudaDevAttrNumaId, deviceNumaId),
    INT(cudaDevAttrHostNumaId, hostNumaId),
};

static int plain_attribute(enum cudaDeviceAttr attribute) {
    switch (attribute) {
    case cudaDevAttrClockRate: return 1410000;       /* kHz, the A100's boost clock */
    case cudaDevAttrMemoryClockRate: return 1215000; /* kHz */
    case cudaDevAttrGpuOverlap: return 1;
    case cudaDevAttrSingleToDoublePrecisionPerfRatio: return 2;
    case cudaDevAttrMemSyncDomainCount: return 1;
    default: return 0; /* textures, interoperation and other features that the device lacks */
    }
}

static cudaError_t attribute(int *value, enum cudaDeviceAttr which, int device) {
    struct cudaDeviceProp p;
    if (!value || which < cudaDevAttrMaxThreadsPerBlock || which >= cudaDevAttrMax) return cudaErrorInvalidValue;
    TRY(properties(&p, device));
    *value = plain_attribute(which);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *field = (const char *)&p + rows[i].offset;
        if (rows[i].attribute != which) continue;
        if (rows[i].wide) *value = (int)*(const size_t *)field;
        else memcpy(value, field, sizeof *value);
    }
    return cudaSuccess;
}

static cudaError_t count_devices(int *count) {
    if (!count) return cudaErrorInvalidValue;
    *count = device_count();
    return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

static cudaError_t set_device(int device) {
    if (device_count() == 0) return cudaErrorNoDevice;
    if (!context_at(device)) return cudaErrorInvalidDevice;
    TRY(device_lost());
    if (context_at(device)->busy) return cudaErrorDevicesUnavailable;
    thread_state *t = this_thread();
    t->device = device;
    if (t->pushes) t->pushed[t->pushes - 1] = context_at(device);
    current_context();
    return cudaSuccess;
}

static cudaError_t get_device(int *device) {
    if (!device) return cudaErrorInvalidValue;
    if (device_count() == 0) return cudaErrorNoDevice;
    *device = current_device();
    return cudaSuccess;
}

/* The first device with at least the wanted capability and memory, else the first. */
static cudaError_t choose(int *device, const struct cudaDeviceProp *wanted) {
    if (!device || !wanted) return cudaErrorInvalidValue;
    *device = 0;
    for (int i = device_count() - 1; i >= 0; i--) {
        const sg_properties *q = &context_at(i)->properties;
        bool capable = q->compute_major * 10 + q->compute_minor >= wanted->major * 10 + wanted->minor;
        if (capable && q->memory_bytes >= (int64_t)wanted->totalGlobalMem) *device = i;
    }
    return cudaSuccess;
}

static cudaError_t valid_devices(const int *devices, int count) {
    if (count < 0 || (count && !devices)) return cudaErrorInvalidValue;
    for (int i = 0; i < count; i++)
        if (!context_at(devices[i])) return cudaErrorInvalidDevice;
    return cudaSuccess;
}

static cudaError_t init_device(int device) {
    context *c = context_at(device);
    if (!c) return cudaErrorInvalidDevice;
    initialised(c);
    return cudaSuccess;
}

static cudaError_t flags(unsigned *get, const unsigned *set) {
    const unsigned known = cudaDeviceScheduleMask | cudaDeviceMapHost | cudaDeviceLmemResizeToMax | cudaDeviceSyncMemops;
    if (set && (*set & ~known)) return cudaErrorInvalidValue;
    if (set) current_context()->flags = *set;
    else if (!get) return cudaErrorInvalidValue;
    if (get) *get = current_context()->flags | cudaDeviceMapHost;
    return cudaSuccess;
}

static const size_t usual_limits[] = {[cudaLimitStackSize] = 1024,
                                      [cudaLimitPrintfFifoSize] = 1 * MIB,
                                      [cudaLimitMallocHeapSize] = 8 * MIB,
                                      [cudaLimitDevRuntimeSyncDepth] = 2,
                                      [cudaLimitDevRuntimePendingLaunchCount] = 2048,
                                      [cudaLimitMaxL2FetchGranularity] = 64,
                                      [cudaLimitPersistingL2CacheSize] = 0};

/* A stored limit is one more than its value: zero means the usual one. */
static cudaError_t limit(enum cudaLimit which, size_t *get, const size_t *set) {
    if (which < 0 || (size_t)which >= sizeof usual_limits / sizeof usual_limits[0]) return cudaErrorUnsupportedLimit;
    size_t *stored = &current_context()->limits[which];
    if (set) *stored = *set + 1;
    else if (!get) return cudaErrorInvalidValue;
    if (get) *get = *stored ? *stored - 1 : usual_limits[which];
    return cudaSuccess;
}

static cudaError_t bus_id(char *id, int bytes, int device) {
    if (!id || bytes < 13) return cudaErrorInvalidValue;
    if (!context_at(device)) return cudaErrorInvalidDevice;
    snprintf(id, (size_t)bytes, "0000:%02X:00.0", device + 1);
    return cudaSuccess;
}

static cudaError_t device_of_bus_id(int *device, const char *id) {
    unsigned domain = 0, bus, slot;
    if (!device || !id) return cudaErrorInvalidValue;
    if (sscanf(id, "%x:%x:%x", &domain, &bus, &slot) != 3 && sscanf(id, "%x:%x", &bus, &slot) != 2)
        return cudaErrorInvalidValue;
    if (!context_at((int)bus - 1)) return cudaErrorInvalidDevice;
    *device = (int)bus - 1;
    return cudaSuccess;
}

static cudaError_t can_access(int *can, int device, int peer) {
    if (!can) return cudaErrorInvalidValue;
    if (!context_at(device) || !context_at(peer)) return cudaErrorInvalidDevice;
    *can = device != peer;
    return cudaSuccess;
}

static cudaError_t set_access(int peer, unsigned access_flags, bool enable) {
    context *c = current_context();
    if (!context_at(peer) || peer == c->index) return cudaErrorInvalidDevice;
    if (access_flags) return cudaErrorInvalidValue;
    if (c->peer_enabled[peer] == enable) return enable ? cudaErrorPeerAccessAlreadyEnabled : cudaErrorPeerAccessNotEnabled;
    c->peer_enabled[peer] = enable;
    return cudaSuccess;
}

static cudaError_t peer_attribute(int *value, enum cudaDeviceP2PAttr which, int from, int to) {
    if (!value) return cudaErrorInvalidValue;
    if (!context_at(from) || !context_at(to) || from == to) return cudaErrorInvalidDevice;
    *value = which == cudaDevP2PAttrAccessSupported || which == cudaDevP2PAttrNativeAtomicSupported;
    return cudaSuccess;
}

static cudaError_t version(int *value) {
    if (!value) return cudaErrorInvalidValue;
    *value = VERSION;
    return cudaSuccess;
}

static cudaError_t cache_config(enum cudaFuncCache *config) {
    if (!config) return cudaErrorInvalidValue;
    *config = cudaFuncCachePreferNone;
    return cudaSuccess;
}

static cudaError_t bank_config(enum cudaSharedMemConfig *config) {
    if (!config) return cudaErrorInvalidValue;
    *config = cudaSharedMemBankSizeFourByte;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) API_ANY(count_devices(count))
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) API_ANY(properties(p, device))
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device)
    API_ANY(attribute(value, which, device))
cudaError_t cudaSetDevice(int device) API_ANY(set_device(device))
cudaError_t cudaGetDevice(int *device) API_ANY(get_device(device))
cudaError_t cudaChooseDevice(int *device, const struct cudaDeviceProp *wanted) API(choose(device, wanted))
cudaError_t cudaSetValidDevices(int *devices, int count) API(valid_devices(devices, count))
cudaError_t cudaInitDevice(int device, unsigned device_flags, unsigned init_flags)
    API(((void)device_flags, (void)init_flags, init_device(device)))
cudaError_t cudaSetDeviceFlags(unsigned value) API(flags(NULL, &value))
cudaError_t cudaGetDeviceFlags(unsigned *value) API(flags(value, NULL))
cudaError_t cudaDeviceGetLimit(size_t *value, enum cudaLimit which) API(limit(which, value, NULL))
cudaError_t cudaDeviceSetLimit(enum cudaLimit which, size_t value) API(limit(which, NULL, &value))
cudaError_t cudaDeviceGetPCIBusId(char *id, int bytes, int device) API(bus_id(id, bytes, device))
cudaError_t cudaDeviceGetByPCIBusId(int *device, const char *id) API(device_of_bus_id(device, id))
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) API(can_access(can, device, peer))
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned access_flags) API(set_access(peer, access_flags, true))
cudaError_t cudaDeviceDisablePeerAccess(int peer) API(set_access(peer, 0, false))
cudaError_t cudaDeviceGetP2PAttribute(int *value, enum cudaDeviceP2PAttr which, int from, int to)
    API(peer_attribute(value, which, from, to))
cudaError_t cudaDriverGetVersion(int *value) API_ANY(version(value))
cudaError_t cudaRuntimeGetVersion(int *value) API_ANY(version(value))
cudaError_t cudaProfilerStart(void) API(cudaSuccess)
cudaError_t cudaProfilerStop(void) API(cudaSuccess)
cudaError_t cudaCtxResetPersistingL2Cache(void) API(cudaSuccess)
cudaError_t cudaDeviceGetCacheConfig(enum cudaFuncCache *config) API(cache_config(config))
cudaError_t cudaDeviceSetCacheConfig(enum cudaFuncCache config) API(((void)config, cudaSuccess))
cudaError_t cudaDeviceGetSharedMemConfig(enum cudaSharedMemConfig *config) API(bank_config(config))
cudaError_t cudaDeviceSetSharedMemConfig(enum cudaSharedMemConfig config) API(((void)config, cudaSuccess))

struct cudaChannelFormatDesc cudaCreateChannelDesc(int x, int y, int z, int w, enum cudaChannelFormatKind kind) {
    return (struct cudaChannelFormatDesc){x, y, z, w, kind};
}
