/* What features bring beside q, k and v: one table says which tensor a problem announces and in which shape. */
#include "arguments.h"
#include "problem.h"
#include "status.h"

#include <inttypes.h>
#include <string.h>

static const char *const names[ATTEND_SIDE_TENSORS] = {"segments_q",   "segments_k",     "mask",        "block_mask", "bias",
                                                       "alibi_slopes", "relative_table", "head_scales", "sinks",       "block_offsets", "block_indices"};
static const char *const announced_by[ATTEND_SIDE_TENSORS] = {"segments", "segments",         "mask_axes",   "block_q", "bias_axes",
                                                              "alibi",    "relative_buckets", "head_scales", "sinks",     "block_list", "block_list"};

const char *attend_side_name(attend_side side) { return names[side]; }

attend_side_args attend_side_of_attention(attend_attention_args *a)
{
    return (attend_side_args){&a->seqlens_q, &a->seqlens_k, &a->starts_k, &a->cu_seqlens_q, &a->cu_seqlens_k,
                              {&a->segments_q, &a->segments_k, &a->mask, &a->block_mask, &a->bias, &a->alibi_slopes,
                               &a->relative_table, &a->head_scales, &a->sinks, &a->block_offsets, &a->block_indices}};
}

attend_side_args attend_side_of_layer(attend_layer_args *a)
{
    return (attend_side_args){&a->seqlens_q, &a->seqlens_k, &a->starts_k, &a->cu_seqlens_q, &a->cu_seqlens_k,
                              {&a->segments_q, &a->segments_k, &a->mask, &a->block_mask, &a->bias, &a->alibi_slopes,
                               &a->relative_table, &a->head_scales, &a->sinks, &a->block_offsets, &a->block_indices}};
}

void attend_side_copy(attend_attention_args *to, const attend_layer_args *from)
{
    attend_layer_args copy = *from;
    attend_side_args a = attend_side_of_attention(to), l = attend_side_of_layer(&copy);
    *a.seqlens_q = *l.seqlens_q, *a.seqlens_k = *l.seqlens_k, *a.starts_k = *l.starts_k;
    *a.cu_seqlens_q = *l.cu_seqlens_q, *a.cu_seqlens_k = *l.cu_seqlens_k;
    for (int i = 0; i < ATTEND_SIDE_TENSORS; i++) *a.tensors[i] = *l.tensors[i];
}

static attend_side_shape by_axes(int axes, int64_t batch, int64_t heads, int64_t queries, int64_t keys)
{
    return (attend_side_shape){.rank = axes ? 4 : 0,
                               .shape = {batch, heads, queries, keys},
                               .varies = {(axes & ATTEND_PER_BATCH) != 0, (axes & ATTEND_PER_HEAD) != 0,
                                          (axes & ATTEND_PER_QUERY) != 0, (axes & ATTEND_PER_KEY) != 0}};
}

static attend_side_shape by_head(const attend_problem *p, bool announced)
{
    return (attend_side_shape){.rank = announced, .shape = {p->num_heads}, .varies = {true}};
}

attend_side_shape attend_side_expected(const attend_problem *p, attend_side side)
{
    int64_t q = attend_rows_q(p), k = attend_rows_k(p), batch = attend_tensor_batch(p), block_q = p->block_q, block_k = p->block_k;
    attend_side_shape s = {0};
    switch (side) {
    case ATTEND_SIDE_SEGMENTS_Q: return (attend_side_shape){p->segments ? 2 : 0, {batch, q}, {true, true}, false};
    case ATTEND_SIDE_SEGMENTS_K: return (attend_side_shape){p->segments ? 2 : 0, {batch, k}, {true, true}, false};
    case ATTEND_SIDE_MASK: return by_axes(p->mask_axes, p->batch, p->num_heads, p->seqlen_q, p->seqlen_k);
    case ATTEND_SIDE_BLOCK_MASK:
        if (block_q == 0 || p->block_list > 0) return s;
        return by_axes(p->block_axes | ATTEND_PER_QUERY | ATTEND_PER_KEY, p->batch, p->num_heads,
                       p->seqlen_q / block_q + (p->seqlen_q % block_q != 0), p->seqlen_k / block_k + (p->seqlen_k % block_k != 0));
    case ATTEND_SIDE_BIAS: return by_axes(p->bias_axes, p->batch, p->num_heads, p->seqlen_q, p->seqlen_k);
    case ATTEND_SIDE_SLOPES:
        s = by_head(p, p->alibi != ATTEND_ALIBI_NONE);
        s.optional = true;
        return s;
    case ATTEND_SIDE_RELATIVE_TABLE:
        return (attend_side_shape){p->relative_buckets ? 2 : 0, {p->num_heads, p->relative_buckets}, {true, true}, false};
    case ATTEND_SIDE_HEAD_SCALES: return by_head(p, p->head_scales);
    case ATTEND_SIDE_SINKS: return by_head(p, p->sinks);
    case ATTEND_SIDE_BLOCK_OFFSETS:
        if (p->block_list == 0) return s;
        s = by_axes(p->block_axes | ATTEND_PER_QUERY, p->batch, p->num_heads, p->seqlen_q / block_q + (p->seqlen_q % block_q != 0) + 1, 0);
        s.rank = 3;
        return s;
    case ATTEND_SIDE_BLOCK_INDICES: return (attend_side_shape){p->block_list > 0, {p->block_list}, {true}, false};
    }
    return s;
}

