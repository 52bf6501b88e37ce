/* Validation of what layers bring: their weights with the plan, tensors and lists with each run. */
#include "core/layer_arguments.h"
#include "core/append.h"
#include "core/arguments.h"
#include "core/cache.h"
#include "core/positions.h"
#include "core/problem.h"
#include "core/struct.h"

#include <inttypes.h>
#include <string.h>

attend_status attend_layer_args_read(const attend_problem *p, const attend_layer_args *args, size_t bytes,
                                     size_t features_bytes, attend_layer_args *read,
                                     attend_feature_args *features, attend_cache *cache)
{
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_layer_args), "args", read, args, bytes));
    ATTEND_TRY(attend_feature_args_read(read->features, features_bytes, features));
    if (!attend_problem_is_cross(p) && !features->cu_seqlens_k)
        features->cu_seqlens_k = features->cu_seqlens_q;
    read->features = features;
    if (read->cache) *cache = *read->cache, read->cache = cache;
    return ATTEND_OK;
}

/* Whether anything counts from a query's position among the keys. */
static bool counts_queries(const attend_problem *p)
{
    return p->causal || p->windowed || p->chunk || p->alibi || p->relative_buckets;
}

static attend_status check_layer_cache(const attend_problem *p, const attend_layer_args *r)
{
    if (!r->cache && !attend_problem_is_cross(p) && p->seqlen_k > p->seqlen_q)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "cache is missing: seqlen_k (%" PRId64 ") is more than seqlen_q (%" PRId64
                           "), so that keys come before x; cross-attention has a context_hidden_size",
                           p->seqlen_k, p->seqlen_q);
    if (!r->cache) return ATTEND_OK;
    if (attend_problem_is_cross(p))
        return attend_fail(ATTEND_UNSUPPORTED,
                           "cache does not go with cross-attention: its K and V are those "
                           "of context, which the layer projects");
    if (p->packed)
        return attend_fail(
            ATTEND_UNSUPPORTED,
            "cache does not go with packed sequences: x as [batch, seqlen_q] with seqlens_q does");
    if (p->left_padded)
        return attend_fail(ATTEND_UNSUPPORTED, "cache does not go with left_padded: caches hold no padding");
    if (counts_queries(p) && !p->align_bottom_right)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "cache is given, but the problem counts queries from the first key, not from the "
                           "end: causal is to be ATTEND_CAUSAL_BOTTOM_RIGHT, or align_bottom_right set");
    if (r->k.data || r->v.data)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is given beside cache, which has it",
                           r->k.data ? "k" : "v");
    return attend_cache_check(p, r->cache, p->seqlen_k);
}

void attend_layer_weights_expected(const attend_problem *p, attend_layer_weights *r,
                                   attend_expected expected[ATTEND_LAYER_WEIGHTS])
{
    const int64_t source = attend_problem_is_cross(p) ? p->context_hidden_size : p->hidden_size,
                  q = p->num_heads * p->head_dim, k = p->num_kv_heads * p->head_dim,
                  v = p->num_kv_heads * p->head_dim_v;
    const bool learned = p->absolute == ATTEND_ABSOLUTE_LEARNED;
    const attend_expected all[ATTEND_LAYER_WEIGHTS] = {
        {"wq", &r->wq, ATTEND_INPUT, false, p->dtype, 2, {q, p->hidden_size}},
        {"wk", &r->wk, ATTEND_INPUT, false, p->dtype, 2, {k, source}},
        {"wv", &r->wv, ATTEND_INPUT, false, p->dtype, 2, {v, source}},
        {"wo", &r->wo, ATTEND_INPUT, false, p->dtype, 2, {p->output_size, p->num_heads * p->head_dim_v}},
        {"bq", &r->bq, ATTEND_INPUT, true, p->dtype, 1, {q}},
        {"bk", &r->bk, ATTEND_INPUT, true, p->dtype, 1, {k}},
        {"bv", &r->bv, ATTEND_INPUT, true, p->dtype, 1, {v}},
        {"bo", &r->bo, ATTEND_INPUT, true, p->dtype, 1, {p->output_size}},
        {"q_norm", &r->q_norm, ATTEND_INPUT, true, p->dtype, 1, {p->head_dim}},
        {"k_norm", &r->k_norm, ATTEND_INPUT, true, p->dtype, 1, {p->head_dim}},
        {"q_norm_bias", &r->q_norm_bias, ATTEND_INPUT, true, p->dtype, 1, {p->head_dim}},
        {"k_norm_bias", &r->k_norm_bias, ATTEND_INPUT, true, p->dtype, 1, {p->head_dim}},
        {"position_table",
         &r->position_table,
         ATTEND_INPUT,
         !learned,
         p->dtype,
         2,
         {p->max_positions, p->hidden_size}},
    };
    memcpy(expected, all, sizeof all);
}

