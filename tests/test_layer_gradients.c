/* Gradients of layers on the device under test: each within what rounding explains; the same bits whatever else is wanted, given or
   done; added up on demand; and weights that changed. */
#include "core/backend.h"
#include "core/problem.h"
#include "core/tensor.h"
#include "reference/reference.h"
#include "support/fixture.h"
#include "support/forget.h"
#include "support/layer_gradients.h"
#include "support/refusal.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { FEATURES = 2 + ATTEND_LAYER_WEIGHTS }; /* the tensors from here on */

/* Of fp32 sums: the rms error over the tensor's rms. */
static const double fp32_share = 8e-6;

static void reference(const test_trained *l, attend_reference_rounding rounding, attend_reference_layer_gradients *of)
{
    attend_layer_args args;
    attend_feature_args features;
    attend_layer_gradients g;
    attend_progress_tracker nobody = {0};
    test_trained_resolve(l, &args, &features, &g);
    assert_true(attend_reference_layer_backward(&l->p, &l->weights, &args, &g, rounding, 1, &nobody, of));
}

static const double *of_tensor(const attend_reference_layer_gradients *of, int t)
{
    return t == 0 ? of->dx : t == 1 ? of->dcontext : t < FEATURES ? of->weights[t - 2]
                                                   : of->of[ATTEND_GRADIENT_BIAS + t - FEATURES].exact;
}

/* Element n of a dense order. */
static int64_t place(const attend_tensor *t, int64_t n)
{
    int64_t at = 0;
    for (int i = t->rank - 1; i >= 0; i--) at += n % t->shape[i] * t->stride[i], n /= t->shape[i];
    return at;
}

/* The worst of |error| / allowed over all gradients, by their rms. Allowed: twice what rounding between stages explains, as a reference
   that rounds there shows, and fp32's sums. */
static double judge(test_trained *l, const attend_reference_layer_gradients *exact, const attend_reference_layer_gradients *rounded)
{
    double worst = 0;
    for (int t = 0; t < TEST_TRAINED_TENSORS; t++) {
        const test_trained_tensor tensor = test_trained_tensor_of(l, t);
        const double *e = of_tensor(exact, t), *r = of_tensor(rounded, t);
        double error = 0, explained = 0, size = 0;
        if (!tensor.gradient->data) continue;
        for (int64_t n = 0; n < attend_tensor_elements(tensor.gradient); n++) {
            const double is = attend_load(tensor.gradient, place(tensor.gradient, n));
            error += (is - e[n]) * (is - e[n]), explained += (r[n] - e[n]) * (r[n] - e[n]), size += e[n] * e[n];
        }
        const double ratio = error == 0 ? 0 : sqrt(error) / (2 * sqrt(explained) + fp32_share * sqrt(size) + 1e-12);
        if (!(ratio <= 1))
            fail_msg("%s: %s is off by %.3g of its rms, rounding explains %.3g", l->c->name, tensor.name, sqrt(error / size),
                     sqrt(explained / size));
        worst = fmax(worst, ratio);
    }
    return worst;
}

static void every_gradient_is_as_near_as_rounding_lets_it(void **state)
{
    (void)state;
    attend_context *context = test_context();
    double worst[3] = {0};
    for (int i = 0; i < test_layer_case_count; i++) {
        test_trained l, wide;
        attend_reference_layer_gradients exact, rounded;
        test_trained_make(&l, &test_layer_cases[i], false);
        test_trained_widen(&wide, &l, ATTEND_F32);
        reference(&wide, ATTEND_REFERENCE_EXACT, &exact), reference(&l, ATTEND_REFERENCE_STORED, &rounded);
        test_trained_run(&l, context);
        worst[l.p.dtype] = fmax(worst[l.p.dtype], judge(&l, &exact, &rounded));
        attend_reference_layer_backward_free(&exact), attend_reference_layer_backward_free(&rounded);
        test_trained_free(&l), test_trained_free(&wide);
    }
    print_message("%s: %d layers, worst share of what is allowed: f32 %.3f, f16 %.3f, bf16 %.3f\n", attend_context_device_name(context),
                  test_layer_case_count, worst[ATTEND_F32], worst[ATTEND_F16], worst[ATTEND_BF16]);
    attend_context_destroy(context);
}

