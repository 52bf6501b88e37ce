/* Stream capture: what a capturing stream is given becomes nodes of a graph; what would break the graph's isolation
   is refused with CUDA's own error and invalidates the capture. */
#ifndef SOFTGPU_RUNTIME_CAPTURE_H
#define SOFTGPU_RUNTIME_CAPTURE_H

#include "runtime/state.h"

typedef struct node_list {
    cudaGraphNode_t *nodes;
    int count;
} node_list;
bool node_list_add(node_list *list, cudaGraphNode_t node); /* once; false without memory */
void node_list_clear(node_list *list);

typedef struct capture capture;
typedef struct capture_state { /* in each stream */
    capture *capture; /* NULL: not capturing */
    node_list tail;   /* what the next node will depend on */
} capture_state;

struct task;
cudaError_t capture_append(stream *s, struct task *t); /* takes the reference */
/* The graph under capture, for nodes that are added some other way, and their place in the stream. */
struct CUgraph_st *capture_graph(stream *s);
cudaError_t capture_follow(stream *s, cudaGraphNode_t made);
cudaError_t capture_record(cudaEvent_t event, stream *s);
cudaError_t capture_join(stream *s, cudaEvent_t event);
void events_forget_capture(const capture *k); /* it is over; event.c */
/* The stream is going away: the capture that began on it ends. Another that it joined goes on, with what it was given. */
void capture_drop(stream *s);

/* Invalidates the stream's capture (NULL: those of the calling thread) and returns the error. */
cudaError_t capture_invalidate(stream *s, cudaError_t error);
/* The error if the stream captures: it cannot be waited for. */
cudaError_t capture_refuse_wait(stream *s);
/* The error if the legacy default stream is used while a stream that synchronises with it captures. */
cudaError_t capture_refuse_implicit(stream *s);
/* The error if a call is unsafe while this thread (or, by mode, any) captures: cudaMalloc, cudaDeviceSynchronize, … */
cudaError_t capture_refuse_unsafe(void);

#endif
