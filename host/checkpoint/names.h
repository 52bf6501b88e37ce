/* Layouts: the names that families of models give to the tensors of attention; and the layers with such names
   in a checkpoint. */
#ifndef ATTEND_CHECKPOINT_NAMES_H
#define ATTEND_CHECKPOINT_NAMES_H

#include "checkpoint/architectures.h"
#include "checkpoint/shards.h"

/* Where the table of relative positions is that several layers share. */
typedef enum attend_table_layout {
    ATTEND_TABLE_NONE,
    ATTEND_TABLE_FIRST, /* the layer's own table, else that of layer 0 */
    ATTEND_TABLE_STACK  /* under the prefix before the layer's number: "encoder." for "encoder.layer.3." */
} attend_table_layout;

/* A tensor's name is a prefix, empty or ending with a dot, and one of these names. The name of a bias is that
   of its weight with "bias" for "weight". */
typedef struct attend_naming {
    const char *layout;    /* name in options */
    const char *title;     /* name in messages */
    const char *within;    /* must be part of the prefix; NULL: any prefix */
    const char *q, *k, *v; /* separate tensors; NULL: fused */
    const char *fused;     /* Q, K and V in one tensor */
    int blocks; /* of fused rows, each with heads of Q, K and V in this order; 1, or 0: one per KV head */
    bool v_before_k;             /* V precedes K in each block */
    const char *fused_bias;      /* separate weights with one bias of this name */
    const char *q_bias, *v_bias; /* if not the weight's name with "bias" */
    const char *out;
    const char *relative; /* a table [buckets, heads] */
    attend_table_layout relative_layout;
    bool conv1d;    /* weights are stored [in, out] */
    bool no_rotary; /* no model with these names has rotary embedding */
    bool if_asked;  /* another layout has the same names: this one needs a model_type or an option */
} attend_naming;

/* NULL past the last row. */
const attend_naming *attend_naming_at(int index);

typedef struct attend_found_layer {
    const attend_naming *naming;
    char *prefix;
    int64_t number; /* the last number in the prefix; 0: there is none */
    bool hidden;    /* the names also fit another layout with a higher priority */
} attend_found_layer;

typedef struct attend_found_layers {
    attend_found_layer *layers; /* sorted by number; hidden layers last */
    int64_t count, listed;      /* listed: without hidden ones */
} attend_found_layers;

/* Finds all layers; `row` is that of the model_type, or NULL. Call attend_names_free() after success and
   failure. */
attend_status attend_names_find(const attend_shards *shards, const attend_architecture *row,
                                attend_found_layers *found);
void attend_names_free(attend_found_layers *found);

/* Where the last number of a prefix begins; NULL: there is none. */
const char *attend_names_number(const char *prefix);

/* The scope of a layer's attention: the prefix and the words that the names of Q and of the output share. */
void attend_names_scope(const attend_found_layer *layer, char *scope, size_t size);

#endif
