/* Validation of what runs and layers bring to a resolved problem; one table says which tensors its features
   bring, and in which shape. */
#include "core/arguments.h"
#include "core/cache.h"
#include "core/problem.h"
#include "core/struct.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#define AT(field) #field, offsetof(attend_feature_args, field)
static const struct {
    const char *name;
    size_t at;
    attend_dtype dtype;
    const char *asked_by;
} tensors[ATTEND_FEATURE_TENSORS] = {
    [ATTEND_FEATURE_TENSOR_SEGMENTS_Q] = {AT(segments_q), ATTEND_I32, "segments"},
    [ATTEND_FEATURE_TENSOR_SEGMENTS_K] = {AT(segments_k), ATTEND_I32, "segments"},
    [ATTEND_FEATURE_TENSOR_MASK] = {AT(mask), ATTEND_U8, "mask_axes"},
    [ATTEND_FEATURE_TENSOR_BLOCK_MASK] = {AT(block_mask), ATTEND_U8, "block_q"},
    [ATTEND_FEATURE_TENSOR_BIAS] = {AT(bias), ATTEND_F32, "bias_axes"},
    [ATTEND_FEATURE_TENSOR_SLOPES] = {AT(alibi_slopes), ATTEND_F32, "alibi"},
    [ATTEND_FEATURE_TENSOR_RELATIVE_TABLE] = {AT(relative_table), ATTEND_F32, "relative_buckets"},
    [ATTEND_FEATURE_TENSOR_HEAD_SCALES] = {AT(head_scales), ATTEND_F32, "head_scales"},
    [ATTEND_FEATURE_TENSOR_SINKS] = {AT(sinks), ATTEND_F32, "sinks"},
    [ATTEND_FEATURE_TENSOR_BLOCK_OFFSETS] = {AT(block_offsets), ATTEND_I64, "block_list"},
    [ATTEND_FEATURE_TENSOR_BLOCK_INDICES] = {AT(block_indices), ATTEND_I32, "block_list"},
    [ATTEND_FEATURE_TENSOR_POSITIONS] = {AT(positions), ATTEND_I32,
                                         "rotary or absolute, which belong to layers"},
};

const char *attend_feature_tensor_name(attend_feature_tensor feature) { return tensors[feature].name; }
attend_dtype attend_feature_dtype(attend_feature_tensor feature) { return tensors[feature].dtype; }

attend_tensor *attend_feature_tensor_of(attend_feature_args *features, attend_feature_tensor feature)
{
    return (attend_tensor *)((char *)features + tensors[feature].at);
}

static attend_feature_shape by_axes(int axes, int64_t batch, int64_t heads, int64_t queries, int64_t keys)
{
    return (attend_feature_shape){.rank = axes ? 4 : 0,
                                  .shape = {batch, heads, queries, keys},
                                  .varies = {(axes & ATTEND_PER_BATCH) != 0, (axes & ATTEND_PER_HEAD) != 0,
                                             (axes & ATTEND_PER_QUERY) != 0, (axes & ATTEND_PER_KEY) != 0}};
}

static attend_feature_shape by_token(const attend_problem *p, bool announced, int64_t rows)
{
    return (attend_feature_shape){
        .rank = announced ? 2 : 0, .shape = {attend_tensor_batch(p), rows}, .varies = {true, true}};
}

static attend_feature_shape by_head(const attend_problem *p, bool announced)
{
    return (attend_feature_shape){.rank = announced, .shape = {p->num_heads}, .varies = {true}};
}

