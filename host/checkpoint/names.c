/* Recognises layers by the names of their tensors. Each layout of names is a row of the table. */
#include "checkpoint/names.h"
#include "file/fail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const attend_naming namings[] = {
    {.layout = "bert",
     .title = "BERT",
     .q = "attention.self.query.weight",
     .k = "attention.self.key.weight",
     .v = "attention.self.value.weight",
     .out = "attention.output.dense.weight"},
    {.layout = "bert",
     .title = "DistilBERT",
     .q = "attention.q_lin.weight",
     .k = "attention.k_lin.weight",
     .v = "attention.v_lin.weight",
     .out = "attention.out_lin.weight"},
    {.layout = "bert",
     .title = "ViT",
     .q = "attention.attention.query.weight",
     .k = "attention.attention.key.weight",
     .v = "attention.attention.value.weight",
     .q_bias = "attention.attention.q_bias",
     .v_bias = "attention.attention.v_bias",
     .out = "attention.output.dense.weight"},
    {.layout = "bert",
     .title = "ALBERT",
     .q = "attention.query.weight",
     .k = "attention.key.weight",
     .v = "attention.value.weight",
     .out = "attention.dense.weight"},
    {.layout = "mpnet",
     .title = "MPNet",
     .q = "attention.attn.q.weight",
     .k = "attention.attn.k.weight",
     .v = "attention.attn.v.weight",
     .out = "attention.attn.o.weight",
     .relative = "relative_attention_bias.weight",
     .relative_layout = ATTEND_TABLE_STACK,
     .no_rotary = true},
    {.layout = "xlm",
     .title = "XLM",
     .within = "attentions.",
     .q = "q_lin.weight",
     .k = "k_lin.weight",
     .v = "v_lin.weight",
     .out = "out_lin.weight",
     .no_rotary = true},
    {.layout = "t5",
     .title = "T5",
     .q = "layer.0.SelfAttention.q.weight",
     .k = "layer.0.SelfAttention.k.weight",
     .v = "layer.0.SelfAttention.v.weight",
     .out = "layer.0.SelfAttention.o.weight",
     .relative = "layer.0.SelfAttention.relative_attention_bias.weight",
     .relative_layout = ATTEND_TABLE_FIRST,
     .no_rotary = true},
    {.layout = "gpt2",
     .title = "GPT-2",
     .fused = "attn.c_attn.weight",
     .blocks = 1,
     .out = "attn.c_proj.weight",
     .conv1d = true,
     .no_rotary = true},
    {.layout = "gpt-bigcode",
     .title = "GPT-BigCode",
     .fused = "attn.c_attn.weight",
     .out = "attn.c_proj.weight",
     .no_rotary = true,
     .if_asked = true},
    {.layout = "gpt-neox",
     .title = "GPT-NeoX",
     .fused = "attention.query_key_value.weight",
     .out = "attention.dense.weight"},
    {.layout = "falcon",
     .title = "Falcon",
     .fused = "self_attention.query_key_value.weight",
     .out = "self_attention.dense.weight"},
    {.layout = "persimmon",
     .title = "Persimmon",
     .fused = "self_attn.query_key_value.weight",
     .out = "self_attn.dense.weight"},
    {.layout = "mpt",
     .title = "MPT",
     .fused = "attn.Wqkv.weight",
     .blocks = 1,
     .out = "attn.out_proj.weight"},
    {.layout = "modernbert",
     .title = "ModernBERT",
     .fused = "attn.Wqkv.weight",
     .blocks = 1,
     .out = "attn.Wo.weight"},
    {.layout = "modernbert",
     .title = "ModernBERT's decoder",
     .q = "attn.q_proj.weight",
     .k = "attn.k_proj.weight",
     .v = "attn.v_proj.weight",
     .out = "attn.Wo.weight"},
    {.layout = "qkv",
     .title = "qkv … projection",
     .fused = "self_attn.qkv.weight",
     .blocks = 1,
     .out = "self_attn.projection.weight"},
    {.layout = "qkv",
     .title = "qkv … proj",
     .fused = "attn.qkv.weight",
     .blocks = 1,
     .out = "attn.proj.weight"},
    {.layout = "codegen",
     .title = "CodeGen",
     .fused = "attn.qkv_proj.weight",
     .blocks = 4,
     .v_before_k = true,
     .out = "attn.out_proj.weight"},
    {.layout = "gptj",
     .title = "GPT-J",
     .q = "attn.q_proj.weight",
     .k = "attn.k_proj.weight",
     .v = "attn.v_proj.weight",
     .out = "attn.out_proj.weight"},
    {.layout = "gptj",
     .title = "GPT-Neo",
     .q = "attn.attention.q_proj.weight",
     .k = "attn.attention.k_proj.weight",
     .v = "attn.attention.v_proj.weight",
     .out = "attn.attention.out_proj.weight"},
    {.layout = "llama",
     .title = "Llama",
     .q = "self_attn.q_proj.weight",
     .k = "self_attn.k_proj.weight",
     .v = "self_attn.v_proj.weight",
     .out = "self_attn.o_proj.weight"},
    {.layout = "llama",
     .title = "Phi-3",
     .fused = "self_attn.qkv_proj.weight",
     .blocks = 1,
     .out = "self_attn.o_proj.weight"},
    {.layout = "llama",
     .title = "Phi",
     .q = "self_attn.q_proj.weight",
     .k = "self_attn.k_proj.weight",
     .v = "self_attn.v_proj.weight",
     .out = "self_attn.dense.weight"},
    {.layout = "dbrx",
     .title = "DBRX",
     .fused = "norm_attn_norm.attn.Wqkv.weight",
     .blocks = 1,
     .out = "norm_attn_norm.attn.out_proj.weight"},
    {.layout = "vit",
     .title = "attention.q_proj … o_proj",
     .q = "attention.q_proj.weight",
     .k = "attention.k_proj.weight",
     .v = "attention.v_proj.weight",
     .out = "attention.o_proj.weight"},
    {.layout = "torch",
     .title = "torch.nn.MultiheadAttention",
     .fused = "in_proj_weight",
     .blocks = 1,
     .out = "out_proj.weight",
     .no_rotary = true},
    {.layout = "torch",
     .title = "torch.nn.MultiheadAttention",
     .q = "q_proj_weight",
     .k = "k_proj_weight",
     .v = "v_proj_weight",
     .fused_bias = "in_proj_weight",
     .out = "out_proj.weight",
     .no_rotary = true},
    {.layout = "torch",
     .title = "q_proj … out_proj",
     .q = "self_attn.q_proj.weight",
     .k = "self_attn.k_proj.weight",
     .v = "self_attn.v_proj.weight",
     .out = "self_attn.out_proj.weight"},
    {.layout = "torch",
     .title = "attention.q_proj … out_proj",
     .q = "attention.q_proj.weight",
     .k = "attention.k_proj.weight",
     .v = "attention.v_proj.weight",
     .out = "attention.out_proj.weight"},
};
enum { NAMINGS = sizeof namings / sizeof *namings, MAX_NAME = 480 };

