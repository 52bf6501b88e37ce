/* Turns found tensors into a layer: shapes tell the dims, config.json or the command line the number of
 * heads. */
#include "weights.h"
#include "features.h"
#include "file/fail.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Rows of Q's, K's and V's parts, [out, in] in the sense of the library. */
typedef struct extents {
    int64_t q, k, v, in; /* of the projections; fused: q is the sum, k and v are 0 */
    int64_t out_rows, out_in;
} extents;

static attend_status matrix_shape(const attend_safetensors *file, const found_layer *found, const char *suffix, int64_t *rows,
                                  int64_t *columns)
{
    const attend_safetensors_entry *entry = layout_entry(file, found->prefix, suffix);
    if (entry->rank != 2 || entry->shape[0] < 1 || entry->shape[1] < 1)
        return attend_file_fail(ATTEND_BAD_FILE, "%s: %s is not a matrix", file->input.path, entry->name);
    *rows = entry->shape[found->naming->conv1d ? 1 : 0];
    *columns = entry->shape[found->naming->conv1d ? 0 : 1];
    return ATTEND_OK;
}

static attend_status read_extents(const attend_safetensors *file, const found_layer *found, extents *e)
{
    const naming *n = found->naming;
    int64_t k_in = 0, v_in = 0;
    memset(e, 0, sizeof *e);
    ATTEND_TRY(matrix_shape(file, found, n->out, &e->out_rows, &e->out_in));
    if (n->fused) return matrix_shape(file, found, n->fused, &e->q, &e->in);
    ATTEND_TRY(matrix_shape(file, found, n->q, &e->q, &e->in));
    ATTEND_TRY(matrix_shape(file, found, n->k, &e->k, &k_in));
    ATTEND_TRY(matrix_shape(file, found, n->v, &e->v, &v_in));
    if (k_in == e->in && v_in == e->in) return ATTEND_OK;
    return attend_file_fail(ATTEND_UNSUPPORTED,
                            "%s: Q, K and V of %s take inputs of %" PRId64 ", %" PRId64 " and %" PRId64
                            " columns: cross-attention, which attend run does not do",
                            file->input.path, found->prefix, e->in, k_in, v_in);
}

/* Heads of K and V in a fused matrix of `rows` rows: as many as of Q, or what is left beside them. */
static attend_status split_fused(const char *path, const layer *layer, attend_problem *p, extents *e)
{
    int64_t rows = e->q, heads = p->num_heads;
    int64_t dim = layer->config.head_dim ? layer->config.head_dim : e->out_in % heads ? 0 : e->out_in / heads;
    int64_t left = dim ? rows - heads * dim : 0;
    if (dim < 1 || left < 2 * dim || left % (2 * dim))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s: %" PRId64 " fused rows do not divide into Q, K and V of %" PRId64 " heads", path, rows,
                                heads);
    e->q = heads * dim, e->k = e->v = left / 2;
    return ATTEND_OK;
}

static attend_status divide(const char *path, const char *name, int64_t rows, int64_t heads, int64_t *dim)
{
    *dim = rows / heads;
    if (rows % heads == 0) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s: the %" PRId64 " rows of %s do not divide into %" PRId64 " heads", path,
                            rows, name, heads);
}

