/* What the files of the CUDA backend share: its context, its plans, and how failures of CUDA become
   statuses. */
#ifndef ATTEND_GPU_GPU_H
#define ATTEND_GPU_GPU_H

#include "core/arguments.h"
#include "core/backend.h"
#include "gpu/blas.h"
#include "gpu/offload.h"
#include "core/pool.h"
#include "backward_kernels.h"
#include "layer_backward_kernels.h"
#include "position_kernels.h"

#include <cuda.h>

/* Beyond this many streams, a new stream takes the entry of one whose work is done. */
enum { ATTEND_GPU_STREAMS = 16 };

/* A stream that a run was enqueued on, and the event recorded behind its last work. Once that event is done,
   the entry may be reused for another stream. */
typedef struct attend_gpu_stream {
    struct attend_gpu_stream *next;
    cudaStream_t handle;
    cudaEvent_t done;
    uint64_t generation; /* how often the entry was reused */
} attend_gpu_stream;

/* The stream that used some memory last; NULL: none did. A newer generation of that entry means that the work
   is done. */
typedef struct attend_gpu_use {
    attend_gpu_stream *stream;
    uint64_t generation;
} attend_gpu_use;

typedef struct attend_gpu_context {
    int device, architecture;
    CUcontext primary; /* of the device */
    CUresult (*push)(CUcontext), (*pop)(CUcontext *);
    int64_t l2_bytes, shared_bytes; /* shared_bytes: the most shared memory of a block */
    int multiprocessors;
    double cycles_per_second, link_bytes_per_second; /* the link: 0 until it is measured */
    bool device_tensors_only, strict;
    const char *no_staging; /* why no tensor may lie on the host, in words that follow "but the"; or NULL */
    attend_pool *pool;      /* for copies of pageable memory; NULL: no plan needs them */
    attend_slots slots;     /* where kernels park running totals: cuda/spans.cuh */
    attend_progress_tracker *tracker; /* the context's */
    attend_gpu_stream own;            /* head of the list; the callers' streams follow */
    cudaStream_t stream;              /* of runs that name no stream */
    char no_blas[512];                /* why cuBLAS, which layers need, could not be loaded; "": it was */
    attend_blas cublas;
    cublasHandle_t blas;
    /* given to cuBLAS, which then allocates nothing, so that its calls can be captured in graphs */
    void *blas_workspace;
    attend_gpu_use blas_last; /* last use of blas_workspace */
    size_t blas_workspace_bytes;
} attend_gpu_context;

/* The backend's functions on contexts. */
attend_status attend_gpu_context_create(const attend_context_options *options, attend_context *context);
void attend_gpu_context_destroy(attend_context *context);
attend_status attend_gpu_synchronize(attend_context *context);

/* ---- failures ---- */

/* OK, or the status for this error, with a message that names the call and the error. */
attend_status attend_gpu_check(cudaError_t error, const char *call);
attend_status attend_gpu_check_blas(const attend_gpu_context *gpu, cublasStatus_t status, const char *call);

/* ---- the device around every call: device.c ---- */

/* Makes the device's primary context, which stays until the process ends, as with the CUDA runtime. */
attend_status attend_gpu_open_primary(attend_gpu_context *gpu);
/* Until attend_gpu_leave(), CUDA calls of this thread go to the context's device. */
attend_status attend_gpu_enter(const attend_gpu_context *gpu);
void attend_gpu_leave(const attend_gpu_context *gpu);

/* ---- order ---- */

/* Call before work is enqueued on a stream. The stream waits for earlier work on the same memory, given by
   `last` (NULL: no shared memory), and both entries of `last` then name this stream. Pass *on to
   attend_gpu_end_work(). During a capture there is no wait, and *on is NULL. */
attend_status attend_gpu_begin_work(attend_gpu_context *gpu, cudaStream_t stream,
                                    attend_gpu_use *const last[2], attend_gpu_stream **on);
attend_status attend_gpu_end_work(const attend_gpu_stream *on, attend_status status);
/* The host waits for all work on all streams. Returns the first failure. */
attend_status attend_gpu_wait_for_all(const attend_gpu_context *gpu);
void attend_gpu_forget_streams(attend_gpu_context *gpu);

/* ---- memory of a plan: sizes first, then one allocation ---- */

enum { ATTEND_GPU_SLOTS = 96 };

typedef struct attend_gpu_arena {
    size_t bytes;
    bool overflow;
    int count;
    void **slots[ATTEND_GPU_SLOTS]; /* the pointers to set */
    size_t offsets[ATTEND_GPU_SLOTS];
} attend_gpu_arena;

