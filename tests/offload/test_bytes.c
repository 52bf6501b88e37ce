/* What a plan says that a run copies is near the least that its budget allows, by the formula of docs/offload.md; without a budget's limit each byte
   moves once; and the plan keeps to its budget. Nothing is run: sequences are long. */
#include <attend/attend.h>

#include <cuda_runtime_api.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

typedef struct bytes_case {
    int64_t queries, keys, heads, kv_heads, dim;
    bool causal;
    size_t limit; /* MiB */
    double most;  /* of the optimum */
} bytes_case;

static const bytes_case cases[] = {
    {1 << 20, 1 << 20, 32, 8, 128, true, 64, 1.02},  {1 << 20, 1 << 20, 32, 8, 128, true, 256, 1.02},
    {1 << 20, 1 << 20, 32, 8, 128, true, 1024, 1.02}, {1 << 20, 1 << 20, 32, 8, 128, false, 256, 1.02},
    {1 << 24, 1 << 24, 1, 1, 128, true, 64, 1.02},   {1 << 24, 1 << 24, 1, 1, 128, true, 256, 1.02},
    {1, 1 << 24, 8, 1, 128, false, 64, 1},           {1 << 20, 4096, 8, 8, 64, false, 64, 1},
};

/* Bytes of K and V that blocks of so many queries read: the last blocks are full. */
static double optimum(const bytes_case *c)
{
    const double limit = (double)c->limit * 1048576, group = (double)(c->heads / c->kv_heads), row = 2.0 * (double)c->dim,
                 resident = group * (row + 4 * (double)c->dim + 12), q = (double)c->queries, k = (double)c->keys;
    double keys = 0;
    if (q * resident <= limit || 2 * k * row <= limit)
        keys = k;
    else
        for (double end = q; end > 0; end -= limit / resident) keys += c->causal && end < k ? end : k;
    return (double)c->heads * 2 * q * row + (double)c->kv_heads * 2 * row * keys;
}

static void copies_are_near_the_optimum(void **state)
{
    (void)state;
    attend_context *context;
    double link = 0;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) fail_msg("%s", attend_error_message());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bytes_case *c = &cases[i];
        const attend_problem problem = {.batch = 1, .seqlen_q = c->queries, .seqlen_k = c->keys, .num_heads = c->heads, .num_kv_heads = c->kv_heads,
                                        .head_dim = c->dim, .dtype = ATTEND_BF16, .causal = c->causal ? ATTEND_CAUSAL_TOP_LEFT : ATTEND_CAUSAL_NONE};
        const attend_plan_options options = {.memory_limit_bytes = c->limit << 20, .host_tensors = ATTEND_HOST_INPUTS | ATTEND_HOST_OUTPUTS};
        attend_plan *plan;
        attend_explanation e;
        size_t before, after, total;
        cudaMemGetInfo(&before, &total);
        if (attend_attention_plan_with(context, &problem, &options, &plan) || attend_plan_explain(plan, NULL, &e)) fail_msg("%s", attend_error_message());
        cudaMemGetInfo(&after, &total);
        const double ratio = (e.bytes_to_device + e.bytes_to_host) / optimum(c);
        print_message("%lld x %lld, %lld/%lld heads, %s, %zu MiB: %.4g GB, %.4f of the optimum; %.1f MiB taken; %lld blocks; link %.3g s, device %.3g s\n",
                      (long long)c->queries, (long long)c->keys, (long long)c->heads, (long long)c->kv_heads, c->causal ? "causal" : "full", c->limit,
                      (e.bytes_to_device + e.bytes_to_host) * 1e-9, ratio, (double)(before - after) / 1048576, (long long)e.query_blocks,
                      (e.bytes_to_device + e.bytes_to_host) / 54e9, e.compute_seconds);
        char text[4096], bounds[64];
        attend_plan_explain_text(plan, NULL, text, sizeof text);
        snprintf(bounds, sizeof bounds, "by the model: %s bounds", e.transfer_seconds > e.compute_seconds ? "the link" : "the device");
        if (!strstr(text, "GB in, ") || !strstr(text, bounds)) fail_msg("\"%s\" in: %s", bounds, text);
        assert_true(e.link_bytes_per_second > 0 && (link == 0 || link == e.link_bytes_per_second)); /* measured once */
        assert_true(fabs(e.transfer_seconds * (link = e.link_bytes_per_second) / (e.bytes_to_device + e.bytes_to_host) - 1) < 1e-9);
        if (before - after > options.memory_limit_bytes) fail_msg("the plan takes %zu bytes", before - after);
        if (ratio > c->most || ratio < 0.999) fail_msg("the ratio is %.4f", ratio);
        attend_plan_destroy(plan);
    }
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies_are_near_the_optimum)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
