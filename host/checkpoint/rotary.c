/* What a config says of rotary embeddings, in the keys of transformers, old and new. What it says and attend
   does not know is refused, never left out; what the caller says overrules one thing and leaves the others.
 */
#include "work.h"

#include <math.h>
#include <string.h>

static attend_status refuse(const attend_work *w, const char *what, const char *option)
{
    return attend_file_fail(
        ATTEND_UNSUPPORTED,
        "%s asks for a rotary embedding with %s, which attend does not know; %s says what to do instead",
        w->checkpoint->config_path, what, option);
}

/* The parameters of this layer's kind: an object of their own, one of one a kind of layer, or none. */
static const cJSON *parameters_of(attend_work *w)
{
    const cJSON *all = attend_key(w, "rope_parameters"), *scaling = attend_key(w, "rope_scaling");
    if (!all) return scaling;
    const cJSON *own = attend_key_of(w, all, w->slides > 0 ? "sliding_attention" : "full_attention");
    return own ? own : all;
}

static attend_status read_scaling(attend_work *w, const cJSON *scaling)
{
    static const struct {
        const char *name;
        attend_rotary_scaling scaling;
    } kinds[] = {{"default", ATTEND_ROTARY_UNSCALED},
                 {"linear", ATTEND_ROTARY_LINEAR},
                 {"dynamic", ATTEND_ROTARY_NTK},
                 {"yarn", ATTEND_ROTARY_YARN},
                 {"llama3", ATTEND_ROTARY_LLAMA3}};
    static const char *const unknown[] = {
        "mscale", "mscale_all_dim", "short_factor", "long_factor", "mrope_section", "alpha", NULL};
    attend_problem *p = &w->layer.problem;
    double trained = 0;
    const cJSON *kind = attend_key_of(w, scaling, "rope_type");
    if (!kind) kind = attend_key_of(w, scaling, "type");
    size_t i = 0;
    while (kind && i < sizeof kinds / sizeof *kinds &&
           !(cJSON_IsString(kind) && !strcmp(kind->valuestring, kinds[i].name)))
        i++;
    if (i == sizeof kinds / sizeof *kinds)
        return refuse(w, cJSON_IsString(kind) ? kind->valuestring : "a rope_type that is not a text",
                      "--rotary-scaling");
    for (int u = 0; unknown[u]; u++)
        if (attend_key_of(w, scaling, unknown[u])) return refuse(w, unknown[u], "--rotary-scaling");
    p->rotary_scaling = kind ? kinds[i].scaling : ATTEND_ROTARY_UNSCALED;
    if (!p->rotary_scaling) return ATTEND_OK;
    ATTEND_TRY(attend_key_number(w, scaling, "factor", 1, &p->rotary_factor));
    ATTEND_TRY(attend_key_number(w, w->config, "max_position_embeddings", 1, &trained));
    ATTEND_TRY(attend_key_number(w, w->config, "original_max_position_embeddings", 1, &trained));
    ATTEND_TRY(attend_key_number(w, scaling, "original_max_position_embeddings", 1, &trained));
    ATTEND_TRY(attend_key_number(w, scaling, "attention_factor", 0, &p->rotary_attention_factor));
    bool yarn = p->rotary_scaling == ATTEND_ROTARY_YARN, llama3 = p->rotary_scaling == ATTEND_ROTARY_LLAMA3;
    if (yarn || llama3) {
        ATTEND_TRY(attend_key_number(w, scaling, yarn ? "beta_slow" : "low_freq_factor", 0, &p->rotary_low));
        ATTEND_TRY(
            attend_key_number(w, scaling, yarn ? "beta_fast" : "high_freq_factor", 0, &p->rotary_high));
    }
    if (p->rotary_scaling > ATTEND_ROTARY_LINEAR)
        p->rotary_original_seqlen = trained < 0x1p53 ? (int64_t)trained : 0;
    p->rotary_untruncated = yarn && cJSON_IsFalse(attend_key_of(w, scaling, "truncate"));
    return ATTEND_OK;
}

/* How much of a head turns. */
static attend_status read_part(attend_work *w, const cJSON *scaling)
{
    attend_problem *p = &w->layer.problem;
    double dim = 0, part = w->row ? w->row->part : 0;
    ATTEND_TRY(attend_key_number(w, w->config, "rotary_dim", 2, &dim));
    ATTEND_TRY(attend_key_number(w, w->config, "rotary_pct", 0, &part));
    ATTEND_TRY(attend_key_number(w, w->config, "rotary_emb_fraction", 0, &part));
    ATTEND_TRY(attend_key_number(w, w->config, "partial_rotary_factor", 0, &part));
    ATTEND_TRY(attend_key_number(w, scaling, "partial_rotary_factor", 0, &part));
    if (dim > (double)p->head_dim || part > 1)
        return attend_file_fail(ATTEND_BAD_FILE, "%s: the rotary embedding turns more than head_dim (%d)",
                                w->checkpoint->config_path, (int)p->head_dim);
    p->rotary_dim = dim > 0 ? (int64_t)dim : part > 0 ? (int64_t)(part * (double)p->head_dim) : 0;
    return ATTEND_OK;
}

