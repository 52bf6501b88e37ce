/* The CPU backend's own types: what a context and a plan hold. */
#ifndef ATTEND_CPU_CPU_H
#define ATTEND_CPU_CPU_H

#include "core/backend.h"
#include "cpu/elements.h"
#include "core/feature_set.h"
#include "cpu/kernel.h"
#include "core/pool.h"

#include <string.h>

typedef struct attend_cpu_context {
    attend_pool *pool;
    int threads; /* of the pool */
    const attend_cpu_kernel *kernel;
    bool forced;                      /* by ATTEND_CPU_ISA */
    attend_progress_tracker *tracker; /* the context's */
} attend_cpu_context;

typedef struct attend_cpu_projection attend_cpu_projection; /* projection.c */

typedef enum attend_cpu_schedule {
    ATTEND_CPU_WHOLE, /* a task takes its rows through all their keys */
    ATTEND_CPU_SPLIT, /* a task takes its rows through one span; partials are merged */
    ATTEND_CPU_DECODE /* the same for few rows, on keys as they lie */
} attend_cpu_schedule;

typedef struct attend_cpu_plan {
    const attend_cpu_context *context;
    const attend_problem *problem;
    attend_cpu_blocking blocking;
    attend_cpu_schedule schedule;
    float *keys, *values;  /* packed K and V of every KV head; NULL for few rows */
    float *partials;       /* NULL where tasks are whole */
    float *scratch;        /* one part a thread */
    attend_head *per_head; /* [batch][num_heads], filled by each run */
    /* For features that touch each score; all but the buckets filled by each run. */
    attend_cpu_elements *elements; /* [batch][num_kv_heads] */
    int32_t *relative_buckets;
    float *relative; /* [num_heads][attend_cpu_relative_floats()] */
    attend_ids *ids; /* [batch][attend_cpu_id_blocks()] */
    bool *finite;    /* of each block of packed values; NULL: nobody asks */
    attend_terms terms;
    int64_t scratch_floats;
    /* Of a layer: what the projections read and write; NULL parts are the caller's own tensors. */
    attend_cpu_projection *projections[4]; /* Q, K, V, output */
    char *projecting;                      /* a part for each thread, of the projection that is at work */
    float *rope_scratch;                   /* attend_cpu_rope_floats() */
    void *q, *k, *v, *heads;
    void *x_with_positions; /* x with its absolute positions */
    double *sinusoids;      /* their frequencies, and a row for each thread */
    float *position_rows;
} attend_cpu_plan;

/* Threads that the process may keep busy, at least 1; and what its cgroups leave of so many processors:
   membership is a file like /proc/self/cgroup, mount where the hierarchies lie (version 1's as folders named
   after their controllers). */
int attend_cpu_usable_threads(void);
int attend_cpu_limited_threads(const char *membership, const char *mount, int processors);

/* 64-byte aligned memory for `elements` of `bytes` each, counted in *total also where it is NULL for want of
   room; SIZE_MAX: uncountable. */
void *attend_cpu_allocate(int64_t elements, size_t bytes, size_t *total);

/* Query rows that share a KV head. */
int64_t attend_cpu_rows_of(const attend_problem *problem);
/* Of one KV head of all batch entries, side by side: keys as packed, each entry's filled up to whole blocks,
   and rows of partials. */
int64_t attend_cpu_keys_reserved(const attend_cpu_plan *plan);
int64_t attend_cpu_rows_reserved(const attend_problem *problem);

attend_cpu_blocking attend_cpu_blocking_for(const attend_cpu_kernel *kernel, const attend_problem *problem,
                                            int threads);
/* The way of a plan whose context, problem and blocking are set. */
attend_cpu_schedule attend_cpu_schedule_of(const attend_cpu_plan *plan);
/* Units of work that a run over so many spans hands to threads; few rows take `heads_together` KV heads at
   once. */
int64_t attend_cpu_units(const attend_cpu_plan *plan, int64_t spans, int64_t heads_together);
/* Of lists that attend_lists_check() has seen. */
attend_status attend_cpu_attention(attend_cpu_plan *plan, const attend_attention_args *args,
                                   const attend_key_part *part);
attend_status attend_cpu_merge(attend_context *context, const attend_problem *problem,
                               const attend_merge_args *args, const attend_run *run);

/* Looks at what a run brings: fills per_head, elements and their tables. */
void attend_cpu_prepare_heads(attend_cpu_plan *plan, const attend_attention_args *args);

attend_status attend_cpu_inspect(attend_plan *plan, const attend_attention_args *args,
                                 const attend_inspect_request *request);

/* y = x·Wᵀ + b for x of `rows` rows, on the threads of a pool. A row's bits depend on the row and the weights
 * alone. */
attend_status attend_cpu_projection_create(const attend_tensor *weight, const attend_tensor *bias,
                                           int64_t rows, attend_pool *pool, size_t *bytes,
                                           attend_cpu_projection **projection);
/* x and y are [batch, seqlen, heads, dim] of any strides but the last, a row being its heads side by side.
   scratch: of attend_cpu_projection_scratch() bytes for each thread, at multiples of 64. So much work, to
   tell of. */
attend_status attend_cpu_project(const attend_cpu_projection *projection, const attend_tensor *x,
                                 const attend_tensor *y, char *scratch, double work,
                                 attend_progress_tracker *tracker);
size_t attend_cpu_projection_scratch(const attend_cpu_projection *projection);
void attend_cpu_projection_destroy(attend_cpu_projection *projection);

/* Norm and rotary embedding of Q and K, of one head dim and as many rows, in memory for so many floats. */
int64_t attend_cpu_rope_floats(const attend_pool *pool, int64_t head_dim);
void attend_cpu_rope(attend_pool *pool, const attend_rope *turn, const attend_row_positions *row_positions,
                     const attend_rope_tensor *sides, int count, float *memory);
/* x with absolute positions, in memory of the plan, in a layer that has them. */
attend_status attend_cpu_positions_create(attend_plan *plan);
void attend_cpu_positions_destroy(attend_cpu_plan *cpu);
attend_tensor attend_cpu_add_positions(const attend_plan *plan, const attend_layer_args *args);
void attend_cpu_layer_rope(const attend_plan *plan, const attend_layer_args *args,
                           const attend_attention_args *attention);
attend_status attend_cpu_rotary(attend_context *context, const attend_problem *problem,
                                const attend_rotary_args *args);

enum {
    ATTEND_CPU_FEATURES =
        ATTEND_FEATURES_INTERVAL | ATTEND_FEATURES_ELEMENT | ATTEND_FEATURES_HEAD | ATTEND_FEATURES_LAYER
};

/* Its rows of the kernel table, and what a plan made of them. */
bool attend_cpu_kernel_info(size_t index, attend_kernel_info *info);
void attend_cpu_explain(const attend_plan *plan, attend_explanation *explanation);
bool attend_cpu_kernel_choice(const attend_plan *plan, size_t index, attend_kernel_choice *choice);

attend_status attend_cpu_layer_create(attend_plan *plan);
attend_status attend_cpu_layer_forward(attend_plan *plan, const attend_layer_args *args);
void attend_cpu_layer_destroy(attend_cpu_plan *plan);

#endif
