/* The progress callback: from nothing to all, over a whole layer, an inspection and a comparison too; called from the calling thread, never
   back; it changes no bit; and wherever it asks to stop, the run stops, its plan goes on to serve, and nothing is lost. */
#include "support/inspection.h"
#include "support/plans.h"
#include "core/problem.h"
#include "tool/values.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct watch {
    pthread_t caller;
    int calls, stop_at; /* stop_at 0: never */
    int steps;          /* different fractions told */
    double first, part;
    bool elsewhere, backwards;
} watch;

static bool look(void *user, int64_t done, int64_t total)
{
    watch *w = user;
    const double part = (double)done / (double)total;
    if (w->calls == 0) w->first = part;
    w->elsewhere |= !pthread_equal(w->caller, pthread_self());
    w->backwards |= part < w->part || part > 1 || done < 0;
    w->steps += w->calls == 0 || part != w->part;
    w->part = part;
    return ++w->calls != w->stop_at;
}

typedef enum kind { ATTENTION, LAYER, INSPECTION, INSPECTION_WITH_LSE, COMPARISON, LAYER_COMPARISON, GRADIENTS_COMPARISON } kind;

typedef struct subject {
    const char *name;
    kind kind;
    attend_problem problem;
    int steps, device_steps; /* at least so many different fractions are told; on CUDA, where slices are larger, so many */
} subject;

static const subject subjects[] = {
    {"few rows", ATTENTION, {.batch = 2, .seqlen_q = 1, .seqlen_k = 1500, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16}, 3, 2},
    {"whole rows", ATTENTION, {.batch = 2, .seqlen_q = 200, .seqlen_k = 200, .num_heads = 4, .head_dim = 16, .causal = ATTEND_CAUSAL_TOP_LEFT}, 5, 2},
    {"split keys", ATTENTION, {.batch = 1, .seqlen_q = 20, .seqlen_k = 1500, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16}, 3, 2},
    {"many heads", ATTENTION, {.batch = 60, .seqlen_q = 4, .seqlen_k = 4, .num_heads = 30, .head_dim = 8}, 10, 3},
    {"no queries", ATTENTION, {.batch = 1, .seqlen_q = 0, .seqlen_k = 5, .num_heads = 2, .head_dim = 8}, 2, 2},
    {"layer", LAYER, {.batch = 2, .seqlen_q = 70, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .hidden_size = 48,
                      .causal = ATTEND_CAUSAL_TOP_LEFT, .rotary = ATTEND_ROTARY_HALVES}, 6, 4},
    {"cross-attention", LAYER, {.batch = 1, .seqlen_q = 20, .seqlen_k = 40, .num_heads = 2, .head_dim = 16, .hidden_size = 24,
                                .context_hidden_size = 32}, 6, 5},
    {"inspection", INSPECTION, {.batch = 40, .seqlen_q = 20, .seqlen_k = 20, .num_heads = 16, .num_kv_heads = 2, .head_dim = 8,
                                .causal = ATTEND_CAUSAL_TOP_LEFT}, 10, 3},
    {"comparison", COMPARISON, {.batch = 2, .seqlen_q = 40, .seqlen_k = 50, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8}, 10, 2},
    {"layer comparison", LAYER_COMPARISON, {.batch = 2, .seqlen_q = 30, .num_heads = 2, .head_dim = 8, .hidden_size = 16}, 10, 2},
    {"comparison of gradients", GRADIENTS_COMPARISON, {.batch = 2, .seqlen_q = 20, .seqlen_k = 30, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8}, 3, 2},
    {"inspection with LSE", INSPECTION_WITH_LSE, {.batch = 1, .seqlen_q = 120, .seqlen_k = 120, .num_heads = 2, .head_dim = 8}, 3, 2},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects, BLOCKS = 16 };

