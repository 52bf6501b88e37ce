/* A context over several devices: each has a context, plans of the whole problem, and a share of each run. A
   share is boxes of the problem, so that no bit depends on how many there are. Tensors lie on the host; no
   device reads another's memory. */
#include "gpu/gpu.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct group {
    int count;
    attend_context *contexts; /* [count] */
    attend_progress *progress;
    void *user;
    bool cancelled;
} group;

typedef struct group_plan {
    attend_plan *plans; /* [count] */
    int made;
} group_plan;

/* ---- contexts ---- */

static void destroy(group *g)
{
    for (int i = 0; i < g->count; i++)
        if (g->contexts[i].state) attend_gpu_context_destroy(&g->contexts[i]);
    free(g->contexts);
    free(g);
}

static void context_destroy(attend_context *context) { destroy(context->state); }

static attend_status synchronize(attend_context *context)
{
    const group *g = context->state;
    attend_status status = ATTEND_OK;
    for (int i = 0; i < g->count; i++) {
        const attend_status now = attend_gpu_synchronize(&g->contexts[i]);
        if (!status) status = now;
    }
    return status;
}

/* The first device's share, which the calling thread runs, stands for all. */
static bool report_first(void *user, int64_t done, int64_t total)
{
    group *g = user;
    const bool goes_on = g->progress(g->user, done, total);
    if (!goes_on) __atomic_store_n(&g->cancelled, true, __ATOMIC_RELAXED);
    return goes_on;
}

static bool go_on(void *user, int64_t done, int64_t total)
{
    (void)done, (void)total;
    return !__atomic_load_n(&((group *)user)->cancelled, __ATOMIC_RELAXED);
}

static attend_status open_contexts(group *g, attend_context_options options, const int *devices)
{
    for (int i = 0; i < g->count; i++) {
        attend_context *one = &g->contexts[i];
        options.device_index = devices[i];
        one->backend = &attend_gpu_backend;
        if (g->progress)
            one->tracker = (attend_progress_tracker){.progress = i ? go_on : report_first, .user = g};
        ATTEND_TRY(attend_gpu_context_create(&options, one));
        const int first = ((attend_gpu_context *)g->contexts[0].state)->architecture,
                  here = ((attend_gpu_context *)one->state)->architecture;
        if (here != first)
            return attend_fail(
                ATTEND_UNSUPPORTED,
                "devices[%d] has sm_%d, but devices[0] has sm_%d: other kernels give other bits", i, here,
                first);
    }
    return ATTEND_OK;
}

attend_status attend_gpu_group_create(const attend_context_options *options, const int *devices, int count,
                                      attend_context *context)
{
    group *g = calloc(1, sizeof *g);
    if (g) g->contexts = calloc((size_t)count, sizeof *g->contexts);
    if (!g || !g->contexts) {
        free(g);
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a context");
    }
    g->count = count, g->progress = options->progress, g->user = options->progress_user;
    const attend_status status = open_contexts(g, *options, devices);
    if (status) {
        destroy(g);
        return status;
    }
    snprintf(context->name, sizeof context->name, "%d devices: %.100s", count, g->contexts[0].name);
    context->state = g, context->tracker = (attend_progress_tracker){0}; /* the first device's reports */
    return ATTEND_OK;
}

/* ---- plans ---- */

static void free_plans(group_plan *own)
{
    for (int i = 0; i < own->made; i++) attend_gpu_backend.plan_destroy(&own->plans[i]);
    free(own->plans);
    free(own);
}

static attend_status check_plan(const attend_plan *plan)
{
    const int both = ATTEND_HOST_INPUTS | ATTEND_HOST_OUTPUTS;
    if (plan->operation == ATTEND_LAYER || plan->options.backward)
        return attend_fail(ATTEND_UNSUPPORTED, "%s run on one device: the context is over several",
                           plan->operation == ATTEND_LAYER ? "layers" : "gradients");
    if ((plan->options.host_tensors & both) == both) return ATTEND_OK;
    return attend_fail(ATTEND_INVALID_ARGUMENT,
                       "host_tensors is %d, but a context over several devices takes tensors on the host: "
                       "ATTEND_HOST_INPUTS and ATTEND_HOST_OUTPUTS",
                       plan->options.host_tensors);
}