static attend_dtype dtype_of(const attend_problem *p, attend_side side, const attend_tensor *given)
{
    if (side <= ATTEND_SIDE_SEGMENTS_K || side == ATTEND_SIDE_BLOCK_INDICES) return ATTEND_I32;
    if (side == ATTEND_SIDE_BLOCK_OFFSETS) return ATTEND_I64;
    if (side <= ATTEND_SIDE_BLOCK_MASK) return ATTEND_U8;
    return side == ATTEND_SIDE_BIAS && given->dtype == p->dtype ? p->dtype : ATTEND_F32;
}

static attend_status resolve_one(const attend_problem *p, attend_side side, attend_tensor *tensor)
{
    static const char *const axes[] = {"batch entries", "heads", "queries", "keys"};
    attend_side_shape e = attend_side_expected(p, side);
    attend_tensor given = *tensor;
    int64_t shape[ATTEND_MAX_RANK];
    if (e.rank == 0 && !given.data) return ATTEND_OK;
    if (e.rank == 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is given, but the problem does not announce it (%s)", names[side],
                           announced_by[side]);
    if (e.optional && !given.data) return ATTEND_OK;
    for (int i = 0; i < e.rank; i++) shape[i] = !e.varies[i] && given.rank == e.rank && given.shape[i] == 1 ? 1 : e.shape[i];
    ATTEND_TRY(attend_tensor_resolve(names[side], &given, ATTEND_INPUT, dtype_of(p, side, &given), e.rank, shape, tensor));
    for (int i = 0; i < e.rank; i++) {
        if (e.varies[i]) continue;
        if (shape[i] > 1 && tensor->stride[i] != 0)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "%s varies along %s (stride[%d] is %" PRId64 "), which the problem's axes leave out",
                               names[side], axes[i], i, tensor->stride[i]);
        tensor->shape[i] = e.shape[i], tensor->stride[i] = 0;
    }
    return ATTEND_OK;
}

static attend_status check_lists(const attend_problem *p, const attend_side_args *a)
{
    const struct {
        const char *name, *belongs_to;
        bool given, allowed, wanted;
    } lists[] = {{"seqlens_q", NULL, *a->seqlens_q, !p->packed, false},
                 {"seqlens_k", NULL, *a->seqlens_k, !p->packed, false},
                 {"starts_k", "left_padded", *a->starts_k, p->left_padded, p->left_padded},
                 {"cu_seqlens_q", "packed", *a->cu_seqlens_q, p->packed, p->packed},
                 {"cu_seqlens_k", "packed", *a->cu_seqlens_k, p->packed, p->packed}};
    for (int i = 0; i < 5; i++) {
        if (lists[i].given && !lists[i].allowed && !lists[i].belongs_to)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "%s and packed exclude each other: cu_%s gives the lengths of packed sequences",
                               lists[i].name, lists[i].name);
        if (lists[i].given && !lists[i].allowed)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is given, but the problem does not announce it (%s)", lists[i].name,
                               lists[i].belongs_to);
        if (!lists[i].given && lists[i].wanted && p->batch > 0)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is missing: the problem is %s", lists[i].name, lists[i].belongs_to);
    }
    return ATTEND_OK;
}

attend_status attend_side_resolve(const attend_problem *p, const attend_side_args *a)
{
    ATTEND_TRY(check_lists(p, a));
    for (int i = 0; i < ATTEND_SIDE_TENSORS; i++) ATTEND_TRY(resolve_one(p, (attend_side)i, a->tensors[i]));
    return ATTEND_OK;
}

attend_status attend_lengths_check(const char *name, const int64_t *lengths, int64_t batch, int64_t seqlen)
{
    for (int64_t b = 0; lengths && b < batch; b++)
        if (lengths[b] < 0 || lengths[b] > seqlen)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "%s[%" PRId64 "] is %" PRId64 ", expected 0 to %" PRId64, name, b,
                               lengths[b], seqlen);
    return ATTEND_OK;
}

