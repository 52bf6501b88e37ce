/* Questions about kernels: attributes, names, parameters, occupancy. */
#include "runtime/launch.h"
#include "runtime/module.h"
#include <string.h>

enum { PORTABLE_CLUSTER = 8, LARGEST_CLUSTER = 16, RESERVED_SHARED = 1024 };

typedef struct subject { /* a kernel on the current device */
    function *f;
    context *c;
    const sg_function *code;
    sg_function_info info;
} subject;

static cudaError_t look(const void *handle, subject *s) {
    s->c = current_context();
    TRY(function_of(handle, &s->f));
    TRY(function_on(s->f, s->c, &s->code));
    sg_function_describe(s->code, &s->info);
    return cudaSuccess;
}

static cudaError_t attributes(struct cudaFuncAttributes *a, const void *handle) {
    subject s;
    if (!a) return cudaErrorInvalidValue;
    TRY(look(handle, &s));
    int target = function_target(s.f, s.c);
    bool cluster = s.info.required_cluster[0] > 0;
    *a = (struct cudaFuncAttributes){.sharedSizeBytes = (size_t)s.info.static_shared_bytes,
                                     .constSizeBytes = (size_t)s.info.constant_bytes,
                                     .localSizeBytes = (size_t)s.info.local_bytes,
                                     .maxThreadsPerBlock = s.info.max_threads,
                                     .numRegs = s.info.registers ? s.info.registers : s.info.places,
                                     .ptxVersion = target,
                                     .binaryVersion = s.c->properties.compute_major * 10 + s.c->properties.compute_minor,
                                     .maxDynamicSharedSizeBytes = (int)dynamic_shared_limit(s.f, s.c, &s.info),
                                     .preferredShmemCarveout = s.f->carveout,
                                     .clusterDimMustBeSet = cluster,
                                     .requiredClusterWidth = s.info.required_cluster[0],
                                     .requiredClusterHeight = s.info.required_cluster[1],
                                     .requiredClusterDepth = s.info.required_cluster[2],
                                     .nonPortableClusterSizeAllowed = s.f->non_portable_cluster};
    return cudaSuccess;
}

static cudaError_t set_on(const void *handle, enum cudaFuncAttribute attribute, int value, context *c) {
    subject s = {.c = c};
    TRY(function_of(handle, &s.f));
    TRY(function_on(s.f, c, &s.code));
    sg_function_describe(s.code, &s.info);
    switch (attribute) {
    case cudaFuncAttributeMaxDynamicSharedMemorySize:
        if (value < 0 || value + s.info.static_shared_bytes > c->properties.shared_optin_bytes) return cudaErrorInvalidValue;
        s.f->dynamic_shared[c->index] = value;
        return cudaSuccess;
    case cudaFuncAttributePreferredSharedMemoryCarveout:
        if (value < -1 || value > 100) return cudaErrorInvalidValue;
        s.f->carveout = value;
        return cudaSuccess;
    case cudaFuncAttributeNonPortableClusterSizeAllowed: s.f->non_portable_cluster = value != 0; return cudaSuccess;
    case cudaFuncAttributeClusterSchedulingPolicyPreference: return cudaSuccess;
    default: return cudaErrorInvalidValue;
    }
}

static cudaError_t set_for_device(cudaKernel_t kernel, enum cudaFuncAttribute attribute, int value, int device) {
    context *c = context_at(device);
    return c ? set_on(kernel, attribute, value, initialised(c)) : cudaErrorInvalidDevice;
}

static cudaError_t name_of(const char **name, const void *handle) {
    function *f;
    if (!name) return cudaErrorInvalidValue;
    TRY(function_of(handle, &f));
    *name = f->name;
    return cudaSuccess;
}

/* Parameters lie at offsets aligned to their own size, as in a C struct of scalars and of the largest power of two
   that divides an aggregate's size, up to 16. */
static cudaError_t parameter(const void *handle, size_t index, size_t *offset, size_t *bytes) {
    subject s;
    TRY(look(handle, &s));
    if (!offset || index >= (size_t)s.info.parameters) return cudaErrorInvalidValue;
    size_t at = 0;
    for (size_t i = 0;; i++) {
        size_t size = (size_t)s.info.parameter_bytes[i], alignment = size & -size;
        if (alignment > 16) alignment = 16;
        at = (at + alignment - 1) / alignment * alignment;
        if (i == index) {
            *offset = at;
            if (bytes) *bytes = size;
            return cudaSuccess;
        }
        at += size;
    }
}

