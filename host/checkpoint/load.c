/* Reads and converts the weights of a layer, as tensors for attend_layer_weights. */
#include "checkpoint/work.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static attend_status keep(attend_work *w, void *block)
{
    if (w->block_count < ATTEND_MAX_BLOCKS) return w->blocks[w->block_count++] = block, ATTEND_OK;
    free(block);
    return attend_file_fail(ATTEND_OUT_OF_MEMORY, "too many tensors");
}

/* Reads one tensor of rank 1 or 2 and sets its strides; data is NULL if the layer does not have it. */
static attend_status load(attend_work *w, attend_slot slot, attend_dtype dtype, attend_tensor *tensor)
{
    const attend_safetensors *file;
    const attend_safetensors_entry *entry;
    attend_array array;
    char path[1024];
    if (!w->tensors[slot]) return ATTEND_OK;
    ATTEND_TRY(attend_shards_find(&w->checkpoint->shards, w->tensors[slot], &file, &entry));
    snprintf(path, sizeof path, "%s: %s", file->input.path, entry->name);
    ATTEND_TRY(attend_safetensors_read(file, entry, &array));
    attend_status status = attend_array_convert(path, &array, dtype);
    if (status == ATTEND_OK && (array.rank < 1 || array.rank > 2))
        status = attend_file_fail(ATTEND_BAD_FILE, "%s has %d axes, expected 1 or 2", path, array.rank);
    if (status != ATTEND_OK) {
        attend_array_free(&array);
        return status;
    }
    *tensor = (attend_tensor){
        .data = array.data, .dtype = dtype, .rank = array.rank, .shape = {array.shape[0], array.shape[1]}};
    tensor->stride[0] = array.rank == 2 ? array.shape[1] : 1, tensor->stride[1] = 1;
    if (array.rank == 1) tensor->shape[1] = tensor->stride[1] = 0;
    return keep(w, array.data);
}

/* Reads a matrix as [out, in]; column-major if the file stores [in, out]. */
static attend_status load_matrix(attend_work *w, attend_slot slot, attend_dtype dtype, attend_tensor *tensor)
{
    ATTEND_TRY(load(w, slot, dtype, tensor));
    const int64_t rows = tensor->shape[0], columns = tensor->shape[1];
    if (!w->layer.conv1d) return ATTEND_OK;
    tensor->shape[0] = columns, tensor->shape[1] = rows;
    tensor->stride[0] = 1, tensor->stride[1] = columns;
    return ATTEND_OK;
}

static attend_status load_vector(attend_work *w, attend_slot slot, attend_dtype dtype, int64_t count,
                                 attend_tensor *tensor)
{
    ATTEND_TRY(load(w, slot, dtype, tensor));
    if (!tensor->data || (tensor->rank == 1 && tensor->shape[0] == count)) return ATTEND_OK;
    return attend_file_fail(ATTEND_BAD_FILE, "%s: %s is not a vector of %" PRId64, w->checkpoint->shards.path,
                            w->tensors[slot], count);
}

/* `count` rows of a matrix or elements of a vector, after the first `skip`. An absent tensor stays absent. */
static attend_tensor part(const attend_tensor *whole, int64_t skip, int64_t count)
{
    attend_tensor t = *whole;
    if (!t.data) return t;
    t.data = (char *)t.data + (size_t)(skip * t.stride[0]) * attend_dtype_bytes(t.dtype);
    t.shape[0] = count;
    return t;
}

/* Copies the rows of Q, K or V out of a fused matrix whose blocks hold rows of each: `per` rows after the
   first `skip` of every block. */
