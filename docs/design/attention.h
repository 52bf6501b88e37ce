/* Design: what the args of attention are to become. States, merging, ranges of keys and features are in
 * attend/state.h, attend/attention.h and attend/features.h. */
#ifndef ATTEND_DESIGN_ATTENTION_H
#define ATTEND_DESIGN_ATTENTION_H

#include <attend/context.h>
#include <attend/features.h>
#include <attend/plan.h>
#include <attend/problem.h>
#include <attend/run.h>
#include <attend/state.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct attend_attention_args {
    attend_tensor q;   /* [batch, seqlen_q, num_heads, head_dim] */
    attend_tensor k;   /* [batch, keys of the range, num_kv_heads, head_dim]; absent with a cache */
    attend_tensor v;   /* [batch, keys of the range, num_kv_heads, head_dim_v] */
    attend_tensor out; /* [batch, seqlen_q, num_heads, head_dim_v]; absent where a state is left */
    attend_tensor lse; /* optional, f32 [batch, num_heads, seqlen_q] */
    const attend_feature_args *features; /* as in attend/attention.h, and the next three lines */
    int64_t first_key, end_key;
    const attend_state *from, *into;
    int64_t first_query, end_query;
    const struct attend_cache *cache; /* cache.h: where keys and values are instead of k and v */
    /* Optional, f32 [num_heads]: the largest score_ij of each head, as problem.h defines it, over the visible
     * pairs of this run; -infinity where there are none. Overwritten. For QK-clip. */
    attend_tensor max_logit;
} attend_attention_args;

/* Errors: INVALID_ARGUMENT, UNSUPPORTED, CANCELLED, OUT_OF_MEMORY, DEVICE_ERROR, as in attend/attention.h. */
ATTEND_API attend_status attend_attention_run_sized(attend_plan *plan, const attend_attention_args *args,
                                                    size_t args_bytes, size_t features_bytes,
                                                    const attend_run *run, size_t run_bytes);
static inline attend_status attend_attention_run(attend_plan *plan, const attend_attention_args *args,
                                                 const attend_run *run)
{
    return attend_attention_run_sized(plan, args, sizeof *args, sizeof(attend_feature_args), run,
                                      sizeof *run);
}

#ifdef __cplusplus
}
#endif

#endif
