/* The CPU kernel as its callers see it: one source (kernel.c), compiled once per instruction set, chosen at run time. */
#ifndef ATTEND_CPU_KERNEL_H
#define ATTEND_CPU_KERNEL_H

#include "../visibility.h"

enum {
    ATTEND_CPU_TILE_Q = 48,  /* queries of a task: their scores and output stay in L1 and L2 */
    ATTEND_CPU_TILE_K = 128, /* keys folded at once: one K and one V block stay in L2 while all queries pass */
    ATTEND_CPU_PANEL = 64    /* keys and value columns are padded to this: a multiple of every vector panel */
};

/* One KV head, packed: keys as panels of [head_dim][panel columns], values as rows of padded width. Both padded with zeros. */
typedef struct attend_cpu_keys {
    float *k; /* [seqlen_k padded to ATTEND_CPU_PANEL] × head_dim */
    float *v; /* [seqlen_k padded] × [head_dim_v padded] */
} attend_cpu_keys;

/* Some queries of one head against all their keys. */
typedef struct attend_cpu_task {
    const attend_problem *problem;
    attend_cpu_keys keys;
    attend_sequence sequence;
    int64_t query, queries;     /* the first, and how many: at most ATTEND_CPU_TILE_Q */
    const void *q;              /* the first query's row, stored in the problem's dtype */
    int64_t q_stride;           /* elements between rows */
    void *out;
    int64_t out_stride;
    float *lse; /* NULL: not wanted */
    int64_t lse_stride;
    float *scratch; /* attend_cpu_scratch_floats() of them, 64-byte aligned */
} attend_cpu_task;

typedef struct attend_cpu_kernel {
    const char *name; /* "avx512" */
    bool (*runs_here)(void);
    /* Packs keys [first, first + count) of one head; rows from seqlen_k on become zeros. first and count: multiples of the panel. */
    void (*pack_keys)(float *packed, const void *k, attend_dtype dtype, int64_t stride, int64_t head_dim, int64_t first,
                      int64_t count, int64_t seqlen_k);
    void (*run)(const attend_cpu_task *task);
} attend_cpu_kernel;

/* Fastest first; ends with the portable one. */
extern const attend_cpu_kernel attend_cpu_kernel_avx512, attend_cpu_kernel_avx2, attend_cpu_kernel_portable;

/* The best for this machine, or the one that ATTEND_CPU_ISA names. */
attend_status attend_cpu_kernel_choose(const attend_cpu_kernel **kernel);

/* The widths and lengths that packing uses. */
static inline int64_t attend_cpu_padded(int64_t n) { return (n + ATTEND_CPU_PANEL - 1) / ATTEND_CPU_PANEL * ATTEND_CPU_PANEL; }
static inline int64_t attend_cpu_scratch_floats(const attend_problem *p)
{
    return ATTEND_CPU_TILE_Q * (attend_cpu_padded(p->head_dim) + attend_cpu_padded(p->head_dim_v) + ATTEND_CPU_TILE_K);
}

/* A row of n stored elements as floats, and back. */
void attend_cpu_load_row(float *to, const void *from, int64_t offset, int64_t n, attend_dtype dtype);
void attend_cpu_store_row(void *to, int64_t offset, const float *from, int64_t n, attend_dtype dtype);

#endif
