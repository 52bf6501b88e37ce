/* Layouts: how families of models name one layer's attention, and the layers so named that a checkpoint
 * holds. */
#ifndef ATTEND_CHECKPOINT_NAMES_H
#define ATTEND_CHECKPOINT_NAMES_H

#include "checkpoint/architectures.h"
#include "checkpoint/shards.h"

/* Where a table of relative positions lies that several layers share. */
typedef enum attend_table_layout {
    ATTEND_TABLE_NONE,
    ATTEND_TABLE_FIRST, /* the layer's own, else that of layer 0 */
    ATTEND_TABLE_STACK  /* before the layer's number: "encoder." of "encoder.layer.3." */
} attend_table_layout;

/* Names follow a prefix that is empty or ends with a dot; a bias is named as its weight, with "bias" for
 * "weight". */
typedef struct attend_naming {
    const char *layout;    /* for options */
    const char *title;     /* for people */
    const char *within;    /* part of the prefix; NULL: any */
    const char *q, *k, *v; /* apart, or NULL: */
    const char *fused;     /* Q, K and V in one */
    int blocks;      /* of fused rows, each with its heads of Q, then K, then V: 1, or 0: a block a KV head */
    bool v_before_k; /* in each block */
    const char *fused_bias;      /* apart, but with one bias, named after this */
    const char *q_bias, *v_bias; /* other names of biases */
    const char *out;
    const char *relative; /* a table [buckets, heads] */
    attend_table_layout relative_layout;
    bool conv1d;    /* stored [in, out] */
    bool no_rotary; /* no model with these names rotates Q and K */
    bool if_asked;  /* names of another layout too: only a model_type or an option decides for this one */
} attend_naming;

/* NULL past the last. */
const attend_naming *attend_naming_at(int index);

typedef struct attend_found_layer {
    const attend_naming *naming;
    char *prefix;
    int64_t number; /* the last one in the prefix; 0 without one */
    bool hidden;    /* the names fit another layout too, which is the likelier one */
} attend_found_layer;

typedef struct attend_found_layers {
    attend_found_layer *layers; /* by number; hidden ones last */
    int64_t count, listed;      /* all, and those not hidden */
} attend_found_layers;

/* All layers; `row` of the model's type or NULL. attend_names_free() is right after success and failure. */
attend_status attend_names_find(const attend_shards *shards, const attend_architecture *row,
                                attend_found_layers *found);
void attend_names_free(attend_found_layers *found);

/* The last of a prefix's words that is a number; NULL without one. */
const char *attend_names_number(const char *prefix);

/* The names that a layer's attention lies under: prefix and what Q and the output have in common. */
void attend_names_scope(const attend_found_layer *layer, char *scope, size_t size);

#endif