static attend_status count_heads(const char *path, const options *o, layer *layer, extents *e)
{
    const model_config *c = &layer->config;
    attend_problem *p = &layer->problem;
    bool from_config = o->heads == 0;
    p->num_heads = from_config ? c->heads : o->heads;
    layer->heads_by = from_config ? "config.json" : "--heads";
    if (p->num_heads == 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s does not say how many heads it has, and %s %s: give --heads", path,
                                c->path, c->found ? "does not either" : "is not there");
    if (layer->found.naming->fused) ATTEND_TRY(split_fused(path, layer, p, e));
    ATTEND_TRY(divide(path, "Q", e->q, p->num_heads, &p->head_dim));
    ATTEND_TRY(divide(path, "K", e->k, p->head_dim, &p->num_kv_heads));
    ATTEND_TRY(divide(path, "V", e->v, p->num_kv_heads, &p->head_dim_v));
    int64_t wanted = o->kv_heads ? o->kv_heads : from_config ? c->kv_heads : 0;
    if (wanted && wanted != p->num_kv_heads)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s has %" PRId64 " rows of K, %" PRId64 " heads of %" PRId64 ", but %s says %" PRId64, path,
                                e->k, p->num_kv_heads, p->head_dim, o->kv_heads ? "--kv-heads" : "config.json", wanted);
    if (from_config && c->head_dim && c->head_dim != p->head_dim)
        return attend_file_fail(ATTEND_BAD_FILE, "%s has heads of %" PRId64 ", but %s says head_dim %" PRId64, path, p->head_dim,
                                c->path, c->head_dim);
    if (e->out_in != p->num_heads * p->head_dim_v)
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s: the output projection takes %" PRId64 " columns, but %" PRId64 " heads give %" PRId64, path,
                                e->out_in, p->num_heads, p->num_heads * p->head_dim_v);
    p->hidden_size = e->in, p->output_size = e->out_rows;
    return ATTEND_OK;
}

/* The rotary embedding: the command line's, else the config's; a warning where the names alone suggest one. */
static attend_status set_rotary(const char *path, const options *o, layer *layer)
{
    const turn_options *given = &o->turn, *t = given->choice == ROTARY_GIVEN ? given : &layer->config.turn;
    attend_problem *p = &layer->problem;
    const bool placed = given->first_position || o->features.positions;
    const bool parameters = given->dim || given->base != 0 || given->scaling || (placed && !p->absolute);
    if (given->choice != ROTARY_GIVEN && t->choice == ROTARY_GIVEN && t->refused && given->choice != ROTARY_NO)
        return attend_file_fail(
            ATTEND_UNSUPPORTED,
            "%s asks for a rotary embedding with %s, which attend run does not know; --rotary halves with its "
            "parameters, or --rotary none, say what to do instead",
            layer->config.path, t->refused);
    if (given->choice == ROTARY_NO || t->choice != ROTARY_GIVEN) {
        layer->rotary_missing = layer->found.naming->rotary || layer->config.turn.choice == ROTARY_GIVEN;
        if (!parameters) return ATTEND_OK;
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "%s: parameters or positions of a rotary embedding are given, but none is asked for; --rotary halves or "
            "interleaved does",
            path);
    }
    layer->rotary_by = t == given ? "--rotary" : "config.json";
    features_set_rotary(given, t, p);
    return ATTEND_OK;
}

/* Norms of Q and K by the names of their weights: an RMS norm, or a layer norm. */
static attend_status set_norms(const attend_safetensors *file, const options *o, layer *layer)
{
    attend_problem *p = &layer->problem;
    const char *prefix = layer->found.prefix;
    layer->rms_norm = layout_entry(file, prefix, "self_attn.q_norm.weight") != NULL;
    layer->layer_norm = layout_entry(file, prefix, "self_attn.q_layernorm.weight") != NULL;
    p->qk_norm = o->turn.norm_given  ? o->turn.norm
                 : layer->rms_norm   ? ATTEND_QK_NORM_RMS
                 : layer->layer_norm ? ATTEND_QK_NORM_LAYER
                                     : ATTEND_QK_NORM_NONE;
    p->qk_norm_epsilon = o->turn.norm_epsilon != 0 ? o->turn.norm_epsilon : layer->config.turn.norm_epsilon;
    if ((layer->rms_norm || layer->layer_norm) && layer->config.gemma && !o->turn.norm_given)
        return attend_file_fail(ATTEND_UNSUPPORTED,
                                "%s: Gemma's norms of Q and K multiply by 1 + weight, which attend run does not do; --qk-norm "
                                "none runs the layer without",
                                file->input.path);
    return ATTEND_OK;
}

