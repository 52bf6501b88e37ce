/* Graphs as the program builds them: nodes, edges, clones, user objects. */
#include "runtime/graph.h"
#include <stdio.h>
#include <stdlib.h>

enum { GRAPH_MAGIC = 0x67726170, NODE_MAGIC = 0x6e6f6465 };

struct CUuserObject_st {
    cudaHostFn_t destroy;
    void *pointer;
    unsigned references;
};

graph *graph_create(void) {
    graph *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->magic = GRAPH_MAGIC;
    g->references = 1;
    return g;
}

cudaError_t graph_of(cudaGraph_t handle) {
    return handle && handle->magic == GRAPH_MAGIC ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t node_of(cudaGraphNode_t handle) {
    return handle && handle->magic == NODE_MAGIC ? cudaSuccess : cudaErrorInvalidValue;
}

static void node_free(node *n) {
    n->magic = 0;
    task_release(n->task);
    node_list_clear(&n->after);
    free(n);
}

static void object_release(cudaUserObject_t object, unsigned count) {
    object->references -= count < object->references ? count : object->references;
    if (object->references > 0) return;
    object->destroy(object->pointer);
    free(object);
}

void graph_release(graph *g) {
    if (!g || --g->references > 0) return;
    while (g->first) {
        node *next = g->first->next;
        node_free(g->first);
        g->first = next;
    }
    while (g->users) {
        user_reference *next = g->users->next;
        object_release(g->users->object, g->users->count);
        free(g->users);
        g->users = next;
    }
    g->magic = 0;
    free(g);
}

enum cudaGraphNodeType node_type_of(const task *t) {
    static const enum cudaGraphNodeType types[] = {
        [TASK_KERNEL] = cudaGraphNodeTypeKernel,
        [TASK_COPY] = cudaGraphNodeTypeMemcpy,
        [TASK_FILL] = cudaGraphNodeTypeMemset,
        [TASK_HOST] = cudaGraphNodeTypeHost,
        [TASK_EMPTY] = cudaGraphNodeTypeEmpty,
        [TASK_EVENT_RECORD] = cudaGraphNodeTypeEventRecord,
        [TASK_EVENT_WAIT] = cudaGraphNodeTypeWaitEvent,
        [TASK_FREE] = cudaGraphNodeTypeMemFree,
        [TASK_GRAPH_FREE] = cudaGraphNodeTypeMemFree,
        [TASK_ALLOC] = cudaGraphNodeTypeMemAlloc,
        [TASK_LIBRARY] = cudaGraphNodeTypeKernel,
        [TASK_PLAN] = cudaGraphNodeTypeGraph,
    };
    return types[t->kind];
}

graph *node_child(const node *n) { return n->task->kind == TASK_PLAN ? n->task->plan.graph : NULL; }

cudaError_t graph_add(graph *g, const cudaGraphNode_t *after, size_t after_count, task *t, enum cudaGraphNodeType type,
                      node **made) {
    node *n = calloc(1, sizeof *n);
    if (!n) return task_release(t), cudaErrorMemoryAllocation;
    *n = (node){.magic = NODE_MAGIC, .graph = g, .task = t, .type = type};
    for (size_t i = 0; i < after_count; i++) {
        cudaError_t status = node_of(after[i]);
        if (status == cudaSuccess && after[i]->graph != g) status = cudaErrorInvalidValue;
        if (status == cudaSuccess && !node_list_add(&n->after, after[i])) status = cudaErrorMemoryAllocation;
        if (status != cudaSuccess) return node_free(n), status;
    }
    if (g->last) g->last->next = n;
    else g->first = n;
    g->last = n;
    g->count++;
    *made = n;
    return cudaSuccess;
}

cudaError_t node_set_task(node *n, task *t) {
    if (t->kind != n->task->kind) return task_release(t), cudaErrorInvalidValue;
    task_release(n->task);
    n->task = t;
    return cudaSuccess;
}

cudaError_t graph_clone(graph *g, graph **clone) {
    graph *copy = graph_create();
    if (!copy) return cudaErrorMemoryAllocation;
    copy->original = g;
    node **made = calloc((size_t)g->count + 1, sizeof *made);
    cudaError_t status = made ? cudaSuccess : cudaErrorMemoryAllocation;
    int i = 0;
    for (node *n = g->first; n && status == cudaSuccess; n = n->next, i++) {
        n->index = i;
        status = graph_add(copy, NULL, 0, task_retain(n->task), n->type, &made[i]);
        if (status == cudaSuccess) made[i]->original = n;
    }
    for (node *n = g->first; n && status == cudaSuccess; n = n->next)
        for (int j = 0; j < n->after.count; j++)
            if (!node_list_add(&made[n->index]->after, made[n->after.nodes[j]->index])) status = cudaErrorMemoryAllocation;
    free(made);
    if (status != cudaSuccess) return graph_release(copy), status;
    *clone = copy;
    return cudaSuccess;
}

static cudaError_t create(cudaGraph_t *handle, unsigned flags) {
    if (!handle || flags) return cudaErrorInvalidValue;
    return (*handle = graph_create()) ? cudaSuccess : cudaErrorMemoryAllocation;
}

static cudaError_t destroy(cudaGraph_t handle) {
    TRY(graph_of(handle));
    graph_release(handle);
    return cudaSuccess;
}

static cudaError_t clone_of(cudaGraph_t *made, cudaGraph_t handle) {
    if (!made) return cudaErrorInvalidValue;
    TRY(graph_of(handle));
    return graph_clone(handle, made);
}

static void drop_dependency(node *n, const node *dependency) {
    for (int i = 0; i < n->after.count; i++)
        if (n->after.nodes[i] == dependency) {
            n->after.nodes[i] = n->after.nodes[--n->after.count];
            return;
        }
}

static cudaError_t destroy_node(cudaGraphNode_t handle) {
    TRY(node_of(handle));
    graph *g = handle->graph;
    node *before = NULL;
    for (node *n = g->first; n; n = n->next) {
        drop_dependency(n, handle);
        if (n->next == handle) before = n;
    }
    if (before) before->next = handle->next;
    else g->first = handle->next;
    if (g->last == handle) g->last = before;
    g->count--;
    node_free(handle);
    return cudaSuccess;
}

static bool depends(const node *n, const node *on) {
    for (int i = 0; i < n->after.count; i++)
        if (n->after.nodes[i] == on) return true;
    return false;
}

static cudaError_t change_edges(cudaGraph_t g, const cudaGraphNode_t *from, const cudaGraphNode_t *to, size_t count,
                                bool add) {
    TRY(graph_of(g));
    for (size_t i = 0; i < count; i++) {
        TRY(node_of(from[i]));
        TRY(node_of(to[i]));
        bool same_graph = from[i]->graph == g && to[i]->graph == g && from[i] != to[i];
        if (!same_graph || depends(to[i], from[i]) == add) return cudaErrorInvalidValue;
    }
    for (size_t i = 0; i < count; i++) {
        if (!add) drop_dependency(to[i], from[i]);
        else if (!node_list_add(&to[i]->after, from[i])) return cudaErrorMemoryAllocation;
    }
    return cudaSuccess;
}

/* CUDA's way to return lists: with no array the count; else as many as fit, the rest of the array NULL. */
typedef struct list_writer {
    cudaGraphNode_t *first, *second;
    size_t capacity, count;
} list_writer;

static void write_pair(list_writer *w, node *a, node *b) {
    if (w->first && w->count < w->capacity) w->first[w->count] = a;
    if (w->second && w->count < w->capacity) w->second[w->count] = b;
    w->count++;
}

static cudaError_t end_list(list_writer *w, size_t *count) {
    for (size_t i = w->count; i < w->capacity && w->first; i++) w->first[i] = NULL;
    for (size_t i = w->count; i < w->capacity && w->second; i++) w->second[i] = NULL;
    *count = w->first || w->second ? (w->count < w->capacity ? w->count : w->capacity) : w->count;
    return cudaSuccess;
}

static cudaError_t list_nodes(cudaGraph_t g, cudaGraphNode_t *nodes, size_t *count, bool roots_only) {
    if (!count) return cudaErrorInvalidValue;
    TRY(graph_of(g));
    list_writer w = {.first = nodes, .capacity = *count};
    for (node *n = g->first; n; n = n->next)
        if (!roots_only || n->after.count == 0) write_pair(&w, n, NULL);
    return end_list(&w, count);
}

static cudaError_t list_edges(cudaGraph_t g, cudaGraphNode_t *from, cudaGraphNode_t *to, size_t *count) {
    if (!count) return cudaErrorInvalidValue;
    TRY(graph_of(g));
    list_writer w = {.first = from, .second = to, .capacity = *count};
    for (node *n = g->first; n; n = n->next)
        for (int i = 0; i < n->after.count; i++) write_pair(&w, n->after.nodes[i], n);
    return end_list(&w, count);
}

static cudaError_t list_neighbours(cudaGraphNode_t handle, cudaGraphNode_t *nodes, size_t *count, bool dependents) {
    if (!count) return cudaErrorInvalidValue;
    TRY(node_of(handle));
    list_writer w = {.first = nodes, .capacity = *count};
    if (!dependents)
        for (int i = 0; i < handle->after.count; i++) write_pair(&w, handle->after.nodes[i], NULL);
    for (node *n = handle->graph->first; n && dependents; n = n->next)
        if (depends(n, handle)) write_pair(&w, n, NULL);
    return end_list(&w, count);
}

static cudaError_t type_of(cudaGraphNode_t handle, enum cudaGraphNodeType *type) {
    if (!type) return cudaErrorInvalidValue;
    TRY(node_of(handle));
    *type = handle->type;
    return cudaSuccess;
}

static cudaError_t find_in_clone(cudaGraphNode_t *found, cudaGraphNode_t original, cudaGraph_t copy) {
    if (!found) return cudaErrorInvalidValue;
    TRY(node_of(original));
    TRY(graph_of(copy));
    for (node *n = copy->first; n; n = n->next)
        if (n->original == original) return *found = n, cudaSuccess;
    return cudaErrorInvalidValue;
}

static cudaError_t dot_print(cudaGraph_t g, const char *path) {
    TRY(graph_of(g));
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return cudaErrorOperatingSystem;
    fputs("digraph {\n", file);
    int index = 0;
    for (node *n = g->first; n; n = n->next) {
        n->index = index++;
        fprintf(file, "  n%d [label=\"%d %s\"]\n", n->index, n->index, n->task->what);
    }
    for (node *n = g->first; n; n = n->next)
        for (int i = 0; i < n->after.count; i++) fprintf(file, "  n%d -> n%d\n", n->after.nodes[i]->index, n->index);
    fputs("}\n", file);
    return fclose(file) == 0 ? cudaSuccess : cudaErrorOperatingSystem;
}

cudaError_t cudaGraphCreate(cudaGraph_t *g, unsigned flags) API(create(g, flags))
cudaError_t cudaGraphDestroy(cudaGraph_t g) API(destroy(g))
cudaError_t cudaGraphClone(cudaGraph_t *made, cudaGraph_t g) API(clone_of(made, g))
cudaError_t cudaGraphDestroyNode(cudaGraphNode_t n) API(destroy_node(n))
cudaError_t cudaGraphAddDependencies(cudaGraph_t g, const cudaGraphNode_t *from, const cudaGraphNode_t *to,
                                     const cudaGraphEdgeData *edges, size_t count)
    API(edges ? softgpu_unsupported("cudaGraphAddDependencies with edge data") : change_edges(g, from, to, count, true))
cudaError_t cudaGraphRemoveDependencies(cudaGraph_t g, const cudaGraphNode_t *from, const cudaGraphNode_t *to,
                                        const cudaGraphEdgeData *edges, size_t count)
    API(edges ? softgpu_unsupported("cudaGraphRemoveDependencies with edge data")
              : change_edges(g, from, to, count, false))
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *nodes, size_t *count) API(list_nodes(g, nodes, count, false))
cudaError_t cudaGraphGetRootNodes(cudaGraph_t g, cudaGraphNode_t *nodes, size_t *count)
    API(list_nodes(g, nodes, count, true))
