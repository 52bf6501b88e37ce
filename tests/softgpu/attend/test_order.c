/* Runs on any streams: runs that share memory are ordered, those with workspaces of their own are not, and
   the host waits for all of them. Each result has the bits of a run that was alone on the device. */
#include "core/backend.h"
#include "gpu/gpu.h"

#include <attend/attend.h>
#include <attend/attend_cuda.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define CUDA(call) assert_int_equal(call, cudaSuccess)
#define OK(call)   assert_int_equal(call, ATTEND_OK)

enum { RUNS = 6, STREAMS = 3, PLANS = 2, BATCH = 2, HIDDEN = 32, FLOATS = 1 << 17 };

/* Each case uses some of the memory that runs of a plan share. */
typedef struct order_case {
    const char *name;
    attend_problem problem;
    bool on_host, lists;
} order_case;

static const order_case cases[] = {
    {"split keys",
     {.batch = BATCH,
      .seqlen_q = 1,
      .seqlen_k = 1100,
      .num_heads = 2,
      .num_kv_heads = 1,
      .head_dim = 16,
      .dtype = ATTEND_F16},
     false,
     false},
    {"lists on the host",
     {.batch = BATCH, .seqlen_q = 9, .seqlen_k = 70, .num_heads = 2, .head_dim = 16},
     false,
     true},
    {"tensors on the host",
     {.batch = BATCH, .seqlen_q = 9, .seqlen_k = 70, .num_heads = 2, .head_dim = 16},
     true,
     true},
    {"segments",
     {.batch = BATCH, .seqlen_q = 70, .seqlen_k = 70, .num_heads = 1, .head_dim = 16, .segments = true},
     false,
     false},
    {"relative bias",
     {.batch = BATCH,
      .seqlen_q = 9,
      .seqlen_k = 70,
      .num_heads = 2,
      .head_dim = 16,
      .relative_buckets = 8,
      .relative_max_distance = 20},
     false,
     false},
    {"a layer",
     {.batch = BATCH,
      .seqlen_q = 9,
      .num_heads = 2,
      .head_dim = 16,
      .hidden_size = HIDDEN,
      .absolute = ATTEND_ABSOLUTE_SINUSOIDAL},
     false,
     false},
    {"a layer on the host",
     {.batch = BATCH, .seqlen_q = 9, .num_heads = 2, .head_dim = 16, .head_dim_v = 24, .hidden_size = HIDDEN},
     true,
     true},
};
enum { CASES = sizeof cases / sizeof *cases, SPLIT_KEYS = 0, LAYER = 5 };

typedef struct work {
    const order_case *c;
    attend_context *context;
    attend_plan *plans[PLANS]; /* of the same problem: they share what belongs to the context */
    float *weights, *in[RUNS], *out[RUNS], *host;
    attend_run how[RUNS];
    int64_t lengths[RUNS][BATCH];
    cudaStream_t streams[STREAMS], own; /* the context's */
} work;

/* Valid as floats and, in f16, as pairs of numbers of about 1. */
static void fill(float *to, const attend_problem *p, int seed)
{
    for (int i = 0; i < FLOATS; i++) {
        const uint32_t mixed = (uint32_t)(i + 1 + seed * FLOATS) * 2654435761u;
        const uint32_t halves = (mixed >> 20 & 0x83ffu) | 0x3800u | ((mixed >> 4 & 0x83ffu) | 0x3800u) << 16;
        to[i] = (float)(mixed >> 16) / 65536.0f - 0.5f;
        if (p->dtype == ATTEND_F16) memcpy(&to[i], &halves, sizeof halves);
        if (p->segments && i >= FLOATS / 2) memcpy(&to[i], &(int32_t){(int32_t)(mixed >> 30)}, 4);
    }
}

