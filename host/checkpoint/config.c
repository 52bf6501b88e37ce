/* Keys of a config.json. Reading a key marks it as known, so that unread keys that change attention can be
   refused. */
#include "checkpoint/work.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void mark(attend_work *w, const char *key)
{
    for (int i = 0; i < w->used_count; i++)
        if (!strcmp(w->used[i], key)) return;
    if (w->used_count < ATTEND_MAX_USED) w->used[w->used_count++] = key;
}

static const cJSON *find(const cJSON *object, const char *key)
{
    char word[64];
    for (const char *slash; object && (slash = strchr(key, '/')); key = slash + 1) {
        snprintf(word, sizeof word, "%.*s", (int)(slash - key), key);
        object = cJSON_GetObjectItemCaseSensitive(object, word);
    }
    const cJSON *item = object ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
    return cJSON_IsNull(item) ? NULL : item;
}

const cJSON *attend_key_of(attend_work *w, const cJSON *object, const char *key)
{
    if (object == w->config) mark(w, key);
    return find(object, key);
}

const cJSON *attend_key(attend_work *w, const char *key) { return attend_key_of(w, w->config, key); }

attend_status attend_key_number(attend_work *w, const cJSON *object, const char *key, double least,
                                double *value)
{
    const cJSON *item = attend_key_of(w, object, key);
    if (!item) return ATTEND_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= least) || !isfinite((float)item->valuedouble))
        return attend_file_fail(ATTEND_BAD_FILE, "%s: %s is not a number of at least %g",
                                w->checkpoint->config_path, key, least);
    *value = item->valuedouble;
    return ATTEND_OK;
}

attend_status attend_key_count(attend_work *w, const char *const *keys, int64_t *value)
{
    *value = 0;
    for (int i = 0; keys[i]; i++) {
        const cJSON *item = attend_key(w, keys[i]);
        if (!item) continue;
        double number = item->valuedouble;
        if (!cJSON_IsNumber(item) || !(number >= 1 && number <= INT32_MAX) || number != floor(number))
            return attend_file_fail(ATTEND_BAD_FILE, "%s: %s is not a whole number of at least 1",
                                    w->checkpoint->config_path, keys[i]);
        *value = (int64_t)number;
        return ATTEND_OK;
    }
    return ATTEND_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

static attend_status check_object(const char *path, const cJSON *object)
{
    const int count = cJSON_GetArraySize(object);
    if (count < 2) return ATTEND_OK;
    const cJSON **items = malloc((size_t)count * sizeof *items), **end = items;
    attend_status status = ATTEND_OK;
    if (!items) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s: no memory for its keys", path);
    for (const cJSON *item = object->child; item; item = item->next) *end++ = item;
    qsort(items, (size_t)count, sizeof *items, by_key);
    for (int i = 1; i < count && status == ATTEND_OK; i++)
        if (!by_key(&items[i - 1], &items[i]))
            status = attend_file_fail(ATTEND_BAD_FILE, "%s has the key \"%.60s\" twice in one object", path,
                                      items[i]->string);
    free(items);
    return status;
}

attend_status attend_check_keys_once(const char *path, const cJSON *json)
{
    if (cJSON_IsObject(json)) ATTEND_TRY(check_object(path, json));
    for (const cJSON *item = json->child; item; item = item->next)
        ATTEND_TRY(attend_check_keys_once(path, item)); /* cJSON limits the depth to CJSON_NESTING_LIMIT */
    return ATTEND_OK;
}

/* Whether the key's value does not change attention. */
static bool harmless(const attend_known_key *known, const cJSON *item)
{
    if (!item || cJSON_IsFalse(item)) return true;
    if (cJSON_IsNumber(item))
        return item->valuedouble == 0 || (known->one != 0 && item->valuedouble == known->one);
    if (cJSON_IsString(item)) return known->harmless && !strcmp(item->valuestring, known->harmless);
    return (cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child;
}

static void print_value(const cJSON *item, char *text, size_t size)
{
    char *printed = cJSON_PrintUnformatted(item);
    snprintf(text, size, "%.60s%s", printed ? printed : "?", printed && strlen(printed) > 60 ? "…" : "");
    cJSON_free(printed);
}

/* Whether the object has the key. A soft-cap of null counts: it means none. */
static bool is_there(const cJSON *object, const attend_need *need)
{
    const cJSON *item = find(object, need->key);
    return item || (need->override == ATTEND_OVERRIDE_SOFTCAP && cJSON_HasObjectItem(object, need->key));
}

static attend_status check_needs(const attend_work *w)
{
    for (const attend_need *need = w->row ? w->row->needs : NULL; need && need->key; need++) {
        const bool unused = need->override == ATTEND_OVERRIDE_QK_NORM_EPSILON && !w->layer.problem.qk_norm;
        if (unused || attend_overridden(w, need->override) || is_there(w->config, need)) continue;
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s has no %s, which layers of model_type \"%s\" need; give %s",
                                w->checkpoint->config_path, need->key, w->layer.model_type, need->option);
    }
    return ATTEND_OK;
}

attend_status attend_check_keys(const attend_work *w)
{
    const attend_known_key *known;
    ATTEND_TRY(check_needs(w));
    for (int i = 0; (known = attend_known_key_at(i)); i++) {
        const cJSON *item = find(w->config, known->key);
        bool used = harmless(known, item) || (known->override && attend_overridden(w, known->override));
        for (int j = 0; j < w->used_count && !used; j++) used = !strcmp(w->used[j], known->key);
        if (used) continue;
        char value[80];
        print_value(item, value, sizeof value);
        return attend_file_fail(ATTEND_UNSUPPORTED,
                                "%s has %s = %s, which changes attention in a way that attend does not know "
                                "for model_type \"%s\"%s%s%s",
                                w->checkpoint->config_path, known->key, value, w->layer.model_type,
                                known->option ? "; " : "", known->option ? known->option : "",
                                known->option ? " overrides it" : "");
    }
    return ATTEND_OK;
}