attend_status attend_cu_seqlens_check(const char *name, const int64_t *cu, int64_t batch, int64_t seqlen, int64_t total)
{
    if (!cu || batch == 0) return ATTEND_OK;
    if (cu[0] != 0) return attend_fail(ATTEND_INVALID_ARGUMENT, "%s[0] is %" PRId64 ", expected 0", name, cu[0]);
    for (int64_t b = 0; b < batch; b++) {
        if (cu[b + 1] < cu[b] || cu[b + 1] > total)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "%s[%" PRId64 "] is %" PRId64 ", expected %" PRId64 " (the one before) to %" PRId64
                               " (the total)", name, b + 1, cu[b + 1], cu[b], total);
        if (cu[b + 1] - cu[b] > seqlen)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "%s gives sequence %" PRId64 " %" PRId64 " rows, the problem allows %" PRId64,
                               name, b, cu[b + 1] - cu[b], seqlen);
    }
    if (cu[batch] != total)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s ends with %" PRId64 ", expected the total, %" PRId64, name, cu[batch], total);
    return ATTEND_OK;
}

/* One row of a list: within the indices, ascending, blocks that are there. */
static attend_status check_block_row(const attend_problem *p, const attend_tensor *offsets, const attend_tensor *indices, int64_t b, int64_t h, int64_t i)
{
    const int64_t *at = (const int64_t *)offsets->data + b * offsets->stride[0] + h * offsets->stride[1] + i * offsets->stride[2];
    const int64_t begin = at[0], end = at[offsets->stride[2]], blocks = p->seqlen_k / p->block_k + (p->seqlen_k % p->block_k != 0);
    if (begin < 0 || end < begin || end > p->block_list)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "block_offsets[%" PRId64 ", %" PRId64 ", %" PRId64 "] and the next are %" PRId64 " and %" PRId64
                           ", expected ascending numbers up to block_list (%" PRId64 ")", b, h, i, begin, end, p->block_list);
    for (int64_t n = begin, before = -1; n < end; n++) {
        const int64_t block = ((const int32_t *)indices->data)[n * indices->stride[0]];
        if (block <= before || block >= blocks)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "block_indices[%" PRId64 "] is %" PRId64 ", expected more than the one before and less than %" PRId64
                               ", the blocks of keys", n, block, blocks);
        before = block;
    }
    return ATTEND_OK;
}

attend_status attend_block_list_check(const attend_problem *p, const attend_tensor *offsets, const attend_tensor *indices)
{
    if (p->block_list == 0 || !offsets->data || !indices->data) return ATTEND_OK;
    const int64_t batch = offsets->stride[0] ? offsets->shape[0] : offsets->shape[0] > 0, heads = offsets->stride[1] ? offsets->shape[1] : 1;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t i = 0; i + 1 < offsets->shape[2]; i++) ATTEND_TRY(check_block_row(p, offsets, indices, b, h, i));
    return ATTEND_OK;
}

attend_status attend_lists_check(const attend_problem *p, const attend_attention_args *args)
{
    ATTEND_TRY(attend_lengths_check("seqlens_q", args->seqlens_q, p->batch, p->seqlen_q));
    ATTEND_TRY(attend_lengths_check("seqlens_k", args->seqlens_k, p->batch, p->seqlen_k));
    ATTEND_TRY(attend_lengths_check("starts_k", args->starts_k, p->batch, p->seqlen_k));
    ATTEND_TRY(attend_cu_seqlens_check("cu_seqlens_q", args->cu_seqlens_q, p->batch, p->seqlen_q, p->total_q));
    ATTEND_TRY(attend_cu_seqlens_check("cu_seqlens_k", args->cu_seqlens_k, p->batch, p->seqlen_k, p->total_k));
    return attend_block_list_check(p, &args->block_offsets, &args->block_indices);
}

attend_lists attend_lists_of(const attend_attention_args *a)
{
    return (attend_lists){a->seqlens_q, a->seqlens_k, a->starts_k, a->cu_seqlens_q, a->cu_seqlens_k};
}

static attend_plane plane_of(const attend_tensor *t)
{
    return (attend_plane){t->data, t->stride[0], t->stride[1], t->stride[2], t->stride[3], t->dtype};
}

static attend_plane by_row(const attend_tensor *t)
{
    return (attend_plane){.data = t->data, .batch = t->stride[0], .query = t->stride[1], .key = t->stride[1], .dtype = t->dtype};
}

/* [num_heads, …]: what follows lies along key. */
static attend_plane by_head_of(const attend_tensor *t)
{
    return (attend_plane){.data = t->data, .head = t->stride[0], .key = t->stride[1], .dtype = t->dtype};
}

attend_terms attend_terms_of(const attend_attention_args *a)
{
    return (attend_terms){
        .mask = plane_of(&a->mask), .block_mask = plane_of(&a->block_mask), .bias = plane_of(&a->bias),
        .segments_q = by_row(&a->segments_q), .segments_k = by_row(&a->segments_k),
        .slopes = by_head_of(&a->alibi_slopes), .head_scales = by_head_of(&a->head_scales), .sinks = by_head_of(&a->sinks),
        .relative_table = by_head_of(&a->relative_table),
        .block_offsets = plane_of(&a->block_offsets), .block_indices = {.data = a->block_indices.data, .key = a->block_indices.stride[0]},
    };
}
