/* Features of a problem: their fields and feature tensors, from the command line and from files. */
#ifndef ATTEND_TOOL_FEATURES_H
#define ATTEND_TOOL_FEATURES_H

#include "tool/options.h"
#include "tool/tensors.h"

/* Sets the fields that need no file. Fields without an option on the command line keep their values. */
void features_set(const options *options, attend_problem *problem);

/* With packed sequences, sets batch, lengths and totals from cu_seqlens instead of the inputs' shapes. */
attend_status features_pack(const options *options, pool *pool, attend_problem *problem,
                            attend_feature_args *args);

/* Loads lengths, masks, biases and other feature tensors, and sets the problem's fields that ask for them.
   The problem's sizes must be known. */
attend_status features_load(const options *options, pool *pool, attend_problem *problem,
                            attend_feature_args *args);

#endif