attend_feature_shape attend_feature_expected(const attend_problem *p, attend_feature_tensor feature)
{
    const int64_t block_q = p->block_q, block_k = p->block_k;
    attend_feature_shape s = {0};
    switch (feature) {
    case ATTEND_FEATURE_TENSOR_SEGMENTS_Q: return by_token(p, p->segments, attend_rows_q(p));
    case ATTEND_FEATURE_TENSOR_SEGMENTS_K: return by_token(p, p->segments, attend_rows_k(p));
    case ATTEND_FEATURE_TENSOR_MASK:
        return by_axes(p->mask_axes, p->batch, p->num_heads, p->seqlen_q, p->seqlen_k);
    case ATTEND_FEATURE_TENSOR_BLOCK_MASK:
        if (block_q == 0 || p->block_list > 0) return s;
        return by_axes(p->block_axes | ATTEND_PER_QUERY | ATTEND_PER_KEY, p->batch, p->num_heads,
                       attend_parts_of(p->seqlen_q, block_q), attend_parts_of(p->seqlen_k, block_k));
    case ATTEND_FEATURE_TENSOR_BIAS:
        return by_axes(p->bias_axes, p->batch, p->num_heads, p->seqlen_q, p->seqlen_k);
    case ATTEND_FEATURE_TENSOR_SLOPES:
        s = by_head(p, p->alibi != ATTEND_ALIBI_NONE);
        s.optional = true;
        return s;
    case ATTEND_FEATURE_TENSOR_RELATIVE_TABLE:
        return (attend_feature_shape){.rank = p->relative_buckets ? 2 : 0,
                                      .shape = {p->num_heads, p->relative_buckets},
                                      .varies = {true, true}};
    case ATTEND_FEATURE_TENSOR_HEAD_SCALES: return by_head(p, p->head_scales);
    case ATTEND_FEATURE_TENSOR_SINKS: return by_head(p, p->sinks);
    case ATTEND_FEATURE_TENSOR_BLOCK_OFFSETS:
        if (p->block_list == 0) return s;
        s = by_axes(p->block_axes | ATTEND_PER_QUERY, p->batch, p->num_heads,
                    attend_parts_of(p->seqlen_q, block_q) + 1, 0);
        s.rank = 3;
        return s;
    case ATTEND_FEATURE_TENSOR_BLOCK_INDICES:
        return (attend_feature_shape){.rank = p->block_list > 0, .shape = {p->block_list}, .varies = {true}};
    case ATTEND_FEATURE_TENSOR_POSITIONS:
        s = by_token(p, p->rotary || p->absolute, attend_rows_q(p));
        s.optional = true;
        return s;
    }
    return s;
}

static attend_status resolve_one(const attend_problem *p, attend_feature_tensor feature,
                                 attend_feature_args *features)
{
    attend_tensor *tensor = attend_feature_tensor_of(features, feature);
    static const char *const axes[] = {"batch entries", "heads", "queries", "keys"};
    attend_feature_shape e = attend_feature_expected(p, feature);
    const char *const name = tensors[feature].name;
    const attend_tensor given = *tensor;
    const bool as_problem = feature == ATTEND_FEATURE_TENSOR_BIAS && given.dtype == p->dtype;
    int64_t shape[ATTEND_MAX_RANK];
    if (e.rank == 0 && !given.data) return ATTEND_OK;
    if (e.rank == 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is given, but the problem does not ask for it (%s)",
                           name, tensors[feature].asked_by);
    if (e.optional && !given.data) return ATTEND_OK;
    for (int i = 0; i < e.rank; i++)
        shape[i] = !e.varies[i] && given.rank == e.rank && given.shape[i] == 1 ? 1 : e.shape[i];
    ATTEND_TRY(attend_tensor_resolve(name, &given, ATTEND_INPUT,
                                     as_problem ? p->dtype : tensors[feature].dtype, e.rank, shape, tensor));
    for (int i = 0; i < e.rank; i++) {
        if (e.varies[i]) continue;
        if (shape[i] > 1 && given.stride[i] != 0)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "%s varies along %s (stride[%d] is %" PRId64
                               "), which the problem's axes leave out",
                               name, axes[i], i, given.stride[i]);
        tensor->shape[i] = e.shape[i], tensor->stride[i] = 0;
    }
    return ATTEND_OK;
}

