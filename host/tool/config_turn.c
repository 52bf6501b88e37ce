/* What a model's config.json says of rotary embeddings and of norms of Q and K, in the keys of transformers, old and new. What it
   says and attend does not know is refused, never left out. */
#include "config.h"
#include "file/fail.h"

#include <math.h>
#include <string.h>

static attend_status number(const char *path, const cJSON *json, const char *key, double least, double *value)
{
    const cJSON *item = config_field(json, key);
    if (!item) return ATTEND_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= least) || !isfinite(item->valuedouble))
        return attend_file_fail(ATTEND_BAD_FILE, "%s: %s is not a number of at least %g", path, key, least);
    *value = item->valuedouble;
    return ATTEND_OK;
}

static attend_status refuse(const char *path, const char *what)
{
    return attend_file_fail(ATTEND_UNSUPPORTED,
                            "%s: %s is not known to attend run; --rotary none runs the layer without a rotary embedding", path,
                            what);
}

static attend_status read_kind(const char *path, const cJSON *scaling, turn_options *t)
{
    static const struct {
        const char *name;
        attend_rotary_scaling scaling;
    } kinds[] = {{"default", ATTEND_ROTARY_UNSCALED},
                 {"linear", ATTEND_ROTARY_LINEAR},
                 {"dynamic", ATTEND_ROTARY_NTK},
                 {"yarn", ATTEND_ROTARY_YARN},
                 {"llama3", ATTEND_ROTARY_LLAMA3}};
    const cJSON *kind = config_field(scaling, "rope_type");
    if (!kind) kind = config_field(scaling, "type");
    if (!kind) return ATTEND_OK;
    for (size_t i = 0; cJSON_IsString(kind) && i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kind->valuestring, kinds[i].name)) return t->scaling = kinds[i].scaling, ATTEND_OK;
    return refuse(path, cJSON_IsString(kind) ? kind->valuestring : "rope_type");
}

static attend_status read_scaling(const char *path, const cJSON *json, const cJSON *scaling, turn_options *t)
{
    static const char *const unknown[] = {"mscale", "mscale_all_dim", "short_factor", "long_factor", "mrope_section", NULL};
    double trained = 0;
    ATTEND_TRY(read_kind(path, scaling, t));
    for (int i = 0; unknown[i]; i++)
        if (config_field(scaling, unknown[i])) return refuse(path, unknown[i]);
    ATTEND_TRY(number(path, scaling, "rope_theta", 1, &t->base));
    ATTEND_TRY(number(path, scaling, "factor", 1, &t->factor));
    ATTEND_TRY(number(path, json, "max_position_embeddings", 1, &trained));
    ATTEND_TRY(number(path, json, "original_max_position_embeddings", 1, &trained));
    ATTEND_TRY(number(path, scaling, "original_max_position_embeddings", 1, &trained));
    ATTEND_TRY(number(path, scaling, "attention_factor", 0, &t->attention_factor));
    bool yarn = t->scaling == ATTEND_ROTARY_YARN, llama3 = t->scaling == ATTEND_ROTARY_LLAMA3;
    if (yarn || llama3) {
        ATTEND_TRY(number(path, scaling, yarn ? "beta_slow" : "low_freq_factor", 0, &t->low));
        ATTEND_TRY(number(path, scaling, yarn ? "beta_fast" : "high_freq_factor", 0, &t->high));
    }
    if (t->scaling > ATTEND_ROTARY_LINEAR) t->original_seqlen = (int64_t)trained;
    t->untruncated = yarn && cJSON_IsFalse(config_field(scaling, "truncate"));
    return ATTEND_OK;
}

/* The parameters of this layer's kind, where layers of several kinds have their own. */
static const cJSON *parameters_of(const cJSON *parameters, int slides)
{
    const cJSON *own = config_field(parameters, slides > 0 ? "sliding_attention" : "full_attention");
    return own ? own : parameters;
}

/* Models that turn neighbouring elements; all others that use these keys turn halves. */
static bool interleaves(const cJSON *json)
{
    static const char *const models[] = {"cohere", "cohere2", "glm", "glm4", "gptj", "codegen", NULL};
    const cJSON *model = config_field(json, "model_type");
    for (int i = 0; cJSON_IsString(model) && models[i]; i++)
        if (!strcmp(model->valuestring, models[i])) return true;
    return false;
}

attend_status config_read_turn(const cJSON *json, model_config *config)
{
    static const char *const any[] = {"rope_theta", "rope_scaling",          "rope_parameters",
                                      "rotary_dim", "partial_rotary_factor", NULL};
    static const char *const unknown[] = {"rope_local_base_freq", "no_rope_layers", NULL};
    const char *path = config->path;
    turn_options *t = &config->turn;
    const cJSON *model = config_field(json, "model_type");
    double epsilon = 0, dim = 0, part = 1;
    config->gemma = cJSON_IsString(model) && !strncmp(model->valuestring, "gemma", 5);
    ATTEND_TRY(number(path, json, "layer_norm_eps", 0, &epsilon));
    ATTEND_TRY(number(path, json, "rms_norm_eps", 0, &epsilon));
    t->norm_epsilon = (float)epsilon;
    for (int i = 0; any[i]; i++)
        if (config_field(json, any[i])) t->choice = ROTARY_GIVEN;
    if (t->choice != ROTARY_GIVEN) return ATTEND_OK;
    t->rotary = interleaves(json) ? ATTEND_ROTARY_INTERLEAVED : ATTEND_ROTARY_HALVES;
    for (int i = 0; unknown[i]; i++)
        if (config_field(json, unknown[i])) return t->refused = unknown[i], ATTEND_OK;
    const cJSON *scaling = config_field(json, "rope_parameters")
                               ? parameters_of(config_field(json, "rope_parameters"), config->slides)
                               : config_field(json, "rope_scaling");
    ATTEND_TRY(number(path, json, "rope_theta", 1, &t->base));
    ATTEND_TRY(number(path, json, "rotary_dim", 2, &dim));
    ATTEND_TRY(number(path, json, "partial_rotary_factor", 0, &part));
    if (scaling) ATTEND_TRY(number(path, scaling, "partial_rotary_factor", 0, &part));
    t->dim = (int64_t)dim, t->part = part;
    return scaling ? read_scaling(path, json, scaling, t) : ATTEND_OK;
}
