/* Tensors on the host, streamed through a budget of device memory: the bits of a run whose tensors all lie on the device, whatever the
   budget, the features, and the kind of host memory; and the plan never takes more than the budget. */
#include "support/feature_cases.h"
#include "support/fixture.h"
#include "gpu/gpu.h"

#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

enum { HEADS = 4, KV_HEADS = 2, QUERIES = 70, KEYS = 1024 + 72 };

/* What the least budget is multiplied by; 0: no limit. */
static const double budgets[] = {0, 1, 2.5};
enum { BUDGETS = sizeof budgets / sizeof *budgets };

static size_t device_bytes(void)
{
    size_t available, total;
    assert_int_equal(cudaMemGetInfo(&available, &total), cudaSuccess);
    return total - available;
}

static attend_tensor without_gaps(const attend_tensor *t)
{
    attend_tensor packed = *t;
    for (int64_t axis = t->rank - 1, stride = 1; axis >= 0; axis--) packed.stride[axis] = stride, stride *= t->shape[axis];
    return packed;
}

/* Copies all elements between a view and memory without gaps. */
static void move(const attend_tensor *t, char *memory, bool to_memory)
{
    const int64_t element = (int64_t)attend_dtype_bytes(t->dtype), all = attend_tensor_elements(t);
    for (int64_t n = 0; n < all; n++) {
        int64_t rest = n, at = 0;
        for (int axis = t->rank - 1; axis >= 0; axis--) at += rest % t->shape[axis] * t->stride[axis], rest /= t->shape[axis];
        char *const view = (char *)t->data + at * element, *const packed = memory + n * element;
        memcpy(to_memory ? packed : view, to_memory ? view : packed, (size_t)element);
    }
}

/* The same elements on the device, without gaps. */
static attend_tensor on_device(const attend_tensor *t, char **host)
{
    const size_t bytes = (size_t)attend_tensor_elements(t) * attend_dtype_bytes(t->dtype);
    attend_tensor copy = without_gaps(t);
    *host = malloc(bytes + 1);
    move(t, *host, true);
    assert_int_equal(cudaMalloc(&copy.data, bytes + 1), cudaSuccess);
    assert_int_equal(cudaMemcpy(copy.data, *host, bytes, cudaMemcpyDefault), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess); /* the context's stream waits for no other */
    return copy;
}

static attend_plan *plan_of(attend_context *context, const test_fixture *f, size_t limit, size_t *least)
{
    char text[TEST_CASE_TEXT];
    attend_plan *plan;
    const attend_plan_options options = {.host_tensors = ATTEND_HOST_ALL, .memory_limit_bytes = limit, .least_bytes = least};
    if (attend_attention_plan_with(context, &f->c.problem, &options, &plan)) fail_msg("%s: %s", test_case_text(&f->c, text), attend_error_message());
    return plan;
}

static void run(attend_plan *plan, attend_context *context, const test_fixture *f, const attend_attention_args *args)
{
    char text[TEST_CASE_TEXT];
    if (attend_attention_forward(plan, args) || attend_synchronize(context)) fail_msg("%s: %s", test_case_text(&f->c, text), attend_error_message());
}

/* What the device computes from tensors of its own; the fixture's out and lse become that. */
static void run_on_device(attend_plan *plan, attend_context *context, test_fixture *f)
{
    const attend_tensor *const given[] = {&f->q.tensor, &f->k.tensor, &f->v.tensor, &f->out.tensor, &f->lse.tensor};
    attend_attention_args args = f->args;
    attend_tensor *const tensors[] = {&args.q, &args.k, &args.v, &args.out, &args.lse};
    char *host[5];
    for (int i = 0; i < 5; i++) *tensors[i] = on_device(given[i], &host[i]);
    run(plan, context, f, &args);
    for (int i = 0; i < 5; i++) {
        const size_t bytes = (size_t)attend_tensor_elements(given[i]) * attend_dtype_bytes(given[i]->dtype);
        if (i >= 3) {
            assert_int_equal(cudaMemcpy(host[i], tensors[i]->data, bytes, cudaMemcpyDefault), cudaSuccess);
            move(given[i], host[i], false);
                }
        cudaFree(tensors[i]->data), free(host[i]);
    }
}

