/* The API's parameter structs and the tasks that they describe, both ways. A TASK_EVENT_RECORD in a graph is external. */
#include "runtime/copy.h"
#include "runtime/graph.h"
#include "runtime/launch.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

cudaError_t task_of_kernel(const struct cudaKernelNodeParams *p, const task *attributes, task **made) {
    if (!p || p->extra) return p ? softgpu_unsupported("kernel node parameters in `extra`") : cudaErrorInvalidValue;
    launch_request request = {.function = p->func,
                              .grid = p->gridDim,
                              .block = p->blockDim,
                              .cluster = {1, 1, 1},
                              .shared = p->sharedMemBytes,
                              .arguments = p->kernelParams};
    if (attributes) {
        const kernel_task *k = &attributes->kernel;
        request.cluster = (dim3){k->cluster[0], k->cluster[1], k->cluster[2]};
        request.cooperative = k->cooperative;
    }
    return launch_task(current_context(), &request, "graph kernel node", made);
}

cudaError_t task_of_memcpy(const struct cudaMemcpy3DParms *p, task **made) {
    copy_task copy;
    if (!p) return cudaErrorInvalidValue;
    TRY(copy_of_3d(p, &copy));
    if (!(*made = task_create(TASK_COPY, "graph memcpy node"))) return cudaErrorMemoryAllocation;
    (*made)->copy = copy;
    return cudaSuccess;
}

cudaError_t task_of_memset(const struct cudaMemsetParams *p, task **made) {
    if (!p || !p->dst) return cudaErrorInvalidValue;
    if (p->elementSize != 1 && p->elementSize != 2 && p->elementSize != 4) return cudaErrorInvalidValue;
    if (!(*made = task_create(TASK_FILL, "graph memset node"))) return cudaErrorMemoryAllocation;
    (*made)->fill = (fill_task){.to = (uint64_t)(uintptr_t)p->dst,
                                .pitch = (int64_t)p->pitch,
                                .width = (int64_t)p->width,
                                .height = (int64_t)p->height,
                                .depth = 1,
                                .element_bytes = (int)p->elementSize,
                                .value = p->value};
    return cudaSuccess;
}

cudaError_t task_of_host(const struct cudaHostNodeParams *p, task **made) {
    if (!p || !p->fn) return cudaErrorInvalidValue;
    if (!(*made = task_create(TASK_HOST, "graph host node"))) return cudaErrorMemoryAllocation;
    (*made)->host = (host_task){.function = p->fn, .data = p->userData};
    return cudaSuccess;
}

cudaError_t task_of_event(task_kind kind, cudaEvent_t event, task **made) {
    TRY(event_of(event));
    if (!(*made = task_create(kind, "graph event node"))) return cudaErrorMemoryAllocation;
    (*made)->event = event;
    return cudaSuccess;
}

cudaError_t task_of_child(graph *child, task **made) {
    graph *copy;
    TRY(graph_of(child));
    TRY(graph_clone(child, &copy));
    graph_plan *plan;
    cudaError_t status = plan_create(copy, &plan);
    if (status != cudaSuccess) return graph_release(copy), status;
    *made = task_create(TASK_PLAN, "child graph");
    if (!*made) return plan_release(plan), graph_release(copy), cudaErrorMemoryAllocation;
    (*made)->plan.plan = plan;
    (*made)->plan.graph = copy;
    return cudaSuccess;
}

cudaError_t task_of_alloc(context *c, size_t bytes, task **made) {
    void *pointer;
    if (!bytes) return cudaErrorInvalidValue;
    if (!(*made = task_create(TASK_EMPTY, "graph allocation"))) return cudaErrorMemoryAllocation;
    cudaError_t status = memory_allocate(c, SG_MEMORY_DEVICE, bytes, "graph allocation", &pointer);
    if (status != cudaSuccess) return task_release(*made), status;
    memory_of(pointer)->in_graph = true;
    (*made)->kind = TASK_ALLOC;
    (*made)->memory.address = (uint64_t)(uintptr_t)pointer;
    (*made)->memory.bytes = (int64_t)bytes;
    return cudaSuccess;
}