/* A subject with its memory; what it writes lies in `out`, or in the inspection. */
typedef struct work {
    const subject *s;
    attend_problem problem; /* the subject's */
    attend_problem p;       /* resolved */
    attend_layer_weights weights;
    attend_layer_args layer;
    attend_attention_args attention;
    test_inspection inspection;
    attend_comparison comparison;
    attend_layer_comparison layer_comparison;
    attend_attention_grads gradients;
    attend_backward_comparison gradients_comparison;
    attend_tensor out;
    void *blocks[BLOCKS];
    int count;
} work;

static attend_tensor filled(work *w, int rank, const int64_t *shape, float deviation)
{
    attend_tensor t = {.dtype = ATTEND_F32, .rank = rank};
    int64_t elements = 1;
    for (int i = rank - 1; i >= 0; i--) t.shape[i] = shape[i], t.stride[i] = elements, elements *= shape[i];
    assert_true(w->count < BLOCKS);
    t.data = w->blocks[w->count++] = calloc((size_t)elements + 1, sizeof(float));
    assert_non_null(t.data);
    if (deviation > 0) attend_values_gauss((uint64_t)w->count, deviation, &t);
    return t;
}

static void make_layer(work *w)
{
    const attend_problem *p = &w->p;
    const int64_t hq = p->num_heads * p->head_dim, hk = p->num_kv_heads * p->head_dim, hidden = p->hidden_size;
    const int64_t source = p->context_hidden_size ? p->context_hidden_size : hidden;
    w->weights.wq = filled(w, 2, (int64_t[]){hq, hidden}, 0.2f);
    w->weights.wk = filled(w, 2, (int64_t[]){hk, source}, 0.2f);
    w->weights.wv = filled(w, 2, (int64_t[]){hk, source}, 0.2f);
    w->weights.wo = filled(w, 2, (int64_t[]){hidden, hq}, 0.2f);
    w->layer.x = filled(w, 3, (int64_t[]){p->batch, p->seqlen_q, hidden}, 1);
    if (p->context_hidden_size) w->layer.context = filled(w, 3, (int64_t[]){p->batch, p->seqlen_k, source}, 1);
    w->out = w->layer.out = filled(w, 3, (int64_t[]){p->batch, p->seqlen_q, hidden}, 0);
}

/* A result to judge, right or not, and where the judgement lies: numbers one after the other. */
static void make_comparison(work *w)
{
    const attend_problem *p = &w->p;
    attend_layer_args *l = &w->layer;
    if (w->s->kind == GRADIENTS_COMPARISON) {
        w->gradients.dout = filled(w, 4, (int64_t[]){p->batch, p->seqlen_q, p->num_heads, p->head_dim}, 1);
        w->gradients.dk = filled(w, 4, (int64_t[]){p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim}, 1);
        w->out = attend_tensor_1d(&w->gradients_comparison.dk, ATTEND_I64, 3); /* elements and both ratios */
        return;
    }
    if (w->s->kind == COMPARISON) {
        attend_values_gauss(1, 1, &w->attention.out);
        w->out = attend_tensor_1d(&w->comparison.elements, ATTEND_I64, 2); /* and bound_ratio: sums depend on the order of rows */
        return;
    }
    attend_values_gauss(1, 1, &l->out);
    l->q = filled(w, 4, (int64_t[]){p->batch, p->seqlen_q, p->num_heads, p->head_dim}, 1);
    l->k = filled(w, 4, (int64_t[]){p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim}, 1);
    l->v = filled(w, 4, (int64_t[]){p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim}, 1);
    l->heads = filled(w, 4, (int64_t[]){p->batch, p->seqlen_q, p->num_heads, p->head_dim}, 1);
    w->out = attend_tensor_1d(&w->layer_comparison.output_ratio, ATTEND_I64, 4);
}

static bool is_layer(const subject *s) { return s->kind == LAYER || s->kind == LAYER_COMPARISON; }
static bool compares(const subject *s) { return s->kind >= COMPARISON; }
static bool inspects(const subject *s) { return s->kind == INSPECTION || s->kind == INSPECTION_WITH_LSE; }

