/* Gradients are the same bits whatever the number of threads and whoever else is in the batch; what is masked, NaN or not, reaches none;
   `accumulate` adds; what a plan cannot do it refuses in a sentence. */
#include "support/gradients.h"
#include "support/refusal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static bool on_cuda(void)
{
    const char *name = getenv("ATTEND_TEST_DEVICE");
    return name && !strcmp(name, "cuda");
}

static bool go_on(void *user, int64_t done, int64_t total)
{
    (void)user;
    return done <= total;
}

/* CUDA has no threads to choose: with more than one, launches are cut into slices, which progress needs. */
static attend_context *context_of(int threads)
{
    attend_context *context;
    const attend_context_options cpu = {.device = ATTEND_CPU, .threads = threads},
                                 cuda = {.device = ATTEND_CUDA, .progress = threads > 1 ? go_on : NULL};
    if (attend_context_create(on_cuda() ? &cuda : &cpu, &context)) fail_msg("%s", attend_error_message());
    return context;
}

static const attend_problem problems[] = {
    {.batch = 2, .seqlen_q = 100, .seqlen_k = 300, .num_heads = 4, .num_kv_heads = 2, .head_dim = 24, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT},
    {.batch = 2, .seqlen_q = 150, .seqlen_k = 290, .num_heads = 3, .num_kv_heads = 3, .head_dim = 8, .dtype = ATTEND_BF16, .sinks = true,
     .head_scales = true, .bias_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY},
    {.batch = 3, .seqlen_q = 60, .seqlen_k = 400, .num_heads = 4, .num_kv_heads = 1, .head_dim = 9, .alibi = ATTEND_ALIBI_SYMMETRIC,
     .bias_axes = ATTEND_PER_KEY, .relative_buckets = 8, .relative_max_distance = 30},
    {.batch = 2, .seqlen_q = 60, .seqlen_k = 400, .num_heads = 4, .num_kv_heads = 2, .head_dim = 9, .bias_axes = ATTEND_PER_QUERY, .packed = true},
    {.batch = 2, .seqlen_q = 130, .seqlen_k = 260, .num_heads = 2, .num_kv_heads = 2, .head_dim = 9, .bias_axes = ATTEND_PER_BATCH, .softcap = 3},
};
enum { PROBLEMS = sizeof problems / sizeof *problems };

static void threads_change_no_bit(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 7};
    const int runs = on_cuda() ? 2 : 3, every = on_cuda() ? 4 : 1;
    for (int n = 0; n < PROBLEMS; n += every) {
        const test_case c = {.problem = problems[n], .seed = 21 + 2 * (uint64_t)n};
        test_gradients of[3];
        test_fixture f;
        test_fixture_make(&f, &c);
        for (int i = 0; i < runs; i++) {
            attend_context *context = context_of(threads[i]);
            test_gradients_make(&of[i], &f, ATTEND_F32);
            test_gradients_run(&of[i], &f, context);
            attend_context_destroy(context);
            for (int g = 0; g < ATTEND_GRADIENTS; g++)
                if (of[0].of[g].bytes && memcmp(of[0].of[g].bytes, of[i].of[g].bytes, of[0].of[g].size))
                    fail_msg("problem %d: gradient %d differs between 1 and %d threads", n, g, threads[i]);
        }
        for (int i = 0; i < runs; i++) test_gradients_free(&of[i]);
        test_fixture_free(&f);
    }
}

/* The last batch entry alone: its tensors, and nobody before it. */
static void neighbours_change_no_bit(void **state)
{
    (void)state;
    const test_case c = {.problem = problems[0], .seed = 5, .lengths = false};
    attend_context *context = context_of(2);
    test_fixture all, one;
    test_gradients of_all, of_one;
    test_fixture_make(&all, &c);
    test_gradients_make(&of_all, &all, ATTEND_F32);
    test_gradients_run(&of_all, &all, context);
    one = all, of_one = of_all;
    one.c.problem.batch = 1;
    attend_tensor *tensors[] = {&one.args.q, &one.args.k, &one.args.v, &one.args.out, &one.args.lse, &of_one.grads.dout, &of_one.grads.dlse,
                                &of_one.grads.dq, &of_one.grads.dk, &of_one.grads.dv};
    for (int i = 0; i < 10; i++) {
        tensors[i]->data = (char *)tensors[i]->data + (size_t)tensors[i]->stride[0] * attend_dtype_bytes(tensors[i]->dtype);
        tensors[i]->shape[0] = 1;
    }
    size_t bytes[3];
    void *before[3];
    for (int i = 0; i < 3; i++) {
        bytes[i] = (size_t)tensors[7 + i]->stride[0] * sizeof(float);
        before[i] = memcpy(malloc(bytes[i]), tensors[7 + i]->data, bytes[i]);
        memset(tensors[7 + i]->data, 0xff, bytes[i]);
    }
    test_gradients_run(&of_one, &one, context);
    for (int i = 0; i < 3; i++) assert_memory_equal(before[i], tensors[7 + i]->data, bytes[i]), free(before[i]);
    test_gradients_free(&of_all);
    test_fixture_free(&all);
    attend_context_destroy(context);
}

