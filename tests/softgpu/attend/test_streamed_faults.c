/* Layers and several devices, streamed through the least budget: calls of CUDA fail by turns, and a device is lost. There is a status with
   a sentence; after one failed call nothing leaks and the same call works when it is repeated; once CUDA cannot be used again, the sentence
   says so, every call fails, and everything can still be destroyed. Each run is a process. */
#include "attend/attempt.h"
#include "attend/forks.h"
#include "support/layers.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { QUERIES = 66, KEYS = 1024 + 8, HIDDEN = 8, HEADS = 1, DIM = 8, DEVICES = 2, OUT = QUERIES * HIDDEN };
enum { RIGHT = 0, FAILED = 10 };

/* Each in blocks of rows, and attention in parts of keys. */
typedef struct subject {
    const char *name;
    bool layer;
    attend_problem problem;
    size_t least; /* budget */
} subject;

static subject subjects[] = {
    {.name = "layer", .layer = true,
     .problem = {.batch = 1, .seqlen_q = QUERIES, .seqlen_k = KEYS, .num_heads = HEADS, .num_kv_heads = 1, .head_dim = DIM, .hidden_size = HIDDEN, .context_hidden_size = HIDDEN}},
    {.name = "devices", .problem = {.batch = 1, .seqlen_q = QUERIES, .seqlen_k = KEYS, .num_heads = HEADS, .num_kv_heads = 1, .head_dim = DIM, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT}},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

static test_layer layer;
static float numbers[3][KEYS * HIDDEN], out[OUT], expected[SUBJECTS][OUT];

/* ---- one process ---- */

static attend_status plan_of(const subject *s, attend_context *context, size_t limit, size_t *least, attend_plan **plan)
{
    const attend_plan_options options = {.host_tensors = ATTEND_HOST_ALL, .memory_limit_bytes = limit, .least_bytes = least};
    return s->layer ? attend_layer_plan_with(context, &s->problem, &layer.weights, &options, plan)
                    : attend_attention_plan_with(context, &s->problem, &options, plan);
}

static attend_status run(const subject *s, attend_plan *plan)
{
    const attend_layer_args all = {.x = layer.args.x, .context = layer.args.context, .out = attend_tensor_3d(out, ATTEND_F32, 1, QUERIES, HIDDEN)};
    const attend_attention_args args = {.q = attend_tensor_4d(numbers[0], ATTEND_F32, 1, QUERIES, HEADS, DIM), .k = attend_tensor_4d(numbers[1], ATTEND_F32, 1, KEYS, 1, DIM),
                                        .v = attend_tensor_4d(numbers[2], ATTEND_F32, 1, KEYS, 1, DIM), .out = attend_tensor_4d(out, ATTEND_F32, 1, QUERIES, HEADS, DIM)};
    return s->layer ? attend_layer_forward(plan, &all) : attend_attention_forward(plan, &args);
}

static attend_status open(const subject *s, attend_context **context)
{
    static const int devices[DEVICES] = {0, 1};
    return s->layer ? attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, context)
                    : attend_context_create_group(NULL, devices, DEVICES, context);
}

/* A run that failed left nothing in flight that would write to the caller's memory later. */
static bool accept_run(const subject *s, attend_plan *plan)
{
    if (attempt_accept(run(s, plan), "run")) return true;
    if (attempt.lost) return false;
    memset(out, 0x55, sizeof out);
    for (int device = 0; device < DEVICES; device++)
        if (cudaSetDevice(device) || cudaDeviceSynchronize()) attempt_give_up("cudaDeviceSynchronize");
    for (size_t i = 0; i < sizeof out; i++)
        if (((const unsigned char *)out)[i] != 0x55) attempt_give_up("written behind a failure");
    return attempt_accept(run(s, plan), "run again");
}

static void use(const subject *s, attend_context *context)
{
    attend_plan *plan = NULL;
    memset(out, 0xff, sizeof out);
    if (cudaHostRegister(out, sizeof out, cudaHostRegisterDefault) && !attempt.lost && cudaHostRegister(out, sizeof out, cudaHostRegisterDefault)) attempt_give_up("cudaHostRegister");
    if (!ATTEMPT(plan_of(s, context, s->least, NULL, &plan))) {
        if (plan) attempt_give_up("a plan in spite of a failure");
        cudaHostUnregister(out);
        return;
    }
    bool done = accept_run(s, plan);
    if (done && !attempt_accept(attend_synchronize(context), "attend_synchronize")) /* what was enqueued is lost */
        done = !attempt.lost && ATTEMPT(run(s, plan)) && ATTEMPT(attend_synchronize(context));
    for (int i = 0; i < OUT && done; i++)
        if (!(fabsf(out[i] - expected[s - subjects][i]) <= 1e-4f)) attempt_give_up("a wrong result, and no failure");
    attend_plan_destroy(plan);
    cudaHostUnregister(out);
}

