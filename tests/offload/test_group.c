/* A context over several devices: the bits of one device whatever their number, as pairs of batch entry and KV head or blocks of queries are
   shared out; and what such a context refuses. On three software devices. */
#include "support/fixture.h"
#include "gpu/gpu.h"

#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const int devices[] = {2, 0, 1};

static const test_case cases[] = {
    {.problem = {.batch = 2, .seqlen_q = 40, .seqlen_k = 50, .num_heads = 6, .num_kv_heads = 3, .head_dim = 16, .alibi = ATTEND_ALIBI_CAUSAL}, .lengths = true},
    {.problem = {.batch = 1, .seqlen_q = 100, .seqlen_k = 1100, .num_heads = 2, .num_kv_heads = 1, .head_dim = 16, .dtype = ATTEND_F16, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT}},
    {.problem = {.batch = 5, .seqlen_q = 1, .seqlen_k = 70, .num_heads = 1, .head_dim = 16, .dtype = ATTEND_BF16}},
    {.problem = {.batch = 3, .seqlen_q = 30, .packed = true, .num_heads = 4, .num_kv_heads = 4, .head_dim = 16}},
    {.problem = {.batch = 1, .seqlen_q = 33, .seqlen_k = 40, .num_heads = 2, .head_dim = 16, .mask_axes = ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY}},
};
enum { CASES = sizeof cases / sizeof *cases };

static attend_context *group_of(int count)
{
    attend_context *context;
    if (attend_context_create_group(NULL, devices, count, &context)) fail_msg("%s", attend_error_message());
    return context;
}

static void run(attend_context *context, test_fixture *f, size_t limit, size_t *least)
{
    attend_plan *plan;
    const attend_plan_options options = {.host_tensors = ATTEND_HOST_ALL, .memory_limit_bytes = limit, .least_bytes = least};
    if (attend_attention_plan_with(context, &f->c.problem, &options, &plan) || attend_attention_forward(plan, &f->args) || attend_synchronize(context))
        fail_msg("%s", attend_error_message());
    attend_plan_destroy(plan);
}

static void the_number_of_devices_changes_no_bit(void **state)
{
    (void)state;
    attend_context *const one = group_of(1), *const two = group_of(2), *const three = group_of(3);
    for (int n = 0; n < CASES; n++) {
        test_fixture f;
        test_case c = cases[n];
        size_t least = 0;
        c.values = ATTEND_VALUES_GAUSS, c.seed = (uint64_t)n + 1;
        test_fixture_make(&f, &c);
        unsigned char *const before = malloc(f.out.size + f.lse.size), *const out = malloc(f.out.size), *const lse = malloc(f.lse.size);
        memcpy(before, f.out.bytes, f.out.size), memcpy(before + f.out.size, f.lse.bytes, f.lse.size);
        run(one, &f, 0, &least);
        test_fixture_check(&f);
        memcpy(out, f.out.bytes, f.out.size), memcpy(lse, f.lse.bytes, f.lse.size);
        for (int i = 0; i < 2; i++) {
            memcpy(f.out.bytes, before, f.out.size), memcpy(f.lse.bytes, before + f.out.size, f.lse.size);
            run(i ? three : two, &f, n % 2 == i ? least : 0, NULL);
            assert_memory_equal(out, f.out.bytes, f.out.size);
            assert_memory_equal(lse, f.lse.bytes, f.lse.size);
        }
        free(before), free(out), free(lse);
        test_fixture_free(&f);
    }
    assert_int_equal(attend_context_destroy(one) || attend_context_destroy(two) || attend_context_destroy(three), 0);
}

static bool stop_half_way(void *calls, int64_t done, int64_t total)
{
    ++*(int *)calls;
    return 2 * done < total;
}

