/* Attention over keys that arrive in two parts; `half` is a multiple of attend_plan_key_span(plan), the
 * state's three tensors the caller's, and the plan's seqlen_k all keys. */
#include "../attention.h"

attend_status attend_in_parts(attend_plan *plan, attend_tensor q, const attend_tensor k[2],
                              const attend_tensor v[2], int64_t half, const attend_state *state,
                              attend_tensor out)
{
    attend_attention_args first = {.q = q, .k = k[0], .v = v[0], .end_key = half, .into = state};
    attend_attention_args last = {.q = q, .k = k[1], .v = v[1], .out = out, .first_key = half, .from = state};
    attend_status status = attend_attention_run(plan, &first, NULL);
    return status ? status : attend_attention_run(plan, &last, NULL);
}
