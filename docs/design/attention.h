/* Design: one run of attention over all keys, or over a range of them from and into a carried state. */
#ifndef ATTEND_DESIGN_ATTENTION_H
#define ATTEND_DESIGN_ATTENTION_H

#include "features.h"
#include <attend/context.h>
#include <attend/plan.h>
#include <attend/problem.h>
#include <attend/run.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What online softmax (Milakov, Gimelshein, arXiv:1805.02867) has summed over some of the keys, for each
 * query: all fp32, on the context's device or on the host, in memory of the caller. Empty: sums 0, max
 * -infinity. It is not divided and holds no sink yet, so that taking it up again on a plan of the same kernel
 * changes no bit; states of other kernels or devices may be taken up too, within docs/numerics.md. A frozen
 * struct: it lies inside others. */
typedef struct attend_state {
    /* [batch, seqlen_q, num_heads, head_dim_v]: Σ_j 2^(s_j - max)·v_j, s_j the score times log2 e */
    attend_tensor out;
    attend_tensor max; /* [batch, num_heads, seqlen_q]: what the sums refer to, at or near the largest s_j */
    attend_tensor sum; /* [batch, num_heads, seqlen_q]: Σ_j 2^(s_j - max) */
} attend_state;

typedef struct attend_attention_args {
    attend_tensor q;   /* [batch, seqlen_q, num_heads, head_dim] */
    attend_tensor k;   /* [batch, keys of the range, num_kv_heads, head_dim]; absent with a cache */
    attend_tensor v;   /* [batch, keys of the range, num_kv_heads, head_dim_v] */
    attend_tensor out; /* [batch, seqlen_q, num_heads, head_dim_v]; absent where a state is left */
    attend_tensor lse; /* optional, f32 [batch, num_heads, seqlen_q] */
    /* Only keys [first_key, end_key) take part; end_key 0: to the end. Both are multiples of
     * attend_plan_key_span(), or seqlen_k. Each sequence is cut to its own length: a range past it is empty.
     * k and v begin at first_key; all lists and feature tensors count absolute keys. Not with packed
     * sequences. */
    int64_t first_key, end_key;
    /* Row 0 of q is query first_query of its sequence, for causality, windows, positions and dropout: a block
     * of a longer sequence, a chunk of a prompt, a rank's share. */
    int64_t first_query;
    const attend_state *from; /* what the keys before first_key left; NULL: nothing */
    const attend_state *into; /* its tensors are written instead of out and lse; may be those of `from` */
    const attend_feature_args *features; /* NULL: none; its size is passed by the inline calls */
    const struct attend_cache *cache;    /* cache.h: where keys and values are instead of k and v */
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

/* Folds `count` states over neighbouring ranges, in the order of their keys, into out and lse, or into a
 * state. Where each state after the first covers one span of the same kernel these are the bits of one run
 * over all the keys, since that run folds the same spans in the same order; else they are within
 * docs/numerics.md. Empty states are allowed; so is a count of 0, which gives zeros. `problem` says shapes,
 * dtype and whether there are sinks. Errors: INVALID_ARGUMENT, DEVICE_ERROR. */
typedef struct attend_merge_args {
    const attend_state *states;
    int64_t count;
    attend_tensor out, lse;   /* as in attention */
    const attend_state *into; /* or this */
    attend_tensor sinks;      /* f32 [num_heads] */
} attend_merge_args;

ATTEND_API attend_status attend_merge_sized(attend_context *context, const attend_problem *problem,
                                            size_t problem_bytes, const attend_merge_args *args,
                                            size_t args_bytes, const attend_run *run, size_t run_bytes);
static inline attend_status attend_merge(attend_context *context, const attend_problem *problem,
                                         const attend_merge_args *args, const attend_run *run)
{
    return attend_merge_sized(context, problem, sizeof *problem, args, sizeof *args, run, sizeof *run);
}

/* Keys of a span: what ranges are multiples of. */
ATTEND_API int64_t attend_plan_key_span(const attend_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
