/* A context over several devices: the bits of one device whatever their number, as pairs of batch entry and KV head or blocks of queries are
   shared out; and what such a context refuses. On three software devices. */
#include "support/fixture.h"
#include "gpu/gpu.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
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

/* Pairs of entry and head where there is one for each device, which reads its own keys alone; else queries, of which each takes two parts. The
   software device counts what is launched. */
static void pairs_go_before_queries(void **state)
{
    (void)state;
    static const struct {
        int64_t batch, heads;
        int launches;
    } shared[] = {{1, 2, 2}, {2, 1, 2}, {1, 1, 4}};
    int64_t (*calls)(const char *kind);
    *(void **)&calls = dlsym(RTLD_DEFAULT, "softgpu_calls");
    if (!calls) skip();
    attend_context *const two = group_of(2);
    for (size_t n = 0; n < sizeof shared / sizeof *shared; n++) {
        const test_case c = {.problem = {.batch = shared[n].batch, .seqlen_q = 40, .seqlen_k = 40, .num_heads = shared[n].heads, .head_dim = 16}, .seed = n};
        test_fixture f;
        test_fixture_make(&f, &c);
        const int64_t before = calls("launch");
        run(two, &f, 0, NULL);
        assert_int_equal(calls("launch") - before, shared[n].launches);
        test_fixture_free(&f);
    }
    assert_int_equal(attend_context_destroy(two), ATTEND_OK);
}

/* ---- progress ---- */

enum { LONG = 8 * 1024, SHARED = 64 };
static float q[SHARED * 16], k[LONG * 16], v[LONG * 16], out[SHARED * 16];

/* What a callback was told, and what it does: it returns false at a call, or waits once until the second device has written its last output. */
typedef struct watch {
    pthread_t caller;
    int calls, stop_at;
    bool waits, elsewhere, backwards;
    double part, behind; /* told last; told next after the wait */
} watch;

static bool look(void *user, int64_t done, int64_t total)
{
    watch *w = user;
    const double part = (double)done / (double)total;
    w->elsewhere |= !pthread_equal(w->caller, pthread_self());
    w->backwards |= part < w->part;
    if (w->waits && w->behind == 0 && w->part > 0) w->behind = part;
    if (w->waits && w->part == 0 && part > 0)
        while (__atomic_load_n((const uint32_t *)&out[(SHARED / 2 - 1) * 16], __ATOMIC_ACQUIRE) == UINT32_MAX ||
               __atomic_load_n((const uint32_t *)&out[(3 * SHARED / 4 - 1) * 16], __ATOMIC_ACQUIRE) == UINT32_MAX)
            sched_yield();
    w->part = part;
    return ++w->calls != w->stop_at;
}

/* The first device has the first and last quarter of the queries, the second the others: each two boxes of as much work, with keys in parts. */
static attend_status run_watched(watch *w)
{
    const attend_problem problem = {.batch = 1, .seqlen_q = SHARED, .seqlen_k = LONG, .num_heads = 1, .head_dim = 16};
    const attend_context_options options = {.device = ATTEND_CUDA, .progress = look, .progress_user = w};
    attend_context *context;
    attend_plan *plan;
    size_t least;
    w->caller = pthread_self();
    memset(out, 0xff, sizeof out);
    if (attend_context_create_group(&options, devices, 2, &context)) fail_msg("%s", attend_error_message());
    attend_plan_options on_host = {.host_tensors = ATTEND_HOST_ALL, .least_bytes = &least};
    assert_int_equal(attend_attention_plan_with(context, &problem, &on_host, &plan), ATTEND_OK);
    attend_plan_destroy(plan);
    on_host.memory_limit_bytes = least;
    assert_int_equal(attend_attention_plan_with(context, &problem, &on_host, &plan), ATTEND_OK);
    const attend_attention_args args = {.q = attend_tensor_4d(q, ATTEND_F32, 1, SHARED, 1, 16), .k = attend_tensor_4d(k, ATTEND_F32, 1, LONG, 1, 16),
                                        .v = attend_tensor_4d(v, ATTEND_F32, 1, LONG, 1, 16), .out = attend_tensor_4d(out, ATTEND_F32, 1, SHARED, 1, 16)};
    const attend_status status = attend_attention_forward(plan, &args);
    attend_plan_destroy(plan);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
    assert_false(w->elsewhere || w->backwards);
    return status;
}

/* The first device reports an eighth or less of its half and waits for the other: then more than a half is told. */
static void progress_is_the_sum_over_the_devices(void **state)
{
    (void)state;
    watch w = {.waits = true};
    assert_int_equal(run_watched(&w), ATTEND_OK);
    assert_true(w.part == 1);
    if (w.behind < 0.5 || w.behind > 0.75) fail_msg("%.3g were told when one of two devices had ended", w.behind);
}

static void a_run_stops_wherever_it_is_asked_to(void **state)
{
    (void)state;
    for (int call = 1; call <= 5; call += 2) {
        watch w = {.stop_at = call};
        assert_int_equal(run_watched(&w), ATTEND_CANCELLED);
        if (!strstr(attend_error_message(), "asked to stop after")) fail_msg("\"%s\"", attend_error_message());
        assert_true(w.calls == call && w.part < 1);
    }
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_number_of_devices_changes_no_bit), cmocka_unit_test(pairs_go_before_queries), cmocka_unit_test(progress_is_the_sum_over_the_devices),
                                       cmocka_unit_test(a_run_stops_wherever_it_is_asked_to),
                                       cmocka_unit_test(what_one_device_does_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