attend_feature_list attend_feature_list_of(const attend_problem *p, attend_feature_args *a, int index)
{
    const attend_feature_list lists[ATTEND_FEATURE_LISTS] = {
        {"seqlens_q", &a->seqlens_q, p->seqlen_q, -1, NULL, !p->packed},
        {"seqlens_k", &a->seqlens_k, p->seqlen_k, -1, NULL, !p->packed},
        {"starts_k", &a->starts_k, p->seqlen_k, -1, "left_padded", p->left_padded},
        {"cu_seqlens_q", &a->cu_seqlens_q, p->seqlen_q, p->total_q, "packed", p->packed},
        {"cu_seqlens_k", &a->cu_seqlens_k, p->seqlen_k, p->total_k, "packed", p->packed}};
    return lists[index];
}

static attend_status check_list(const attend_feature_list *l, int64_t batch)
{
    if (*l->list && !l->allowed && !l->asked_by)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s and packed exclude each other: cu_%s gives the lengths of packed sequences",
                           l->name, l->name);
    if (*l->list && !l->allowed)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is given, but the problem does not ask for it (%s)",
                           l->name, l->asked_by);
    if (!*l->list && l->allowed && l->asked_by && batch > 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is missing: the problem is %s", l->name, l->asked_by);
    return ATTEND_OK;
}

attend_status attend_features_resolve(const attend_problem *p, attend_feature_args *a)
{
    for (int i = 0; i < ATTEND_FEATURE_LISTS; i++) {
        const attend_feature_list list = attend_feature_list_of(p, a, i);
        ATTEND_TRY(check_list(&list, p->batch));
    }
    for (int i = 0; i < ATTEND_FEATURE_TENSORS; i++) ATTEND_TRY(resolve_one(p, (attend_feature_tensor)i, a));
    return ATTEND_OK;
}

attend_status attend_expected_resolve(const attend_expected *arguments, int count,
                                      attend_feature_args *features)
{
    attend_named_tensor named[ATTEND_MAX_EXPECTED + ATTEND_FEATURE_TENSORS];
    int all = count;
    for (int i = 0; i < count; i++) {
        const attend_expected *e = &arguments[i];
        attend_tensor given = *e->tensor;
        named[i] = (attend_named_tensor){e->name, e->tensor, e->role};
        if (e->optional && !given.data) continue;
        ATTEND_TRY(attend_tensor_resolve(e->name, &given, e->role, e->dtype, e->rank, e->shape, e->tensor));
    }
    for (int i = 0; features && i < ATTEND_FEATURE_TENSORS; i++)
        named[all++] = (attend_named_tensor){
            tensors[i].name, attend_feature_tensor_of(features, (attend_feature_tensor)i), ATTEND_INPUT};
    return attend_tensors_disjoint(named, all);
}

attend_status attend_expected_check_rows(const attend_expected *arguments, int count)
{
    for (int i = 0; i < count; i++)
        if (arguments[i].tensor->data)
            ATTEND_TRY(attend_tensor_check_rows(arguments[i].name, arguments[i].tensor));
    return ATTEND_OK;
}

static bool same_view(const attend_tensor *a, const attend_tensor *b)
{
    bool same = a->data == b->data && a->dtype == b->dtype && a->rank == b->rank;
    for (int axis = 0; same && axis < a->rank && axis < ATTEND_MAX_RANK; axis++)
        same = a->shape[axis] == b->shape[axis] && a->stride[axis] == b->stride[axis];
    return same;
}

int attend_state_expect(const attend_problem *p, int64_t rows_q, const char *name, attend_tensor_role role,
                        attend_state *state, const attend_state *shared, attend_state_names *names,
                        attend_expected *expected)
{
    const int64_t batch = attend_tensor_batch(p);
    const attend_expected all[] = {
        {"out", &state->out, role, false, ATTEND_F32, 4, {batch, rows_q, p->num_heads, p->head_dim_v}},
        {"max", &state->max, role, false, ATTEND_F32, 3, {batch, p->num_heads, rows_q}},
        {"sum", &state->sum, role, false, ATTEND_F32, 3, {batch, p->num_heads, rows_q}},
    };
    const attend_tensor *listed[] = {shared ? &shared->out : NULL, shared ? &shared->max : NULL,
                                     shared ? &shared->sum : NULL};
    int count = 0;
    for (int i = 0; i < 3; i++) {
        if (listed[i] && same_view(all[i].tensor, listed[i])) continue;
        snprintf(names->text[i], sizeof names->text[i], "%s.%s", name, all[i].name);
        expected[count] = all[i];
        expected[count++].name = names->text[i];
    }
    return count;
}

