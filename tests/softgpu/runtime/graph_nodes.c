/* The API's calls on single nodes: one to add, get, set and set-in-an-executable for each type, all alike. */
#include "runtime/copy.h"
#include "runtime/graph.h"
#include "runtime/module.h"
#include <string.h>

/* Where a task is to go: a new node, a node's new work, or a node's new work in one executable. */
typedef struct destination {
    cudaGraphNode_t *made;
    cudaGraph_t graph;
    const cudaGraphNode_t *after;
    size_t after_count;
    cudaGraphNode_t node;
    cudaGraphExec_t exec;
} destination;

#define NEW_NODE ((destination){.made = made, .graph = g, .after = after, .after_count = count})
#define NODE     ((destination){.node = n})
#define IN_EXEC  ((destination){.node = n, .exec = exec})

/* `status` comes from making the task, in the same call's arguments: on success it is where `made` points. */
static cudaError_t place_task(cudaError_t status, task *const *made, destination d) {
    TRY(status);
    task *t = *made;
    if (d.exec) return exec_set_task(d.exec, d.node, t);
    if (d.node) {
        status = node_of(d.node);
        return status == cudaSuccess ? node_set_task(d.node, t) : (task_release(t), status);
    }
    status = d.made && (d.after || !d.after_count) ? graph_of(d.graph) : cudaErrorInvalidValue;
    if (status != cudaSuccess) return task_release(t), status;
    return graph_add(d.graph, d.after, d.after_count, t, node_type_of(t), d.made);
}

static const task *current_task(destination d) {
    const task *t = NULL;
    if (d.exec) return exec_task(d.exec, d.node, &t) == cudaSuccess ? t : NULL;
    return d.node && node_of(d.node) == cudaSuccess ? d.node->task : NULL;
}

static cudaError_t put_kernel(const struct cudaKernelNodeParams *p, destination d) {
    task *t = NULL;
    const task *before = current_task(d);
    if (before && before->kind != TASK_KERNEL) return cudaErrorInvalidValue;
    return place_task(task_of_kernel(p, before, &t), &t, d);
}

static cudaError_t put_memcpy(const struct cudaMemcpy3DParms *p, destination d) {
    task *t = NULL;
    return place_task(task_of_memcpy(p, &t), &t, d);
}

static cudaError_t put_memcpy_1d(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, destination d) {
    struct cudaMemcpy3DParms p = {.srcPtr = pitched((void *)from, bytes, bytes, 1),
                                  .dstPtr = pitched(to, bytes, bytes, 1),
                                  .extent = {bytes, 1, 1},
                                  .kind = kind};
    return put_memcpy(&p, d);
}

static cudaError_t put_symbol_copy(const void *symbol, size_t offset, void *other, size_t bytes,
                                   enum cudaMemcpyKind kind, bool to_symbol, destination d) {
    uint64_t address;
    int64_t size;
    TRY(symbol_address(symbol, current_context(), &address, &size));
    if (offset > (size_t)size || bytes > (size_t)size - offset) return cudaErrorInvalidValue;
    void *inside = (void *)(uintptr_t)(address + offset);
    return to_symbol ? put_memcpy_1d(inside, other, bytes, kind, d) : put_memcpy_1d(other, inside, bytes, kind, d);
}

static cudaError_t put_memset(const struct cudaMemsetParams *p, destination d) {
    task *t = NULL;
    return place_task(task_of_memset(p, &t), &t, d);
}

static cudaError_t put_host(const struct cudaHostNodeParams *p, destination d) {
    task *t = NULL;
    return place_task(task_of_host(p, &t), &t, d);
}

static cudaError_t put_event(task_kind kind, cudaEvent_t event, destination d) {
    task *t = NULL;
    return place_task(task_of_event(kind, event, &t), &t, d);
}

static cudaError_t put_child(cudaGraph_t child, destination d) {
    task *t = NULL;
    return place_task(task_of_child(child, &t), &t, d);
}

static cudaError_t put_empty(destination d) {
    task *t = task_create(TASK_EMPTY, "graph empty node");
    return place_task(t ? cudaSuccess : cudaErrorMemoryAllocation, &t, d);
}

static cudaError_t put_any(struct cudaGraphNodeParams *p, destination d) {
    task *t = NULL;
    return place_task(task_of_parameters(p, &t), &t, d);
}

