/* Decides what a layer computes, from its row of the table, the keys of the config that the row reads, and
   the caller's options. A key or tensor that none of these accounts for is refused. */
#include "checkpoint/work.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *item = object ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
    return cJSON_IsString(item) ? item->valuestring : "";
}

/* Finds the config that describes the layer, and its row. In a model with submodels the layer's prefix
   selects the submodel. */
static attend_status find_row(attend_work *w)
{
    const char *path = w->checkpoint->config_path;
    w->config = w->checkpoint->config;
    if (!w->config) return ATTEND_OK;
    for (int depth = 0; depth < 4; depth++) {
        w->layer.model_type = text_of(w->config, "model_type");
        w->row = attend_architecture_of(w->layer.model_type);
        const attend_part *part = w->row ? w->row->parts : NULL;
        if (!part) return ATTEND_OK;
        w->mixed |= w->row->causal == ATTEND_MUST_BE_GIVEN;
        w->base = w->row->base;
        while (part->within && !strstr(w->found->prefix, part->within)) part++;
        const cJSON *own = part->key ? cJSON_GetObjectItemCaseSensitive(w->config, part->key) : NULL;
        if (!part->within)
            return attend_file_fail(ATTEND_UNSUPPORTED,
                                    "%s: %s is in no part of a %s model that attend knows", path,
                                    w->found->prefix, w->layer.model_type);
        if (!cJSON_IsObject(own))
            return attend_file_fail(ATTEND_BAD_FILE, "%s has no %s, which describes %s", path, part->key,
                                    w->found->prefix);
        w->config = own;
    }
    return attend_file_fail(ATTEND_BAD_FILE, "%s nests too many submodels", path);
}

/* Checks that it is known what the layer computes: by its row, or by the caller's options. */
static attend_status check_known(attend_work *w)
{
    const attend_naming *n = w->found->naming;
    const char *path = w->checkpoint->config_path;
    const bool given = attend_overridden(w, ATTEND_OVERRIDE_CAUSAL) &&
                       (attend_overridden(w, ATTEND_OVERRIDE_ROTARY) || n->no_rotary);
    if (w->row && w->row->refused)
        return attend_file_fail(ATTEND_UNSUPPORTED, "%s is of model_type \"%s\": %s", path,
                                w->layer.model_type, w->row->refused);
    if (w->row && w->row->without && strstr(w->found->prefix, w->row->without))
        return attend_file_fail(
            ATTEND_UNSUPPORTED,
            "%s: %s is not self-attention: there, models of type \"%s\" have queries from another input",
            w->checkpoint->shards.path, w->found->prefix, w->layer.model_type);
    if (w->row && attend_architecture_has_layout(w->row, n->layout)) return ATTEND_OK;
    if (w->row && !given)
        return attend_file_fail(
            ATTEND_UNSUPPORTED,
            "%s: %s has the tensor names of %s, but models of type \"%s\" in %s have others",
            w->checkpoint->shards.path, w->found->prefix, n->title, w->layer.model_type, path);
    w->row = NULL;
    if (given) return ATTEND_OK;
    const char *rotary = n->no_rotary ? "" : " --rotary halves";
    if (!w->config)
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "%s is missing, and tensor names alone (%s's) do not say what the layer computes: "
            "give --causal=none or --causal=top-left%s",
            path, n->title, n->no_rotary ? "" : ", and --rotary none, halves or interleaved");
    return attend_file_fail(ATTEND_UNSUPPORTED,
                            "%s is of model_type \"%.60s\", which attend does not know; its names are those "
                            "of %s. Give what its layers compute, for "
                            "example --layout %s --causal=top-left%s",
                            path, w->layer.model_type, n->title, n->layout, rotary);
}

static attend_status take(attend_work *w, attend_slot slot, const char *stem, const char *suffix)
{
    char *name;
    if (w->tensors[slot]) return ATTEND_OK;
    if (asprintf(&name, "%s%s", stem, suffix) < 0)
        return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for a name");
    if (attend_shards_have(&w->checkpoint->shards, name))
        w->tensors[slot] = name;
    else
        free(name);
    return ATTEND_OK;
}

