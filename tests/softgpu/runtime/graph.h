/* Graphs of tasks: nodes with dependencies, and the plans that executables run. A plan is an immutable snapshot, so
   that an update never changes a launch that is already queued. */
#ifndef SOFTGPU_RUNTIME_GRAPH_H
#define SOFTGPU_RUNTIME_GRAPH_H

#include "runtime/capture.h"
#include "runtime/task.h"

typedef struct CUgraph_st graph;
typedef struct CUgraphNode_st node;

struct CUgraphNode_st {
    uint32_t magic;
    graph *graph;
    node *next;           /* in its graph, in order of creation */
    task *task;
    enum cudaGraphNodeType type;
    node_list after;      /* its dependencies */
    node *original;       /* in the graph it was cloned from */
    int index;            /* scratch: its place in a plan */
};

typedef struct user_reference {
    struct user_reference *next;
    cudaUserObject_t object;
    unsigned count;
} user_reference;

struct CUgraph_st {
    uint32_t magic;
    int references;       /* the program's, and one for each plan that keeps its memory alive */
    node *first, *last;
    int count;
    graph *original;
    user_reference *users;
};

typedef struct planned {
    task *task;
    enum cudaGraphNodeType type;
    bool enabled;
    int *after, after_count; /* indices */
    const node *source;
} planned;

struct graph_plan {
    int references;
    int count;
    planned *nodes;
};

struct CUgraphExec_st {
    uint32_t magic;
    graph_plan *plan;
    graph *source; /* kept alive, since the program names the plan's nodes by it */
    unsigned long long flags;
};

graph *graph_create(void);
void graph_release(graph *g);
cudaError_t graph_of(cudaGraph_t handle);
cudaError_t node_of(cudaGraphNode_t handle);
/* Adds a node; takes the task's reference, even where it fails. */
cudaError_t graph_add(graph *g, const cudaGraphNode_t *after, size_t after_count, task *t, enum cudaGraphNodeType type,
                      node **made);
enum cudaGraphNodeType node_type_of(const task *t);
cudaError_t graph_clone(graph *g, graph **clone);

/* A plan in topological order; cudaErrorInvalidValue for a cycle. */
cudaError_t plan_create(graph *g, graph_plan **plan);
void plan_release(graph_plan *plan);
cudaError_t plan_run(const graph_plan *plan, context *c, double *seconds);

/* Takes the reference of the task, of the kind that the node has, as its new work. */
cudaError_t node_set_task(node *n, task *t);
graph *node_child(const node *n); /* NULL if it holds none */

/* graph_exec.c: the plan's copy of a node's work; exec_set_task takes the reference */
cudaError_t exec_set_task(cudaGraphExec_t exec, cudaGraphNode_t n, task *t);
cudaError_t exec_task(cudaGraphExec_t exec, cudaGraphNode_t n, const task **t);

/* graph_parameters.c: tasks from the API's parameter structs */
cudaError_t task_of_kernel(const struct cudaKernelNodeParams *p, const task *attributes, task **made);
cudaError_t task_of_memcpy(const struct cudaMemcpy3DParms *p, task **made);
cudaError_t task_of_memset(const struct cudaMemsetParams *p, task **made);
cudaError_t task_of_host(const struct cudaHostNodeParams *p, task **made);
cudaError_t task_of_event(task_kind kind, cudaEvent_t event, task **made);
cudaError_t task_of_child(graph *child, task **made);
cudaError_t task_of_alloc(context *c, size_t bytes, task **made);
cudaError_t task_of_free(uint64_t address, task **made);
cudaError_t task_of_parameters(struct cudaGraphNodeParams *p, task **made);
struct cudaKernelNodeParams kernel_parameters(const task *t);
struct cudaMemcpy3DParms memcpy_parameters(const task *t);
struct cudaMemsetParams memset_parameters(const task *t);

#endif
