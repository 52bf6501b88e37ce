/* Which keys a query sees: the one definition that the CPU path and every CUDA kernel share (plain C, also compiled by
   nvcc). The fp64 reference states the same rule on its own, as a predicate, so that a slip here shows. */
#ifndef ATTEND_HOST_VISIBILITY_H
#define ATTEND_HOST_VISIBILITY_H

#include <attend/attend.h>

#ifdef __CUDACC__
#define ATTEND_SHARED __host__ __device__ static inline
#else
#define ATTEND_SHARED static inline
#endif

/* A length as given by the caller, clamped; without an array, the longest. */
ATTEND_SHARED int64_t attend_length(const int64_t *lengths, int64_t batch_index, int64_t longest)
{
    if (!lengths) return longest;
    int64_t length = lengths[batch_index];
    return length < 0 ? 0 : length > longest ? longest : length;
}

/* Query `row` sees the keys [0, end). seqlen_q and seqlen_k are the lengths of its batch entry. */
ATTEND_SHARED int64_t attend_visible_end(const attend_problem *problem, int64_t row, int64_t seqlen_q, int64_t seqlen_k)
{
    int64_t end = seqlen_k;
    if (problem->causal == ATTEND_CAUSAL_TOP_LEFT) end = row + 1;
    if (problem->causal == ATTEND_CAUSAL_BOTTOM_RIGHT) end = row + 1 + seqlen_k - seqlen_q;
    return end < 0 ? 0 : end > seqlen_k ? seqlen_k : end;
}

#endif
