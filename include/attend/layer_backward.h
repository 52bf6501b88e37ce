/* Gradients of a layer, of a plan that was made with `backward`; and weights that training changes. */
#ifndef ATTEND_LAYER_BACKWARD_H
#define ATTEND_LAYER_BACKWARD_H

#include <attend/backward.h>
#include <attend/layer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Gradients arrive in dout and dlse; those wanted leave by the others; absent: not wanted. Each is summed in
 * fp32 and rounded once. Rows of x and context that bring no gradient take no part, NaN or not: those past
 * the lengths, and keys that no query sees. */
typedef struct attend_layer_grads {
    /* of out, shaped and stored as it. Finite in rows past the lengths, too, where it reaches bo alone. */
    attend_tensor dout;
    attend_tensor dlse; /* optional: of lse, f32 [batch, num_heads, seqlen_q] */
    /* of x and of context, shaped as they, in the problem's dtype or f32; the last stride is 1 */
    attend_tensor dx, dcontext;
    /* Each shaped as its tensor of the plan's weights and f32, the dtype of master copies, with strides of its
     * own, as free as a weight's. A weight that the plan lacks has no gradient. NULL: none. */
    const attend_layer_weights *weights;
    const attend_feature_grads *features; /* NULL: none */
    bool accumulate;                      /* add to all of these instead of replacing them */
    uint8_t reserved[7];
} attend_layer_grads;

ATTEND_API attend_status attend_layer_backward_sized(attend_plan *plan, const attend_layer_args *args,
                                                     size_t args_bytes, size_t features_bytes,
                                                     const attend_layer_grads *grads, size_t grads_bytes,
                                                     size_t weight_grads_bytes, size_t feature_grads_bytes,
                                                     const attend_run *run, size_t run_bytes);

/* Backwards; examples/train.c is a whole program. args are those of the forward run. What that left in q, k
 * and v, and in heads and lse, spares computing that again: each of the two groups, if it is given whole. It
 * is to be unchanged; no bit depends on whether it is given. out is not read. `run` may be NULL. Bits depend
 * on nothing but the problem and its tensors; but on CUDA 16-bit gradients of bias, slopes or a relative
 * table, where wanted, come of another kernel, and all others with them.
 * Errors: as attend_attention_backward(); UNSUPPORTED with a cache. */
static inline attend_status attend_layer_backward(attend_plan *plan, const attend_layer_args *args,
                                                  const attend_layer_grads *grads, const attend_run *run)
{
    return attend_layer_backward_sized(plan, args, sizeof *args, sizeof *args->features, grads, sizeof *grads,
                                       sizeof *grads->weights, sizeof *grads->features, run, sizeof *run);
}

ATTEND_API attend_status attend_layer_reload_sized(attend_plan *plan, const attend_run *run,
                                                   size_t run_bytes);

/* Takes the values of the plan's weights anew, from the tensors that it was made with, which may have changed
 * since: a step of training, a merged adapter. Weights on the device are read where they are, in the order of
 * streams; this call is for those on the host and may overlap no run of the plan. `run` may be NULL. On
 * failure the plan has the values that it had, but on CUDA after a DEVICE_ERROR. On CPUs the new and the old
 * are held together meanwhile, beyond memory_limit_bytes.
 * Errors: OUT_OF_MEMORY, DEVICE_ERROR, INVALID_ARGUMENT. */
static inline attend_status attend_layer_reload(attend_plan *plan, const attend_run *run)
{
    return attend_layer_reload_sized(plan, run, sizeof *run);
}

#ifdef __cplusplus
}
#endif

#endif
