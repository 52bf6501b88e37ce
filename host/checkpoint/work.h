/* A layer while it is read: shared by the files of this folder. */
#ifndef ATTEND_CHECKPOINT_WORK_H
#define ATTEND_CHECKPOINT_WORK_H

#include <attend/checkpoint.h>

#include "checkpoint/architectures.h"
#include "checkpoint/names.h"
#include "file/fail.h"

#include <cjson/cJSON.h>

struct attend_checkpoint {
    attend_shards shards;
    attend_found_layers found;
    char *config_path;
    cJSON *config; /* NULL: no config.json */
};

/* The tensors that a layer may have. */
typedef enum attend_slot {
    ATTEND_Q,
    ATTEND_K,
    ATTEND_V,
    ATTEND_FUSED,
    ATTEND_OUT,
    ATTEND_Q_BIAS,
    ATTEND_K_BIAS,
    ATTEND_V_BIAS,
    ATTEND_FUSED_BIAS,
    ATTEND_OUT_BIAS,
    ATTEND_Q_NORM,
    ATTEND_K_NORM,
    ATTEND_Q_NORM_BIAS,
    ATTEND_K_NORM_BIAS,
    ATTEND_SINKS,
    ATTEND_TABLE,
    ATTEND_SLOTS
} attend_slot;

enum { ATTEND_MAX_USED = 96, ATTEND_MAX_DECISIONS = 24, ATTEND_MAX_BLOCKS = 2 * ATTEND_SLOTS + 4 };

/* The public layer is its first member; the rest is private. */
typedef struct attend_work {
    attend_checkpoint_layer layer;
    attend_checkpoint *checkpoint;
    const attend_found_layer *found;
    const attend_architecture *row; /* NULL: no config.json, or a model_type that the table lacks */
    const cJSON *config;            /* the part that describes the layer; NULL: no config.json */
    attend_checkpoint_options options;
    char *tensors[ATTEND_SLOTS];       /* their names; NULL: absent */
    const char *used[ATTEND_MAX_USED]; /* keys of the config that were read */
    int used_count;
    /* results of the row and its rules */
    bool mixed;  /* a submodel in which parts of a text attend to each other in both directions */
    double base; /* of rotary embedding, from the enclosing model; 0: by the submodel's own type */
    attend_causality causality;
    attend_rotary rotary;
    attend_norm_rule norm;
    bool alibi_scaled;
    int slides; /* 1: the layer has a window, -1: it has none, 0: no layer has one */
    attend_checkpoint_decision decisions[ATTEND_MAX_DECISIONS];
    void *blocks[ATTEND_MAX_BLOCKS]; /* the tensors' memory */
    int block_count;
} attend_work;

static inline attend_checkpoint_name attend_found_layer_name(const attend_found_layer *found)
{
    return (attend_checkpoint_name){found->prefix, found->naming->layout, found->naming->title,
                                    found->number};
}

static inline bool attend_overridden(const attend_work *work, int field)
{
    return (work->options.overrides & field) != 0;
}

/* Notes a decision; `text` is a format. */
attend_status attend_note(attend_work *work, const char *of, const char *text, ...)
    __attribute__((format(printf, 3, 4)));

/* Reads a key of the config and marks it as known; "a/b" is b within a. NULL if it is missing or null. */
const cJSON *attend_key(attend_work *work, const char *key);
const cJSON *attend_key_of(attend_work *work, const cJSON *object, const char *key);
/* *value keeps its value if the key is missing. */
attend_status attend_key_number(attend_work *work, const cJSON *object, const char *key, double least,
                                double *value);
/* The first of the keys that the config has, a number of at least 1; 0: it has none. */
attend_status attend_key_count(attend_work *work, const char *const *keys, int64_t *value);
/* Fails if an object has a key twice: JSON readers differ in which value they take. */
attend_status attend_check_keys_once(const char *path, const cJSON *json);
/* Fails if the config has a key that changes attention and was not read. */
attend_status attend_check_keys(const attend_work *work);

/* Decides rotary embedding and its parameters. */
attend_status attend_decide_rotary(attend_work *work);
/* Decides the window, and sets `slides`. */
attend_status attend_decide_window(attend_work *work);
/* Decides heads, dims and sizes from tensor shapes. */
attend_status attend_decide_heads(attend_work *work);

/* The entry of a tensor in its file. */
attend_status attend_entry(attend_work *work, attend_slot slot, const attend_safetensors_entry **entry);

#endif
