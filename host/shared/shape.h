/* Extents of the tensors of a resolved problem. */
#ifndef ATTEND_SHARED_SHAPE_H
#define ATTEND_SHARED_SHAPE_H

#include <attend/problem.h>

static inline int64_t attend_least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t attend_most(int64_t a, int64_t b) { return a > b ? a : b; }

/* The first two extents of q, k, v and out: packed sequences lie end to end in one batch entry. */
static inline int64_t attend_tensor_batch(const attend_problem *p) { return p->packed ? 1 : p->batch; }
static inline int64_t attend_rows_q(const attend_problem *p) { return p->packed ? p->total_q : p->seqlen_q; }
static inline int64_t attend_rows_k(const attend_problem *p) { return p->packed ? p->total_k : p->seqlen_k; }

/* Rows of the K and V that a layer projects: in self-attention those of x, to which a cache adds. */
static inline int64_t attend_rows_projected(const attend_problem *p)
{
    return p->context_hidden_size ? attend_rows_k(p) : attend_rows_q(p);
}

/* Parts of `part` that `all` takes, the last one being shorter. */
static inline int64_t attend_parts_of(int64_t all, int64_t part) { return all / part + (all % part != 0); }

#endif
