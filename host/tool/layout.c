/* Recognises layers by the names of their tensors. A family of models is a row of the table. */
#include "layout.h"
#include "file/fail.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const naming namings[] = {
    {.layout = LAYOUT_BERT,
     .title = "BERT",
     .q = "attention.self.query.weight",
     .k = "attention.self.key.weight",
     .v = "attention.self.value.weight",
     .out = "attention.output.dense.weight"},
    {.layout = LAYOUT_BERT,
     .title = "DistilBERT",
     .q = "attention.q_lin.weight",
     .k = "attention.k_lin.weight",
     .v = "attention.v_lin.weight",
     .out = "attention.out_lin.weight"},
    {.layout = LAYOUT_BERT,
     .title = "ViT",
     .q = "attention.attention.query.weight",
     .k = "attention.attention.key.weight",
     .v = "attention.attention.value.weight",
     .out = "attention.output.dense.weight"},
    {.layout = LAYOUT_GPT2,
     .title = "GPT-2",
     .fused = "attn.c_attn.weight",
     .out = "attn.c_proj.weight",
     .conv1d = true,
     .causal = true},
    {.layout = LAYOUT_LLAMA,
     .title = "Llama",
     .q = "self_attn.q_proj.weight",
     .k = "self_attn.k_proj.weight",
     .v = "self_attn.v_proj.weight",
     .out = "self_attn.o_proj.weight",
     .causal = true,
     .rotary = true},
    {.layout = LAYOUT_LLAMA,
     .title = "Phi-3",
     .fused = "self_attn.qkv_proj.weight",
     .out = "self_attn.o_proj.weight",
     .causal = true,
     .rotary = true},
    {.layout = LAYOUT_TORCH, .title = "torch.nn.MultiheadAttention", .fused = "in_proj_weight", .out = "out_proj.weight"},
    {.layout = LAYOUT_TORCH,
     .title = "torch.nn.MultiheadAttention",
     .q = "q_proj_weight",
     .k = "k_proj_weight",
     .v = "v_proj_weight",
     .fused_bias = "in_proj_weight",
     .out = "out_proj.weight"},
    {.layout = LAYOUT_TORCH,
     .title = "q_proj … out_proj",
     .q = "self_attn.q_proj.weight",
     .k = "self_attn.k_proj.weight",
     .v = "self_attn.v_proj.weight",
     .out = "self_attn.out_proj.weight"},
};
enum { NAMINGS = sizeof namings / sizeof *namings };

const attend_safetensors_entry *layout_entry(const attend_safetensors *file, const char *prefix, const char *suffix)
{
    char name[512];
    if ((size_t)snprintf(name, sizeof name, "%s%s", prefix, suffix) >= sizeof name) return NULL;
    return attend_safetensors_find(file, name);
}

/* Whether a tensor's name ends with `suffix` after a prefix of whole words; the prefix is copied out. */
static bool take_prefix(const char *name, const char *suffix, char *prefix, size_t size)
{
    size_t length = strlen(name), suffix_length = strlen(suffix);
    if (length < suffix_length || length - suffix_length >= size || strcmp(name + length - suffix_length, suffix) != 0)
        return false;
    length -= suffix_length;
    memcpy(prefix, name, length);
    prefix[length] = 0;
    return length == 0 || prefix[length - 1] == '.';
}

static bool complete(const attend_safetensors *file, const naming *n, const char *prefix)
{
    const char *const needed[] = {n->q, n->k, n->v, n->fused, n->out};
    for (int i = 0; i < 5; i++)
        if (needed[i] && !layout_entry(file, prefix, needed[i])) return false;
    return true;
}

/* The last of a prefix's words that is a number; 0 without one. */
static int64_t layer_number(const char *prefix)
{
    int64_t layer = 0;
    for (const char *word = prefix; *word;) {
        size_t digits = strspn(word, "0123456789"), length = strcspn(word, ".");
        if (digits > 0 && digits == length && digits < 10) layer = atoll(word);
        word += length + (word[length] == '.');
    }
    return layer;
}

