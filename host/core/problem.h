/* A problem with every default filled in and every field checked: what backends, kernels and the reference
   read. Below this line no code asks "is it zero?". */
#ifndef ATTEND_CORE_PROBLEM_H
#define ATTEND_CORE_PROBLEM_H

#include <attend/attend.h>

typedef enum attend_operation { ATTEND_ATTENTION, ATTEND_LAYER, ATTEND_ROTATION } attend_operation;

/* Reads a caller's struct of `bytes` bytes (older callers: shorter), fills the defaults and checks every
   field. */
attend_status attend_problem_resolve(const attend_problem *problem, size_t bytes, attend_operation operation,
                                     attend_problem *resolved);

/* The first two extents of q, k, v and out: packed sequences lie end to end in one batch entry. */
static inline int64_t attend_tensor_batch(const attend_problem *p) { return p->packed ? 1 : p->batch; }
static inline int64_t attend_rows_q(const attend_problem *p) { return p->packed ? p->total_q : p->seqlen_q; }
static inline int64_t attend_rows_k(const attend_problem *p) { return p->packed ? p->total_k : p->seqlen_k; }

/* Whether K and V come from a context tensor. */
static inline bool attend_problem_is_cross(const attend_problem *problem)
{
    return problem->context_hidden_size != 0;
}

#endif
