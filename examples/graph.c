/* A decoder's step, captured in a CUDA graph once and replayed for each token: new keys are rotated and
 * appended to pages, queries attend to all keys so far. Lengths and page table are read on the device, so the
 * host only says what the new tokens are; nothing is planned, allocated or waited for. Sequences join one
 * after the other.
 *
 *     cc graph.c $(pkg-config --cflags --libs attend) -I/usr/local/cuda/include -lcudart -o graph
 */
#include <attend/attend.h>
#include <attend/attend_cuda.h>
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 3, HEADS = 4, KV_HEADS = 2, DIM = 64, PAGE = 4, TABLE = 6, PAGES = BATCH * TABLE, STEPS = 20 };

/* What the host says of a step, copied as one. */
typedef struct step {
    float q[BATCH * HEADS * DIM], k[BATCH * KV_HEADS * DIM], v[BATCH * KV_HEADS * DIM];
    int64_t counts[BATCH], cached[BATCH], lengths[BATCH]; /* new tokens, keys before and keys behind them */
} step;

static void cuda(cudaError_t error)
{
    if (error == cudaSuccess) return;
    fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
    exit(1);
}

static void ok(attend_status status)
{
    if (status == ATTEND_OK) return;
    fprintf(stderr, "attend: %s\n", attend_error_message());
    exit(1);
}

static attend_tensor tokens(float *data, int64_t heads)
{
    return attend_tensor_4d(data, ATTEND_F32, BATCH, 1, heads, DIM);
}

/* Enqueues a step whose tensors are all on the device. */
static void enqueue(attend_context *context, attend_plan *plan, const attend_problem *rotated, step *s,
                    float *out, attend_cache cache)
{
    const attend_rotary_args rotate = {
        .q = tokens(s->q, HEADS), .first_positions = s->cached, .seqlens_q = s->counts};
    const attend_feature_args new_tokens = {.seqlens_q = s->counts},
                              lengths = {.seqlens_q = s->counts, .seqlens_k = s->lengths};
    const attend_cache_append_args append = {
        .k = tokens(s->k, KV_HEADS), .v = tokens(s->v, KV_HEADS), .features = &new_tokens};
    cache.seqlens = s->cached;
    ok(attend_rotary_apply(context, rotated, &rotate));
    ok(attend_cache_append(context, rotated, &cache, &append, NULL));
    ok(attend_attention_forward(
        plan, &(attend_attention_args){
                  .q = rotate.q, .out = tokens(out, HEADS), .features = &lengths, .cache = &cache}));
}

/* What the model around attention would compute. */
static void project(step *s, int number)
{
    float *const tensors[] = {s->q, s->k, s->v};
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < (t == 0 ? HEADS : KV_HEADS) * BATCH * DIM; i++)
            tensors[t][i] = (float)((i * 7919 + number * 6007 + t * 131) % 1009) / 504 - 1;
}

int main(void)
{
    const attend_problem rotated = {.batch = BATCH,
                                    .seqlen_q = 1,
                                    .num_heads = HEADS,
                                    .num_kv_heads = KV_HEADS,
                                    .head_dim = DIM,
                                    .rotary = ATTEND_ROTARY_HALVES};
    attend_problem problem = rotated;
    attend_context *context;
    attend_plan *plan;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    step *host, *device;
    float *out, *device_out, *pools;
    int32_t *table;
    const size_t out_bytes = sizeof host->q, pool = (size_t)PAGES * PAGE * KV_HEADS * DIM;
    problem.rotary = ATTEND_ROTARY_NONE, problem.seqlen_k = TABLE * PAGE;
    problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;

    ok(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context));
    ok(attend_attention_plan(context, &problem, &plan));
    ok(attend_context_stream(context, &stream));
    cuda(cudaMallocHost((void **)&host, sizeof *host + out_bytes));
    cuda(cudaMalloc((void **)&device, sizeof *device + out_bytes));
    cuda(cudaMallocManaged((void **)&pools, 2 * pool * sizeof *pools, cudaMemAttachGlobal));
    cuda(cudaMallocManaged((void **)&table, PAGES * sizeof *table, cudaMemAttachGlobal));
    out = (float *)(host + 1), device_out = (float *)(device + 1);
    memset(host, 0, sizeof *host), memset(pools, 0xff, 2 * pool * sizeof *pools); /* NaN in slots of nobody */
    for (int i = 0; i < PAGES; i++) table[i] = (i * 7 + 3) % PAGES;               /* pages in any order */
    const attend_cache cache = {.k = attend_tensor_4d(pools, ATTEND_F32, PAGES, PAGE, KV_HEADS, DIM),
                                .v = attend_tensor_4d(pools + pool, ATTEND_F32, PAGES, PAGE, KV_HEADS, DIM),
                                .block_table = attend_tensor_2d(table, ATTEND_I32, BATCH, TABLE)};

    cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    cuda(cudaMemcpyAsync(device, host, sizeof *host, cudaMemcpyHostToDevice, stream));
    enqueue(context, plan, &rotated, device, device_out, cache);
    cuda(cudaMemcpyAsync(host->q, device->q, sizeof host->q, cudaMemcpyDeviceToHost, stream));
    cuda(cudaMemcpyAsync(out, device_out, out_bytes, cudaMemcpyDeviceToHost, stream));
    cuda(cudaStreamEndCapture(stream, &graph));
    cuda(cudaGraphInstantiate(&replay, graph, 0));

    for (int number = 0; number < STEPS; number++) {
        project(host, number);
        for (int b = 0; b < BATCH; b++) {
            host->counts[b] = number >= 5 * b;
            host->cached[b] = host->lengths[b], host->lengths[b] += host->counts[b];
        }
        cuda(cudaGraphLaunch(replay, stream));
        cuda(cudaStreamSynchronize(stream)); /* to look at it: a server would go on */
        const attend_feature_args lengths = {.seqlens_q = host->counts, .seqlens_k = host->lengths};
        const attend_attention_args args = {.q = tokens(host->q, HEADS), /* rotated */
                                            .out = tokens(out, HEADS),
                                            .features = &lengths,
                                            .cache = &cache};
        attend_comparison comparison;
        ok(attend_compare(&problem, &args, NULL, &comparison));
        if (!comparison.passed)
            fprintf(stderr, "step %d is off by %g\n", number, comparison.max_error), exit(1);
    }
    printf(
        "%d tokens by one graph, sequences of %d, %d and %d keys: all within the fp64 reference's bounds\n",
        STEPS, (int)host->lengths[0], (int)host->lengths[1], (int)host->lengths[2]);

    cuda(cudaGraphExecDestroy(replay)), cuda(cudaGraphDestroy(graph));
    cuda(cudaFreeHost(host)), cuda(cudaFree(device)), cuda(cudaFree(pools)), cuda(cudaFree(table));
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    return 0;
}