/* The memory of a plan. constants: written when the plan is made; run: written by runs; staging: device
   copies of host tensors. */
typedef struct attend_gpu_arenas {
    attend_gpu_arena constants, run, staging;
} attend_gpu_arenas;

/* Reserves `elements` of `bytes` each; attend_gpu_arena_allocate() writes the address to *slot. */
void attend_gpu_reserve(attend_gpu_arena *arena, void **slot, int64_t elements, size_t bytes);
/* Reserves a contiguous tensor whose rows are padded to 16 bytes; sets its shape and strides. */
void attend_gpu_reserve_tensor(attend_gpu_arena *arena, attend_tensor *tensor, attend_dtype dtype, int rank,
                               const int64_t *shape);
/* The length of a row, rounded up to a multiple of 16 bytes, in elements. */
int64_t attend_gpu_whole_rows(int64_t elements, size_t bytes);
/* Sets *slot to `bytes` past the address in *other, within the room reserved for *other. */
void attend_gpu_reserve_within(attend_gpu_arena *arena, void **slot, void *const *other, int64_t bytes);
attend_status attend_gpu_arena_check(const attend_gpu_arena *arena);
attend_status attend_gpu_arena_allocate(attend_gpu_arena *arena, void **memory);
/* The slots are fields of `owner`. Sets the same fields of `copy` to their addresses in `memory`. */
void attend_gpu_arena_rebase(const attend_gpu_arena *arena, void *memory, const void *owner, void *copy);

/* ---- tensors on the host or on the device ---- */

/* Whether memory is on the host. Fails for memory of another CUDA device. */
attend_status attend_gpu_is_on_host(const attend_gpu_context *gpu, const char *name, const void *data,
                                    bool *on_host);

/* Copies all elements between two views of one shape, in stream order; never touches the padding between
   rows. */
attend_status attend_gpu_copy(const attend_gpu_context *gpu, const attend_tensor *to,
                              const attend_tensor *from, enum cudaMemcpyKind kind);

/* *use is the tensor that kernels read or write: the caller's own if it is on the device, else `staging`, to
   which inputs are copied. */
/* Fails: a tensor lies on the host, but the plan does not announce this. */
attend_status attend_gpu_refuse_host(const attend_gpu_context *gpu, const char *name,
                                     attend_host_tensors unannounced);
attend_status attend_gpu_take_input(const attend_gpu_context *gpu, const char *name,
                                    const attend_tensor *given, const attend_tensor *staging,
                                    attend_tensor *use);
attend_status attend_gpu_take_output(const attend_gpu_context *gpu, const char *name,
                                     const attend_tensor *given, const attend_tensor *staging,
                                     attend_tensor *use);
/* Copies a result to the caller's tensor if it was computed in staging. */
attend_status attend_gpu_give_output(const attend_gpu_context *gpu, const attend_tensor *given,
                                     const attend_tensor *used);

/* ---- feature tensors: host/core/arguments.h ---- */

/* Device copies of lists and feature tensors that a run may give on the host, and tables made with the
   plan. */
typedef struct attend_gpu_features {
    int64_t *lists[ATTEND_FEATURE_LISTS];
    attend_tensor tensors[ATTEND_FEATURE_TENSORS];
    int32_t *relative_buckets;
    attend_ids *key_ids;
} attend_gpu_features;

void attend_gpu_reserve_features(attend_plan *plan, attend_gpu_arenas *arenas);
attend_status attend_gpu_create_features(attend_plan *plan);
/* Lists and feature tensors as the kernels read them: the caller's own on the device, else copies. */
attend_status attend_gpu_take_features(const attend_plan *plan, attend_feature_args *use);
/* Fills `terms`, the kernels' view of features, and enqueues the kernels that compute tables of this run. */
attend_status attend_gpu_make_terms(const attend_plan *plan, const attend_feature_args *on_device,
                                    attend_terms *terms);

/* ---- kernels ---- */

/* The first row of the table that fits, or the one called `forced`. aligned: all rows of q, k and v are at
   multiples of 16 bytes. */
attend_status attend_gpu_select_kernel(const attend_gpu_context *gpu, const attend_problem *problem,
                                       bool aligned, const char *forced, const attend_kernel_row **row);
