/* What a config.json beside the weights says about the model's attention. */
#ifndef ATTEND_TOOL_CONFIG_H
#define ATTEND_TOOL_CONFIG_H

#include "options.h"

#include <cjson/cJSON.h>

typedef struct model_config {
    bool found;
    char path[512];
    int64_t heads, kv_heads, head_dim; /* 0: not said */
    int64_t sliding_window;            /* 0: none */
    int slides;                        /* 1: this layer has that window, -1: it has none, 0: not said */
    float scale;                       /* 0: the usual */
    float softcap;                     /* 0: none */
    turn_options turn;                 /* choice ROTARY_GIVEN: it gives parameters of a rotary embedding */
    bool gemma;                        /* whose norms multiply by 1 + weight */
} model_config;

/* Reads what config.json in the folder of `weights` says of a layer; found is false where there is none. Fails where it is not a
   model's config, and where it asks for what attend run does not apply. */
attend_status config_load(const char *weights, int64_t layer, model_config *config);

/* The part about rotary embeddings and norms; `slides` as above. */
attend_status config_read_turn(const cJSON *json, model_config *config);
/* NULL where the key is missing or null. */
const cJSON *config_field(const cJSON *json, const char *key);

#endif