/* A limit, and the argument that it is, "" where it is none. */
#define LEAST               "%s%s%" PRId64 "%s"
#define LEAST_OF(is, least) is, *is ? " (" : "", least, *is ? ")" : ""

static attend_status check_query(const char *name, int64_t query, int64_t least, const char *least_is,
                                 const attend_problem *p)
{
    if (query >= least && query <= p->seqlen_q) return ATTEND_OK;
    return attend_fail(ATTEND_INVALID_ARGUMENT,
                       "%s is %" PRId64 ", expected " LEAST " to seqlen_q (%" PRId64 ")", name, query,
                       LEAST_OF(least_is, least), p->seqlen_q);
}

static attend_status check_key(const char *name, int64_t key, int64_t least, const char *least_is,
                               const attend_problem *p, int64_t span)
{
    if (key < least || key > p->seqlen_k)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s is %" PRId64 ", expected " LEAST " to seqlen_k (%" PRId64 ")", name, key,
                           LEAST_OF(least_is, least), p->seqlen_k);
    if (key % span != 0 && key != p->seqlen_k)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s is %" PRId64 ", expected a multiple of the plan's key span (%" PRId64
                           ") or seqlen_k (%" PRId64 ")",
                           name, key, span, p->seqlen_k);
    return ATTEND_OK;
}

attend_status attend_key_part_resolve(const attend_problem *p, int64_t span, const attend_attention_args *r,
                                      attend_key_part *part)
{
    *part = attend_all_keys(p);
    if (!r->first_key && !r->end_key && !r->first_query && !r->end_query && !r->from && !r->into)
        return ATTEND_OK;
    if (p->packed)
        return attend_fail(ATTEND_UNSUPPORTED,
                           "first_key, end_key, first_query, end_query, from and into do not go with packed "
                           "sequences");
    if (span == 0)
        return attend_fail(
            ATTEND_UNSUPPORTED,
            "first_key, end_key, first_query, end_query, from and into do not go here: all keys "
            "and queries take part at once");
    ATTEND_TRY(check_key("first_key", r->first_key, 0, "", p, span));
    if (r->end_key) ATTEND_TRY(check_key("end_key", r->end_key, r->first_key, "first_key", p, span));
    ATTEND_TRY(check_query("first_query", r->first_query, 0, "", p));
    if (r->end_query) ATTEND_TRY(check_query("end_query", r->end_query, r->first_query, "first_query", p));
    part->first = r->first_key, part->first_query = r->first_query;
    if (r->end_key) part->end = r->end_key;
    if (r->end_query) part->end_query = r->end_query;
    if (r->into && (r->out.data || r->lse.data))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is given beside into, which is written instead of it",
                           r->out.data ? "out" : "lse");
    return ATTEND_OK;
}

attend_status attend_feature_args_read(const attend_feature_args *given, size_t bytes,
                                       attend_feature_args *read)
{
    *read = (attend_feature_args){0};
    return given ? attend_struct_read(ATTEND_STRUCT(attend_feature_args), "features", read, given, bytes)
                 : ATTEND_OK;
}

attend_status attend_attention_args_read(const attend_attention_args *args, size_t bytes,
                                         size_t features_bytes, attend_attention_args *read,
                                         attend_feature_args *features)
{
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_attention_args), "args", read, args, bytes));
    ATTEND_TRY(attend_feature_args_read(read->features, features_bytes, features));
    read->features = features;
    return ATTEND_OK;
}