static cudaError_t put_alloc(struct cudaMemAllocNodeParams *p, destination d) {
    task *t = NULL;
    if (!p) return cudaErrorInvalidValue;
    TRY(task_of_alloc(current_context(), p->bytesize, &t));
    p->dptr = (void *)(uintptr_t)t->memory.address;
    return place_task(cudaSuccess, &t, d);
}

static cudaError_t put_free(void *pointer, destination d) {
    task *t = NULL;
    return place_task(task_of_free((uint64_t)(uintptr_t)pointer, &t), &t, d);
}

/* The task of a node that must be of a kind, for the getters. */
static cudaError_t task_of_kind(cudaGraphNode_t n, task_kind kind, const void *out, const task **t) {
    TRY(node_of(n));
    if (!out || n->task->kind != kind) return cudaErrorInvalidValue;
    *t = n->task;
    return cudaSuccess;
}

#define GETTER(name, type, kind, expression)                                                                           \
    static cudaError_t name(cudaGraphNode_t n, type *out) {                                                            \
        const task *t;                                                                                                 \
        TRY(task_of_kind(n, kind, out, &t));                                                                           \
        *out = expression;                                                                                             \
        return cudaSuccess;                                                                                            \
    }
GETTER(get_kernel, struct cudaKernelNodeParams, TASK_KERNEL, kernel_parameters(t))
GETTER(get_memcpy, struct cudaMemcpy3DParms, TASK_COPY, memcpy_parameters(t))
GETTER(get_memset, struct cudaMemsetParams, TASK_FILL, memset_parameters(t))
GETTER(get_host, struct cudaHostNodeParams, TASK_HOST,
       ((struct cudaHostNodeParams){t->host.function, t->host.data}))
GETTER(get_record, cudaEvent_t, TASK_EVENT_RECORD, t->event)
GETTER(get_wait, cudaEvent_t, TASK_EVENT_WAIT, t->event)
GETTER(get_child, cudaGraph_t, TASK_PLAN, t->plan.graph)
GETTER(get_alloc, struct cudaMemAllocNodeParams, TASK_ALLOC,
       ((struct cudaMemAllocNodeParams){.bytesize = (size_t)t->memory.bytes,
                                        .dptr = (void *)(uintptr_t)t->memory.address}))
GETTER(get_free, void *, TASK_GRAPH_FREE, (void *)(uintptr_t)t->memory.address)

#define ADD_PARAMETERS cudaGraphNode_t *made, cudaGraph_t g, const cudaGraphNode_t *after, size_t count

