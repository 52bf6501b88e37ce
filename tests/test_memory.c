/* A plan's memory grows with the sequence, not with its square: per token it never needs more for longer sequences than for
   shorter ones. Printed, so that the figures of docs/measured/memory.md can be had again. */
#include "support/fixture.h"
#include "support/plans.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const int64_t seqlens[] = {512, 4096, 32768};

typedef struct memory_case {
    const char *name;
    attend_problem problem; /* without lengths of sequences */
    bool one_query;         /* as in decoding: only the keys grow */
    bool layer;
} memory_case;

static const memory_case cases[] = {
    {"8 heads of 64", {.batch = 1, .num_heads = 8, .head_dim = 64}, .one_query = false},
    {"8 heads of 64 over 2 KV heads, causal",
     {.batch = 2, .num_heads = 8, .num_kv_heads = 2, .head_dim = 64, .causal = ATTEND_CAUSAL_TOP_LEFT},
     .one_query = false},
    {"1 head of 128", {.batch = 1, .num_heads = 1, .head_dim = 128}, .one_query = false},
    {"8 heads of 64, fp16", {.batch = 1, .num_heads = 8, .head_dim = 64, .dtype = ATTEND_F16}, .one_query = false},
    {"one query, 8 heads of 64 over 1", {.batch = 1, .num_heads = 8, .num_kv_heads = 1, .head_dim = 64}, .one_query = true},
    {"a layer, 8 heads of 64", {.batch = 1, .num_heads = 8, .head_dim = 64, .hidden_size = 512}, .layer = true},
};

static float matrix[512 * 512];

static attend_plan_memory memory_of(attend_context *context, const memory_case *c, int64_t seqlen)
{
    attend_plan *plan;
    attend_plan_memory memory = {0};
    attend_problem p = c->problem;
    p.seqlen_q = c->one_query ? 1 : seqlen, p.seqlen_k = seqlen;
    attend_tensor w = attend_tensor_2d(matrix, ATTEND_F32, 512, 512);
    const attend_layer_weights weights = {.wq = w, .wk = w, .wv = w, .wo = w};
    attend_status status = c->layer ? test_layer_plan(context, &p, &weights, &plan) : test_attention_plan(context, &p, &plan);
    if (!status) status = attend_plan_memory_usage(plan, &memory);
    if (status) fail_msg("%s, %lld tokens: %s", c->name, (long long)seqlen, attend_error_message());
    attend_plan_destroy(plan);
    return memory;
}

static double total(const attend_plan_memory *m)
{
    return (double)m->host_bytes + (double)m->device_workspace_bytes + (double)m->device_staging_bytes;
}

static void memory_grows_with_the_sequence(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double bytes[3];
        for (int n = 0; n < 3; n++) {
            attend_plan_memory m = memory_of(context, &cases[i], seqlens[n]);
            bytes[n] = total(&m);
            print_message("%-40s %6lld tokens: host %10zu, device %10zu and staging %10zu bytes; %.0f a token\n", cases[i].name,
                          (long long)seqlens[n], m.host_bytes, m.device_workspace_bytes, m.device_staging_bytes,
                          bytes[n] / (double)seqlens[n]);
        }
        double first = (bytes[1] - bytes[0]) / (double)(seqlens[1] - seqlens[0]);
        double then = (bytes[2] - bytes[1]) / (double)(seqlens[2] - seqlens[1]);
        if (then > 1.5 * first) fail_msg("%s: %.1f bytes for each further token, later %.1f", cases[i].name, first, then);
    }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory_grows_with_the_sequence)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
