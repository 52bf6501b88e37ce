/* The pipeline that streams tensors of the host. Each wait for an event, of a stream or of the host, is left out by turns: the software device runs
   work as late as the waits allow, so that the result is wrong, or a finding reported, unless other
   waits imply this one. And calls of CUDA fail by turns: there is a status with a sentence, nothing leaks, the context is
   usable, and the same call works when it is repeated. Each run is a process. */
#include "attend/attempt.h"
#include "attend/forks.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Two blocks of queries, three parts of keys. */
enum { QUERIES = 72, KEYS = 2048 + 40, HEADS = 1, DIM = 16, RUNS = 3, OUT = QUERIES * HEADS * DIM };
enum { RIGHT = 0, WRONG = ATTEMPT_WRONG, FAILED = 10 };

static const attend_problem problem = {.batch = 1, .seqlen_q = QUERIES, .seqlen_k = KEYS, .num_heads = HEADS, .num_kv_heads = 1, .head_dim = DIM, .dtype = ATTEND_F16,
                                       .causal = ATTEND_CAUSAL_BOTTOM_RIGHT};

/* ---- one process ---- */

typedef struct tensors {
    uint16_t *q, *k, *v, *out, *expected; /* f16 */
} tensors;

/* From 0.5 to 1, of either sign. */
static uint16_t *numbers(int count, unsigned seed)
{
    uint16_t *x = malloc((size_t)count * sizeof *x);
    for (int i = 0; i < count; i++) seed = seed * 1664525u + 1013904223u, x[i] = (uint16_t)(0x3800 | (seed >> 16 & 0x83ff));
    return x;
}

static float value(uint16_t bits)
{
    const int exponent = bits >> 10 & 31;
    const float x = exponent ? ldexpf((float)(1024 + (bits & 1023)), exponent - 25) : ldexpf((float)(bits & 1023), -24);
    return exponent == 31 ? NAN : bits >> 15 ? -x : x;
}

static attend_attention_args args_of(const tensors *t, uint16_t *out)
{
    return (attend_attention_args){.q = attend_tensor_4d(t->q, ATTEND_F16, 1, QUERIES, HEADS, DIM),
                                   .k = attend_tensor_4d(t->k, ATTEND_F16, 1, KEYS, 1, DIM),
                                   .v = attend_tensor_4d(t->v, ATTEND_F16, 1, KEYS, 1, DIM),
                                   .out = attend_tensor_4d(out, ATTEND_F16, 1, QUERIES, HEADS, DIM)};
}

static bool right(const tensors *t)
{
    for (int i = 0; i < OUT; i++)
        if (!(fabsf(value(t->out[i]) - value(t->expected[i])) <= 1e-3f)) return false;
    return true;
}

static void make(tensors *t, unsigned seed)
{
    attend_context *cpu;
    attend_plan *plan;
    *t = (tensors){numbers(OUT, seed), numbers(KEYS * DIM, seed + 1), numbers(KEYS * DIM, seed + 2), numbers(OUT, 0), numbers(OUT, 0)};
    const attend_attention_args args = args_of(t, t->expected);
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 1}, &cpu) || attend_attention_plan(cpu, &problem, &plan) ||
        attend_attention_forward(plan, &args))
        attempt_give_up("on the CPU");
    attend_plan_destroy(plan), attend_context_destroy(cpu);
    memset(t->out, 0xff, OUT * sizeof *t->out);
}

/* inputs: they too, beside the output. */
static void pin(const tensors *t, bool inputs, bool pins)
{
    uint16_t *const all[] = {t->q, t->k, t->v, t->out};
    const size_t bytes[] = {OUT * 2, KEYS * DIM * 2, KEYS * DIM * 2, OUT * 2};
    for (int i = inputs ? 0 : 3; i < 4; i++)
        for (int again = !attempt.none; (pins ? cudaHostRegister(all[i], bytes[i], 0) : cudaHostUnregister(all[i])) != cudaSuccess; again--)
            if (!again) attempt_give_up("cudaHostRegister");
}

static cudaStream_t stream; /* of the runs */
static void *produced;

/* The keys come from work of the caller's on that stream, behind other work. */
static void produce(const tensors *t)
{
    const size_t bytes = KEYS * DIM * 2;
    if (cudaMalloc(&produced, bytes) || cudaMemcpyAsync(produced, t->k, bytes, cudaMemcpyHostToDevice, stream) || cudaStreamSynchronize(stream)) attempt_give_up("produce");
    memset(t->k, 0xff, bytes);
    if (cudaMemcpyAsync(t->k, produced, bytes, cudaMemcpyDeviceToHost, stream)) attempt_give_up("produce");
}