/* Whether and why the row at `index` runs a plan; false past the last row. */
bool attend_gpu_kernel_choice(const attend_plan *plan, size_t index, attend_kernel_choice *choice);
/* How many blocks of a row fit on a multiprocessor at once if each takes more_shared_bytes beyond the row's
   own shared memory; 0: unknown. */
int attend_gpu_blocks_at_once(const attend_gpu_context *gpu, const attend_kernel_row *row,
                              int64_t more_shared_bytes);
attend_status attend_gpu_explain(const attend_plan *plan, attend_explanation *explanation);
const attend_kernel_row *attend_gpu_kernel_row(size_t index); /* NULL past the last row */
int attend_gpu_least_architecture(void);                      /* of all rows, as 80 */
bool attend_gpu_kernel_resources(size_t index, size_t build, attend_kernel_resources *resources);
bool attend_gpu_device_code(size_t index, const char **family, int64_t *bytes);

/* The same for plans that run backwards. */
attend_status attend_gpu_select_backward(const attend_gpu_context *gpu, const attend_problem *problem,
                                         bool aligned, const attend_backward_row **row);
const attend_backward_row *attend_gpu_backward_row(size_t index); /* NULL past the last row */
/* Rows forward, then backward; NULL past the last. */
const attend_kernel_info *attend_gpu_kernel_info(size_t index);
/* The name of the first tensor whose rows are not at multiples of 16 bytes; NULL: none. dout: NULL, or looked
   at too. */
const char *attend_gpu_odd_rows(const attend_attention_args *args, const attend_tensor *dout);
/* The error of a strict context where `odd` is not NULL. */
attend_status attend_gpu_refuse_odd(const char *odd, const attend_kernel_info *row,
                                    const attend_kernel_info *fallback);

/* ---- progress ---- */

/* Waits for the stream, then reports `units` of the stage as done; without a progress callback does
   nothing. */
attend_status attend_gpu_report_progress(const attend_gpu_context *gpu, int64_t units);
/* Calls launch(job, first, count) for slices of all `blocks`, units of the stage, and reports after each;
   without a progress callback, calls it once for all. */
typedef attend_status attend_gpu_launch(void *job, int64_t first, int64_t count);
attend_status attend_gpu_launch_slices(const attend_gpu_context *gpu, int64_t blocks,
                                       attend_gpu_launch *launch, void *job);

/* ---- plans ---- */

/* Y = X·Wᵀ + b for consecutive heads of Q, K or V, or for the whole output. */
typedef struct attend_gpu_projection {
    cublasOperation_t operation; /* on W as cuBLAS reads it, column-major */
    int64_t ld;
    void *weight, *bias;          /* device memory; bias NULL: none */
    int64_t heads, dim, in, step; /* step: elements between heads of W */
} attend_gpu_projection;

enum { ATTEND_GPU_Q, ATTEND_GPU_K, ATTEND_GPU_V, ATTEND_GPU_O, ATTEND_GPU_PROJECTIONS };

/* A layer that is run in blocks of rows: layer_rows.c. */
typedef struct attend_gpu_rows {
    int64_t batch, count;             /* of a block: entries, and rows of each; 0: the layer is run whole */
    bool spills;                      /* Q, K, V and the heads' output do not fit the device */
    attend_gpu_arena project, output; /* a slot's fields of the plan, of either kind of block */
    const void *owner;                /* the plan with these fields */
    void *buffers;                    /* by turns two slots, those of attention, two slots */
    void *memory;                     /* page-locked, of what spills */
    attend_tensor q, k, v, heads;     /* in it */
} attend_gpu_rows;

/* What running a layer backwards needs besides. */
typedef struct attend_gpu_layer_backward {
    attend_tensor dheads, dq, dk, dv; /* gradients of what Q, K, V and the heads' output store */
    attend_tensor y_q, y_k;           /* with qk_norm, Q and K as they were projected */
    attend_tensor lse;
    void *kept;       /* x or context, without the rows that bring no gradient */
    float *dx, *sums; /* of x or context; of parts of the rows */
    /* staging; of weights room for either orientation */
    attend_tensor dout, dlse, to_x, to_context, weights[ATTEND_LAYER_WEIGHTS];
} attend_gpu_layer_backward;

typedef struct attend_gpu_layer {
    attend_gpu_projection projections[ATTEND_GPU_PROJECTIONS];
    int group_end[ATTEND_GPU_O]; /* projections j up to, without, group_end[j] are one product */
    /* for a projection without a bias in a product where another has one */
    void *zeros;
    attend_tensor x, context, out; /* staging */
    int64_t *cached;               /* room for a cache's seqlens; NULL in cross-attention */
    /* device copies of host weights and biases */
    attend_tensor weights[4], biases[4];
    bool follows[4]; /* the copy of this weight follows the previous one: rows of one matrix */
    bool aligned;    /* every line of all weights is at a multiple of 16 bytes */
    attend_gpu_rows rows;
    attend_gpu_layer_backward back;
} attend_gpu_layer;

