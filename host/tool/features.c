/* Masks, lengths, biases and other features of a problem, as the library wants them announced. */
#include "features.h"
#include "file/fail.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void features_set(const options *o, attend_problem *p)
{
    const feature_options *f = &o->features;
    p->align_bottom_right = f->align_bottom_right || p->causal == ATTEND_CAUSAL_BOTTOM_RIGHT;
    if (f->windowed) p->windowed = true, p->window_left = f->window_left, p->window_right = f->window_right;
    p->chunk = f->chunk, p->prefix = f->prefix;
    if (f->softcap > 0) p->softcap = f->softcap;
    p->alibi = f->alibi;
}

static attend_status load_lengths(const char *path, pool *pool, int64_t batch, const int64_t **lengths)
{
    attend_array array;
    void *memory = NULL;
    if (!path) return ATTEND_OK;
    ATTEND_TRY(array_load(path, &array));
    bool integers = array.type == ATTEND_ARRAY_I32 || array.type == ATTEND_ARRAY_I64;
    attend_status status = ATTEND_OK;
    if (!integers || array.rank != 1 || array.shape[0] != batch)
        status = attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                  "%s: expected %" PRId64 " integers (int32 or int64), one a batch entry", path, batch);
    if (status == ATTEND_OK) status = attend_memory_allocate(path, batch * (int64_t)sizeof(int64_t), &memory);
    if (status == ATTEND_OK) status = pool_keep(pool, memory);
    for (int64_t i = 0; status == ATTEND_OK && i < batch; i++)
        ((int64_t *)memory)[i] = array.type == ATTEND_ARRAY_I32 ? ((int32_t *)array.data)[i] : ((int64_t *)array.data)[i];
    if (status == ATTEND_OK) *lengths = memory;
    attend_array_free(&array);
    return status;
}

static attend_status load_per_head(const char *path, pool *pool, attend_tensor *tensor)
{
    attend_array array;
    if (!path) return ATTEND_OK;
    ATTEND_TRY(array_load(path, &array));
    return array_to_tensor(pool, path, &array, ATTEND_F32, tensor);
}

/* Loads [batch, heads, queries, keys], where leading axes may be missing and any may be 1; *axes are those that vary. */
static attend_status load_scores(const char *path, pool *pool, const attend_problem *p, bool mask, attend_tensor *tensor,
                                 int *axes)
{
    const int64_t full[] = {p->batch, p->num_heads, p->seqlen_q, p->seqlen_k};
    attend_array array;
    if (!path) return ATTEND_OK;
    ATTEND_TRY(array_load(path, &array));
    attend_status status = ATTEND_OK;
    if (array.rank > 4)
        status =
            attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has %d axes, expected [batch, heads, queries, keys]", path, array.rank);
    if (status == ATTEND_OK && mask && array.type != ATTEND_ARRAY_U8)
        status = attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is a mask of another type than bool or uint8", path);
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
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s holds one value for all scores", path);
}

attend_status features_load(const options *o, pool *pool, attend_problem *p, attend_attention_args *args)
{
    const feature_options *f = &o->features;
    ATTEND_TRY(load_lengths(o->seqlens_k, pool, p->batch, &args->seqlens_k));
    ATTEND_TRY(load_lengths(f->seqlens_q, pool, p->batch, &args->seqlens_q));
    ATTEND_TRY(load_lengths(f->starts_k, pool, p->batch, &args->starts_k));
    ATTEND_TRY(load_scores(f->mask, pool, p, true, &args->mask, &p->mask_axes));
    ATTEND_TRY(load_scores(f->bias, pool, p, false, &args->bias, &p->bias_axes));
    ATTEND_TRY(load_per_head(f->alibi_slopes, pool, &args->alibi_slopes));
    ATTEND_TRY(load_per_head(f->head_scales, pool, &args->head_scales));
    ATTEND_TRY(load_per_head(f->sinks, pool, &args->sinks));
    p->left_padded = f->starts_k != NULL;
    p->head_scales = f->head_scales != NULL;
    p->sinks = args->sinks.data != NULL;
    return ATTEND_OK;
}

void features_copy(const attend_attention_args *from, attend_layer_args *to)
{
    to->seqlens_q = from->seqlens_q, to->seqlens_k = from->seqlens_k, to->starts_k = from->starts_k;
    to->mask = from->mask, to->bias = from->bias, to->alibi_slopes = from->alibi_slopes;
    to->head_scales = from->head_scales, to->sinks = from->sinks;
}
