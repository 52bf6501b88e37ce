/* A step of training: forward, then gradients of q, k, v and of a bias [1, num_heads, seqlen_q, seqlen_k]
 * that all batch entries share, of which dbias is f32 of the same shape. The plan was made with `backward`,
 * its problem has a `dropout`; the caller's optimiser moves the seed's offset on. */
#include "../backward.h"

attend_status train_step(attend_plan *plan, attend_tensor q, attend_tensor k, attend_tensor v,
                         attend_tensor bias, attend_tensor seed, attend_tensor out, attend_tensor lse,
                         attend_tensor dout, attend_tensor dq, attend_tensor dk, attend_tensor dv,
                         attend_tensor dbias)
{
    attend_feature_args features = {.bias = bias, .dropout_seed = seed};
    attend_feature_grads of_features = {.bias = dbias};
    attend_attention_args args = {.q = q, .k = k, .v = v, .out = out, .lse = lse, .features = &features};
    attend_attention_grads grads = {.dout = dout, .dq = dq, .dk = dk, .dv = dv, .features = &of_features};
    attend_status status = attend_attention_run(plan, &args, NULL);
    return status ? status : attend_attention_backward(plan, &args, &grads, NULL);
}
