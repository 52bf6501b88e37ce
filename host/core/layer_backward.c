/* Validation of what running a layer backwards brings, the call itself, and weights that changed. */
#include "core/layer_backward.h"
#include "core/backend.h"
#include "core/count.h"
#include "core/problem.h"
#include "core/struct.h"

#include <inttypes.h>
#include <string.h>

attend_layer_needs attend_layer_needs_of(const attend_problem *p, const attend_layer_gradients *g)
{
    const attend_layer_weights *w = &g->weights;
    const bool x = g->dx.data || w->position_table.data,
               source = attend_problem_is_cross(p) ? g->dcontext.data != NULL : x;
    attend_layer_needs needs = {
        .q = x || w->wq.data || w->bq.data || w->q_norm.data || w->q_norm_bias.data,
        .k = source || w->wk.data || w->bk.data || w->k_norm.data || w->k_norm_bias.data,
        .v = source || w->wv.data || w->bv.data,
    };
    needs.attention = needs.q || needs.k || needs.v;
    for (int i = 0; i < ATTEND_GRADIENTS; i++) needs.attention |= g->of[i].data != NULL;
    return needs;
}

static const char *const grad_names[ATTEND_LAYER_WEIGHTS] = {"grads.wq",
                                                             "grads.wk",
                                                             "grads.wv",
                                                             "grads.wo",
                                                             "grads.bq",
                                                             "grads.bk",
                                                             "grads.bv",
                                                             "grads.bo",
                                                             "grads.q_norm",
                                                             "grads.k_norm",
                                                             "grads.q_norm_bias",
                                                             "grads.k_norm_bias",
                                                             "grads.position_table"};

const char *attend_layer_gradient_name(int weight) { return grad_names[weight]; }

static attend_status read_grads(const attend_layer_grads *grads, size_t bytes, size_t weight_bytes,
                                size_t feature_bytes, attend_layer_gradients *g)
{
    attend_layer_grads given;
    *g = (attend_layer_gradients){0};
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_layer_grads), "grads", &given, grads, bytes));
    if (given.weights)
        ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_layer_weights), "grads.weights", &g->weights,
                                      given.weights, weight_bytes));
    g->dout = given.dout, g->dlse = given.dlse, g->dx = given.dx, g->dcontext = given.dcontext;
    g->accumulate = given.accumulate;
    return attend_feature_grads_read(given.features, feature_bytes, g->of);
}

/* Of the two groups, what was not given whole is not given. */
static void drop_incomplete(attend_layer_args *r)
{
    const attend_tensor none = {0};
    r->out = none;
    if (!r->q.data || !r->k.data || !r->v.data) r->q = r->k = r->v = none;
    if (!r->heads.data || !r->lse.data) r->heads = r->lse = none;
}

static attend_status check_given(const attend_problem *p, const attend_layer_weights *w,
                                 const attend_layer_args *r, const attend_layer_gradients *g)
{
    if (r->cache || (!attend_problem_is_cross(p) && p->seqlen_k > p->seqlen_q))
        return attend_fail(ATTEND_UNSUPPORTED,
                           "keys of a cache do not go backwards: x is to make all of them, so that seqlen_k "
                           "(%" PRId64 ") is seqlen_q (%" PRId64 ")",
                           p->seqlen_k, p->seqlen_q);
    if (!attend_problem_is_cross(p) && (r->context.data || g->dcontext.data))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is given, but the problem's context_hidden_size is 0",
                           r->context.data ? "context" : "dcontext");
    for (int i = 0; i < ATTEND_LAYER_WEIGHTS; i++)
        if ((&g->weights.wq)[i].data && !(&w->wq)[i].data)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is asked for, but the plan has no such weight",
                               grad_names[i]);
    return ATTEND_OK;
}

/* dx and dcontext are stored as the problem's tensors or in f32. */
static attend_dtype dtype_of(const attend_problem *p, const attend_tensor *given)
{
    return given->dtype == ATTEND_F32 ? ATTEND_F32 : p->dtype;
}

enum { TENSORS = 9, INPUT_GRADS = 2 };

/* What args and grads have to be, behind each other: the first TENSORS are inputs; then dx and dcontext, the
   gradients of weights, those of features, and the plan's weights. */
enum { ALL = TENSORS + INPUT_GRADS + 2 * ATTEND_LAYER_WEIGHTS + ATTEND_GRADIENTS };

static void expect_inputs(const attend_problem *p, attend_layer_args *r, attend_layer_gradients *g,
                          attend_expected expected[TENSORS + INPUT_GRADS])
{
    const bool cross = attend_problem_is_cross(p);
    const int64_t batch = attend_tensor_batch(p), q = attend_rows_q(p), k = attend_rows_projected(p),
                  heads = p->num_heads, dv = p->head_dim_v;
    const attend_dtype dtype = p->dtype;
    const attend_expected all[TENSORS + INPUT_GRADS] = {
        {"x", &r->x, ATTEND_INPUT, false, dtype, 3, {batch, q, p->hidden_size}},
        {"context", &r->context, ATTEND_INPUT, !cross, dtype, 3, {batch, k, p->context_hidden_size}},
        {"dout", &g->dout, ATTEND_INPUT, false, dtype, 3, {batch, q, p->output_size}},
        {"q", &r->q, ATTEND_INPUT, true, dtype, 4, {batch, q, heads, p->head_dim}},
        {"k", &r->k, ATTEND_INPUT, true, dtype, 4, {batch, k, p->num_kv_heads, p->head_dim}},
        {"v", &r->v, ATTEND_INPUT, true, dtype, 4, {batch, k, p->num_kv_heads, dv}},
        {"heads", &r->heads, ATTEND_INPUT, true, dtype, 4, {batch, q, heads, dv}},
        {"lse", &r->lse, ATTEND_INPUT, true, ATTEND_F32, 3, {batch, heads, q}},
        {"dlse", &g->dlse, ATTEND_INPUT, true, ATTEND_F32, 3, {batch, heads, q}},
        {"dx", &g->dx, ATTEND_OUTPUT, true, dtype_of(p, &g->dx), 3, {batch, q, p->hidden_size}},
        {"dcontext",
         &g->dcontext,
         ATTEND_OUTPUT,
         true,
         dtype_of(p, &g->dcontext),
         3,
         {batch, k, p->context_hidden_size}},
    };
    memcpy(expected, all, sizeof all);
}