static attend_status take_bias(attend_work *w, attend_slot slot, const char *weight)
{
    char name[128];
    snprintf(name, sizeof name, "%.*sbias", (int)(strlen(weight) - strlen("weight")), weight);
    return take(w, slot, w->found->prefix, name);
}

/* Finds the relative table: the layer's own, else the one that the layers of its stack share. */
static attend_status take_table(attend_work *w)
{
    const attend_naming *n = w->found->naming;
    char stem[512];
    if (!n->relative) return ATTEND_OK;
    ATTEND_TRY(take(w, ATTEND_TABLE, w->found->prefix, n->relative));
    const char *number = attend_names_number(w->found->prefix);
    if (!number) return ATTEND_OK;
    const int before = (int)(number - w->found->prefix);
    if (n->relative_layout == ATTEND_TABLE_FIRST) {
        snprintf(stem, sizeof stem, "%.*s0%s", before, w->found->prefix,
                 number + strspn(number, "0123456789"));
        return take(w, ATTEND_TABLE, stem, n->relative);
    }
    snprintf(stem, sizeof stem, "%.*s", before - (before > 0), w->found->prefix); /* "encoder.layer" */
    char *last = strrchr(stem, '.');
    stem[last ? last - stem + 1 : 0] = 0;
    return take(w, ATTEND_TABLE, stem, n->relative);
}

static attend_status take_tensors(attend_work *w)
{
    const attend_naming *n = w->found->naming;
    const char *prefix = w->found->prefix, *bias = n->fused ? n->fused : n->fused_bias;
    const struct {
        attend_slot slot;
        const char *name;
    } weights[] = {
        {ATTEND_Q, n->q}, {ATTEND_K, n->k}, {ATTEND_V, n->v}, {ATTEND_FUSED, n->fused}, {ATTEND_OUT, n->out}};
    for (int i = 0; i < 5; i++)
        if (weights[i].name) ATTEND_TRY(take(w, weights[i].slot, prefix, weights[i].name));
    ATTEND_TRY(take_bias(w, ATTEND_OUT_BIAS, n->out));
    if (bias) ATTEND_TRY(take_bias(w, ATTEND_FUSED_BIAS, bias));
    for (int i = 0; i < 3 && !bias; i++) ATTEND_TRY(take_bias(w, ATTEND_Q_BIAS + i, weights[i].name));
    if (n->q_bias) ATTEND_TRY(take(w, ATTEND_Q_BIAS, prefix, n->q_bias));
    if (n->v_bias) ATTEND_TRY(take(w, ATTEND_V_BIAS, prefix, n->v_bias));
    w->layer.input_tensor = w->tensors[n->fused ? ATTEND_FUSED : ATTEND_Q],
    w->layer.output_tensor = w->tensors[ATTEND_OUT];
    return take_table(w);
}

static bool holds(const attend_rule *rule, const cJSON *item)
{
    switch (rule->test) {
    case ATTEND_IF_TRUE: return cJSON_IsTrue(item);
    case ATTEND_IF_FALSE: return cJSON_IsFalse(item);
    case ATTEND_IF_SET:
        if (!item) return rule->usual != 0;
        return !cJSON_IsFalse(item) && !(cJSON_IsNumber(item) && item->valuedouble == 0);
    case ATTEND_IF_TEXT: return cJSON_IsString(item) && !strcmp(item->valuestring, rule->value);
    case ATTEND_IF_OTHER: return cJSON_IsString(item) && strcmp(item->valuestring, rule->value) != 0;
    }
    return false;
}

static attend_status rule_number(attend_work *w, const attend_rule *rule, double *value)
{
    *value = rule->usual;
    ATTEND_TRY(attend_key_number(w, w->config, rule->key, 0, value));
    if (*value > 0 && *value < 1e30) return ATTEND_OK;
    return attend_file_fail(ATTEND_BAD_FILE, "%s: %s is not a number above 0", w->checkpoint->config_path,
                            rule->key);
}