static void a_run_reports_and_stops(void **state)
{
    (void)state;
    static float q[64 * 16], k[64 * 16], v[64 * 16], out[64 * 16];
    const attend_problem problem = {.batch = 1, .seqlen_q = 64, .seqlen_k = 64, .num_heads = 1, .head_dim = 16};
    int calls = 0;
    const attend_context_options options = {.device = ATTEND_CUDA, .progress = stop_half_way, .progress_user = &calls};
    attend_context *context;
    attend_plan *plan;
    if (attend_context_create_group(&options, devices, 2, &context)) fail_msg("%s", attend_error_message());
    assert_int_equal(attend_attention_plan_with(context, &problem, &(attend_plan_options){.host_tensors = ATTEND_HOST_ALL}, &plan), ATTEND_OK);
    const attend_attention_args args = {.q = attend_tensor_4d(q, ATTEND_F32, 1, 64, 1, 16), .k = attend_tensor_4d(k, ATTEND_F32, 1, 64, 1, 16),
                                        .v = attend_tensor_4d(v, ATTEND_F32, 1, 64, 1, 16), .out = attend_tensor_4d(out, ATTEND_F32, 1, 64, 1, 16)};
    assert_int_equal(attend_attention_forward(plan, &args), ATTEND_CANCELLED);
    assert_true(calls >= 2);
    attend_plan_destroy(plan);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

static void expect(attend_status status, attend_status expected, const char *sentence)
{
    assert_int_equal(status, expected);
    if (!strstr(attend_error_message(), sentence)) fail_msg("\"%s\", expected \"%s\"", attend_error_message(), sentence);
}

static void what_one_device_does_is_refused(void **state)
{
    (void)state;
    static float x[16];
    const attend_problem problem = {.batch = 1, .seqlen_q = 1, .seqlen_k = 1, .num_heads = 1, .head_dim = 16}, layer = {.batch = 1, .seqlen_q = 1, .num_heads = 1, .head_dim = 4, .hidden_size = 4};
    const attend_tensor w = attend_tensor_2d(x, ATTEND_F32, 4, 4);
    const attend_plan_options on_host = {.host_tensors = ATTEND_HOST_ALL}, gradients = {.host_tensors = ATTEND_HOST_ALL, .backward = true};
    const int negative = -1, missing = 9;
    attend_context *context;
    attend_plan *plan;
    expect(attend_context_create_group(NULL, devices, 0, &context), ATTEND_INVALID_ARGUMENT, "count is 0, expected 1 to 64");
    expect(attend_context_create_group(NULL, NULL, 2, &context), ATTEND_INVALID_ARGUMENT, "devices is NULL");
    expect(attend_context_create_group(NULL, &negative, 1, &context), ATTEND_INVALID_ARGUMENT, "devices[0] is -1");
    expect(attend_context_create_group(NULL, &missing, 1, &context), ATTEND_NO_DEVICE, "device_index is 9, but there are 3 CUDA devices");
    expect(attend_context_create_group(&(attend_context_options){.device = ATTEND_CPU}, devices, 2, &context), ATTEND_INVALID_ARGUMENT, "several devices are CUDA's");
    context = group_of(2);
    expect(attend_attention_plan(context, &problem, &plan), ATTEND_INVALID_ARGUMENT, "takes tensors on the host: ATTEND_HOST_INPUTS and ATTEND_HOST_OUTPUTS");
    expect(attend_attention_plan_with(context, &problem, &gradients, &plan), ATTEND_UNSUPPORTED, "gradients run on one device");
    expect(attend_layer_plan_with(context, &layer, &(attend_layer_weights){.wq = w, .wk = w, .wv = w, .wo = w}, &on_host, &plan), ATTEND_UNSUPPORTED, "layers run on one device");
    assert_int_equal(attend_attention_plan_with(context, &problem, &on_host, &plan), ATTEND_OK);
    const attend_tensor row = attend_tensor_4d(x, ATTEND_F32, 1, 1, 1, 16);
    static float y[16];
    const attend_attention_args args = {.q = row, .k = row, .v = row, .out = attend_tensor_4d(y, ATTEND_F32, 1, 1, 1, 16)};
    expect(attend_attention_run(plan, &args, &(attend_run){.stream = (struct CUstream_st *)8}), ATTEND_UNSUPPORTED, "stream is given");
    attend_plan_destroy(plan);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_number_of_devices_changes_no_bit), cmocka_unit_test(a_run_reports_and_stops),
                                       cmocka_unit_test(what_one_device_does_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
