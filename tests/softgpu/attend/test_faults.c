/* Every CUDA and cuBLAS call that attend makes fails once: the first, the second, … the last; and the device
   is lost at every call. Each time there must be a status with a sentence and no leak; the same call must
   work when repeated, with correct results. Each run is a process, forked from one that has used the device
   before. */
#include "attend/attempt.h"
#include "attend/forks.h"
#include "attend/subject.h"

#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* CALLER_MET: a call of the test itself failed. */
enum { CLEAN = 0, FAULT_MET = 10, CALLER_MET = 11 };

/* ---- the run with a fault ---- */

static int callers_failures;

/* The test's own calls, repeated if they meet the fault. */
static bool fine(cudaError_t error)
{
    callers_failures += error != cudaSuccess;
    return error == cudaSuccess;
}

#define CUDA(call) (fine(call) || fine(call))

/* Waits until the copy is done; cudaMemcpy of few bytes to the device may return earlier. */
static bool copy(void *to, const void *from, size_t bytes)
{
    return CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyDefault)) && CUDA(cudaDeviceSynchronize());
}

static bool allocate_tensors(subject *s)
{
    for (int t = 0; t < SUBJECT_TENSORS; t++) {
        if (!CUDA(cudaMalloc(&s->device[t], SUBJECT_BYTES)) || !copy(s->device[t], s->host[t], SUBJECT_BYTES)) return false;
    }
    return true;
}

static void use(subject *s, attend_context *context, cudaStream_t callers_stream)
{
    attend_plan *plan = NULL;
    for (int on_device = 0; on_device < 2; on_device++) {
        if (!ATTEMPT(subject_plan(s, context, &plan))) {
            if (plan) attempt_give_up("a plan in spite of a failure");
            return;
        }
        subject_clear(s);
        if (on_device) s->stream = callers_stream;
        bool done = !on_device || copy(s->device[3], s->host[3], subject_result_bytes(s));
        done = done && ATTEMPT(subject_run(s, plan, on_device)) && ATTEMPT(attend_synchronize(context));
        done = done && (!on_device || copy(s->host[3], s->device[3], subject_result_bytes(s)));
        if (done && !subject_is_right(s)) attempt_give_up("a wrong result, and no failure");
        if (done && s->kind == SUBJECT_LAYER && !on_device) {
            done = ATTEMPT(subject_backward(s, plan)) && ATTEMPT(attend_synchronize(context));
            if (done && !subject_gradients_are_right(s)) attempt_give_up("wrong gradients, and no failure");
        }
        if (done && s->kind == SUBJECT_ATTENTION) {
            done = ATTEMPT(subject_inspect(s, plan, on_device));
            if (done && !subject_inspection_is_right(s)) attempt_give_up("a wrong inspection, and no failure");
            if (done && !on_device) {
                subject_clear(s);
                done = ATTEMPT(subject_merge(s, plan));
                if (done && !subject_is_right(s)) attempt_give_up("a wrong merge, and no failure");
            }
        }
        attend_plan_destroy(plan);
        plan = NULL;
        if (!done) return;
    }
}

static subject subjects[SUBJECTS];

static int run_with_fault(const char *kind)
{
    attend_context *context = NULL;
    attempt = (attempt_fault){.lost = !strcmp(kind, "lost"), .status = !strcmp(kind, "alloc") ? ATTEND_OUT_OF_MEMORY : ATTEND_DEVICE_ERROR};
    bool created = ATTEMPT(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context));
    if (!created && context) attempt_give_up("a context in spite of a failure");
    for (int s = SUBJECTS - 1; s >= 0 && created; s--) {
        /* The last subject also runs on a stream of the caller's: each stream adds a wait to all later
           calls. */
        cudaStream_t stream = NULL;
        subjects[s].stream = NULL;
        const bool ready = allocate_tensors(&subjects[s]) &&
                           (s != SUBJECT_ATTENTION || CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
        if (ready) use(&subjects[s], context, stream);
        if (stream) cudaStreamDestroy(stream);
        for (int t = 0; t < SUBJECT_TENSORS; t++) cudaFree(subjects[s].device[t]);
    }
    attend_context_destroy(context);
    return attempt.failures ? FAULT_MET : callers_failures ? CALLER_MET : CLEAN;
}

/* Without a device, or with one in exclusive use by another process, ATTEND_CUDA is refused with a sentence,
   and ATTEND_AUTO gives the CPU. */
