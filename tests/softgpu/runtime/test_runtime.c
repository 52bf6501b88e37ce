/* What the runtime promises of order and of time, seen from the host alone: default streams, events, copies that wait or do not,
   boxes at the end of their memory, pools. */
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define CUDA(call) assert_int_equal(call, cudaSuccess)

enum { BYTES = 1024, STAGED = 1 << 16 }; /* pageable sources up to STAGED are copied aside at the call */

static unsigned char *device_memory(size_t bytes)
{
    void *memory;
    CUDA(cudaMalloc(&memory, bytes));
    return memory;
}

/* Work on `first` and then on `second`, which nobody orders; waiting for the second alone must bring the first. */
static void expect_order(cudaStream_t first, cudaStream_t second)
{
    unsigned char *a = device_memory(BYTES), *b = device_memory(BYTES), result[BYTES];
    CUDA(cudaMemsetAsync(a, 1, BYTES, first));
    CUDA(cudaMemcpyAsync(b, a, BYTES, cudaMemcpyDeviceToDevice, second));
    CUDA(cudaStreamSynchronize(second));
    CUDA(cudaMemcpy(result, b, BYTES, cudaMemcpyDeviceToHost));
    for (int i = 0; i < BYTES; i++) assert_int_equal(result[i], 1);
    CUDA(cudaFree(a));
    CUDA(cudaFree(b));
}

static void blocking_streams_and_the_default_one_wait_for_each_other(void **state)
{
    (void)state;
    cudaStream_t blocking;
    CUDA(cudaStreamCreate(&blocking));
    expect_order(cudaStreamLegacy, blocking);
    expect_order(blocking, cudaStreamLegacy);
    expect_order(cudaStreamLegacy, cudaStreamPerThread);
    CUDA(cudaStreamDestroy(blocking));
}

/* Each task takes some modelled time: a stream that waits for another's tenth is not earlier than that. */
static void waiting_for_another_stream_takes_its_time(void **state)
{
    (void)state;
    enum { TASKS = 10 };
    unsigned char *memory = device_memory(BYTES);
    cudaStream_t busy, waiting;
    cudaEvent_t start, busy_end, end;
    float busy_ms, waiting_ms;
    CUDA(cudaStreamCreateWithFlags(&busy, cudaStreamNonBlocking));
    CUDA(cudaStreamCreateWithFlags(&waiting, cudaStreamNonBlocking));
    CUDA(cudaEventCreate(&start));
    CUDA(cudaEventCreate(&busy_end));
    CUDA(cudaEventCreate(&end));
    CUDA(cudaEventRecord(start, busy));
    for (int i = 0; i < TASKS; i++) CUDA(cudaMemsetAsync(memory, i, BYTES, busy));
    CUDA(cudaEventRecord(busy_end, busy));
    CUDA(cudaStreamWaitEvent(waiting, busy_end, 0));
    CUDA(cudaEventRecord(end, waiting));
    CUDA(cudaEventSynchronize(end));
    CUDA(cudaEventElapsedTime(&busy_ms, start, busy_end));
    CUDA(cudaEventElapsedTime(&waiting_ms, start, end));
    assert_true(busy_ms > 0 && waiting_ms >= busy_ms);
    for (int i = 0; i < 3; i++) CUDA(cudaEventDestroy((cudaEvent_t[]){start, busy_end, end}[i]));
    CUDA(cudaStreamDestroy(busy));
    CUDA(cudaStreamDestroy(waiting));
    CUDA(cudaFree(memory));
}

