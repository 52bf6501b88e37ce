/* Gradients of out = attention(q, k, v), of a plan that was made with `backward`. */
#ifndef ATTEND_BACKWARD_H
#define ATTEND_BACKWARD_H

#include <attend/attention.h>
#include <attend/compare.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The gradients of what features bring, each shaped as its tensor and f32; absent: not wanted. bias has
 * extent 1 along every axis that the problem's bias_axes leave out: it is summed over them, in an order that
 * is always the same. alibi_slopes may be asked for where the slopes are the paper's, too. */
typedef struct attend_feature_grads {
    attend_tensor bias;
    attend_tensor alibi_slopes;
    attend_tensor relative_table;
    attend_tensor head_scales;
    attend_tensor sinks;
} attend_feature_grads;

/* Gradients arrive in dout and dlse; those wanted leave by the others; absent: not wanted. dq, dk and dv are
 * shaped as their tensor, in the problem's dtype or f32 (to add up over micro-batches or ranks), and rounded
 * once. Queries that see no key, keys that no query sees and rows past the lengths get zeros. */
typedef struct attend_attention_grads {
    attend_tensor dout; /* of out, shaped and stored as it */
    attend_tensor dlse; /* optional: of lse, f32 [batch, num_heads, seqlen_q] */
    attend_tensor dq, dk, dv;
    const attend_feature_grads *features; /* NULL: none */
    /* out as it was before it was rounded, f32: with it the sum dout·out of a row is not biased by that
     * rounding, which arXiv:2510.04212 traces exploding 16-bit training to. Absent: in f32 args' out does; in
     * 16 bits, and without out, the sum of p·dP is taken in a pass of its own. */
    attend_tensor out_f32;
    bool accumulate; /* add to dq, dk, dv and features instead of replacing them */
    uint8_t reserved[7];
} attend_attention_grads;

ATTEND_API attend_status attend_attention_backward_sized(attend_plan *plan, const attend_attention_args *args,
                                                         size_t args_bytes, size_t features_bytes,
                                                         const attend_attention_grads *grads,
                                                         size_t grads_bytes, size_t feature_grads_bytes,
                                                         const attend_run *run, size_t run_bytes);

/* Backwards; examples/train.c is a whole program. args are those of the forward run: its lse is needed, its
 * out is read in f32 alone and may be absent. `run` may be NULL. Bits depend on nothing but the problem and
 * its tensors: not on threads, nor of dq on other batch entries and heads, nor of dk and dv on those of other
 * KV heads; but on CUDA 16-bit gradients of bias, slopes or a relative table, where wanted, come of another
 * kernel, and all others with them.
 * Errors: INVALID_ARGUMENT (shapes, dtypes, strides, overlaps, lengths; a plan made without `backward`),
 * UNSUPPORTED (ranges of keys or queries, states), CANCELLED, OUT_OF_MEMORY, DEVICE_ERROR. */
static inline attend_status attend_attention_backward(attend_plan *plan, const attend_attention_args *args,
                                                      const attend_attention_grads *grads,
                                                      const attend_run *run)
{
    return attend_attention_backward_sized(plan, args, sizeof *args, sizeof *args->features, grads,
                                           sizeof *grads, sizeof *grads->features, run, sizeof *run);
}

/* One gradient held against the reference, by the two rules of docs/numerics.md. A frozen struct. */
typedef struct attend_gradient_comparison {
    int64_t elements;     /* 0: it was not given */
    double bound_ratio;   /* rule 1: the worst |actual - expected| / bound */
    double quality_ratio; /* rule 2: the worst of the tensor, its heads and its tiles of 64 rows */
    double max_error, rms_error;
    attend_element worst; /* where bound_ratio was reached; its four indices are the tensor's */
} attend_gradient_comparison;

typedef struct attend_backward_comparison {
    bool passed;
    uint8_t reserved[7];
    attend_gradient_comparison dq, dk, dv, bias, alibi_slopes, relative_table, head_scales, sinks;
} attend_backward_comparison;

ATTEND_API attend_status attend_backward_compare_sized(
    const attend_problem *problem, size_t problem_bytes, const attend_attention_args *args, size_t args_bytes,
    size_t features_bytes, const attend_attention_grads *grads, size_t grads_bytes,
    size_t feature_grads_bytes, const attend_compare_options *options, size_t options_bytes,
    attend_backward_comparison *comparison, size_t comparison_bytes);

/* Holds every gradient that is given, wherever it was computed, against the fp64 reference of the same stored
 * q, k, v, features, dout and dlse; out and lse are not read. All tensors on the host; O(seqlen_q·seqlen_k)
 * time on the CPU, and memory for ten doubles an element of the gradients; options may be NULL.
 * Errors: as attend_compare(). INVALID_ARGUMENT with `accumulate`: what was there before is not known. */
static inline attend_status attend_backward_compare(const attend_problem *problem,
                                                    const attend_attention_args *args,
                                                    const attend_attention_grads *grads,
                                                    const attend_compare_options *options,
                                                    attend_backward_comparison *comparison)
{
    return attend_backward_compare_sized(problem, sizeof *problem, args, sizeof *args, sizeof *args->features,
                                         grads, sizeof *grads, sizeof *grads->features, options,
                                         sizeof *options, comparison, sizeof *comparison);
}

#ifdef __cplusplus
}
#endif

#endif
