/* A layer: projections of x, positions, attention, output projection. */
#ifndef ATTEND_LAYER_H
#define ATTEND_LAYER_H

#include <attend/context.h>
#include <attend/features.h>
#include <attend/plan.h>
#include <attend/problem.h>
#include <attend/run.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Weights as they multiply: y = W·x + b with W of shape [out, in]. Strides give the orientation (torch's
 * Linear is row-major [out, in]; GPT-2's Conv1D is the same shape with strides {1, out}) and the place inside
 * fused tensors. One of a matrix's two strides must be 1. */
typedef struct attend_layer_weights {
    attend_tensor wq;             /* [num_heads·head_dim, hidden_size] */
    attend_tensor wk;             /* [num_kv_heads·head_dim, context_hidden_size or hidden_size] */
    attend_tensor wv;             /* [num_kv_heads·head_dim_v, the same] */
    attend_tensor wo;             /* [output_size, num_heads·head_dim_v] */
    attend_tensor bq, bk, bv, bo; /* optional biases, one element a row of their matrix */
    /* With qk_norm, optional [head_dim]: absent weights are 1, absent biases (of a layer norm) 0. */
    attend_tensor q_norm, k_norm, q_norm_bias, k_norm_bias;
    /* with ATTEND_ABSOLUTE_LEARNED: [max_positions, hidden_size]; the last stride is 1 */
    attend_tensor position_table;
} attend_layer_weights;

ATTEND_API attend_status attend_layer_plan_sized(attend_context *context, const attend_problem *problem,
                                                 size_t problem_bytes, const attend_layer_weights *weights,
                                                 size_t weights_bytes, const attend_plan_options *options,
                                                 size_t options_bytes, attend_plan **plan);

/* Plans out = Wo·attention(Wq·x + bq, Wk·c + bk, Wv·c + bv) + bo, where c is x or the context tensor. The
 * weights must stay valid and unchanged while the plan lives, so that no output may overlap them; the plan
 * may keep a rearranged copy of its own. attend_layer_reload() takes changed values. Errors as for attention.
 */
static inline attend_status attend_layer_plan(attend_context *context, const attend_problem *problem,
                                              const attend_layer_weights *weights, attend_plan **plan)
{
    return attend_layer_plan_sized(context, problem, sizeof *problem, weights, sizeof *weights, NULL, 0,
                                   plan);
}

/* The same with options, which may be NULL. */
static inline attend_status attend_layer_plan_with(attend_context *context, const attend_problem *problem,
                                                   const attend_layer_weights *weights,
                                                   const attend_plan_options *options, attend_plan **plan)
{
    return attend_layer_plan_sized(context, problem, sizeof *problem, weights, sizeof *weights, options,
                                   sizeof *options, plan);
}

struct attend_cache;

/* If packed, x, context and out are [1, total, …]. */
typedef struct attend_layer_args {
    attend_tensor x;       /* [batch, seqlen_q, hidden_size]; the last stride is 1 */
    attend_tensor context; /* cross-attention: [batch, seqlen_k, context_hidden_size] */
    attend_tensor out;     /* [batch, seqlen_q, output_size] */
    attend_tensor lse;     /* optional, as in attention */
    /* Optional outputs for those who look inside, or fill a cache: the projected Q, K and V, and the heads'
     * output before Wo, shaped as q, k, v and out of attend_attention_args, of any strides but a last one of
     * 1: a [batch, heads, seqlen, dim] cache is written where it is. */
    attend_tensor q, k, v, heads;
    const attend_feature_args *features; /* NULL: none */
    /* Keys and values of earlier tokens (cache.h), to which x adds: seqlens_q[b] new tokens of sequence b
     * (not given: seqlen_q), at positions from first_position + cache->seqlens[b] on, or those of
     * `positions`. Their keys, normalised and rotated, and their values go to the slots from
     * cache->seqlens[b] on, as attend_cache_append() writes them. Attention then reads the cache:
     * seqlens_k[b] = cache->seqlens[b] + seqlens_q[b] keys (not given: seqlen_k), at most seqlen_k of the
     * plan, which may exceed seqlen_q; other sums are an error where all lists are on the host.
     * cache->seqlens stays as it is.
     *
     * One plan serves prompts, chunks of them and single tokens, and trees of speculated ones: by a mask, and
     * `positions`. What counts queries by position asks for align_bottom_right, which
     * ATTEND_CAUSAL_BOTTOM_RIGHT implies. Of the plan, seqlen_k also sets the base of a dynamic NTK scaling.
     * `k` and `v` are then absent. Not with packed or left-padded sequences, nor cross-attention. A call that
     * fails has written nothing; on CUDA, a key without a slot is dropped where a list or the table is on the
     * device. */
    const struct attend_cache *cache;
} attend_layer_args;

ATTEND_API attend_status attend_layer_run_sized(attend_plan *plan, const attend_layer_args *args,
                                                size_t args_bytes, size_t features_bytes,
                                                const attend_run *run, size_t run_bytes);

/* Runs a layer plan; everything said of attend_attention_forward() holds. */
static inline attend_status attend_layer_forward(attend_plan *plan, const attend_layer_args *args)
{
    return attend_layer_run_sized(plan, args, sizeof *args, sizeof *args->features, NULL, 0);
}

/* The same on a stream and in a workspace of this run's own; everything said of attend_attention_run() holds.
   */
static inline attend_status attend_layer_run(attend_plan *plan, const attend_layer_args *args,
                                             const attend_run *run)
{
    return attend_layer_run_sized(plan, args, sizeof *args, sizeof *args->features, run, sizeof *run);
}

#ifdef __cplusplus
}
#endif

#endif