/* Who waits for an event goes on when that was recorded, however far its stream has come since. */
static void a_wait_ends_with_its_event(void **state)
{
    enum { TASKS = 8, MEMORY = 1 << 16 };
    (void)state;
    unsigned char *memory = device_memory(MEMORY);
    cudaStream_t busy, waiting;
    cudaEvent_t events[4]; /* start, early, late; of the other stream: end */
    float early_ms, late_ms, end_ms;
    CUDA(cudaStreamCreateWithFlags(&busy, cudaStreamNonBlocking));
    CUDA(cudaStreamCreateWithFlags(&waiting, cudaStreamNonBlocking));
    for (int i = 0; i < 4; i++) CUDA(cudaEventCreate(&events[i]));
    for (int i = 0; i < 3; i++) {
        CUDA(cudaEventRecord(events[i], busy));
        for (int n = 0; n < TASKS; n++) CUDA(cudaMemsetAsync(memory, n, MEMORY, busy));
    }
    CUDA(cudaStreamSynchronize(busy));
    CUDA(cudaStreamWaitEvent(waiting, events[1], 0));
    CUDA(cudaEventRecord(events[3], waiting));
    CUDA(cudaEventSynchronize(events[3]));
    CUDA(cudaEventElapsedTime(&early_ms, events[0], events[1]));
    CUDA(cudaEventElapsedTime(&late_ms, events[0], events[2]));
    CUDA(cudaEventElapsedTime(&end_ms, events[0], events[3]));
    assert_true(early_ms > 0 && late_ms > early_ms && end_ms == early_ms);
    for (int i = 0; i < 4; i++) CUDA(cudaEventDestroy(events[i]));
    CUDA(cudaStreamDestroy(busy));
    CUDA(cudaStreamDestroy(waiting));
    CUDA(cudaFree(memory));
}

/* "The API synchronization behavior" of CUDA: what fits into the staging buffer has only been taken when cudaMemcpy
   returns, what does not is there. */
static void copies_wait_where_cuda_says_so(void **state)
{
    (void)state;
    unsigned char *host = calloc(STAGED + 1, 1), *device = device_memory(STAGED + 1);
    assert_non_null(host);
    for (int larger = 0; larger < 2; larger++)
        for (int asynchronous = 0; asynchronous < 2; asynchronous++) {
            const size_t bytes = STAGED + (size_t)larger;
            CUDA(asynchronous ? cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cudaStreamLegacy)
                              : cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
            assert_int_equal(cudaStreamQuery(cudaStreamLegacy), larger ? cudaSuccess : cudaErrorNotReady);
            CUDA(cudaDeviceSynchronize());
        }
    free(host);
    CUDA(cudaFree(device));
}

/* The last row ends where its memory ends, short of the pitch; one byte more is beyond. */
static void the_last_row_has_no_gap_behind_it(void **state)
{
    (void)state;
    enum { PITCH = 512, WIDTH = 100, HEIGHT = 3 };
    unsigned char rows[HEIGHT][WIDTH] = {{0}}, *device = device_memory((HEIGHT - 1) * PITCH + WIDTH);
    CUDA(cudaMemcpy2D(device, PITCH, rows, WIDTH, WIDTH, HEIGHT, cudaMemcpyHostToDevice));
    CUDA(cudaMemset2D(device, PITCH, 7, WIDTH, HEIGHT));
    CUDA(cudaMemcpy2D(rows, WIDTH, device, PITCH, WIDTH, HEIGHT, cudaMemcpyDeviceToHost));
    for (int i = 0; i < HEIGHT * WIDTH; i++) assert_int_equal(rows[i / WIDTH][i % WIDTH], 7);
    CUDA(cudaFree(device));
}

static void a_pool_gives_no_more_than_its_size(void **state)
{
    (void)state;
    const struct cudaMemPoolProps properties = {.allocType = cudaMemAllocationTypePinned,
                                                .location = {.type = cudaMemLocationTypeDevice},
                                                .maxSize = 4 * BYTES};
    cudaMemPool_t pool;
    void *first, *second;
    uint64_t used, most, none = 0;
    CUDA(cudaMemPoolCreate(&pool, &properties));
    CUDA(cudaMallocFromPoolAsync(&first, 3 * BYTES, pool, cudaStreamLegacy));
    assert_int_equal(cudaMallocFromPoolAsync(&second, 2 * BYTES, pool, cudaStreamLegacy),
                     cudaErrorMemoryAllocation);
    CUDA(cudaMallocFromPoolAsync(&second, BYTES, pool, cudaStreamLegacy));
    CUDA(cudaFreeAsync(first, cudaStreamLegacy));
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
    CUDA(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &most));
    assert_true(used == BYTES && most == 4 * BYTES);
    CUDA(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &none)); /* begins again with what is used now */
    CUDA(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &most));
    assert_true(most == BYTES);
    CUDA(cudaFreeAsync(second, cudaStreamLegacy));
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaMemPoolDestroy(pool));
}