static attend_status gather(attend_work *w, const attend_tensor *fused, int64_t blocks, int64_t skip,
                            int64_t per, attend_tensor *to)
{
    const int64_t bytes = fused->stride[0] * (int64_t)attend_dtype_bytes(fused->dtype),
                  block = fused->shape[0] / blocks;
    if (!fused->data) return ATTEND_OK;
    *to = *fused, to->shape[0] = blocks * per;
    ATTEND_TRY(attend_memory_allocate(w->layer.input_tensor, to->shape[0] * bytes, &to->data));
    for (int64_t b = 0; b < blocks; b++)
        memcpy((char *)to->data + b * per * bytes, (const char *)fused->data + (b * block + skip) * bytes,
               (size_t)(per * bytes));
    return keep(w, to->data);
}

static attend_status split(attend_work *w, const attend_tensor *fused, attend_tensor *q, attend_tensor *k,
                           attend_tensor *v)
{
    const attend_naming *n = w->found->naming;
    const attend_problem *p = &w->layer.problem;
    const int64_t blocks = n->blocks ? n->blocks : p->num_kv_heads;
    const int64_t rows[] = {p->num_heads * p->head_dim / blocks, p->num_kv_heads * p->head_dim / blocks,
                            p->num_kv_heads * p->head_dim_v / blocks};
    const int64_t k_at = rows[0] + (n->v_before_k ? rows[2] : 0),
                  v_at = rows[0] + (n->v_before_k ? 0 : rows[1]);
    if (blocks == 1) {
        *q = part(fused, 0, rows[0]), *k = part(fused, k_at, rows[1]), *v = part(fused, v_at, rows[2]);
        return ATTEND_OK;
    }
    ATTEND_TRY(gather(w, fused, blocks, 0, rows[0], q));
    ATTEND_TRY(gather(w, fused, blocks, k_at, rows[1], k));
    return gather(w, fused, blocks, v_at, rows[2], v);
}

static attend_status load_projections(attend_work *w, attend_dtype dtype)
{
    const attend_problem *p = &w->layer.problem;
    attend_layer_weights *to = &w->layer.weights;
    const int64_t q = p->num_heads * p->head_dim, k = p->num_kv_heads * p->head_dim,
                  v = p->num_kv_heads * p->head_dim_v;
    attend_tensor fused = {0}, bias = {0};
    ATTEND_TRY(load_matrix(w, ATTEND_FUSED, dtype, &fused));
    ATTEND_TRY(load_vector(w, ATTEND_FUSED_BIAS, dtype, q + k + v, &bias));
    if (fused.data) ATTEND_TRY(split(w, &fused, &to->wq, &to->wk, &to->wv));
    if (bias.data) ATTEND_TRY(split(w, &bias, &to->bq, &to->bk, &to->bv));
    if (!fused.data) {
        ATTEND_TRY(load_matrix(w, ATTEND_Q, dtype, &to->wq));
        ATTEND_TRY(load_matrix(w, ATTEND_K, dtype, &to->wk));
        ATTEND_TRY(load_matrix(w, ATTEND_V, dtype, &to->wv));
    }
    if (w->tensors[ATTEND_Q_BIAS]) ATTEND_TRY(load_vector(w, ATTEND_Q_BIAS, dtype, q, &to->bq));
    if (w->tensors[ATTEND_K_BIAS]) ATTEND_TRY(load_vector(w, ATTEND_K_BIAS, dtype, k, &to->bk));
    if (w->tensors[ATTEND_V_BIAS]) ATTEND_TRY(load_vector(w, ATTEND_V_BIAS, dtype, v, &to->bv));
    ATTEND_TRY(load_matrix(w, ATTEND_OUT, dtype, &to->wo));
    return load_vector(w, ATTEND_OUT_BIAS, dtype, p->output_size, &to->bo);
}

/* Norms of models that multiply by 1 + weight get 1 + weight as their weight. */
static attend_status load_norm(attend_work *w, attend_slot slot, attend_dtype dtype, attend_tensor *tensor)
{
    const bool one = w->norm == ATTEND_NORM_RMS_ONE;
    ATTEND_TRY(load_vector(w, slot, one ? ATTEND_F32 : dtype, w->layer.problem.head_dim, tensor));
    if (!one || !tensor->data) return ATTEND_OK;
    for (int64_t i = 0; i < tensor->shape[0]; i++) /* in place: no dtype is wider than fp32 */
        attend_array_store(tensor->data, dtype, i, 1 + ((float *)tensor->data)[i]);
    tensor->dtype = dtype;
    return ATTEND_OK;
}

