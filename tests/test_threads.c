/* A context's threads: every index of a loop is taken once; nothing depends on OpenMP, on helpers that come
   late or not at all, or on a fork; waiting ends soon; and a system that refuses threads gives a sentence. */
#include "support/layers.h"
#include "support/run.h"
#include "support/sanitized.h"
#include "core/pool.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { THREADS = 4, TIMEOUT = 60 /* seconds: for what would never end */ };

/* ---- OpenMP ---- */

static atomic_int teams;

/* What compilers make of a parallel region, in libattend and in oneDNN. The team that is granted here has one
 * thread. */
__attribute__((visibility("default"))) void GOMP_parallel(void (*region)(void *), void *data,
                                                          unsigned threads, unsigned flags);
void GOMP_parallel(void (*region)(void *), void *data, unsigned threads, unsigned flags)
{
    (void)threads, (void)flags;
    atomic_fetch_add(&teams, 1);
    region(data);
}

static attend_context *context_of(int threads)
{
    attend_context *context;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = threads}, &context))
        fail_msg("%s", attend_error_message());
    return context;
}

static const attend_problem layer_problem = {.batch = 1,
                                             .seqlen_q = 300,
                                             .num_heads = 4,
                                             .head_dim = 32,
                                             .hidden_size = 256,
                                             .rotary = ATTEND_ROTARY_HALVES,
                                             .absolute = ATTEND_ABSOLUTE_SINUSOIDAL};

/* Held against the reference, which has threads too. */
static bool passes(attend_context *context)
{
    test_run r = test_run_make(ATTEND_F32, 64, 1, 100, 100, 4, 4, ATTEND_CAUSAL_NONE);
    const attend_attention_args args = {.q = r.q, .k = r.k, .v = r.v, .out = r.out, .lse = r.lse};
    attend_comparison comparison = {0};
    test_run_go(&r, context, "attention");
    const attend_status status =
        attend_compare(&r.p, &args, &(attend_compare_options){.threads = THREADS}, &comparison);
    test_run_free(&r);
    return status == ATTEND_OK && comparison.passed;
}

static void no_run_asks_openmp_for_a_team(void **state)
{
    (void)state;
    attend_context *context = context_of(THREADS);
    test_layer layer;
    test_layer_make(&layer, &layer_problem);
    test_layer_go(&layer, context);
    for (int queries = 1; queries <= 60; queries += 59) {
        test_run r = test_run_make(ATTEND_F32, 64, 1, queries, 3000, 4, 2, ATTEND_CAUSAL_NONE);
        test_run_go(&r, context, "attention");
        test_run_free(&r);
    }
    assert_true(passes(context));
    assert_int_equal(teams, 0); /* so that a child of fork() does not wait for one that is not there */
    test_layer_free(&layer);
    attend_context_destroy(context);
}

/* ---- loops ---- */

typedef struct counting {
    atomic_int *taken, *inside;
    int threads;
    atomic_int wrong;
} counting;

static void count(void *job, int64_t index, int thread)
{
    counting *c = job;
    if (thread < 0 || thread >= c->threads || atomic_fetch_add(&c->inside[thread], 1) != 0)
        atomic_fetch_add(&c->wrong, 1);
    atomic_fetch_add(&c->taken[index], 1);
    atomic_fetch_sub(&c->inside[thread], 1);
}

static void every_index_is_taken_once(void **state)
{
    (void)state;
    static const int64_t counts[] = {0, 1, 2, 3, 17, 1000};
    static const double estimates[] = {0, 1, 2e4, 1e9};
    for (int threads = 1; threads <= 9; threads += 2) {
        attend_pool *pool;
        assert_int_equal(attend_pool_create(threads, &pool), ATTEND_OK);
        assert_int_equal(attend_pool_threads(pool), threads);
        for (int round = 0; round < 40 * 6 * 4; round++) {
            static atomic_int taken[1000], inside[9];
            const int64_t n = counts[round % 6];
            counting c = {taken, inside, threads, 0};
            for (int64_t i = 0; i < n; i++) taken[i] = 0;
            attend_pool_run(pool, n, estimates[round / 6 % 4], count, &c);
            for (int64_t i = 0; i < n; i++) assert_int_equal(taken[i], 1);
            assert_int_equal(c.wrong, 0);
        }
        attend_pool_destroy(pool);
    }
}

static void work_is_worth_as_many_threads_as_it_keeps_busy(void **state)
{
    (void)state;
    attend_pool *pool;
    assert_int_equal(attend_pool_create(THREADS, &pool), ATTEND_OK);
    assert_int_equal(attend_pool_worth(pool, 0), 1);
    assert_int_equal(attend_pool_worth(pool, 5e3), 1);
    assert_int_equal(attend_pool_worth(pool, 1e12), THREADS);
    for (double ns = 1; ns < 1e6; ns *= 2)
        assert_true(attend_pool_worth(pool, ns) <= attend_pool_worth(pool, 2 * ns));
    attend_pool_destroy(pool);
}

/* ---- helpers that do not come ---- */

static atomic_int held;
static atomic_bool released;

static void hold(int signal)
{
    (void)signal;
    atomic_fetch_add(&held, 1);
    while (!released) syscall(SYS_nanosleep, &(struct timespec){0, 1000000}, NULL);
}

/* Sends SIGPROF to all threads but the caller; how many. */
static int hold_others(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int others = 0;
    assert_non_null(tasks);
    for (struct dirent *task; (task = readdir(tasks));) {
        const int id = atoi(task->d_name);
        if (id > 0 && id != syscall(SYS_gettid) && syscall(SYS_tgkill, getpid(), id, SIGPROF) == 0) others++;
    }
    closedir(tasks);
    return others;
}

