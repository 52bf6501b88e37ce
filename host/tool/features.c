/* Loads masks, lengths, biases and other feature tensors, and sets the fields of the problem that ask for
   them. */
#include "tool/features.h"
#include "file/fail.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void features_set(const options *o, attend_problem *p)
{
    const feature_options *f = &o->features;
    p->align_bottom_right = f->align_bottom_right || p->causal == ATTEND_CAUSAL_BOTTOM_RIGHT;
    if (f->windowed) p->windowed = true, p->window_left = f->window_left, p->window_right = f->window_right;
    if (f->chunk > 0) p->chunk = f->chunk;
    p->prefix = f->prefix;
    if (f->softcap > 0) p->softcap = f->softcap;
    if (f->alibi_given) p->alibi = f->alibi;
}

/* Loads integers of any width as int64_t; any shape of `rank` axes. */
static attend_status load_integers(const char *path, pool *pool, int rank, int64_t *shape, int64_t **integers)
{
    attend_array array;
    void *memory = NULL;
    ATTEND_TRY(array_load(path, &array));
    attend_status status = ATTEND_OK;
    if ((array.type != ATTEND_ARRAY_I32 && array.type != ATTEND_ARRAY_I64) || array.rank != rank)
        status =
            attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s: expected integers (int32 or int64) along %d ax%cs",
                             path, rank, rank == 1 ? 'i' : 'e');
    const int64_t count = attend_array_elements(&array);
    if (status == ATTEND_OK) status = attend_memory_allocate(path, count * (int64_t)sizeof(int64_t), &memory);
    if (status == ATTEND_OK) status = pool_keep(pool, memory);
    for (int64_t i = 0; status == ATTEND_OK && i < count; i++)
        ((int64_t *)memory)[i] =
            array.type == ATTEND_ARRAY_I32 ? ((int32_t *)array.data)[i] : ((int64_t *)array.data)[i];
    memcpy(shape, array.shape, sizeof *shape * (size_t)rank);
    *integers = memory;
    attend_array_free(&array);
    return status;
}

static attend_status load_lengths(const char *path, pool *pool, int64_t batch, const int64_t **lengths)
{
    int64_t shape[1], *integers;
    if (!path) return ATTEND_OK;
    ATTEND_TRY(load_integers(path, pool, 1, shape, &integers));
    if (shape[0] != batch)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s: expected %" PRId64 " integers (int32 or int64), one a batch entry", path,
                                batch);
    *lengths = integers;
    return ATTEND_OK;
}

/* Loads an int32 tensor [batch, rows]: segment ids or positions. */
static attend_status load_rows(const char *path, pool *pool, attend_tensor *tensor)
{
    int64_t shape[2], *integers;
    if (!path) return ATTEND_OK;
    ATTEND_TRY(load_integers(path, pool, 2, shape, &integers));
    ATTEND_TRY(pool_tensor(pool, path, ATTEND_I32, 2, shape, tensor));
    for (int64_t i = 0; i < shape[0] * shape[1]; i++) {
        if (integers[i] < INT32_MIN || integers[i] > INT32_MAX)
            return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                    "%s: element %" PRId64 " is %" PRId64 ", which does not fit in 32 bits",
                                    path, i, integers[i]);
        ((int32_t *)tensor->data)[i] = (int32_t)integers[i];
    }
    return ATTEND_OK;
}

/* Loads cu_seqlens [sequences + 1]; returns the number of sequences, the longest length and the total. */
static attend_status load_packing(const char *path, pool *pool, const int64_t **cu, int64_t *batch,
                                  int64_t *longest, int64_t *total)
{
    int64_t shape[1], *integers;
    ATTEND_TRY(load_integers(path, pool, 1, shape, &integers));
    if (shape[0] < 1 || integers[0] != 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s: expected integers [sequences + 1], from 0 to the total", path);
    *batch = shape[0] - 1, *longest = 0, *total = integers[*batch];
    for (int64_t b = 0; b < *batch; b++) {
        if (integers[b + 1] < integers[b])
            return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                    "%s: element %" PRId64 " is less than the previous one", path, b + 1);
        if (integers[b + 1] - integers[b] > *longest) *longest = integers[b + 1] - integers[b];
    }
    *cu = integers;
    return ATTEND_OK;
}

