/* A layer of a checkpoint, as the command line says or leaves it to the library. */
#ifndef ATTEND_TOOL_LAYER_H
#define ATTEND_TOOL_LAYER_H

#include "tool/options.h"
#include "tool/tensors.h"

#include <attend/checkpoint.h>

typedef struct layer {
    attend_checkpoint *checkpoint;
    attend_checkpoint_layer *read; /* NULL: there is no layer */
    attend_layer_weights weights;  /* its, and a table of positions from a file of its own */
} layer;

/* Finds the layer and decides what it computes. layer_free() is right after success and failure. */
attend_status layer_find(const options *options, layer *layer);
/* Reads its weights in `dtype`. */
attend_status layer_load(attend_dtype dtype, layer *layer);
/* Learned positions from a file of their own, which the problem then announces; path NULL: none. */
attend_status layer_load_table(const char *path, pool *pool, attend_problem *problem, layer *layer);
void layer_free(layer *layer);

/* What the layer decided of a topic; NULL where there is nothing to say. */
const char *layer_decision(const layer *layer, const char *of);

#endif