/* Every case, and on the software device every `step`th. */
static int after(int i, int step) { return i + (getenv("ATTEND_TEST_SHORT") ? step : 1); }

static attend_plan *plan_of(const test_trained *l, attend_context *context)
{
    attend_plan *plan;
    const attend_plan_options options = {.backward = true, .host_tensors = ATTEND_HOST_ALL};
    if (attend_layer_plan_with(context, &l->given, &l->weights, &options, &plan)) fail_msg("%s: %s", l->c->name, attend_error_message());
    return plan;
}

static void run(attend_plan *plan, const test_trained *l, const attend_layer_grads *grads)
{
    test_forget_runs(plan);
    if (attend_layer_backward(plan, &l->args, grads, NULL) || attend_synchronize(plan->context)) fail_msg("%s: %s", l->c->name, attend_error_message());
}

/* Fills gradients with NaN, or 1. */
static void fill(test_trained *l, float value)
{
    for (int t = 0; t < TEST_TRAINED_TENSORS; t++) {
        const test_trained_tensor tensor = test_trained_tensor_of(l, t);
        for (int64_t n = 0; tensor.gradient->data && n < attend_tensor_elements(tensor.gradient); n++)
            attend_store(tensor.gradient, place(tensor.gradient, n), value);
    }
}

typedef struct kept {
    float *of[TEST_TRAINED_TENSORS];
} kept;

static kept keep(test_trained *l)
{
    kept k = {0};
    for (int t = 0; t < TEST_TRAINED_TENSORS; t++) {
        const attend_tensor *g = test_trained_tensor_of(l, t).gradient;
        if (!g->data) continue;
        const size_t bytes = (size_t)attend_tensor_elements(g) * sizeof(float);
        k.of[t] = malloc(bytes + 1);
        assert_non_null(k.of[t]);
        memcpy(k.of[t], g->data, bytes); /* without gaps here */
    }
    return k;
}

static void let_go(kept *k)
{
    for (int t = 0; t < TEST_TRAINED_TENSORS; t++) free(k->of[t]);
}

static void expect_same(test_trained *l, const kept *k, int t, const char *after)
{
    const test_trained_tensor tensor = test_trained_tensor_of(l, t);
    const size_t bytes = tensor.gradient->data ? (size_t)attend_tensor_elements(tensor.gradient) * sizeof(float) : 0;
    if (bytes && memcmp(k->of[t], tensor.gradient->data, bytes)) fail_msg("%s: %s has other bits %s", l->c->name, tensor.name, after);
}

/* What the forward run left is read in place of what would be computed. */
static void give_intermediates(test_trained *l, attend_plan *plan)
{
    const attend_problem *p = &l->p;
    const int64_t batch = attend_tensor_batch(p), q = attend_rows_q(p), k = attend_rows_projected(p), heads = p->num_heads;
    l->args.q = test_trained_reserve(l, p->dtype, 4, (int64_t[]){batch, q, heads, p->head_dim});
    l->args.k = test_trained_reserve(l, p->dtype, 4, (int64_t[]){batch, k, p->num_kv_heads, p->head_dim});
    l->args.v = test_trained_reserve(l, p->dtype, 4, (int64_t[]){batch, k, p->num_kv_heads, p->head_dim_v});
    l->args.heads = test_trained_reserve(l, p->dtype, 4, (int64_t[]){batch, q, heads, p->head_dim_v});
    l->args.lse = test_trained_reserve(l, ATTEND_F32, 3, (int64_t[]){batch, heads, q});
    l->args.out = test_trained_reserve(l, p->dtype, 3, (int64_t[]){batch, q, p->output_size});
    if (attend_layer_forward(plan, &l->args)) fail_msg("%s: %s", l->c->name, attend_error_message());
    l->args.out = (attend_tensor){0};
}

static void forget_intermediates(attend_layer_args *a, bool projections, bool attention)
{
    if (projections) a->q.data = a->k.data = NULL; /* v alone is not enough */
    if (attention) a->lse.data = NULL;
}

