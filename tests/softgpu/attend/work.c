/* Makes, runs and compares; see work.h. */
#include "attend/work.h"

#include <stdatomic.h>

const work_case work_cases[WORK_CASES] = {
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

attend_status work_plan(work *w, bool callers, attend_plan **made)
{
    const attend_plan_options options = {.caller_workspace = callers,
                                         .host_tensors = w->c->on_host && !callers ? ATTEND_HOST_ALL : 0};
    const attend_layer_weights weights = weights_of(w);
    if (w->c->problem.hidden_size)
        return attend_layer_plan_with(w->context, &w->c->problem, &weights, &options, made);
    return attend_attention_plan_with(w->context, &w->c->problem, &options, made);
}

attend_status work_run(work *w, int r, attend_plan *with, const attend_run *how)
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
        CUDA(cudaMallocHost(&at, bytes)); /* pinned: copies are asynchronous */
    else
        CUDA(cudaMalloc(&at, bytes));
    return at;
}

work work_start(const work_case *c, bool callers)
{
    work w = {.c = c, .host = malloc(FLOATS * sizeof(float))};
    attend_plan_memory memory;
    assert_non_null(w.host);
    OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &w.context));
    OK(attend_context_stream(w.context, &w.own));
    w.weights = malloc(FLOATS * sizeof(float));
    assert_non_null(w.weights);
    fill(w.weights, &c->problem, RUNS);
    for (int i = 0; i < PLANS; i++) OK(work_plan(&w, callers, &w.plans[i]));
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

void work_end(work *w)
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

char *work_expected(work *w)
{
    for (int r = 0; r < RUNS; r++) {
        const attend_run alone = {.workspace = w->how[r].workspace,
                                  .workspace_bytes = w->how[r].workspace_bytes};
        OK(work_run(w, r, w->plans[r % PLANS], &alone));
        CUDA(cudaDeviceSynchronize());
    }
    return results(w);
}

void work_expect_equal(work *w, char *wanted)
{
    char *found = results(w);
    for (int r = 0; r < RUNS; r++)
        if (memcmp(wanted + (size_t)r * OUT_BYTES, found + (size_t)r * OUT_BYTES, OUT_BYTES))
            fail_msg("%s: run %d differs from the same run alone", w->c->name, r);
    free(found);
}

void work_expect_idle(const work *w)
{
    for (int s = 0; s < STREAMS; s++)
        if (cudaStreamQuery(w->streams[s]) != cudaSuccess)
            fail_msg("%s: stream %d still works", w->c->name, s);
    if (cudaStreamQuery(w->own) != cudaSuccess) fail_msg("%s: the context's stream still works", w->c->name);
}

static atomic_bool released;
static void CUDART_CB hold(void *unused)
{
    (void)unused;
    while (!released) {
    }
}

void work_hold(cudaStream_t stream)
{
    released = false;
    CUDA(cudaLaunchHostFunc(stream, hold, NULL));
}

void work_release(void) { released = true; }