const attend_naming *attend_naming_at(int index)
{
    return index >= 0 && index < NAMINGS ? &namings[index] : NULL;
}

/* Whether a tensor's name is a prefix, empty or ending with a dot, and `suffix`. Copies the prefix. */
static bool take_prefix(const char *name, const char *suffix, char *prefix)
{
    size_t length = strlen(name), suffix_length = strlen(suffix);
    if (length >= MAX_NAME || length < suffix_length || strcmp(name + length - suffix_length, suffix) != 0)
        return false;
    length -= suffix_length;
    memcpy(prefix, name, length);
    prefix[length] = 0;
    return length == 0 || prefix[length - 1] == '.';
}

static bool complete(const attend_shards *shards, const attend_naming *n, const char *prefix)
{
    const char *const needed[] = {n->q, n->k, n->v, n->fused, n->out};
    char name[2 * MAX_NAME];
    if (n->within && !strstr(prefix, n->within)) return false;
    for (int i = 0; i < 5; i++) {
        if (!needed[i]) continue;
        snprintf(name, sizeof name, "%s%s", prefix, needed[i]);
        if (!attend_shards_have(shards, name)) return false;
    }
    return true;
}

const char *attend_names_number(const char *prefix)
{
    const char *number = NULL;
    for (const char *word = prefix; *word;) {
        size_t digits = strspn(word, "0123456789"), length = strcspn(word, ".");
        if (digits > 0 && digits == length && digits < 10) number = word;
        word += length + (word[length] == '.');
    }
    return number;
}