static attend_status load_norms(attend_work *w, attend_dtype dtype)
{
    attend_layer_weights *to = &w->layer.weights;
    const attend_qk_norm norm = w->layer.problem.qk_norm;
    if (!norm) return ATTEND_OK;
    ATTEND_TRY(load_norm(w, ATTEND_Q_NORM, dtype, &to->q_norm));
    ATTEND_TRY(load_norm(w, ATTEND_K_NORM, dtype, &to->k_norm));
    if (norm != ATTEND_QK_NORM_LAYER) return ATTEND_OK;
    ATTEND_TRY(load_vector(w, ATTEND_Q_NORM_BIAS, dtype, w->layer.problem.head_dim, &to->q_norm_bias));
    return load_vector(w, ATTEND_K_NORM_BIAS, dtype, w->layer.problem.head_dim, &to->k_norm_bias);
}

/* ALiBi's slopes divided by sqrt(head_dim), with the roundings of the models that do so. */
static attend_status make_slopes(attend_work *w)
{
    const attend_problem *p = &w->layer.problem;
    attend_tensor *t = &w->layer.alibi_slopes;
    if (!w->alibi_scaled) return ATTEND_OK;
    *t = attend_tensor_1d(NULL, ATTEND_F32, p->num_heads);
    ATTEND_TRY(attend_memory_allocate("slopes", p->num_heads * 4, &t->data));
    int64_t power = 1;
    while (2 * power <= p->num_heads) power *= 2;
    for (int64_t h = 0; h < p->num_heads; h++) {
        const double exponent = h < power ? 8.0 * (double)(h + 1) / (double)power
                                          : 4.0 * (double)(2 * (h - power) + 1) / (double)power;
        uint16_t rounded;
        attend_array_store(&rounded, ATTEND_BF16, 0, (float)exp2(-exponent));
        ((float *)t->data)[h] = attend_array_load(&rounded, ATTEND_BF16, 0) / sqrtf((float)p->head_dim);
    }
    return keep(w, t->data);
}

static attend_status load_all(attend_work *w, attend_dtype dtype)
{
    attend_problem *p = &w->layer.problem;
    ATTEND_TRY(load_projections(w, dtype));
    ATTEND_TRY(load_norms(w, dtype));
    if (p->sinks && !attend_overridden(w, ATTEND_OVERRIDE_SINKS))
        ATTEND_TRY(load_vector(w, ATTEND_SINKS, ATTEND_F32, p->num_heads, &w->layer.sinks));
    ATTEND_TRY(make_slopes(w));
    if (p->relative_buckets && !attend_overridden(w, ATTEND_OVERRIDE_RELATIVE))
        ATTEND_TRY(load(w, ATTEND_TABLE, ATTEND_F32, &w->layer.relative_table));
    attend_tensor *t = &w->layer.relative_table;
    if (t->data)
        t->shape[0] = p->num_heads, t->shape[1] = p->relative_buckets, t->stride[0] = 1,
        t->stride[1] = p->num_heads; /* stored transposed */
    p->dtype = dtype;
    return ATTEND_OK;
}

attend_status attend_checkpoint_load(attend_checkpoint_layer *layer, attend_dtype dtype)
{
    attend_work *w = (attend_work *)layer; /* its first member */
    if (dtype != ATTEND_F32 && dtype != ATTEND_F16 && dtype != ATTEND_BF16)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "dtype is %d, expected f32, f16 or bf16",
                                (int)dtype);
    if (w->block_count)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "the layer's weights are loaded already");
    return load_all(w, dtype);
}
