/* What running backwards brings to a resolved problem: gradients that arrive and those that leave, checked.
   */
#ifndef ATTEND_CORE_BACKWARD_H
#define ATTEND_CORE_BACKWARD_H

#include "core/arguments.h"
#include <attend/backward.h>

typedef enum attend_gradient {
    ATTEND_GRADIENT_Q,
    ATTEND_GRADIENT_K,
    ATTEND_GRADIENT_V,
    ATTEND_GRADIENT_BIAS,
    ATTEND_GRADIENT_SLOPES,
    ATTEND_GRADIENT_RELATIVE_TABLE,
    ATTEND_GRADIENT_HEAD_SCALES,
    ATTEND_GRADIENT_SINKS,
    ATTEND_GRADIENTS
} attend_gradient;

/* Resolved, with explicit strides; of `of` data is NULL where one is not wanted. */
typedef struct attend_gradients {
    attend_tensor dout, dlse, out_f32;
    attend_tensor of[ATTEND_GRADIENTS];
    bool accumulate;
} attend_gradients;

/* Name, rank and shape of one gradient; rank 0: the problem has none. The dtype is that of the problem or
   f32. */
attend_expected attend_gradient_expected(const attend_problem *problem, attend_gradient gradient);

/* Reads a caller's gradients of features (NULL: none wanted) into their places, as they were given. */
attend_status attend_feature_grads_read(const attend_feature_grads *given, size_t bytes,
                                        attend_tensor of[ATTEND_GRADIENTS]);

/* Sets what a gradient that was given has to be: `gradient` becomes an argument of a call. An error if the
   problem has none. */
attend_status attend_gradient_expect(const attend_problem *problem, attend_gradient gradient,
                                     attend_tensor *given, attend_expected *expected);

/* Checks args that were read and a caller's grads. args are resolved without their part: all keys take part.
   lse_needed: false where it is not read. */
attend_status attend_backward_resolve(const attend_problem *problem, const attend_attention_grads *grads,
                                      size_t grads_bytes, size_t feature_grads_bytes, bool lse_needed,
                                      attend_attention_args *args, attend_feature_args *features,
                                      attend_gradients *gradients);

#endif
