/* Where in a checkpoint a layer is: known naming schemes, and the one tensor prefix that matches. */
#ifndef ATTEND_TOOL_LAYOUT_H
#define ATTEND_TOOL_LAYOUT_H

#include "options.h"
#include "file/safetensors.h"

/* How a family of models names one layer's attention. Names follow a prefix that is empty or ends with a dot;
   a bias is named as its weight, with "bias" for "weight". */
typedef struct naming {
    layout layout;
    const char *title;      /* for people */
    const char *q, *k, *v;  /* apart, or NULL: */
    const char *fused;      /* Q, K and V in one */
    const char *fused_bias; /* apart, but with one bias, named after this */
    const char *out;
    bool conv1d; /* stored [in, out] */
    bool causal; /* the models' attention is */
    bool rotary; /* the models rotate Q and K */
} naming;

typedef struct found_layer {
    const naming *naming;
    char prefix[256];
    int64_t layer;       /* its number in the names; 0 where there is none */
    int64_t first, last; /* of the layers so named in the file */
} found_layer;

/* Finds the layer that the options ask for. Sentences name what was found instead. */
attend_status layout_find(const attend_safetensors *file, const options *options, found_layer *found);

/* Fails where the layer has parts that attend does not apply: relative positions, extra keys. */
attend_status layout_check_extras(const attend_safetensors *file, const found_layer *found);

/* The entry "PREFIX suffix"; NULL where there is none. */
const attend_safetensors_entry *layout_entry(const attend_safetensors *file, const char *prefix, const char *suffix);

#endif