static attend_layer_weights weights_of(const work *w)
{
    const attend_problem *p = &w->c->problem;
    const int64_t dim_v = p->num_heads * (p->head_dim_v ? p->head_dim_v : p->head_dim),
                  dim = p->num_heads * p->head_dim;
    float *at = w->weights;
    attend_layer_weights weights = {0};
    const int64_t rows[] = {dim, dim, dim_v, HIDDEN}, columns[] = {HIDDEN, HIDDEN, HIDDEN, dim_v};
    attend_tensor *const all[] = {&weights.wq, &weights.wk, &weights.wv, &weights.wo};
    for (int m = 0; m < 4; at += rows[m] * columns[m], m++)
        *all[m] = attend_tensor_2d(at, ATTEND_F32, rows[m], columns[m]);
    return weights;
}

static attend_status plan(work *w, bool callers, attend_plan **made)
{
    const attend_plan_options options = {.caller_workspace = callers,
                                         .host_tensors = w->c->on_host && !callers ? ATTEND_HOST_ALL : 0};
    const attend_layer_weights weights = weights_of(w);
    if (w->c->problem.hidden_size)
        return attend_layer_plan_with(w->context, &w->c->problem, &weights, &options, made);
    return attend_attention_plan_with(w->context, &w->c->problem, &options, made);
}

static attend_status run(work *w, int r, attend_plan *with, const attend_run *how)
{
    const attend_problem *p = &w->c->problem;
    const int64_t h = p->num_heads, h_kv = p->num_kv_heads ? p->num_kv_heads : h, d = p->head_dim,
                  elements = FLOATS / 8;
    float *in = w->in[r];
    const int64_t *lengths = w->c->lists ? w->lengths[r] : NULL;
    if (p->hidden_size)
        return attend_layer_run(
            with,
            &(attend_layer_args){.x = attend_tensor_3d(in, ATTEND_F32, BATCH, p->seqlen_q, HIDDEN),
                                 .out = attend_tensor_3d(w->out[r], ATTEND_F32, BATCH, p->seqlen_q, HIDDEN),
                                 .features = &(attend_feature_args){.seqlens_q = lengths, .seqlens_k = lengths}},
            how);
    attend_feature_args features = {.seqlens_k = lengths};
    if (p->relative_buckets) features.relative_table = attend_tensor_2d(in + FLOATS / 2, ATTEND_F32, h, p->relative_buckets);
    attend_attention_args args = {
        .q = attend_tensor_4d(in, p->dtype, BATCH, p->seqlen_q, h, d),
        .k = attend_tensor_4d(in + elements, p->dtype, BATCH, p->seqlen_k, h_kv, d),
        .v = attend_tensor_4d(in + 3 * elements, p->dtype, BATCH, p->seqlen_k, h_kv, d),
        .out = attend_tensor_4d(w->out[r], p->dtype, BATCH, p->seqlen_q, h, d),
        .features = &features};
    if (p->segments) {
        features.segments_q = attend_tensor_2d(in + FLOATS / 2, ATTEND_I32, BATCH, p->seqlen_q);
        features.segments_k = attend_tensor_2d(in + 5 * elements, ATTEND_I32, BATCH, p->seqlen_k);
    }
    return attend_attention_run(with, &args, how);
}

enum { OUT_BYTES = BATCH * 70 * HIDDEN * 4 };

static void clear_results(work *w)
{
    for (int r = 0; r < RUNS; r++) {
        if (w->c->on_host)
            memset(w->out[r], 0x77, OUT_BYTES);
        else
            CUDA(cudaMemset(w->out[r], 0x77, OUT_BYTES));
    }
    CUDA(cudaDeviceSynchronize());
}

/* Reads the results of all runs to host memory and clears them. It does not wait for the runs before. */
static char *results(work *w)
{
    char *all = malloc((size_t)RUNS * OUT_BYTES);
    assert_non_null(all);
    for (int r = 0; r < RUNS; r++)
        CUDA(cudaMemcpy(all + (size_t)r * OUT_BYTES, w->out[r], OUT_BYTES, cudaMemcpyDefault));
    clear_results(w);
    return all;
}

static void *room(const work *w, size_t bytes)
{
    void *at;
    if (w->c->on_host)
        CUDA(cudaMallocHost(&at,
                            bytes)); /* pinned: copies are asynchronous */
    else
        CUDA(cudaMalloc(&at, bytes));
    return at;
}

