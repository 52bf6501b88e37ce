/* Reads rotary embeddings from a config, with the keys of transformers 4 and 5. What attend does not support
   is refused, never ignored. Each option of the caller replaces one setting and leaves the others. */
#include "checkpoint/work.h"

#include <math.h>
#include <string.h>

static attend_status refuse(const attend_work *w, const char *what, const char *option)
{
    return attend_file_fail(
        ATTEND_UNSUPPORTED,
        "%s asks for a rotary embedding with %s, which attend does not know; %s overrides it",
        w->checkpoint->config_path, what, option);
}

/* Whether the layer has the base of layers with a window; the model's scaling does not apply to it. */
static bool has_sliding_base(const attend_work *w) { return w->row && w->row->sliding_base && w->slides > 0; }

/* The rotary parameters of this layer: rope_parameters, its member for this type of layer, rope_scaling, or
   NULL. */
static attend_status parameters_of(attend_work *w, const cJSON **parameters)
{
    const cJSON *all = attend_key(w, "rope_parameters"), *scaling = attend_key(w, "rope_scaling");
    if (all && scaling && w->layer.problem.rotary)
        return attend_file_fail(
            ATTEND_UNSUPPORTED,
            "%s has both rope_parameters and rope_scaling: remove the one that is not meant",
            w->checkpoint->config_path);
    const cJSON *own =
        all ? attend_key_of(w, all, w->slides > 0 ? "sliding_attention" : "full_attention") : NULL;
    *parameters = own ? own : all ? all : has_sliding_base(w) ? NULL : scaling;
    return ATTEND_OK;
}

/* Checks parameters without a rope_type, which do not scale: they may have only a base and a rotated
   fraction. */
static attend_status check_unscaled(const attend_work *w, const cJSON *scaling)
{
    if (!cJSON_IsObject(scaling)) return refuse(w, "parameters that are not an object", "--rotary-scaling");
    for (const cJSON *item = scaling->child; item; item = item->next)
        if (!cJSON_IsNull(item) && strcmp(item->string, "rope_theta") &&
            strcmp(item->string, "partial_rotary_factor"))
            return refuse(w, "parameters without a rope_type", "--rotary-scaling");
    return ATTEND_OK;
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
    if (!kind) return check_unscaled(w, scaling);
    size_t i = 0;
    while (i < sizeof kinds / sizeof *kinds &&
           !(cJSON_IsString(kind) && !strcmp(kind->valuestring, kinds[i].name)))
        i++;
    if (i == sizeof kinds / sizeof *kinds)
        return refuse(w, cJSON_IsString(kind) ? kind->valuestring : "a rope_type that is not a text",
                      "--rotary-scaling");
    for (int u = 0; unknown[u]; u++)
        if (attend_key_of(w, scaling, unknown[u])) return refuse(w, unknown[u], "--rotary-scaling");
    p->rotary_scaling = kinds[i].scaling;
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

/* How many elements of a head are rotated. partial_rotary_factor in a model that does not read it is left to
   attend_check_keys(), unless the model has another key for it: transformers writes both then. */
static attend_status read_part(attend_work *w, const cJSON *scaling)
{
    attend_problem *p = &w->layer.problem;
    const attend_architecture *row = w->row;
    static const char usual[] = "partial_rotary_factor";
    double dim = row ? (double)row->dim : 0, part = row && row->part > 0 ? row->part : 1;
    const bool given = attend_overridden(w, ATTEND_OVERRIDE_ROTARY_DIM);
    if (!row || dim > 0) ATTEND_TRY(attend_key_number(w, w->config, "rotary_dim", 2, &dim));
    if (row && row->part_key) attend_key(w, usual);
    if (!row || row->part > 0)
        ATTEND_TRY(attend_key_number(w, w->config, row && row->part_key ? row->part_key : usual, 0, &part));
    ATTEND_TRY(attend_key_number(w, scaling, usual, 0, &part));
    if (!p->rotary || given) return ATTEND_OK;
    if (row && row->part == 0 && part != 1) return refuse(w, usual, "--rotary-dim");
    if (dim > 0 && cJSON_HasObjectItem(w->config, "rotary_dim") && !attend_key(w, "rotary_dim"))
        return refuse(w, "a rotary_dim of null", "--rotary-dim");
    if (dim > (double)p->head_dim || part > 1)
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s: the rotary embedding has more elements than head_dim (%d)",
                                w->checkpoint->config_path, (int)p->head_dim);
    const int64_t rotated = dim > 0 ? (int64_t)dim : (int64_t)(part * (double)p->head_dim);
    if (rotated < 2) return refuse(w, "fewer than two elements of a head", "--rotary");
    p->rotary_dim = dim > 0 || part < 1 || (w->row && w->row->part > 0) ? rotated : 0;
    return ATTEND_OK;
}