/* Slices grow with the device: for each multiprocessor there is as much work as on an A100. */
static int64_t batch_for(int64_t batch)
{
    static int multiprocessors;
    if (!multiprocessors) {
        attend_context *context = test_context();
        multiprocessors = test_multiprocessors(context);
        attend_context_destroy(context);
    }
    return batch > 2 && multiprocessors ? (batch * multiprocessors + 107) / 108 : batch;
}

static void make(work *w, const subject *s)
{
    *w = (work){.s = s, .problem = s->problem};
    w->problem.batch = batch_for(s->problem.batch);
    if (attend_problem_resolve(&w->problem, sizeof w->problem, is_layer(s) ? ATTEND_LAYER : ATTEND_ATTENTION, &w->p))
        fail_msg("%s: %s", s->name, attend_error_message());
    const attend_problem *p = &w->p;
    if (is_layer(s)) {
        make_layer(w);
        if (compares(s)) make_comparison(w);
        return;
    }
    w->attention.q = filled(w, 4, (int64_t[]){p->batch, p->seqlen_q, p->num_heads, p->head_dim}, 1);
    w->attention.k = filled(w, 4, (int64_t[]){p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim}, 1);
    w->attention.v = filled(w, 4, (int64_t[]){p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim}, 1);
    w->out = w->attention.out = filled(w, 4, (int64_t[]){p->batch, p->seqlen_q, p->num_heads, p->head_dim}, 0);
    if (s->kind == INSPECTION_WITH_LSE) w->attention.lse = filled(w, 3, (int64_t[]){p->batch, p->num_heads, p->seqlen_q}, 1);
    if (compares(s)) make_comparison(w);
    if (inspects(s)) {
        test_inspection_make(&w->inspection, p);
        w->out = w->inspection.want.weights; /* the largest of what it writes */
    }
}

static void release(work *w)
{
    for (int i = 0; i < w->count; i++) free(w->blocks[i]);
    if (inspects(w->s)) test_inspection_free(&w->inspection);
}

static attend_plan *plan_of(work *w, attend_context *context)
{
    attend_plan *plan;
    if (is_layer(w->s) ? test_layer_plan(context, &w->problem, &w->weights, &plan)
                            : test_attention_plan(context, &w->problem, &plan))
        fail_msg("%s: %s", w->s->name, attend_error_message());
    return plan;
}

/* options: for comparing, which has no plan. */
static attend_status run(work *w, attend_plan *plan, const attend_compare_options *options)
{
    if (w->s->kind == COMPARISON) return attend_compare(&w->problem, &w->attention, options, &w->comparison);
    if (w->s->kind == LAYER_COMPARISON)
        return attend_layer_compare(&w->problem, &w->weights, &w->layer, options, &w->layer_comparison);
    if (w->s->kind == GRADIENTS_COMPARISON)
        return attend_backward_compare(&w->problem, &w->attention, &w->gradients, options, &w->gradients_comparison);
    return w->s->kind == LAYER       ? attend_layer_forward(plan, &w->layer)
           : w->s->kind == ATTENTION ? attend_attention_forward(plan, &w->attention)
                                     : attend_attention_inspect(plan, &w->attention, &w->inspection.want);
}

static size_t out_bytes(const work *w)
{
    size_t bytes = attend_dtype_bytes(w->out.dtype);
    for (int i = 0; i < w->out.rank; i++) bytes *= (size_t)w->out.shape[i];
    return bytes;
}

/* What a run without anybody looking writes. */
static unsigned char *unwatched(work *w)
{
    attend_context *context = test_context();
    attend_plan *plan = plan_of(w, context);
    if (run(w, plan, NULL) || attend_synchronize(context)) fail_msg("%s: %s", w->s->name, attend_error_message());
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    unsigned char *copy = malloc(out_bytes(w) + 1);
    memcpy(copy, w->out.data, out_bytes(w));
    memset(w->out.data, 0xff, out_bytes(w));
    return copy;
}

static attend_context *watched(watch *w, int threads)
{
    attend_context *plain = test_context(), *context;
    attend_context_options options = {.device = attend_context_device(plain), .threads = threads, .progress = look, .progress_user = w};
    attend_context_destroy(plain);
    w->caller = pthread_self();
    if (attend_context_create(&options, &context)) fail_msg("%s", attend_error_message());
    return context;
}