static cudaError_t occupancy(int *blocks, const void *handle, int threads, size_t shared, unsigned flags) {
    subject s;
    if (!blocks || threads <= 0 || flags > cudaOccupancyDisableCachingOverride) return cudaErrorInvalidValue;
    TRY(look(handle, &s));
    *blocks = sg_occupancy(s.c->device, s.code, threads, (int64_t)shared);
    return cudaSuccess;
}

static cudaError_t available_shared(size_t *bytes, const void *handle, int blocks, int threads) {
    subject s;
    if (!bytes || blocks <= 0 || threads <= 0) return cudaErrorInvalidValue;
    TRY(look(handle, &s));
    int64_t each = s.c->properties.shared_per_sm_bytes / blocks - RESERVED_SHARED - s.info.static_shared_bytes;
    int64_t limit = s.c->properties.shared_optin_bytes - s.info.static_shared_bytes;
    if (sg_occupancy(s.c->device, s.code, threads, 0) < blocks) return cudaErrorInvalidValue;
    *bytes = (size_t)(each < 0 ? 0 : each > limit ? limit : each);
    return cudaSuccess;
}

static cudaError_t cluster_size(int *size, const void *handle, const cudaLaunchConfig_t *config) {
    subject s;
    if (!size || !config) return cudaErrorInvalidValue;
    TRY(look(handle, &s));
    if (s.c->properties.compute_major < 9) return cudaErrorNotSupported;
    *size = s.f->non_portable_cluster ? LARGEST_CLUSTER : PORTABLE_CLUSTER;
    return cudaSuccess;
}

static cudaError_t active_clusters(int *clusters, const void *handle, const cudaLaunchConfig_t *config) {
    subject s;
    int blocks = 1;
    if (!clusters || !config) return cudaErrorInvalidValue;
    TRY(look(handle, &s));
    if (s.c->properties.compute_major < 9) return cudaErrorNotSupported;
    for (unsigned i = 0; i < config->numAttrs; i++)
        if (config->attrs[i].id == cudaLaunchAttributeClusterDimension)
            blocks = (int)(config->attrs[i].val.clusterDim.x * config->attrs[i].val.clusterDim.y *
                           config->attrs[i].val.clusterDim.z);
    int threads = (int)(config->blockDim.x * config->blockDim.y * config->blockDim.z);
    int each = sg_occupancy(s.c->device, s.code, threads, (int64_t)config->dynamicSmemBytes);
    *clusters = blocks > 0 ? each * s.c->properties.multiprocessors / blocks : 0;
    return cudaSuccess;
}

static cudaError_t exists(const void *handle) {
    function *f;
    return function_of(handle, &f);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *handle) API(attributes(a, handle))
cudaError_t cudaFuncSetAttribute(const void *handle, enum cudaFuncAttribute attribute, int value)
    API(set_on(handle, attribute, value, current_context()))
cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t kernel, enum cudaFuncAttribute attribute, int value, int device)
    API(set_for_device(kernel, attribute, value, device))
cudaError_t cudaFuncSetCacheConfig(const void *handle, enum cudaFuncCache config) API(((void)config, exists(handle)))
cudaError_t cudaFuncSetSharedMemConfig(const void *handle, enum cudaSharedMemConfig config)
    API(((void)config, exists(handle)))
cudaError_t cudaFuncGetName(const char **name, const void *handle) API(name_of(name, handle))
cudaError_t cudaFuncGetParamInfo(const void *handle, size_t index, size_t *offset, size_t *bytes)
    API(parameter(handle, index, offset, bytes))
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *handle, int threads, size_t shared)
    API(occupancy(blocks, handle, threads, shared, cudaOccupancyDefault))
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *handle, int threads,
                                                                   size_t shared, unsigned flags)
    API(occupancy(blocks, handle, threads, shared, flags))
cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, const void *handle, int blocks, int threads)
    API(available_shared(bytes, handle, blocks, threads))
cudaError_t cudaOccupancyMaxPotentialClusterSize(int *size, const void *handle, const cudaLaunchConfig_t *config)
    API(cluster_size(size, handle, config))
cudaError_t cudaOccupancyMaxActiveClusters(int *clusters, const void *handle, const cudaLaunchConfig_t *config)
    API(active_clusters(clusters, handle, config))
