/* Layers in blocks of rows, with Q, K and V on the device or in host memory between projections and attention. Whatever the budget, each
   stage is within its bound (sums of a product depend on its size), attention has the bits that these Q, K and V give on the device, and
   the plan takes no more. And plans for sequences far larger than the budget say what they copy. */
#include "support/layers.h"
#include "gpu/gpu.h"

#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct layer_case {
    const char *name;
    attend_problem problem;
} layer_case;

static const layer_case cases[] = {
    {"rotary, norm, grouped, two entries",
     {.batch = 2, .seqlen_q = 150, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .hidden_size = 48, .causal = ATTEND_CAUSAL_TOP_LEFT,
      .rotary = ATTEND_ROTARY_HALVES, .qk_norm = ATTEND_QK_NORM_RMS, .first_position = 7}},
    {"learned positions, left-padded, f16",
     {.batch = 2, .seqlen_q = 140, .num_heads = 2, .head_dim = 16, .hidden_size = 40, .dtype = ATTEND_F16, .left_padded = true, .absolute = ATTEND_ABSOLUTE_LEARNED,
      .max_positions = 200}},
    {"positions given, sinusoids",
     {.batch = 2, .seqlen_q = 70, .num_heads = 1, .head_dim = 16, .hidden_size = 24, .rotary = ATTEND_ROTARY_INTERLEAVED, .absolute = ATTEND_ABSOLUTE_SINUSOIDAL}},
    {"cross-attention, other width of values",
     {.batch = 3, .seqlen_q = 20, .seqlen_k = 200, .num_heads = 2, .head_dim = 16, .head_dim_v = 24, .hidden_size = 40, .context_hidden_size = 56}},
    {"packed, bf16",
     {.batch = 3, .seqlen_q = 90, .packed = true, .total_q = 150, .num_heads = 2, .head_dim = 16, .hidden_size = 32, .dtype = ATTEND_BF16, .rotary = ATTEND_ROTARY_HALVES}},
    {"many short entries", {.batch = 40, .seqlen_q = 5, .num_heads = 1, .head_dim = 16, .hidden_size = 24, .absolute = ATTEND_ABSOLUTE_SINUSOIDAL}},
    {"keys in parts, f16", {.batch = 1, .seqlen_q = 1100, .num_heads = 1, .head_dim = 16, .hidden_size = 16, .dtype = ATTEND_F16, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT}},
};
enum { CASES = sizeof cases / sizeof *cases };

static size_t device_bytes(void)
{
    size_t available, total;
    assert_int_equal(cudaMemGetInfo(&available, &total), cudaSuccess);
    return total - available;
}

static attend_context *open(const attend_context_options *options)
{
    attend_context *context;
    if (attend_context_create(options, &context)) fail_msg("%s", attend_error_message());
    return context;
}

static attend_plan *plan_of(attend_context *context, const char *name, const test_layer *l, attend_plan_options options)
{
    attend_plan *plan;
    if (!options.host_tensors) options.host_tensors = ATTEND_HOST_ALL;
    if (attend_layer_plan_with(context, &l->given, &l->weights, &options, &plan)) fail_msg("%s: %s", name, attend_error_message());
    return plan;
}

static size_t bytes_of(const attend_tensor *t) { return (size_t)attend_tensor_elements(t) * attend_dtype_bytes(t->dtype); }

/* Other bytes than a run writes. */
static void clear_outputs(const test_layer *l)
{
    const attend_tensor *const all[] = {&l->args.out, &l->args.lse, &l->args.q, &l->args.k, &l->args.v, &l->args.heads};
    for (int i = 0; i < 6; i++) memset(all[i]->data, 0x7e, bytes_of(all[i]));
}

/* All are page-locked, so that a run waits for nothing, or they are not. */
static void pin(const test_layer *l, bool pins)
{
    const attend_tensor *const all[] = {&l->args.x, &l->args.context, &l->args.out, &l->args.lse, &l->args.q, &l->args.k, &l->args.v, &l->args.heads};
    for (int i = 0; i < 8; i++) {
        if (!all[i]->data) continue;
        const cudaError_t error = pins ? cudaHostRegister(all[i]->data, bytes_of(all[i]), cudaHostRegisterDefault) : cudaHostUnregister(all[i]->data);
        assert_int_equal(error, cudaSuccess);
    }
}

static void run(attend_context *context, const char *name, attend_plan *plan, const test_layer *l)
{
    if (attend_layer_forward(plan, &l->args)) fail_msg("%s: %s", name, attend_error_message());
    cudaDeviceSynchronize(); /* all streams meet, in an order drawn from the seed */
    if (attend_synchronize(context)) fail_msg("%s: %s", name, attend_error_message());
}

static const int64_t lengths[] = {0, 37, 70, 150}, starts[] = {0, 31};

