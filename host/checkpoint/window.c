/* The sliding window of a layer: the config's window, and whether this layer has it. */
#include "checkpoint/work.h"

#include <inttypes.h>
#include <string.h>

/* *slides by layer_types: 1, -1, or 0 if there is no layer_types. */
static attend_status read_type(attend_work *w, int *slides, const char **type)
{
    const cJSON *types = attend_key(w, "layer_types");
    *slides = 0, *type = NULL;
    if (!types || (w->row && w->row->untyped)) return ATTEND_OK;
    const cJSON *item = cJSON_IsArray(types) && w->found->number < INT32_MAX
                            ? cJSON_GetArrayItem(types, (int)w->found->number)
                            : NULL;
    if (!cJSON_IsString(item))
        return attend_file_fail(ATTEND_BAD_FILE, "%s: layer_types has no text for layer %" PRId64,
                                w->checkpoint->config_path, w->found->number);
    *type = item->valuestring;
    *slides = !strcmp(*type, "sliding_attention")                               ? 1
              : !strcmp(*type, "full_attention") || !strcmp(*type, "attention") ? -1
                                                                                : 0;
    return ATTEND_OK;
}

static attend_status count_or(attend_work *w, const char *key, int64_t usual, int64_t *count)
{
    const char *const keys[] = {key, NULL};
    ATTEND_TRY(attend_key_count(w, keys, count));
    if (!*count) *count = usual;
    if (*count) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                            "%s has a window, but not %s, which says which layers have it; give --window",
                            w->checkpoint->config_path, key);
}

/* Whether the layer has a window, by the row's rule. */
static attend_status by_rule(attend_work *w, int *slides)
{
    const int64_t number = w->found->number;
    int64_t count;
    bool yes = false;
    switch (w->row ? w->row->window : ATTEND_NO_WINDOW) {
    case ATTEND_NO_WINDOW: *slides = 0; return ATTEND_OK;
    case ATTEND_WINDOW_ALL: yes = true; break;
    case ATTEND_WINDOW_EVEN: yes = number % 2 == 0; break;
    case ATTEND_WINDOW_PATTERN:
        ATTEND_TRY(count_or(w, "sliding_window_pattern", w->row->pattern, &count));
        yes = (number + 1) % count != 0;
        break;
    case ATTEND_WINDOW_FROM: {
        double from = w->row->pattern > 0 ? (double)w->row->pattern : 0;
        ATTEND_TRY(attend_key_number(w, w->config, "max_window_layers", 0, &from));
        yes = (double)number >= from;
        break;
    }
    case ATTEND_WINDOW_BERT:
        ATTEND_TRY(count_or(w, "global_attn_every_n_layers", w->row->pattern, &count));
        yes = number % count != 0;
        break;
    case ATTEND_WINDOW_NEO: {
        const cJSON *kind = cJSON_GetArrayItem(attend_key(w, "attention_layers"), (int)number);
        attend_key(w, "attention_types");
        if (!cJSON_IsString(kind))
            return attend_file_fail(ATTEND_BAD_FILE, "%s: attention_layers has no text for layer %" PRId64,
                                    w->checkpoint->config_path, number);
        yes = !strcmp(kind->valuestring, "local");
        break;
    }
    }
    *slides = yes ? 1 : -1;
    return ATTEND_OK;
}

static attend_status apply(attend_work *w)
{
    attend_problem *p = &w->layer.problem;
    const bool bert = w->row && w->row->window == ATTEND_WINDOW_BERT;
    const char *const keys[] = {bert ? "local_attention" : "sliding_window", bert ? NULL : "window_size",
                                NULL};
    int64_t span = 0;
    ATTEND_TRY(attend_key_count(w, keys, &span));
    if (w->slides <= 0) return ATTEND_OK;
    if (!span && w->row) span = w->row->span;
    if (span < 0) return ATTEND_OK;
    if (!span)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s: layer %" PRId64 " has a window, but %s is missing; give --window",
                                w->checkpoint->config_path, w->found->number, keys[0]);
    p->windowed = true;
    p->window_left = bert ? span / 2 : span - 1;
    p->window_right = w->causality == ATTEND_BOTH_WAYS ? p->window_left : -1;
    return attend_note(w, "window", "%" PRId64 " keys before the query%s, from %s for layer %" PRId64,
                       p->window_left, p->window_right >= 0 ? " and after it" : "",
                       w->checkpoint->config_path, w->found->number);
}

/* Whether no layer has a window. use_sliding_window is read for models with window_asked, and for models
   whose row has no rule of windows. */
static bool is_off(attend_work *w)
{
    const cJSON *window = w->config ? cJSON_GetObjectItemCaseSensitive(w->config, "sliding_window") : NULL;
    const cJSON *use = attend_key(w, "use_sliding_window");
    if (cJSON_IsNull(window) || (cJSON_IsNumber(window) && window->valuedouble == 0)) return true;
    if (w->row && w->row->window_asked) return !cJSON_IsTrue(use);
    return cJSON_IsFalse(use) && !(w->row && w->row->window);
}

attend_status attend_decide_window(attend_work *w)
{
    const char *type;
    const bool given = attend_overridden(w, ATTEND_OVERRIDE_WINDOW);
    attend_problem *p = &w->layer.problem;
    if (attend_overridden(w, ATTEND_OVERRIDE_CHUNK)) p->chunk = w->options.problem.chunk;
    ATTEND_TRY(read_type(w, &w->slides, &type));
    const bool off = is_off(w);
    if (type && !w->slides && !given)
        return attend_file_fail(ATTEND_UNSUPPORTED,
                                "%s: layer %" PRId64
                                " is of type \"%.60s\", which attend does not know; give --window",
                                w->checkpoint->config_path, w->found->number, type);
    if (!type) ATTEND_TRY(by_rule(w, &w->slides));
    if (type && w->slides > 0 && w->row && w->row->window_asked && !given &&
        !cJSON_IsTrue(attend_key(w, "use_sliding_window")))
        return attend_file_fail(ATTEND_UNSUPPORTED,
                                "%s: layer_types has a window in layer %" PRId64
                                ", but use_sliding_window is not true; give --window",
                                w->checkpoint->config_path, w->found->number);
    if (off) attend_key(w, "sliding_window");
    if (given) {
        const attend_problem *by = &w->options.problem;
        p->windowed = by->windowed, p->window_left = by->window_left, p->window_right = by->window_right;
        return ATTEND_OK;
    }
    return off || !w->slides ? ATTEND_OK : apply(w);
}