static void expect_same(const test_fixture *f, const unsigned char *out, const unsigned char *lse, double budget, const attend_plan *plan)
{
    char text[TEST_CASE_TEXT];
    const attend_gpu_blocks *b = &((attend_gpu_plan *)plan->state)->offload.blocks;
    const bool same_out = !memcmp(out, f->out.bytes, f->out.size), same_lse = !memcmp(lse, f->lse.bytes, f->lse.size);
    if (!same_out || !same_lse)
        fail_msg("%s: budget %.3g of the least, %lld queries by %lld keys: %s has other bits", test_case_text(&f->c, text), budget,
                 (long long)b->queries, (long long)b->keys, same_out ? "lse" : "out");
}

/* A third of the runs has pinned inputs, a third pinned outputs, all others pageable memory. */
static void pin(test_fixture *f, int n, bool pins)
{
    test_memory *const all[] = {&f->q, &f->k, &f->v, &f->out, &f->lse};
    for (int i = 0; i < 5; i++) {
        if (n % 3 == 2 || (n % 3 == 0) != (i < 3)) continue;
        const cudaError_t error = pins ? cudaHostRegister(all[i]->bytes, all[i]->size, cudaHostRegisterDefault) : cudaHostUnregister(all[i]->bytes);
        assert_int_equal(error, cudaSuccess);
    }
}

static void one_case(attend_context *context, const test_case *c, int n)
{
    char text[TEST_CASE_TEXT];
    test_fixture f;
    size_t least = 0;
    test_fixture_make(&f, c);
    unsigned char *const out = malloc(f.out.size), *const lse = malloc(f.lse.size), *const before_out = malloc(f.out.size), *const before_lse = malloc(f.lse.size);
    memcpy(before_out, f.out.bytes, f.out.size), memcpy(before_lse, f.lse.bytes, f.lse.size);
    attend_plan *plan = plan_of(context, &f, 0, &least);
    run_on_device(plan, context, &f);
    memcpy(out, f.out.bytes, f.out.size), memcpy(lse, f.lse.bytes, f.lse.size);
    attend_plan_destroy(plan);
    for (int i = 0; i < BUDGETS; i++) {
        const size_t limit = (size_t)(budgets[i] * (double)least), before = device_bytes();
        memcpy(f.out.bytes, before_out, f.out.size), memcpy(f.lse.bytes, before_lse, f.lse.size);
        plan = plan_of(context, &f, limit, NULL);
        const size_t taken = device_bytes() - before;
        if (limit && taken > limit) fail_msg("%s: the plan takes %zu bytes of %zu", test_case_text(c, text), taken, limit);
        pin(&f, n + i, true);
        run(plan, context, &f, &f.args);
        pin(&f, n + i, false);
        expect_same(&f, out, lse, budgets[i], plan);
        if (device_bytes() - before > taken) fail_msg("%s: a run takes memory", test_case_text(c, text));
        attend_plan_destroy(plan);
    }
    size_t again;
    char sentence[128];
    const attend_plan_options short_of_one = {.host_tensors = ATTEND_HOST_ALL, .memory_limit_bytes = least - 1, .least_bytes = &again};
    snprintf(sentence, sizeof sentence, "memory_limit_bytes is %zu, but the plan needs at least %zu bytes", least - 1, least);
    assert_int_equal(attend_attention_plan_with(context, &f.c.problem, &short_of_one, &plan), ATTEND_OUT_OF_MEMORY);
    assert_string_equal(attend_error_message(), sentence);
    assert_true(again == least);
    free(out), free(lse), free(before_out), free(before_lse);
    test_fixture_free(&f);
}

/* Every second setting of the features, ATTEND_TEST_EACH: every one; by turns with causality and lengths. */
static void budgets_change_no_bit(void **state)
{
    (void)state;
    static const test_layout layouts[] = {LAYOUT_BSHD, LAYOUT_BHSD, LAYOUT_PADDED, LAYOUT_FUSED};
    attend_context *context;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) fail_msg("%s", attend_error_message());
    const int step = getenv("ATTEND_TEST_EACH") ? 1 : 2;
    for (int i = -1; i < 0 || test_feature_setting(i); i += step) {
        const int n = i + 1;
        test_case c = {.problem = {.batch = 1 + n % 2, .seqlen_q = n % 5 == 4 ? 3 : QUERIES, .seqlen_k = KEYS, .num_heads = HEADS,
                                   .num_kv_heads = KV_HEADS, .head_dim = 24, .head_dim_v = n % 3 == 1 ? 40 : 16, .dtype = (attend_dtype)(n % 3)},
                       .values = ATTEND_VALUES_GAUSS, .layout = layouts[n % 4], .lengths = n % 2 == 0, .seed = (uint64_t)n + 5};
        if (i >= 0) test_setting_apply(test_feature_setting(i), &c.problem);
        snprintf(c.features, sizeof c.features, "%s", i < 0 ? "" : test_feature_setting(i)->name);
        if (n % 4 == 3 && c.problem.causal == 0) c.problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
        if (attend_problem_features(&c.problem) & ~test_supported(context)) continue;
        one_case(context, &c, n);
    }
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

