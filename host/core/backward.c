/* Validation of what running backwards brings, and the call itself. */
#include "core/backward.h"
#include "core/backend.h"
#include "core/problem.h"
#include "core/struct.h"

#include <string.h>

attend_expected attend_gradient_expected(const attend_problem *p, attend_gradient gradient)
{
    static const attend_feature_tensor features[] = {
        [ATTEND_GRADIENT_BIAS] = ATTEND_FEATURE_TENSOR_BIAS,
        [ATTEND_GRADIENT_SLOPES] = ATTEND_FEATURE_TENSOR_SLOPES,
        [ATTEND_GRADIENT_RELATIVE_TABLE] = ATTEND_FEATURE_TENSOR_RELATIVE_TABLE,
        [ATTEND_GRADIENT_HEAD_SCALES] = ATTEND_FEATURE_TENSOR_HEAD_SCALES,
        [ATTEND_GRADIENT_SINKS] = ATTEND_FEATURE_TENSOR_SINKS,
    };
    static const char *const names[] = {"dq",
                                        "dk",
                                        "dv",
                                        "grads.bias",
                                        "grads.alibi_slopes",
                                        "grads.relative_table",
                                        "grads.head_scales",
                                        "grads.sinks"};
    const int64_t batch = attend_tensor_batch(p), q = attend_rows_q(p), k = attend_rows_k(p);
    attend_expected e = {.name = names[gradient], .role = ATTEND_OUTPUT, .optional = true, .rank = 4};
    switch (gradient) {
    case ATTEND_GRADIENT_Q:
        memcpy(e.shape, (int64_t[]){batch, q, p->num_heads, p->head_dim}, sizeof e.shape);
        return e;
    case ATTEND_GRADIENT_K:
        memcpy(e.shape, (int64_t[]){batch, k, p->num_kv_heads, p->head_dim}, sizeof e.shape);
        return e;
    case ATTEND_GRADIENT_V:
        memcpy(e.shape, (int64_t[]){batch, k, p->num_kv_heads, p->head_dim_v}, sizeof e.shape);
        return e;
    default: break;
    }
    const attend_feature_shape s = attend_feature_expected(p, features[gradient]);
    e.rank = s.rank;
    for (int i = 0; i < s.rank; i++) e.shape[i] = s.varies[i] ? s.shape[i] : 1;
    return e;
}

attend_status attend_feature_grads_read(const attend_feature_grads *given, size_t bytes,
                                        attend_tensor of[ATTEND_GRADIENTS])
{
    attend_feature_grads f = {0};
    if (given)
        ATTEND_TRY(
            attend_struct_read(ATTEND_STRUCT(attend_feature_grads), "grads.features", &f, given, bytes));
    of[ATTEND_GRADIENT_BIAS] = f.bias, of[ATTEND_GRADIENT_SLOPES] = f.alibi_slopes;
    of[ATTEND_GRADIENT_RELATIVE_TABLE] = f.relative_table;
    of[ATTEND_GRADIENT_HEAD_SCALES] = f.head_scales, of[ATTEND_GRADIENT_SINKS] = f.sinks;
    return ATTEND_OK;
}

/* Reads a caller's grads into ours, the tensors as they were given. */
static attend_status read_grads(const attend_attention_grads *grads, size_t bytes, size_t feature_bytes,
                                attend_gradients *g)
{
    attend_attention_grads given;
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_attention_grads), "grads", &given, grads, bytes));
    *g = (attend_gradients){.dout = given.dout,
                            .dlse = given.dlse,
                            .out_f32 = given.out_f32,
                            .of = {given.dq, given.dk, given.dv},
                            .accumulate = given.accumulate};
    return attend_feature_grads_read(given.features, feature_bytes, g->of);
}

/* dq, dk and dv are stored as the problem's tensors or in f32. */
static attend_dtype dtype_of(const attend_problem *p, attend_gradient gradient, const attend_tensor *given)
{
    return gradient <= ATTEND_GRADIENT_V && given->dtype != ATTEND_F32 ? p->dtype : ATTEND_F32;
}

