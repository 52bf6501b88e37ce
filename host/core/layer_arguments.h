/* Validation of what layers bring. */
#ifndef ATTEND_CORE_LAYER_ARGUMENTS_H
#define ATTEND_CORE_LAYER_ARGUMENTS_H

#include "core/arguments.h"

#include <attend/cache.h>
#include <attend/layer.h>

/* The tensors of attend_layer_weights, in its order. */
typedef enum attend_layer_weight {
    ATTEND_WQ,
    ATTEND_WK,
    ATTEND_WV,
    ATTEND_WO,
    ATTEND_BQ,
    ATTEND_BK,
    ATTEND_BV,
    ATTEND_BO,
    ATTEND_Q_NORM,
    ATTEND_K_NORM,
    ATTEND_Q_NORM_BIAS,
    ATTEND_K_NORM_BIAS,
    ATTEND_POSITION_TABLE,
    ATTEND_LAYER_WEIGHTS
} attend_layer_weight;
_Static_assert(sizeof(attend_layer_weights) == ATTEND_LAYER_WEIGHTS * sizeof(attend_tensor),
               "attend_layer_weights has other tensors than the list above");

/* What each has to be: an input in the problem's dtype. */
void attend_layer_weights_expected(const attend_problem *problem, attend_layer_weights *weights,
                                   attend_expected expected[ATTEND_LAYER_WEIGHTS]);
/* A matrix whose strides GEMM takes: one is 1, the other steps over a whole row or column. */
attend_status attend_layer_matrix_check(const char *name, const attend_tensor *matrix);

/* Copies a caller's args, what features bring to `features`, which read->features then points to, and, if
   there is one, the cache, to which read->cache then points. */
attend_status attend_layer_args_read(const attend_problem *problem, const attend_layer_args *args,
                                     size_t bytes, size_t features_bytes, attend_layer_args *read,
                                     attend_feature_args *features, attend_cache *cache);

/* Checks such copies against a resolved problem and resolved weights; tensors then have explicit strides and,
   where absent, data NULL. Lists are not looked at: only a backend knows where they lie. */
attend_status attend_layer_args_resolve(const attend_problem *problem, const attend_layer_weights *weights,
                                        attend_layer_args *args, attend_feature_args *features,
                                        attend_cache *cache);
attend_status attend_layer_weights_resolve(const attend_problem *problem, const attend_layer_weights *weights,
                                           size_t bytes, attend_layer_weights *resolved);

/* Lists, page table and positions of a run, all of them on the host: in range, keys have slots and pages,
   learned positions have rows. */
attend_status attend_layer_lists_check(const attend_problem *problem, const attend_layer_weights *weights,
                                       const attend_layer_args *args);

#endif
