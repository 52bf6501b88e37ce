/* Appending new keys and values to a cache: checks what is given, and hands it to the context's backend. */
#include "core/append.h"
#include "core/arguments.h"
#include "core/backend.h"
#include "core/cache.h"
#include "core/struct.h"

#include <inttypes.h>

/* Which lists and tensors the new tokens may bring. */
static attend_status check_features(const attend_problem *p, const attend_feature_args *f)
{
    if (p->left_padded)
        return attend_fail(ATTEND_UNSUPPORTED, "left_padded does not go with append: caches hold no padding");
    ATTEND_TRY(attend_token_lists_check(p, f->seqlens_q, f->cu_seqlens_q));
    if (f->positions.data && !p->rotary)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "positions is given, but the problem does not ask for it (rotary)");
    return ATTEND_OK;
}

static attend_status resolve(const attend_problem *p, attend_cache *cache, attend_cache_append_args *r,
                             attend_feature_args *f, attend_appending *a)
{
    const int64_t batch = attend_tensor_batch(p), rows = attend_rows_q(p);
    ATTEND_TRY(check_features(p, f));
    ATTEND_TRY(attend_cache_check(p, cache, 0));
    attend_expected expected[8] = {
        {"k", &r->k, ATTEND_INPUT, false, p->dtype, 4, {batch, rows, p->num_kv_heads, p->head_dim}},
        {"v", &r->v, ATTEND_INPUT, false, p->dtype, 4, {batch, rows, p->num_kv_heads, p->head_dim_v}},
        {"k_norm", &r->k_norm, ATTEND_INPUT, true, p->dtype, 1, {p->head_dim}},
        {"k_norm_bias", &r->k_norm_bias, ATTEND_INPUT, true, p->dtype, 1, {p->head_dim}},
        {"positions", &f->positions, ATTEND_INPUT, true, ATTEND_I32, 2, {batch, rows}},
    };
    const int count =
        5 + attend_cache_expect(p, ATTEND_OUTPUT, &cache->k, &cache->v, &cache->block_table, expected + 5);
    for (int i = 2; i < 4; i++)
        if (expected[i].tensor->data && p->qk_norm < (i == 2 ? ATTEND_QK_NORM_RMS : ATTEND_QK_NORM_LAYER))
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "%s is given, but the problem's qk_norm has no use for it", expected[i].name);
    ATTEND_TRY(attend_expected_resolve(expected, count, NULL));
    ATTEND_TRY(attend_expected_check_rows(expected, 4));
    ATTEND_TRY(attend_expected_check_rows(expected + 5, 2));
    r->features = f;
    *a = attend_appending_of(p, cache, r);
    return ATTEND_OK;
}

attend_appending attend_appending_of(const attend_problem *p, const attend_cache *cache,
                                     const attend_cache_append_args *r)
{
    const bool paged = cache->block_table.rank != 0;
    return (attend_appending){
        .k = {r->k, cache->k, r->k_norm, r->k_norm_bias},
        .rows = attend_row_positions_of(p, r->features, cache),
        .append = {.slots = attend_key_layout_of(&cache->k, &cache->block_table),
                   .capacity = cache->k.shape[1] * (paged ? cache->block_table.shape[1] : 1),
                   .seqlens = cache->seqlens,
                   .v = r->v,
                   .cache_v = cache->v},
    };
}

/* Every new key of a sequence has a slot. */
static attend_status check_slots(const attend_append *a, int64_t b, int64_t tokens)
{
    const int64_t first = a->seqlens ? a->seqlens[b] : 0;
    const attend_key_layout *l = &a->slots;
    const attend_sequence s = {.batch = b};
    if (tokens > a->capacity)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "sequence %" PRId64 " has %" PRId64 " new tokens, but the cache holds %" PRId64
                           " keys a sequence",
                           b, tokens, a->capacity);
    if (first < 0 || first > a->capacity - tokens)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "cache.seqlens[%" PRId64 "] is %" PRId64 ", but with %" PRId64
                           " new tokens expected 0 to %" PRId64 ": the cache holds %" PRId64
                           " keys a sequence",
                           b, first, tokens, a->capacity - tokens, a->capacity);
    for (int64_t key = first; l->table && key < first + tokens; key += attend_keys_together(l, key, tokens))
        if (attend_slot_of(l, &s, key).entry < 0)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "cache.block_table[%" PRId64 ", %" PRId64
                               "] is no page of cache.k, which has %" PRId64 ", but new keys go there",
                               b, attend_page_of(l, key), l->pages);
    return ATTEND_OK;
}