typedef void visit(void *job, const naming *naming, const char *prefix);

/* Calls back for each layer of the file that has a known naming. */
static void for_each_layer(const attend_safetensors *file, const char *wanted_prefix, visit *visit, void *job)
{
    char prefix[sizeof((found_layer *)NULL)->prefix];
    for (int64_t i = 0; i < file->count; i++)
        for (int n = 0; n < NAMINGS; n++) {
            const char *anchor = namings[n].fused ? namings[n].fused : namings[n].q;
            if (take_prefix(file->entries[i].name, anchor, prefix, sizeof prefix) && complete(file, &namings[n], prefix) &&
                (!wanted_prefix || !strncmp(file->entries[i].name, wanted_prefix, strlen(wanted_prefix))))
                visit(job, &namings[n], prefix);
        }
}

typedef struct search {
    layout layout;
    int64_t layer;         /* -1: the first */
    int64_t first, last;   /* found in the layout */
    const naming *another; /* found in a layout that was not asked for */
    found_layer match, second;
    int matches;
} search;

static void note_range(void *job, const naming *naming, const char *prefix)
{
    search *s = job;
    int64_t layer = layer_number(prefix);
    if (s->layout != LAYOUT_AUTO && naming->layout != s->layout) {
        s->another = naming;
        return;
    }
    if (s->first < 0 || layer < s->first) s->first = layer;
    if (layer > s->last) s->last = layer;
}

static void note_match(void *job, const naming *naming, const char *prefix)
{
    search *s = job;
    found_layer *to = s->matches == 0 ? &s->match : &s->second;
    if ((s->layout != LAYOUT_AUTO && naming->layout != s->layout) || layer_number(prefix) != s->layer) return;
    to->naming = naming, to->layer = s->layer;
    strcpy(to->prefix, prefix);
    s->matches++;
}

static attend_status nothing_found(const attend_safetensors *file, const options *options, const search *s)
{
    const char *path = file->input.path;
    if (s->another)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has no layer in the layout asked for; its names are those of %s",
                                path, s->another->title);
    if (options->name_prefix)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has no attention layer under names that begin with \"%s\"", path,
                                options->name_prefix);
    return attend_file_fail(ATTEND_BAD_FILE,
                            "%s has no attention layer with names of BERT, GPT-2, Llama or "
                            "torch.nn.MultiheadAttention; its %" PRId64 " tensors begin with \"%s\"",
                            path, file->count, file->count ? file->entries[0].name : "");
}

attend_status layout_find(const attend_safetensors *file, const options *options, found_layer *found)
{
    search s = {.layout = options->layout, .layer = options->layer, .first = -1, .last = -1};
    for_each_layer(file, options->name_prefix, note_range, &s);
    if (s.first < 0) return nothing_found(file, options, &s);
    if (s.layer < 0) s.layer = s.first;
    for_each_layer(file, options->name_prefix, note_match, &s);
    if (s.matches == 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has no layer %" PRId64 "; it holds layers %" PRId64 " to %" PRId64,
                                file->input.path, s.layer, s.first, s.last);
    if (s.matches > 1)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s has layer %" PRId64 " more than once: \"%s\" and \"%s\"; give --name-prefix",
                                file->input.path, s.layer, s.match.prefix, s.second.prefix);
    *found = s.match;
    found->first = s.first, found->last = s.last;
    return ATTEND_OK;
}

attend_status layout_check_extras(const attend_safetensors *file, const found_layer *found)
{
    static const struct {
        const char *suffix, *what;
    } extras[] = {
        {"attention.self.distance_embedding.weight", "has relative positions"},
        {"attention.self.relative_attention_bias.weight", "has relative positions"},
        {"bias_k", "appends a learned key"},
    };
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++)
        if (layout_entry(file, found->prefix, extras[i].suffix))
            return attend_file_fail(ATTEND_UNSUPPORTED, "%s: the layer %s (%s%s), which attend run does not apply",
                                    file->input.path, extras[i].what, found->prefix, extras[i].suffix);
    return ATTEND_OK;
}