attend_status attend_layer_backward_resolve(const attend_problem *p, const attend_layer_weights *weights,
                                            const attend_layer_grads *grads, size_t grads_bytes,
                                            size_t weight_grads_bytes, size_t feature_grads_bytes,
                                            attend_layer_args *r, attend_feature_args *features,
                                            attend_layer_gradients *g)
{
    attend_expected all[ALL];
    attend_expected *of_weights = all + TENSORS + INPUT_GRADS;
    attend_layer_weights w = *weights; /* resolved already: no output may overlap them */
    int count = TENSORS + INPUT_GRADS + ATTEND_LAYER_WEIGHTS;
    ATTEND_TRY(read_grads(grads, grads_bytes, weight_grads_bytes, feature_grads_bytes, g));
    ATTEND_TRY(check_given(p, weights, r, g));
    drop_incomplete(r);
    ATTEND_TRY(attend_features_resolve(p, features));
    expect_inputs(p, r, g, all);
    attend_layer_weights_expected(p, &g->weights, of_weights);
    for (int i = 0; i < ATTEND_LAYER_WEIGHTS; i++) {
        of_weights[i].name = grad_names[i], of_weights[i].role = ATTEND_OUTPUT;
        of_weights[i].optional = true, of_weights[i].dtype = ATTEND_F32;
    }
    for (int i = ATTEND_GRADIENT_BIAS; i < ATTEND_GRADIENTS; i++)
        ATTEND_TRY(attend_gradient_expect(p, (attend_gradient)i, &g->of[i], &all[count++]));
    attend_layer_weights_expected(p, &w, all + count);
    count += ATTEND_LAYER_WEIGHTS;
    ATTEND_TRY(attend_expected_resolve(all, count, features));
    ATTEND_TRY(attend_expected_check_rows(all, 7));
    ATTEND_TRY(attend_expected_check_rows(all + TENSORS, INPUT_GRADS));
    for (int i = ATTEND_WQ; i <= ATTEND_WO; i++)
        if (of_weights[i].tensor->data)
            ATTEND_TRY(attend_layer_matrix_check(of_weights[i].name, of_weights[i].tensor));
    return attend_expected_check_rows(of_weights + ATTEND_BQ, ATTEND_LAYER_WEIGHTS - ATTEND_BQ);
}

/* Begins progress of what a run computes: what was not given of the forward run, attention's gradients, and
   two products a projection. */
static attend_status begin(const attend_plan *plan, const attend_layer_args *args)
{
    attend_progress_tracker *tracker = &plan->context->tracker;
    if (!tracker->progress) return ATTEND_OK;
    attend_work work = attend_count_work(&plan->problem, true);
    const bool projects = !args->q.data || plan->problem.qk_norm;
    for (int i = 0; i < 4; i++) work.more += (i < 3 && projects ? 2 : 1) * work.projections[i];
    if (!args->heads.data) work.more += work.attention;
    return attend_progress_begin(tracker, &work);
}

attend_status attend_layer_backward_sized(attend_plan *plan, const attend_layer_args *args, size_t args_bytes,
                                          size_t features_bytes, const attend_layer_grads *grads,
                                          size_t grads_bytes, size_t weight_grads_bytes,
                                          size_t feature_grads_bytes, const attend_run *run, size_t run_bytes)
{
    attend_layer_args resolved;
    attend_feature_args features;
    attend_cache cache;
    attend_layer_gradients gradients;
    attend_run r;
    ATTEND_TRY(attend_plan_check(plan, ATTEND_LAYER));
    ATTEND_TRY(attend_plan_check_backward(plan));
    ATTEND_TRY(attend_layer_args_read(&plan->problem, args, args_bytes, features_bytes, &resolved, &features,
                                      &cache));
    ATTEND_TRY(attend_layer_backward_resolve(&plan->problem, &plan->weights, grads, grads_bytes,
                                             weight_grads_bytes, feature_grads_bytes, &resolved, &features,
                                             &gradients));
    ATTEND_TRY(attend_plan_run_read(plan, run, run_bytes, &r));
    ATTEND_TRY(begin(plan, &resolved));
    ATTEND_TRY(plan->context->backend->layer_backward(plan, &resolved, &gradients, &r));
    return attend_plan_end(plan);
}

attend_status attend_layer_reload_sized(attend_plan *plan, const attend_run *run, size_t run_bytes)
{
    attend_run r;
    ATTEND_TRY(attend_plan_check(plan, ATTEND_LAYER));
    ATTEND_TRY(attend_run_read(plan->context, run, run_bytes, &r));
    return plan->context->backend->layer_reload(plan, &r);
}
