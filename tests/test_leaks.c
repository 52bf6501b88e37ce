/* Contexts, plans, runs and comparisons give back all that they allocate: after some rounds, which load what stays, the heap is as it was. */
#include "support/heap.h"
#include "support/layers.h"
#include "support/plans.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { ROWS = 24, HEADS = 2, DIM = 8, HIDDEN = 16 };

static void must(attend_status status)
{
    if (status) fail_msg("%s", attend_error_message());
}

static attend_tensor heads(void)
{
    static float memory[12][ROWS * HEADS * DIM];
    static int used;
    assert_true(used < 12);
    const attend_tensor t = attend_tensor_4d(memory[used++], ATTEND_F32, 1, ROWS, HEADS, DIM);
    attend_values_gauss((uint64_t)used, 1, &t);
    return t;
}

static test_layer layer;
static attend_attention_args args;
static attend_attention_grads grads;
static attend_rotary_args rotary;

static const attend_problem attention_problem = {.batch = 1, .seqlen_q = ROWS, .seqlen_k = ROWS, .num_heads = HEADS, .head_dim = DIM};
static const attend_problem rotary_problem = {.batch = 1, .seqlen_q = ROWS, .num_heads = HEADS, .head_dim = DIM, .rotary = ATTEND_ROTARY_HALVES};

static void attention(attend_context *context)
{
    const attend_plan_options options = {.backward = true, .host_tensors = ATTEND_HOST_ALL};
    float entropy[HEADS * ROWS];
    const attend_inspection want = {.entropy = attend_tensor_3d(entropy, ATTEND_F32, 1, HEADS, ROWS)};
    attend_plan *plan;
    must(attend_attention_plan_with(context, &attention_problem, &options, &plan));
    must(attend_attention_forward(plan, &args));
    must(attend_attention_backward(plan, &args, &grads, NULL));
    must(attend_attention_inspect(plan, &args, &want));
    attend_plan_destroy(plan);
}

static void whole_layer(attend_context *context)
{
    attend_plan *plan;
    must(test_layer_plan(context, &layer.given, &layer.weights, &plan));
    must(attend_layer_forward(plan, &layer.args));
    attend_plan_destroy(plan);
}

static void rotation(attend_context *context) { must(attend_rotary_apply(context, &rotary_problem, &rotary)); }

static void comparisons(attend_context *context)
{
    const attend_compare_options alone = {.threads = 1};
    attend_comparison of_attention;
    attend_layer_comparison of_layer;
    attend_backward_comparison of_gradients;
    attend_rotary_comparison of_rotary;
    (void)context;
    must(attend_compare(&attention_problem, &args, &alone, &of_attention));
    must(attend_layer_compare(&layer.given, &layer.weights, &layer.args, &alone, &of_layer));
    must(attend_backward_compare(&attention_problem, &args, &grads, &alone, &of_gradients));
    must(attend_rotary_compare(&rotary_problem, &rotary, &alone, &of_rotary));
}

static void the_heap_is_as_it_was(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*use)(attend_context *);
    } all[] = {{"attention", attention}, {"a layer", whole_layer}, {"rotary", rotation}, {"comparisons", comparisons}};
    static const attend_device devices[] = {ATTEND_CPU, ATTEND_REFERENCE};
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        for (int d = 0; d < 2; d++) {
            size_t before = 0;
            for (int round = 0; round < 6; round++) {
                attend_context *context;
                if (round == 3) before = test_heap_bytes();
                must(attend_context_create(&(attend_context_options){.device = devices[d], .threads = 1}, &context));
                all[n].use(context);
                must(attend_context_destroy(context));
            }
            const size_t after = test_heap_bytes();
            if (after != before) fail_msg("%s, %s: %zd bytes more after three rounds", all[n].name, d ? "reference" : "CPU", (ssize_t)(after - before));
        }
}

static int make(void **state)
{
    (void)state;
    static float lse[HEADS * ROWS];
    test_layer_make(&layer, &(attend_problem){.batch = 1, .seqlen_q = ROWS, .num_heads = HEADS, .head_dim = DIM, .hidden_size = HIDDEN});
    layer.args.q = heads(), layer.args.k = heads(), layer.args.v = heads(), layer.args.heads = heads();
    args = (attend_attention_args){.q = heads(), .k = heads(), .v = heads(), .out = heads(),
                                   .lse = attend_tensor_3d(lse, ATTEND_F32, 1, HEADS, ROWS)};
    grads = (attend_attention_grads){.dout = heads(), .dq = heads()};
    rotary = (attend_rotary_args){.q = layer.args.q, .q_out = heads()};
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_layer_free(&layer);
    return 0;
}

int main(int count, char **arguments)
{
    (void)count;
    if (!getenv("GLIBC_TUNABLES")) { /* what a thread keeps for its next calls would count as allocated */
        setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 1);
        execv("/proc/self/exe", arguments);
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_heap_is_as_it_was)};
    return cmocka_run_group_tests(tests, make, end);
}
