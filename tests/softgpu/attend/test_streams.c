/* Streams: runs on device tensors can be captured in a graph, which gives the same bits in each launch, also
   on other data; all work is on the caller's stream; contexts in several threads are independent. */
#include "attend/subject.h"
#include "support/plans.h"

#include <attend/attend_cuda.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define CUDA(call) assert_int_equal(call, cudaSuccess)
#define OK(call)   assert_int_equal(call, ATTEND_OK)

static void to_device(subject *s)
{
    for (int t = 0; t < SUBJECT_TENSORS; t++) {
        if (!s->device[t]) CUDA(cudaMalloc(&s->device[t], SUBJECT_BYTES));
        CUDA(cudaMemcpy(s->device[t], s->host[t], SUBJECT_BYTES, cudaMemcpyHostToDevice));
    }
    CUDA(cudaDeviceSynchronize()); /* a small cudaMemcpy may return before it is done, and attend's stream does not wait for it */
}

static void read_result(subject *s, void *to) { CUDA(cudaMemcpy(to, s->device[3], subject_result_bytes(s), cudaMemcpyDeviceToHost)); }

static void forget_result(subject *s, cudaStream_t stream) { CUDA(cudaMemsetAsync(s->device[3], 0xff, subject_result_bytes(s), stream)); }

static void free_device(subject *s)
{
    for (int t = 0; t < SUBJECT_TENSORS; t++) CUDA(cudaFree(s->device[t]));
}

/* Captures a run in a graph, and compares the graph's results to the plan's. */
static void capture_and_replay(subject_kind kind)
{
    subject s;
    attend_context *context;
    attend_plan *plan;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t instance;
    subject_make(&s, kind);
    void *direct = malloc(subject_result_bytes(&s)), *replayed = malloc(subject_result_bytes(&s));
    assert_true(direct && replayed);
    OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context));
    OK(subject_plan(&s, context, &plan));
    OK(attend_context_stream(context, &stream));
    to_device(&s);
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    OK(subject_run(&s, plan, true));
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&instance, graph, 0));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < SUBJECT_BYTES / 4; i++) ((float *)s.host[0])[i] *= -1.25f;
        to_device(&s);
        OK(subject_run(&s, plan, true));
        OK(attend_synchronize(context));
        read_result(&s, direct);
        forget_result(&s, stream);
        CUDA(cudaGraphLaunch(instance, stream));
        CUDA(cudaStreamSynchronize(stream));
        read_result(&s, replayed);
        assert_memory_equal(direct, replayed, subject_result_bytes(&s));
    }
    CUDA(cudaGraphExecDestroy(instance));
    CUDA(cudaGraphDestroy(graph));
    free_device(&s);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    free(direct), free(replayed);
    subject_free(&s);
}

static void attention_in_a_graph(void **state) { (void)state, capture_and_replay(SUBJECT_ATTENTION); }
static void layer_in_a_graph(void **state) { (void)state, capture_and_replay(SUBJECT_LAYER); }
static void rotation_in_a_graph(void **state) { (void)state, capture_and_replay(SUBJECT_ROTARY); }

/* Work that the caller enqueues before and after a run on its own stream needs no further synchronisation. */
static void callers_stream(void **state)
{
    (void)state;
    for (int kind = 0; kind < SUBJECTS; kind++) {
        subject s;
        attend_context *context;
        attend_plan *plan;
        cudaStream_t stream, used;
        void *input, *result;
        subject_make(&s, (subject_kind)kind);
        size_t bytes = subject_result_bytes(&s);
        CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        CUDA(cudaMallocHost(&input, bytes));
        CUDA(cudaMallocHost(&result, bytes));
        OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context));
        OK(attend_context_set_stream(context, stream));
        OK(attend_context_stream(context, &used));
        assert_ptr_equal(used, stream);
        OK(subject_plan(&s, context, &plan));
        to_device(&s);
        memcpy(input, s.host[0], bytes);
        CUDA(cudaMemsetAsync(s.device[0], 0, bytes, stream));
        CUDA(cudaMemcpyAsync(s.device[0], input, bytes, cudaMemcpyHostToDevice, stream));
        OK(subject_run(&s, plan, true));
        CUDA(cudaMemcpyAsync(result, s.device[3], bytes, cudaMemcpyDeviceToHost, stream));
        CUDA(cudaStreamSynchronize(stream));
        memcpy(s.host[3], result, bytes);
        assert_true(subject_is_right(&s));
        free_device(&s);
        attend_plan_destroy(plan);
        attend_context_destroy(context);
        CUDA(cudaFreeHost(input));
        CUDA(cudaFreeHost(result));
        CUDA(cudaStreamDestroy(stream));
        subject_free(&s);
    }
}