static work start(const order_case *c, bool callers)
{
    work w = {.c = c, .host = malloc(FLOATS * sizeof(float))};
    attend_plan_memory memory;
    assert_non_null(w.host);
    OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &w.context));
    OK(attend_context_stream(w.context, &w.own));
    w.weights = malloc(FLOATS * sizeof(float));
    assert_non_null(w.weights);
    fill(w.weights, &c->problem, RUNS);
    for (int i = 0; i < PLANS; i++) OK(plan(&w, callers, &w.plans[i]));
    OK(attend_plan_memory_usage(w.plans[0], &memory));
    assert_int_equal(memory.run_workspace_bytes > 0, callers);
    for (int s = 0; s < STREAMS; s++) CUDA(cudaStreamCreateWithFlags(&w.streams[s], cudaStreamNonBlocking));
    for (int r = 0; r < RUNS; r++) {
        w.in[r] = room(&w, FLOATS * sizeof(float)), w.out[r] = room(&w, OUT_BYTES);
        fill(w.host, &c->problem, r);
        CUDA(cudaMemcpy(w.in[r], w.host, FLOATS * sizeof(float), cudaMemcpyDefault));
        w.lengths[r][0] = 9 - r, w.lengths[r][1] = r;
        w.how[r].stream = w.streams[r % STREAMS];
        if (!callers) continue;
        CUDA(cudaMalloc(&w.how[r].workspace, memory.run_workspace_bytes));
        w.how[r].workspace_bytes = memory.run_workspace_bytes;
    }
    clear_results(&w);
    return w;
}

static void end(work *w)
{
    for (int i = 0; i < PLANS; i++) attend_plan_destroy(w->plans[i]);
    attend_context_destroy(w->context);
    for (int s = 0; s < STREAMS; s++)
        if (w->streams[s]) CUDA(cudaStreamDestroy(w->streams[s]));
    for (int r = 0; r < RUNS; r++) {
        CUDA(w->c->on_host ? cudaFreeHost(w->in[r]) : cudaFree(w->in[r]));
        CUDA(w->c->on_host ? cudaFreeHost(w->out[r]) : cudaFree(w->out[r]));
        CUDA(cudaFree(w->how[r].workspace));
    }
    free(w->host), free(w->weights);
}

/* The results of each run alone. */
static char *expected(work *w)
{
    for (int r = 0; r < RUNS; r++) {
        const attend_run alone = {.workspace = w->how[r].workspace,
                                  .workspace_bytes = w->how[r].workspace_bytes};
        OK(run(w, r, w->plans[r % PLANS], &alone));
        CUDA(cudaDeviceSynchronize());
    }
    return results(w);
}

static void expect_equal(work *w, char *wanted)
{
    char *found = results(w);
    for (int r = 0; r < RUNS; r++)
        if (memcmp(wanted + (size_t)r * OUT_BYTES, found + (size_t)r * OUT_BYTES, OUT_BYTES))
            fail_msg("%s: run %d differs from the same run alone", w->c->name, r);
    free(found);
}

static void expect_idle(const work *w)
{
    for (int s = 0; s < STREAMS; s++)
        if (cudaStreamQuery(w->streams[s]) != cudaSuccess)
            fail_msg("%s: stream %d still works", w->c->name, s);
    if (cudaStreamQuery(w->own) != cudaSuccess) fail_msg("%s: the context's stream still works", w->c->name);
}

/* ---- the promises ---- */

static void runs_that_share_follow_each_other(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        work w = start(&cases[c], false);
        char *wanted = expected(&w);
        for (int round = 0; round < 4; round++) {
            for (int r = 0; r < RUNS; r++) {
                if (round == 1) OK(attend_context_set_stream(w.context, w.streams[r % STREAMS]));
                /* the last run of the third round is on the context's first stream, which is no longer its stream */
                const int which = (r + round + 1) % 3;
                if (round >= 2) w.how[r].stream = which == 0 ? w.own : which == 1 ? cudaStreamLegacy : w.streams[0];
                OK(run(&w, r, w.plans[r % PLANS], round == 1 ? NULL : &w.how[r]));
            }
            /* attend_synchronize() waits for streams one by one, cudaDeviceSynchronize() for all in any
               order. */
            if (round % 2 == 0) CUDA(cudaDeviceSynchronize());
            OK(attend_synchronize(w.context));
            expect_idle(&w);
            expect_equal(&w, wanted);
        }
        free(wanted);
        end(&w);
    }
}