/* ---- one small problem ---- */

enum { ROWS = QUERIES * HEADS, WIDTH = 16 };
static float q[ROWS * WIDTH], k[KEYS * WIDTH], v[KEYS * WIDTH], out[ROWS * WIDTH], other[ROWS * WIDTH], sums[3][ROWS * WIDTH];
static const attend_problem small = {.batch = 1, .seqlen_q = QUERIES, .seqlen_k = KEYS, .num_heads = HEADS, .num_kv_heads = 1, .head_dim = WIDTH,
                                     .causal = ATTEND_CAUSAL_BOTTOM_RIGHT};

static attend_tensor rows(float *data, int64_t n, int64_t heads) { return attend_tensor_4d(data, ATTEND_F32, 1, n, heads, WIDTH); }

static attend_attention_args small_args(float *to)
{
    for (int i = 0; i < KEYS * WIDTH; i++) k[i] = (float)(i * 7919 % 1009) / 1009 - 0.5f, v[i] = (float)(i * 6007 % 997) / 997 - 0.5f;
    for (int i = 0; i < ROWS * WIDTH; i++) q[i] = (float)(i * 3511 % 991) / 99 - 5;
    memset(to, 0xff, sizeof out);
    return (attend_attention_args){.q = rows(q, QUERIES, HEADS), .k = rows(k, KEYS, 1), .v = rows(v, KEYS, 1), .out = rows(to, QUERIES, HEADS)};
}

static bool stop_half_way(void *calls, int64_t done, int64_t total)
{
    ++*(int *)calls;
    return *(int *)calls < 0 || 2 * done < total;
}