attend_status layer_find(const attend_safetensors *file, const options *options, layer *layer)
{
    extents e;
    memset(layer, 0, sizeof *layer);
    ATTEND_TRY(layout_find(file, options, &layer->found));
    ATTEND_TRY(layout_check_extras(file, &layer->found));
    ATTEND_TRY(config_load(options->weights, layer->found.layer, &layer->config));
    ATTEND_TRY(read_extents(file, &layer->found, &e));
    const naming *n = layer->found.naming;
    snprintf(layer->stored, sizeof layer->stored, "%s",
             layout_entry(file, layer->found.prefix, n->fused ? n->fused : n->q)->dtype);
    layer->problem.softmax_scale = layer->config.scale;
    layer->problem.softcap = layer->config.softcap;
    ATTEND_TRY(count_heads(file->input.path, options, layer, &e));
    ATTEND_TRY(set_norms(file, options, layer));
    layer->problem.absolute = options->features.position_table ? ATTEND_ABSOLUTE_LEARNED : options->turn.absolute;
    layer->problem.absolute_base = options->turn.absolute_base;
    layer->problem.first_position = options->turn.first_position;
    return set_rotary(file->input.path, options, layer);
}

/* Reads one tensor of the layer; absent where there is none of that name. */
static attend_status load(const attend_safetensors *file, const found_layer *found, const char *suffix, attend_dtype dtype,
                          pool *pool, attend_tensor *tensor)
{
    char path[1024];
    attend_array array;
    const attend_safetensors_entry *entry = layout_entry(file, found->prefix, suffix);
    if (!entry) return ATTEND_OK;
    snprintf(path, sizeof path, "%s: %s", file->input.path, entry->name);
    ATTEND_TRY(attend_safetensors_read(file, entry, &array));
    return array_to_tensor(pool, path, &array, dtype, tensor);
}

/* A matrix as the library multiplies by it: [out, in], by columns where the file has it the other way round.
 */
static attend_status load_matrix(const attend_safetensors *file, const found_layer *found, const char *suffix, attend_dtype dtype,
                                 pool *pool, attend_tensor *tensor)
{
    ATTEND_TRY(load(file, found, suffix, dtype, pool, tensor));
    int64_t rows = tensor->shape[0], columns = tensor->shape[1];
    tensor->stride[0] = columns, tensor->stride[1] = 1;
    if (!found->naming->conv1d) return ATTEND_OK;
    tensor->shape[0] = columns, tensor->shape[1] = rows;
    tensor->stride[0] = 1, tensor->stride[1] = columns;
    return ATTEND_OK;
}

static attend_status load_bias(const attend_safetensors *file, const found_layer *found, const char *weight, attend_dtype dtype,
                               pool *pool, int64_t rows, attend_tensor *tensor)
{
    char name[128];
    size_t stem = strlen(weight) - strlen("weight");
    snprintf(name, sizeof name, "%.*sbias", (int)stem, weight);
    ATTEND_TRY(load(file, found, name, dtype, pool, tensor));
    if (!tensor->data || (tensor->rank == 1 && tensor->shape[0] == rows)) return ATTEND_OK;
    return attend_file_fail(ATTEND_BAD_FILE, "%s: %s%s is not a vector of %" PRId64, file->input.path, found->prefix, name, rows);
}

/* `count` rows of a matrix or elements of a vector, after the first `skip`; absent stays absent. */
static attend_tensor part(const attend_tensor *whole, int64_t skip, int64_t count)
{
    attend_tensor t = *whole;
    int64_t step = t.rank == 2 ? t.stride[0] : 1;
    if (!t.data) return t;
    t.data = (char *)t.data + (size_t)(skip * step) * attend_dtype_bytes(t.dtype);
    t.shape[0] = count;
    return t;
}

