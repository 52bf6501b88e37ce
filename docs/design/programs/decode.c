/* One step of decoding: the new token's keys join pages, then its queries look at all of them. */
#include "../cache.h"

attend_status decode_step(attend_context *context, attend_plan *plan, const attend_problem *problem,
                          attend_tensor q, attend_tensor k, attend_tensor v, attend_tensor pool_k,
                          attend_tensor pool_v, attend_tensor block_table, const int64_t *cached,
                          const int64_t *with_new, attend_tensor out, const attend_run *run)
{
    attend_cache cache = {.k = pool_k, .v = pool_v, .block_table = block_table, .seqlens = cached};
    attend_cache_append_args append = {.k = k, .v = v};
    attend_status status = attend_cache_append(context, problem, &cache, &append, run);
    if (status) return status;
    attend_feature_args features = {.seqlens_k = with_new};
    attend_attention_args args = {.q = q, .out = out, .features = &features, .cache = &cache};
    return attend_attention_run(plan, &args, run);
}