attend_status features_pack(const options *o, pool *pool, attend_problem *p, attend_feature_args *args)
{
    const feature_options *f = &o->features;
    int64_t batch_k = 0;
    if (!f->cu_seqlens_q) return ATTEND_OK;
    p->packed = true;
    ATTEND_TRY(
        load_packing(f->cu_seqlens_q, pool, &args->cu_seqlens_q, &p->batch, &p->seqlen_q, &p->total_q));
    if (!f->cu_seqlens_k) {
        args->cu_seqlens_k = args->cu_seqlens_q;
        p->seqlen_k = p->seqlen_q, p->total_k = p->total_q;
        return ATTEND_OK;
    }
    ATTEND_TRY(load_packing(f->cu_seqlens_k, pool, &args->cu_seqlens_k, &batch_k, &p->seqlen_k, &p->total_k));
    if (batch_k == p->batch) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has %" PRId64 " sequences, but %s has %" PRId64,
                            f->cu_seqlens_k, batch_k, f->cu_seqlens_q, p->batch);
}

static attend_status load_per_head(const char *path, pool *pool, attend_tensor *tensor)
{
    attend_array array;
    if (!path) return ATTEND_OK;
    ATTEND_TRY(array_load(path, &array));
    return array_to_tensor(pool, path, &array, ATTEND_F32, tensor);
}

/* Loads [heads, buckets], or the transpose, as T5 stores it. A square table is read as [heads, buckets]. */
static attend_status load_relative(const options *o, pool *pool, attend_problem *p, attend_tensor *table)
{
    const feature_options *f = &o->features;
    if (!f->relative_table && !f->relative_max_distance) return ATTEND_OK;
    if (!f->relative_table || !f->relative_max_distance)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "give both --relative and --relative-table, or neither");
    ATTEND_TRY(load_per_head(f->relative_table, pool, table));
    if (table->rank != 2 || (table->shape[0] != p->num_heads && table->shape[1] != p->num_heads) ||
        table->shape[1] > INT32_MAX || table->shape[0] > INT32_MAX)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s: expected a table [heads, buckets] or [buckets, heads] for %" PRId64
                                " heads",
                                f->relative_table, p->num_heads);
    if (table->shape[0] != p->num_heads) {
        const int64_t buckets = table->shape[0];
        table->shape[0] = p->num_heads, table->shape[1] = buckets;
        table->stride[0] = 1, table->stride[1] = p->num_heads;
    }
    p->relative_buckets = (int)table->shape[1];
    p->relative_max_distance = (int)f->relative_max_distance,
    p->relative_bidirectional = f->relative_bidirectional;
    return ATTEND_OK;
}

/* Loads [batch, heads, queries, keys], or blocks of these. Leading axes may be missing and any axis may be 1;
   *axes is the set of axes that are not 1. */
static attend_status load_scores(const char *path, pool *pool, const attend_problem *p, const int64_t *full,
                                 bool mask, attend_tensor *tensor, int *axes)
{
    attend_array array;
    if (!path) return ATTEND_OK;
    ATTEND_TRY(array_load(path, &array));
    attend_status status = ATTEND_OK;
    if (array.rank > 4)
        status = attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                  "%s has %d axes, expected [batch, heads, queries, keys]", path, array.rank);
    if (status == ATTEND_OK && mask && array.type != ATTEND_ARRAY_U8)
        status = attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is a mask, but its type is not bool or uint8",
                                  path);
    if (status != ATTEND_OK) {
        attend_array_free(&array);
        return status;
    }
    int missing = 4 - array.rank;
    memmove(array.shape + missing, array.shape, sizeof *array.shape * (size_t)array.rank);
    for (int axis = 0; axis < missing; axis++) array.shape[axis] = 1;
    array.rank = 4;
    for (int axis = 0; axis < 4; axis++)
        if (array.shape[axis] != 1 || full[axis] == 1) *axes |= 1 << axis;
    attend_dtype dtype = mask ? ATTEND_U8 : array.type == ATTEND_ARRAY_F32 ? ATTEND_F32 : p->dtype;
    ATTEND_TRY(array_to_tensor(pool, path, &array, dtype, tensor));
    if (*axes) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                            "%s has one value for all scores, expected at least one axis longer than 1",
                            path);
}

static int64_t blocks_of(int64_t n, int64_t block) { return n / block + (n % block != 0); }