attend_status attend_layer_args_resolve(const attend_problem *p, const attend_layer_weights *weights,
                                        attend_layer_args *r, attend_feature_args *features,
                                        attend_cache *cache)
{
    bool cross = attend_problem_is_cross(p);
    if (!cross && r->context.data)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "context is given, but the problem's context_hidden_size is 0");
    ATTEND_TRY(check_layer_cache(p, r));
    int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p), rows_k = attend_rows_projected(p);
    attend_expected arguments[ATTEND_MAX_EXPECTED] = {
        {"x", &r->x, ATTEND_INPUT, false, p->dtype, 3, {batch, rows_q, p->hidden_size}},
        {"context", &r->context, ATTEND_INPUT, !cross, p->dtype, 3, {batch, rows_k, p->context_hidden_size}},
        {"out", &r->out, ATTEND_OUTPUT, false, p->dtype, 3, {batch, rows_q, p->output_size}},
        {"q", &r->q, ATTEND_OUTPUT, true, p->dtype, 4, {batch, rows_q, p->num_heads, p->head_dim}},
        {"k", &r->k, ATTEND_OUTPUT, true, p->dtype, 4, {batch, rows_k, p->num_kv_heads, p->head_dim}},
        {"v", &r->v, ATTEND_OUTPUT, true, p->dtype, 4, {batch, rows_k, p->num_kv_heads, p->head_dim_v}},
        {"heads", &r->heads, ATTEND_OUTPUT, true, p->dtype, 4, {batch, rows_q, p->num_heads, p->head_dim_v}},
        {"lse", &r->lse, ATTEND_OUTPUT, true, ATTEND_F32, 3, {batch, p->num_heads, rows_q}},
    };
    int count = 8;
    if (r->cache)
        count += attend_cache_expect(p, ATTEND_OUTPUT, &cache->k, &cache->v, &cache->block_table,
                                     arguments + count);
    /* resolved already: no output may overlap them */
    attend_layer_weights w = *weights;
    attend_layer_weights_expected(p, &w, arguments + count);
    ATTEND_TRY(attend_features_resolve(p, features));
    ATTEND_TRY(attend_expected_resolve(arguments, count + ATTEND_LAYER_WEIGHTS, features));
    ATTEND_TRY(attend_expected_check_rows(arguments, 7));
    return attend_expected_check_rows(arguments + 8, r->cache ? 2 : 0);
}

attend_status attend_layer_matrix_check(const char *name, const attend_tensor *w)
{
    bool by_rows = (w->stride[1] == 1 || w->shape[1] == 1) && w->stride[0] >= w->shape[1];
    bool by_columns = (w->stride[0] == 1 || w->shape[0] == 1) && w->stride[1] >= w->shape[0];
    if (!by_rows && !by_columns)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s has strides [%" PRId64 ", %" PRId64
                           "]: one must be 1, the other at least the extent it steps over",
                           name, w->stride[0], w->stride[1]);
    return ATTEND_OK;
}

attend_status attend_layer_weights_resolve(const attend_problem *p, const attend_layer_weights *weights,
                                           size_t bytes, attend_layer_weights *r)
{
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_layer_weights), "weights", r, weights, bytes));
    attend_expected arguments[ATTEND_LAYER_WEIGHTS];
    attend_layer_weights_expected(p, r, arguments);
    if (p->absolute != ATTEND_ABSOLUTE_LEARNED && r->position_table.data)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "position_table is given, but the problem's absolute does not use it");
    for (int i = 8; i < 12; i++)
        if (arguments[i].tensor->data && p->qk_norm < (i < 10 ? ATTEND_QK_NORM_RMS : ATTEND_QK_NORM_LAYER))
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "%s is given, but the problem's qk_norm does not use it", arguments[i].name);
    ATTEND_TRY(attend_expected_resolve(arguments, ATTEND_LAYER_WEIGHTS, NULL));
    for (int i = 0; i < 4; i++) ATTEND_TRY(attend_layer_matrix_check(arguments[i].name, arguments[i].tensor));
    return attend_expected_check_rows(arguments + 4, 9);
}

attend_status attend_layer_lists_check(const attend_problem *p, const attend_layer_weights *w,
                                       const attend_layer_args *args)
{
    const attend_row_positions at = attend_row_positions_of(p, args->features, args->cache);
    ATTEND_TRY(attend_lists_check(p, args->features));
    if (args->cache) {
        const attend_appending a = attend_layer_appending(p, w, args, &args->k, &args->v);
        ATTEND_TRY(attend_layer_appending_check(p, &a, args->features->seqlens_k));
    }
    return attend_absolute_check(p, &at);
}