static attend_status read_base(attend_work *w, const cJSON *scaling)
{
    attend_problem *p = &w->layer.problem;
    if (w->row) p->rotary_base = w->row->base;
    ATTEND_TRY(attend_key_number(w, w->config, "rotary_emb_base", 1, &p->rotary_base));
    ATTEND_TRY(attend_key_number(w, w->config, "attn_config/rope_theta", 1, &p->rotary_base));
    ATTEND_TRY(attend_key_number(w, w->config, "rope_theta", 1, &p->rotary_base));
    ATTEND_TRY(attend_key_number(w, scaling, "rope_theta", 1, &p->rotary_base));
    return ATTEND_OK;
}

/* Models with other parameters in layers with a window, in the keys of transformers 4. */
static attend_status read_sliding_base(attend_work *w, bool *scaled)
{
    const char *key = w->row ? w->row->sliding_base : NULL;
    *scaled = true;
    if (!key || !attend_key(w, key) || attend_key(w, "rope_parameters") || w->slides <= 0) return ATTEND_OK;
    *scaled = false;
    return attend_key_number(w, w->config, key, 1, &w->layer.problem.rotary_base);
}

static attend_status overrule(attend_work *w)
{
    attend_problem *p = &w->layer.problem;
    const attend_problem *by = &w->options.problem;
    if (attend_said(w, ATTEND_SAID_ROTARY_DIM)) p->rotary_dim = by->rotary_dim;
    if (attend_said(w, ATTEND_SAID_ROTARY_BASE)) p->rotary_base = by->rotary_base;
    if (!attend_said(w, ATTEND_SAID_ROTARY_SCALING)) return ATTEND_OK;
    p->rotary_scaling = by->rotary_scaling, p->rotary_factor = by->rotary_factor,
    p->rotary_original_seqlen = by->rotary_original_seqlen;
    p->rotary_low = by->rotary_low, p->rotary_high = by->rotary_high,
    p->rotary_attention_factor = by->rotary_attention_factor;
    p->rotary_untruncated = by->rotary_untruncated;
    return ATTEND_OK;
}

/* The kind of this layer; ROTARY_NONE where others of the model have one. */
static attend_status choose_kind(attend_work *w, attend_rotary *kind, const char **by)
{
    *kind = w->rotary, *by = "as the models of this type have it";
    if (attend_said(w, ATTEND_SAID_ROTARY)) {
        *kind = w->options.problem.rotary, *by = "as asked for";
        attend_key(w, "no_rope_layers"), attend_key(w, "no_rope_layer_interval");
        return ATTEND_OK;
    }
    if (*kind && w->row && w->row->rotary_layers == ATTEND_ROTARY_SLIDING && w->slides < 0)
        *kind = ATTEND_ROTARY_NONE, *by = "as layers without a window";
    const cJSON *list =
        w->row && w->row->rotary_layers == ATTEND_ROTARY_LISTED ? attend_key(w, "no_rope_layers") : NULL;
    if (list) attend_key(w, "no_rope_layer_interval");
    if (!list || !*kind) return ATTEND_OK;
    const cJSON *item = cJSON_GetArrayItem(list, (int)w->found->number);
    if (!cJSON_IsNumber(item))
        return attend_file_fail(ATTEND_BAD_FILE, "%s: no_rope_layers has no number for layer %d",
                                w->checkpoint->config_path, (int)w->found->number);
    if (item->valuedouble == 0) *kind = ATTEND_ROTARY_NONE, *by = "as no_rope_layers has it";
    return ATTEND_OK;
}

attend_status attend_decide_rotary(attend_work *w)
{
    static const char *const scalings[] = {"", ", linear scaling", ", NTK scaling", ", YaRN",
                                           ", Llama 3's scaling"};
    attend_problem *p = &w->layer.problem;
    const char *by;
    bool scaled = true;
    ATTEND_TRY(choose_kind(w, &p->rotary, &by));
    const cJSON *scaling = parameters_of(w);
    ATTEND_TRY(read_base(w, scaling));
    ATTEND_TRY(read_part(w, scaling));
    ATTEND_TRY(read_sliding_base(w, &scaled));
    if (!p->rotary) {
        p->rotary_base = 0, p->rotary_dim = 0;
        return attend_note(w, "rotary", "none, %s", by);
    }
    if (scaling && scaled && !attend_said(w, ATTEND_SAID_ROTARY_SCALING))
        ATTEND_TRY(read_scaling(w, scaling));
    ATTEND_TRY(overrule(w));
    return attend_note(w, "rotary", "%s, base %g%s, %s",
                       p->rotary == ATTEND_ROTARY_HALVES ? "halves" : "interleaved",
                       p->rotary_base != 0 ? p->rotary_base : 10000.0, scalings[p->rotary_scaling], by);
}