/* What planning and making the context enqueue is done, or waited for, also by a stream that they do not know. */
static void the_first_run_may_be_on_any_stream(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        work w = start(&cases[c], false);
        char *wanted = expected(&w);
        for (int i = 0; i < PLANS; i++) attend_plan_destroy(w.plans[i]);
        OK(attend_context_destroy(w.context));
        OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &w.context));
        for (int i = 0; i < PLANS; i++) OK(plan(&w, false, &w.plans[i]));
        for (int r = 0; r < RUNS; r++) OK(run(&w, r, w.plans[r % PLANS], &w.how[r]));
        for (int s = 0; s < STREAMS; s++) CUDA(cudaStreamSynchronize(w.streams[s]));
        expect_equal(&w, wanted);
        free(wanted);
        end(&w);
    }
}

typedef struct elsewhere {
    work *w;
    int r;
    attend_status status;
} elsewhere;

static void *run_elsewhere(void *job)
{
    elsewhere *e = job;
    e->status = run(e->w, e->r, e->w->plans[0], &e->w->how[e->r]);
    return NULL;
}

/* cudaStreamPerThread is one handle for a stream of each thread; CUDA also reuses handles of destroyed
   streams. */
static void streams_may_share_a_handle(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        work w = start(&cases[c], false);
        char *wanted = expected(&w);
        for (int r = 0; r < RUNS; r++) {
            elsewhere e = {&w, r, ATTEND_OK};
            pthread_t thread;
            w.how[r].stream = cudaStreamPerThread;
            assert_int_equal(pthread_create(&thread, NULL, run_elsewhere, &e), 0);
            assert_int_equal(pthread_join(thread, NULL), 0);
            OK(e.status);
        }
        CUDA(cudaDeviceSynchronize());
        OK(attend_synchronize(w.context));
        expect_equal(&w, wanted);
        free(wanted);
        end(&w);
    }
}

/* Lists have been copied to the workspace before x is refused. */
static void runs_that_fail_are_waited_for(void **state)
{
    (void)state;
    order_case c = cases[LAYER];
    c.lists = true;
    work w = start(&c, true);
    float *const on_device = w.in[0];
    w.in[0] = w.host;
    assert_int_equal(run(&w, 0, w.plans[0], &w.how[0]), ATTEND_INVALID_ARGUMENT);
    w.in[0] = on_device;
    assert_int_equal(cudaStreamQuery(w.streams[0]), cudaErrorNotReady);
    OK(attend_synchronize(w.context));
    expect_idle(&w);
    end(&w);
}

static void runs_with_workspaces_of_their_own_may_be_in_flight(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        if (cases[c].on_host) continue;
        work w = start(&cases[c], true);
        char *wanted = expected(&w);
        for (int round = 0; round < 2; round++) {
            for (int r = 0; r < RUNS; r++) OK(run(&w, r, w.plans[0], &w.how[r]));
            if (round > 0) CUDA(cudaDeviceSynchronize());
            OK(attend_synchronize(w.context));
            expect_idle(&w);
            expect_equal(&w, wanted);
        }
        for (int r = 0; r < RUNS; r++) OK(run(&w, r, w.plans[0], &w.how[r]));
        attend_plan_destroy(
            w.plans[0]); /* waits too, although such an attention plan has no memory to free */
        w.plans[0] = NULL;
        expect_idle(&w);
        expect_equal(&w, wanted);
        free(wanted);
        end(&w);
    }
}

static atomic_bool released;
static void CUDART_CB hold(void *unused)
{
    (void)unused;
    while (!released) {
    }
}