cudaError_t cudaGraphAddKernelNode(ADD_PARAMETERS, const struct cudaKernelNodeParams *p) API(put_kernel(p, NEW_NODE))
cudaError_t cudaGraphAddMemcpyNode(ADD_PARAMETERS, const struct cudaMemcpy3DParms *p) API(put_memcpy(p, NEW_NODE))
cudaError_t cudaGraphAddMemcpyNode1D(ADD_PARAMETERS, void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
    API(put_memcpy_1d(to, from, bytes, kind, NEW_NODE))
cudaError_t cudaGraphAddMemcpyNodeToSymbol(ADD_PARAMETERS, const void *symbol, const void *from, size_t bytes,
                                           size_t offset, enum cudaMemcpyKind kind)
    API(put_symbol_copy(symbol, offset, (void *)from, bytes, kind, true, NEW_NODE))
cudaError_t cudaGraphAddMemcpyNodeFromSymbol(ADD_PARAMETERS, void *to, const void *symbol, size_t bytes, size_t offset,
                                             enum cudaMemcpyKind kind)
    API(put_symbol_copy(symbol, offset, to, bytes, kind, false, NEW_NODE))
cudaError_t cudaGraphAddMemsetNode(ADD_PARAMETERS, const struct cudaMemsetParams *p) API(put_memset(p, NEW_NODE))
cudaError_t cudaGraphAddHostNode(ADD_PARAMETERS, const struct cudaHostNodeParams *p) API(put_host(p, NEW_NODE))
cudaError_t cudaGraphAddEmptyNode(ADD_PARAMETERS) API(put_empty(NEW_NODE))
cudaError_t cudaGraphAddChildGraphNode(ADD_PARAMETERS, cudaGraph_t child) API(put_child(child, NEW_NODE))
cudaError_t cudaGraphAddEventRecordNode(ADD_PARAMETERS, cudaEvent_t event)
    API(put_event(TASK_EVENT_RECORD, event, NEW_NODE))
cudaError_t cudaGraphAddEventWaitNode(ADD_PARAMETERS, cudaEvent_t event)
    API(put_event(TASK_EVENT_WAIT, event, NEW_NODE))
cudaError_t cudaGraphAddMemAllocNode(ADD_PARAMETERS, struct cudaMemAllocNodeParams *p) API(put_alloc(p, NEW_NODE))
cudaError_t cudaGraphAddMemFreeNode(ADD_PARAMETERS, void *pointer) API(put_free(pointer, NEW_NODE))
cudaError_t cudaGraphAddNode(cudaGraphNode_t *made, cudaGraph_t g, const cudaGraphNode_t *after,
                             const cudaGraphEdgeData *edges, size_t count, struct cudaGraphNodeParams *p)
    API(edges ? softgpu_unsupported("cudaGraphAddNode with edge data") : put_any(p, NEW_NODE))

cudaError_t cudaGraphKernelNodeGetParams(cudaGraphNode_t n, struct cudaKernelNodeParams *p) API(get_kernel(n, p))
cudaError_t cudaGraphMemcpyNodeGetParams(cudaGraphNode_t n, struct cudaMemcpy3DParms *p) API(get_memcpy(n, p))
cudaError_t cudaGraphMemsetNodeGetParams(cudaGraphNode_t n, struct cudaMemsetParams *p) API(get_memset(n, p))
cudaError_t cudaGraphHostNodeGetParams(cudaGraphNode_t n, struct cudaHostNodeParams *p) API(get_host(n, p))
cudaError_t cudaGraphChildGraphNodeGetGraph(cudaGraphNode_t n, cudaGraph_t *g) API(get_child(n, g))
cudaError_t cudaGraphEventRecordNodeGetEvent(cudaGraphNode_t n, cudaEvent_t *event) API(get_record(n, event))
cudaError_t cudaGraphEventWaitNodeGetEvent(cudaGraphNode_t n, cudaEvent_t *event) API(get_wait(n, event))
cudaError_t cudaGraphMemAllocNodeGetParams(cudaGraphNode_t n, struct cudaMemAllocNodeParams *p) API(get_alloc(n, p))
cudaError_t cudaGraphMemFreeNodeGetParams(cudaGraphNode_t n, void *pointer) API(get_free(n, (void **)pointer))

cudaError_t cudaGraphKernelNodeSetParams(cudaGraphNode_t n, const struct cudaKernelNodeParams *p)
    API(put_kernel(p, NODE))
cudaError_t cudaGraphMemcpyNodeSetParams(cudaGraphNode_t n, const struct cudaMemcpy3DParms *p) API(put_memcpy(p, NODE))
cudaError_t cudaGraphMemcpyNodeSetParams1D(cudaGraphNode_t n, void *to, const void *from, size_t bytes,
                                           enum cudaMemcpyKind kind) API(put_memcpy_1d(to, from, bytes, kind, NODE))
cudaError_t cudaGraphMemcpyNodeSetParamsToSymbol(cudaGraphNode_t n, const void *symbol, const void *from, size_t bytes,
                                                 size_t offset, enum cudaMemcpyKind kind)
    API(put_symbol_copy(symbol, offset, (void *)from, bytes, kind, true, NODE))
cudaError_t cudaGraphMemcpyNodeSetParamsFromSymbol(cudaGraphNode_t n, void *to, const void *symbol, size_t bytes,
                                                   size_t offset, enum cudaMemcpyKind kind)
    API(put_symbol_copy(symbol, offset, to, bytes, kind, false, NODE))
cudaError_t cudaGraphMemsetNodeSetParams(cudaGraphNode_t n, const struct cudaMemsetParams *p) API(put_memset(p, NODE))
cudaError_t cudaGraphHostNodeSetParams(cudaGraphNode_t n, const struct cudaHostNodeParams *p) API(put_host(p, NODE))
cudaError_t cudaGraphEventRecordNodeSetEvent(cudaGraphNode_t n, cudaEvent_t event)
    API(put_event(TASK_EVENT_RECORD, event, NODE))
cudaError_t cudaGraphEventWaitNodeSetEvent(cudaGraphNode_t n, cudaEvent_t event)
    API(put_event(TASK_EVENT_WAIT, event, NODE))
cudaError_t cudaGraphNodeSetParams(cudaGraphNode_t n, struct cudaGraphNodeParams *p) API(put_any(p, NODE))

cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t n,
                                             const struct cudaKernelNodeParams *p) API(put_kernel(p, IN_EXEC))
cudaError_t cudaGraphExecMemcpyNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t n, const struct cudaMemcpy3DParms *p)
    API(put_memcpy(p, IN_EXEC))