cudaError_t task_of_free(uint64_t address, task **made) {
    allocation *a = memory_of((void *)(uintptr_t)address);
    if (!a || !a->in_graph) return cudaErrorInvalidValue;
    if (!(*made = task_create(TASK_GRAPH_FREE, "graph free"))) return cudaErrorMemoryAllocation;
    (*made)->memory.address = address;
    return cudaSuccess;
}

cudaError_t task_of_parameters(struct cudaGraphNodeParams *p, task **made) {
    if (!p) return cudaErrorInvalidValue;
    switch (p->type) {
    case cudaGraphNodeTypeKernel: {
        struct cudaKernelNodeParams kernel = {.func = p->kernel.func,
                                              .gridDim = p->kernel.gridDim,
                                              .blockDim = p->kernel.blockDim,
                                              .sharedMemBytes = p->kernel.sharedMemBytes,
                                              .kernelParams = p->kernel.kernelParams,
                                              .extra = p->kernel.extra};
        return task_of_kernel(&kernel, NULL, made);
    }
    case cudaGraphNodeTypeMemcpy: return task_of_memcpy(&p->memcpy.copyParams, made);
    case cudaGraphNodeTypeMemset: {
        struct cudaMemsetParams set = {.dst = p->memset.dst,
                                       .pitch = p->memset.pitch,
                                       .value = p->memset.value,
                                       .elementSize = p->memset.elementSize,
                                       .width = p->memset.width,
                                       .height = p->memset.height};
        return task_of_memset(&set, made);
    }
    case cudaGraphNodeTypeHost: {
        struct cudaHostNodeParams host = {.fn = p->host.fn, .userData = p->host.userData};
        return task_of_host(&host, made);
    }
    case cudaGraphNodeTypeGraph: return task_of_child(p->graph.graph, made);
    case cudaGraphNodeTypeEmpty:
        return (*made = task_create(TASK_EMPTY, "graph empty node")) ? cudaSuccess : cudaErrorMemoryAllocation;
    case cudaGraphNodeTypeWaitEvent: return task_of_event(TASK_EVENT_WAIT, p->eventWait.event, made);
    case cudaGraphNodeTypeEventRecord: return task_of_event(TASK_EVENT_RECORD, p->eventRecord.event, made);
    case cudaGraphNodeTypeMemAlloc:
        TRY(task_of_alloc(current_context(), p->alloc.bytesize, made));
        p->alloc.dptr = (void *)(uintptr_t)(*made)->memory.address;
        return cudaSuccess;
    case cudaGraphNodeTypeMemFree: return task_of_free((uint64_t)(uintptr_t)p->free.dptr, made);
    default: return softgpu_unsupported("cudaGraphAddNode with semaphores or conditions");
    }
}

struct cudaKernelNodeParams kernel_parameters(const task *t) {
    const kernel_task *k = &t->kernel;
    return (struct cudaKernelNodeParams){.func = (void *)function_host_pointer(k->function),
                                         .gridDim = {k->grid[0], k->grid[1], k->grid[2]},
                                         .blockDim = {k->block[0], k->block[1], k->block[2]},
                                         .sharedMemBytes = (unsigned)k->shared,
                                         .kernelParams = k->arguments};
}

struct cudaMemcpy3DParms memcpy_parameters(const task *t) {
    const copy_task *c = &t->copy;
    return (struct cudaMemcpy3DParms){
        .srcPtr = pitched((void *)(uintptr_t)c->from, (size_t)c->from_pitch, (size_t)c->width,
                                      (size_t)(c->from_pitch ? c->from_slice / c->from_pitch : c->height)),
        .dstPtr = pitched((void *)(uintptr_t)c->to, (size_t)c->to_pitch, (size_t)c->width,
                                      (size_t)(c->to_pitch ? c->to_slice / c->to_pitch : c->height)),
        .extent = {(size_t)c->width, (size_t)c->height, (size_t)c->depth},
        .kind = c->kind};
}

struct cudaMemsetParams memset_parameters(const task *t) {
    const fill_task *f = &t->fill;
    return (struct cudaMemsetParams){.dst = (void *)(uintptr_t)f->to,
                                     .pitch = (size_t)f->pitch,
                                     .value = f->value,
                                     .elementSize = (unsigned)f->element_bytes,
                                     .width = (size_t)f->width,
                                     .height = (size_t)f->height};
}
