/* Streams that meet by events, a graph captured from them and run again with other data, a host function in between, and managed
   memory that both sides use in turn. */
#include "programs/program.h"

#include <cstring>

__global__ void add(int *x, int n, int value)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] += value;
}

__global__ void combine(const int *a, const int *b, int *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = 2 * a[i] + b[i];
}

enum { N = 200, BYTES = N * sizeof(int) };

/* a and b are changed side by side and combined when both are there. */
static void enqueue(cudaStream_t first, cudaStream_t second, cudaEvent_t begun, cudaEvent_t done, const int *source, int *a, int *b, int *out)
{
    CHECK(cudaMemcpyAsync(a, source, BYTES, cudaMemcpyHostToDevice, first));
    CHECK(cudaEventRecord(begun, first));
    CHECK(cudaStreamWaitEvent(second, begun, 0));
    CHECK(cudaMemcpyAsync(b, a, BYTES, cudaMemcpyDeviceToDevice, second));
    add<<<4, 64, 0, second>>>(b, N, 100);
    CHECK(cudaEventRecord(done, second));
    CHECK(cudaStreamWaitEvent(first, done, 0));
    add<<<4, 64, 0, first>>>(a, N, 1);
    combine<<<4, 64, 0, first>>>(a, b, out, N);
}

static void count_up(void *data) { ++*static_cast<int *>(data); }

/* A kernel as a node added by hand, then with other arguments. */
static void launch_from_a_node(cudaStream_t stream, int *x)
{
    int n = N, value = 7;
    void *arguments[] = {&x, &n, &value};
    cudaKernelNodeParams kernel = {};
    cudaGraph_t graph;
    cudaGraphNode_t node;
    cudaGraphExec_t instance;
    kernel.func = (void *)add;
    kernel.gridDim = dim3(4);
    kernel.blockDim = dim3(64);
    kernel.kernelParams = arguments;
    std::vector<int> before = to_host(x, N);
    CHECK(cudaGraphCreate(&graph, 0));
    CHECK(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &kernel));
    CHECK(cudaGraphInstantiate(&instance, graph, 0));
    CHECK(cudaGraphLaunch(instance, stream));
    value = 11;
    CHECK(cudaGraphExecKernelNodeSetParams(instance, node, &kernel));
    CHECK(cudaGraphLaunch(instance, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(to_host(x, N)[N - 1] == before[N - 1] + 18);
    CHECK(cudaGraphExecDestroy(instance));
    CHECK(cudaGraphDestroy(graph));
}

static void use_managed_memory(cudaStream_t stream)
{
    int *x;
    CHECK(cudaMallocManaged(&x, 2 * BYTES));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) x[i] = round;
        add<<<4, 64, 0, stream>>>(x, N, 5);
        x[N + 1] = round; /* nobody else's */
        CHECK(cudaStreamSynchronize(stream));
        for (int i = 0; i < N; i++) EXPECT(x[i] == round + 5);
        EXPECT(x[N + 1] == round);
    }
    CHECK(cudaFree(x));
}

int main()
{
    cudaStream_t first, second;
    cudaEvent_t begun, done, end;
    cudaGraph_t graph;
    cudaGraphExec_t instance;
    int *a, *b, *out, *source, *result, called = 0;
    float milliseconds;
    CHECK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&begun));
    CHECK(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
    CHECK(cudaEventCreate(&end));
    CHECK(cudaMalloc(&a, BYTES));
    CHECK(cudaMalloc(&b, BYTES));
    CHECK(cudaMalloc(&out, BYTES));
    CHECK(cudaMallocHost(&source, BYTES));
    CHECK(cudaHostAlloc(&result, BYTES, cudaHostAllocDefault));

    CHECK(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal));
    enqueue(first, second, begun, done, source, a, b, out);
    CHECK(cudaLaunchHostFunc(first, count_up, &called));
    CHECK(cudaMemcpyAsync(result, out, BYTES, cudaMemcpyDeviceToHost, first));
    CHECK(cudaStreamEndCapture(first, &graph));
    CHECK(cudaGraphInstantiate(&instance, graph, 0));
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < N; i++) source[i] = number(i + round);
        CHECK(cudaGraphLaunch(instance, first));
        CHECK(cudaStreamSynchronize(first));
        for (int i = 0; i < N; i++) EXPECT(result[i] == 2 * (number(i + round) + 1) + number(i + round) + 100);
    }
    EXPECT(called == 4);

    enqueue(first, second, begun, done, source, a, b, out);
    CHECK(cudaEventRecord(end, first));
    CHECK(cudaEventSynchronize(end));
    CHECK(cudaEventElapsedTime(&milliseconds, begun, end));
    EXPECT(milliseconds >= 0);
    EXPECT(to_host(out, N)[7] == 3 * number(7 + 3) + 102);
    launch_from_a_node(first, a);
    use_managed_memory(first);

    CHECK(cudaGraphExecDestroy(instance));
    CHECK(cudaGraphDestroy(graph));
    for (int *p : {a, b, out}) CHECK(cudaFree(p));
    CHECK(cudaFreeHost(source));
    CHECK(cudaFreeHost(result));
    for (cudaEvent_t e : {begun, done, end}) CHECK(cudaEventDestroy(e));
    CHECK(cudaStreamDestroy(first));
    CHECK(cudaStreamDestroy(second));
}
