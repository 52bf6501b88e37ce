/* A context on one of several devices does not affect the others: the thread's current device is the same
   after every call, and a thread that never chose a device gets no CUDA context on device 0. */
#include "attend/subject.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static CUresult (*primary_state)(CUdevice, unsigned *, int *);

static bool is_active(int device)
{
    unsigned flags;
    int active = 0;
    return primary_state(device, &flags, &active) != CUDA_SUCCESS || active;
}

static int current(void)
{
    int device = -1;
    return cudaGetDevice(&device) == cudaSuccess ? device : -1;
}

/* The first failure of work on `device` by a thread whose current device is `expected`; NULL: none. */
static const char *work(int device, int expected)
{
    const char *wrong = NULL;
    attend_context *context;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA, .device_index = device}, &context)) return "no context";
    if (current() != expected) wrong = "another device after making a context";
    for (int kind = 0; kind < SUBJECTS && !wrong; kind++) {
        attend_plan *plan;
        subject s;
        subject_make(&s, (subject_kind)kind);
        subject_clear(&s);
        if (subject_plan(&s, context, &plan)) wrong = "no plan";
        else if (current() != expected) wrong = "another device after planning";
        else if (subject_run(&s, plan, false)) wrong = "no run";
        else if (current() != expected) wrong = "another device after a run";
        else if (attend_synchronize(context)) wrong = "no end";
        else if (current() != expected) wrong = "another device after waiting";
        else if (!subject_is_right(&s)) wrong = "a wrong result";
        else if (kind == SUBJECT_ATTENTION && subject_inspect(&s, plan, false)) wrong = "no inspection";
        else if (current() != expected) wrong = "another device after inspecting";
        attend_plan_destroy(plan);
        if (!wrong && current() != expected) wrong = "another device after the plan";
        subject_free(&s);
    }
    attend_context_destroy(context);
    return !wrong && current() != expected ? "another device at the end" : wrong;
}

static void *work_on_the_last(void *count) { return (void *)work(*(int *)count - 1, 0); }

static void need_two_devices(int *count)
{
    enum cudaDriverEntryPointQueryResult result;
    void *function;
    if (cudaGetDeviceCount(count) != cudaSuccess || *count < 2) skip();
    assert_int_equal(cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &function, 7000, cudaEnableDefault, &result), cudaSuccess);
    memcpy(&primary_state, &function, sizeof function);
}

/* Must run first, while no device has a context. */
static void a_thread_that_chose_none_gets_no_context_on_the_first(void **state)
{
    int count;
    pthread_t thread;
    void *wrong;
    (void)state;
    need_two_devices(&count);
    assert_false(is_active(0));
    assert_int_equal(pthread_create(&thread, NULL, work_on_the_last, &count), 0);
    pthread_join(thread, &wrong);
    if (wrong) fail_msg("%s", (const char *)wrong);
    assert_false(is_active(0));
    assert_true(is_active(count - 1));
}

static void the_chosen_device_stays(void **state)
{
    int count;
    (void)state;
    need_two_devices(&count);
    for (int chosen = 0; chosen < 2; chosen++) {
        assert_int_equal(cudaSetDevice(chosen), cudaSuccess);
        const char *wrong = work(1 - chosen, chosen);
        if (wrong) fail_msg("device %d chosen: %s", chosen, wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_thread_that_chose_none_gets_no_context_on_the_first), cmocka_unit_test(the_chosen_device_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