/* What running backwards needs besides; rows NULL in a plan that does not. */
typedef struct attend_gpu_backward {
    const attend_backward_row *row, *row_any;
    attend_backward_sums sums;
    attend_tensor q, k, v, out, lse, dout, dlse, of[ATTEND_GRADIENTS]; /* staging */
} attend_gpu_backward;

typedef struct attend_gpu_plan {
    attend_gpu_context *gpu;
    const attend_kernel_row *row, *row_any; /* row_any: for tensors that are not aligned */
    bool forced;                            /* row was chosen by ATTEND_KERNEL */
    void *constants, *workspace, *staging;
    attend_gpu_arena run_memory; /* layout of `workspace` */
    int list_slots;              /* its leading slots: lists, the part that an inspection writes */
    size_t list_bytes;
    attend_gpu_use last;  /* of `workspace`; unused with caller_workspace */
    void *blas_workspace; /* the context's, or part of the caller's workspace */
    float *partials;      /* states of the splits of rows of queries whose spans are divided */
    /* attention: staging; layer: the projected Q, K, V and the output of all heads */
    attend_tensor q, k, v, out, lse;
    attend_gpu_features features;
    attend_gpu_offload offload;
    attend_gpu_backward backward;
    attend_rope rope; /* layer: rotary embedding and QK-norm */
    attend_tensor norms[4];
    attend_tensor x_with_positions,
        table;         /* layer with absolute positions: x plus them, and the learned table */
    double *sinusoids; /* frequencies of sinusoidal positions */
    attend_gpu_layer layer;
} attend_gpu_plan;

/* Copies of context and plan for one run, with the run's stream and workspace. */
typedef struct attend_gpu_run {
    attend_gpu_context gpu;
    attend_gpu_plan own;
    attend_plan plan;
    attend_gpu_stream *on;
} attend_gpu_run;

/* Enqueue the work of a run through run->plan between begin and end; end is called after a failure too.
   `brought` is the caller's stream and workspace. inspects: cuBLAS is not used, and brought->workspace holds
   list_bytes only. */
attend_status attend_gpu_run_begin(attend_plan *plan, const attend_run *brought, bool inspects,
                                   attend_gpu_run *run);
attend_status attend_gpu_run_end(const attend_gpu_run *run, attend_status status);

/* One launch about a box of the problem, on device tensors that begin at its first elements; lists and terms
   are whole. from, into: data NULL where there is none. */
attend_kernel_box attend_gpu_box_of(const attend_problem *problem, const attend_key_part *part);
attend_status attend_gpu_launch_box(const attend_plan *plan, const attend_kernel_box *box,
                                    const attend_key_layout *keys, const attend_attention_args *args,
                                    const attend_state *from, const attend_state *into,
                                    const attend_terms *terms);
/* Fails where the launch would: no kernel reads what is given. */
attend_status attend_gpu_check_row(const attend_plan *plan, const attend_attention_args *args);
/* Attention on tensors and lists that are all on the device. */
attend_status attend_gpu_attention(const attend_plan *plan, const attend_attention_args *on_device,
                                   const attend_key_part *part);
attend_status attend_gpu_attention_forward(attend_plan *plan, const attend_attention_args *args,
                                           const attend_key_part *part);

/* ---- keys in pages: pages.c ---- */

/* The keys of a run, with the table on the device; `memory` is its copy, if it lay on the host. */
typedef struct attend_gpu_pages {
    attend_key_part part;
    void *memory;
} attend_gpu_pages;
/* Fails where a pool, or a cache that is appended to, lies on the host. */
attend_status attend_gpu_check_pool(const attend_gpu_context *gpu, const char *name,
                                    const attend_tensor *pool);
/* A table on the host is checked where the lengths are on the host too, and copied for this run alone.
   Release waits for the run then; it is called after a failure too, and returns `status` or its own. */
attend_status attend_gpu_take_pages(const attend_plan *plan, const attend_attention_args *args,
                                    const attend_key_part *part, attend_gpu_pages *pages);
attend_status attend_gpu_release_pages(const attend_plan *plan, const attend_gpu_pages *pages,
                                       attend_status status);

