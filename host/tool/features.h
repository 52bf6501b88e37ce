/* What a problem asks for beyond Q, K and V: from the command line, a model's config and files of its tensors. */
#ifndef ATTEND_TOOL_FEATURES_H
#define ATTEND_TOOL_FEATURES_H

#include "options.h"
#include "tensors.h"

/* Fields of the problem that need no file. What the command line does not say stays as it is. */
void features_set(const options *options, attend_problem *problem);

/* Loads lengths, masks, biases and the like, once the problem's sizes are known, and announces them in the problem. */
attend_status features_load(const options *options, pool *pool, attend_problem *problem, attend_attention_args *args);

/* A layer takes the same. */
void features_copy(const attend_attention_args *from, attend_layer_args *to);

#endif