/* Whether an option of the caller replaces the key. */
static bool is_overridden(const attend_work *w, const char *key)
{
    const attend_known_key *known;
    for (int i = 0; (known = attend_known_key_at(i)); i++)
        if (!strcmp(known->key, key)) return known->override && attend_overridden(w, known->override);
    return false;
}

static attend_status apply_rule(attend_work *w, const attend_rule *rule)
{
    attend_problem *p = &w->layer.problem;
    const double root = sqrt((double)p->head_dim),
                 usual = p->softmax_scale != 0 ? (double)p->softmax_scale : 1 / root;
    double value = 0;
    switch (rule->effect) {
    case ATTEND_THEN_NOTHING: return ATTEND_OK;
    case ATTEND_THEN_CAUSAL: w->causality = ATTEND_DECODES; return ATTEND_OK;
    case ATTEND_THEN_HALVES: w->rotary = ATTEND_ROTARY_HALVES; return ATTEND_OK;
    case ATTEND_THEN_INTERLEAVED: w->rotary = ATTEND_ROTARY_INTERLEAVED; return ATTEND_OK;
    case ATTEND_THEN_SCALED_ALIBI: w->alibi_scaled = true; /* fall through */
    case ATTEND_THEN_ALIBI: p->alibi = ATTEND_ALIBI_CAUSAL, w->rotary = ATTEND_ROTARY_NONE; return ATTEND_OK;
    case ATTEND_THEN_SCALE_ONE: p->softmax_scale = 1; return ATTEND_OK;
    case ATTEND_THEN_SCALE_LAYER:
        p->softmax_scale = (float)(usual / (double)(w->found->number + 1));
        return ATTEND_OK;
    case ATTEND_THEN_SCALE:
        ATTEND_TRY(rule_number(w, rule, &value));
        p->softmax_scale = (float)value;
        return ATTEND_OK;
    case ATTEND_THEN_SCALE_ROOT:
        ATTEND_TRY(rule_number(w, rule, &value));
        p->softmax_scale = (float)(1 / sqrt(value));
        return ATTEND_OK;
    case ATTEND_THEN_SCALE_TIMES:
        ATTEND_TRY(rule_number(w, rule, &value));
        p->softmax_scale = (float)(usual * value);
        return ATTEND_OK;
    case ATTEND_THEN_SOFTCAP:
        ATTEND_TRY(rule_number(w, rule, &value));
        p->softcap = (float)value;
        return ATTEND_OK;
    case ATTEND_THEN_REFUSE:
        if (is_overridden(w, rule->key)) return ATTEND_OK;
        break;
    }
    return attend_file_fail(ATTEND_UNSUPPORTED, "%s: model_type \"%s\" has %s: %s",
                            w->checkpoint->config_path, w->layer.model_type, rule->key,
                            rule->value && rule->test != ATTEND_IF_TEXT && rule->test != ATTEND_IF_OTHER
                                ? rule->value
                                : "attend does not support that");
}

/* The value of a boolean key; null is false, as in Python. */
static bool is_on(attend_work *w, const attend_switch *which)
{
    if (!which->key) return true;
    const cJSON *item = attend_key(w, which->key);
    return cJSON_HasObjectItem(w->config, which->key) ? cJSON_IsTrue(item) : which->usual;
}

/* The error for a tensor of the file that the model's code would ignore. */
static attend_status refuse_dropped(const attend_work *w, const char *tensor, const char *what,
                                    const attend_switch *which)
{
    return attend_file_fail(ATTEND_UNSUPPORTED,
                            "%s holds %s, but layers of model_type \"%s\" have %s only if %s has %s = true",
                            w->checkpoint->shards.path, tensor, w->layer.model_type, what,
                            w->checkpoint->config_path, which->key);
}

/* Checks that biases are in the file as the row says. A key whose default is false is about the biases of all
   four projections, other keys about those of Q, K and V. */
