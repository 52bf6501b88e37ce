/* Inspection of attention: checks the request against the plan's problem and calls the plan's backend. */
#include "core/inspect.h"
#include "core/arguments.h"
#include "core/layer_arguments.h"
#include "core/cache.h"
#include "core/backend.h"
#include "core/struct.h"

#include <inttypes.h>
#include <stdio.h>

static attend_status check_extent(const char *name, const char *axis, int64_t extent, int64_t least,
                                  int64_t most)
{
    if (extent < least || extent > most)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s has %" PRId64 " %s, expected %" PRId64 " to %" PRId64,
                           name, extent, axis, least, most);
    return ATTEND_OK;
}

/* The number of keys to list: the last extent of top_keys or top_weights. The check of shapes ensures that
   both agree. */
static attend_status resolve_top(attend_inspect_request *request)
{
    const attend_inspection *w = &request->want;
    const attend_tensor *t = w->top_keys.data ? &w->top_keys : &w->top_weights;
    if (!t->data) return ATTEND_OK;
    request->top = t->rank == 4 ? t->shape[3] : 1;
    return check_extent(w->top_keys.data ? "top_keys" : "top_weights", "keys a query", request->top, 1,
                        ATTEND_MAX_TOP_KEYS);
}

static attend_status resolve_windows(attend_inspect_request *request)
{
    const attend_inspection *w = &request->want;
    const int64_t limit = INT64_MAX / 4; /* positions never reach it */
    if (w->num_windows < 0 || w->num_windows > ATTEND_MAX_KEY_WINDOWS)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "num_windows is %" PRId64 ", expected 0 to %d",
                           w->num_windows, ATTEND_MAX_KEY_WINDOWS);
    if (w->mass.data && w->num_windows == 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "mass is given, but num_windows is 0");
    if (w->num_windows > 0 && !w->windows) return attend_fail(ATTEND_INVALID_ARGUMENT, "windows is NULL");
    for (int64_t i = 0; i < w->num_windows; i++) {
        attend_key_window window = w->windows[i];
        char name[32];
        snprintf(name, sizeof name, "windows[%" PRId64 "]", i);
        ATTEND_TRY(attend_reserved_check(name, window.reserved, sizeof window.reserved));
        if (window.first > window.last)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "windows[%" PRId64 "] goes from %" PRId64 " to %" PRId64
                               ": its first key is after its last",
                               i, window.first, window.last);
        window.first = attend_clamp(window.first, -limit, limit),
        window.last = attend_clamp(window.last, -limit, limit);
        request->windows[i] = window;
    }
    return ATTEND_OK;
}

static attend_status resolve_queries(const attend_problem *p, const attend_inspect_request *request)
{
    const attend_inspection *w = &request->want;
    if (w->num_queries < 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "num_queries is %" PRId64 ", expected at least 0",
                           w->num_queries);
    if (w->weights.data && w->num_queries > 0 && !w->queries)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "queries is NULL");
    for (int64_t i = 0; w->weights.data && i < w->num_queries; i++)
        if (w->queries[i] < 0 || w->queries[i] >= attend_rows_q(p))
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "queries[%" PRId64 "] is %" PRId64 ", but q has %" PRId64 " rows", i,
                               w->queries[i], attend_rows_q(p));
    return ATTEND_OK;
}

/* [first, first + *count) within `all`; *count 0: to the end. */
static attend_status resolve_range(const char *first_name, const char *count_name, int64_t first,
                                   int64_t *count, int64_t all)
{
    if (first < 0 || first >= all)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s is %" PRId64 ", but the map can begin at 0 to %" PRId64, first_name, first,
                           all - 1);
    if (*count == 0) *count = all - first;
    if (*count < 0 || *count > all - first)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s is %" PRId64 ", but from %" PRId64 " on there are %" PRId64, count_name,
                           *count, first, all - first);
    return ATTEND_OK;
}

static attend_status resolve_map(const attend_problem *p, attend_inspect_request *request)
{
    attend_inspection *w = &request->want;
    int64_t product;
    if (!w->map.data) return ATTEND_OK;
    if (w->map.rank != 4)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "map has rank %d, expected 4", w->map.rank);
    ATTEND_TRY(resolve_range("first_query", "map_queries", w->first_query, &w->map_queries, p->seqlen_q));
    ATTEND_TRY(resolve_range("first_key", "map_keys", w->first_key, &w->map_keys, p->seqlen_k));
    ATTEND_TRY(check_extent("map", "rows of tiles", w->map.shape[2], 1, w->map_queries));
    ATTEND_TRY(check_extent("map", "columns of tiles", w->map.shape[3], 1, w->map_keys));
    if (!attend_multiply(w->map_queries, w->map.shape[2], &product) ||
        !attend_multiply(w->map_keys, w->map.shape[3], &product) ||
        !attend_multiply(w->map_queries, w->map_keys, &product))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "map covers more than 63 bits can count");
    return ATTEND_OK;
}