/* Returns NULL if all results are correct; cmocka's assertions only work in the main thread. */
static void *work_alone(void *number)
{
    const char *problem = NULL;
    attend_context *context = NULL;
    attend_plan *plan = NULL;
    subject s;
    subject_make(&s, (subject_kind)(*(int *)number % SUBJECTS));
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) problem = "no context";
    for (int round = 0; round < 3 && !problem; round++) {
        subject_clear(&s);
        if (subject_plan(&s, context, &plan) || subject_run(&s, plan, false) || attend_synchronize(context)) problem = "no result";
        else if (!subject_is_right(&s)) problem = "a wrong result";
        attend_plan_destroy(plan);
        plan = NULL;
    }
    attend_context_destroy(context);
    subject_free(&s);
    return (void *)problem;
}

static void threads_are_independent(void **state)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    int numbers[THREADS];
    (void)state;
    for (int t = 0; t < THREADS; t++) {
        numbers[t] = t;
        assert_int_equal(pthread_create(&threads[t], NULL, work_alone, &numbers[t]), 0);
    }
    for (int t = 0; t < THREADS; t++) {
        void *problem;
        pthread_join(threads[t], &problem);
        if (problem) fail_msg("thread %d: %s", t, (const char *)problem);
    }
}

/* Rows at odd multiples of two bytes: a fallback kernel runs, and is reported, unless the context is
   strict. */
static void strict_contexts_refuse_rows_that_are_not_aligned(void **state)
{
    (void)state;
    enum { ROWS = 4, STEP = 9, DIM = 8 };
    void *memory;
    CUDA(cudaMalloc(&memory, 4 * ROWS * STEP * 2));
    CUDA(cudaMemset(memory, 0, 4 * ROWS * STEP * 2));
    CUDA(cudaDeviceSynchronize());
    for (int strict = 0; strict < 2; strict++) {
        attend_context *context;
        attend_plan *plan;
        attend_explanation e;
        attend_problem p = {.batch = 1, .seqlen_q = ROWS, .seqlen_k = ROWS, .num_heads = 1, .head_dim = DIM, .dtype = ATTEND_F16};
        attend_tensor t[4];
        for (int i = 0; i < 4; i++) {
            t[i] = attend_tensor_4d((char *)memory + i * ROWS * STEP * 2, ATTEND_F16, 1, ROWS, 1, DIM);
            t[i].stride[0] = ROWS * STEP, t[i].stride[1] = t[i].stride[2] = STEP, t[i].stride[3] = 1;
        }
        assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA, .strict = strict}, &context), ATTEND_OK);
        assert_int_equal(test_attention_plan(context, &p, &plan), ATTEND_OK);
        assert_int_equal(attend_plan_explain(plan, NULL, &e), ATTEND_OK);
        assert_string_equal(e.kernel, "flash_mma_f16_d32");
        assert_string_equal(e.kernel_unaligned, "flash_fma_f16_d128");
        attend_status status = attend_attention_forward(plan, &(attend_attention_args){.q = t[0], .k = t[1], .v = t[2], .out = t[3]});
        assert_int_equal(status, strict ? ATTEND_UNSUPPORTED : ATTEND_OK);
        if (strict)
            assert_string_equal(attend_error_message(), "q has rows that are not at multiples of 16 bytes, but flash_mma_f16_d32 needs that, and the "
                                                        "context is strict, which forbids the fallback, flash_fma_f16_d128");
        assert_int_equal(attend_synchronize(context), ATTEND_OK);
        attend_plan_destroy(plan);
        attend_context_destroy(context);
    }
    CUDA(cudaFree(memory));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(attention_in_a_graph), cmocka_unit_test(layer_in_a_graph), cmocka_unit_test(rotation_in_a_graph),
                                       cmocka_unit_test(callers_stream), cmocka_unit_test(threads_are_independent),
                                       cmocka_unit_test(strict_contexts_refuse_rows_that_are_not_aligned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