static attend_status add(const attend_shards *shards, attend_found_layers *found, const attend_naming *naming,
                         const char *prefix, bool hidden)
{
    if ((found->count & (found->count - 1)) == 0) {
        attend_found_layer *more =
            realloc(found->layers, (size_t)(found->count ? 2 * found->count : 1) * sizeof *more);
        if (!more)
            return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s: no memory for its layers", shards->path);
        found->layers = more;
    }
    char *copy = strdup(prefix);
    if (!copy) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s: no memory for its layers", shards->path);
    const char *number = attend_names_number(copy);
    found->layers[found->count++] = (attend_found_layer){naming, copy, number ? atoll(number) : 0, hidden};
    found->listed += !hidden;
    return ATTEND_OK;
}

static int by_number(const void *a, const void *b)
{
    const attend_found_layer *x = a, *y = b;
    if (x->hidden != y->hidden) return x->hidden ? 1 : -1;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    int order = strcmp(x->prefix, y->prefix);
    return order ? order : (x->naming > y->naming) - (x->naming < y->naming);
}

static const char *anchor(const attend_naming *n) { return n->fused ? n->fused : n->q; }

/* The priority among layouts that fit a tensor: first those of the model's row, then those without if_asked,
   then the longest name. */
static int rank(const attend_naming *n, const attend_architecture *row)
{
    const bool of_row = row && row->layouts && attend_architecture_has_layout(row, n->layout);
    return (of_row ? 4096 : 0) + (n->if_asked ? 0 : 2048) + (int)strlen(anchor(n));
}

static attend_status add_of(const attend_shards *shards, const char *tensor, const attend_architecture *row,
                            attend_found_layers *found)
{
    char prefix[MAX_NAME];
    const attend_naming *best = NULL;
    for (const attend_naming *n = namings; n < namings + NAMINGS; n++)
        if (take_prefix(tensor, anchor(n), prefix) && complete(shards, n, prefix) &&
            (!best || rank(n, row) > rank(best, row)))
            best = n;
    for (const attend_naming *n = namings; n < namings + NAMINGS && best; n++) {
        if (n != best && n->if_asked == best->if_asked) continue;
        if (take_prefix(tensor, anchor(n), prefix) && complete(shards, n, prefix))
            ATTEND_TRY(add(shards, found, n, prefix, n != best));
    }
    return ATTEND_OK;
}

attend_status attend_names_find(const attend_shards *shards, const attend_architecture *row,
                                attend_found_layers *found)
{
    memset(found, 0, sizeof *found);
    for (int64_t i = 0; i < shards->count; i++)
        ATTEND_TRY(add_of(shards, shards->tensors[i].name, row, found));
    if (found->count) qsort(found->layers, (size_t)found->count, sizeof *found->layers, by_number);
    return ATTEND_OK;
}

void attend_names_free(attend_found_layers *found)
{
    for (int64_t i = 0; i < found->count; i++) free(found->layers[i].prefix);
    free(found->layers);
    memset(found, 0, sizeof *found);
}

void attend_names_scope(const attend_found_layer *layer, char *scope, size_t size)
{
    const char *q = anchor(layer->naming), *out = layer->naming->out;
    size_t common = 0;
    for (size_t i = 0; q[i] && q[i] == out[i]; i++)
        if (q[i] == '.') common = i + 1;
    snprintf(scope, size, "%s%.*s", layer->prefix, (int)common, q);
}
