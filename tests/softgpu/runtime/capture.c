/* Captures in progress: which streams take part, what invalidates them, and how they end. */
#include "runtime/graph.h"
#include "runtime/stream.h"
#include <stdlib.h>
#include <string.h>

struct capture {
    capture *next;
    graph *graph;
    bool borrowed; /* the graph was the program's: cudaStreamBeginCaptureToGraph */
    stream *origin;
    stream **members; /* all streams that joined, the origin first */
    int member_count;
    enum cudaStreamCaptureMode mode;
    thread_state *thread;
    bool invalid;
    unsigned long long id;
};

static capture *captures;
static unsigned long long next_id = 1;

bool node_list_add(node_list *list, cudaGraphNode_t n) {
    for (int i = 0; i < list->count; i++)
        if (list->nodes[i] == n) return true;
    cudaGraphNode_t *grown = realloc(list->nodes, (size_t)(list->count + 1) * sizeof *grown);
    if (!grown) return false;
    list->nodes = grown;
    list->nodes[list->count++] = n;
    return true;
}

void node_list_clear(node_list *list) {
    free(list->nodes);
    *list = (node_list){0};
}

static bool add_all(node_list *to, const node_list *from) {
    for (int i = 0; i < from->count; i++)
        if (!node_list_add(to, from->nodes[i])) return false;
    return true;
}

static cudaError_t join_stream(capture *k, stream *s) {
    stream **grown = realloc(k->members, (size_t)(k->member_count + 1) * sizeof *grown);
    if (!grown) return cudaErrorMemoryAllocation;
    k->members = grown;
    k->members[k->member_count++] = s;
    s->capture.capture = k;
    return cudaSuccess;
}

static void end(capture *k) {
    for (int i = 0; i < k->member_count; i++) {
        k->members[i]->capture.capture = NULL;
        node_list_clear(&k->members[i]->capture.tail);
    }
    for (capture **link = &captures; *link; link = &(*link)->next)
        if (*link == k) {
            *link = k->next;
            break;
        }
    events_forget_capture(k);
    free(k->members);
    free(k);
}

cudaError_t capture_append(stream *s, task *t) {
    capture *k = s->capture.capture;
    if (k->invalid) return task_release(t), cudaErrorStreamCaptureInvalidated;
    node *made;
    TRY(graph_add(k->graph, s->capture.tail.nodes, (size_t)s->capture.tail.count, t, node_type_of(t), &made));
    return capture_follow(s, made);
}

cudaError_t capture_follow(stream *s, cudaGraphNode_t made) {
    node_list_clear(&s->capture.tail);
    return node_list_add(&s->capture.tail, made) ? cudaSuccess : cudaErrorMemoryAllocation;
}

graph *capture_graph(stream *s) { return s->capture.capture->graph; }