static attend_status check_biases(attend_work *w)
{
    static const attend_slot biases[] = {ATTEND_Q_BIAS, ATTEND_K_BIAS, ATTEND_V_BIAS, ATTEND_FUSED_BIAS,
                                         ATTEND_OUT_BIAS};
    if (!w->row || !w->row->biased.key) return ATTEND_OK;
    const attend_switch *which = &w->row->biased;
    const bool on = is_on(w, which);
    for (int i = 0; i < (which->usual ? 4 : 5) && !on; i++)
        if (w->tensors[biases[i]]) return refuse_dropped(w, w->tensors[biases[i]], "biases", which);
    if (!on || w->tensors[ATTEND_Q_BIAS] || w->tensors[ATTEND_FUSED_BIAS]) return ATTEND_OK;
    return attend_file_fail(ATTEND_BAD_FILE,
                            "%s lacks biases in %s, which layers of model_type \"%s\" have unless %s "
                            "has %s = false",
                            w->checkpoint->shards.path, w->found->prefix, w->layer.model_type,
                            w->checkpoint->config_path, which->key);
}

static attend_status apply_rules(attend_work *w)
{
    if (!w->row) return ATTEND_OK;
    w->causality = w->row->causal, w->rotary = w->row->rotary;
    w->norm = is_on(w, &w->row->normed) ? w->row->norm : ATTEND_NO_NORM;
    if (w->causality == ATTEND_BY_STACK)
        w->causality = strstr(w->found->prefix, "decoder") ? ATTEND_DECODES : ATTEND_BOTH_WAYS;
    if (w->mixed && w->causality == ATTEND_DECODES) w->causality = ATTEND_MUST_BE_GIVEN;
    if (w->row->scale_one) w->layer.problem.softmax_scale = 1;
    for (const attend_rule *rule = w->row->rules; rule && rule->key; rule++)
        if (holds(rule, attend_key(w, rule->key))) ATTEND_TRY(apply_rule(w, rule));
    return ATTEND_OK;
}

static attend_status decide_causal(attend_work *w)
{
    attend_problem *p = &w->layer.problem;
    if (attend_overridden(w, ATTEND_OVERRIDE_CAUSAL)) {
        p->causal = w->options.problem.causal;
        if (!w->row) w->causality = p->causal ? ATTEND_DECODES : ATTEND_BOTH_WAYS;
        return attend_note(w, "causal", "%s, from the options",
                           p->causal == ATTEND_CAUSAL_NONE       ? "none"
                           : p->causal == ATTEND_CAUSAL_TOP_LEFT ? "top-left"
                                                                 : "bottom-right");
    }
    if (w->causality == ATTEND_MUST_BE_GIVEN)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "layers of model_type \"%s\" are run both with and without a causal mask: "
                                "give --causal=none or --causal=top-left",
                                w->layer.model_type);
    const cJSON *key = attend_key(w, "is_causal");
    if (cJSON_IsBool(key) && cJSON_IsTrue(key) != (w->causality == ATTEND_DECODES))
        return attend_file_fail(ATTEND_UNSUPPORTED,
                                "%s has is_causal = %s, which layers of model_type \"%s\" are not; --causal "
                                "overrides it",
                                w->checkpoint->config_path, cJSON_IsTrue(key) ? "true" : "false",
                                w->layer.model_type);
    p->causal = w->causality == ATTEND_DECODES ? ATTEND_CAUSAL_TOP_LEFT : ATTEND_CAUSAL_NONE;
    return attend_note(w, "causal", "%s, the default of %s models", p->causal ? "top-left" : "none",
                       w->layer.model_type);
}

/* Checks that the file has the tensor for both Q and K, or for neither. `slot` is that of Q, followed by that
   of K. */
