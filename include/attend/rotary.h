/* Rotary embedding (Su et al., arXiv:2104.09864) of a caller's own Q and K: an inference engine rotates the
 * keys of new tokens once, when it writes them to its cache, and attends to rotated keys.
 *
 *     attend_problem problem = {.batch = 4, .seqlen_q = 1, .num_heads = 32, .num_kv_heads = 8,
 *                               .head_dim = 128, .dtype = ATTEND_BF16,
 *                               .rotary = ATTEND_ROTARY_HALVES, .rotary_base = 500000};
 *     attend_rotary_args args = {.q = q, .k = k, .k_out = slots_in_the_cache, .first_positions = cached};
 *     attend_rotary_apply(context, &problem, &args);
 *
 * Layers use the same code for Q and K: the same angles, in double, conventions, scalings, partial heads and
 * QK-norm. There is no plan: each call computes its frequencies, and allocates device memory only for tensors
 * on the host. */
#ifndef ATTEND_ROTARY_H
#define ATTEND_ROTARY_H

#include <attend/compare.h>
#include <attend/context.h>
#include <attend/problem.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Element c of a pair of a head at position m becomes c·cos(m·θ) - d·sin(m·θ), its partner d becomes
 * d·cos(m·θ) + c·sin(m·θ). Tensors may have any strides but a last one of 1, lie on the host or on the
 * context's device, and their padding may hold anything. */
typedef struct attend_rotary_args {
    /* [batch, seqlen_q, num_heads, head_dim]; packed: [1, total_q, …]. q or k may be absent */
    attend_tensor q;
    attend_tensor k; /* [batch, seqlen_q, num_kv_heads, head_dim]: the keys of the same tokens */
    /* where the results go, shaped as q and k; absent: in place, written to q and k */
    attend_tensor q_out, k_out;
    /* The position of row i of a sequence is positions[b, i]; or else first_positions[b] + i, with
     * left_padded + i - starts_k[b]; without either first_position + i. Negative positions rotate backwards:
     * to move cached keys by n positions, rotate them by n. Angles are exact to a few units in the last place
     * of fp32 at any position. */
    attend_tensor positions; /* i32 [batch, seqlen_q]; packed: [1, total_q] */
    /* [batch], each within ±(2^31 - 1): how much of a sequence is cached. On the device it is clamped */
    const int64_t *first_positions;
    /* As in attend_feature_args: cu_seqlens_q if packed, starts_k if left_padded, and optional lengths.
     * Rows past their length are neither read nor written. */
    const int64_t *seqlens_q, *starts_k, *cu_seqlens_q;
    /* The transposed operation: gradients of rotated Q and K become those of Q and K. Without QK-norm only.
       */
    bool backward;
    uint8_t reserved[7];
    attend_tensor q_norm, k_norm, q_norm_bias, k_norm_bias; /* as in attend_layer_weights */
} attend_rotary_args;

ATTEND_API attend_status attend_rotary_apply_sized(attend_context *context, const attend_problem *problem,
                                                   size_t problem_bytes, const attend_rotary_args *args,
                                                   size_t args_bytes);

/* Normalises (qk_norm) and rotates (rotary) the heads of q and k, each stored once, in the problem's dtype.
 * Of the problem it reads batch, seqlen_q, num_heads, num_kv_heads, head_dim, dtype, packed, total_q,
 * left_padded and what "where a token is" lists; seqlen_k alone for ATTEND_ROTARY_NTK: the length so far, 0:
 * seqlen_q. The rest may be that of the attention that follows, but has to be valid. On a CPU it returns when
 * the result is there. On CUDA it enqueues one kernel on the context's stream (attend_context_set_stream():
 * it has no stream of its own as runs may), may be captured in a graph, and returns at once; if a tensor or
 * list lies on the host it takes device memory while it works, and returns when all is there.
 * Errors: INVALID_ARGUMENT, OUT_OF_MEMORY, DEVICE_ERROR. */
static inline attend_status attend_rotary_apply(attend_context *context, const attend_problem *problem,
                                                const attend_rotary_args *args)
{
    return attend_rotary_apply_sized(context, problem, sizeof *problem, args, sizeof *args);
}

/* One operand held against fp64, by both rules of docs/numerics.md; a ratio above 1 breaks its rule. */
typedef struct attend_rotary_comparison {
    bool passed;
    uint8_t reserved[7];
    int64_t elements;
    double bound_ratio;   /* rule 1: the worst |actual - expected| / bound */
    double quality_ratio; /* rule 2: the worst of the tensors, their heads and tiles of 64 rows */
    double max_error, rms_error;
    attend_element worst; /* where bound_ratio was reached; in k, heads count on from num_heads */
} attend_rotary_comparison;

ATTEND_API attend_status attend_rotary_compare_sized(const attend_problem *problem, size_t problem_bytes,
                                                     const attend_rotary_args *args, size_t args_bytes,
                                                     const attend_compare_options *options,
                                                     size_t options_bytes,
                                                     attend_rotary_comparison *comparison,
                                                     size_t comparison_bytes);

/* Holds args->q_out and k_out, wherever they were computed, against the fp64 reference of q and k: not of
 * results in place, whose input is gone. All tensors on the host; one thread does it, whatever options, which
 * may be NULL, say of threads. Errors: INVALID_ARGUMENT, also where the reference itself is not finite;
 * OUT_OF_MEMORY; CANCELLED. */
static inline attend_status attend_rotary_compare(const attend_problem *problem,
                                                  const attend_rotary_args *args,
                                                  const attend_compare_options *options,
                                                  attend_rotary_comparison *comparison)
{
    return attend_rotary_compare_sized(problem, sizeof *problem, args, sizeof *args, options, sizeof *options,
                                       comparison, sizeof *comparison);
}

#ifdef __cplusplus
}
#endif

#endif