cudaError_t capture_record(cudaEvent_t event, stream *s) {
    if (s->capture.capture->invalid) return cudaErrorStreamCaptureInvalidated;
    event->capture = s->capture.capture;
    return add_all(&event->captured, &s->capture.tail) ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t capture_join(stream *s, cudaEvent_t event) {
    capture *k = event->capture;
    if (k->invalid) return cudaErrorStreamCaptureInvalidated;
    if (s == s->context->legacy) return capture_invalidate(k->origin, cudaErrorStreamCaptureImplicit);
    if (s->capture.capture && s->capture.capture != k) {
        s->capture.capture->invalid = true;
        return capture_invalidate(k->origin, cudaErrorStreamCaptureMerge);
    }
    if (!s->capture.capture) TRY(join_stream(k, s));
    return add_all(&s->capture.tail, &event->captured) ? cudaSuccess : cudaErrorMemoryAllocation;
}

void capture_drop(stream *s) {
    capture *k = s->capture.capture;
    if (!k || s != k->origin) return;
    if (!k->borrowed) graph_release(k->graph);
    end(k);
}

cudaError_t capture_invalidate(stream *s, cudaError_t error) {
    for (capture *k = captures; k; k = k->next)
        if (s ? s->capture.capture == k : k->thread == this_thread()) k->invalid = true;
    return error;
}

cudaError_t capture_refuse_wait(stream *s) {
    if (s->capture.capture) return capture_invalidate(s, cudaErrorStreamCaptureUnsupported);
    return capture_refuse_implicit(s);
}

static bool blocks_legacy(const capture *k, const stream *s) {
    for (int i = 0; i < k->member_count; i++)
        if (k->members[i]->context == s->context && !(k->members[i]->flags & cudaStreamNonBlocking)) return true;
    return false;
}

static cudaError_t implicit_error(const stream *s, bool invalidates) {
    cudaError_t status = cudaSuccess;
    for (capture *k = captures; k && s == s->context->legacy; k = k->next) {
        if (!blocks_legacy(k, s)) continue;
        if (invalidates) k->invalid = true;
        status = cudaErrorStreamCaptureImplicit;
    }
    return status;
}

cudaError_t capture_refuse_implicit(stream *s) { return implicit_error(s, true); }

cudaError_t capture_refuse_unsafe(void) {
    cudaError_t status = cudaSuccess;
    enum cudaStreamCaptureMode mine = this_thread()->capture_mode;
    for (capture *k = captures; k; k = k->next) {
        bool own = k->thread == this_thread() && k->mode != cudaStreamCaptureModeRelaxed;
        bool others = k->mode == cudaStreamCaptureModeGlobal && mine == cudaStreamCaptureModeGlobal;
        if (mine == cudaStreamCaptureModeRelaxed || !(own || others)) continue;
        k->invalid = true;
        status = cudaErrorStreamCaptureUnsupported;
    }
    return status;
}

static cudaError_t begin(cudaStream_t handle, graph *into, const cudaGraphNode_t *after, size_t count,
                         enum cudaStreamCaptureMode mode) {
    stream *s;
    TRY(stream_of(handle, &s));
    if (mode < cudaStreamCaptureModeGlobal || mode > cudaStreamCaptureModeRelaxed) return cudaErrorInvalidValue;
    if (s == s->context->legacy) return cudaErrorStreamCaptureUnsupported;
    if (s->capture.capture) return capture_invalidate(s, cudaErrorIllegalState);
    capture *k = calloc(1, sizeof *k);
    if (!k) return cudaErrorMemoryAllocation;
    k->graph = into ? into : graph_create();
    k->borrowed = into != NULL;
    k->origin = s;
    k->mode = mode;
    k->thread = this_thread();
    k->id = next_id++;
    k->next = captures;
    captures = k;
    TRY(join_stream(k, s));
    for (size_t i = 0; i < count; i++)
        if (!node_list_add(&s->capture.tail, after[i])) return cudaErrorMemoryAllocation;
    return cudaSuccess;
}

/* Marks the nodes that the list depends on, itself included. */
static void mark(const node_list *list) {
    for (int i = 0; i < list->count; i++) {
        if (list->nodes[i]->index) continue;
        list->nodes[i]->index = 1;
        mark(&list->nodes[i]->after);
    }
}

static bool joined(const capture *k) {
    for (node *n = k->graph->first; n; n = n->next) n->index = 0;
    mark(&k->origin->capture.tail);
    for (int i = 0; i < k->member_count; i++)
        for (int j = 0; j < k->members[i]->capture.tail.count; j++)
            if (!k->members[i]->capture.tail.nodes[j]->index) return false;
    return true;
}

static cudaError_t finish(cudaStream_t handle, cudaGraph_t *made) {
    stream *s;
    TRY(stream_of(handle, &s));
    if (!made) return cudaErrorInvalidValue;
    capture *k = s->capture.capture;
    *made = NULL;
    if (!k) return cudaErrorIllegalState;
    if (s != k->origin) return capture_invalidate(s, cudaErrorStreamCaptureUnmatched);
    if (k->mode != cudaStreamCaptureModeRelaxed && k->thread != this_thread()) return cudaErrorStreamCaptureWrongThread;
    cudaError_t status = k->invalid    ? cudaErrorStreamCaptureInvalidated
                         : !joined(k) ? cudaErrorStreamCaptureUnjoined
                                      : cudaSuccess;
    if (status == cudaSuccess) *made = k->graph;
    else if (!k->borrowed) graph_release(k->graph);
    end(k);
    return status;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, enum cudaStreamCaptureMode mode)
    API(begin(handle, NULL, NULL, 0, mode))
cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t handle, cudaGraph_t into, const cudaGraphNode_t *after,
                                          const cudaGraphEdgeData *edges, size_t count, enum cudaStreamCaptureMode mode)
    API(edges             ? softgpu_unsupported("cudaStreamBeginCaptureToGraph with edge data")
        : graph_of(into) ? graph_of(into)
                          : begin(handle, into, after, count, mode))
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *made) API(finish(handle, made))