static int run_without_device(int devices, const char *sentence)
{
    attend_context *context = NULL;
    attend_status status = attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context);
    if (status != ATTEND_NO_DEVICE || context || !strstr(attend_error_message(), sentence))
        attempt_give_up("CUDA without a device");
    if (attend_cuda_device_count() != devices) attempt_give_up("devices counted");
    if (attend_context_create(NULL, &context) || attend_context_device(context) != ATTEND_CPU) attempt_give_up("automatic choice");
    attend_context_destroy(context);
    return CLEAN;
}

/* ---- the parent process ---- */

static const char *const kinds[] = {"alloc", "copy", "launch", "cublas", "sync", "event", "context", "lost"};
enum { KINDS = sizeof kinds / sizeof *kinds };
static int64_t calls[KINDS]; /* of a run without faults */

/* Runs without faults, which also loads the kernels, once for all forks. What is loaded saves no calls: a second run makes as many as
   the first. */
static int count_calls(void **state)
{
    (void)state;
    for (int s = 0; s < SUBJECTS; s++) subject_make(&subjects[s], (subject_kind)s);
    for (int again = 0; again < 2; again++) {
        forks_set_faults("");
        assert_int_equal(run_with_fault("copy"), CLEAN);
        for (int i = 0; i < KINDS; i++) {
            if (again) assert_int_equal(calls[i], forks_calls(kinds[i]));
            calls[i] = forks_calls(kinds[i]);
        }
    }
    return 0;
}

static int free_subjects(void **state)
{
    (void)state;
    for (int s = 0; s < SUBJECTS; s++) subject_free(&subjects[s]);
    return 0;
}

/* Lets each call fail, one run each, and none. seen: every failure must be reported; otherwise those in a
   destroy may be ignored. */
static void fail_each(int number, bool seen)
{
    char fault[32];
    const char *kind = kinds[number];
    const bool lost_device = !strcmp(kind, "lost"); /* then nothing can be freed */
    int findings, met = 0;
    for (int k = 1; k <= calls[number] + 1; k++) {
        snprintf(fault, sizeof fault, "%s:%d", kind, k);
        int code = forks_run(NULL, fault, run_with_fault, kind, &findings);
        bool known = code == CLEAN || (k <= calls[number] && (code == FAULT_MET || code == CALLER_MET));
        if (!known || (findings && !lost_device)) fail_msg("%s, exit %d, %d findings:\n%s", fault, code, findings, forks_text);
        met += code == FAULT_MET;
    }
    print_message("%s: attend met %d failing calls of %d\n", kind, met, (int)calls[number]);
    assert_true(seen ? met == calls[number] : met > 0);
}

static void allocations(void **state) { (void)state, fail_each(0, false); }
static void copies(void **state) { (void)state, fail_each(1, false); }
static void launches(void **state) { (void)state, fail_each(2, true); }
static void blas_calls(void **state) { (void)state, fail_each(3, true); }
static void waits(void **state) { (void)state, fail_each(4, false); }
static void events(void **state) { (void)state, fail_each(5, true); }
static void contexts(void **state) { (void)state, fail_each(6, false); }
static void lost_devices(void **state) { (void)state, fail_each(7, false); }

static void expect_cpu(const char *devices, const char *kind)
{
    int findings, code = forks_run(devices, NULL, run_with_fault, kind, &findings);
    if (code || findings) fail_msg("exit %d, %d findings:\n%s", code, findings, forks_text);
}

static void no_device(void **state) { (void)state, expect_cpu("SOFTGPU_DEVICES=none", "none"); }
static void busy_device(void **state) { (void)state, expect_cpu("SOFTGPU_DEVICES=a100,busy=1", "busy"); }

int main(int count, char **arguments)
{
    forks_program = arguments[0];
    if (count > 1 && !strcmp(arguments[1], "none")) return run_without_device(0, "no CUDA device");
    if (count > 1 && !strcmp(arguments[1], "busy"))
        return run_without_device(1, "cudaErrorDevicesUnavailable");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations), cmocka_unit_test(copies),       cmocka_unit_test(launches),
        cmocka_unit_test(blas_calls),  cmocka_unit_test(waits),        cmocka_unit_test(no_device),
        cmocka_unit_test(busy_device), cmocka_unit_test(lost_devices), cmocka_unit_test(events),
        cmocka_unit_test(contexts),
    };
    return cmocka_run_group_tests(tests, count_calls, free_subjects);
}