static void a_run_stops_between_blocks(void **state)
{
    (void)state;
    int calls = 0;
    size_t least;
    attend_context *context;
    attend_plan *plan;
    const attend_context_options options = {.device = ATTEND_CUDA, .progress = stop_half_way, .progress_user = &calls};
    if (attend_context_create(&options, &context)) fail_msg("%s", attend_error_message());
    attend_plan_options limited = {.host_tensors = ATTEND_HOST_ALL, .least_bytes = &least};
    assert_int_equal(attend_attention_plan_with(context, &small, &limited, &plan), ATTEND_OK);
    attend_plan_destroy(plan);
    limited.memory_limit_bytes = least;
    assert_int_equal(attend_attention_plan_with(context, &small, &limited, &plan), ATTEND_OK);
    attend_attention_args args = small_args(out);
    assert_int_equal(attend_attention_forward(plan, &args), ATTEND_CANCELLED);
    assert_true(calls >= 2);
    calls = INT32_MIN; /* never again */
    args = small_args(out);
    assert_int_equal(attend_attention_forward(plan, &args), ATTEND_OK);
    assert_true(calls - INT32_MIN >= 4); /* two blocks by two parts */
    attend_plan_destroy(plan);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

/* A block of queries, keys in two parts, the state on the host: each run streamed through the least budget. */
static void states_pass_through_the_budget(void **state)
{
    (void)state;
    enum { FIRST = 2 };
    size_t least;
    attend_context *context;
    attend_plan *plan;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) fail_msg("%s", attend_error_message());
    const attend_plan_options unlimited = {.host_tensors = ATTEND_HOST_ALL, .least_bytes = &least};
    assert_int_equal(attend_attention_plan_with(context, &small, &unlimited, &plan), ATTEND_OK);
    attend_attention_args args = small_args(other);
    assert_int_equal(attend_attention_forward(plan, &args), ATTEND_OK);
    assert_int_equal(attend_synchronize(context), ATTEND_OK);
    attend_plan_destroy(plan);
    const attend_plan_options limited = {.host_tensors = ATTEND_HOST_ALL, .memory_limit_bytes = least};
    assert_int_equal(attend_attention_plan_with(context, &small, &limited, &plan), ATTEND_OK);
    const attend_state between = {rows(sums[0], QUERIES - FIRST, HEADS), attend_tensor_3d(sums[1], ATTEND_F32, 1, HEADS, QUERIES - FIRST),
                                  attend_tensor_3d(sums[2], ATTEND_F32, 1, HEADS, QUERIES - FIRST)};
    args = small_args(out);
    args.q = rows(q + FIRST * HEADS * WIDTH, QUERIES - FIRST, HEADS), args.first_query = FIRST;
    args.k = rows(k, 1024, 1), args.v = rows(v, 1024, 1), args.end_key = 1024, args.into = &between, args.out = (attend_tensor){0};
    if (attend_attention_forward(plan, &args)) fail_msg("%s", attend_error_message());
    args.k = rows(k + 1024 * WIDTH, KEYS - 1024, 1), args.v = rows(v + 1024 * WIDTH, KEYS - 1024, 1), args.first_key = 1024, args.end_key = 0;
    args.from = &between, args.into = NULL, args.out = rows(out + FIRST * HEADS * WIDTH, QUERIES - FIRST, HEADS);
    if (attend_attention_forward(plan, &args) || attend_synchronize(context)) fail_msg("%s", attend_error_message());
    const size_t before = FIRST * HEADS * WIDTH * sizeof *out;
    assert_memory_equal((char *)out + before, (char *)other + before, sizeof out - before);
    attend_plan_destroy(plan);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

/* Keys in a file that is mapped for reading alone, values in managed memory, the output in a file that is mapped to be written. */
static void mapped_files_and_managed_memory_are_read_and_written(void **state)
{
    (void)state;
    size_t least;
    attend_context *context;
    attend_plan *plan;
    void *managed;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) fail_msg("%s", attend_error_message());
    attend_plan_options options = {.host_tensors = ATTEND_HOST_ALL, .least_bytes = &least};
    assert_int_equal(attend_attention_plan_with(context, &small, &options, &plan), ATTEND_OK);
    attend_attention_args args = small_args(other);
    if (attend_attention_forward(plan, &args) || attend_synchronize(context)) fail_msg("%s", attend_error_message());
    attend_plan_destroy(plan);
    options.memory_limit_bytes = least;
    assert_int_equal(attend_attention_plan_with(context, &small, &options, &plan), ATTEND_OK);
    FILE *const files[] = {tmpfile(), tmpfile()};
    assert_true(files[0] && files[1]);
    assert_true(fwrite(k, sizeof k, 1, files[0]) == 1 && fwrite(out, sizeof out, 1, files[1]) == 1 && !fflush(NULL));
    float *const keys = mmap(NULL, sizeof k, PROT_READ, MAP_PRIVATE, fileno(files[0]), 0),
          *const result = mmap(NULL, sizeof out, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(files[1]), 0);
    assert_true(keys != MAP_FAILED && result != MAP_FAILED);
    assert_int_equal(cudaMallocManaged(&managed, sizeof v, cudaMemAttachGlobal), cudaSuccess);
    memcpy(managed, v, sizeof v);
    args.k = rows(keys, KEYS, 1), args.v = rows(managed, KEYS, 1), args.out = rows(result, QUERIES, HEADS);
    if (attend_attention_forward(plan, &args) || attend_synchronize(context)) fail_msg("%s", attend_error_message());
    assert_memory_equal(result, other, sizeof out);
    cudaFree(managed), munmap(keys, sizeof k), munmap(result, sizeof out);
    for (int i = 0; i < 2; i++) fclose(files[i]);
    attend_plan_destroy(plan);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

/* Gradients are not streamed: what they need lies on the device whole, is part of the least budget, and suffices. */
static void gradients_fit_the_least_budget(void **state)
{
    (void)state;
    enum { FEW = 5, SOME = 1024 + 8 };
    static float grads[2][3][SOME * WIDTH], dout[FEW * WIDTH], lse[FEW];
    const attend_problem problem = {.batch = 1, .seqlen_q = FEW, .seqlen_k = SOME, .num_heads = 1, .head_dim = WIDTH};
    size_t forwards, least;
    char sentence[128];
    attend_context *context;
    attend_plan *plan;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) fail_msg("%s", attend_error_message());
    attend_plan_options options = {.host_tensors = ATTEND_HOST_ALL, .least_bytes = &forwards};
    assert_int_equal(attend_attention_plan_with(context, &problem, &options, &plan), ATTEND_OK);
    attend_plan_destroy(plan);
    options.backward = true, options.least_bytes = &least;
    attend_attention_args args = small_args(out);
    args.q = rows(q, FEW, 1), args.k = rows(k, SOME, 1), args.v = rows(v, SOME, 1), args.out = rows(out, FEW, 1);
    args.lse = attend_tensor_3d(lse, ATTEND_F32, 1, 1, FEW);
    memcpy(dout, v, sizeof dout);
    for (int i = 0; i < 2; i++) {
        const attend_attention_grads wanted = {.dout = rows(dout, FEW, 1), .dq = rows(grads[i][0], FEW, 1), .dk = rows(grads[i][1], SOME, 1), .dv = rows(grads[i][2], SOME, 1)};
        options.memory_limit_bytes = i ? least : 0;
        const size_t before = device_bytes();
        if (attend_attention_plan_with(context, &problem, &options, &plan) || attend_attention_forward(plan, &args) ||
            attend_attention_backward(plan, &args, &wanted, NULL) || attend_synchronize(context))
            fail_msg("%s", attend_error_message());
        assert_true(i == 0 || device_bytes() - before <= least);
        attend_plan_destroy(plan);
    }
    assert_memory_equal(grads[0], grads[1], sizeof *grads);
    assert_true(grads[0][1][SOME * WIDTH - 1] != 0 && least > forwards + 4 * SOME * WIDTH * sizeof(float)); /* K, V, dK and dV, whole */
    options.memory_limit_bytes = least - 1;
    assert_int_equal(attend_attention_plan_with(context, &problem, &options, &plan), ATTEND_OUT_OF_MEMORY);
    snprintf(sentence, sizeof sentence, "memory_limit_bytes is %zu, but the plan needs at least %zu bytes", least - 1, least);
    assert_string_equal(attend_error_message(), sentence);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

/* Neither room on the device, nor pinned memory, streams or events. */
static void what_was_not_announced_takes_nothing(void **state)
{
    (void)state;
    static const attend_gpu_offload none;
    attend_context *context;
    attend_plan *plan;
    attend_plan_memory memory;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) fail_msg("%s", attend_error_message());
    assert_int_equal(attend_attention_plan(context, &small, &plan), ATTEND_OK);
    assert_int_equal(attend_plan_memory_usage(plan, &memory), ATTEND_OK);
    const attend_gpu_offload *o = &((const attend_gpu_plan *)plan->state)->offload;
    assert_true(memory.device_staging_bytes == 0 && memory.host_bytes == sizeof(attend_gpu_plan));
    assert_memory_equal(o->buffers, none.buffers, sizeof o->buffers);
    assert_true(!o->pinned.memory && !o->in && !o->out && !o->begun && !((const attend_gpu_context *)context->state)->pool);
    attend_plan_destroy(plan);
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

static void what_was_not_announced_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint8_t host_tensors;
        bool caller_workspace;
        bool plans;
        const char *sentence;
    } refused[] = {
        {8, false, false, "host_tensors is 8, expected some of attend_host_tensors"},
        {ATTEND_HOST_INPUTS, true, false, "host_tensors is 1, but the plan is made with caller_workspace"},
        {0, false, true, "q lies on the host, but the plan's host_tensors does not have ATTEND_HOST_INPUTS"},
        {ATTEND_HOST_INPUTS, false, true, "out lies on the host, but the plan's host_tensors does not have ATTEND_HOST_OUTPUTS"},
        {ATTEND_HOST_OUTPUTS, false, true, "q lies on the host, but the plan's host_tensors does not have ATTEND_HOST_INPUTS"},
    };
    attend_context *context;
    attend_plan *plan;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) fail_msg("%s", attend_error_message());
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const attend_plan_options options = {.host_tensors = refused[i].host_tensors, .caller_workspace = refused[i].caller_workspace};
        const attend_attention_args args = small_args(out);
        attend_status status = attend_attention_plan_with(context, &small, &options, &plan);
        assert_int_equal(status == ATTEND_OK, refused[i].plans);
        if (!status) status = attend_attention_forward(plan, &args);
        assert_int_equal(status, ATTEND_INVALID_ARGUMENT);
        if (!strstr(attend_error_message(), refused[i].sentence)) fail_msg("\"%s\", expected \"%s\"", attend_error_message(), refused[i].sentence);
        attend_plan_destroy(plan);
    }
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
    const attend_context_options none = {.device = ATTEND_CUDA, .device_tensors_only = true};
    if (attend_context_create(&none, &context)) fail_msg("%s", attend_error_message());
    assert_int_equal(attend_attention_plan_with(context, &small, &(attend_plan_options){.host_tensors = ATTEND_HOST_ALL}, &plan), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(attend_error_message(), "host_tensors is 7, but the context was made with device_tensors_only");
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(budgets_change_no_bit), cmocka_unit_test(a_run_stops_between_blocks),
                                       cmocka_unit_test(states_pass_through_the_budget),
                                       cmocka_unit_test(mapped_files_and_managed_memory_are_read_and_written), cmocka_unit_test(gradients_fit_the_least_budget),
                                       cmocka_unit_test(what_was_not_announced_takes_nothing), cmocka_unit_test(what_was_not_announced_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
