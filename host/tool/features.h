/* What a problem asks for beyond Q, K and V: from the command line, a model's config and files of its
   tensors. */
#ifndef ATTEND_TOOL_FEATURES_H
#define ATTEND_TOOL_FEATURES_H

#include "tool/options.h"
#include "tool/tensors.h"

/* Fields of the problem that need no file. What the command line does not say stays as it is. */
void features_set(const options *options, attend_problem *problem);

/* Where sequences are packed: their number, lengths and totals take the place of the inputs' batch and rows.
   */
attend_status features_pack(const options *options, pool *pool, attend_problem *problem,
                            attend_attention_args *args);

/* Positions of a layer's tokens, where they are given. */
attend_status features_positions(const options *options, pool *pool, attend_tensor *positions);

/* Loads lengths, masks, biases and the like, once the problem's sizes are known, and announces them in the
   problem. */
attend_status features_load(const options *options, pool *pool, attend_problem *problem,
                            attend_attention_args *args);

/* A layer takes the same. */
void features_copy(const attend_attention_args *from, attend_layer_args *to);

#endif
