/* The CPU backend's types: contexts, plans, and the functions of its files. */
#ifndef ATTEND_CPU_CPU_H
#define ATTEND_CPU_CPU_H

#include "core/backend.h"
#include "cpu/backward.h"
#include "cpu/elements.h"
#include "core/feature_set.h"
#include "cpu/kernel.h"
#include "core/pool.h"

#include <string.h>

typedef struct attend_cpu_context {
    attend_pool *pool;
    int threads; /* of the pool */
    const attend_cpu_kernel *kernel;
    bool forced;                      /* the kernel is set by ATTEND_CPU_ISA */
    attend_progress_tracker *tracker; /* the context's */
} attend_cpu_context;

typedef struct attend_cpu_projection attend_cpu_projection; /* projection.c */

typedef enum attend_cpu_schedule {
    ATTEND_CPU_WHOLE, /* a task covers all keys of its rows */
    ATTEND_CPU_SPLIT, /* a task covers one span of keys; partials are merged */
    ATTEND_CPU_DECODE /* the same for few rows (decoding); reads K and V in place */
} attend_cpu_schedule;

/* What running backwards needs besides; all NULL in a plan that does not. */
typedef struct attend_cpu_backward_memory {
    float *tiles;   /* of all rows, and with them dQ in fp32 */
    float *scratch; /* one part a thread */
    int64_t scratch_floats;
    attend_cpu_passed *passed; /* [batch][num_kv_heads][blocks of keys]; then sums, [group] each */
    double *sums, *head_sums;
} attend_cpu_backward_memory;

/* What a plan holds at once: so many pairs of batch entry and KV head, queries and keys. */
typedef struct attend_cpu_box {
    int64_t heads, queries, keys;
    bool is_part; /* not the whole problem */
} attend_cpu_box;

/* A layer's products. The last three are those of running backwards: from dout to the gradient of heads, and
   from those of Q, K and V, side by side, to those of x and of context. */
enum {
    ATTEND_CPU_Q,
    ATTEND_CPU_K,
    ATTEND_CPU_V,
    ATTEND_CPU_O,
    ATTEND_CPU_BACK_TO_HEADS,
    ATTEND_CPU_BACK_TO_X,
    ATTEND_CPU_BACK_TO_CONTEXT,
    ATTEND_CPU_PROJECTIONS
};

/* What a layer needs besides to run backwards. */
typedef struct attend_cpu_layer_memory {
    void *dheads; /* [tokens][num_heads·head_dim_v] in the problem's dtype */
    /* [tokens][Q, K and V]; of cross-attention [tokens][Q] and [tokens of context][K, V] */
    float *dy, *dy_kv;
    float *dx;         /* [tokens][hidden_size], then that of context */
    float *lse;        /* [batch][num_heads][seqlen_q] */
    void *y_q, *y_k;   /* with qk_norm, Q and K as they were projected */
    double *norm_sums; /* [parts of tokens][2][head_dim]: see rope_backward.c */
} attend_cpu_layer_memory;

typedef struct attend_cpu_plan {
    const attend_cpu_context *context;
    const attend_problem *problem;
    attend_cpu_blocking blocking;
    attend_cpu_schedule schedule;
    attend_cpu_box box;
    float *keys, *values;  /* tiled panels of the box; NULL in the decode schedule */
    float *partials;       /* NULL in the whole schedule */
    float *carried;        /* states of the box's rows: out, max, sum; NULL where all keys are in the box */
    float *scratch;        /* one part a thread */
    attend_head *per_head; /* [batch][num_heads], filled by each run */
    /* For elementwise features; all but relative_buckets are filled by each run. */
    attend_cpu_elements *elements; /* [batch][num_kv_heads] */
    int32_t *relative_buckets;
    float *relative; /* [num_heads][attend_cpu_relative_floats()] */
    attend_ids *ids; /* [batch][attend_cpu_id_blocks()] */
    bool *finite;    /* whether all values of a block are finite */
    attend_cpu_backward_memory backward;
    attend_terms terms;
    int64_t scratch_floats;
    /* Of a layer: tensors that the projections read and write; NULL: the caller's own tensor is used. */
    attend_cpu_projection *projections[ATTEND_CPU_PROJECTIONS];
    char *projection_scratch; /* scratch of the current projection, a part a thread */
    size_t projection_scratch_bytes;
    float *rope_scratch; /* attend_cpu_rope_floats(); NULL in cross-attention */
    void *q, *k, *v, *heads;
    void *x_with_positions; /* x with its absolute positions */
    double *sinusoids;      /* their frequencies; three rows a thread */
    float *position_rows;
    attend_cpu_layer_memory back;
} attend_cpu_plan;

/* Threads that the process may use, at least 1; and the limit of its cgroups for `processors` processors.
   membership is a file like /proc/self/cgroup; mount is the folder of the hierarchies (of version 1: folders
   named after their controllers). */
int attend_cpu_usable_threads(void);
int attend_cpu_limited_threads(const char *membership, const char *mount, int processors);

/* 64-byte aligned memory for `elements` of `bytes` each; NULL without memory. *total grows by its size even
   then; SIZE_MAX: not representable. */