/* mode: a subject's name; behind a device that is lost: a space. */
static int one_process(const char *mode)
{
    const subject *s = subjects;
    attend_context *context = NULL;
    while (strncmp(s->name, mode, strlen(s->name))) s++;
    attempt = (attempt_fault){.lost = strchr(mode, ' ') != NULL};
    if (ATTEMPT(open(s, &context))) {
        use(s, context);
        if (attempt.lost && attempt.failures && attend_synchronize(context) == ATTEND_OK) attempt_give_up("a lost device can be used");
    }
    if (attempt.lost && attempt.failures && !strstr(attend_error_message(), "CUDA cannot be used again in this process")) attempt_give_up("it is not said that the device is lost");
    if (attend_context_destroy(context)) attempt_give_up("attend_context_destroy");
    return attempt.failures ? FAILED : RIGHT;
}

/* ---- the parent ---- */

/* Without faults here, which also loads the kernels for all forks. */
static int prepare(void **state)
{
    (void)state;
    test_layer_make(&layer, &subjects[0].problem);
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < KEYS * HIDDEN; i++) numbers[t][i] = (float)((i * 7919 + 13 * t) % 101) / 101 - 0.5f;
    for (int i = 0; i < SUBJECTS; i++) {
        subject *s = &subjects[i];
        attend_context *context;
        attend_plan *plan;
        if (attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 1}, &context) || plan_of(s, context, 0, NULL, &plan) || run(s, plan))
            fail_msg("%s", attend_error_message());
        attend_plan_destroy(plan), attend_context_destroy(context);
        memcpy(expected[i], out, sizeof out);
        if (open(s, &context) || plan_of(s, context, 0, &s->least, &plan)) fail_msg("%s", attend_error_message());
        attend_plan_destroy(plan), attend_context_destroy(context);
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_layer_free(&layer);
    return 0;
}

/* Some of the calls of a kind, or with ATTEND_TEST_EACH all of them. */
static int fail_some(const subject *s, const char *kind, const char *error, int some)
{
    char fault[64], mode[16];
    const bool is_lost = !strcmp(kind, "lost");
    snprintf(mode, sizeof mode, "%s%s", s->name, is_lost ? " " : "");
    forks_set_faults("");
    assert_int_equal(one_process(mode), RIGHT);
    const int calls = (int)forks_calls(kind), step = getenv("ATTEND_TEST_EACH") || calls <= some ? 1 : calls / some;
    int met = 0, findings;
    for (int k = calls; k > 0; k -= step) {
        snprintf(fault, sizeof fault, "%s:%d%s", kind, k, error);
        const int code = forks_run(NULL, fault, one_process, mode, &findings);
        if ((code != RIGHT && code != FAILED) || (findings && !is_lost))
            fail_msg("%s, %s, exit %d, %d findings:\n%s", s->name, fault, code, findings, forks_text);
        met += code == FAILED;
    }
    print_message("%s, %s: %d calls, %d failures met\n", s->name, kind, calls, met);
    return met;
}

static void each_call_may_fail(void **state)
{
    (void)state;
    static const char *const kinds[] = {"alloc", "copy", "launch", "cublas", "sync", "event"};
    for (int i = 0; i < SUBJECTS; i++) {
        int met = 0;
        for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++)
            if (subjects[i].layer || strcmp(kinds[n], "cublas")) met += fail_some(&subjects[i], kinds[n], "", 2);
        assert_true(met > 0);
    }
}

static void a_device_may_be_lost(void **state)
{
    (void)state;
    for (int i = 0; i < SUBJECTS; i++) assert_true(fail_some(&subjects[i], "lost", "=cudaErrorIllegalAddress", 4) > 0);
}

int main(int count, char **arguments)
{
    forks_program = arguments[0];
    if (count > 1) return one_process(arguments[1]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_call_may_fail), cmocka_unit_test(a_device_may_be_lost)};
    return cmocka_run_group_tests(tests, prepare, end);
}