static void what_the_forward_run_left_changes_no_bit(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int i = 0; i < test_layer_case_count; i = after(i, 4)) {
        test_trained l;
        test_trained_make(&l, &test_layer_cases[i], false);
        attend_plan *plan = plan_of(&l, context);
        run(plan, &l, &l.grads);
        kept alone = keep(&l);
        give_intermediates(&l, plan);
        for (int which = 0; which < 3; which++) {
            const attend_layer_args all = l.args;
            forget_intermediates(&l.args, which == 1, which == 2);
            fill(&l, NAN);
            run(plan, &l, &l.grads);
            for (int t = 0; t < TEST_TRAINED_TENSORS; t++)
                expect_same(&l, &alone, t, which == 0 ? "with q, k, v, heads and lse given" : which == 1 ? "with heads and lse given" : "with q, k and v given");
            l.args = all;
        }
        attend_plan_destroy(plan);
        let_go(&alone);
        test_trained_free(&l);
    }
    attend_context_destroy(context);
}

/* Tensors with gaps between their lines, and between heads, what the forward run left in such, and sums that begin at 0. */
static void gaps_between_lines_change_nothing(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int i = 0; i < test_layer_case_count; i = after(i, 3)) {
        test_trained l, wide;
        attend_reference_layer_gradients exact, rounded;
        test_trained_make_views(&l, &test_layer_cases[i], 8);
        test_trained_widen(&wide, &l, ATTEND_F32);
        reference(&wide, ATTEND_REFERENCE_EXACT, &exact), reference(&l, ATTEND_REFERENCE_STORED, &rounded);
        attend_plan *plan = plan_of(&l, context);
        give_intermediates(&l, plan);
        run(plan, &l, &l.grads);
        judge(&l, &exact, &rounded);
        fill(&l, 0);
        l.grads.accumulate = true;
        run(plan, &l, &l.grads);
        judge(&l, &exact, &rounded);
        attend_plan_destroy(plan);
        attend_reference_layer_backward_free(&exact), attend_reference_layer_backward_free(&rounded);
        test_trained_free(&l), test_trained_free(&wide);
    }
    attend_context_destroy(context);
}

/* What was given is read: the gradients follow it. */
static void what_is_given_is_read(void **state)
{
    (void)state;
    attend_context *context = test_context();
    test_trained l;
    test_trained_make(&l, &test_layer_cases[0], false);
    attend_plan *plan = plan_of(&l, context);
    run(plan, &l, &l.grads);
    kept alone = keep(&l);
    give_intermediates(&l, plan);
    attend_tensor *const given[] = {&l.args.q, &l.args.k, &l.args.v, &l.args.heads, &l.args.lse};
    for (int i = 0; i < 5; i++) {
        const double was = attend_load(given[i], 3);
        attend_store(given[i], 3, was + 1);
        run(plan, &l, &l.grads);
        assert_true(memcmp(alone.of[2 + ATTEND_WO], l.dweights.wo.data, (size_t)attend_tensor_elements(&l.dweights.wo) * 4) || i != 3);
        assert_true(memcmp(alone.of[2 + ATTEND_WK], l.dweights.wk.data, (size_t)attend_tensor_elements(&l.dweights.wk) * 4));
        attend_store(given[i], 3, was);
    }
    attend_plan_destroy(plan);
    let_go(&alone);
    test_trained_free(&l);
    attend_context_destroy(context);
}

/* Each gradient alone, in memory that another run of the plan used; but on CUDA those of features decide which kernel runs, so that they
   stay beside others. */
static void any_gradient_alone_has_the_same_bits(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int i = 0; i < test_layer_case_count; i = after(i, 7)) {
        test_trained l;
        test_trained_make(&l, &test_layer_cases[i], false);
        attend_plan *plan = plan_of(&l, context);
        run(plan, &l, &l.grads);
        kept all = keep(&l);
        const attend_layer_grads grads = l.grads;
        const attend_layer_weights dweights = l.dweights;
        const attend_feature_grads dfeatures = l.dfeatures;
        for (int t = 0; t < TEST_TRAINED_TENSORS; t++) {
            const attend_tensor wanted = *test_trained_tensor_of(&l, t).gradient;
            if (!wanted.data) continue;
            fill(&l, NAN);
            for (int other = 0; other < (t < FEATURES ? FEATURES : TEST_TRAINED_TENSORS); other++)
                if (other != t) test_trained_tensor_of(&l, other).gradient->data = NULL;
            run(plan, &l, &l.grads);
            expect_same(&l, &all, t, "alone");
            l.grads = grads, l.dweights = dweights, l.dfeatures = dfeatures;
        }
        attend_plan_destroy(plan);
        let_go(&all);
        test_trained_free(&l);
    }
    attend_context_destroy(context);
}

