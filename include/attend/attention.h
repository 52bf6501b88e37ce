/* out = attention(q, k, v). */
#ifndef ATTEND_ATTENTION_H
#define ATTEND_ATTENTION_H

#include <attend/context.h>
#include <attend/features.h>
#include <attend/plan.h>
#include <attend/problem.h>
#include <attend/run.h>
#include <attend/state.h>

#ifdef __cplusplus
extern "C" {
#endif

ATTEND_API attend_status attend_attention_plan_sized(attend_context *context, const attend_problem *problem,
                                                     size_t problem_bytes, const attend_plan_options *options,
                                                     size_t options_bytes, attend_plan **plan);

/* Plans out = attention(q, k, v). Validates every field; all memory is reserved here, but a caller's
 * workspace, and none at run time.
 * Errors: INVALID_ARGUMENT, UNSUPPORTED, OUT_OF_MEMORY, DEVICE_ERROR; *plan is NULL then. */
static inline attend_status attend_attention_plan(attend_context *context, const attend_problem *problem,
                                                  attend_plan **plan)
{
    return attend_attention_plan_sized(context, problem, sizeof *problem, NULL, 0, plan);
}

/* The same with options, which may be NULL. */
static inline attend_status attend_attention_plan_with(attend_context *context, const attend_problem *problem,
                                                       const attend_plan_options *options, attend_plan **plan)
{
    return attend_attention_plan_sized(context, problem, sizeof *problem, options, sizeof *options, plan);
}

struct attend_cache;

typedef struct attend_attention_args {
    attend_tensor q;   /* [batch, seqlen_q, num_heads, head_dim]; the last stride of all four is 1 */
    attend_tensor k;   /* [batch, seqlen_k, num_kv_heads, head_dim]; of a range of keys: they alone */
    attend_tensor v;   /* [batch, seqlen_k, num_kv_heads, head_dim_v]; likewise */
    attend_tensor out; /* [batch, seqlen_q, num_heads, head_dim_v]; absent where a state is left */
    attend_tensor lse; /* optional, f32 [batch, num_heads, seqlen_q]: natural logarithm of Σ_j exp(score) */
    const attend_feature_args *features; /* NULL: none */
    /* Only keys [first_key, end_key) of each sequence take part; end_key 0: to the end. Both are multiples of
     * attend_plan_key_span(), or seqlen_k. A sequence that ends within the range ends the range, one that
     * ends before it has no key there. k and v begin at first_key and hold end_key - first_key rows;
     * everything else counts keys from the sequence's first: lengths and starts, masks, biases, windows,
     * positions, segments_k, blocks. Keys outside the range are not read. Not with packed sequences. */
    int64_t first_key, end_key;
    /* Only queries [first_query, end_query) of each sequence take part; end_query 0: to the end. Any numbers
     * up to seqlen_q: a block of a longer sequence, a chunk of a prompt. q, out, lse and states begin at
     * first_query and hold end_query - first_query rows; everything else counts queries from the sequence's
     * first: lengths, causality, masks, biases, windows, positions, segments_q, blocks. Blocks of queries
     * have the bits of one run over all of them. Not with packed sequences. */
    int64_t first_query, end_query;
    /* What runs over all keys before first_key left (state.h); NULL: nothing is carried. A run with `from`
     * and without `into` finishes: out and lse are those of all keys so far, with sinks. Keys in parts give
     * the bits of one run over all of them, whatever the parts, on one kernel. */
    const attend_state *from;
    /* Written instead of out and lse, which must be absent; may have the tensors of `from`. */
    const attend_state *into;
    /* Keys and values in a cache (cache.h), which may have pages; k and v are then absent. Lengths are those
     * of seqlens_k. Of a range of keys it holds the keys before too. Not with packed sequences. */
    const struct attend_cache *cache;
} attend_attention_args;

ATTEND_API attend_status attend_attention_run_sized(attend_plan *plan, const attend_attention_args *args,
                                                    size_t args_bytes, size_t features_bytes,
                                                    const attend_run *run, size_t run_bytes);

/* Enqueues the plan on its context. On a CPU it returns when the result is there. On CUDA it returns at once
 * if all tensors lie on the device and the context has no progress callback; tensors on the host, which the
 * plan's host_tensors must announce, belong to the context until attend_synchronize(). Errors:
 * INVALID_ARGUMENT (shapes, dtypes, strides, overlaps, lengths, tensors on the host unannounced), UNSUPPORTED
 * (of a strict context; tensors that only staging could bring into shape), CANCELLED, OUT_OF_MEMORY,
 * DEVICE_ERROR.
 *
 * A run whose tensors all lie on the device may be captured in a CUDA graph. Lists on the host are read
 * during the call, so the graph repeats their values; those on the device are read at each launch. The
 * library does not see launches: the caller orders them against other runs of the plan and each other, those
 * of layers without a caller's workspace against all such layers of the context (in a capture the library
 * waits for nothing: outside of it CUDA forbids that, within it the caller joins streams), waits for them,
 * and destroys graphs before the plan. */
static inline attend_status attend_attention_forward(attend_plan *plan, const attend_attention_args *args)
{
    return attend_attention_run_sized(plan, args, sizeof *args, sizeof *args->features, NULL, 0);
}

/* The same on a stream and in a workspace of this run's own; `run` may be NULL. Errors: also INVALID_ARGUMENT
 * for a workspace that is missing, too small or not aligned, or given to a plan made without
 * caller_workspace. */
static inline attend_status attend_attention_run(attend_plan *plan, const attend_attention_args *args,
                                                 const attend_run *run)
{
    return attend_attention_run_sized(plan, args, sizeof *args, sizeof *args->features, run, sizeof *run);
}

#ifdef __cplusplus
}
#endif

#endif
