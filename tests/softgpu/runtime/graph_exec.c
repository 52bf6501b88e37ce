/* Executable graphs: plans, launches, updates. A launch is one task of its stream, whose nodes run in an order drawn
   from the seed among those that their edges allow. */
#include "runtime/graph.h"
#include "runtime/stream.h"
#include <stdlib.h>

enum { EXEC_MAGIC = 0x65786563 };

void plan_release(graph_plan *plan) {
    if (!plan || --plan->references > 0) return;
    for (int i = 0; i < plan->count; i++) {
        task_release(plan->nodes[i].task);
        free(plan->nodes[i].after);
    }
    free(plan->nodes);
    free(plan);
}

static bool plan_node(planned *p, const node *n) {
    p->source = n;
    p->task = task_retain(n->task);
    p->type = n->type;
    p->enabled = true;
    p->after = malloc(((size_t)n->after.count + 1) * sizeof *p->after);
    for (int i = 0; p->after && i < n->after.count; i++) p->after[i] = n->after.nodes[i]->index;
    p->after_count = n->after.count;
    return p->after != NULL;
}

static bool ready(const graph_plan *plan, int i, const bool *done) {
    if (done[i]) return false;
    for (int j = 0; j < plan->nodes[i].after_count; j++)
        if (!done[plan->nodes[i].after[j]]) return false;
    return true;
}

/* One of the nodes that may run now, each equally likely; -1 if none may. */
static int choose(const graph_plan *plan, const bool *done) {
    int chosen = -1;
    uint64_t candidates = 0;
    for (int i = 0; i < plan->count; i++)
        if (ready(plan, i, done) && random_below(++candidates) == 0) chosen = i;
    return chosen;
}

static bool has_cycle(const graph_plan *plan, bool *done) {
    for (bool progress = true; progress;) {
        progress = false;
        for (int i = 0; i < plan->count; i++)
            if (ready(plan, i, done)) done[i] = progress = true;
    }
    for (int i = 0; i < plan->count; i++)
        if (!done[i]) return true;
    return false;
}

cudaError_t plan_create(graph *g, graph_plan **made) {
    graph_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return cudaErrorMemoryAllocation;
    plan->references = 1;
    plan->nodes = calloc((size_t)g->count + 1, sizeof *plan->nodes);
    bool *done = calloc((size_t)g->count + 1, sizeof *done);
    bool ok = plan->nodes && done;
    int index = 0;
    for (node *n = g->first; n; n = n->next) n->index = index++;
    for (node *n = g->first; n && ok; n = n->next) ok = plan_node(&plan->nodes[plan->count++], n);
    cudaError_t status = !ok ? cudaErrorMemoryAllocation : has_cycle(plan, done) ? cudaErrorInvalidValue : cudaSuccess;
    free(done);
    if (status != cudaSuccess) return plan_release(plan), status;
    *made = plan;
    return cudaSuccess;
}

/* The lock is free here; the seed's generator is not, so it is drawn from under the lock. */
cudaError_t plan_run(const graph_plan *plan, context *c, double *seconds) {
    bool *done = calloc((size_t)plan->count + 1, sizeof *done);
    if (!done) return cudaErrorMemoryAllocation;
    cudaError_t status = cudaSuccess;
    for (int i; status == cudaSuccess;) {
        pthread_mutex_lock(&runtime_lock);
        i = choose(plan, done);
        pthread_mutex_unlock(&runtime_lock);
        if (i < 0) break;
        if (plan->nodes[i].enabled) status = task_run(plan->nodes[i].task, c, seconds);
        done[i] = true;
    }
    free(done);
    return status;
}

static cudaError_t exec_of(cudaGraphExec_t exec) {
    return exec && exec->magic == EXEC_MAGIC ? cudaSuccess : cudaErrorInvalidValue;
}