static attend_status plan_create(attend_plan *plan)
{
    const group *g = plan->context->state;
    ATTEND_TRY(check_plan(plan));
    group_plan *own = calloc(1, sizeof *own);
    if (own) own->plans = calloc((size_t)g->count, sizeof *own->plans);
    attend_status status =
        own && own->plans ? ATTEND_OK : attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a plan");
    for (; !status && own->made < g->count; own->made += !status) {
        attend_plan *one = &own->plans[own->made];
        *one = *plan, one->context = &g->contexts[own->made];
        status = attend_gpu_backend.plan_create(one);
        if (status) break;
        plan->memory.host_bytes += one->memory.host_bytes;
        plan->memory.device_workspace_bytes += one->memory.device_workspace_bytes;
        plan->memory.device_staging_bytes += one->memory.device_staging_bytes;
    }
    if (status) {
        if (own) free_plans(own);
        return status;
    }
    memcpy(plan->kernel, own->plans[0].kernel, sizeof plan->kernel);
    plan->state = own;
    return ATTEND_OK;
}

static void plan_destroy(attend_plan *plan) { free_plans(plan->state); }

/* ---- runs ---- */

enum { MOST_BOXES = 3 };

typedef struct share {
    attend_plan *plan;
    const attend_attention_args *args;
    const attend_key_part *part;
    attend_kernel_box boxes[MOST_BOXES];
    int count;
    attend_status status;
    char sentence[512];
} share;

static void add_box(share *s, const attend_kernel_box *whole, int64_t batch, int64_t entries, int64_t head,
                    int64_t heads)
{
    attend_kernel_box box = *whole;
    box.first_batch = batch, box.batch = entries, box.first_kv_head = head, box.kv_heads = heads;
    if (entries > 0 && heads > 0) s->boxes[s->count++] = box;
}

/* Pairs of batch entry and KV head, as evenly as they come: the rest of an entry, whole ones, a part. */
static void share_pairs(share *s, const attend_kernel_box *whole, int64_t entries, int i, int count)
{
    const int64_t heads = whole->kv_heads, pairs = entries * heads, first = pairs * i / count,
                  end = pairs * (i + 1) / count, from = (first + heads - 1) / heads, to = end / heads,
                  packed_batch = entries == 1 ? whole->batch : 1;
    if (from > to) { /* within an entry */
        add_box(s, whole, first / heads, packed_batch, first % heads, end - first);
        return;
    }
    if (first % heads) add_box(s, whole, first / heads, packed_batch, first % heads, heads - first % heads);
    add_box(s, whole, from, entries == 1 && to > from ? packed_batch : to - from, 0, heads);
    if (end % heads) add_box(s, whole, to, packed_batch, 0, end % heads);
}

/* The i-th of 2·count blocks of queries from either end: causal queries see more keys towards the end. */
static void share_queries(share *s, const attend_kernel_box *whole, int i, int count)
{
    const int64_t all = whole->end_query - whole->first_query;
    for (int end = 0; end < 2; end++) {
        const int n = end ? 2 * count - 1 - i : i;
        attend_kernel_box box = *whole;
        box.first_query = whole->first_query + all * n / (2 * count);
        box.end_query = whole->first_query + all * (n + 1) / (2 * count);
        if (box.end_query > box.first_query) s->boxes[s->count++] = box;
    }
}

static void *run_share(void *argument)
{
    share *s = argument;
    s->status = attend_plan_begin(s->plan);
    if (!s->status) s->status = attend_gpu_attention_boxes(s->plan, s->args, s->part, s->boxes, s->count);
    if (!s->status) s->status = attend_plan_end(s->plan);
    if (s->status) snprintf(s->sentence, sizeof s->sentence, "%s", attend_error_message());
    return NULL;
}