static void accumulating_adds_to_what_was_there(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int i = 1; i < test_layer_case_count; i = after(i, 5)) {
        test_trained l;
        test_trained_make(&l, &test_layer_cases[i], false);
        attend_plan *plan = plan_of(&l, context);
        run(plan, &l, &l.grads);
        kept first = keep(&l);
        fill(&l, 1);
        l.grads.accumulate = true;
        run(plan, &l, &l.grads);
        for (int t = 0; t < TEST_TRAINED_TENSORS; t++) {
            const test_trained_tensor tensor = test_trained_tensor_of(&l, t);
            for (int64_t n = 0; tensor.gradient->data && n < attend_tensor_elements(tensor.gradient); n++) {
                const double is = ((float *)tensor.gradient->data)[n], was = first.of[t][n];
                if (!(fabs(is - 1 - was) <= 1e-6 * (1 + 8 * fabs(was))))
                    fail_msg("%s: %s[%" PRId64 "] is %.9g, expected 1 + %.9g", l.c->name, tensor.name, n, is, was);
            }
        }
        attend_plan_destroy(plan);
        let_go(&first);
        test_trained_free(&l);
    }
    attend_context_destroy(context);
}

/* 16-bit gradients of x and context are the f32 ones, rounded once. */
static void inputs_have_gradients_in_their_own_dtype_too(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int i = 0; i < test_layer_case_count; i++) {
        test_trained l;
        if (test_layer_cases[i].problem.dtype == ATTEND_F32) continue;
        test_trained_make(&l, &test_layer_cases[i], false);
        attend_plan *plan = plan_of(&l, context);
        run(plan, &l, &l.grads);
        for (int t = 0; t < 2; t++) {
            attend_tensor *g = test_trained_tensor_of(&l, t).gradient;
            const attend_tensor wide = *g;
            if (!g->data) continue;
            *g = test_trained_reserve(&l, l.p.dtype, 3, wide.shape);
            run(plan, &l, &l.grads);
            for (int64_t n = 0; n < attend_tensor_elements(g); n++)
                if (attend_load(g, n) != attend_round(attend_load(&wide, n), l.p.dtype))
                    fail_msg("%s: element %" PRId64 " is %.9g, in f32 %.9g", l.c->name, n, attend_load(g, n), attend_load(&wide, n));
        }
        attend_plan_destroy(plan);
        test_trained_free(&l);
    }
    attend_context_destroy(context);
}

static void weights_that_changed_are_taken_anew(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int i = 0; i < test_layer_case_count; i = after(i, 4)) {
        test_trained l;
        test_trained_make(&l, &test_layer_cases[i], false);
        attend_plan *plan = plan_of(&l, context);
        run(plan, &l, &l.grads);
        for (int t = 2; t < FEATURES; t++) {
            const attend_tensor *w = test_trained_tensor_of(&l, t).value;
            for (int64_t n = 0; w->data && n < attend_tensor_elements(w); n++) attend_store(w, n, 1.5 * attend_load(w, n) + 0.01);
        }
        assert_int_equal(attend_layer_reload(plan, NULL), ATTEND_OK);
        fill(&l, NAN);
        run(plan, &l, &l.grads);
        attend_plan_destroy(plan);
        kept reloaded = keep(&l);
        fill(&l, NAN);
        test_trained_run(&l, context);
        for (int t = 0; t < TEST_TRAINED_TENSORS; t++) expect_same(&l, &reloaded, t, "in a new plan");
        let_go(&reloaded);
        test_trained_free(&l);
    }
    attend_context_destroy(context);
}