static cudaError_t instantiate(cudaGraphExec_t *made, cudaGraph_t g, unsigned long long flags) {
    const unsigned long long known = cudaGraphInstantiateFlagAutoFreeOnLaunch | cudaGraphInstantiateFlagUpload |
                                     cudaGraphInstantiateFlagUseNodePriority;
    if (!made) return cudaErrorInvalidValue;
    TRY(graph_of(g));
    if (flags & cudaGraphInstantiateFlagDeviceLaunch) return softgpu_unsupported("cudaGraphInstantiateFlagDeviceLaunch");
    if (flags & ~known) return cudaErrorInvalidValue;
    cudaGraphExec_t exec = calloc(1, sizeof *exec);
    if (!exec) return cudaErrorMemoryAllocation;
    exec->magic = EXEC_MAGIC;
    exec->flags = flags;
    cudaError_t status = plan_create(g, &exec->plan);
    if (status != cudaSuccess) return free(exec), status;
    exec->source = g;
    g->references++; /* nodes of the graph name the plan's nodes as long as it lives */
    *made = exec;
    return cudaSuccess;
}

static cudaError_t instantiate_with(cudaGraphExec_t *made, cudaGraph_t g, cudaGraphInstantiateParams *p) {
    if (!p) return cudaErrorInvalidValue;
    p->errNode_out = NULL;
    cudaError_t status = instantiate(made, g, p->flags);
    p->result_out = status == cudaSuccess ? cudaGraphInstantiateSuccess : cudaGraphInstantiateError;
    return status;
}

static cudaError_t exec_destroy(cudaGraphExec_t exec) {
    TRY(exec_of(exec));
    exec->magic = 0;
    plan_release(exec->plan);
    graph_release(exec->source);
    free(exec);
    return cudaSuccess;
}

/* External events: the whole launch waits for those that it waits for, and records its own when it is done. */
static cudaError_t wait_for_events(const graph_plan *plan, stream *s) {
    for (int i = 0; i < plan->count; i++) {
        const task *t = plan->nodes[i].task;
        if (t->kind != TASK_EVENT_WAIT || !t->event->at.stream) continue;
        TRY(queue_append(s, task_create(TASK_EMPTY, "graph event wait"), &t->event->at, 1, NULL));
    }
    return cudaSuccess;
}

static cudaError_t launch(cudaGraphExec_t exec, cudaStream_t handle) {
    stream *s;
    TRY(fault_or_success(SOFTGPU_LAUNCH));
    TRY(exec_of(exec));
    TRY(stream_of(handle, &s));
    task *t = task_create(TASK_PLAN, "cudaGraphLaunch");
    if (!t) return cudaErrorMemoryAllocation;
    t->plan.plan = exec->plan;
    exec->plan->references++;
    if (s->capture.capture) return stream_append(s, t);
    TRY(wait_for_events(exec->plan, s));
    TRY(stream_append(s, t));
    for (int i = 0; i < exec->plan->count; i++)
        if (exec->plan->nodes[i].task->kind == TASK_EVENT_RECORD)
            exec->plan->nodes[i].task->event->at = (place){s, s->queued};
    return cudaSuccess;
}

/* Launches already queued hold the old plan: change a copy when one does. */
static cudaError_t own_plan(cudaGraphExec_t exec) {
    graph_plan *old = exec->plan;
    if (old->references == 1) return cudaSuccess;
    graph_plan *copy = calloc(1, sizeof *copy);
    if (!copy || !(copy->nodes = calloc((size_t)old->count + 1, sizeof *copy->nodes))) {
        free(copy);
        return cudaErrorMemoryAllocation;
    }
    copy->references = 1;
    for (copy->count = 0; copy->count < old->count; copy->count++) {
        const planned *from = &old->nodes[copy->count];
        planned *to = &copy->nodes[copy->count];
        *to = *from;
        to->task = task_retain(from->task);
        to->after = malloc(((size_t)from->after_count + 1) * sizeof *to->after);
        if (!to->after) return copy->count++, plan_release(copy), cudaErrorMemoryAllocation;
        for (int i = 0; i < from->after_count; i++) to->after[i] = from->after[i];
    }
    plan_release(old);
    exec->plan = copy;
    return cudaSuccess;
}

static cudaError_t planned_of(cudaGraphExec_t exec, cudaGraphNode_t n, planned **found) {
    TRY(exec_of(exec));
    TRY(node_of(n));
    TRY(own_plan(exec));
    for (int i = 0; i < exec->plan->count; i++)
        if (exec->plan->nodes[i].source == n) return *found = &exec->plan->nodes[i], cudaSuccess;
    return cudaErrorInvalidValue;
}

