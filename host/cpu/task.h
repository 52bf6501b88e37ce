/* A task of the CPU kernel: rows of one KV head against spans of its keys, and the tensors that they lie in.
   The rows of a KV head are the queries of all its heads, query by query: row i is query i / group of head i
   % group. */
#ifndef ATTEND_CPU_TASK_H
#define ATTEND_CPU_TASK_H

#include "core/part.h"
#include "shared/score.h"

/* Sums run within spans of this many keys, at absolute positions, and spans are merged in their order: no bit
   depends on which thread computes which span. Within a span, softmax takes blocks of keys. */
enum { ATTEND_CPU_SPAN = 1024, ATTEND_CPU_BLOCK = 128 };

enum {
    ATTEND_CPU_FEW_ROWS = 8,   /* the most rows a KV head of the decode schedule */
    ATTEND_CPU_FEW_HEADS = 8,  /* the most KV heads that run_few() takes at once */
    ATTEND_CPU_MAX_PANELS = 16 /* panels a task */
};

#define ATTEND_LOG2E 0x1.71547652b82fep+0

/* The blocking of a plan (blocking.c) */
typedef struct attend_cpu_blocking {
    int64_t keys;   /* a block: ATTEND_CPU_BLOCK, or a smaller power of two if it holds all keys */
    int64_t panels; /* panels of rows a task; at most ATTEND_CPU_MAX_PANELS */
} attend_cpu_blocking;

/* Keys and values of one KV head in tiled panels: keys as [head_dim][rows of the micro-kernel]; values block
   by block as [keys of a block][rows of the micro-kernel]. */
typedef struct attend_cpu_keys {
    float *k, *v;
    bool *finite; /* whether all values of a block are finite */
} attend_cpu_keys;

/* Rows of activations; strides of queries or keys and of heads within the group, in elements. */
typedef struct attend_cpu_rows {
    void *data;
    int64_t stride, head_stride;
} attend_cpu_rows;

/* K or V of one KV head, from its row 0 of entry 0 on (attend_key_slot); strides in elements. */
typedef struct attend_cpu_key_rows {
    char *data;
    int64_t entry_stride, stride;
} attend_cpu_key_rows;

/* Rows of one KV head against spans of its keys. */
typedef struct attend_cpu_task {
    const attend_problem *problem;
    attend_cpu_blocking blocking;
    /* Elementwise features of scores; NULL: none. They are values: the same kernel runs with them. */
    const struct attend_cpu_elements *elements;
    int64_t group;            /* query heads of the KV head */
    const attend_head *heads; /* [group] */
    attend_sequence sequence; /* the batch entry */
    const attend_key_part *part;
    int64_t first_row, rows; /* first_row: a multiple of a panel's rows */
    int64_t first_span, end_span;
    attend_cpu_keys keys;   /* tiled panels, for run() */
    attend_cpu_rows q, out; /* of this KV head, from the run's first query */
    attend_cpu_key_rows k, v;
    float *lse; /* NULL: not wanted */
    int64_t lse_stride, lse_head_stride;
    /* Undivided output, running max and sum of each (row, span); NULL: run() finishes the rows itself. */
    float *partials;       /* [rows of the KV head][spans][attend_cpu_partial_floats()] */
    int64_t partial_spans; /* from one row of partials to the next */
    float *scratch;        /* [scratch_floats()], 64-byte aligned */
} attend_cpu_task;

static inline int64_t attend_cpu_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline int64_t attend_cpu_spans(int64_t seqlen_k)
{
    return (seqlen_k + ATTEND_CPU_SPAN - 1) / ATTEND_CPU_SPAN;
}
/* Output, maximum and sum, padded to 64 bytes */
static inline int64_t attend_cpu_partial_floats(const attend_problem *p)
{
    return attend_cpu_round_up(p->head_dim_v + 2, 16);
}

/* Converts a row of n stored elements to floats, and back. */
void attend_cpu_load_row(float *to, const void *from, int64_t offset, int64_t n, attend_dtype dtype);
void attend_cpu_store_row(void *to, int64_t offset, const float *from, int64_t n, attend_dtype dtype);

#endif
