/* Comparing results with the fp64 reference. */
#ifndef ATTEND_COMPARE_H
#define ATTEND_COMPARE_H

#include <attend/attention.h>
#include <attend/layer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Options of a comparison; zeros, or NULL in its place, are the defaults. */
typedef struct attend_compare_options {
    int threads; /* CPU threads, at most ATTEND_MAX_THREADS; 0: all */
    int reserved;
    /* as in attend_context_options; if it cancels, the comparison struct is unchanged */
    attend_progress *progress;
    void *progress_user;
} attend_compare_options;

/* One element of a result [batch, seqlen, head, column]; column is -1 in an LSE, head is -1 in a layer's
   output. */
typedef struct attend_element {
    int64_t batch, head, row, column;
    double actual, expected;
    double bound; /* the largest error that rule 1 allows here */
} attend_element;

/* The two rules of docs/numerics.md: every element within its bound; and every tensor, head and tile of rows
 * no worse in the mean square than its storage dtype forces. A ratio above 1 breaks its rule. */
typedef struct attend_comparison {
    bool passed;
    uint8_t reserved[39];
    int64_t elements;
    double bound_ratio; /* rule 1 on out: the worst |actual - expected| / bound */
    /* rule 2 on out: the worst of the tensor, its heads and its tiles of 64 rows */
    double quality_ratio;
    double lse_bound_ratio;      /* rule 1 on lse; 0 without one */
    double max_error, rms_error; /* of out */
    attend_element worst;        /* where bound_ratio was reached */
    attend_element worst_lse;
} attend_comparison;

ATTEND_API attend_status attend_compare_sized(const attend_problem *problem, size_t problem_bytes,
                                              const attend_attention_args *args, size_t args_bytes,
                                              size_t features_bytes, const attend_compare_options *options,
                                              size_t options_bytes, attend_comparison *comparison,
                                              size_t comparison_bytes);

/* Compares args->out (and lse if given), from any device or library, with the fp64 reference for the same
 * stored inputs. All tensors on the host; O(seqlen_q·seqlen_k) time on the CPU, O(seqlen) memory; options may
 * be NULL.
 * Errors: INVALID_ARGUMENT, also where the reference itself is not finite; OUT_OF_MEMORY; CANCELLED. Breaking
 * a rule is ATTEND_OK with passed = false. */
static inline attend_status attend_compare(const attend_problem *problem, const attend_attention_args *args,
                                           const attend_compare_options *options,
                                           attend_comparison *comparison)
{
    return attend_compare_sized(problem, sizeof *problem, args, sizeof *args, sizeof *args->features, options,
                                sizeof *options, comparison, sizeof *comparison);
}

/* A layer stage by stage, each judged from the actual output of the stage before, and rule 2 end to end. */
typedef struct attend_layer_comparison {
    bool passed;
    uint8_t reserved[7];
    double projection_ratio[3];  /* rule 1 of Q, K and V: the dot product's bound */
    attend_comparison attention; /* of heads, given q, k and v */
    double output_ratio;         /* rule 1 of the output projection */
    double quality_ratio;        /* rule 2 of out, end to end */
    double max_error, rms_error; /* of out, end to end */
    attend_element worst;        /* of the output projection */
} attend_layer_comparison;

ATTEND_API attend_status attend_layer_compare_sized(const attend_problem *problem, size_t problem_bytes,
                                                    const attend_layer_weights *weights, size_t weights_bytes,
                                                    const attend_layer_args *args, size_t args_bytes,
                                                    size_t features_bytes,
                                                    const attend_compare_options *options,
                                                    size_t options_bytes, attend_layer_comparison *comparison,
                                                    size_t comparison_bytes);

/* args holds out and the intermediate q, k, v and heads of one run; of one with a cache (on the host as all
 * tensors are) the cache in place of k and v, as the run left it, with the seqlens that it was given: earlier
 * keys are taken as they are. Errors as attend_compare(). */
static inline attend_status attend_layer_compare(const attend_problem *problem,
                                                 const attend_layer_weights *weights,
                                                 const attend_layer_args *args,
                                                 const attend_compare_options *options,
                                                 attend_layer_comparison *comparison)
{
    return attend_layer_compare_sized(problem, sizeof *problem, weights, sizeof *weights, args, sizeof *args,
                                      sizeof *args->features, options, sizeof *options, comparison,
                                      sizeof *comparison);
}

#ifdef __cplusplus
}
#endif

#endif