static void store_one(void *data) { *(int *)data = 1; }

/* Nodes of each type that the host can make by itself, added one by one behind each other, and changed afterwards. */
static void graphs_are_made_node_by_node(void **state)
{
    (void)state;
    unsigned char *a = device_memory(BYTES), *b = device_memory(BYTES), result[BYTES];
    int called = 0, called_instead = 0;
    cudaGraph_t graph, child;
    cudaGraphExec_t exec;
    cudaGraphNode_t fill, copy, down, host, inner;
    cudaEvent_t event;
    struct cudaMemsetParams set = {.dst = a, .value = 3, .elementSize = 1, .width = BYTES, .height = 1};
    struct cudaMemcpy3DParms across = {.srcPtr = {a, BYTES, BYTES, 1},
                                       .dstPtr = {b, BYTES, BYTES, 1},
                                       .extent = {BYTES, 1, 1},
                                       .kind = cudaMemcpyDeviceToDevice};
    struct cudaHostNodeParams call = {.fn = store_one, .userData = &called};
    struct cudaHostNodeParams call_instead = {.fn = store_one, .userData = &called_instead};
    CUDA(cudaEventCreate(&event));
    CUDA(cudaGraphCreate(&graph, 0));
    CUDA(cudaGraphCreate(&child, 0));
    CUDA(cudaGraphAddMemcpyNode(&inner, child, NULL, 0, &across));
    CUDA(cudaGraphAddMemsetNode(&fill, graph, NULL, 0, &set));
    CUDA(cudaGraphAddChildGraphNode(&copy, graph, &fill, 1, child));
    CUDA(cudaGraphAddMemcpyNode1D(&down, graph, &copy, 1, result, b, BYTES, cudaMemcpyDeviceToHost));
    CUDA(cudaGraphAddHostNode(&host, graph, &down, 1, &call));
    CUDA(cudaGraphAddEventRecordNode(&inner, graph, &host, 1, event));
    CUDA(cudaGraphAddEmptyNode(&inner, graph, &host, 1));
    set.value = 4;
    CUDA(cudaGraphMemsetNodeSetParams(fill, &set));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CUDA(cudaGraphExecHostNodeSetParams(exec, host, &call_instead));
    CUDA(cudaGraphLaunch(exec, cudaStreamLegacy));
    CUDA(cudaEventSynchronize(event));
    for (int i = 0; i < BYTES; i++) assert_int_equal(result[i], 4);
    assert_true(!called && called_instead);
    CUDA(cudaGraphExecDestroy(exec));
    CUDA(cudaGraphDestroy(graph));
    CUDA(cudaGraphDestroy(child));
    CUDA(cudaEventDestroy(event));
    CUDA(cudaFree(a));
    CUDA(cudaFree(b));
}