attend_status attend_appending_check(const attend_problem *p, const attend_appending *a)
{
    const attend_row_positions *rows = &a->rows;
    ATTEND_TRY(attend_lengths_check("seqlens_q", rows->lengths, p->batch, p->seqlen_q));
    ATTEND_TRY(attend_cu_seqlens_check("cu_seqlens_q", rows->cu_seqlens, p->batch, p->seqlen_q, p->total_q));
    for (int64_t b = 0; b < p->batch; b++)
        ATTEND_TRY(check_slots(&a->append, b,
                               rows->cu_seqlens ? rows->cu_seqlens[b + 1] - rows->cu_seqlens[b]
                                                : attend_length(rows->lengths, b, p->seqlen_q)));
    return ATTEND_OK;
}

attend_appending attend_layer_appending(const attend_problem *p, const attend_layer_weights *w,
                                        const attend_layer_args *args, const attend_tensor *new_k,
                                        const attend_tensor *new_v)
{
    return attend_appending_of(p, args->cache,
                               &(attend_cache_append_args){.k = *new_k,
                                                           .v = *new_v,
                                                           .features = args->features,
                                                           .k_norm = w->k_norm,
                                                           .k_norm_bias = w->k_norm_bias});
}

attend_status attend_layer_appending_check(const attend_problem *p, const attend_appending *a,
                                           const int64_t *seqlens_k)
{
    ATTEND_TRY(attend_appending_check(p, a));
    for (int64_t b = 0; b < p->batch; b++) {
        const int64_t before = a->append.seqlens ? a->append.seqlens[b] : 0,
                      tokens = attend_length(a->rows.lengths, b, p->seqlen_q),
                      keys = attend_length(seqlens_k, b, p->seqlen_k);
        if (keys != before + tokens)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "seqlens_k[%" PRId64 "] is %" PRId64 "%s, but the cache has %" PRId64
                               " keys and %" PRId64 " new ones",
                               b, keys, seqlens_k ? "" : ", seqlen_k, as it is not given", before, tokens);
    }
    attend_key_part all = attend_all_keys(p);
    all.keys = a->append.slots;
    return attend_key_layout_check(p, seqlens_k, &all);
}

attend_status attend_cache_append_sized(attend_context *context, const attend_problem *problem,
                                        size_t problem_bytes, const attend_cache *cache,
                                        const attend_cache_append_args *args, size_t args_bytes,
                                        size_t features_bytes, const attend_run *run, size_t run_bytes)
{
    attend_problem p;
    attend_cache_append_args r;
    attend_feature_args features;
    attend_appending a;
    attend_run brought;
    if (!context) return attend_fail(ATTEND_INVALID_ARGUMENT, "context is NULL");
    if (!cache) return attend_fail(ATTEND_INVALID_ARGUMENT, "cache is NULL");
    ATTEND_TRY(attend_problem_resolve(problem, problem_bytes, ATTEND_APPEND, &p));
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_cache_append_args), "args", &r, args, args_bytes));
    ATTEND_TRY(attend_feature_args_read(r.features, features_bytes, &features));
    ATTEND_TRY(attend_run_read(context, run, run_bytes, &brought));
    if (brought.workspace || brought.workspace_bytes)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "workspace is given, but appending needs none");
    attend_cache own = *cache;
    ATTEND_TRY(resolve(&p, &own, &r, &features, &a));
    return context->backend->append(context, &p, &a, &brought);
}