/* Loads a list of visible key blocks; its offsets may be 1 along batch and heads. */
static attend_status load_block_list(const feature_options *f, pool *pool, attend_problem *p,
                                     attend_feature_args *args)
{
    int64_t shape[3], count[1], *offsets, *indices;
    ATTEND_TRY(load_integers(f->block_offsets, pool, 3, shape, &offsets));
    ATTEND_TRY(load_integers(f->block_indices, pool, 1, count, &indices));
    args->block_offsets = attend_tensor_3d(offsets, ATTEND_I64, shape[0], shape[1], shape[2]);
    p->block_list = count[0] > 0 ? count[0] : 1; /* an empty list is still a list: all keys are hidden */
    ATTEND_TRY(pool_tensor(pool, f->block_indices, ATTEND_I32, 1, &p->block_list, &args->block_indices));
    for (int64_t i = 0; i < count[0]; i++) {
        if (indices[i] < 0 || indices[i] > INT32_MAX)
            return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                    "%s: element %" PRId64 " is %" PRId64 ", expected a block of keys",
                                    f->block_indices, i, indices[i]);
        ((int32_t *)args->block_indices.data)[i] = (int32_t)indices[i];
    }
    p->block_axes = (shape[0] != 1 || p->batch == 1 ? ATTEND_PER_BATCH : 0) |
                    (shape[1] != 1 || p->num_heads == 1 ? ATTEND_PER_HEAD : 0);
    return ATTEND_OK;
}

static attend_status load_blocks(const options *o, pool *pool, attend_problem *p, attend_feature_args *args)
{
    const feature_options *f = &o->features;
    const bool list = f->block_offsets || f->block_indices;
    int axes = 0;
    if (!f->block_mask && !f->block_q && !list) return ATTEND_OK;
    if (!f->block_q || (!f->block_mask && !list) ||
        (list && (f->block_mask || !f->block_offsets || !f->block_indices)))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "give --blocks with --block-mask, or with --block-offsets and "
                                "--block-indices");
    p->block_q = f->block_q, p->block_k = f->block_k;
    if (list) return load_block_list(f, pool, p, args);
    const int64_t full[] = {p->batch, p->num_heads, blocks_of(p->seqlen_q, p->block_q),
                            blocks_of(p->seqlen_k, p->block_k)};
    ATTEND_TRY(load_scores(f->block_mask, pool, p, full, true, &args->block_mask, &axes));
    p->block_axes = axes & (ATTEND_PER_BATCH | ATTEND_PER_HEAD);
    return ATTEND_OK;
}

attend_status features_load(const options *o, pool *pool, attend_problem *p, attend_feature_args *args)
{
    const feature_options *f = &o->features;
    ATTEND_TRY(load_lengths(o->seqlens_k, pool, p->batch, &args->seqlens_k));
    ATTEND_TRY(load_lengths(f->seqlens_q, pool, p->batch, &args->seqlens_q));
    ATTEND_TRY(load_lengths(f->starts_k, pool, p->batch, &args->starts_k));
    const int64_t full[] = {p->batch, p->num_heads, p->seqlen_q, p->seqlen_k};
    ATTEND_TRY(load_scores(f->mask, pool, p, full, true, &args->mask, &p->mask_axes));
    ATTEND_TRY(load_scores(f->bias, pool, p, full, false, &args->bias, &p->bias_axes));
    ATTEND_TRY(load_blocks(o, pool, p, args));
    ATTEND_TRY(load_relative(o, pool, p, &args->relative_table));
    ATTEND_TRY(load_rows(f->segments_q, pool, &args->segments_q));
    ATTEND_TRY(load_rows(f->segments_k, pool, &args->segments_k));
    if (!f->segments_k) args->segments_k = args->segments_q;
    ATTEND_TRY(load_rows(f->positions, pool, &args->positions));
    p->segments = f->segments_q || f->segments_k;
    ATTEND_TRY(load_per_head(f->alibi_slopes, pool, &args->alibi_slopes));
    ATTEND_TRY(load_per_head(f->head_scales, pool, &args->head_scales));
    ATTEND_TRY(load_per_head(f->sinks, pool, &args->sinks));
    p->left_padded = f->starts_k != NULL;
    p->head_scales = f->head_scales != NULL;
    p->sinks = args->sinks.data != NULL;
    return ATTEND_OK;
}