static float *row_of(const attend_tensor *t, int64_t b, int64_t i, int64_t h)
{
    return (float *)t->data + b * t->stride[0] + i * t->stride[1] + h * t->stride[2];
}

static bool finite_row(const attend_tensor *t, int64_t b, int64_t i, int64_t h)
{
    for (int64_t c = 0; c < t->shape[3]; c++)
        if (!isfinite(row_of(t, b, i, h)[c])) return false;
    return true;
}

static void nan_row(const attend_tensor *t, int64_t b, int64_t i, int64_t h)
{
    for (int64_t c = 0; c < t->shape[3]; c++) row_of(t, b, i, h)[c] = NAN;
}

/* A NaN in one row of dout, and in a key that the last queries alone see: exactly what is joined with them. */
static void what_is_not_finite_reaches_what_it_must(void **state)
{
    (void)state;
    enum { N = 200, QUERY = 70, KEY = 150 };
    for (int elementwise = 0; elementwise < 2; elementwise++) {
        test_case c = {.problem = {.batch = 1, .seqlen_q = N, .seqlen_k = N, .num_heads = 1, .head_dim = 16, .causal = ATTEND_CAUSAL_TOP_LEFT,
                                   .alibi = elementwise ? ATTEND_ALIBI_CAUSAL : ATTEND_ALIBI_NONE},
                       .seed = 4};
        attend_context *context = context_of(2);
        test_fixture f;
        test_gradients g;
        test_fixture_make(&f, &c);
        test_gradients_make(&g, &f, ATTEND_F32);
        nan_row(&g.dout.tensor, 0, QUERY, 0);
        nan_row(&f.k.tensor, 0, KEY, 0);
        test_gradients_run(&g, &f, context);
        for (int64_t i = 0; i < N; i++) {
            assert_int_equal(finite_row(&g.grads.dq, 0, i, 0), i != QUERY && i < KEY);
            /* queries that see KEY are NaN to every key that they see: all of them */
            assert_false(finite_row(&g.grads.dk, 0, i, 0));
        }
        for (int64_t n = 0; n < 16; n++) row_of(&f.k.tensor, 0, KEY, 0)[n] = 0.25f;
        test_gradients_run(&g, &f, context);
        for (int64_t i = 0; i < N; i++) {
            assert_int_equal(finite_row(&g.grads.dq, 0, i, 0), i != QUERY);
            assert_int_equal(finite_row(&g.grads.dk, 0, i, 0), i > QUERY);
            assert_int_equal(finite_row(&g.grads.dv, 0, i, 0), i > QUERY);
        }
        test_gradients_free(&g);
        test_fixture_free(&f);
        attend_context_destroy(context);
    }
}

static void expect_twice(const test_case *c, attend_context *context)
{
    test_fixture f;
    test_gradients once, twice;
    test_fixture_make(&f, c);
    test_gradients_make(&once, &f, ATTEND_F32), test_gradients_make(&twice, &f, ATTEND_F32);
    test_gradients_run(&once, &f, context);
    for (int g = 0; g < ATTEND_GRADIENTS; g++)
        if (twice.of[g].bytes) memcpy(twice.of[g].bytes, once.of[g].bytes, once.of[g].size);
    twice.grads.accumulate = true;
    test_gradients_run(&twice, &f, context);
    for (int g = 0; g < ATTEND_GRADIENTS; g++)
        for (int64_t n = 0; g != ATTEND_GRADIENT_BIAS && once.of[g].bytes && n < attend_tensor_elements(&once.of[g].tensor); n++)
            assert_true(((float *)twice.of[g].tensor.data)[n] == 2 * ((float *)once.of[g].tensor.data)[n]);
    test_gradients_free(&once), test_gradients_free(&twice);
    test_fixture_free(&f);
}

/* Values as wide as keys, narrower and wider. */
static void gradients_add_up(void **state)
{
    (void)state;
    static const int64_t widths[][2] = {{0, 0}, {40, 9}, {9, 40}};
    attend_context *context = context_of(2);
    for (int i = 0; i < 3; i++) {
        test_case c = {.problem = problems[1], .seed = 9};
        if (i > 0) c.problem.seqlen_q = 40, c.problem.seqlen_k = 90, c.problem.head_dim = widths[i][0], c.problem.head_dim_v = widths[i][1];
        expect_twice(&c, context);
    }
    attend_context_destroy(context);
}

/* In a context of its own, which goes. */
static attend_status backward_in(attend_context *context, const test_fixture *f, const attend_attention_args *args, const attend_attention_grads *grads,
                                 bool plans)
{
    attend_plan *plan;
    attend_status status = attend_attention_plan_with(context, &f->c.problem, &(attend_plan_options){.backward = plans, .host_tensors = ATTEND_HOST_ALL}, &plan);
    if (!status) status = attend_attention_backward(plan, args, grads, NULL);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    return status;
}

static attend_status backward(const test_fixture *f, const attend_attention_args *args, const attend_attention_grads *grads, bool plans)
{
    return backward_in(context_of(1), f, args, grads, plans);
}