/* A run with its own workspace waits for no other; one that shares its workspace does. */
static void a_held_stream_holds_nobody_else(void **state)
{
    (void)state;
    for (int c = SPLIT_KEYS; c <= LAYER; c += LAYER - SPLIT_KEYS) {
        work w = start(&cases[c], true);
        char *wanted = expected(&w);
        released = false;
        CUDA(cudaLaunchHostFunc(w.streams[0], hold, NULL));
        for (int r = 0; r < RUNS; r++) OK(run(&w, r, w.plans[r % PLANS], &w.how[r]));
        CUDA(cudaStreamSynchronize(w.streams[1]));
        CUDA(cudaStreamSynchronize(w.streams[2]));
        released = true;
        OK(attend_synchronize(w.context));
        expect_equal(&w, wanted);
        free(wanted);
        end(&w);
    }
}

static bool reached;
static void CUDART_CB reach(void *unused) { (void)unused, reached = true; }

/* A wait for the second stream alone includes the first stream's work before the run that the second run must
   follow. */
static void runs_that_share_wait_for_what_is_before_the_other(void **state)
{
    (void)state;
    for (int c = SPLIT_KEYS; c <= LAYER; c += LAYER - SPLIT_KEYS) {
        work w = start(&cases[c], false);
        char *wanted = expected(&w);
        reached = false;
        CUDA(cudaLaunchHostFunc(w.streams[0], reach, NULL));
        for (int r = 0; r < 2; r++) OK(run(&w, r, w.plans[c == LAYER ? r : 0], &w.how[r]));
        CUDA(cudaStreamSynchronize(w.streams[1]));
        if (!reached) fail_msg("%s: the second run overtook the first", w.c->name);
        for (int r = 2; r < RUNS; r++) OK(run(&w, r, w.plans[0], &w.how[r]));
        OK(attend_synchronize(w.context));
        expect_equal(&w, wanted);
        free(wanted);
        end(&w);
    }
}

static int streams_kept(const attend_context *context)
{
    int count = 0;
    for (const attend_gpu_stream *s = ((const attend_gpu_context *)context->state)->own.next; s; s = s->next) count++;
    return count;
}

static void synchronized_run(work *w, int r, attend_plan *plan, cudaStream_t stream)
{
    OK(run(w, r, plan, &(attend_run){.stream = stream}));
    CUDA(cudaStreamSynchronize(stream));
}

/* A server may use a new stream for each request: the context keeps those in flight, and a few more. */
static void streams_whose_work_is_done_are_forgotten(void **state)
{
    (void)state;
    enum { REQUESTS = ATTEND_GPU_STREAMS + 8 };
    work w = start(&cases[SPLIT_KEYS], false);
    char *wanted = expected(&w);
    cudaStream_t requests[REQUESTS];
    for (int i = 0; i < REQUESTS; i++) CUDA(cudaStreamCreateWithFlags(&requests[i], cudaStreamNonBlocking));
    synchronized_run(&w, 0, w.plans[0], w.streams[0]);
    for (int i = 0; i < REQUESTS - 1; i++) synchronized_run(&w, i % RUNS, w.plans[i % PLANS], requests[i]);
    if (streams_kept(w.context) > ATTEND_GPU_STREAMS)
        fail_msg("%d streams are kept behind %d requests", streams_kept(w.context), REQUESTS);
    synchronized_run(&w, 0, w.plans[0], requests[0]);
    expect_equal(&w, wanted);
    synchronized_run(&w, 0, w.plans[0], requests[REQUESTS - 2]); /* whose entry is the next to be reused */
    /* The first plan's last stream is done, and its entry is reused for a stream that is held: no run of this
       plan may wait for that. */
    released = false;
    CUDA(cudaLaunchHostFunc(requests[REQUESTS - 1], hold, NULL));
    OK(run(&w, 1, w.plans[1], &(attend_run){.stream = requests[REQUESTS - 1]}));
    synchronized_run(&w, 2, w.plans[0], w.streams[0]);
    released = true;
    for (int r = 0; r < RUNS; r++)
        if (r != 1) OK(run(&w, r, w.plans[0], &w.how[r]));
    OK(attend_synchronize(w.context));
    expect_equal(&w, wanted);
    for (int i = 0; i < REQUESTS; i++) CUDA(cudaStreamDestroy(requests[i]));
    free(wanted);
    end(&w);
}