cudaError_t exec_set_task(cudaGraphExec_t exec, cudaGraphNode_t n, task *t) {
    planned *p;
    cudaError_t status = planned_of(exec, n, &p);
    if (status == cudaSuccess && p->task->kind != t->kind) status = cudaErrorInvalidValue;
    if (status != cudaSuccess) return task_release(t), status;
    task_release(p->task);
    p->task = t;
    return cudaSuccess;
}

cudaError_t exec_task(cudaGraphExec_t exec, cudaGraphNode_t n, const task **t) {
    planned *p;
    TRY(planned_of(exec, n, &p));
    *t = p->task;
    return cudaSuccess;
}

static enum cudaGraphExecUpdateResult compare(const graph_plan *old, const graph_plan *new, int *where) {
    *where = -1;
    if (old->count != new->count) return cudaGraphExecUpdateErrorTopologyChanged;
    for (int i = 0; i < old->count; i++) {
        const planned *a = &old->nodes[i], *b = &new->nodes[i];
        *where = i;
        if (a->type != b->type) return cudaGraphExecUpdateErrorNodeTypeChanged;
        if (a->after_count != b->after_count) return cudaGraphExecUpdateErrorTopologyChanged;
        for (int j = 0; j < a->after_count; j++)
            if (a->after[j] != b->after[j]) return cudaGraphExecUpdateErrorTopologyChanged;
    }
    *where = -1;
    return cudaGraphExecUpdateSuccess;
}

static cudaError_t update(cudaGraphExec_t exec, cudaGraph_t g, cudaGraphExecUpdateResultInfo *info) {
    graph_plan *plan;
    int where;
    if (!info) return cudaErrorInvalidValue;
    *info = (cudaGraphExecUpdateResultInfo){.result = cudaGraphExecUpdateError};
    TRY(exec_of(exec));
    TRY(graph_of(g));
    TRY(plan_create(g, &plan));
    info->result = compare(exec->plan, plan, &where);
    if (where >= 0) info->errorNode = (cudaGraphNode_t)plan->nodes[where].source;
    if (info->result != cudaGraphExecUpdateSuccess) return plan_release(plan), cudaErrorGraphExecUpdateFailure;
    for (int i = 0; i < plan->count; i++) { /* the program goes on naming nodes of the graph it instantiated */
        plan->nodes[i].source = exec->plan->nodes[i].source;
        plan->nodes[i].enabled = exec->plan->nodes[i].enabled;
    }
    plan_release(exec->plan);
    exec->plan = plan;
    return cudaSuccess;
}

static cudaError_t enabled(cudaGraphExec_t exec, cudaGraphNode_t n, unsigned *get, const unsigned *set) {
    planned *p;
    TRY(planned_of(exec, n, &p));
    bool switchable = p->type == cudaGraphNodeTypeKernel || p->type == cudaGraphNodeTypeMemcpy ||
                      p->type == cudaGraphNodeTypeMemset;
    if (!switchable || (!get && !set)) return cudaErrorInvalidValue;
    if (set) p->enabled = *set != 0;
    if (get) *get = p->enabled;
    return cudaSuccess;
}

static cudaError_t get_flags(cudaGraphExec_t exec, unsigned long long *flags) {
    if (!flags) return cudaErrorInvalidValue;
    TRY(exec_of(exec));
    *flags = exec->flags;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long flags)
    API(instantiate(exec, g, flags))
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long flags)
    API(instantiate(exec, g, flags))
cudaError_t cudaGraphInstantiateWithParams(cudaGraphExec_t *exec, cudaGraph_t g, cudaGraphInstantiateParams *p)
    API(instantiate_with(exec, g, p))
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) API(exec_destroy(exec))
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) API(launch(exec, handle))
cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t handle) API(((void)handle, exec_of(exec)))
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t g, cudaGraphExecUpdateResultInfo *info)
    API(update(exec, g, info))
cudaError_t cudaGraphNodeSetEnabled(cudaGraphExec_t exec, cudaGraphNode_t n, unsigned is_enabled)
    API(enabled(exec, n, NULL, &is_enabled))
cudaError_t cudaGraphNodeGetEnabled(cudaGraphExec_t exec, cudaGraphNode_t n, unsigned *is_enabled)
    API(enabled(exec, n, is_enabled, NULL))
cudaError_t cudaGraphExecGetFlags(cudaGraphExec_t exec, unsigned long long *flags) API(get_flags(exec, flags))
