/* Launches: by configuration stack and stub, by symbol, cooperative, with attributes. */
#include "runtime/launch.h"
#include "runtime/stream.h"
#include <string.h>

static bool known_stub_attribute(cudaLaunchAttributeID id) { /* hints, and orderings that lateness does not weaken */
    switch (id) {
    case cudaLaunchAttributeIgnore:
    case cudaLaunchAttributeAccessPolicyWindow:
    case cudaLaunchAttributeSynchronizationPolicy:
    case cudaLaunchAttributeClusterSchedulingPolicyPreference:
    case cudaLaunchAttributePriority:
    case cudaLaunchAttributeMemSyncDomainMap:
    case cudaLaunchAttributeMemSyncDomain:
    case cudaLaunchAttributePreferredClusterDimension:
    case cudaLaunchAttributePreferredSharedMemoryCarveout: return true;
    default: return false;
    }
}

int64_t dynamic_shared_limit(const function *f, const context *c, const sg_function_info *info) {
    int64_t plain = c->properties.shared_per_block_bytes - info->static_shared_bytes;
    return f->dynamic_shared[c->index] > plain ? f->dynamic_shared[c->index] : plain;
}

static cudaError_t refuse(const function *f, cudaError_t error, const char *reason) {
    sg_finding("launch limits", "%s cannot be launched: %s (%s)", f->name, reason, cudaGetErrorName(error));
    return error;
}

static cudaError_t check_resources(const function *f, const context *c, const sg_function *code,
                                   const sg_function_info *info, const launch_request *r) {
    int64_t threads = (int64_t)r->block.x * r->block.y * r->block.z;
    int64_t blocks = (int64_t)r->grid.x * r->grid.y * r->grid.z;
    if (threads > info->max_threads && threads <= 1024)
        return refuse(f, cudaErrorInvalidValue, "more threads a block than its launch bounds");
    if ((int64_t)r->shared > dynamic_shared_limit(f, c, info))
        return refuse(f, cudaErrorInvalidValue, "more dynamic shared memory than its limit; see "
                                                "cudaFuncAttributeMaxDynamicSharedMemorySize");
    int64_t registers = (info->registers + 7) / 8 * 8 * ((threads + 31) / 32 * 32);
    if (threads <= 1024 && registers > c->properties.registers_per_sm)
        return refuse(f, cudaErrorLaunchOutOfResources, "its registers do not fit on a multiprocessor");
    if (r->cooperative) {
        int64_t resident = (int64_t)sg_occupancy(c->device, code, (int)threads, (int64_t)r->shared) *
                           c->properties.multiprocessors;
        if (blocks > resident)
            return refuse(f, cudaErrorCooperativeLaunchTooLarge, "a cooperative grid must be resident at once");
    }
    return cudaSuccess;
}

cudaError_t launch_task(context *c, const launch_request *r, const char *what, task **made) {
    function *f;
    const sg_function *code;
    sg_function_info info;
    char reason[256];
    TRY(function_of(r->function, &f));
    TRY(function_on(f, c, &code));
    sg_function_describe(code, &info);
    kernel_task kernel = {.function = f,
                          .grid = {r->grid.x, r->grid.y, r->grid.z},
                          .block = {r->block.x, r->block.y, r->block.z},
                          .cluster = {r->cluster.x, r->cluster.y, r->cluster.z},
                          .shared = (int64_t)r->shared,
                          .cooperative = r->cooperative};
    for (int i = 0; i < 3; i++)
        if (info.required_cluster[i] && kernel.cluster[i] == 1) kernel.cluster[i] = (unsigned)info.required_cluster[i];
    sg_launch launch = {.grid = {kernel.grid[0], kernel.grid[1], kernel.grid[2]},
                        .block = {kernel.block[0], kernel.block[1], kernel.block[2]},
                        .cluster = {kernel.cluster[0], kernel.cluster[1], kernel.cluster[2]},
                        .dynamic_shared_bytes = kernel.shared,
                        .cooperative = kernel.cooperative};
    TRY(check_resources(f, c, code, &info, r));
    if (sg_launch_check(c->device, code, &launch, reason, sizeof reason) != SG_OK)
        return refuse(f, cudaErrorInvalidConfiguration, reason);
    if (info.parameters > 0 && !r->arguments) return cudaErrorInvalidValue;
    *made = task_kernel(&kernel, &info, r->arguments, what);
    return *made ? cudaSuccess : cudaErrorMemoryAllocation;
}

