/* The carried state of attention over some of the keys: saved, continued by a later run, merged. */
#ifndef ATTEND_STATE_H
#define ATTEND_STATE_H

#include <attend/context.h>
#include <attend/problem.h>
#include <attend/run.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The sums of online softmax (Milakov, Gimelshein, arXiv:1805.02867; parts of the keys: Rabe, Staats,
 * arXiv:2112.05682) over some of the keys, for each query: all f32, where a run's q, k and v may lie, in
 * memory of the caller. The output is not yet divided by the sum and includes no sink, so that continuing on
 * the same kernel changes no bit. States of other kernels or devices may be continued too, within
 * docs/numerics.md. Strides are any, but the last of out, which is 1. A query that saw no key has out 0, max
 * -infinity, sum 0. A frozen struct: it lies inside others. examples/resume.c is a whole program. */
typedef struct attend_state {
    /* [batch, seqlen_q, num_heads, head_dim_v]: Σ_j 2^(s_j - max)·v_j, s_j being the score times log2 e */
    attend_tensor out;
    /* [batch, num_heads, seqlen_q]: what the sums refer to, at or near the largest s_j; from ±2^30 on twice
     * the largest score itself, relative to which weights are 1 or 0 (docs/numerics.md) */
    attend_tensor max;
    attend_tensor sum; /* [batch, num_heads, seqlen_q]: Σ_j 2^(s_j - max); 0: no key was seen */
} attend_state;

typedef struct attend_merge_args {
    const attend_state *states; /* [count], in the order of their keys; only read */
    int64_t count;
    attend_tensor out;        /* [batch, seqlen_q, num_heads, head_dim_v]; absent with `into` */
    attend_tensor lse;        /* optional, f32 [batch, num_heads, seqlen_q]; absent with `into` */
    const attend_state *into; /* its tensors are written instead, and may be those of one of the states */
    attend_tensor sinks;      /* f32 [num_heads] where the problem has sinks; not needed with `into` */
} attend_merge_args;

ATTEND_API attend_status attend_merge_sized(attend_context *context, const attend_problem *problem,
                                            size_t problem_bytes, const attend_merge_args *args,
                                            size_t args_bytes, const attend_run *run, size_t run_bytes);

/* Folds states over neighbouring ranges of keys, in their order, into out and lse, or into a state. An empty
 * side of a fold returns the other unchanged; else m = max(m_a, m_b), out = out_a·2^(m_a - m) +
 * out_b·2^(m_b - m), the sum likewise: what a run does with its spans. So where each state after the first
 * covers one span (attend_plan_key_span()) of the same kernel, these are the bits of one run over all the
 * keys; else they are within docs/numerics.md. A count of 0 is allowed and gives what no key gives. A merge
 * knows no lengths: a query past its sequence's is one that sees no key, whose LSE is its sink.
 *
 * `problem` says shapes, dtype and whether there are sinks, as the plan's that left the states; it may not be
 * packed. `run` may be NULL; it needs no workspace. Threads and streams: as runs (run.h). On CUDA, a merge of
 * at most 8 states whose tensors all lie on the device is one launch, which may be captured in a graph; any
 * other takes device memory for the call and returns when it is done.
 * Errors: INVALID_ARGUMENT (shapes, dtypes, strides, overlaps), UNSUPPORTED (packed sequences; more than
 * 2^31 - 1 rows on CUDA), OUT_OF_MEMORY, DEVICE_ERROR. */
static inline attend_status attend_merge(attend_context *context, const attend_problem *problem,
                                         const attend_merge_args *args, const attend_run *run)
{
    return attend_merge_sized(context, problem, sizeof *problem, args, sizeof *args, run, sizeof *run);
}

#ifdef __cplusplus
}
#endif

#endif
