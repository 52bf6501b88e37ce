/* A layer on its way from names to weights; what the files of this folder share. */
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
    cJSON *config; /* NULL: there is none */
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

/* A layer is its first member; the rest is for the library alone. */
typedef struct attend_work {
    attend_checkpoint_layer layer;
    attend_checkpoint *checkpoint;
    const attend_found_layer *found;
    const attend_architecture *row; /* NULL: no config.json, or a model_type that the table lacks */
    const cJSON *config;            /* that describes the layer; NULL: none */
    attend_checkpoint_options options;
    char *tensors[ATTEND_SLOTS];       /* names; NULL: absent */
    const char *used[ATTEND_MAX_USED]; /* keys of the config that were read */
    int used_count;
    /* What rules and the row make of it. */
    bool mixed;  /* a model within one that lets parts of a text see each other */
    double base; /* of rotary embeddings, as the model around it has it; 0: as its own type does */
    attend_causality causality;
    attend_rotary rotary;
    attend_norm_rule norm;
    bool alibi_scaled;
    int slides; /* 1: the layer has a window, -1: it has none, 0: nothing has */
    attend_checkpoint_decision decisions[ATTEND_MAX_DECISIONS];
    void *blocks[ATTEND_MAX_BLOCKS]; /* memory of tensors */
    int block_count;
} attend_work;

static inline attend_checkpoint_name attend_found_layer_name(const attend_found_layer *found)
{
    return (attend_checkpoint_name){found->prefix, found->naming->layout, found->naming->title,
                                    found->number};
}

static inline bool attend_said(const attend_work *work, int said) { return (work->options.said & said) != 0; }

/* Notes a decision; `text` is a format. */
attend_status attend_note(attend_work *work, const char *of, const char *text, ...)
    __attribute__((format(printf, 3, 4)));

/* Reading the config marks its keys as known. NULL where a key, "a/b" for b within a, is missing or null. */
const cJSON *attend_key(attend_work *work, const char *key);
const cJSON *attend_key_of(attend_work *work, const cJSON *object, const char *key);
/* Value stays as it is where the key is missing. */
attend_status attend_key_number(attend_work *work, const cJSON *object, const char *key, double least,
                                double *value);
/* The first of the keys that is there as a count of at least 1; 0 without. */
attend_status attend_key_count(attend_work *work, const char *const *keys, int64_t *value);
/* That no object has a key twice: readers differ in which of the values they take. */
attend_status attend_check_keys_once(const char *path, const cJSON *json);
/* That no key is left which changes attention. */
attend_status attend_check_keys(const attend_work *work);

/* The rotary embedding and its parameters. */
attend_status attend_decide_rotary(attend_work *work);
/* The window of the layer, and `slides`. */
attend_status attend_decide_window(attend_work *work);
/* Heads, dims and sizes by the shapes of the tensors. */
attend_status attend_decide_heads(attend_work *work);

/* The entry of a slot's tensor. */
attend_status attend_entry(attend_work *work, attend_slot slot, const attend_safetensors_entry **entry);

#endif
