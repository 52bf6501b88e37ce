/* A layer of a checkpoint, read with the options of the command line. */
#ifndef ATTEND_TOOL_LAYER_H
#define ATTEND_TOOL_LAYER_H

#include "tool/options.h"
#include "tool/tensors.h"

#include <attend/checkpoint.h>

typedef struct layer {
    attend_checkpoint *checkpoint;
    attend_checkpoint_layer *read; /* NULL: no layer was read */
    attend_layer_weights weights;  /* the layer's, and the table of --position-table */
} layer;

/* Finds the layer and decides what it computes. Call layer_free() after success and failure. */
attend_status layer_find(const options *options, layer *layer);
/* Reads its weights in `dtype`. */
attend_status layer_load(attend_dtype dtype, layer *layer);
/* Loads --position-table and sets the problem to learned positions; path NULL: does nothing. */
attend_status layer_load_table(const char *path, pool *pool, attend_problem *problem, layer *layer);
void layer_free(layer *layer);

/* The layer's decision on a topic; NULL: it has none. */
const char *layer_decision(const layer *layer, const char *of);

#endif
