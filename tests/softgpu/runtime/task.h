/* A task: one piece of work for a device or for the host, complete in itself and immutable, so that a stream's queue,
   a graph, its clones and its executables can all share it. */
#ifndef SOFTGPU_RUNTIME_TASK_H
#define SOFTGPU_RUNTIME_TASK_H

#include "runtime/module.h"

typedef struct graph_plan graph_plan;

typedef enum task_kind {
    TASK_KERNEL,
    TASK_COPY,
    TASK_FILL,
    TASK_HOST,
    TASK_EMPTY,        /* a join, or the wait for an event */
    TASK_EVENT_RECORD,
    TASK_EVENT_WAIT,   /* in a graph only */
    TASK_FREE,
    TASK_ALLOC,        /* in a graph only: the task owns memory that has its address from the node's creation on */
    TASK_GRAPH_FREE,   /* in a graph only: the memory stays the allocating node's */
    TASK_LIBRARY,      /* queued by a sister library */
    TASK_PLAN          /* a whole executable graph, or a child graph */
} task_kind;

typedef struct kernel_task {
    const function *function;
    unsigned grid[3], block[3], cluster[3];
    int64_t shared;
    bool cooperative, early;
    uint64_t stream; /* its id; 0 in graphs */
    int count;        /* of arguments */
    void **arguments; /* copies */
} kernel_task;

typedef struct copy_task { /* width bytes × height rows × depth slices; pitches and slices in bytes */
    uint64_t to, from;
    int64_t to_pitch, to_slice, from_pitch, from_slice;
    int64_t width, height, depth;
    enum cudaMemcpyKind kind;
    void *staged; /* the pageable source's bytes at the time of the call, packed; NULL: read `from` when run */
} copy_task;

typedef struct fill_task { /* width elements × height rows × depth slices */
    uint64_t to;
    int64_t pitch, slice, width, height, depth;
    int element_bytes; /* 1, 2 or 4 */
    unsigned value;
} fill_task;

typedef struct host_task {
    cudaHostFn_t function;
    cudaStreamCallback_t callback; /* instead of function: of cudaStreamAddCallback, which also tells the status */
    cudaStream_t stream;
    void *data;
} host_task;

typedef struct task {
    int references;
    task_kind kind;
    const char *what; /* the API call, for findings */
    union {
        kernel_task kernel;
        copy_task copy;
        fill_task fill;
        host_task host;
        cudaEvent_t event;
        struct {
            uint64_t address;
            int64_t bytes;
            pool *pool; /* to be told of the free; NULL for none */
        } memory;
        struct {
            softgpu_work *work;
            void *argument;
            size_t bytes;
        } library;
        struct {
            graph_plan *plan;
            void *graph; /* a child graph: the embedded clone */
        } plan;
    };
} task;

/* NULL without memory. The task has one reference. */
task *task_create(task_kind kind, const char *what);
task *task_kernel(const kernel_task *kernel, const sg_function_info *info, void *const *arguments, const char *what);
task *task_retain(task *t);
void task_release(task *t);

bool task_calls_host(const task *t); /* it is a host function, or a graph with one */

/* Runs the task to its end, without the lock; `seconds` gains its modelled duration. */
cudaError_t task_run(const task *t, context *c, double *seconds);
cudaError_t copy_run(const copy_task *copy, const char *what);

#endif