/* Changes one thing, expects the sentence, and that no gradient was written. */
static void refuse(attend_plan *plan, test_trained *l, const attend_layer_args *args, const attend_layer_grads *grads, attend_status status,
                   const char *sentence)
{
    fill(l, 5);
    test_expect_failure(attend_layer_backward(plan, args, grads, NULL), status, sentence);
    for (int t = 0; t < TEST_TRAINED_TENSORS; t++) {
        const attend_tensor *g = test_trained_tensor_of(l, t).gradient;
        for (int64_t n = 0; g->data && n < attend_tensor_elements(g); n++) assert_true(attend_load(g, place(g, n)) == 5);
    }
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    attend_context *context = test_context();
    attend_plan *forward;
    test_trained l;
    test_trained_make(&l, &test_layer_cases[0], false);
    attend_plan *plan = plan_of(&l, context);
    const attend_layer_args args = l.args;
    const attend_layer_grads grads = l.grads;
    const attend_layer_weights dweights = l.dweights;
    attend_layer_args a = args;
    attend_layer_grads g = grads;
    attend_layer_weights w = dweights;
    attend_cache cache = {0};
    const struct {
        attend_tensor *changed;
        attend_tensor to;
        const char *sentence;
    } cases[] = {
        {&a.x, {0}, "x is missing"},
        {&a.context, args.x, "context is given, but the problem's context_hidden_size is 0"},
        {&g.dcontext, grads.dx, "dcontext is given, but the problem's context_hidden_size is 0"},
        {&g.dout, {0}, "dout is missing"},
        {&g.dx, args.x, "dx overlaps x"},
        {&g.dx, args.context, NULL}, /* absent: not wanted */
        {&w.bq, attend_tensor_1d(dweights.wq.data, ATTEND_F32, 64), "grads.bq is asked for, but the plan has no such weight"},
        {&w.q_norm, attend_tensor_1d(dweights.wq.data, ATTEND_F32, 16), "grads.q_norm is asked for"},
        {&w.wk, l.weights.wk, "grads.wk overlaps wk"},
        {&w.wk, attend_tensor_2d(dweights.wk.data, ATTEND_BF16, 64, 48), "grads.wk"},
        {&w.wk, attend_tensor_2d(dweights.wk.data, ATTEND_F32, 48, 64), "grads.wk"},
        {&w.wo, attend_tensor_2d(dweights.wq.data, ATTEND_F32, 48, 64), "grads.wq overlaps grads.wo"},
    };
    g.weights = &w;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const attend_tensor kept = *cases[i].changed;
        *cases[i].changed = cases[i].to;
        if (cases[i].sentence)
            refuse(plan, &l, &a, &g, ATTEND_INVALID_ARGUMENT, cases[i].sentence);
        else
            assert_int_equal(attend_layer_backward(plan, &a, &g, NULL), ATTEND_OK);
        *cases[i].changed = kept;
    }
    g.reserved[3] = 1;
    refuse(plan, &l, &a, &g, ATTEND_INVALID_ARGUMENT, "reserved");
    g = grads, a.cache = &cache;
    refuse(plan, &l, &a, &g, ATTEND_UNSUPPORTED, "keys of a cache do not go backwards");
    a.cache = NULL;
    if (attend_layer_plan(context, &l.given, &l.weights, &forward)) fail_msg("%s", attend_error_message());
    refuse(forward, &l, &a, &g, ATTEND_INVALID_ARGUMENT, "made without backward");
    attend_plan_destroy(forward), attend_plan_destroy(plan);
    attend_problem with_cache = l.given;
    with_cache.seqlen_k = with_cache.seqlen_q + 1;
    l.given = with_cache;
    plan = plan_of(&l, context);
    refuse(plan, &l, &a, &g, ATTEND_UNSUPPORTED, "keys of a cache do not go backwards: x is to make all of them, so that seqlen_k (66) is seqlen_q (65)");
    attend_plan_destroy(plan);
    test_trained_free(&l);
    attend_context_destroy(context);
}

/* A plan that needs more than its limit says what would do, and that does. */
static void a_limit_is_kept_or_refused(void **state)
{
    (void)state;
    attend_context *context = test_context();
    const bool limits = attend_context_device(context) != ATTEND_REFERENCE;
    test_trained l;
    test_trained_make(&l, &test_layer_cases[1], false);
    size_t least = 0;
    attend_plan *plan;
    attend_plan_options options = {.backward = true, .host_tensors = ATTEND_HOST_ALL, .memory_limit_bytes = 1000, .least_bytes = &least};
    if (limits) {
        test_expect_failure(attend_layer_plan_with(context, &l.given, &l.weights, &options, &plan), ATTEND_OUT_OF_MEMORY, "memory_limit_bytes is 1000");
        assert_true(least > 1000);
        options.memory_limit_bytes = least;
        if (attend_layer_plan_with(context, &l.given, &l.weights, &options, &plan)) fail_msg("%s", attend_error_message());
        run(plan, &l, &l.grads);
        attend_plan_destroy(plan);
    }
    test_trained_free(&l);
    attend_context_destroy(context);
}