/* ---- gradients: backward.c ---- */

void attend_gpu_reserve_backward(attend_plan *plan, attend_gpu_arenas *arenas);
attend_status attend_gpu_attention_backward(attend_plan *plan, const attend_attention_args *args,
                                            const attend_gradients *gradients, const attend_run *run);

/* The same on tensors, lists and features that are all on the device. */
attend_status attend_gpu_gradients(const attend_plan *plan, const attend_attention_args *on_device,
                                   const attend_gradients *gradients);

/* A layer's: layer_backward.c. */
void attend_gpu_reserve_layer_backward(attend_plan *plan, attend_gpu_arenas *arenas);
attend_status attend_gpu_layer_backward_run(attend_plan *plan, const attend_layer_args *args,
                                            const attend_layer_gradients *gradients, const attend_run *run);

/* ---- carried states: merge.c ---- */

void attend_gpu_reserve_state(attend_gpu_arena *arena, const attend_problem *problem, attend_state *state);
/* attend_gpu_take_input() or attend_gpu_take_output() for the three tensors of a state. */
attend_status attend_gpu_take_state(const attend_gpu_context *gpu, const char *name,
                                    const attend_state *given, const attend_state *staging, bool is_output,
                                    attend_state *use);
attend_status attend_gpu_give_state(const attend_gpu_context *gpu, const attend_state *given,
                                    const attend_state *used);
attend_state_view attend_gpu_state_view(const attend_state *state);
attend_status attend_gpu_merge(attend_context *context, const attend_problem *problem,
                               const attend_merge_args *args, const attend_run *run);

/* ---- tensors on the host: offload.h, buffers.c, staging.c, pipeline.c ---- */

/* Which tensors may lie on the host, and the budget. */
attend_status attend_gpu_plan_offload(attend_plan *plan);
/* What a plan needs however its runs are cut; and that with the buffers of attention, within the budget. */
void attend_gpu_reserve_fixed(attend_plan *plan, attend_gpu_arenas *arenas);
attend_status attend_gpu_reserve_offload(attend_plan *plan, attend_gpu_arenas *arenas);
attend_status attend_gpu_create_offload(attend_plan *plan);
/* Once a context, behind the plan's work in flight, where pieces of pinned memory are large: the time of a
   small copy says little of the link. */
attend_status attend_gpu_measure_link(attend_gpu_plan *own);
void attend_gpu_free_offload(attend_gpu_offload *offload);
/* Fails where the plan's limit is less than it needs. */
attend_status attend_gpu_check_limit(const attend_plan *plan, size_t least);
/* A run of attention with tensors anywhere. on_device: features that the caller has taken; NULL: none.
   boxes: what of the problem is run; NULL: the part. */
attend_status attend_gpu_offload_run(const attend_plan *plan, const attend_attention_args *args,
                                     const attend_key_part *part, const attend_feature_args *on_device,
                                     const attend_kernel_box *boxes, int count);
/* A run, on the context's own stream, of boxes of the problem alone: group.c. */
attend_status attend_gpu_attention_boxes(attend_plan *plan, const attend_attention_args *args,
                                         const attend_key_part *part, const attend_kernel_box *boxes,
                                         int count);
/* The stream waits for an event, or records it. */
attend_status attend_gpu_wait(const attend_gpu_context *on, cudaEvent_t event);
attend_status attend_gpu_record(const attend_gpu_context *on, cudaEvent_t event);
/* After a failure: nothing of the run is in flight any more. */
void attend_gpu_stop(const attend_gpu_context *in, const attend_gpu_context *gpu,
                     const attend_gpu_context *out);

attend_status attend_gpu_place_of(const attend_gpu_context *gpu, const char *name,
                                  const attend_tensor *tensor, attend_gpu_place *place);
/* Copies a view of the host's, which lies at `place`, to a compact tensor on the device, and back: in order
   of gpu->stream. The host's pageable memory is read and written when the call returns. */
attend_status attend_gpu_bring(const attend_gpu_context *gpu, attend_gpu_pinned *pinned,
                               attend_gpu_place place, const attend_tensor *to, const attend_tensor *from);
attend_status attend_gpu_give(const attend_gpu_context *gpu, attend_gpu_pinned *pinned,
                              attend_gpu_place place, const attend_tensor *to, const attend_tensor *from);

attend_status attend_gpu_inspect(attend_plan *plan, const attend_attention_args *args,
                                 const attend_key_part *part, const attend_inspect_request *request);