/* part: all keys; where they are is found here. */
static attend_status inspect(attend_plan *plan, attend_attention_args *args, attend_feature_args *features,
                             attend_key_part *part, const void *inspection, size_t bytes)
{
    const attend_problem *p = &plan->problem;
    attend_inspect_request request = {0};
    attend_inspection *w = &request.want;
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_inspection), "inspection", w, inspection, bytes));
    ATTEND_TRY(resolve_top(&request));
    ATTEND_TRY(resolve_windows(&request));
    ATTEND_TRY(resolve_queries(p, &request));
    ATTEND_TRY(resolve_map(p, &request));
    int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p), heads = p->num_heads;
    attend_expected keys[3];
    attend_tensor table;
    ATTEND_TRY(attend_keys_take(p, args, part, &table, keys));
    attend_expected arguments[11] = {
        {"weights",
         &w->weights,
         ATTEND_OUTPUT,
         true,
         ATTEND_F32,
         4,
         {batch, heads, w->num_queries, p->seqlen_k}},
        {"q", &args->q, ATTEND_INPUT, false, p->dtype, 4, {batch, rows_q, heads, p->head_dim}},
        keys[0],
        {"lse", &args->lse, ATTEND_INPUT, true, ATTEND_F32, 3, {batch, heads, rows_q}},
        {"top_keys", &w->top_keys, ATTEND_OUTPUT, true, ATTEND_I64, 4, {batch, heads, rows_q, request.top}},
        {"top_weights",
         &w->top_weights,
         ATTEND_OUTPUT,
         true,
         ATTEND_F32,
         4,
         {batch, heads, rows_q, request.top}},
        {"entropy", &w->entropy, ATTEND_OUTPUT, true, ATTEND_F32, 3, {batch, heads, rows_q}},
        {"mass", &w->mass, ATTEND_OUTPUT, true, ATTEND_F32, 4, {batch, heads, rows_q, w->num_windows}},
        {"distance", &w->distance, ATTEND_OUTPUT, true, ATTEND_F32, 2, {p->batch, heads}},
        {"map",
         &w->map,
         ATTEND_OUTPUT,
         true,
         ATTEND_F32,
         4,
         {p->batch, heads, w->map.shape[2], w->map.shape[3]}},
    };
    int count = 10;
    if (table.rank) arguments[count++] = keys[2];
    args->v = args->out = (attend_tensor){0};
    ATTEND_TRY(attend_features_resolve(p, features));
    ATTEND_TRY(attend_expected_resolve(arguments, count, features));
    ATTEND_TRY(attend_expected_check_rows(arguments, 3));
    attend_keys_locate(args, &table, part);
    ATTEND_TRY(attend_progress_begin(&plan->context->tracker, &(attend_work){.attention = 1}));
    ATTEND_TRY(plan->context->backend->inspect(plan, args, part, &request));
    return attend_plan_end(plan);
}

attend_status attend_attention_inspect_sized(attend_plan *plan, const attend_attention_args *args,
                                             size_t args_bytes, size_t features_bytes,
                                             const attend_inspection *inspection, size_t inspection_bytes)
{
    attend_attention_args own;
    attend_feature_args features;
    attend_key_part all;
    ATTEND_TRY(attend_plan_check(plan, ATTEND_ATTENTION));
    ATTEND_TRY(attend_attention_args_read(args, args_bytes, features_bytes, &own, &features));
    ATTEND_TRY(attend_key_part_resolve(&plan->problem, 0, &own, &all));
    return inspect(plan, &own, &features, &all, inspection, inspection_bytes);
}

attend_status attend_layer_inspect_sized(attend_plan *plan, const attend_layer_args *args, size_t args_bytes,
                                         size_t features_bytes, const attend_inspection *inspection,
                                         size_t inspection_bytes)
{
    attend_layer_args own;
    attend_feature_args features;
    attend_cache cache;
    ATTEND_TRY(attend_plan_check(plan, ATTEND_LAYER));
    ATTEND_TRY(
        attend_layer_args_read(&plan->problem, args, args_bytes, features_bytes, &own, &features, &cache));
    attend_attention_args attention = {
        .q = own.q, .k = own.k, .lse = own.lse, .features = &features, .cache = own.cache};
    attend_key_part all = attend_all_keys(&plan->problem);
    return inspect(plan, &attention, &features, &all, inspection, inspection_bytes);
}