static attend_status check_pair(const attend_work *w, attend_slot slot)
{
    const char *q = w->tensors[slot], *k = w->tensors[slot + 1];
    if (!q == !k || (attend_overridden(w, ATTEND_OVERRIDE_QK_NORM) && !w->options.problem.qk_norm))
        return ATTEND_OK;
    return attend_file_fail(ATTEND_UNSUPPORTED,
                            "%s has %s, but no such tensor of %s; --qk-norm none leaves the norm out",
                            w->checkpoint->shards.path, q ? q : k, q ? "K" : "Q");
}

/* Checks that the file has norms of Q and K if, and only if, the model's layers do. */
static attend_status check_norms(const attend_work *w)
{
    const char *q = w->tensors[ATTEND_Q_NORM];
    if (!w->row && q)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s has %s, and tensor names alone do not say which kind of norm it is: give "
                                "--qk-norm rms, layer or none",
                                w->checkpoint->shards.path, q);
    if (q && !w->norm) return refuse_dropped(w, q, "norms of Q and K", &w->row->normed);
    if (q || w->tensors[ATTEND_K_NORM] || !w->norm) return ATTEND_OK;
    return attend_file_fail(ATTEND_BAD_FILE,
                            "%s lacks norms of Q and K in %s, which layers of model_type \"%s\" have; "
                            "--qk-norm none leaves them out",
                            w->checkpoint->shards.path, w->found->prefix, w->layer.model_type);
}