/* reserve sets the arenas of a layer's plan; create, after their allocation, uploads weights and sets
   pointers. */
attend_status attend_gpu_layer_reserve(attend_plan *plan, attend_gpu_arenas *arenas);
/* Q, K and V of so many rows, and the output of all heads. */
void attend_gpu_reserve_heads(attend_plan *plan, attend_gpu_arena *arena, int64_t batch, int64_t rows_q,
                              int64_t rows_k);
void attend_gpu_reserve_heads_out(attend_plan *plan, attend_gpu_arena *arena, int64_t batch, int64_t rows_q);
/* Weights, and what else is the same for every run. */
attend_status attend_gpu_reserve_constants(attend_plan *plan, attend_gpu_arenas *arenas);
/* In blocks of rows where the budget is less than `whole`, with the arenas that this needs; else rows->count
   is 0, and the arenas are of no use. Fails where no way of running the layer fits:
   layer_rows.c. */
attend_status attend_gpu_reserve_rows(attend_plan *plan, size_t whole, attend_gpu_arenas *arenas);
size_t attend_gpu_rows_piece(const attend_gpu_rows *rows); /* the largest copy of a block */
attend_status attend_gpu_create_rows(attend_plan *plan);
void attend_gpu_free_rows(attend_gpu_rows *rows);
attend_status attend_gpu_layer_run_rows(const attend_plan *plan, const attend_layer_args *args);
attend_status attend_gpu_layer_create(attend_plan *plan);
attend_status attend_gpu_layer_reload(attend_plan *plan, const attend_run *run);
/* *use has the rows of [batch, seqlen, width] that cuBLAS needs, which do not overlap: the given ones, or
   those of staging, to which they are copied. */
attend_status attend_gpu_take_rows(const attend_gpu_context *gpu, const char *name,
                                   const attend_tensor *given, const attend_tensor *staging,
                                   attend_tensor *use);
/* The distance of rows, or of batch entries if each has one row, at least `width`, as cuBLAS wants it. */
int64_t attend_gpu_row_stride(const attend_tensor *tensor, int64_t width);
/* A column-major matrix as its transpose, so that the contiguous axis is the last; others as they are. */
attend_tensor attend_gpu_long_lines(const attend_tensor *tensor);
attend_status attend_gpu_layer_forward(attend_plan *plan, const attend_layer_args *args);

/* Rotary embedding and QK-norm of a layer; attend_gpu_rope() does nothing if the problem has neither. k may
   be NULL. */
attend_status attend_gpu_reserve_rope(attend_plan *plan, attend_gpu_arenas *arenas);
attend_status attend_gpu_upload_norms(const attend_plan *plan);
attend_status attend_gpu_rope(const attend_plan *plan, const attend_row_positions *on_device,
                              const attend_tensor *q, const attend_tensor *k);
/* The same on Q and K of the caller's: attend_rotary_apply(). */
attend_status attend_gpu_rotary(attend_context *context, const attend_problem *problem,
                                const attend_rotary_args *args);

/* One launch, all of it on the device; and attend_cache_append(). */
attend_status attend_gpu_append_heads(const attend_gpu_context *gpu, const attend_rope *rope,
                                      const attend_appending *on_device);
attend_status attend_gpu_append(attend_context *context, const attend_problem *problem,
                                const attend_appending *appending, const attend_run *run);

/* Absolute positions of a layer: *x becomes x_with_positions, room for so many rows. Without such positions
   *x stays. */
attend_status attend_gpu_reserve_positions(attend_plan *plan, attend_gpu_arena *constants);
void attend_gpu_reserve_x(attend_plan *plan, attend_gpu_arena *arena, int64_t batch, int64_t rows);
attend_status attend_gpu_upload_table(const attend_plan *plan);
attend_status attend_gpu_create_positions(attend_plan *plan);
/* Of the caller's features, those that the host can read. */
attend_status attend_gpu_check_positions(const attend_plan *plan, const attend_layer_args *args);
attend_status attend_gpu_add_positions(const attend_plan *plan, const attend_row_positions *on_device,
                                       attend_tensor *x);

/* The projections of a layer; all tensors are on the device: Q, K and V, of which y has those that are
   wanted, from x and context, and the output. */
attend_status attend_gpu_project_heads(const attend_plan *plan, const attend_tensor *x,
                                       const attend_tensor *context, const attend_tensor *const y[3]);
attend_status attend_gpu_project_output(const attend_plan *plan, const attend_tensor *heads,
                                        const attend_tensor *out);

#endif
