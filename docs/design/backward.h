/* Design: gradients. A plan made with `backward` runs both ways. */
#ifndef ATTEND_DESIGN_BACKWARD_H
#define ATTEND_DESIGN_BACKWARD_H

#include "attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In attend_plan_options: `bool backward`, which the plan's memory then includes. In attend_problem: `float
 * dropout`, the probability with which a weight becomes 0 (the others are divided by 1 - dropout), a pure
 * function of the seed, batch entry, head, query and key: the same on every backend, forward and backward. */

/* Gradients arrive in dout and dlse; those wanted leave by the others; absent: not wanted. dq, dk and dv are
 * shaped as their tensor, in the problem's dtype or f32 (to add up over micro-batches or ranks); those of
 * features are f32, of extent 1 along every axis that theirs does not vary along. Rows that see no key, and
 * keys that no row sees, get zeros. */
typedef struct attend_attention_grads {
    attend_tensor dout; /* of out */
    attend_tensor dlse; /* optional: of lse */
    attend_tensor dq, dk, dv;
    const attend_feature_grads *features; /* NULL: none */
    /* out as the forward run left it before rounding, f32: with it Σ dout·out is not biased by that rounding,
     * which arXiv:2510.04212 traces exploding 16-bit training to. Absent: Σ p·dP, at the cost of a pass. */
    attend_tensor out_f32;
    bool accumulate; /* add to dq, dk, dv and features instead of replacing them */
    uint8_t reserved[7];
} attend_attention_grads;

/* args are those of the forward run, its out and lse included; they may name a range of keys, out and lse
 * being those of all keys. Bits depend on nothing but the row, as forward. Errors: INVALID_ARGUMENT,
 * UNSUPPORTED (a plan made without backward), CANCELLED, DEVICE_ERROR. Layers have the same, with dx, weights
 * and biases, as attend_layer_backward(). */
ATTEND_API attend_status attend_attention_backward_sized(attend_plan *plan, const attend_attention_args *args,
                                                         size_t args_bytes, size_t features_bytes,
                                                         const attend_attention_grads *grads,
                                                         size_t grads_bytes, size_t feature_grads_bytes,
                                                         const attend_run *run, size_t run_bytes);
static inline attend_status attend_attention_backward(attend_plan *plan, const attend_attention_args *args,
                                                      const attend_attention_grads *grads,
                                                      const attend_run *run)
{
    return attend_attention_backward_sized(plan, args, sizeof *args, sizeof(attend_feature_args), grads,
                                           sizeof *grads, sizeof(attend_feature_grads), run, sizeof *run);
}

#ifdef __cplusplus
}
#endif

#endif