/* The norms' weights, each [head_dim]: one shape for all heads. */
static attend_status load_norms(const attend_safetensors *file, attend_dtype dtype, pool *pool, layer *layer)
{
    static const char *const rms[] = {"self_attn.q_norm.weight", "self_attn.k_norm.weight", "self_attn.q_norm.bias",
                                      "self_attn.k_norm.bias"};
    static const char *const layer_norm[] = {"self_attn.q_layernorm.weight", "self_attn.k_layernorm.weight",
                                             "self_attn.q_layernorm.bias", "self_attn.k_layernorm.bias"};
    attend_layer_weights *w = &layer->weights;
    attend_tensor *const tensors[] = {&w->q_norm, &w->k_norm, &w->q_norm_bias, &w->k_norm_bias};
    const attend_problem *p = &layer->problem;
    for (int i = 0; i < 4 && p->qk_norm; i++) {
        const char *name = layer->rms_norm ? rms[i] : layer_norm[i];
        if (i >= 2 && p->qk_norm != ATTEND_QK_NORM_LAYER) break;
        ATTEND_TRY(load(file, &layer->found, name, dtype, pool, tensors[i]));
        if (tensors[i]->data && (tensors[i]->rank != 1 || tensors[i]->shape[0] != p->head_dim))
            return attend_file_fail(ATTEND_UNSUPPORTED,
                                    "%s: %s%s is not a vector of head_dim (%" PRId64 ") elements, the norm that attend run knows",
                                    file->input.path, layer->found.prefix, name, p->head_dim);
    }
    return ATTEND_OK;
}

attend_status layer_load_table(const char *path, pool *pool, attend_problem *p, layer *layer)
{
    attend_array array;
    if (!path) return ATTEND_OK;
    ATTEND_TRY(array_load(path, &array));
    ATTEND_TRY(array_to_tensor(pool, path, &array, p->dtype, &layer->weights.position_table));
    const attend_tensor *t = &layer->weights.position_table;
    if (t->rank != 2 || t->shape[0] < 1 || t->shape[1] != p->hidden_size)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s: expected a table [positions, %" PRId64 "], as wide as the layer's input", path,
                                p->hidden_size);
    p->max_positions = t->shape[0];
    return ATTEND_OK;
}

attend_status layer_load(const attend_safetensors *file, attend_dtype dtype, pool *pool, layer *layer)
{
    const found_layer *found = &layer->found;
    const naming *n = found->naming;
    const attend_problem *p = &layer->problem;
    attend_layer_weights *w = &layer->weights;
    int64_t q = p->num_heads * p->head_dim, k = p->num_kv_heads * p->head_dim, v = p->num_kv_heads * p->head_dim_v;
    attend_tensor fused = {0}, bias = {0};
    if (n->fused) {
        ATTEND_TRY(load_matrix(file, found, n->fused, dtype, pool, &fused));
        w->wq = part(&fused, 0, q), w->wk = part(&fused, q, k), w->wv = part(&fused, q + k, v);
    } else {
        ATTEND_TRY(load_matrix(file, found, n->q, dtype, pool, &w->wq));
        ATTEND_TRY(load_matrix(file, found, n->k, dtype, pool, &w->wk));
        ATTEND_TRY(load_matrix(file, found, n->v, dtype, pool, &w->wv));
    }
    if (n->fused || n->fused_bias) {
        ATTEND_TRY(load_bias(file, found, n->fused ? n->fused : n->fused_bias, dtype, pool, q + k + v, &bias));
        w->bq = part(&bias, 0, q), w->bk = part(&bias, q, k), w->bv = part(&bias, q + k, v);
    } else {
        ATTEND_TRY(load_bias(file, found, n->q, dtype, pool, q, &w->bq));
        ATTEND_TRY(load_bias(file, found, n->k, dtype, pool, k, &w->bk));
        ATTEND_TRY(load_bias(file, found, n->v, dtype, pool, v, &w->bv));
    }
    ATTEND_TRY(load_norms(file, dtype, pool, layer));
    ATTEND_TRY(load(file, found, "self_attn.sinks", ATTEND_F32, pool, &layer->sinks));
    ATTEND_TRY(load_matrix(file, found, n->out, dtype, pool, &w->wo));
    return load_bias(file, found, n->out, dtype, pool, p->output_size, &w->bo);
}