cudaError_t cudaGraphExecMemcpyNodeSetParams1D(cudaGraphExec_t exec, cudaGraphNode_t n, void *to, const void *from,
                                               size_t bytes, enum cudaMemcpyKind kind)
    API(put_memcpy_1d(to, from, bytes, kind, IN_EXEC))
cudaError_t cudaGraphExecMemcpyNodeSetParamsToSymbol(cudaGraphExec_t exec, cudaGraphNode_t n, const void *symbol,
                                                     const void *from, size_t bytes, size_t offset,
                                                     enum cudaMemcpyKind kind)
    API(put_symbol_copy(symbol, offset, (void *)from, bytes, kind, true, IN_EXEC))
cudaError_t cudaGraphExecMemcpyNodeSetParamsFromSymbol(cudaGraphExec_t exec, cudaGraphNode_t n, void *to,
                                                       const void *symbol, size_t bytes, size_t offset,
                                                       enum cudaMemcpyKind kind)
    API(put_symbol_copy(symbol, offset, to, bytes, kind, false, IN_EXEC))
cudaError_t cudaGraphExecMemsetNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t n, const struct cudaMemsetParams *p)
    API(put_memset(p, IN_EXEC))
cudaError_t cudaGraphExecHostNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t n, const struct cudaHostNodeParams *p)
    API(put_host(p, IN_EXEC))
cudaError_t cudaGraphExecChildGraphNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t n, cudaGraph_t child)
    API(put_child(child, IN_EXEC))
cudaError_t cudaGraphExecEventRecordNodeSetEvent(cudaGraphExec_t exec, cudaGraphNode_t n, cudaEvent_t event)
    API(put_event(TASK_EVENT_RECORD, event, IN_EXEC))
cudaError_t cudaGraphExecEventWaitNodeSetEvent(cudaGraphExec_t exec, cudaGraphNode_t n, cudaEvent_t event)
    API(put_event(TASK_EVENT_WAIT, event, IN_EXEC))
cudaError_t cudaGraphExecNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t n, struct cudaGraphNodeParams *p)
    API(put_any(p, IN_EXEC))

/* Attributes of kernel nodes: cluster and cooperative change the work, the others are hints without effect here. */
static cudaError_t kernel_attribute(cudaGraphNode_t n, cudaLaunchAttributeID id, cudaLaunchAttributeValue *get,
                                    const cudaLaunchAttributeValue *set) {
    const task *t;
    TRY(task_of_kind(n, TASK_KERNEL, n, &t));
    kernel_task *k = &n->task->kernel; /* a node's own until it is shared by an executable */
    if (get) memset(get, 0, sizeof *get);
    if (set && n->task->references > 1) return softgpu_unsupported("cudaGraphKernelNodeSetAttribute after instantiation");
    if (id == cudaLaunchAttributeCooperative && get) get->cooperative = k->cooperative;
    if (id == cudaLaunchAttributeCooperative && set) k->cooperative = set->cooperative != 0;
    for (int i = 0; i < 3 && id == cudaLaunchAttributeClusterDimension; i++) {
        if (get) (&get->clusterDim.x)[i] = k->cluster[i];
        if (set) k->cluster[i] = (&set->clusterDim.x)[i];
    }
    return get || set ? cudaSuccess : cudaErrorInvalidValue;
}

static cudaError_t copy_kernel_attributes(cudaGraphNode_t to, cudaGraphNode_t from) {
    static const cudaLaunchAttributeID ids[] = {cudaLaunchAttributeCooperative, cudaLaunchAttributeClusterDimension};
    cudaLaunchAttributeValue value;
    for (int i = 0; i < 2; i++) {
        TRY(kernel_attribute(from, ids[i], &value, NULL));
        TRY(kernel_attribute(to, ids[i], NULL, &value));
    }
    return cudaSuccess;
}
cudaError_t cudaGraphKernelNodeGetAttribute(cudaGraphNode_t n, cudaLaunchAttributeID id, cudaLaunchAttributeValue *value)
    API(kernel_attribute(n, id, value, NULL))
cudaError_t cudaGraphKernelNodeSetAttribute(cudaGraphNode_t n, cudaLaunchAttributeID id,
                                            const cudaLaunchAttributeValue *value)
    API(kernel_attribute(n, id, NULL, value))
cudaError_t cudaGraphKernelNodeCopyAttributes(cudaGraphNode_t to, cudaGraphNode_t from)
    API(copy_kernel_attributes(to, from))