/* Inspects with the LSE that the run writes; the run has its own workspace, so that plans do not order it. */
static void inspections_wait_for_their_run(void **state)
{
    (void)state;
    enum { ROWS = 64, DIM = 16, ELEMENTS = ROWS * DIM };
    const attend_problem problem = {.batch = 1, .seqlen_q = ROWS, .seqlen_k = ROWS, .num_heads = 1, .head_dim = DIM};
    const attend_plan_options options = {.caller_workspace = true};
    float numbers[ELEMENTS], entropy[2][ROWS], *memory;
    attend_context *context;
    attend_plan *plan;
    attend_plan_memory needs;
    void *workspace;
    cudaStream_t stream;
    for (int i = 0; i < ELEMENTS; i++) numbers[i] = (float)(i * 37 % 101) / 101.0f - 0.5f;
    OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context));
    OK(attend_attention_plan_with(context, &problem, &options, &plan));
    OK(attend_plan_memory_usage(plan, &needs));
    CUDA(cudaMalloc(&workspace, needs.run_workspace_bytes + 256));
    CUDA(cudaMalloc((void **)&memory, (2 * ELEMENTS + ROWS) * sizeof *memory));
    CUDA(cudaMemcpy(memory, numbers, sizeof numbers, cudaMemcpyHostToDevice));
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    const attend_tensor in = attend_tensor_4d(memory, ATTEND_F32, 1, ROWS, 1, DIM);
    const attend_attention_args args = {.q = in,
                                        .k = in,
                                        .v = in,
                                        .out = attend_tensor_4d(memory + ELEMENTS, ATTEND_F32, 1, ROWS, 1, DIM),
                                        .lse = attend_tensor_3d(memory + 2 * ELEMENTS, ATTEND_F32, 1, 1, ROWS)};
    for (int n = 0; n < 2; n++) {
        const attend_run how = {.stream = stream, .workspace = workspace, .workspace_bytes = needs.run_workspace_bytes};
        const attend_inspection want = {.entropy = attend_tensor_3d(entropy[n], ATTEND_F32, 1, 1, ROWS)};
        CUDA(cudaMemset(memory + 2 * ELEMENTS, 0xff, ROWS * sizeof *memory));
        CUDA(cudaDeviceSynchronize());
        OK(attend_attention_run(plan, &args, &how));
        if (n == 0) CUDA(cudaDeviceSynchronize());
        OK(attend_attention_inspect(plan, &args, &want));
    }
    assert_memory_equal(entropy[0], entropy[1], sizeof entropy[0]);
    attend_plan_destroy(plan);
    OK(attend_context_destroy(context));
    CUDA(cudaStreamDestroy(stream));
    CUDA(cudaFree(memory));
    CUDA(cudaFree(workspace));
}

static size_t least_free;
static bool note_free_memory(void *unused, int64_t done, int64_t total)
{
    size_t free_bytes, all;
    (void)unused, (void)done, (void)total;
    CUDA(cudaMemGetInfo(&free_bytes, &all));
    if (free_bytes < least_free) least_free = free_bytes;
    return true;
}

/* For a layer whose runs have a workspace of the caller's, an inspection allocates what it writes itself:
   neither cuBLAS's workspace nor memory for Q, K and V. */
