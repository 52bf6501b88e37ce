/* The CPU kernel as its callers see it: one source (kernel.c and the kernel_*.h it includes), compiled once
   per instruction set, chosen at run time. docs/cpu.md tells how it works.
   
   The rows of a KV head are the queries of all its heads, query by query: row i is query i / group of head i
   % group. */
#ifndef ATTEND_CPU_KERNEL_H
#define ATTEND_CPU_KERNEL_H

#include "core/part.h"
#include "shared/score.h"

/* Keys are summed within spans of this many, at absolute positions, and spans are merged in their order: who
   computes which span never changes a bit. Within a span, softmax takes blocks of keys. */
enum { ATTEND_CPU_SPAN = 1024, ATTEND_CPU_BLOCK = 128 };

enum {
    ATTEND_CPU_FEW_ROWS = 8,   /* at most so many rows a KV head go to run_few(), */
    ATTEND_CPU_FEW_HEADS = 8,  /* at most so many heads at once */
    ATTEND_CPU_MAX_PANELS = 16 /* of a task */
};

#define ATTEND_LOG2E 0x1.71547652b82fep+0

/* How a plan is cut: see blocking.c. */
typedef struct attend_cpu_blocking {
    int64_t keys;   /* of a block: ATTEND_CPU_BLOCK, or less for all keys */
    int64_t panels; /* of rows that one task takes through all its keys; at most ATTEND_CPU_MAX_PANELS */
} attend_cpu_blocking;

/* One KV head, packed by pack(): keys as panels [head_dim][rows of the micro-kernel]; values block by block
   as panels [keys of a block][rows of the micro-kernel]. */
typedef struct attend_cpu_keys {
    float *k, *v;
    bool *finite; /* of each block, whether all values are; NULL: nobody asks */
} attend_cpu_keys;

/* Rows of activations: row, then head within the KV head's group, in elements. */
typedef struct attend_cpu_rows {
    void *data;
    int64_t stride, head_stride;
} attend_cpu_rows;

/* Some rows of one KV head against some of its spans. */
typedef struct attend_cpu_task {
    const attend_problem *problem;
    attend_cpu_blocking blocking;
    /* What features make of scores before softmax sees them: values, never another kernel. NULL: nothing. */
    const struct attend_cpu_elements *elements;
    int64_t group;            /* query heads of the KV head */
    const attend_head *heads; /* [group] */
    attend_sequence sequence; /* the batch entry */
    const attend_key_part *part;
    int64_t first_row, rows; /* first_row: where a panel begins */
    int64_t first_span, end_span;
    attend_cpu_keys keys; /* run: packed */
    /* of this KV head from its first query or the part's first key; k and v have no head_stride */
    attend_cpu_rows q, k, v, out;
    float *lse; /* NULL: not wanted */
    int64_t lse_stride, lse_head_stride;
    /* Where each (row, span) leaves its unfinished output, maximum and sum; NULL: run() finishes the rows
       itself. */
    float *partials; /* of the KV head: [rows of the head][spans][attend_cpu_partial_floats()] */
    float *scratch;  /* scratch_floats() of them, 64-byte aligned */
} attend_cpu_task;

typedef struct attend_cpu_kernel {
    const char *name;         /* "avx512" */
    int lanes, rows, vectors; /* floats in a vector; micro-kernel: rows by vectors */
    bool (*runs_here)(void);
    int64_t (*scratch_floats)(const attend_problem *problem, const attend_cpu_blocking *blocking);
    /* Packs one block of keys and values, [first, first + blocking.keys), of the task's KV head. */
    void (*pack)(const attend_cpu_task *task, int64_t first);
    /* Many rows: packed keys, every vector full of rows. */
    void (*run)(const attend_cpu_task *task);
    /* Few rows, many keys: keys and values are read once, as they lie; always into partials. The tasks differ
       in the head alone. */
    void (*run_few)(const attend_cpu_task *tasks, int64_t count);
    /* Merges the partials of the task's rows over all spans and finishes them. */
    void (*merge)(const attend_cpu_task *task);
    /* Folds the states of one row, which core/backend.h describes. */
    void (*merge_states)(const attend_problem *problem, const attend_merge_args *args, int64_t batch,
                         int64_t query, int64_t head);
    const struct attend_cpu_inspector *inspector; /* inspect.h */
    const struct attend_cpu_scorer *scorer;       /* elements.h */
} attend_cpu_kernel;

/* Fastest first; ends with the portable one. */
extern const attend_cpu_kernel attend_cpu_kernel_avx512, attend_cpu_kernel_avx2, attend_cpu_kernel_neon,
    attend_cpu_kernel_portable;

/* The best for this machine, or the one that ATTEND_CPU_ISA names: then *is_forced. */
attend_status attend_cpu_kernel_choose(const attend_cpu_kernel **kernel, bool *is_forced);

/* Row of the list of instruction sets, fastest first; NULL past the last. */
const attend_cpu_kernel *attend_cpu_kernel_row(size_t index);

static inline int64_t attend_cpu_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline int64_t attend_cpu_spans(int64_t seqlen_k)
{
    return (seqlen_k + ATTEND_CPU_SPAN - 1) / ATTEND_CPU_SPAN;
}
/* Output padded to 64 bytes, then maximum and sum. */
static inline int64_t attend_cpu_partial_floats(const attend_problem *p)
{
    return attend_cpu_round_up(p->head_dim_v + 2, 16);
}
/* Columns of V as packed. */
static inline int64_t attend_cpu_v_width(const attend_cpu_kernel *kernel, const attend_problem *p)
{
    return attend_cpu_round_up(p->head_dim_v, kernel->rows);
}

/* A row of n stored elements as floats, and back. */
void attend_cpu_load_row(float *to, const void *from, int64_t offset, int64_t n, attend_dtype dtype);
void attend_cpu_store_row(void *to, int64_t offset, const float *from, int64_t n, attend_dtype dtype);

#endif