static bool is_cuda(const attend_context *context) { return attend_context_device(context) == ATTEND_CUDA; }

static void it_tells_of_the_way_from_nothing_to_all_and_changes_no_bit(void **state)
{
    (void)state;
    for (int i = 0; i < SUBJECTS; i++)
        for (int threads = 1; threads <= 3; threads += 2) {
            work w;
            watch seen = {0};
            make(&w, &subjects[i]);
            unsigned char *before = unwatched(&w);
            attend_context *context = watched(&seen, threads);
            attend_plan *plan = plan_of(&w, context);
            const attend_compare_options options = {.threads = threads, .progress = look, .progress_user = &seen};
            assert_int_equal(seen.calls, 0);
            if (run(&w, plan, &options)) fail_msg("%s: %s", w.s->name, attend_error_message());
            if (memcmp(before, w.out.data, out_bytes(&w))) fail_msg("%s: bits differ", w.s->name); /* all is there, unsynchronised */
            if (seen.first != 0 || seen.part != 1 || seen.elsewhere || seen.backwards)
                fail_msg("%s, %d threads: from %g to %g%s%s", w.s->name, threads, seen.first, seen.part,
                         seen.elsewhere ? ", on another thread" : "", seen.backwards ? ", and back" : "");
            const int least = is_cuda(context) && !compares(w.s) ? w.s->device_steps : threads == 1 ? w.s->steps : 2;
            if (seen.steps < least) fail_msg("%s, %d threads: told of %d fractions, expected %d", w.s->name, threads, seen.steps, least);
            if (is_cuda(context)) threads = 3; /* they are the CPU's */
            attend_plan_destroy(plan);
            attend_context_destroy(context);
            free(before);
            release(&w);
        }
}

static void it_stops_wherever_it_is_asked_and_goes_on_another_time(void **state)
{
    (void)state;
    for (int i = 0; i < SUBJECTS; i++) {
        work w;
        watch seen = {0};
        make(&w, &subjects[i]);
        unsigned char *before = unwatched(&w);
        attend_context *context = watched(&seen, 1);
        attend_plan *plan = plan_of(&w, context);
        const attend_compare_options options = {.threads = 1, .progress = look, .progress_user = &seen};
        assert_int_equal(run(&w, plan, &options), ATTEND_OK);
        const int calls = seen.calls; /* the last tells that all is done: nothing is left to stop */
        const int stops[] = {1, calls / 3, calls / 2, calls - 1};
        for (int n = 0; n < 4; n++) {
            const int at = stops[n] > 0 ? stops[n] : 1;
            if (n > 0 && stops[n] <= stops[n - 1]) continue;
            seen.calls = 0, seen.part = 0, seen.stop_at = at;
            memset(w.out.data, 0xff, out_bytes(&w));
            const attend_status status = run(&w, plan, &options);
            if (status != ATTEND_CANCELLED) fail_msg("%s, asked at call %d of %d: %s", w.s->name, at, calls, attend_status_name(status));
            assert_non_null(strstr(attend_error_message(), "the progress callback asked to stop after "));
            assert_int_equal(seen.calls, at);
            for (size_t n = 0; compares(w.s) && n < out_bytes(&w); n++) assert_int_equal(((unsigned char *)w.out.data)[n], 0xff);
        }
        memset(w.out.data, 0xff, out_bytes(&w));
        seen.calls = 0, seen.part = 0, seen.stop_at = calls;
        if (run(&w, plan, &options)) fail_msg("%s: %s", w.s->name, attend_error_message());
        assert_int_equal(seen.calls, calls);
        if (memcmp(before, w.out.data, out_bytes(&w))) fail_msg("%s: bits differ after runs that were stopped", w.s->name);
        attend_plan_destroy(plan);
        attend_context_destroy(context);
        free(before);
        release(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_tells_of_the_way_from_nothing_to_all_and_changes_no_bit),
        cmocka_unit_test(it_stops_wherever_it_is_asked_and_goes_on_another_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