attend_status attend_attention_args_resolve(const attend_problem *p, int64_t key_span,
                                            attend_attention_args *r, attend_feature_args *features,
                                            attend_key_part *part)
{
    ATTEND_TRY(attend_key_part_resolve(p, key_span, r, part));
    int64_t batch = attend_tensor_batch(p),
            rows_q = p->packed ? p->total_q : part->end_query - part->first_query;
    attend_expected keys[3];
    attend_tensor table;
    ATTEND_TRY(attend_keys_take(p, r, part, &table, keys));
    attend_expected arguments[ATTEND_MAX_EXPECTED] = {
        {"q", &r->q, ATTEND_INPUT, false, p->dtype, 4, {batch, rows_q, p->num_heads, p->head_dim}},
        keys[0],
        keys[1],
        {"out", &r->out, ATTEND_OUTPUT, r->into, p->dtype, 4, {batch, rows_q, p->num_heads, p->head_dim_v}},
        {"lse", &r->lse, ATTEND_OUTPUT, true, ATTEND_F32, 3, {batch, p->num_heads, rows_q}},
    };
    int count = 5;
    if (table.rank) arguments[count++] = keys[2];
    attend_state_names from_names, into_names;
    attend_state *from = &part->from, *into = &part->into;
    if (r->into) {
        *into = *r->into;
        count +=
            attend_state_expect(p, rows_q, "into", ATTEND_OUTPUT, into, NULL, &into_names, arguments + count);
    }
    if (r->from) {
        *from = *r->from;
        count += attend_state_expect(p, rows_q, "from", ATTEND_INPUT, from, r->into, &from_names,
                                     arguments + count);
    }
    ATTEND_TRY(attend_features_resolve(p, features));
    ATTEND_TRY(attend_expected_resolve(arguments, count, features));
    ATTEND_TRY(attend_expected_check_rows(arguments, 4));
    attend_keys_locate(r, &table, part);
    if (r->into) ATTEND_TRY(attend_tensor_check_rows("into.out", &into->out));
    if (r->from) ATTEND_TRY(attend_tensor_check_rows("from.out", &from->out));
    if (r->from && r->into) { /* resolved once where both are one */
        if (same_view(&r->from->out, &r->into->out)) from->out = into->out;
        if (same_view(&r->from->max, &r->into->max)) from->max = into->max;
        if (same_view(&r->from->sum, &r->into->sum)) from->sum = into->sum;
    }
    r->from = r->into = NULL;
    return ATTEND_OK;
}

attend_status attend_lengths_check(const char *name, const int64_t *lengths, int64_t batch, int64_t seqlen)
{
    for (int64_t b = 0; lengths && b < batch; b++)
        if (lengths[b] < 0 || lengths[b] > seqlen)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "%s[%" PRId64 "] is %" PRId64 ", expected 0 to %" PRId64, name, b, lengths[b],
                               seqlen);
    return ATTEND_OK;
}

attend_status attend_cu_seqlens_check(const char *name, const int64_t *cu, int64_t batch, int64_t seqlen,
                                      int64_t total)
{
    if (!cu || batch == 0) return ATTEND_OK;
    if (cu[0] != 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s[0] is %" PRId64 ", expected 0", name, cu[0]);
    for (int64_t b = 0; b < batch; b++) {
        if (cu[b + 1] < cu[b] || cu[b + 1] > total)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "%s[%" PRId64 "] is %" PRId64 ", expected %" PRId64
                               " (the one before) to %" PRId64 " (the total)",
                               name, b + 1, cu[b + 1], cu[b], total);
        if (cu[b + 1] - cu[b] > seqlen)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "%s gives sequence %" PRId64 " %" PRId64 " rows, the problem allows %" PRId64,
                               name, b, cu[b + 1] - cu[b], seqlen);
    }
    if (cu[batch] != total)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s ends with %" PRId64 ", expected the total, %" PRId64,
                           name, cu[batch], total);
    return ATTEND_OK;
}