/* Norms of Q and K: of the row's kind, unless a key of the config says that there are none. */
static attend_status decide_norm(attend_work *w)
{
    static const attend_qk_norm kinds[] = {ATTEND_QK_NORM_NONE, ATTEND_QK_NORM_RMS, ATTEND_QK_NORM_RMS,
                                           ATTEND_QK_NORM_LAYER};
    static const char *const names[] = {"none", "RMS", "layer norm"};
    static const char *const pairs[][2] = {
        {"q_norm", "k_norm"}, {"q_layernorm", "k_layernorm"}, {"query_layernorm", "key_layernorm"}};
    attend_problem *p = &w->layer.problem;
    char scope[512];
    double epsilon = 0;
    attend_names_scope(w->found, scope, sizeof scope);
    const bool given = attend_overridden(w, ATTEND_OVERRIDE_QK_NORM);
    const attend_norm_rule usual = w->row ? w->row->norm : ATTEND_NO_NORM;
    const attend_qk_norm kind = given ? w->options.problem.qk_norm : kinds[usual];
    const int tensors = !given && kind == ATTEND_QK_NORM_RMS ? 2 : 4; /* RMS norms of models have no bias */
    for (int i = 0; i < 3; i++) {
        char name[64];
        if (w->row && strcmp(pairs[i][0], w->row->q_norm ? w->row->q_norm : "q_norm") != 0) continue;
        if (w->row && !usual && !given) continue;
        const attend_slot slots[] = {ATTEND_Q_NORM, ATTEND_K_NORM, ATTEND_Q_NORM_BIAS, ATTEND_K_NORM_BIAS};
        for (int j = 0; j < tensors; j++) {
            snprintf(name, sizeof name, "%s.%s", pairs[i][j % 2], j < 2 ? "weight" : "bias");
            ATTEND_TRY(take(w, slots[j], scope, name));
        }
    }
    if (!given) ATTEND_TRY(check_norms(w));
    ATTEND_TRY(check_pair(w, ATTEND_Q_NORM));
    ATTEND_TRY(check_pair(w, ATTEND_Q_NORM_BIAS));
    p->qk_norm = given || w->norm ? kind : ATTEND_QK_NORM_NONE;
    if (!p->qk_norm) return ATTEND_OK;
    static const char *const keys[] = {"layer_norm_eps", "layernorm_epsilon", "layer_norm_epsilon",
                                       "norm_epsilon",   "norm_eps",          "rms_norm_eps"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ATTEND_TRY(attend_key_number(w, w->config, keys[i], 0, &epsilon));
    if (attend_overridden(w, ATTEND_OVERRIDE_QK_NORM_EPSILON))
        epsilon = (double)w->options.problem.qk_norm_epsilon;
    p->qk_norm_epsilon = (float)epsilon;
    for (attend_slot slot = ATTEND_Q_NORM; slot <= ATTEND_K_NORM_BIAS; slot++) {
        const attend_safetensors_entry *entry;
        if (!w->tensors[slot]) continue;
        ATTEND_TRY(attend_entry(w, slot, &entry));
        if (entry->rank != 1 || entry->shape[0] != p->head_dim)
            return attend_file_fail(
                ATTEND_UNSUPPORTED,
                "%s: %s is not a vector of head_dim (%" PRId64
                ") elements, the only norm that attend supports; --qk-norm none leaves it out",
                w->checkpoint->shards.path, entry->name, p->head_dim);
    }
    return attend_note(w, "norms of Q and K", "%s, epsilon %g%s", names[p->qk_norm],
                       epsilon != 0 ? epsilon : 1e-6,
                       given                            ? ", from the options"
                       : w->norm == ATTEND_NORM_RMS_ONE ? ", times 1 + weight"
                                                        : "");
}

static attend_status decide_table(attend_work *w)
{
    attend_problem *p = &w->layer.problem;
    if (attend_overridden(w, ATTEND_OVERRIDE_RELATIVE)) {
        p->relative_buckets = w->options.problem.relative_buckets;
        p->relative_max_distance = w->options.problem.relative_max_distance,
        p->relative_bidirectional = w->options.problem.relative_bidirectional;
        return ATTEND_OK;
    }
    if (!w->tensors[ATTEND_TABLE]) {
        if (!w->found->naming->relative) return ATTEND_OK;
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s lacks the table of relative positions that layers of %s share (%s); "
                                "give --relative and --relative-table",
                                w->checkpoint->shards.path, w->found->prefix, w->found->naming->relative);
    }
    const attend_safetensors_entry *entry;
    double distance = w->row ? (double)w->row->relative_distance : 0;
    ATTEND_TRY(attend_entry(w, ATTEND_TABLE, &entry));
    ATTEND_TRY(attend_key_number(w, w->config, "relative_attention_max_distance", 1, &distance));
    attend_key(w, "relative_attention_num_buckets");
    if (entry->rank != 2 || entry->shape[1] != p->num_heads || entry->shape[0] < 4 ||
        entry->shape[0] > 1 << 20)
        return attend_file_fail(ATTEND_BAD_FILE,
                                "%s: %s is not a table of at least 4 buckets by %" PRId64 " heads",
                                w->checkpoint->shards.path, entry->name, p->num_heads);
    if (distance < 1 || distance > 1 << 24)
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "%s has a table of relative positions, but their largest distance is unknown: "
            "give --relative and --relative-table",
            w->checkpoint->shards.path);
    p->relative_buckets = (int)entry->shape[0], p->relative_max_distance = (int)distance,
    p->relative_bidirectional = w->causality == ATTEND_BOTH_WAYS;
    return attend_note(w, "relative positions", "%d buckets up to %d, %s, from %s", p->relative_buckets,
                       p->relative_max_distance, p->relative_bidirectional ? "bidirectional" : "one-sided",
                       entry->name);
}

