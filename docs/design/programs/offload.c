/* A sequence of 2^20 tokens in the caller's own memory, on two GPUs, in 2 GiB of each. */
#include <attend/attend.h>

attend_status attend_from_host(void *q, void *k, void *v, void *out)
{
    enum { TOKENS = 1 << 20, HEADS = 32, KV_HEADS = 8, DIM = 128 };
    const attend_problem problem = {.batch = 1,
                                    .seqlen_q = TOKENS,
                                    .seqlen_k = TOKENS,
                                    .num_heads = HEADS,
                                    .num_kv_heads = KV_HEADS,
                                    .head_dim = DIM,
                                    .dtype = ATTEND_BF16,
                                    .causal = ATTEND_CAUSAL_TOP_LEFT};
    const attend_plan_options options = {.host_tensors = ATTEND_HOST_INPUTS | ATTEND_HOST_OUTPUTS,
                                         .memory_limit_bytes = (size_t)2 << 30};
    attend_attention_args args = {.q = attend_tensor_4d(q, ATTEND_BF16, 1, TOKENS, HEADS, DIM),
                                  .k = attend_tensor_4d(k, ATTEND_BF16, 1, TOKENS, KV_HEADS, DIM),
                                  .v = attend_tensor_4d(v, ATTEND_BF16, 1, TOKENS, KV_HEADS, DIM),
                                  .out = attend_tensor_4d(out, ATTEND_BF16, 1, TOKENS, HEADS, DIM)};
    attend_context *context = NULL;
    attend_plan *plan = NULL;
    attend_status status = attend_context_create_group(NULL, (const int[]){0, 1}, 2, &context);
    if (!status) status = attend_attention_plan_with(context, &problem, &options, &plan);
    if (!status) status = attend_attention_run(plan, &args, NULL);
    if (!status) status = attend_synchronize(context); /* out is there */
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    return status;
}