static void inspections_take_no_workspace_of_a_run(void **state)
{
    (void)state;
    enum { ROWS = 9, HEADS = 2, DIM = 16, HEAD_BYTES = ROWS * HIDDEN * 4 };
    const attend_problem problem = {.batch = 1, .seqlen_q = ROWS, .num_heads = HEADS, .head_dim = DIM, .hidden_size = HIDDEN};
    const attend_context_options options = {.device = ATTEND_CUDA, .progress = note_free_memory};
    static float numbers[HIDDEN * HIDDEN], entropy[2][HEADS * ROWS];
    const attend_tensor weight = attend_tensor_2d(numbers, ATTEND_F32, HIDDEN, HIDDEN);
    const attend_layer_weights weights = {.wq = weight, .wk = weight, .wv = weight, .wo = weight};
    static const int64_t length[] = {ROWS - 2};
    attend_context *context;
    char *memory;
    for (int i = 0; i < HIDDEN * HIDDEN; i++) numbers[i] = (float)(i * 37 % 101) / 101.0f - 0.5f;
    OK(attend_context_create(&options, &context));
    CUDA(cudaMalloc((void **)&memory, 4 * HEAD_BYTES));
    CUDA(cudaMemcpy(memory, numbers, HEAD_BYTES, cudaMemcpyHostToDevice));
    CUDA(cudaDeviceSynchronize());
    attend_layer_args args = {.x = attend_tensor_3d(memory, ATTEND_F32, 1, ROWS, HIDDEN),
                              .out = attend_tensor_3d(memory + HEAD_BYTES, ATTEND_F32, 1, ROWS, HIDDEN),
                              .q = attend_tensor_4d(memory + 2 * HEAD_BYTES, ATTEND_F32, 1, ROWS, HEADS, DIM),
                              .k = attend_tensor_4d(memory + 3 * HEAD_BYTES, ATTEND_F32, 1, ROWS, HEADS, DIM),
                              .features = &(attend_feature_args){.seqlens_k = length}};
    for (int callers = 0; callers < 2; callers++) {
        const attend_plan_options own = {.caller_workspace = callers};
        const attend_inspection want = {.entropy = attend_tensor_3d(entropy[callers], ATTEND_F32, 1, HEADS, ROWS)};
        attend_plan *made;
        attend_plan_memory needs;
        attend_run how = {0};
        size_t before, all;
        OK(attend_layer_plan_with(context, &problem, &weights, &own, &made));
        OK(attend_plan_memory_usage(made, &needs));
        how.workspace_bytes = needs.run_workspace_bytes;
        if (callers) CUDA(cudaMalloc(&how.workspace, needs.run_workspace_bytes));
        OK(attend_layer_run(made, &args, &how));
        CUDA(cudaMemGetInfo(&before, &all));
        least_free = before;
        OK(attend_layer_inspect(made, &args, &want));
        if (before - least_free > 1 << 16) fail_msg("%zu bytes were taken to inspect %d rows", before - least_free, ROWS);
        attend_plan_destroy(made);
        CUDA(cudaFree(how.workspace));
    }
    assert_memory_equal(entropy[0], entropy[1], sizeof entropy[0]);
    /* tensors on the host are refused, as in a run */
    attend_plan *made;
    OK(attend_layer_plan_with(context, &problem, &weights, &(attend_plan_options){.caller_workspace = true}, &made));
    args.q.data = numbers;
    assert_int_equal(attend_layer_inspect(made, &args, &(attend_inspection){.entropy = attend_tensor_3d(entropy[0], ATTEND_F32, 1, HEADS, ROWS)}),
                     ATTEND_INVALID_ARGUMENT);
    assert_string_equal(attend_error_message(), "q lies on the host, but the plan was made with caller_workspace");
    attend_plan_destroy(made);
    OK(attend_context_destroy(context));
    CUDA(cudaFree(memory));
}

/* As in CUDA: enqueued work is still executed, and still waited for. */
static void streams_may_be_destroyed_behind_a_run(void **state)
{
    (void)state;
    for (int callers = 0; callers < 2; callers++) {
        work w = start(&cases[LAYER], callers);
        char *wanted = expected(&w);
        for (int r = 0; r < RUNS; r++) {
            cudaStream_t short_lived;
            CUDA(cudaStreamCreateWithFlags(&short_lived, cudaStreamNonBlocking));
            w.how[r].stream = short_lived;
            OK(run(&w, r, w.plans[0], &w.how[r]));
            CUDA(cudaStreamDestroy(short_lived));
        }
        OK(attend_synchronize(w.context));
        expect_equal(&w, wanted);
        free(wanted);
        end(&w);
    }
}

/* Captured runs wait for nothing outside the graph, which CUDA would refuse; cuBLAS has a workspace, so the
   graph allocates nothing. */