static enum cudaStreamCaptureStatus status_of(const stream *s) {
    const capture *k = s->capture.capture;
    return !k ? cudaStreamCaptureStatusNone : k->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}

static cudaError_t is_capturing(cudaStream_t handle, enum cudaStreamCaptureStatus *status) {
    stream *s;
    if (!status) return cudaErrorInvalidValue;
    TRY(stream_of(handle, &s));
    *status = status_of(s);
    return implicit_error(s, false);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t handle, enum cudaStreamCaptureStatus *status)
    API(is_capturing(handle, status))

static cudaError_t capture_info(cudaStream_t handle, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                cudaGraph_t *into, const cudaGraphNode_t **tail, const cudaGraphEdgeData **edges,
                                size_t *count) {
    stream *s;
    TRY(is_capturing(handle, status));
    TRY(stream_of(handle, &s));
    if (edges) *edges = NULL;
    if (!s->capture.capture) return cudaSuccess;
    if (id) *id = s->capture.capture->id;
    if (into) *into = s->capture.capture->graph;
    if (tail) *tail = s->capture.tail.nodes;
    if (count) *count = (size_t)s->capture.tail.count;
    return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *into, const cudaGraphNode_t **tail, const cudaGraphEdgeData **edges,
                                     size_t *count)
    API(capture_info(handle, status, id, into, tail, edges, count))

static cudaError_t update_tail(cudaStream_t handle, cudaGraphNode_t *nodes, size_t count, unsigned flags) {
    stream *s;
    TRY(stream_of(handle, &s));
    if (!s->capture.capture) return cudaErrorIllegalState;
    if (flags > cudaStreamSetCaptureDependencies || (count && !nodes)) return cudaErrorInvalidValue;
    for (size_t i = 0; i < count; i++) TRY(node_of(nodes[i]));
    if (flags == cudaStreamSetCaptureDependencies) node_list_clear(&s->capture.tail);
    for (size_t i = 0; i < count; i++)
        if (!node_list_add(&s->capture.tail, nodes[i])) return cudaErrorMemoryAllocation;
    return cudaSuccess;
}
cudaError_t cudaStreamUpdateCaptureDependencies(cudaStream_t handle, cudaGraphNode_t *nodes,
                                                const cudaGraphEdgeData *edges, size_t count, unsigned flags)
    API(edges ? softgpu_unsupported("cudaStreamUpdateCaptureDependencies with edge data")
              : update_tail(handle, nodes, count, flags))

static cudaError_t exchange_mode(enum cudaStreamCaptureMode *mode) {
    if (!mode || *mode < cudaStreamCaptureModeGlobal || *mode > cudaStreamCaptureModeRelaxed) return cudaErrorInvalidValue;
    enum cudaStreamCaptureMode before = this_thread()->capture_mode;
    this_thread()->capture_mode = *mode;
    *mode = before;
    return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) API(exchange_mode(mode))