/* Scale, soft-cap, ALiBi and sinks, as the caller's options say. */
static attend_status override_fields(attend_work *w)
{
    attend_problem *p = &w->layer.problem;
    const attend_problem *by = &w->options.problem;
    char scope[512];
    attend_names_scope(w->found, scope, sizeof scope);
    if (!w->row && w->found->naming->relative && !attend_overridden(w, ATTEND_OVERRIDE_SCALE))
        return attend_file_fail(
            ATTEND_INVALID_ARGUMENT,
            "tensor names of %s do not say how scores are scaled (T5 does not scale them): give "
            "--scale",
            w->found->naming->title);
    if (!w->row || w->row->sinks) ATTEND_TRY(take(w, ATTEND_SINKS, scope, "sinks"));
    p->sinks = w->tensors[ATTEND_SINKS] != NULL;
    if (w->row && w->row->sinks && !p->sinks && !attend_overridden(w, ATTEND_OVERRIDE_SINKS))
        return attend_file_fail(ATTEND_BAD_FILE, "%s lacks %ssinks, which %s layers have; give --sinks",
                                w->checkpoint->shards.path, scope, w->layer.model_type);
    if (attend_overridden(w, ATTEND_OVERRIDE_SINKS)) p->sinks = by->sinks;
    if (attend_overridden(w, ATTEND_OVERRIDE_SCALE)) p->softmax_scale = by->softmax_scale;
    if (attend_overridden(w, ATTEND_OVERRIDE_SOFTCAP)) p->softcap = by->softcap;
    if (attend_overridden(w, ATTEND_OVERRIDE_ALIBI)) p->alibi = by->alibi, w->alibi_scaled = false;
    if (p->softmax_scale != 0)
        ATTEND_TRY(attend_note(w, "scale", "%g, %s", (double)p->softmax_scale,
                               attend_overridden(w, ATTEND_OVERRIDE_SCALE)
                                   ? "from the options"
                                   : "from config.json and the model's type"));
    if (p->softcap > 0)
        ATTEND_TRY(attend_note(w, "soft-cap", "%g, %s", (double)p->softcap,
                               attend_overridden(w, ATTEND_OVERRIDE_SOFTCAP) ? "from the options"
                                                                             : "from config.json"));
    if (p->alibi)
        ATTEND_TRY(attend_note(w, "ALiBi", "%s%s", w->alibi_scaled ? "divided by sqrt(head_dim), " : "",
                               attend_overridden(w, ATTEND_OVERRIDE_ALIBI) ? "from the options"
                                                                           : "from config.json"));
    return p->sinks ? attend_note(w, "sinks", "one logit per head in softmax's sum") : ATTEND_OK;
}

/* Tensors with the attention's prefix that do not change it: cached masks and frequencies, and norms after
   it. Whole names are compared, so that q_layer_norm.weight is not taken for layer_norm.weight. */
static bool is_harmless(const char *rest)
{
    static const char *const whole[] = {"bias", "masked_bias", "position_ids", "causal_mask",
                                        "embed_positions"};
    static const char *const modules[] = {"rotary_emb.",          "rotary_embeddings.", "embed_positions.",
                                          "LayerNorm.",           "layer_norm.",        "ln.",
                                          "self_attn_layer_norm."};
    static const char *const halves[] = {"self.", "output."}; /* the two parts of BERT's attention */
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++)
        if (!strncmp(rest, halves[i], strlen(halves[i]))) rest += strlen(halves[i]);
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (!strcmp(rest, whole[i])) return true;
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
        if (!strncmp(rest, modules[i], strlen(modules[i]))) return true;
    return false;
}

static attend_status check_tensors(const attend_work *w)
{
    char scope[512];
    const attend_shards *s = &w->checkpoint->shards;
    attend_names_scope(w->found, scope, sizeof scope);
    const size_t length = strlen(scope);
    for (int64_t i = attend_shards_first(s, scope);
         i < s->count && !strncmp(s->tensors[i].name, scope, length); i++) {
        const char *name = s->tensors[i].name, *rest = name + length;
        bool consumed = is_harmless(rest) || (length == 0 && strchr(rest, '.'));
        for (int slot = 0; slot < ATTEND_SLOTS && !consumed; slot++)
            consumed = w->tensors[slot] && !strcmp(w->tensors[slot], name);
        if (consumed) continue;
        return attend_file_fail(ATTEND_UNSUPPORTED,
                                "%s holds %s beside the layer's projections, which attend does not apply",
                                s->path, name);
    }
    return ATTEND_OK;
}