static void runs_are_captured_while_others_are_in_flight(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        for (int callers = 0; callers < 2; callers++) {
            if (cases[c].on_host) continue;
            work w = start(&cases[c], callers);
            char *wanted = expected(&w);
            cudaGraph_t graph;
            cudaGraphExec_t instance;
            cudaGraphNode_t nodes[64];
            size_t count = 64;
            OK(run(&w, 0, w.plans[0], &w.how[0]));
            CUDA(cudaStreamBeginCapture(w.streams[1], cudaStreamCaptureModeThreadLocal));
            OK(run(&w, 1, w.plans[0], &w.how[1]));
            CUDA(cudaStreamEndCapture(w.streams[1], &graph));
            CUDA(cudaGraphGetNodes(graph, nodes, &count));
            assert_in_range(count, 1, 64);
            for (size_t n = 0; n < count; n++) {
                enum cudaGraphNodeType type;
                CUDA(cudaGraphNodeGetType(nodes[n], &type));
                if (type == cudaGraphNodeTypeMemAlloc)
                    fail_msg("%s: the graph allocates memory", cases[c].name);
            }
            OK(attend_synchronize(w.context)); /* the caller must order launches */
            CUDA(cudaGraphInstantiate(&instance, graph, 0));
            CUDA(cudaGraphLaunch(instance, w.streams[1]));
            CUDA(cudaStreamSynchronize(w.streams[1]));
            for (int r = 2; r < RUNS; r++) OK(run(&w, r, w.plans[0], &w.how[r]));
            OK(attend_synchronize(w.context));
            expect_equal(&w, wanted);
            CUDA(cudaGraphExecDestroy(instance));
            CUDA(cudaGraphDestroy(graph));
            free(wanted);
            end(&w);
        }
    }
}

static void workspaces_are_checked(void **state)
{
    (void)state;
    work w = start(&cases[LAYER], true);
    static _Alignas(256) char here[512];
    char sentence[160];
    const size_t needed = w.how[0].workspace_bytes;
    const attend_run wrong[] = {{.workspace = w.how[0].workspace, .workspace_bytes = needed - 1},
                                {.workspace_bytes = needed},
                                {.workspace = (char *)w.how[0].workspace + 16, .workspace_bytes = needed},
                                {.workspace = here, .workspace_bytes = needed}};
    const char *const sentences[] = {NULL, "workspace is NULL", "workspace is not at a multiple of 256 bytes",
                                     "workspace lies on the host"};
    snprintf(sentence, sizeof sentence,
             "workspace_bytes is %zu, but the plan was made with caller_workspace and a run needs %zu",
             needed - 1, needed);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(run(&w, 0, w.plans[0], &wrong[i]), ATTEND_INVALID_ARGUMENT);
        if (!strstr(attend_error_message(), sentences[i] ? sentences[i] : sentence))
            fail_msg("\"%s\"", attend_error_message());
    }
    float *const on_device = w.in[0];
    w.in[0] = w.host;
    assert_int_equal(run(&w, 0, w.plans[0], &w.how[0]), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(attend_error_message(),
                        "x lies on the host, but the plan was made with caller_workspace");
    w.in[0] = on_device;
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_that_share_follow_each_other),
        cmocka_unit_test(the_first_run_may_be_on_any_stream),
        cmocka_unit_test(streams_may_share_a_handle),
        cmocka_unit_test(runs_that_fail_are_waited_for),
        cmocka_unit_test(runs_with_workspaces_of_their_own_may_be_in_flight),
        cmocka_unit_test(a_held_stream_holds_nobody_else),
        cmocka_unit_test(runs_that_share_wait_for_what_is_before_the_other),
        cmocka_unit_test(streams_whose_work_is_done_are_forgotten),
        cmocka_unit_test(inspections_wait_for_their_run),
        cmocka_unit_test(inspections_take_no_workspace_of_a_run),
        cmocka_unit_test(streams_may_be_destroyed_behind_a_run),
        cmocka_unit_test(runs_are_captured_while_others_are_in_flight),
        cmocka_unit_test(workspaces_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