static attend_status read_base(attend_work *w, const cJSON *scaling)
{
    attend_problem *p = &w->layer.problem;
    const char *key = w->row && w->row->base_key ? w->row->base_key : "rope_theta";
    const char *sliding = w->row ? w->row->sliding_base : NULL;
    double base = w->base != 0 ? w->base : w->row ? w->row->base : 0, of_windows = 10000;
    ATTEND_TRY(attend_key_number(w, w->config, key, 1, &base));
    if (sliding) ATTEND_TRY(attend_key_number(w, w->config, sliding, 1, &of_windows));
    /* models that accept null then use the base of all layers */
    if (has_sliding_base(w) && !cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(w->config, sliding)))
        base = of_windows;
    ATTEND_TRY(attend_key_number(w, scaling, "rope_theta", 1, &base));
    if (base == ATTEND_BASE_MUST_BE_GIVEN && p->rotary && !attend_overridden(w, ATTEND_OVERRIDE_ROTARY_BASE))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s has no rope_theta, for which versions of transformers have different "
                                "defaults; give --rotary-base",
                                w->checkpoint->config_path);
    p->rotary_base = base;
    return ATTEND_OK;
}

static attend_status override_fields(attend_work *w)
{
    attend_problem *p = &w->layer.problem;
    const attend_problem *by = &w->options.problem;
    if (attend_overridden(w, ATTEND_OVERRIDE_ROTARY_DIM)) p->rotary_dim = by->rotary_dim;
    if (attend_overridden(w, ATTEND_OVERRIDE_ROTARY_BASE)) p->rotary_base = by->rotary_base;
    if (!attend_overridden(w, ATTEND_OVERRIDE_ROTARY_SCALING)) return ATTEND_OK;
    p->rotary_scaling = by->rotary_scaling, p->rotary_factor = by->rotary_factor,
    p->rotary_original_seqlen = by->rotary_original_seqlen;
    p->rotary_low = by->rotary_low, p->rotary_high = by->rotary_high,
    p->rotary_attention_factor = by->rotary_attention_factor;
    p->rotary_untruncated = by->rotary_untruncated;
    return ATTEND_OK;
}

/* The kind of this layer; ATTEND_ROTARY_NONE if only other layers of the model have rotary embedding. */
static attend_status choose_kind(attend_work *w, attend_rotary *kind, const char **by)
{
    *kind = w->rotary, *by = "the default of the model's type";
    if (attend_overridden(w, ATTEND_OVERRIDE_ROTARY)) {
        *kind = w->options.problem.rotary, *by = "from the options";
        attend_key(w, "no_rope_layers"), attend_key(w, "no_rope_layer_interval");
        return ATTEND_OK;
    }
    if (!*kind || !w->row) return ATTEND_OK;
    const cJSON *window = cJSON_GetObjectItemCaseSensitive(w->config, "sliding_window");
    const attend_rotary_layers layers = w->row->rotary_layers;
    if ((layers == ATTEND_ROTARY_SLIDING && (w->slides < 0 || cJSON_IsNull(window))) ||
        (layers == ATTEND_ROTARY_BUT_FULL && w->slides < 0 && !cJSON_IsNull(window)))
        *kind = ATTEND_ROTARY_NONE, *by = "because the layer has no window";
    if (layers != ATTEND_ROTARY_LISTED) return ATTEND_OK;
    static const char *const intervals[] = {"no_rope_layer_interval", NULL};
    const cJSON *list = attend_key(w, "no_rope_layers");
    int64_t interval;
    ATTEND_TRY(attend_key_count(w, intervals, &interval));
    if (!list) {
        if ((w->found->number + 1) % (interval ? interval : 4) == 0)
            *kind = ATTEND_ROTARY_NONE, *by = "by no_rope_layer_interval";
        return ATTEND_OK;
    }
    const cJSON *item = cJSON_GetArrayItem(list, (int)w->found->number);
    if (!cJSON_IsNumber(item))
        return attend_file_fail(ATTEND_BAD_FILE, "%s: no_rope_layers has no number for layer %d",
                                w->checkpoint->config_path, (int)w->found->number);
    if (item->valuedouble == 0) *kind = ATTEND_ROTARY_NONE, *by = "by no_rope_layers";
    return ATTEND_OK;
}

attend_status attend_decide_rotary(attend_work *w)
{
    static const char *const scalings[] = {"", ", linear scaling", ", NTK scaling", ", YaRN",
                                           ", Llama 3's scaling"};
    attend_problem *p = &w->layer.problem;
    const char *by;
    const cJSON *scaling = NULL;
    ATTEND_TRY(choose_kind(w, &p->rotary, &by));
    ATTEND_TRY(parameters_of(w, &scaling));
    ATTEND_TRY(read_base(w, scaling));
    ATTEND_TRY(read_part(w, scaling));
    if (!p->rotary) {
        p->rotary_base = 0, p->rotary_dim = 0;
        return attend_note(w, "rotary", "none, %s", by);
    }
    if (!attend_overridden(w, ATTEND_OVERRIDE_ROTARY_SCALING)) {
        if (scaling) ATTEND_TRY(read_scaling(w, scaling));
        if (!scaling && w->row && w->row->scaled)
            return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                    "%s has no rope_scaling, which layers of model_type \"%s\" need; "
                                    "give --rotary-scaling",
                                    w->checkpoint->config_path, w->layer.model_type);
    }
    ATTEND_TRY(override_fields(w));
    return attend_note(w, "rotary", "%s, base %g%s, %s",
                       p->rotary == ATTEND_ROTARY_HALVES ? "halves" : "interleaved",
                       p->rotary_base != 0 ? p->rotary_base : 10000.0, scalings[p->rotary_scaling], by);
}
