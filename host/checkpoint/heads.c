/* The number of heads of a layer: config.json or the caller give that of Q, tensor shapes the rest. */
#include "checkpoint/work.h"

#include <inttypes.h>
#include <string.h>

/* Rows and columns of the projections as [out, in]. If fused, q is the sum and k and v are 0. */
typedef struct extents {
    int64_t q, k, v, in;
    int64_t out_rows, out_in;
} extents;

static attend_status matrix_shape(attend_work *w, attend_slot slot, int64_t *rows, int64_t *columns)
{
    const attend_safetensors_entry *entry;
    ATTEND_TRY(attend_entry(w, slot, &entry));
    if (entry->rank != 2 || entry->shape[0] < 1 || entry->shape[1] < 1)
        return attend_file_fail(ATTEND_BAD_FILE, "%s: %s is not a matrix", w->checkpoint->shards.path,
                                entry->name);
    *rows = entry->shape[w->layer.conv1d ? 1 : 0];
    *columns = entry->shape[w->layer.conv1d ? 0 : 1];
    return ATTEND_OK;
}

static attend_status read_extents(attend_work *w, extents *e)
{
    int64_t k_in = 0, v_in = 0;
    memset(e, 0, sizeof *e);
    ATTEND_TRY(matrix_shape(w, ATTEND_OUT, &e->out_rows, &e->out_in));
    if (w->tensors[ATTEND_FUSED]) return matrix_shape(w, ATTEND_FUSED, &e->q, &e->in);
    ATTEND_TRY(matrix_shape(w, ATTEND_Q, &e->q, &e->in));
    ATTEND_TRY(matrix_shape(w, ATTEND_K, &e->k, &k_in));
    ATTEND_TRY(matrix_shape(w, ATTEND_V, &e->v, &v_in));
    if (k_in == e->in && v_in == e->in) return ATTEND_OK;
    return attend_file_fail(ATTEND_UNSUPPORTED,
                            "%s: Q, K and V of %s take inputs of %" PRId64 ", %" PRId64 " and %" PRId64
                            " columns: cross-attention, which is not supported",
                            w->checkpoint->shards.path, w->found->prefix, e->in, k_in, v_in);
}

/* Splits a fused matrix: K and V have the rows that are left beside those of Q. */
static attend_status split_fused(attend_work *w, int64_t head_dim, extents *e)
{
    int64_t rows = e->q, heads = w->layer.problem.num_heads;
    int64_t dim = head_dim ? head_dim : e->out_in % heads ? 0 : e->out_in / heads;
    int64_t left = dim ? rows - heads * dim : 0, blocks = w->found->naming->blocks;
    if (dim < 1 || left < 2 * dim || left % (2 * dim) ||
        (blocks > 1 && (heads % blocks || left / (2 * dim) % blocks)))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s: %" PRId64 " fused rows do not divide into Q, K and V of %" PRId64
                                " heads",
                                w->checkpoint->shards.path, rows, heads);
    e->q = heads * dim, e->k = e->v = left / 2;
    return ATTEND_OK;
}

static attend_status divide(const attend_work *w, const char *name, int64_t rows, int64_t heads, int64_t *dim)
{
    *dim = rows / heads;
    if (*dim > 0 && rows % heads == 0) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                            "%s: the %" PRId64 " rows of %s do not divide into %" PRId64 " heads",
                            w->checkpoint->shards.path, rows, name, heads);
}

/* The number of query heads in the config. If encoder and decoder have different keys, the layer's own key is
   used: the other number might divide the rows too, and give a wrong result. */