attend_status attend_gradient_expect(const attend_problem *p, attend_gradient gradient, attend_tensor *given,
                                     attend_expected *e)
{
    *e = attend_gradient_expected(p, gradient);
    e->tensor = given;
    e->dtype = dtype_of(p, gradient, given);
    if (given->data && e->rank == 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is asked for, but the problem has none", e->name);
    return ATTEND_OK;
}

static attend_status resolve_args(const attend_problem *p, attend_attention_args *r,
                                  attend_feature_args *features)
{
    if (r->cache) return attend_fail(ATTEND_UNSUPPORTED, "cache does not go backwards: k and v do");
    if (r->first_key || r->end_key || r->first_query || r->end_query || r->from || r->into)
        return attend_fail(ATTEND_UNSUPPORTED,
                           "first_key, end_key, first_query, end_query, from and into do not go "
                           "backwards: all keys and queries take part at once");
    return attend_features_resolve(p, features);
}

attend_status attend_backward_resolve(const attend_problem *p, const attend_attention_grads *grads,
                                      size_t grads_bytes, size_t feature_grads_bytes, bool lse_needed,
                                      attend_attention_args *r, attend_feature_args *features,
                                      attend_gradients *g)
{
    const int64_t batch = attend_tensor_batch(p), q = attend_rows_q(p), k = attend_rows_k(p),
                  heads = p->num_heads, dv = p->head_dim_v;
    ATTEND_TRY(resolve_args(p, r, features));
    ATTEND_TRY(read_grads(grads, grads_bytes, feature_grads_bytes, g));
    attend_expected all[8 + ATTEND_GRADIENTS] = {
        {"q", &r->q, ATTEND_INPUT, false, p->dtype, 4, {batch, q, heads, p->head_dim}},
        {"k", &r->k, ATTEND_INPUT, false, p->dtype, 4, {batch, k, p->num_kv_heads, p->head_dim}},
        {"v", &r->v, ATTEND_INPUT, false, p->dtype, 4, {batch, k, p->num_kv_heads, dv}},
        {"out", &r->out, ATTEND_INPUT, true, p->dtype, 4, {batch, q, heads, dv}},
        {"lse", &r->lse, ATTEND_INPUT, !lse_needed, ATTEND_F32, 3, {batch, heads, q}},
        {"dout", &g->dout, ATTEND_INPUT, false, p->dtype, 4, {batch, q, heads, dv}},
        {"dlse", &g->dlse, ATTEND_INPUT, true, ATTEND_F32, 3, {batch, heads, q}},
        {"out_f32", &g->out_f32, ATTEND_INPUT, true, ATTEND_F32, 4, {batch, q, heads, dv}},
    };
    for (int i = 0; i < ATTEND_GRADIENTS; i++)
        ATTEND_TRY(attend_gradient_expect(p, (attend_gradient)i, &g->of[i], &all[8 + i]));
    ATTEND_TRY(attend_expected_resolve(all, 8 + ATTEND_GRADIENTS, features));
    ATTEND_TRY(attend_expected_check_rows(all, 4));
    ATTEND_TRY(attend_tensor_check_rows("dout", &g->dout));
    if (g->out_f32.data) ATTEND_TRY(attend_tensor_check_rows("out_f32", &g->out_f32));
    return attend_expected_check_rows(all + 8, 3);
}

attend_status attend_attention_backward_sized(attend_plan *plan, const attend_attention_args *args,
                                              size_t args_bytes, size_t features_bytes,
                                              const attend_attention_grads *grads, size_t grads_bytes,
                                              size_t feature_grads_bytes, const attend_run *run,
                                              size_t run_bytes)
{
    attend_attention_args resolved;
    attend_feature_args features;
    attend_gradients gradients;
    attend_run r;
    ATTEND_TRY(attend_plan_check(plan, ATTEND_ATTENTION));
    ATTEND_TRY(attend_plan_check_backward(plan));
    ATTEND_TRY(attend_attention_args_read(args, args_bytes, features_bytes, &resolved, &features));
    ATTEND_TRY(attend_backward_resolve(&plan->problem, grads, grads_bytes, feature_grads_bytes, true,
                                       &resolved, &features, &gradients));
    ATTEND_TRY(attend_plan_run_read(plan, run, run_bytes, &r));
    ATTEND_TRY(attend_plan_begin(plan));
    ATTEND_TRY(plan->context->backend->attention_backward(plan, &resolved, &gradients, &r));
    return attend_plan_end(plan);
}