static cudaError_t launch(const launch_request *request, cudaStream_t handle, const char *what) {
    stream *s;
    task *t;
    TRY(fault_or_success(SOFTGPU_LAUNCH));
    TRY(stream_of(handle, &s));
    if (s->context != current_context()) return cudaErrorInvalidResourceHandle;
    TRY(launch_task(s->context, request, what, &t));
    t->kernel.early = request->early && s->ends_with_kernel && !s->capture.capture;
    t->kernel.stream = s->id;
    return stream_append(s, t);
}

static cudaError_t launch_plain(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared,
                                cudaStream_t handle, bool cooperative, const char *what) {
    launch_request request = {.function = function,
                              .grid = grid,
                              .block = block,
                              .cluster = {1, 1, 1},
                              .shared = shared,
                              .cooperative = cooperative,
                              .arguments = arguments};
    return launch(&request, handle, what);
}

static cudaError_t launch_with_attributes(const cudaLaunchConfig_t *config, const void *function, void **arguments) {
    if (!config || (config->numAttrs && !config->attrs)) return cudaErrorInvalidValue;
    launch_request request = {.function = function,
                              .grid = config->gridDim,
                              .block = config->blockDim,
                              .cluster = {1, 1, 1},
                              .shared = config->dynamicSmemBytes,
                              .arguments = arguments};
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const cudaLaunchAttribute *a = &config->attrs[i];
        if (a->id == cudaLaunchAttributeClusterDimension)
            request.cluster = (dim3){a->val.clusterDim.x, a->val.clusterDim.y, a->val.clusterDim.z};
        else if (a->id == cudaLaunchAttributeProgrammaticStreamSerialization)
            request.early = a->val.programmaticStreamSerializationAllowed != 0;
        else if (a->id == cudaLaunchAttributeCooperative) request.cooperative = a->val.cooperative != 0;
        else if (!known_stub_attribute(a->id)) return softgpu_unsupported("a launch attribute that signals an event");
    }
    return launch(&request, config->stream, "cudaLaunchKernelExC");
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared,
                             cudaStream_t handle)
    API(launch_plain(function, grid, block, arguments, shared, handle, false, "cudaLaunchKernel"))
cudaError_t cudaLaunchCooperativeKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared,
                                        cudaStream_t handle)
    API(launch_plain(function, grid, block, arguments, shared, handle, true, "cudaLaunchCooperativeKernel"))
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *function, void **arguments)
    API(launch_with_attributes(config, function, arguments))

/* ---- what nvcc's <<<…>>> compiles to -------------------------------------------------------------------------- */

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *handle);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *handle);
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *stub);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                               cudaStream_t handle);
cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                                    cudaStream_t handle);

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *handle) {
    thread_state *thread = this_thread();
    const int room = sizeof thread->configurations / sizeof thread->configurations[0];
    if (thread->depth == room) return 1;
    thread->configurations[thread->depth++] = (configuration){grid, block, shared, handle};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *handle) {
    thread_state *thread = this_thread();
    if (thread->depth == 0) return cudaErrorMissingConfiguration;
    const configuration *top = &thread->configurations[--thread->depth];
    *grid = top->grid;
    *block = top->block;
    *shared = top->shared;
    memcpy(handle, &top->stream, sizeof top->stream);
    return cudaSuccess;
}

static cudaError_t kernel_of_stub(cudaKernel_t *kernel, const void *stub) {
    if (!kernel) return cudaErrorInvalidValue;
    return function_of(stub, kernel);
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *stub) API_ANY(kernel_of_stub(kernel, stub))
cudaError_t cudaGetKernel(cudaKernel_t *kernel, const void *stub) API(kernel_of_stub(kernel, stub))
cudaError_t cudaGetFuncBySymbol(cudaFunction_t *function, const void *stub)
    API(kernel_of_stub((cudaKernel_t *)function, stub))

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                               cudaStream_t handle)
    API(launch_plain(kernel, grid, block, arguments, shared, handle, false, "cudaLaunchKernel"))

cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                                    cudaStream_t handle) {
    return __cudaLaunchKernel(kernel, grid, block, arguments, shared, handle ? handle : cudaStreamPerThread);
}