static attend_status decide(attend_work *w)
{
    const attend_safetensors_entry *entry;
    ATTEND_TRY(find_row(w));
    ATTEND_TRY(check_known(w));
    ATTEND_TRY(take_tensors(w));
    ATTEND_TRY(attend_entry(w, w->found->naming->fused ? ATTEND_FUSED : ATTEND_Q, &entry));
    w->layer.stored_dtype = entry->dtype;
    ATTEND_TRY(attend_decide_heads(w));
    ATTEND_TRY(check_biases(w));
    ATTEND_TRY(apply_rules(w));
    ATTEND_TRY(decide_causal(w));
    ATTEND_TRY(attend_decide_window(w));
    ATTEND_TRY(attend_decide_rotary(w));
    ATTEND_TRY(decide_norm(w));
    ATTEND_TRY(decide_table(w));
    ATTEND_TRY(override_fields(w));
    ATTEND_TRY(attend_check_keys(w));
    return check_tensors(w);
}

/* Checks the caller's enums, which index tables. */
static attend_status check_options(const attend_checkpoint_options *o)
{
    const attend_problem *p = &o->problem;
    const int64_t all = 2 * ATTEND_OVERRIDE_CHUNK - 1; /* the last bit and those below it */
    const struct {
        int override; /* 0: checked always */
        const char *name;
        int64_t value, most;
    } fields[] = {{0, "overrides", o->overrides, all},
                  {0, "num_heads", o->num_heads, INT64_MAX},
                  {0, "num_kv_heads", o->num_kv_heads, INT64_MAX},
                  {ATTEND_OVERRIDE_CAUSAL, "causal", p->causal, ATTEND_CAUSAL_BOTTOM_RIGHT},
                  {ATTEND_OVERRIDE_ALIBI, "alibi", p->alibi, ATTEND_ALIBI_CAUSAL},
                  {ATTEND_OVERRIDE_ROTARY, "rotary", p->rotary, ATTEND_ROTARY_INTERLEAVED},
                  {ATTEND_OVERRIDE_ROTARY_SCALING, "rotary_scaling", p->rotary_scaling, ATTEND_ROTARY_LLAMA3},
                  {ATTEND_OVERRIDE_QK_NORM, "qk_norm", p->qk_norm, ATTEND_QK_NORM_LAYER}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (fields[i].override && !(o->overrides & fields[i].override)) continue;
        if (fields[i].value >= 0 && fields[i].value <= fields[i].most) continue;
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "options: %s is %" PRId64 ", expected 0 to %" PRId64,
                                fields[i].name, fields[i].value, fields[i].most);
    }
    for (size_t i = 0; i < sizeof o->reserved; i++)
        if (o->reserved[i])
            return attend_file_fail(ATTEND_INVALID_ARGUMENT, "options: reserved bytes are not zero");
    return ATTEND_OK;
}

attend_status attend_checkpoint_decide(attend_checkpoint *checkpoint, int64_t index,
                                       const attend_checkpoint_options *options,
                                       attend_checkpoint_layer **layer)
{
    *layer = NULL;
    if (index < 0 || index >= checkpoint->found.count)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "layer index is %" PRId64 ", expected 0 to %" PRId64,
                                index, checkpoint->found.count - 1);
    if (options) ATTEND_TRY(check_options(options));
    attend_work *w = calloc(1, sizeof *w);
    if (!w) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for a layer");
    w->checkpoint = checkpoint, w->found = &checkpoint->found.layers[index];
    if (options) w->options = *options;
    w->layer.name = attend_found_layer_name(w->found);
    w->layer.model_type = "", w->layer.conv1d = w->found->naming->conv1d;
    attend_status status = decide(w);
    if (status == ATTEND_OK)
        *layer = &w->layer;
    else
        attend_checkpoint_free(&w->layer);
    return status;
}

void attend_checkpoint_free(attend_checkpoint_layer *layer)
{
    attend_work *w = (attend_work *)layer; /* `layer` is its first member */
    if (!w) return;
    for (int i = 0; i < w->layer.decision_count; i++) free((char *)w->decisions[i].text);
    for (int i = 0; i < ATTEND_SLOTS; i++) free(w->tensors[i]);
    for (int i = 0; i < w->block_count; i++) free(w->blocks[i]);
    free(w);
}