typedef struct watched {
    int64_t last;
    int calls, stop_at; /* 0: at no call */
    bool asked;         /* to stop, before the end */
} watched;

static bool watch(void *user, int64_t done, int64_t total)
{
    watched *w = user;
    assert_true(done >= w->last && done <= total);
    w->last = done;
    w->asked |= ++w->calls == w->stop_at && done < total;
    return w->calls != w->stop_at;
}

static void progress_rises_to_the_end_and_stops_a_run(void **state)
{
    (void)state;
    attend_context *of_tests = test_context(), *context;
    const attend_device device = attend_context_device(of_tests);
    watched w = {0};
    attend_context_destroy(of_tests);
    for (int given = 0; given < 2; given++) {
        test_trained l;
        assert_int_equal(attend_context_create(&(attend_context_options){.device = device, .progress = watch, .progress_user = &w}, &context), ATTEND_OK);
        test_trained_make(&l, &test_layer_cases[given ? 9 : 1], false);
        attend_plan *plan = plan_of(&l, context);
        w = (watched){0};
        if (given) give_intermediates(&l, plan);
        w = (watched){0};
        run(plan, &l, &l.grads);
        assert_int_equal(w.last, 1 << 30);
        assert_true(w.calls > 4);
        const int calls = w.calls;
        for (int stop = 1; stop <= calls; stop += 3) {
            w = (watched){.stop_at = stop};
            const attend_status status = attend_layer_backward(plan, &l.args, &l.grads, NULL); /* threads report more or less often */
            if (w.asked)
                test_expect_failure(status, ATTEND_CANCELLED, "asked to stop");
            else
                assert_int_equal(status, ATTEND_OK);
        }
        attend_plan_destroy(plan);
        test_trained_free(&l);
        attend_context_destroy(context);
    }
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    attend_context *context = test_context();
    const bool has_threads = attend_context_device(context) == ATTEND_CPU;
    for (int i = 0; i < test_layer_case_count && has_threads; i++) {
        attend_context *other;
        test_trained l;
        assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = 3}, &other), ATTEND_OK);
        test_trained_make(&l, &test_layer_cases[i], false);
        test_trained_run(&l, context);
        kept first = keep(&l);
        fill(&l, NAN);
        test_trained_run(&l, other);
        for (int t = 0; t < TEST_TRAINED_TENSORS; t++) expect_same(&l, &first, t, "on three threads");
        let_go(&first);
        test_trained_free(&l);
        attend_context_destroy(other);
    }
    attend_context_destroy(context);
}

#ifdef ATTEND_TEST_MANAGED /* memory that a device reads and writes where it lies */
#include <cuda_runtime_api.h>
static void *managed(size_t bytes)
{
    void *memory;
    return cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal) ? NULL : memory;
}
static void release(void *memory) { cudaFree(memory); }

static void lie_there(void)
{
    test_trained_memory = managed, test_trained_release = release;
    cmocka_set_test_filter("gaps*");
}
#else
static void lie_there(void) {}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_gradient_is_as_near_as_rounding_lets_it),
                                       cmocka_unit_test(what_the_forward_run_left_changes_no_bit),
                                       cmocka_unit_test(gaps_between_lines_change_nothing),
                                       cmocka_unit_test(what_is_given_is_read),
                                       cmocka_unit_test(any_gradient_alone_has_the_same_bits),
                                       cmocka_unit_test(accumulating_adds_to_what_was_there),
                                       cmocka_unit_test(inputs_have_gradients_in_their_own_dtype_too),
                                       cmocka_unit_test(weights_that_changed_are_taken_anew),
                                       cmocka_unit_test(threads_change_no_bit),
                                       cmocka_unit_test(a_limit_is_kept_or_refused),
                                       cmocka_unit_test(progress_rises_to_the_end_and_stops_a_run),
                                       cmocka_unit_test(what_cannot_be_is_refused)};
    lie_there();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