void *attend_cpu_allocate(int64_t elements, size_t bytes, size_t *total);
/* Only counts them; false: not representable. */
bool attend_cpu_count_bytes(int64_t elements, size_t bytes, size_t *total);
/* a·b, or INT64_MAX, for which the allocation fails. */
static inline int64_t attend_cpu_times(int64_t a, int64_t b)
{
    int64_t product;
    return attend_multiply(a, b, &product) ? product : INT64_MAX;
}

/* Where element 0 of a view would lie of which memory has those from element `before` on. */
static inline void *attend_cpu_counted_from(void *memory, int64_t before, size_t bytes)
{
    return (void *)((uintptr_t)memory - (uintptr_t)before * bytes);
}

/* Query rows that share a KV head. */
int64_t attend_cpu_rows_of(const attend_problem *problem);
/* For one KV head and all batch entries: keys in tiled panels, each entry padded to whole blocks; and rows of
   partials. */
int64_t attend_cpu_keys_reserved(const attend_cpu_plan *plan);
int64_t attend_cpu_rows_reserved(const attend_problem *problem);

attend_cpu_blocking attend_cpu_blocking_for(const attend_cpu_kernel *kernel, const attend_problem *problem,
                                            int threads);
/* boxes.c */
/* What a plan needs of its box, in the order of keys, values, finite, partials, carried. */
typedef struct attend_cpu_reservation {
    int64_t elements;
    size_t bytes;
} attend_cpu_reservation;
enum { ATTEND_CPU_RESERVATIONS = 5 };
void attend_cpu_reservations(const attend_cpu_plan *plan,
                             attend_cpu_reservation all[ATTEND_CPU_RESERVATIONS]);
/* Sets box and schedule of a plan whose context, problem and blocking are set, the largest that fit in so
   many bytes. Returns what it found to be the least: above `room`, none fits. */
size_t attend_cpu_choose_box(attend_cpu_plan *plan, size_t room);
/* Keys and rows that one KV head takes in a box that is a part; and whether sums are carried from part to
   part of the keys. */
int64_t attend_cpu_slot_keys(const attend_cpu_plan *plan);
int64_t attend_cpu_slot_rows(const attend_cpu_plan *plan);
bool attend_cpu_carries(const attend_cpu_plan *plan);

/* The boxes of a run: begin with the plan, the run's part and zeros. */
typedef struct attend_cpu_boxes {
    const attend_cpu_plan *plan;
    const attend_key_part *part;
    attend_key_part at;        /* the box's */
    int64_t first_head, heads; /* pairs of batch entry and KV head */
    int64_t seen_end;
    bool begun;
} attend_cpu_boxes;
/* The next one, the first at first; false behind the last. per_head must be filled. */
bool attend_cpu_next_box(attend_cpu_boxes *boxes);
/* The caller's tensors, from the box's first query on. */
attend_attention_args attend_cpu_box_args(const attend_cpu_boxes *boxes, const attend_attention_args *args);

/* The schedule of a plan whose context, problem, blocking and box are set. */
attend_cpu_schedule attend_cpu_schedule_of(const attend_cpu_plan *plan);
/* K or V of one KV head. */
attend_cpu_key_rows attend_cpu_key_rows_of(const attend_tensor *tensor, int64_t kv_head);
/* The number of tasks of a box of `heads` pairs of batch entry and KV head over `spans` spans; in the decode
   schedule a task covers `heads_together` of them. */
int64_t attend_cpu_units(const attend_cpu_plan *plan, int64_t heads, int64_t spans, int64_t heads_together);
/* The lists must have passed attend_lists_check(). */
attend_status attend_cpu_attention(attend_cpu_plan *plan, const attend_attention_args *args,
                                   const attend_key_part *part);
/* False where memory lacks. */
bool attend_cpu_backward_reserve(attend_cpu_plan *plan, size_t *bytes);
void attend_cpu_backward_free(attend_cpu_plan *plan);
attend_status attend_cpu_backward(attend_plan *plan, const attend_attention_args *args,
                                  const attend_gradients *gradients, const attend_run *run);
attend_status attend_cpu_merge(attend_context *context, const attend_problem *problem,
                               const attend_merge_args *args, const attend_run *run);

/* Fills per_head, elements and their tables from a run's args. */
void attend_cpu_prepare_heads(attend_cpu_plan *plan, const attend_attention_args *args);

attend_status attend_cpu_inspect(attend_plan *plan, const attend_attention_args *args,
                                 const attend_key_part *part, const attend_inspect_request *request);

/* y = x·Wᵀ + b for x of `rows` rows, on the threads of a pool. W is `count` weights side by side, each with
   the same rows. A row's bits depend on the row and the weights alone. */
attend_status attend_cpu_projection_create(const attend_tensor *weights, int count, const attend_tensor *bias,
                                           int64_t rows, attend_pool *pool, size_t *bytes,
                                           attend_cpu_projection **projection);
/* x and y are [batch, seqlen, heads, dim]; a row is its heads, concatenated. Strides are free, but the last
   is 1. scratch: attend_cpu_projection_scratch() bytes a thread, at a multiple of 64. work: the projection's
   share, for progress. */
