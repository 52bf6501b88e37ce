/* Every allocation on the CPU, failing one after the other: the call says so, and the next one works. oneDNN
   does not check all of its own while a layer is planned, and some of those end a process; a system that has
   no more memory does not, whatever there is left. Attention allocates nothing while it runs, a layer only
   within oneDNN. */
#include "support/allocator.h"
#include "support/layers.h"
#include "support/run.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- what is tried ---- */

static const attend_context_options options = {.device = ATTEND_CPU, .threads = 2};
static attend_context *context;
static attend_plan *attention_plan, *backward_plan, *layer_plan, *trained_plan;
static attend_tensor gradient;
static test_run run;
static test_layer layer;

static attend_status make_context(void)
{
    attend_context *made;
    const attend_status status = attend_context_create(&options, &made);
    attend_context_destroy(made);
    return status;
}

static attend_status plan_attention(void)
{
    attend_plan *made;
    const attend_status status = attend_attention_plan(context, &run.p, &made);
    attend_plan_destroy(made);
    return status;
}

static attend_status plan_backward(void)
{
    attend_plan *made;
    const attend_status status =
        attend_attention_plan_with(context, &run.p, &(attend_plan_options){.backward = true}, &made);
    attend_plan_destroy(made);
    return status;
}

static attend_status plan_layer(void)
{
    attend_plan *made;
    const attend_status status = attend_layer_plan(context, &layer.given, &layer.weights, &made);
    attend_plan_destroy(made);
    return status;
}

static attend_status plan_trained(void)
{
    attend_plan *made;
    const attend_status status =
        attend_layer_plan_with(context, &layer.given, &layer.weights, &(attend_plan_options){.backward = true}, &made);
    attend_plan_destroy(made);
    return status;
}

static attend_status run_attention(void)
{
    return attend_attention_forward(
        attention_plan,
        &(attend_attention_args){.q = run.q, .k = run.k, .v = run.v, .out = run.out, .lse = run.lse});
}

static attend_status run_backward(void)
{
    return attend_attention_backward(
        backward_plan,
        &(attend_attention_args){.q = run.q, .k = run.k, .v = run.v, .out = run.out, .lse = run.lse},
        &(attend_attention_grads){.dout = run.q, .dk = gradient}, NULL);
}

static attend_status run_layer(void) { return attend_layer_forward(layer_plan, &layer.args); }

static attend_status run_layer_with_cache(void)
{
    static float pools[2][64 * 2 * 16];
    const attend_cache cache = {.k = attend_tensor_4d(pools[0], ATTEND_F32, 1, 64, 2, 16),
                                .v = attend_tensor_4d(pools[1], ATTEND_F32, 1, 64, 2, 16)};
    attend_layer_args args = layer.args;
    args.cache = &cache;
    return attend_layer_forward(layer_plan, &args);
}

static attend_status run_trained(void)
{
    static float dx[64 * 48], dwk[2 * 16 * 48];
    const attend_layer_weights weights = {.wk = attend_tensor_2d(dwk, ATTEND_F32, 32, 48)};
    return attend_layer_backward(
        trained_plan, &layer.args,
        &(attend_layer_grads){.dout = layer.args.x, .dx = attend_tensor_3d(dx, ATTEND_F32, 1, 64, 48), .weights = &weights}, NULL);
}

static attend_status reload(void) { return attend_layer_reload(trained_plan, NULL); }

static attend_status turn(void)
{
    attend_problem p = run.p;
    p.rotary = ATTEND_ROTARY_HALVES, p.num_kv_heads = 0;
    return attend_rotary_apply(context, &p, &(attend_rotary_args){.q = run.q, .q_out = run.out});
}

static attend_status look(void)
{
    static float entropy[2 * 40];
    return attend_attention_inspect(
        attention_plan, &(attend_attention_args){.q = run.q, .k = run.k},
        &(attend_inspection){.entropy = attend_tensor_3d(entropy, ATTEND_F32, 1, 2, 40)});
}

static const struct subject {
    const char *name;
    attend_status (*call)(void);
    bool may_end; /* the process, within oneDNN */
} subjects[] = {
    {"context", make_context, false},
    {"plan of attention", plan_attention, false},
    {"run of attention", run_attention, false},
    {"plan of gradients", plan_backward, false},
    {"run of gradients", run_backward, false},
    {"rotary", turn, false},
    {"inspection", look, false},
    {"run of a layer", run_layer, false},
    {"plan of a layer", plan_layer, true},
    {"plan of a layer's gradients", plan_trained, true},
    {"run of a layer's gradients", run_trained, false},
    {"weights anew", reload, true},
};