/* Two runs of pinned tensors in flight together, then one of pageable inputs. */
static int one_process(const char *mode)
{
    attend_context *context = NULL;
    attend_plan *plan = NULL;
    size_t least = 0;
    tensors t[RUNS];
    attempt = (attempt_fault){.none = strcmp(mode, "fault") != 0}, produced = NULL;
    for (unsigned i = 0; i < RUNS; i++) make(&t[i], 7 * i + 1);
    (void)ATTEMPT(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context));
    const attend_plan_options unlimited = {.host_tensors = ATTEND_HOST_ALL, .least_bytes = &least};
    (void)ATTEMPT(attend_attention_plan_with(context, &problem, &unlimited, &plan));
    attend_plan_destroy(plan);
    const attend_plan_options options = {.host_tensors = ATTEND_HOST_ALL, .memory_limit_bytes = least + 1024};
    (void)ATTEMPT(attend_attention_plan_with(context, &problem, &options, &plan));
    for (int i = 0; i < RUNS; i++) pin(&t[i], i < RUNS - 1, true);
    for (int again = !attempt.none; cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess; again--)
        if (!again) attempt_give_up("cudaStreamCreateWithFlags");
    for (int i = 0; i < RUNS; i++) {
        const attend_attention_args args = args_of(&t[i], t[i].out);
        if (i == RUNS - 1) cudaDeviceSynchronize(); /* all streams meet, in an order drawn from the seed */
        if (i == 0 && attempt.none) produce(&t[0]);
        (void)ATTEMPT(attend_attention_run(plan, &args, &(attend_run){.stream = stream}));
    }
    if (!attempt_accept(attend_synchronize(context), "attend_synchronize")) /* what was enqueued is lost */
        for (int i = 0; i < RUNS; i++) {
            const attend_attention_args args = args_of(&t[i], t[i].out);
            if (attend_attention_forward(plan, &args) || attend_synchronize(context)) attempt_give_up("again");
        }
    bool all_right = true;
    for (int i = 0; i < RUNS; i++) all_right = all_right && right(&t[i]);
    for (int i = 0; i < RUNS; i++) pin(&t[i], i < RUNS - 1, false);
    attend_plan_destroy(plan), attend_context_destroy(context);
    cudaFree(produced), cudaStreamDestroy(stream);
    for (int i = 0; i < RUNS; i++) free(t[i].q), free(t[i].k), free(t[i].v), free(t[i].out), free(t[i].expected);
    return !all_right ? WRONG : attempt.failures ? FAILED : RIGHT;
}

/* ---- the parent ---- */

/* Runs here without faults, which also loads the kernels for all forks. */
static void count_calls(const char *mode)
{
    forks_set_faults("");
    assert_int_equal(one_process(mode), RIGHT);
}

/* ATTEND_TEST_EACH: every one, under three seeds; else some. */
static int step_of(int calls, int some) { return getenv("ATTEND_TEST_EACH") || calls <= some ? 1 : calls / some; }

static void no_order_of_the_streams_changes_the_result(void **state)
{
    (void)state;
    for (int seed = 1; seed <= 6; seed++) {
        char environment[32];
        int findings;
        snprintf(environment, sizeof environment, "SOFTGPU_SEED=%d", seed);
        const int code = forks_run(environment, NULL, one_process, "run", &findings);
        if (code || findings) fail_msg("seed %d, exit %d, %d findings:\n%s", seed, code, findings, forks_text);
    }
}

/* Some waits are implied by others: keys come behind the queries on one stream, and the first copy to a buffer waits for nothing. */
static void left_out_waits_show(void **state)
{
    (void)state;
    enum { SOME = 33 };
    count_calls("run");
    const int waits = (int)forks_calls("order"), seeds = getenv("ATTEND_TEST_EACH") ? 3 : 1;
    int caught = 0, tried = 0, findings;
    char setting[32], fault[32];
    for (int k = waits; k > 0; k -= step_of(waits, SOME)) {
        bool shows = false;
        for (int seed = 1; seed <= seeds && !shows; seed++) {
            snprintf(setting, sizeof setting, "SOFTGPU_SEED=%d", seed), snprintf(fault, sizeof fault, "order:%d", k);
            shows = forks_run(seed > 1 ? setting : NULL, fault, one_process, "run", &findings) != RIGHT || findings;
        }
        print_message("without wait %d: %s\n", k, shows ? "wrong" : "right");
        caught += shows, tried++;
    }
    print_message("%d of %d waits show\n", caught, tried);
    assert_true(caught >= tried / 4);
}

static void each_call_may_fail(void **state)
{
    (void)state;
    enum { SOME = 8 };
    static const char *const kinds[] = {"alloc", "copy", "launch", "sync", "event"};
    int calls[sizeof kinds / sizeof *kinds];
    count_calls("fault");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) calls[i] = (int)forks_calls(kinds[i]);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int findings, met = 0;
        for (int k = calls[i]; k > 0; k -= step_of(calls[i], SOME)) {
            char fault[32];
            snprintf(fault, sizeof fault, "%s:%d", kinds[i], k);
            const int code = forks_run(NULL, fault, one_process, "fault", &findings);
            if ((code != RIGHT && code != FAILED) || findings) fail_msg("%s, exit %d, %d findings:\n%s", fault, code, findings, forks_text);
            met += code == FAILED;
        }
        print_message("%s: %d calls, %d failures met\n", kinds[i], calls[i], met);
        assert_true(met > 0);
    }
}

int main(int count, char **arguments)
{
    forks_program = arguments[0];
    if (count > 1) return one_process(arguments[1]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_order_of_the_streams_changes_the_result), cmocka_unit_test(left_out_waits_show), cmocka_unit_test(each_call_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