cudaError_t cudaGraphGetEdges(cudaGraph_t g, cudaGraphNode_t *from, cudaGraphNode_t *to, cudaGraphEdgeData *edges,
                              size_t *count)
    API(edges ? softgpu_unsupported("cudaGraphGetEdges with edge data") : list_edges(g, from, to, count))
cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t n, cudaGraphNode_t *nodes, cudaGraphEdgeData *edges,
                                         size_t *count)
    API(edges ? softgpu_unsupported("cudaGraphNodeGetDependencies with edge data")
              : list_neighbours(n, nodes, count, false))
cudaError_t cudaGraphNodeGetDependentNodes(cudaGraphNode_t n, cudaGraphNode_t *nodes, cudaGraphEdgeData *edges,
                                           size_t *count)
    API(edges ? softgpu_unsupported("cudaGraphNodeGetDependentNodes with edge data")
              : list_neighbours(n, nodes, count, true))
cudaError_t cudaGraphNodeGetType(cudaGraphNode_t n, enum cudaGraphNodeType *type) API(type_of(n, type))
cudaError_t cudaGraphNodeFindInClone(cudaGraphNode_t *found, cudaGraphNode_t original, cudaGraph_t copy)
    API(find_in_clone(found, original, copy))
cudaError_t cudaGraphDebugDotPrint(cudaGraph_t g, const char *path, unsigned flags) API(((void)flags, dot_print(g, path)))