/* A stream that joined a capture may go before the capture ends: its work is in the graph. It ends well if that work was joined back. */
static void a_captured_stream_may_be_destroyed(void **state)
{
    (void)state;
    for (int joined = 0; joined < 2; joined++) {
        unsigned char *memory = device_memory(BYTES), result[BYTES];
        cudaStream_t origin, other;
        cudaEvent_t fork, join;
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        CUDA(cudaStreamCreateWithFlags(&origin, cudaStreamNonBlocking));
        CUDA(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
        CUDA(cudaEventCreate(&fork));
        CUDA(cudaEventCreate(&join));
        CUDA(cudaStreamBeginCapture(origin, cudaStreamCaptureModeGlobal));
        CUDA(cudaEventRecord(fork, origin));
        CUDA(cudaStreamWaitEvent(other, fork, 0));
        CUDA(cudaMemsetAsync(memory, 5, BYTES, other));
        CUDA(cudaEventRecord(join, other));
        if (joined) CUDA(cudaStreamWaitEvent(origin, join, 0));
        CUDA(cudaStreamDestroy(other));
        assert_int_equal(cudaStreamEndCapture(origin, &graph), joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
        if (joined) {
            CUDA(cudaGraphInstantiate(&exec, graph, 0));
            CUDA(cudaGraphLaunch(exec, origin));
            CUDA(cudaMemcpyAsync(result, memory, BYTES, cudaMemcpyDeviceToHost, origin));
            CUDA(cudaStreamSynchronize(origin));
            for (int i = 0; i < BYTES; i++) assert_int_equal(result[i], 5);
            CUDA(cudaGraphExecDestroy(exec));
            CUDA(cudaGraphDestroy(graph));
        }
        CUDA(cudaEventDestroy(fork));
        CUDA(cudaEventDestroy(join));
        CUDA(cudaStreamDestroy(origin));
        CUDA(cudaFree(memory));
    }
}

/* A host function that tells its waiter by a condition variable: the program waits, and makes no call of CUDA's. */
typedef struct signal {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count;
} signal;

static void tell(void *data)
{
    signal *s = data;
    pthread_mutex_lock(&s->lock);
    s->count++;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void tell_status(cudaStream_t stream, cudaError_t status, void *data)
{
    (void)stream;
    if (status == cudaSuccess) tell(data);
}

static void a_host_function_may_be_waited_for_without_a_call(void **state)
{
    (void)state;
    signal s = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    unsigned char *memory = device_memory(BYTES), *result;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaGraphNode_t node;
    struct cudaHostNodeParams call = {.fn = tell, .userData = &s};
    CUDA(cudaMallocHost((void **)&result, BYTES));
    CUDA(cudaGraphCreate(&graph, 0));
    CUDA(cudaGraphAddHostNode(&node, graph, NULL, 0, &call));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    for (int way = 0; way < 3; way++) {
        CUDA(cudaMemsetAsync(memory, 6 + way, BYTES, cudaStreamLegacy));
        CUDA(cudaMemcpyAsync(result, memory, BYTES, cudaMemcpyDeviceToHost, cudaStreamLegacy));
        if (way == 0) CUDA(cudaLaunchHostFunc(cudaStreamLegacy, tell, &s));
        if (way == 1) CUDA(cudaStreamAddCallback(cudaStreamLegacy, tell_status, &s, 0));
        if (way == 2) CUDA(cudaGraphLaunch(exec, cudaStreamLegacy));
        pthread_mutex_lock(&s.lock);
        while (s.count <= way) pthread_cond_wait(&s.changed, &s.lock);
        pthread_mutex_unlock(&s.lock);
        for (int i = 0; i < BYTES; i++) assert_int_equal(result[i], 6 + way);
    }
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaGraphExecDestroy(exec));
    CUDA(cudaGraphDestroy(graph));
    CUDA(cudaFreeHost(result));
    CUDA(cudaFree(memory));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocking_streams_and_the_default_one_wait_for_each_other),
        cmocka_unit_test(waiting_for_another_stream_takes_its_time),
        cmocka_unit_test(a_wait_ends_with_its_event),
        cmocka_unit_test(copies_wait_where_cuda_says_so),
        cmocka_unit_test(the_last_row_has_no_gap_behind_it),
        cmocka_unit_test(a_pool_gives_no_more_than_its_size),
        cmocka_unit_test(graphs_are_made_node_by_node),
        cmocka_unit_test(a_captured_stream_may_be_destroyed),
        cmocka_unit_test(a_host_function_may_be_waited_for_without_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
