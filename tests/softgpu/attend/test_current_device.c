/* Two devices: whatever device a context is on and whether a call works or fails, the thread's current device
   is the same after the call as before, and results are correct. */
#include "attend/subject.h"
#include "support/plans.h"

#include <attend/attend_cuda.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define CUDA(call) assert_int_equal(call, cudaSuccess)

static int current; /* the thread's device, which no call may change */

static void expect_device(const char *call, int line)
{
    int device;
    CUDA(cudaGetDevice(&device));
    if (device != current)
        fail_msg("line %d: after %s the current device is %d, not %d", line, call, device, current);
}

/* A call of the library with its expected status. */
#define CALL(wanted, call)              \
    do {                                \
        assert_int_equal(call, wanted); \
        expect_device(#call, __LINE__); \
    } while (0)
#define OK(call) CALL(ATTEND_OK, call)

static void use(subject *s, int device)
{
    attend_context *context;
    attend_plan *plan;
    attend_explanation explanation;
    cudaStream_t stream, foreign;
    OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA, .device_index = device},
                             &context));
    CUDA(cudaSetDevice(!device));
    CUDA(cudaStreamCreateWithFlags(&foreign, cudaStreamNonBlocking));
    CUDA(cudaSetDevice(device));
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int t = 1; t < SUBJECT_TENSORS; t++) CUDA(cudaMalloc(&s->device[t], SUBJECT_BYTES));
    CUDA(cudaSetDevice(current));
    CUDA(cudaMalloc(&s->device[0], SUBJECT_BYTES)); /* on the wrong device */
    OK(subject_plan(s, context, &plan));
    for (int run = 0; run < 2; run++) {
        subject_clear(s);
        OK(subject_run(s, plan, false));
        OK(attend_synchronize(context));
        assert_true(subject_is_right(s));
        OK(attend_context_set_stream(context, stream)); /* for the second run */
    }
    OK(attend_context_set_stream(context, foreign));
    CALL(ATTEND_INVALID_ARGUMENT, subject_run(s, plan, false));
    assert_non_null(strstr(attend_error_message(), "stream does not belong to the context's device"));
    OK(attend_context_set_stream(context, stream));
    CALL(ATTEND_INVALID_ARGUMENT, subject_run(s, plan, true));
    assert_non_null(strstr(attend_error_message(), "lies on CUDA device"));
    if (s->kind == SUBJECT_ATTENTION) {
        OK(subject_inspect(s, plan, false));
        assert_true(subject_inspection_is_right(s));
        CALL(ATTEND_INVALID_ARGUMENT, subject_inspect(s, plan, true));
    }
    if (plan) OK(attend_plan_explain(plan, NULL, &explanation));
    attend_plan_destroy(plan);
    expect_device("attend_plan_destroy", __LINE__);
    attend_context_destroy(context);
    expect_device("attend_context_destroy", __LINE__);
    for (int t = 0; t < SUBJECT_TENSORS; t++) CUDA(cudaFree(s->device[t]));
    CUDA(cudaStreamDestroy(stream));
    CUDA(cudaStreamDestroy(foreign));
}

/* Planning fails after the library has made the context's device current. */
static void fail_to_plan(subject *s, int device)
{
    attend_context *context;
    attend_plan *plan;
    OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA, .device_index = device},
                             &context));
    s->problem.head_dim = s->problem.head_dim_v = 1 << 20;
    CALL(ATTEND_UNSUPPORTED, test_attention_plan(context, &s->problem, &plan));
    attend_context_destroy(context);
    expect_device("attend_context_destroy", __LINE__);
}

static void no_call_changes_the_current_device(void **state)
{
    int count;
    (void)state;
    CUDA(cudaGetDeviceCount(&count));
    if (count < 2) skip();
    for (int kind = 0; kind < SUBJECTS; kind++) {
        for (int device = 0; device < 2; device++) {
            subject s;
            subject_make(&s, (subject_kind)kind);
            current = 1 - device;
            CUDA(cudaSetDevice(current));
            use(&s, device);
            if (kind == SUBJECT_ATTENTION) fail_to_plan(&s, device);
            subject_free(&s);
        }
    }
    attend_context *none;
    CALL(ATTEND_NO_DEVICE,
         attend_context_create(&(attend_context_options){.device = ATTEND_CUDA, .device_index = count},
                               &none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_call_changes_the_current_device)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