static void make(test_layer *l, const layer_case *c, attend_feature_args *features)
{
    test_layer_make(l, &c->problem);
    const attend_problem *p = &l->p;
    const int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p), rows_k = attend_rows_k(p);
    *features = (attend_feature_args){0};
    if (p->packed) features->cu_seqlens_q = features->cu_seqlens_k = lengths;
    if (p->left_padded) features->starts_k = starts;
    if (p->rotary == ATTEND_ROTARY_INTERLEAVED) {
        features->positions = test_layer_tensor(l, ATTEND_I32, 2, (int64_t[]){batch, rows_q});
        for (int64_t i = 0; i < batch * rows_q; i++) ((int32_t *)features->positions.data)[i] = (int32_t)(i * 7 % 501);
    }
    l->args.q = test_layer_tensor(l, p->dtype, 4, (int64_t[]){batch, rows_q, p->num_heads, p->head_dim});
    l->args.k = test_layer_tensor(l, p->dtype, 4, (int64_t[]){batch, rows_k, p->num_kv_heads, p->head_dim});
    l->args.v = test_layer_tensor(l, p->dtype, 4, (int64_t[]){batch, rows_k, p->num_kv_heads, p->head_dim_v});
    l->args.heads = test_layer_tensor(l, p->dtype, 4, (int64_t[]){batch, rows_q, p->num_heads, p->head_dim_v});
    l->args.features = features;
}

static void expect_right(attend_context *context, const char *name, size_t limit, const test_layer *l)
{
    const attend_problem *p = &l->p;
    attend_layer_comparison r;
    if (attend_layer_compare(&l->given, &l->weights, &l->args, NULL, &r)) fail_msg("%s: %s", name, attend_error_message());
    if (!r.passed)
        fail_msg("%s in %zu bytes: q %.3g, k %.3g, v %.3g, attention %.3g, output %.3g of their bounds", name, limit, r.projection_ratio[0], r.projection_ratio[1],
                 r.projection_ratio[2], r.attention.bound_ratio, r.output_ratio);
    const attend_problem attention = {.batch = p->batch, .seqlen_q = p->seqlen_q, .seqlen_k = p->seqlen_k, .num_heads = p->num_heads, .num_kv_heads = p->num_kv_heads,
                                      .head_dim = p->head_dim, .head_dim_v = p->head_dim_v, .dtype = p->dtype, .causal = p->causal, .left_padded = p->left_padded,
                                      .packed = p->packed, .total_q = p->total_q, .total_k = p->total_k};
    attend_feature_args features = *l->args.features;
    attend_tensor heads = l->args.heads, lse = l->args.lse;
    features.positions = (attend_tensor){0};
    heads.data = malloc(bytes_of(&heads)), lse.data = malloc(bytes_of(&lse));
    const attend_attention_args args = {.q = l->args.q, .k = l->args.k, .v = l->args.v, .out = heads, .lse = lse, .features = &features};
    attend_plan *plan;
    if (attend_attention_plan_with(context, &attention, &(attend_plan_options){.host_tensors = ATTEND_HOST_ALL}, &plan) || attend_attention_forward(plan, &args) ||
        attend_synchronize(context))
        fail_msg("%s: %s", name, attend_error_message());
    attend_plan_destroy(plan);
    if (memcmp(heads.data, l->args.heads.data, bytes_of(&heads))) fail_msg("%s in %zu bytes: the heads have other bits", name, limit);
    if (memcmp(lse.data, l->args.lse.data, bytes_of(&lse))) fail_msg("%s in %zu bytes: lse has other bits", name, limit);
    free(heads.data), free(lse.data);
}

/* Without the outputs between the stages, which are waited for. */
static void expect_same_alone(attend_context *context, const char *name, attend_plan *plan, const test_layer *l)
{
    test_layer alone = *l;
    void *const before = malloc(bytes_of(&l->args.out));
    memcpy(before, l->args.out.data, bytes_of(&l->args.out)), memset(l->args.out.data, 0x7e, bytes_of(&l->args.out));
    alone.args.q = alone.args.k = alone.args.v = alone.args.heads = (attend_tensor){0};
    run(context, name, plan, &alone);
    if (memcmp(before, l->args.out.data, bytes_of(&l->args.out))) fail_msg("%s: out has other bits without q, k, v and heads", name);
    free(before);
}