attend_status attend_cpu_project(const attend_cpu_projection *projection, const attend_tensor *x,
                                 const attend_tensor *y, char *scratch, double work,
                                 attend_progress_tracker *tracker);
size_t attend_cpu_projection_scratch(const attend_cpu_projection *projection);
void attend_cpu_projection_destroy(attend_cpu_projection *projection);
/* Columns [first, first + count) of row r of [batch, seqlen, heads, dim], whose heads are joined, from the
   tensor to floats or back. */
void attend_cpu_copy_columns(const attend_tensor *tensor, int64_t row, int64_t first, int64_t count,
                             float *floats, bool back);

/* dw += Σ dy·xᵀ and db += Σ dy over all rows of dy and x, as attend_cpu_project() takes them; or without the
   sums that were there. data NULL: not wanted. Bits do not depend on the threads. scratch: so many bytes a
   thread. */
typedef struct attend_cpu_weight_gradient {
    const attend_tensor *dy, *x;
    attend_tensor dw, db; /* f32 [out, in] and [out] */
    bool accumulate;
} attend_cpu_weight_gradient;
size_t attend_cpu_weight_gradient_scratch(void);
attend_status attend_cpu_sum_weight(attend_pool *pool, const attend_cpu_weight_gradient *gradient,
                                    char *scratch, size_t scratch_bytes, double work,
                                    attend_progress_tracker *tracker);

/* QK-norm and rotary embedding of tensors with the same head_dim and rows; with `append` (or NULL) into a
   cache. memory: attend_cpu_rope_floats() floats. */
int64_t attend_cpu_rope_floats(const attend_pool *pool, int64_t head_dim);
void attend_cpu_rope(attend_pool *pool, const attend_rope *rope, const attend_row_positions *row_positions,
                     const attend_rope_tensor *tensors, int count, const attend_append *append,
                     float *memory);
/* x plus absolute positions, in memory of the plan; for layers that have them. */
attend_status attend_cpu_positions_create(attend_plan *plan);
void attend_cpu_positions_destroy(attend_cpu_plan *cpu);
attend_tensor attend_cpu_add_positions(const attend_plan *plan, const attend_layer_args *args);
/* Q in place, and K in place too or, of a layer with a cache (appending; NULL: none), K and V to slots. */
void attend_cpu_layer_rope(const attend_plan *plan, const attend_row_positions *row_positions,
                           const attend_tensor *q, const attend_tensor *k, const attend_appending *appending);
attend_status attend_cpu_append(attend_context *context, const attend_problem *problem,
                                const attend_appending *appending, const attend_run *run);
attend_status attend_cpu_rotary(attend_context *context, const attend_problem *problem,
                                const attend_rotary_args *args);

enum {
    ATTEND_CPU_FEATURES =
        ATTEND_FEATURES_INTERVAL | ATTEND_FEATURES_ELEMENT | ATTEND_FEATURES_HEAD | ATTEND_FEATURES_LAYER
};

/* The CPU's rows of the kernel table, and the plan's entries of attend_explain. */
bool attend_cpu_kernel_info(size_t index, attend_kernel_info *info);
attend_status attend_cpu_explain(const attend_plan *plan, attend_explanation *explanation);
bool attend_cpu_kernel_choice(const attend_plan *plan, size_t index, attend_kernel_choice *choice);

attend_status attend_cpu_layer_create(attend_plan *plan);
attend_status attend_cpu_layer_forward(attend_plan *plan, const attend_layer_args *args);
attend_status attend_cpu_layer_reload(attend_plan *plan, const attend_run *run);
void attend_cpu_layer_destroy(attend_cpu_plan *plan);
/* The plan's own tensor, [batch, seqlen, heads, dim] in the problem's dtype. */
attend_tensor attend_cpu_layer_heads(const attend_problem *problem, void *data, int64_t seqlen, int64_t heads,
                                     int64_t dim);

attend_status attend_cpu_layer_backward_create(attend_plan *plan);
void attend_cpu_layer_backward_destroy(attend_cpu_plan *plan);
attend_status attend_cpu_layer_backward(attend_plan *plan, const attend_layer_args *args,
                                        const attend_layer_gradients *gradients, const attend_run *run);

/* From the gradients of Q or K as attention read them, in place, to those of y, as it was projected (data
   NULL without a norm); and those of the norm's weight and bias. dy is f32 [batch, rows, heads, head_dim]. */
typedef struct attend_cpu_rope_gradient {
    attend_tensor dy, y, weight;
    attend_tensor dweight, dbias; /* f32 [head_dim]; data NULL: not wanted */
    bool accumulate;
} attend_cpu_rope_gradient;
int64_t attend_cpu_rope_backward_sums(const attend_problem *problem);
/* memory: attend_cpu_rope_floats() floats; sums: so many doubles as the function above says. */
void attend_cpu_rope_backward(attend_pool *pool, const attend_rope *rope,
                              const attend_row_positions *row_positions,
                              const attend_cpu_rope_gradient *gradient, float *memory, double *sums);

#endif
