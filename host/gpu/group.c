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

static attend_status open_contexts(group *g, attend_context_options options, const int *devices)
{
    for (int i = 0; i < g->count; i++) {
        attend_context *one = &g->contexts[i];
        options.device_index = devices[i];
        one->backend = &attend_gpu_backend;
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
    g->count = count;
    const attend_status status = open_contexts(g, *options, devices);
    if (status) {
        destroy(g);
        return status;
    }
    snprintf(context->name, sizeof context->name, "%d devices: %.100s", count, g->contexts[0].name);
    context->state = g;
    context->tracker =
        (attend_progress_tracker){.progress = options->progress, .user = options->progress_user};
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

/* ---- shares of a run ---- */

enum { MOST_BOXES = 3 };

/* What the shares of a run have in common. */
typedef struct team {
    attend_progress_tracker *tracker; /* the caller's */
    pthread_mutex_t lock;
    pthread_cond_t told; /* one of its threads has counted, or ended */
    int running;         /* threads */
} team;

typedef struct share {
    team *team;
    attend_plan *plan;
    const attend_attention_args *args;
    const attend_key_part *part;
    attend_kernel_box boxes[MOST_BOXES];
    int count;
    bool is_callers; /* run by the thread that called the library */
    double weight;   /* of the work of all shares */
    int64_t counted; /* of ATTEND_PROGRESS_TOTAL, by that weight */
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

/* ---- progress: the sum over the devices, which the calling thread reports ---- */

static void tell(team *t, int ended)
{
    pthread_mutex_lock(&t->lock);
    t->running -= ended;
    pthread_cond_signal(&t->told);
    pthread_mutex_unlock(&t->lock);
}

/* The callback of each device's context. */
static bool count_share(void *user, int64_t done, int64_t total)
{
    share *s = user;
    attend_progress_tracker *tracker = s->team->tracker;
    const int64_t counted = (int64_t)(s->weight * (double)done / (double)total * ATTEND_PROGRESS_TOTAL);
    attend_progress_count(tracker, counted - s->counted, s->is_callers);
    s->counted = counted;
    if (!s->is_callers) tell(s->team, 0);
    return attend_progress_continues(tracker);
}

static void wait_for_threads(team *t)
{
    pthread_mutex_lock(&t->lock);
    while (t->running > 0) {
        pthread_cond_wait(&t->told, &t->lock);
        pthread_mutex_unlock(&t->lock);
        attend_progress_count(t->tracker, 0, true);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
}

static double rows_of(const share *s)
{
    double rows = 0;
    for (int i = 0; i < s->count; i++)
        rows += (double)s->boxes[i].batch * (double)s->boxes[i].kv_heads *
                (double)(s->boxes[i].end_query - s->boxes[i].first_query);
    return rows;
}

static void begin_progress(team *t, share *shares, int count)
{
    double all = 0;
    for (int i = 0; i < count; i++) all += rows_of(&shares[i]);
    for (int i = 0; i < count; i++) {
        shares[i].weight = all > 0 ? rows_of(&shares[i]) / all : 0;
        shares[i].plan->context->tracker = (attend_progress_tracker){
            .progress = t->tracker->progress ? count_share : NULL, .user = &shares[i]};
    }
    attend_progress_stage(t->tracker, t->tracker->work.attention, ATTEND_PROGRESS_TOTAL);
}

/* ---- a run ---- */

static void fail_share(share *s, attend_status status)
{
    s->status = status;
    snprintf(s->sentence, sizeof s->sentence, "%s", attend_error_message());
}

static void run_share(share *s)
{
    attend_status status = attend_plan_begin(s->plan);
    if (!status) status = attend_gpu_attention_boxes(s->plan, s->args, s->part, s->boxes, s->count);
    if (!status) status = attend_plan_end(s->plan);
    if (status) fail_share(s, status);
}

static void *run_thread(void *argument)
{
    share *s = argument;
    run_share(s);
    tell(s->team, 1);
    return NULL;
}

/* Behind a failure nothing is in flight, of other devices either. A failure counts before the cancellations
   that a callback asked for. */
static attend_status status_of(const team *t, const share *shares, int count)
{
    bool failed = false;
    for (int i = 0; i < count; i++) failed = failed || shares[i].status;
    for (int i = 0; i < count && failed; i++) attend_gpu_synchronize(shares[i].plan->context);
    for (int i = 0; i < count; i++)
        if (shares[i].status && shares[i].status != ATTEND_CANCELLED)
            return attend_fail(shares[i].status, "%s", shares[i].sentence);
    return attend_progress_status(t->tracker);
}

/* A thread for each device but the first: copies through pageable memory keep it busy. */
static attend_status run_shares(team *t, share *shares, pthread_t *threads, int count)
{
    int begun = 1;
    begin_progress(t, shares, count);
    t->running = count - 1;
    while (begun < count && !pthread_create(&threads[begun], NULL, run_thread, &shares[begun])) begun++;
    if (begun < count) {
        fail_share(&shares[begun],
                   attend_fail(ATTEND_OUT_OF_MEMORY, "no thread for device %d of the context", begun));
    } else {
        run_share(&shares[0]);
        wait_for_threads(t);
    }
    for (int i = 1; i < begun; i++) pthread_join(threads[i], NULL);
    return status_of(t, shares, count);
}

static attend_status attention_forward(attend_plan *plan, const attend_attention_args *args,
                                       const attend_key_part *part, const attend_run *run)
{
    const group *g = plan->context->state;
    const group_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const attend_kernel_box whole = attend_gpu_box_of(p, part);
    const int64_t entries = p->packed ? 1 : whole.batch, queries = whole.end_query - whole.first_query;
    const bool by_pairs = p->packed || entries * whole.kv_heads >= g->count || queries < 2 * g->count;
    team t = {&plan->context->tracker, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    if (run->stream)
        return attend_fail(ATTEND_UNSUPPORTED, "stream is given, but the context is over several devices");
    share *shares = calloc((size_t)g->count, sizeof *shares);
    pthread_t *threads = calloc((size_t)g->count, sizeof *threads);
    attend_status status =
        shares && threads ? ATTEND_OK : attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a run's shares");
    for (int i = 0; i < g->count && !status; i++) {
        shares[i] =
            (share){.team = &t, .plan = &own->plans[i], .args = args, .part = part, .is_callers = i == 0};
        if (by_pairs)
            share_pairs(&shares[i], &whole, entries, i, g->count);
        else
            share_queries(&shares[i], &whole, i, g->count);
    }
    if (!status) status = run_shares(&t, shares, threads, g->count);
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
    attend_plan *const first = first_plan(plan);
    attend_gpu_context *const gpu = first->context->state;
    gpu->tracker = &plan->context->tracker; /* which has begun */
    const attend_status status = attend_gpu_inspect(first, args, part, request);
    gpu->tracker = &first->context->tracker;
    return status;
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
