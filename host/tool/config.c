/* Reads a model's config.json, of which only what concerns attention matters. */
#include "config.h"
#include "file/fail.h"
#include "file/input.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CONFIG = 16 << 20 };

const cJSON *config_field(const cJSON *json, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    return cJSON_IsNull(item) ? NULL : item;
}

/* The first of the keys that is there, as a count of at least 1; 0 where none is. */
static attend_status read_count(const char *path, const cJSON *json, const char *const *keys, int64_t *value)
{
    *value = 0;
    for (int i = 0; keys[i]; i++) {
        const cJSON *item = config_field(json, keys[i]);
        if (!item) continue;
        double number = item->valuedouble;
        if (!cJSON_IsNumber(item) || !(number >= 1 && number <= INT32_MAX) || number != floor(number))
            return attend_file_fail(ATTEND_BAD_FILE, "%s: %s is not a whole number of at least 1", path, keys[i]);
        *value = (int64_t)number;
        return ATTEND_OK;
    }
    return ATTEND_OK;
}

/* Query heads; of an encoder with a decoder where both have as many. */
static attend_status read_heads(const char *path, const cJSON *json, int64_t *heads)
{
    static const char *const any[] = {"num_attention_heads", "n_head", "n_heads", "num_heads", NULL};
    static const char *const encoder[] = {"encoder_attention_heads", NULL}, *const decoder[] = {"decoder_attention_heads", NULL};
    int64_t of_decoder;
    ATTEND_TRY(read_count(path, json, any, heads));
    if (*heads) return ATTEND_OK;
    ATTEND_TRY(read_count(path, json, encoder, heads));
    ATTEND_TRY(read_count(path, json, decoder, &of_decoder));
    if (*heads != of_decoder) *heads = 0;
    return ATTEND_OK;
}

static attend_status refuse(const char *path, const char *key)
{
    return attend_file_fail(ATTEND_UNSUPPORTED, "%s asks for %s, which attend run does not apply", path, key);
}

/* What would change the result and cannot be done here. */
static attend_status check_demands(const char *path, const cJSON *json)
{
    static const char *const flags[] = {"alibi", "scale_attn_by_inverse_layer_idx", NULL};
    const cJSON *positions = config_field(json, "position_embedding_type");
    for (int i = 0; flags[i]; i++)
        if (cJSON_IsTrue(config_field(json, flags[i]))) return refuse(path, flags[i]);
    if (cJSON_IsString(positions) && strncmp(positions->valuestring, "relative", 8) == 0)
        return refuse(path, "position_embedding_type relative_…");
    return ATTEND_OK;
}

static attend_status read_softcap(const char *path, const cJSON *json, float *softcap)
{
    const cJSON *item = config_field(json, "attn_logit_softcapping");
    if (item && !(cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 1e30))
        return attend_file_fail(ATTEND_BAD_FILE, "%s: attn_logit_softcapping is not a number of at least 0", path);
    if (item) *softcap = (float)item->valuedouble;
    return ATTEND_OK;
}

/* Models whose layers differ list what each does. */
static int layer_slides(const cJSON *json, int64_t layer)
{
    const cJSON *types = config_field(json, "layer_types");
    const cJSON *type = cJSON_IsArray(types) && layer < INT32_MAX ? cJSON_GetArrayItem(types, (int)layer) : NULL;
    if (!cJSON_IsString(type)) return 0;
    return !strcmp(type->valuestring, "sliding_attention") ? 1 : !strcmp(type->valuestring, "full_attention") ? -1 : 0;
}

static attend_status read_scale(const char *path, const cJSON *json, float *scale)
{
    const cJSON *scalar = config_field(json, "query_pre_attn_scalar");
    if (scalar && !(cJSON_IsNumber(scalar) && scalar->valuedouble > 0 && isfinite(scalar->valuedouble)))
        return attend_file_fail(ATTEND_BAD_FILE, "%s: query_pre_attn_scalar is not a number above 0", path);
    if (scalar) *scale = (float)(1 / sqrt(scalar->valuedouble));
    if (cJSON_IsFalse(config_field(json, "scale_attn_weights"))) *scale = 1;
    return ATTEND_OK;
}

static attend_status read_config(const cJSON *json, int64_t layer, model_config *config)
{
    static const char *const kv_heads[] = {"num_key_value_heads", NULL}, *const head_dim[] = {"head_dim", NULL};
    static const char *const window[] = {"sliding_window", NULL};
    const char *path = config->path;
    if (!cJSON_IsObject(json)) return attend_file_fail(ATTEND_BAD_FILE, "%s is not a JSON object", path);
    ATTEND_TRY(read_heads(path, json, &config->heads));
    ATTEND_TRY(read_count(path, json, kv_heads, &config->kv_heads));
    ATTEND_TRY(read_count(path, json, head_dim, &config->head_dim));
    if (!cJSON_IsFalse(config_field(json, "use_sliding_window"))) ATTEND_TRY(read_count(path, json, window, &config->sliding_window));
    config->slides = layer_slides(json, layer);
    ATTEND_TRY(config_read_turn(json, config));
    ATTEND_TRY(read_scale(path, json, &config->scale));
    ATTEND_TRY(read_softcap(path, json, &config->softcap));
    return check_demands(path, json);
}

static attend_status read_text(const char *path, char **text, size_t *length)
{
    attend_input input;
    ATTEND_TRY(attend_input_open(path, &input));
    *length = (size_t)input.size;
    *text = input.size <= MAX_CONFIG ? malloc(*length + 1) : NULL;
    attend_status status =
        *text ? attend_input_read(&input, 0, *text, input.size)
              : attend_file_fail(ATTEND_BAD_FILE, "%s has %" PRId64 " bytes, at most %d are read", path, input.size, MAX_CONFIG);
    attend_input_close(&input);
    return status;
}

attend_status config_load(const char *weights, int64_t layer, model_config *config)
{
    memset(config, 0, sizeof *config);
    char *copy = strdup(weights), *text = NULL;
    size_t length = 0;
    if (!copy) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for a file's name");
    snprintf(config->path, sizeof config->path, "%s/config.json", dirname(copy));
    free(copy);
    if (access(config->path, F_OK) && errno == ENOENT) return ATTEND_OK;
    config->found = true;
    attend_status status = read_text(config->path, &text, &length);
    if (status == ATTEND_OK) {
        text[length] = 0;
        cJSON *json = cJSON_ParseWithLengthOpts(text, length + 1, NULL, true);
        status = json ? read_config(json, layer, config) : attend_file_fail(ATTEND_BAD_FILE, "%s is not JSON", config->path);
        cJSON_Delete(json);
    }
    free(text);
    return status;
}
