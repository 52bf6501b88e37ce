/* Two requests in flight at once, from one plan: each run brings its stream and its workspace, as a plugin
 * does whose framework owns both.
 *
 *     cc streams.c $(pkg-config --cflags --libs attend) -I/usr/local/cuda/include -lcudart -o streams
 */
#include <attend/attend.h>
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

enum { REQUESTS = 2, SEQLEN = 64, HEADS = 4, DIM = 32, ELEMENTS = SEQLEN * HEADS * DIM };
enum { Q, K, V, OUT, TENSORS };

/* What a framework keeps for a request. */
typedef struct request {
    cudaStream_t stream;
    void *workspace;
    float *host;   /* q, k, v and out, one after the other, pinned */
    float *device; /* the same on the device */
} request;

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

/* Tensor t of a request, [batch, seqlen, heads, dim], in the one memory or the other. */
static attend_tensor tensor(float *memory, int t)
{
    return attend_tensor_4d(memory + t * ELEMENTS, ATTEND_F32, 1, SEQLEN, HEADS, DIM);
}

static attend_attention_args args_in(float *memory)
{
    return (attend_attention_args){
        .q = tensor(memory, Q), .k = tensor(memory, K), .v = tensor(memory, V), .out = tensor(memory, OUT)};
}

static void make(request *r, size_t workspace_bytes, int seed)
{
    cuda(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking));
    cuda(cudaMallocHost((void **)&r->host, TENSORS * ELEMENTS * sizeof(float)));
    cuda(cudaMalloc((void **)&r->device, TENSORS * ELEMENTS * sizeof(float)));
    cuda(cudaMalloc(&r->workspace, workspace_bytes)); /* at a multiple of 256 bytes, as it has to be */
    for (int i = 0; i < OUT * ELEMENTS; i++) r->host[i] = (float)((i + seed) * 7919 % 1009) / 1009 - 0.5f;
}

/* Copies, attention and copies again are in the order of the request's stream; nothing here waits. */
static void enqueue(request *r, attend_plan *plan, size_t workspace_bytes)
{
    const attend_attention_args args = args_in(r->device);
    const attend_run run = {
        .stream = r->stream, .workspace = r->workspace, .workspace_bytes = workspace_bytes};
    cuda(cudaMemcpyAsync(r->device, r->host, OUT * ELEMENTS * sizeof(float), cudaMemcpyHostToDevice,
                         r->stream));
    ok(attend_attention_run(plan, &args, &run));
    cuda(cudaMemcpyAsync(r->host + OUT * ELEMENTS, r->device + OUT * ELEMENTS, ELEMENTS * sizeof(float),
                         cudaMemcpyDeviceToHost, r->stream));
}

static void release(request *r)
{
    cuda(cudaStreamDestroy(r->stream));
    cuda(cudaFreeHost(r->host));
    cuda(cudaFree(r->device));
    cuda(cudaFree(r->workspace));
}

int main(void)
{
    const attend_problem problem = {.batch = 1,
                                    .seqlen_q = SEQLEN,
                                    .seqlen_k = SEQLEN,
                                    .num_heads = HEADS,
                                    .head_dim = DIM,
                                    .causal = ATTEND_CAUSAL_TOP_LEFT};
    attend_context *context;
    attend_plan *plan;
    attend_plan_memory memory;
    request requests[REQUESTS];
    bool passed = true;

    ok(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context));
    const attend_plan_options options = {.caller_workspace = true};
    ok(attend_attention_plan_with(context, &problem, &options, &plan));
    ok(attend_plan_memory_usage(plan, &memory));
    for (int i = 0; i < REQUESTS; i++) make(&requests[i], memory.run_workspace_bytes, i);

    for (int i = 0; i < REQUESTS; i++) enqueue(&requests[i], plan, memory.run_workspace_bytes);

    for (int i = 0; i < REQUESTS; i++) {
        const attend_attention_args args = args_in(requests[i].host);
        attend_comparison comparison;
        cuda(cudaStreamSynchronize(requests[i].stream));
        ok(attend_compare(&problem, &args, NULL, &comparison));
        printf("request %d: worst error %.3g, %s\n", i, comparison.max_error,
               comparison.passed ? "as it should be" : "WRONG");
        passed &= comparison.passed;
    }

    for (int i = 0; i < REQUESTS; i++) release(&requests[i]);
    attend_plan_destroy(plan); /* before the context */
    attend_context_destroy(context);
    return passed ? 0 : 1;
}