/* What the call returns where its k-th allocation fails; from 100 on: it had fewer, or something is wrong. */
static int outcome(const struct subject *s, long k)
{
    atomic_store(&allocator.countdown, k);
    const attend_status status = s->call();
    const bool reached = atomic_exchange(&allocator.countdown, -1) <= 0;
    if (!reached) return status ? 101 : 100;
    if (status && (status != ATTEND_OUT_OF_MEMORY || !*attend_error_message())) return 102;
    return s->call() ? 103 : (int)status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        const struct subject *s = &subjects[i];
        int refused = 0, went_on = 0, died = 0;
        for (long k = 1;; k++) {
            int status;
            fflush(NULL);
            const pid_t child = fork();
            if (child == 0) {
                for (int signal = 1; signal < 16; signal++)
                    sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL); /* cmocka's too */
                alarm(60);
                _exit(outcome(s, k));
            }
            assert_int_equal(waitpid(child, &status, 0), child);
            if (!WIFEXITED(status)) {
                died++;
                continue;
            }
            if (WEXITSTATUS(status) == 100) break;
            if (WEXITSTATUS(status) > 100)
                fail_msg("%s: allocation %ld: %d", s->name, k, WEXITSTATUS(status));
            if (WEXITSTATUS(status))
                refused++;
            else
                went_on++;
        }
        printf("%s: %d refused, %d went on, %d ended the process\n", s->name, refused, went_on, died);
        if (died > 0 && !s->may_end)
            fail_msg("%s: %d of %d failing allocations end the process", s->name, died,
                     died + refused + went_on);
    }
}

static size_t address_space(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    size_t pages = 0;
    if (!file || fscanf(file, "%zu", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* A limit of address space (ulimit -v), from none left to plenty. */
static void a_layer_is_planned_or_refused_in_little_memory(void **state)
{
    (void)state;
    int refused = 0, planned = 0;
    for (size_t left = 0; left < 16 << 20; left += left < 2 << 20 ? 64 << 10 : 1 << 20) {
        int status;
        fflush(NULL);
        const pid_t child = fork();
        if (child == 0) {
            for (int signal = 1; signal < 16; signal++)
                sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
            alarm(60);
            const size_t most = address_space() + left;
            setrlimit(RLIMIT_AS, &(struct rlimit){most, most});
            _exit((int)plan_layer());
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status))
            fail_msg("%zu KB left: the process ended with status %#x", left >> 10, (unsigned)status);
        if (WEXITSTATUS(status) == ATTEND_OK)
            planned++;
        else
            refused++;
        assert_true(WEXITSTATUS(status) == ATTEND_OK || WEXITSTATUS(status) == ATTEND_OUT_OF_MEMORY);
    }
    assert_true(planned > 0 && refused > 0);
}

static void runs_allocate_nothing(void **state)
{
    (void)state;
    atomic_store(&allocator.allocations, 0), atomic_store(&allocator.own, 0);
    assert_int_equal(run_attention(), ATTEND_OK);
    assert_int_equal(allocator.allocations, 0);
    assert_int_equal(run_backward(), ATTEND_OK);
    assert_int_equal(allocator.allocations, 0);
    assert_int_equal(run_layer(), ATTEND_OK);
    assert_int_equal(run_layer_with_cache(), ATTEND_OK);
    assert_int_equal(run_trained(), ATTEND_OK);
    assert_int_equal(allocator.own, 0);
    printf("runs of layers: %ld allocations in oneDNN\n", (long)allocator.allocations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(runs_allocate_nothing),
                                       cmocka_unit_test(every_allocation_may_fail),
                                       cmocka_unit_test(a_layer_is_planned_or_refused_in_little_memory)};
    const attend_problem p = {.batch = 1,
                              .seqlen_q = 64,
                              .num_heads = 4,
                              .num_kv_heads = 2,
                              .head_dim = 16,
                              .hidden_size = 48,
                              .rotary = ATTEND_ROTARY_HALVES,
                              .qk_norm = ATTEND_QK_NORM_RMS,
                              .absolute = ATTEND_ABSOLUTE_SINUSOIDAL};
    if (TEST_SANITIZED) return 0;
    if (attend_context_create(&options, &context)) return 1;
    run = test_run_make(ATTEND_F32, 16, 1, 40, 300, 2, 2, ATTEND_CAUSAL_NONE);
    test_layer_make(&layer, &p);
    gradient = run.k, gradient.data = calloc(300 * 2 * 16, sizeof(float));
    if (attend_attention_plan(context, &run.p, &attention_plan) ||
        attend_attention_plan_with(context, &run.p, &(attend_plan_options){.backward = true},
                                   &backward_plan) ||
        attend_layer_plan(context, &layer.given, &layer.weights, &layer_plan) ||
        attend_layer_plan_with(context, &layer.given, &layer.weights, &(attend_plan_options){.backward = true}, &trained_plan))
        return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    attend_plan_destroy(attention_plan), attend_plan_destroy(backward_plan), attend_plan_destroy(layer_plan), attend_plan_destroy(trained_plan);
    free(gradient.data);
    attend_context_destroy(context);
    test_run_free(&run), test_layer_free(&layer);
    return failed;
}