/* One row of a list: within the indices, ascending, blocks that are there. */
static attend_status check_block_row(const attend_problem *p, const attend_tensor *offsets,
                                     const attend_tensor *indices, int64_t b, int64_t h, int64_t i)
{
    const int64_t *at = (const int64_t *)offsets->data + b * offsets->stride[0] + h * offsets->stride[1] +
                        i * offsets->stride[2];
    const int64_t begin = at[0], end = at[offsets->stride[2]],
                  blocks = p->seqlen_k / p->block_k + (p->seqlen_k % p->block_k != 0);
    if (begin < 0 || end < begin || end > p->block_list)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "block_offsets[%" PRId64 ", %" PRId64 ", %" PRId64 "] and the next are %" PRId64
                           " and %" PRId64 ", expected ascending numbers up to block_list (%" PRId64 ")",
                           b, h, i, begin, end, p->block_list);
    for (int64_t n = begin, before = -1; n < end; n++) {
        const int64_t block = ((const int32_t *)indices->data)[n * indices->stride[0]];
        if (block <= before || block >= blocks)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "block_indices[%" PRId64 "] is %" PRId64
                               ", expected more than the one before and less than %" PRId64
                               ", the blocks of keys",
                               n, block, blocks);
        before = block;
    }
    return ATTEND_OK;
}

attend_status attend_block_list_check(const attend_problem *p, const attend_tensor *offsets,
                                      const attend_tensor *indices)
{
    if (p->block_list == 0 || !offsets->data || !indices->data) return ATTEND_OK;
    const int64_t batch = offsets->stride[0] ? offsets->shape[0] : offsets->shape[0] > 0,
                  heads = offsets->stride[1] ? offsets->shape[1] : 1;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t i = 0; i + 1 < offsets->shape[2]; i++)
                ATTEND_TRY(check_block_row(p, offsets, indices, b, h, i));
    return ATTEND_OK;
}

attend_status attend_feature_list_check(const attend_feature_list *l, int64_t batch)
{
    return l->total < 0 ? attend_lengths_check(l->name, *l->list, batch, l->longest)
                        : attend_cu_seqlens_check(l->name, *l->list, batch, l->longest, l->total);
}

attend_status attend_lists_check(const attend_problem *p, const attend_feature_args *features)
{
    attend_feature_args a = *features;
    for (int i = 0; i < ATTEND_FEATURE_LISTS; i++) {
        const attend_feature_list list = attend_feature_list_of(p, &a, i);
        ATTEND_TRY(attend_feature_list_check(&list, p->batch));
    }
    return attend_block_list_check(p, &a.block_offsets, &a.block_indices);
}

attend_lists attend_lists_of(const attend_feature_args *a)
{
    return (attend_lists){a->seqlens_q, a->seqlens_k, a->starts_k, a->cu_seqlens_q, a->cu_seqlens_k};
}

static attend_plane plane_of(const attend_tensor *t)
{
    return (attend_plane){t->data, t->stride[0], t->stride[1], t->stride[2], t->stride[3], t->dtype};
}

static attend_plane by_row(const attend_tensor *t)
{
    return (attend_plane){.data = t->data,
                          .batch = t->stride[0],
                          .query = t->stride[1],
                          .key = t->stride[1],
                          .dtype = t->dtype};
}

/* [num_heads, …]: what follows lies along key. */
static attend_plane by_head_of(const attend_tensor *t)
{
    return (attend_plane){.data = t->data, .head = t->stride[0], .key = t->stride[1], .dtype = t->dtype};
}

attend_terms attend_terms_of(const attend_feature_args *a)
{
    return (attend_terms){
        .mask = plane_of(&a->mask),
        .block_mask = plane_of(&a->block_mask),
        .bias = plane_of(&a->bias),
        .segments_q = by_row(&a->segments_q),
        .segments_k = by_row(&a->segments_k),
        .slopes = by_head_of(&a->alibi_slopes),
        .head_scales = by_head_of(&a->head_scales),
        .sinks = by_head_of(&a->sinks),
        .relative_table = by_head_of(&a->relative_table),
        .block_offsets = plane_of(&a->block_offsets),
        .block_indices = {.data = a->block_indices.data, .key = a->block_indices.stride[0]},
    };
}