/* A thread for each device but the first: copies through pageable memory keep it busy. */
static attend_status run_shares(share *shares, pthread_t *threads, int count)
{
    int begun = 1;
    attend_status status = ATTEND_OK;
    while (begun < count && !status) {
        if (pthread_create(&threads[begun], NULL, run_share, &shares[begun]))
            status = attend_fail(ATTEND_OUT_OF_MEMORY, "no thread for device %d of the context", begun);
        else
            begun++;
    }
    if (!status) run_share(&shares[0]);
    for (int i = 1; i < begun; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < count && !status; i++)
        if (shares[i].status) status = attend_fail(shares[i].status, "%s", shares[i].sentence);
    return status;
}

static attend_status attention_forward(attend_plan *plan, const attend_attention_args *args,
                                       const attend_key_part *part, const attend_run *run)
{
    group *g = plan->context->state;
    const group_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const attend_kernel_box whole = attend_gpu_box_of(p, part);
    const int64_t entries = p->packed ? 1 : whole.batch, queries = whole.end_query - whole.first_query;
    const bool by_pairs = p->packed || entries * whole.kv_heads >= g->count || queries < 2 * g->count;
    if (run->stream)
        return attend_fail(ATTEND_UNSUPPORTED, "stream is given, but the context is over several devices");
    share *shares = calloc((size_t)g->count, sizeof *shares);
    pthread_t *threads = calloc((size_t)g->count, sizeof *threads);
    attend_status status =
        shares && threads ? ATTEND_OK : attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a run's shares");
    g->cancelled = false;
    for (int i = 0; i < g->count && !status; i++) {
        shares[i] = (share){.plan = &own->plans[i], .args = args, .part = part};
        if (by_pairs)
            share_pairs(&shares[i], &whole, entries, i, g->count);
        else
            share_queries(&shares[i], &whole, i, g->count);
    }
    if (!status) status = run_shares(shares, threads, g->count);
    free(shares), free(threads);
    return status;
}

/* ---- what the first device does alone ---- */

static attend_context *first_context(const attend_context *context)
{
    return &((const group *)context->state)->contexts[0];
}

static attend_plan *first_plan(const attend_plan *plan)
{
    return &((const group_plan *)plan->state)->plans[0];
}

static attend_status merge(attend_context *context, const attend_problem *problem,
                           const attend_merge_args *args, const attend_run *run)
{
    return attend_gpu_merge(first_context(context), problem, args, run);
}

static attend_status inspect(attend_plan *plan, const attend_attention_args *args,
                             const attend_key_part *part, const attend_inspect_request *request)
{
    return attend_gpu_inspect(first_plan(plan), args, part, request);
}

static attend_status rotary(attend_context *context, const attend_problem *problem,
                            const attend_rotary_args *args)
{
    return attend_gpu_rotary(first_context(context), problem, args);
}

static attend_status explain(const attend_plan *plan, attend_explanation *explanation)
{
    return attend_gpu_explain(first_plan(plan), explanation);
}

static bool choice(const attend_plan *plan, size_t index, attend_kernel_choice *choice)
{
    return attend_gpu_kernel_choice(first_plan(plan), index, choice);
}

static int64_t key_span(const attend_plan *plan)
{
    (void)plan;
    return attend_span_keys;
}

const attend_backend attend_gpu_group_backend = {
    .device = ATTEND_CUDA,
    .context_destroy = context_destroy,
    .synchronize = synchronize,
    .plan_create = plan_create,
    .plan_destroy = plan_destroy,
    .attention_forward = attention_forward,
    .key_span = key_span,
    .merge = merge,
    .inspect = inspect,
    .rotary = rotary,
    .explain = explain,
    .choice = choice,
};