/* Asks to stop at the `calls`-th report of work done, but not when all is done. */
typedef struct {
    int calls;
    bool asked;
} stop;

static bool stop_soon(void *user, int64_t done, int64_t total)
{
    stop *s = user;
    if (done > 0 && done < total && --s->calls == 0) s->asked = true;
    return !s->asked;
}

/* Threads that wait for a task that was asked to stop go home, too; and the next run is whole. Thread 0 reports, and on a busy machine
   the others may leave it fewer tasks than it takes to ask: then the run ends well. Alone it always asks. */
static void a_run_that_is_stopped_ends(void **state)
{
    (void)state;
    const test_case c = {.problem = problems[1], .seed = 9};
    test_fixture f;
    test_gradients g;
    test_fixture_make(&f, &c);
    test_gradients_make(&g, &f, ATTEND_F32);
    for (int threads = 1; threads <= (on_cuda() ? 1 : 3); threads += 2) {
        stop s = {0};
        attend_context *context;
        attend_plan *plan;
        const attend_context_options options = {.device = on_cuda() ? ATTEND_CUDA : ATTEND_CPU, .threads = on_cuda() ? 0 : threads,
                                                .progress = stop_soon, .progress_user = &s};
        const attend_plan_options backward = {.backward = true, .host_tensors = ATTEND_HOST_ALL};
        assert_int_equal(attend_context_create(&options, &context), ATTEND_OK);
        assert_int_equal(attend_attention_plan_with(context, &c.problem, &backward, &plan), ATTEND_OK);
        assert_int_equal(attend_attention_forward(plan, &f.args), ATTEND_OK);
        for (int at = 1; at < 4; at++) {
            s = (stop){.calls = at};
            const attend_status status = attend_attention_backward(plan, &f.args, &g.grads, NULL);
            if (threads == 1 && !on_cuda()) assert_true(s.asked);
            if (s.asked)
                test_expect_failure(status, ATTEND_CANCELLED, "asked to stop");
            else
                assert_int_equal(status, ATTEND_OK);
        }
        s = (stop){0};
        assert_int_equal(attend_attention_backward(plan, &f.args, &g.grads, NULL), ATTEND_OK);
        attend_plan_destroy(plan);
        attend_context_destroy(context);
    }
    test_gradients_free(&g);
    test_fixture_free(&f);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    const test_case c = {.problem = problems[0], .seed = 1};
    test_fixture f;
    test_gradients g;
    test_fixture_make(&f, &c);
    test_gradients_make(&g, &f, ATTEND_F32);
    attend_attention_args args = f.args;
    attend_attention_grads grads = g.grads;
    attend_feature_grads features = {.bias = g.dlse.tensor};
    test_expect_failure(backward(&f, &args, &grads, false), ATTEND_INVALID_ARGUMENT, "made without backward");
    args.lse.data = NULL;
    test_expect_failure(backward(&f, &args, &grads, true), ATTEND_INVALID_ARGUMENT, "lse");
    args = f.args, args.end_key = 100;
    test_expect_failure(backward(&f, &args, &grads, true), ATTEND_UNSUPPORTED, "end_key");
    args = f.args, args.first_query = 1;
    test_expect_failure(backward(&f, &args, &grads, true), ATTEND_UNSUPPORTED, "first_query");
    args = f.args, grads.dout.data = NULL;
    test_expect_failure(backward(&f, &args, &grads, true), ATTEND_INVALID_ARGUMENT, "dout");
    grads = g.grads, grads.dq.dtype = ATTEND_BF16;
    test_expect_failure(backward(&f, &args, &grads, true), ATTEND_INVALID_ARGUMENT, "dq");
    grads = g.grads, grads.dk = grads.dv;
    test_expect_failure(backward(&f, &args, &grads, true), ATTEND_INVALID_ARGUMENT, "overlap");
    grads = g.grads, grads.features = &features;
    test_expect_failure(backward(&f, &args, &grads, true), ATTEND_INVALID_ARGUMENT, "grads.bias is asked for, but the problem has none");
    grads = g.grads, grads.reserved[0] = 1;
    test_expect_failure(backward(&f, &args, &grads, true), ATTEND_INVALID_ARGUMENT, "reserved");
    /* lists are looked at by each backend */
    const attend_feature_args lengths = {.seqlens_k = (int64_t[]){300, 301}};
    args = f.args, args.features = &lengths;
    for (int reference = 0; reference < 2; reference++) {
        attend_context *context = reference ? NULL : context_of(1);
        if (reference) assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_REFERENCE}, &context), ATTEND_OK);
        test_expect_failure(backward_in(context, &f, &args, &g.grads, true), ATTEND_INVALID_ARGUMENT, "seqlens_k[1] is 301, expected 0 to 300");
    }
    test_gradients_free(&g);
    test_fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_change_no_bit),
                                       cmocka_unit_test(neighbours_change_no_bit),
                                       cmocka_unit_test(what_is_not_finite_reaches_what_it_must),
                                       cmocka_unit_test(gradients_add_up),
                                       cmocka_unit_test(a_run_that_is_stopped_ends),
                                       cmocka_unit_test(what_cannot_be_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
