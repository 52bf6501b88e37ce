/* A layer's weights from a checkpoint: which tensors they are, how many heads they make, and views of them as
   the library takes them. */
#ifndef ATTEND_TOOL_WEIGHTS_H
#define ATTEND_TOOL_WEIGHTS_H

#include "config.h"
#include "layout.h"
#include "tensors.h"

typedef struct layer {
    found_layer found;
    model_config config;
    char stored[16];      /* the file's dtype of its weights, "F32" */
    const char *heads_by; /* where the number of heads comes from */
    bool rotary_missing;  /* its models rotate Q and K; here nothing does */
    const char *rotary_by; /* where the rotary embedding comes from; NULL: there is none */
    bool rms_norm, layer_norm; /* of Q and K, by the names of their weights */
    attend_layer_weights weights;
    attend_tensor sinks;    /* f32 [heads], where the layer has them */
    attend_problem problem; /* heads, dims and sizes; the scale, if the config says one */
} layer;

/* Finds the layer and the heads. Reads no data yet. */
attend_status layer_find(const attend_safetensors *file, const options *options, layer *layer);
/* Learned positions from a file of their own, which the problem then announces; path NULL: none. */
attend_status layer_load_table(const char *path, pool *pool, attend_problem *problem, layer *layer);
/* Reads the weights in `dtype`. */
attend_status layer_load(const attend_safetensors *file, attend_dtype dtype, pool *pool, layer *layer);

#endif
