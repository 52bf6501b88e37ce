/* What running a layer backwards brings, checked. */
#ifndef ATTEND_CORE_LAYER_BACKWARD_H
#define ATTEND_CORE_LAYER_BACKWARD_H

#include "core/backward.h"
#include "core/layer_arguments.h"

#include <attend/layer_backward.h>

/* Resolved, with explicit strides; data is NULL where a gradient is not wanted. Those of features stand in
   `of` of attend_gradients. */
typedef struct attend_layer_gradients {
    attend_tensor dout, dlse, dx, dcontext;
    attend_layer_weights weights;
    attend_tensor of[ATTEND_GRADIENTS];
    bool accumulate;
} attend_layer_gradients;

/* What the gradients that are wanted need: those of Q, K and V, as they were projected, and attention's at
   all. Without attention's, only those of wo and bo are wanted. */
typedef struct attend_layer_needs {
    bool q, k, v, attention;
} attend_layer_needs;
attend_layer_needs attend_layer_needs_of(const attend_problem *problem,
                                         const attend_layer_gradients *gradients);

/* "grads.wq", for each attend_layer_weight. */
const char *attend_layer_gradient_name(int weight);

/* Checks args that were read and a caller's grads. Of args, out is absent behind this call; q, k and v are
   all given or none, and so are heads and lse. */
attend_status attend_layer_backward_resolve(const attend_problem *problem,
                                            const attend_layer_weights *weights,
                                            const attend_layer_grads *grads, size_t grads_bytes,
                                            size_t weight_grads_bytes, size_t feature_grads_bytes,
                                            attend_layer_args *args, attend_feature_args *features,
                                            attend_layer_gradients *gradients);

#endif