static cudaError_t object_create(cudaUserObject_t *made, void *pointer, cudaHostFn_t destructor, unsigned references,
                                 unsigned flags) {
    if (!made || !destructor || references == 0 || flags != cudaUserObjectNoDestructorSync) return cudaErrorInvalidValue;
    cudaUserObject_t object = malloc(sizeof *object);
    if (!object) return cudaErrorMemoryAllocation;
    *object = (struct CUuserObject_st){destructor, pointer, references};
    *made = object;
    return cudaSuccess;
}

static cudaError_t object_count(cudaUserObject_t object, unsigned count, bool up) {
    if (!object || count == 0 || (!up && count > object->references)) return cudaErrorInvalidValue;
    if (up) object->references += count;
    else object_release(object, count);
    return cudaSuccess;
}

static cudaError_t graph_object(cudaGraph_t g, cudaUserObject_t object, unsigned count, bool retain, unsigned flags) {
    TRY(graph_of(g));
    if (!object || count == 0) return cudaErrorInvalidValue;
    user_reference **link = &g->users;
    while (*link && (*link)->object != object) link = &(*link)->next;
    if (retain && !*link) *link = calloc(1, sizeof **link);
    if (!*link) return retain ? cudaErrorMemoryAllocation : cudaErrorInvalidValue;
    (*link)->object = object;
    if (!retain && count > (*link)->count) return cudaErrorInvalidValue;
    (*link)->count = retain ? (*link)->count + count : (*link)->count - count;
    if (retain && !(flags & cudaGraphUserObjectMove)) object->references += count;
    if (!retain) object_release(object, count);
    return cudaSuccess;
}

cudaError_t cudaUserObjectCreate(cudaUserObject_t *object, void *pointer, cudaHostFn_t destructor, unsigned references,
                                 unsigned flags) API(object_create(object, pointer, destructor, references, flags))
cudaError_t cudaUserObjectRetain(cudaUserObject_t object, unsigned count) API(object_count(object, count, true))
cudaError_t cudaUserObjectRelease(cudaUserObject_t object, unsigned count) API(object_count(object, count, false))
cudaError_t cudaGraphRetainUserObject(cudaGraph_t g, cudaUserObject_t object, unsigned count, unsigned flags)
    API(graph_object(g, object, count, true, flags))
cudaError_t cudaGraphReleaseUserObject(cudaGraph_t g, cudaUserObject_t object, unsigned count)
    API(graph_object(g, object, count, false, 0))