static void budgets_change_no_bit_of_attention(void **state)
{
    (void)state;
    attend_context *context = open(&(attend_context_options){.device = ATTEND_CUDA});
    int spilled = 0, resident = 0;
    for (int n = 0; n < CASES; n++) {
        const char *const name = cases[n].name;
        test_layer l;
        attend_feature_args features;
        size_t least;
        attend_plan_memory memory;
        make(&l, &cases[n], &features);
        attend_plan *plan = plan_of(context, name, &l, (attend_plan_options){.least_bytes = &least});
        assert_int_equal(((attend_gpu_plan *)plan->state)->layer.rows.count, 0);
        assert_int_equal(attend_plan_memory_usage(plan, &memory), ATTEND_OK);
        attend_plan_destroy(plan);
        const size_t whole = memory.device_workspace_bytes + memory.device_staging_bytes, limits[] = {least, whole - 1};
        assert_true(least < whole);
        for (int i = 0; i < 2; i++) {
            const size_t before = device_bytes();
            plan = plan_of(context, name, &l, (attend_plan_options){.memory_limit_bytes = limits[i]});
            const attend_gpu_rows *rows = &((attend_gpu_plan *)plan->state)->layer.rows;
            if (device_bytes() - before > limits[i]) fail_msg("%s: the plan takes %zu bytes of %zu", name, device_bytes() - before, limits[i]);
            assert_true(rows->count > 0);
            *(rows->spills ? &spilled : &resident) += 1;
            clear_outputs(&l);
            if (n % 2 == i) pin(&l, true);
            run(context, name, plan, &l);
            if (n % 2 == i) expect_same_alone(context, name, plan, &l);
            if (n % 2 == i) pin(&l, false);
            attend_plan_destroy(plan);
            expect_right(context, name, limits[i], &l);
        }
        char sentence[128];
        const attend_plan_options short_of_one = {.host_tensors = ATTEND_HOST_ALL, .memory_limit_bytes = least - 1};
        snprintf(sentence, sizeof sentence, "memory_limit_bytes is %zu, but the plan needs at least %zu bytes", least - 1, least);
        assert_int_equal(attend_layer_plan_with(context, &l.given, &l.weights, &short_of_one, &plan), ATTEND_OUT_OF_MEMORY);
        assert_string_equal(attend_error_message(), sentence);
        test_layer_free(&l);
    }
    print_message("%d runs with Q, K and V in host memory, %d with them on the device\n", spilled, resident);
    assert_true(spilled >= CASES && resident > 0);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

/* 2^20 tokens of a layer 4096 wide, 32 heads over 8 of 128, in bf16, in 2 GiB, where x alone has 8. Nothing is run. */
static void a_layer_far_larger_than_its_budget_plans(void **state)
{
    (void)state;
    enum { WIDE = 4096, KV = 1024 };
    const double tokens = 1 << 20, x = tokens * WIDE * 2, keys = 2 * tokens * KV * 2;
    const size_t limit = (size_t)2 << 30;
    const attend_problem problem = {.batch = 1, .seqlen_q = 1 << 20, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .hidden_size = WIDE, .dtype = ATTEND_BF16,
                                    .causal = ATTEND_CAUSAL_TOP_LEFT, .rotary = ATTEND_ROTARY_HALVES};
    void *const memory = calloc((size_t)WIDE * WIDE, 2);
    const attend_tensor wide = attend_tensor_2d(memory, ATTEND_BF16, WIDE, WIDE), narrow = attend_tensor_2d(memory, ATTEND_BF16, KV, WIDE);
    const attend_layer_weights weights = {.wq = wide, .wk = narrow, .wv = narrow, .wo = wide};
    attend_context *context = open(&(attend_context_options){.device = ATTEND_CUDA});
    attend_plan *plan;
    attend_plan_memory m;
    attend_explanation e;
    size_t least;
    const attend_plan_options options = {.host_tensors = ATTEND_HOST_INPUTS | ATTEND_HOST_OUTPUTS, .memory_limit_bytes = limit, .least_bytes = &least};
    const size_t before = device_bytes();
    if (attend_layer_plan_with(context, &problem, &weights, &options, &plan) || attend_plan_explain(plan, NULL, &e) || attend_plan_memory_usage(plan, &m))
        fail_msg("%s", attend_error_message());
    const size_t taken = device_bytes() - before;
    print_message("%.1f MiB taken, at least %.1f; %.1f GiB on the host; %.4g GB in, %.4g GB out, %lld blocks, %lld parts\n", (double)taken / 1048576,
                  (double)least / 1048576, (double)m.host_bytes / 1073741824, e.bytes_to_device * 1e-9, e.bytes_to_host * 1e-9, (long long)e.query_blocks,
                  (long long)e.key_parts);
    assert_true(taken <= limit && m.device_workspace_bytes + m.device_staging_bytes <= limit);
    assert_true((double)m.host_bytes < 1.01 * (x + keys)); /* the heads' output takes the place of Q */
    /* Every byte once each way: x, Q, K and V, the heads; Q, K and V, the heads, the output. */
    assert_true(e.bytes_to_device <= 1.001 * (3 * x + keys) && e.bytes_to_host <= 1.001 * (3 * x + keys));
    assert_true(e.compute_seconds > 0);
    attend_plan_destroy(plan);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(budgets_change_no_bit_of_attention), cmocka_unit_test(a_layer_far_larger_than_its_budget_plans)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