static void *copy_of(const attend_tensor *t, size_t *bytes)
{
    *bytes = (size_t)(t->shape[0] * t->shape[1] * t->shape[2] * (t->rank == 4 ? t->shape[3] : 1)) *
             attend_dtype_bytes(t->dtype);
    void *copy = malloc(*bytes);
    assert_non_null(copy);
    return memcpy(copy, t->data, *bytes);
}

/* Others' work has all processors but the caller's: here, helpers sit in a signal's handler. */
static void helpers_that_do_not_come_are_not_waited_for(void **state)
{
    (void)state;
    if (TEST_SANITIZED) skip(); /* they deliver signals when it suits them */
    attend_context *context = context_of(THREADS);
    test_layer layer;
    test_layer_make(&layer, &layer_problem);
    test_layer_go(&layer, context);
    size_t bytes;
    void *expected = copy_of(&layer.args.out, &bytes);
    released = false;
    struct sigaction action = {.sa_handler = hold}, before;
    sigaction(SIGPROF, &action, &before);
    alarm(TIMEOUT);
    const int others = hold_others();
    assert_int_equal(others, THREADS - 1);
    while (held < others) usleep(1000);
    memset(layer.args.out.data, 0xff, bytes);
    test_layer_go(&layer, context);
    assert_memory_equal(layer.args.out.data, expected, bytes);
    released = true;
    attend_context_destroy(context);
    alarm(0);
    sigaction(SIGPROF, &before, NULL);
    test_layer_free(&layer);
    free(expected);
}

/* ---- forks ---- */

/* What a child makes of a plan that its parent ran; 0: the same. */
static int run_in_child(attend_plan *plan, const test_layer *layer, const void *expected, size_t bytes,
                        attend_context *context)
{
    alarm(TIMEOUT);
    for (int i = 0; i < 3; i++) {
        memset(layer->args.out.data, 0xff, bytes);
        if (attend_layer_forward(plan, &layer->args)) return 1;
        if (memcmp(layer->args.out.data, expected, bytes)) return 2;
    }
    if (!passes(context)) return 4;
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    test_layer_go(layer, context = context_of(THREADS));
    if (memcmp(layer->args.out.data, expected, bytes)) return 3;
    attend_context_destroy(context);
    return 0;
}

static void a_child_goes_on(void **state)
{
    (void)state;
    attend_context *context = context_of(THREADS);
    attend_plan *plan;
    test_layer layer;
    size_t bytes;
    test_layer_make(&layer, &layer_problem);
    if (attend_layer_plan(context, &layer.given, &layer.weights, &plan) ||
        attend_layer_forward(plan, &layer.args))
        fail_msg("%s", attend_error_message());
    void *expected = copy_of(&layer.args.out, &bytes);
    assert_true(passes(context));
    for (int i = 0; i < 2; i++) {
        int status;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) _exit(run_in_child(plan, &layer, expected, bytes, context));
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            fail_msg("the child ended with status %#x", (unsigned)status);
        memset(layer.args.out.data, 0xff, bytes); /* and its parent too */
        assert_int_equal(attend_layer_forward(plan, &layer.args), ATTEND_OK);
        assert_memory_equal(layer.args.out.data, expected, bytes);
    }
    const pid_t child = fork(); /* one that only ends */
    if (child == 0) {
        alarm(TIMEOUT);
        attend_plan_destroy(plan);
        attend_context_destroy(context);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    test_layer_free(&layer);
    free(expected);
}

/* ---- after a run, and without threads ---- */

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void threads_soon_sleep(void **state)
{
    (void)state;
    attend_context *context = context_of(2);
    test_run r = test_run_make(ATTEND_F32, 64, 1, 256, 256, 8, 8, ATTEND_CAUSAL_NONE);
    double least = 1; /* of several: a busy machine bills others' time too, while a thread that spins has 20 ms each time */
    for (int i = 0; i < 30 && least > 0.001; i++) {
        test_run_go(&r, context, "attention");
        const double begin = processor_seconds();
        usleep(20000);
        if (processor_seconds() - begin < least) least = processor_seconds() - begin;
    }
    if (least > 0.001) fail_msg("waiting took %.3g ms of a processor", 1e3 * least);
    test_run_free(&r);
    attend_context_destroy(context);
}

static void a_system_without_threads_is_told(void **state)
{
    (void)state;
    if (TEST_SANITIZED) skip(); /* their own memory counts */
    int status;
    const pid_t child = fork();
    if (child == 0) {
        attend_context *context;
        alarm(TIMEOUT);
        setrlimit(RLIMIT_AS,
                  &(struct rlimit){1 << 30,
                                   1 << 30}); /* of address space: room for 127 stacks of 8 MB and no more */
        if (attend_context_create(
                &(attend_context_options){.device = ATTEND_CPU, .threads = ATTEND_MAX_THREADS}, &context) !=
            ATTEND_OUT_OF_MEMORY)
            _exit(1);
        if (context || !strstr(attend_error_message(), "of 4096 threads")) _exit(2);
        if (attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 2}, &context))
            _exit(3);
        attend_context_destroy(context);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_run_asks_openmp_for_a_team),
        cmocka_unit_test(every_index_is_taken_once),
        cmocka_unit_test(work_is_worth_as_many_threads_as_it_keeps_busy),
        cmocka_unit_test(helpers_that_do_not_come_are_not_waited_for),
        cmocka_unit_test(a_child_goes_on),
        cmocka_unit_test(threads_soon_sleep),
        cmocka_unit_test(a_system_without_threads_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