static attend_status read_heads(attend_work *w, int64_t *heads)
{
    static const char *const any[] = {"num_attention_heads", "n_head",          "n_heads",
                                      "num_heads",           "attention_heads", NULL};
    static const char *const encoder[] = {"encoder_attention_heads", NULL};
    static const char *const decoder[] = {"decoder_attention_heads", "decoder_num_attention_heads", NULL};
    const char *own = w->row ? w->row->decoder_heads : NULL;
    int64_t of_encoder, of_decoder;
    ATTEND_TRY(attend_key_count(w, encoder, &of_encoder));
    ATTEND_TRY(attend_key_count(w, decoder, &of_decoder));
    const bool in_decoder = strstr(w->found->prefix, "decoder") != NULL;
    const bool in_encoder = !in_decoder && strstr(w->found->prefix, "encoder");
    *heads = in_decoder ? of_decoder : in_encoder ? of_encoder : 0;
    if (*heads || w->options.num_heads) return ATTEND_OK;
    if (own && in_decoder)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has no %s, which %s needs; give --heads",
                                w->checkpoint->config_path, own, w->found->prefix);
    ATTEND_TRY(attend_key_count(w, any, heads));
    if (!*heads && !in_decoder && !in_encoder && (of_encoder == of_decoder || !of_encoder || !of_decoder))
        *heads = of_encoder ? of_encoder : of_decoder;
    return ATTEND_OK;
}

attend_status attend_decide_heads(attend_work *w)
{
    static const char *const kv_keys[] = {"num_key_value_heads", NULL};
    static const char *const dim_keys[] = {"head_dim", "d_kv", "attention_head_dim", NULL};
    const char *path = w->checkpoint->shards.path, *config = w->checkpoint->config_path;
    attend_problem *p = &w->layer.problem;
    const bool given = w->options.num_heads != 0;
    int64_t kv_heads, head_dim;
    extents e;
    ATTEND_TRY(read_extents(w, &e));
    ATTEND_TRY(read_heads(w, &p->num_heads));
    ATTEND_TRY(attend_key_count(w, kv_keys, &kv_heads));
    ATTEND_TRY(attend_key_count(w, dim_keys, &head_dim));
    if (given) p->num_heads = w->options.num_heads, head_dim = 0;
    const bool configured = p->num_heads != 0;
    if (!configured && w->row) p->num_heads = w->row->heads;
    if (p->num_heads == 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s does not say how many heads it has, and %s %s: give --heads", path,
                                config, w->config ? "does not either" : "is missing");
    if (w->tensors[ATTEND_FUSED]) ATTEND_TRY(split_fused(w, head_dim, &e));
    ATTEND_TRY(divide(w, "Q", e.q, p->num_heads, &p->head_dim));
    ATTEND_TRY(divide(w, "K", e.k, p->head_dim, &p->num_kv_heads));
    ATTEND_TRY(divide(w, "V", e.v, p->num_kv_heads, &p->head_dim_v));
    int64_t wanted = w->options.num_kv_heads             ? w->options.num_kv_heads
                     : given || w->tensors[ATTEND_FUSED] ? 0
                                                         : kv_heads;
    if (wanted && wanted != p->num_kv_heads)
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "%s has %" PRId64 " rows of K, %" PRId64 " heads of %" PRId64 ", but %s says %" PRId64, path, e.k,
            p->num_kv_heads, p->head_dim, w->options.num_kv_heads ? "--kv-heads" : "config.json", wanted);
    if (head_dim && head_dim != p->head_dim)
        return attend_file_fail(ATTEND_BAD_FILE, "%s has heads of %" PRId64 ", but %s says head_dim %" PRId64,
                                path, p->head_dim, config, head_dim);
    if (e.out_in != p->num_heads * p->head_dim_v)
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s: the output projection takes %" PRId64 " columns, but %" PRId64
                                " heads give %" PRId64,
                                path, e.out_in, p->num_heads, p->num_heads * p->head_dim_v);
    if (p->num_heads % p->num_kv_heads)
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s: %" PRId64 " heads of Q are not a multiple of %" PRId64 " of K", path,
                                p->num_heads, p->num_kv_heads);
    p->hidden_size = e.in, p->output_size = e.out_rows;
    return attend_note(w, "heads", "%" PRId64 "%s, %s", p->num_heads,
                       p->num_heads == p->num_kv_heads ? "" : " in groups",
                       given        ? "from --heads"
                       : configured ? "from config.json"
                                    : "the default of the model's type");
}
