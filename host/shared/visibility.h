/* Visibility: which keys a query attends to. The CPU path and every CUDA kernel share this definition (plain
   C, also compiled by nvcc). The fp64 reference states the same rules independently, as predicates, so that
   an error here shows.

   A row's visible keys lie within one interval, [attend_visible_begin, attend_visible_end). Where the problem
   is not elementwise (score.h), they are exactly that interval, and neither end decreases from row to row. */
#ifndef ATTEND_SHARED_VISIBILITY_H
#define ATTEND_SHARED_VISIBILITY_H

#include <attend/problem.h>

#ifdef __CUDACC__
#define ATTEND_SHARED __host__ __device__ static inline
#else
#define ATTEND_SHARED static inline
#endif
#ifdef __CUDA_ARCH__
#define ATTEND_ROLLED _Pragma("unroll 1") /* saves registers; the loop is rare */
#else
#define ATTEND_ROLLED
#endif

/* One entry of the batch: its rows in the tensors. */
typedef struct attend_sequence {
    int64_t batch;              /* index along the tensors' first axis */
    int64_t first_q, first_k;   /* first row along the second axis; 0 unless packed */
    int64_t seqlen_q, seqlen_k; /* rows and keys are counted from first_q and first_k on */
    int64_t start;              /* the first key that is not padding */
} attend_sequence;

ATTEND_SHARED int64_t attend_clamp(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* A length given by the caller, clamped; without an array, the longest. */
ATTEND_SHARED int64_t attend_length(const int64_t *lengths, int64_t batch_index, int64_t longest)
{
    return lengths ? attend_clamp(lengths[batch_index], 0, longest) : longest;
}

ATTEND_SHARED attend_sequence attend_sequence_of(const attend_problem *p, const attend_lists *lists,
                                                 int64_t b)
{
    attend_sequence s = {b, 0, 0, 0, 0, 0};
    if (p->packed) {
        s.batch = 0;
        s.first_q = attend_clamp(lists->cu_seqlens_q[b], 0, p->total_q);
        s.first_k = attend_clamp(lists->cu_seqlens_k[b], 0, p->total_k);
        s.seqlen_q =
            attend_clamp(attend_clamp(lists->cu_seqlens_q[b + 1], 0, p->total_q) - s.first_q, 0, p->seqlen_q);
        s.seqlen_k =
            attend_clamp(attend_clamp(lists->cu_seqlens_k[b + 1], 0, p->total_k) - s.first_k, 0, p->seqlen_k);
        return s;
    }
    s.seqlen_q = attend_length(lists->seqlens_q, b, p->seqlen_q);
    s.seqlen_k = attend_length(lists->seqlens_k, b, p->seqlen_k);
    if (lists->starts_k) s.start = attend_clamp(lists->starts_k[b], 0, s.seqlen_k);
    return s;
}

/* The rows of out of one batch entry. Those past seqlen_q are padding and become zeros; packed entries have
   none. */
ATTEND_SHARED int64_t attend_rows_of(const attend_problem *p, const attend_sequence *s)
{
    return p->packed ? s->seqlen_q : p->seqlen_q;
}

/* The position of a query, counted in keys. */
ATTEND_SHARED int64_t attend_position(const attend_problem *p, const attend_sequence *s, int64_t row)
{
    return p->align_bottom_right ? row + s->seqlen_k - s->seqlen_q : row;
}

/* The first position of the query's chunk. */
ATTEND_SHARED int64_t attend_chunk_begin(const attend_problem *p, const attend_sequence *s, int64_t position)
{
    int64_t within = (position - s->start) % p->chunk;
    return position - (within < 0 ? within + p->chunk : within);
}

/* The first key behind the prefix that is visible by window and chunk. */
ATTEND_SHARED int64_t attend_local_begin(const attend_problem *p, const attend_sequence *s, int64_t row)
{
    int64_t begin = s->start, position = attend_position(p, s, row);
    if (p->window_left >= 0 && position - p->window_left > begin) begin = position - p->window_left;
    if (p->chunk > 0) {
        int64_t chunk = attend_chunk_begin(p, s, position);
        if (chunk > begin) begin = chunk;
    }
    return begin < s->seqlen_k ? begin : s->seqlen_k;
}

ATTEND_SHARED int64_t attend_visible_begin(const attend_problem *p, const attend_sequence *s, int64_t row)
{
    return p->prefix > 0 ? s->start : attend_local_begin(p, s, row);
}

ATTEND_SHARED int64_t attend_visible_end(const attend_problem *p, const attend_sequence *s, int64_t row)
{
    int64_t end = s->seqlen_k, position = attend_position(p, s, row);
    if (p->causal != ATTEND_CAUSAL_NONE && position + 1 < end) end = position + 1;
    if (p->window_right >= 0 && position + p->window_right + 1 < end) end = position + p->window_right + 1;
    if (p->chunk > 0) {
        int64_t chunk = attend_chunk_begin(p, s, position) + p->chunk;
        if (chunk < end) end = chunk;
    }
    if (end < s->start) end = s->start;
    if (p->prefix > 0 && s->start + p->prefix > end) end = attend_clamp(s->start + p->prefix, 0, s->seqlen_k);
    return end;
}

/* Whether there can be masked keys between the prefix and the keys near the query (the gap). */
ATTEND_SHARED bool attend_has_gap(const attend_problem *p)
{
    return p->prefix > 0 && (p->window_left >= 0 || p->chunk > 0);
}

#endif
