/* What the files of the CUDA backend share: its context, its plans, and how failures of CUDA become statuses.
   */
#ifndef ATTEND_GPU_GPU_H
#define ATTEND_GPU_GPU_H

#include "core/arguments.h"
#include "core/backend.h"
#include "gpu/blas.h"
#include "position_kernels.h"

#include <cuda.h>

/* So many streams are known before those whose work is done are exchanged for new ones. */
enum { ATTEND_GPU_STREAMS = 16 };

/* A stream that a context was given work on, and the event recorded behind all of it. Once that is done it
   may stand for another stream. */
typedef struct attend_gpu_stream {
    struct attend_gpu_stream *next;
    cudaStream_t handle;
    cudaEvent_t done;
    uint64_t generation; /* of how many streams it stood before */
} attend_gpu_stream;

/* The stream where memory was used last; NULL: nowhere. If it stands for another one since, that work is done.
 */
typedef struct attend_gpu_use {
    attend_gpu_stream *stream;
    uint64_t generation;
} attend_gpu_use;

typedef struct attend_gpu_context {
    int device, architecture;
    CUcontext primary; /* of the device */
    CUresult (*push)(CUcontext), (*pop)(CUcontext *);
    int64_t l2_bytes, shared_bytes; /* shared memory that a block may ask for */
    int multiprocessors;
    bool device_tensors_only, strict;
    attend_slots slots;               /* for the totals of all runs: cuda/spans.cuh */
    attend_progress_tracker *tracker; /* the context's */
    attend_gpu_stream own;            /* always there; the callers' streams follow it */
    cudaStream_t stream;              /* of runs that name none */
    char no_blas[512];                /* why there is no cuBLAS, which layers need; "": there is */
    attend_blas cublas;
    cublasHandle_t blas;
    /* cuBLAS allocates nothing itself, so its calls can be captured in graphs */
    void *blas_workspace;
    attend_gpu_use blas_last; /* of that workspace */
    size_t blas_workspace_bytes;
} attend_gpu_context;

/* The backend's functions on contexts. */
attend_status attend_gpu_context_create(const attend_context_options *options, attend_context *context);
void attend_gpu_context_destroy(attend_context *context);
attend_status attend_gpu_synchronize(attend_context *context);

/* ---- failures ---- */

/* OK, or the status for this error with a sentence that has the call and CUDA's name of the error. */
attend_status attend_gpu_check(cudaError_t error, const char *call);
attend_status attend_gpu_check_blas(const attend_gpu_context *gpu, cublasStatus_t status, const char *call);

/* ---- the device around every call: device.c ---- */

/* Makes the device's primary context, which stays for the process as one of the runtime's own would. */
attend_status attend_gpu_open_primary(attend_gpu_context *gpu);
/* Until attend_gpu_leave() CUDA's calls of this thread go to the context's device. */
attend_status attend_gpu_enter(const attend_gpu_context *gpu);
void attend_gpu_leave(const attend_gpu_context *gpu);

/* ---- order ---- */

/* Before work is enqueued on a stream: it waits for the work that used the same memory, each `last` (NULL:
 * shares nothing), and these become *on, which goes to attend_gpu_end_work(). In a capture nothing is waited
 * for, and *on is NULL. */
attend_status attend_gpu_begin_work(attend_gpu_context *gpu, cudaStream_t stream,
                                    attend_gpu_use *const last[2], attend_gpu_stream **on);
attend_status attend_gpu_end_work(const attend_gpu_stream *on, attend_status status);
/* The host waits for all work on all streams; the first failure on the way. */
attend_status attend_gpu_wait_for_all(const attend_gpu_context *gpu);
void attend_gpu_forget_streams(attend_gpu_context *gpu);

/* ---- memory of a plan: sizes first, then one allocation ---- */

enum { ATTEND_GPU_SLOTS = 48 };

typedef struct attend_gpu_arena {
    size_t bytes;
    bool overflow;
    int count;
    void **slots[ATTEND_GPU_SLOTS]; /* where each address goes */
    size_t offsets[ATTEND_GPU_SLOTS];
} attend_gpu_arena;

/* What a plan holds: constants, written while it is made; what a run writes; copies of what lies on the host.
   */
typedef struct attend_gpu_arenas {
    attend_gpu_arena constants, run, staging;
} attend_gpu_arenas;

/* Room for `elements` of `bytes` each; *slot gets its address from attend_gpu_arena_allocate(). */
void attend_gpu_reserve(attend_gpu_arena *arena, void **slot, int64_t elements, size_t bytes);
/* The same for a tensor without gaps but those that align its rows to 16 bytes; sets its shape and strides.
   */
void attend_gpu_reserve_tensor(attend_gpu_arena *arena, attend_tensor *tensor, attend_dtype dtype, int rank,
                               const int64_t *shape);
/* So many elements and those up to the next multiple of 16 bytes, where the next row begins. */
int64_t attend_gpu_whole_rows(int64_t elements, size_t bytes);
/* A slot within another one's room, so many bytes behind its begin. */
void attend_gpu_reserve_within(attend_gpu_arena *arena, void **slot, void *const *other, int64_t bytes);
attend_status attend_gpu_arena_check(const attend_gpu_arena *arena);
attend_status attend_gpu_arena_allocate(attend_gpu_arena *arena, void **memory);
/* Sets the slots, which lie in `owner`, in a copy of it: to their places in another memory. */
void attend_gpu_arena_rebase(const attend_gpu_arena *arena, void *memory, const void *owner, void *copy);

/* ---- tensors wherever they lie ---- */

/* Whether memory is on the host. Fails for memory of another device. */
attend_status attend_gpu_is_on_host(const attend_gpu_context *gpu, const char *name, const void *data,
                                    bool *on_host);

/* Copies all elements between two views of one shape, in stream order; never touches what lies between rows.
   */
attend_status attend_gpu_copy(const attend_gpu_context *gpu, const attend_tensor *to,
                              const attend_tensor *from, enum cudaMemcpyKind kind);

/* The tensor to compute on in place of the caller's: itself on the device, else `staging`, filled for inputs.
   */
attend_status attend_gpu_take_input(const attend_gpu_context *gpu, const char *name,
                                    const attend_tensor *given, const attend_tensor *staging,
                                    attend_tensor *use);
attend_status attend_gpu_take_output(const attend_gpu_context *gpu, const char *name,
                                     const attend_tensor *given, const attend_tensor *staging,
                                     attend_tensor *use);
/* Brings a result to the caller if it was computed elsewhere. */
attend_status attend_gpu_give_output(const attend_gpu_context *gpu, const attend_tensor *given,
                                     const attend_tensor *used);

/* ---- what features bring: host/core/arguments.h ---- */

/* Room on the device for lists and tensors that a run may give on the host, and tables made with the plan. */
typedef struct attend_gpu_features {
    int64_t *seqlens_q, *seqlens_k, *starts_k, *cu_seqlens_q, *cu_seqlens_k;
    attend_tensor tensors[ATTEND_FEATURE_TENSORS];
    int32_t *relative_buckets;
    attend_ids *key_ids;
} attend_gpu_features;

void attend_gpu_reserve_features(attend_plan *plan, attend_gpu_arenas *arenas);
attend_status attend_gpu_create_features(attend_plan *plan);
/* Lists and side tensors as the kernels read them: the caller's on the device, or copies of the host's. */
attend_status attend_gpu_take_features(const attend_plan *plan, attend_attention_args *use);
/* What kernels need of them, with the plan's tables; enqueues what makes those that depend on the run. */
attend_status attend_gpu_make_terms(const attend_plan *plan, const attend_attention_args *on_device,
                                    attend_terms *terms);

/* ---- kernels ---- */

/* The first row that fits, or the one called `forced`; aligned: q, k and v have rows at multiples of 16
   bytes. */
attend_status attend_gpu_select_kernel(const attend_gpu_context *gpu, const attend_problem *problem,
                                       bool aligned, const char *forced, const attend_kernel_row **row);
/* Why a row runs a plan, or not; false past the last. */
bool attend_gpu_kernel_choice(const attend_plan *plan, size_t index, attend_kernel_choice *choice);
/* Blocks of a row that a multiprocessor of the device holds at once, each with so much more shared memory; 0:
   unknown. */
int attend_gpu_blocks_at_once(const attend_gpu_context *gpu, const attend_kernel_row *row,
                              int64_t more_shared_bytes);
void attend_gpu_explain(const attend_plan *plan, attend_explanation *explanation);
const attend_kernel_row *attend_gpu_kernel_row(size_t index); /* NULL past the last */
bool attend_gpu_kernel_resources(size_t index, size_t build, attend_kernel_resources *resources);
bool attend_gpu_device_code(size_t index, const char **family, int64_t *bytes);

/* ---- telling how far a run is ---- */

/* Waits for the stream, then tells that so many units of the stage are done; where nobody looks, nothing. */
attend_status attend_gpu_report_progress(const attend_gpu_context *gpu, int64_t units);
/* Calls launch(job, first, count) for slices of `blocks` blocks and tells after each; where nobody looks,
   once for all of them. */
typedef attend_status attend_gpu_launch(void *job, int64_t first, int64_t count);
attend_status attend_gpu_launch_slices(const attend_gpu_context *gpu, int64_t blocks,
                                       attend_gpu_launch *launch, void *job);

/* ---- plans ---- */

/* Y = X·Wᵀ + b for consecutive heads of Q, K or V, or for the whole output. */
typedef struct attend_gpu_projection {
    cublasOperation_t operation; /* on W as cuBLAS sees it, by columns */
    int64_t ld;
    void *weight, *bias;          /* on the device; bias NULL: none */
    int64_t heads, dim, in, step; /* step: elements of W from one head to the next */
} attend_gpu_projection;

enum { ATTEND_GPU_Q, ATTEND_GPU_K, ATTEND_GPU_V, ATTEND_GPU_O, ATTEND_GPU_PROJECTIONS };

typedef struct attend_gpu_layer {
    attend_gpu_projection projections[ATTEND_GPU_PROJECTIONS];
    int group_end[ATTEND_GPU_O]; /* projections [j, group_end[j]) are one product */
    /* the bias of a projection without one, in a call with biases */
    void *zeros;
    attend_tensor x, context, out; /* staging */
    /* device copies of those that the caller keeps on the host */
    attend_tensor weights[4], biases[4];
    bool follows[4]; /* the copy of a weight continues the one before: rows of one matrix */
    bool aligned;    /* every line of the weights is at a multiple of 16 bytes */
} attend_gpu_layer;

typedef struct attend_gpu_plan {
    attend_gpu_context *gpu;
    const attend_kernel_row *row, *row_any; /* for aligned tensors, for others */
    bool forced;                            /* row is what ATTEND_KERNEL says */
    void *constants, *workspace, *staging;
    attend_gpu_arena run_memory; /* what the workspace holds: all that a run writes, but for staging */
    int list_slots;              /* the first of them: room for lists, all that an inspection writes there */
    size_t list_bytes;
    attend_gpu_use last;  /* of the workspace, unless the caller brings it */
    void *blas_workspace; /* the context's, or within a workspace that the caller brings */
    float *partials;      /* of rows whose spans are split */
    /* of attention: staging; of a layer: the projected Q, K, V and the heads' output */
    attend_tensor q, k, v, out, lse;
    attend_state state; /* staging of those that runs carry */
    attend_gpu_features features;
    attend_rope rope; /* of a layer: rotary embedding and QK-norm */
    attend_tensor norms[4], positions;
    attend_tensor x_with_positions,
        table;         /* of a layer with absolute positions: x with them, and learned ones */
    double *sinusoids; /* frequencies of sinusoidal ones */
    attend_gpu_layer layer;
} attend_gpu_plan;

/* A run's own view of its plan: copies whose stream and workspace are the run's. */
typedef struct attend_gpu_run {
    attend_gpu_context gpu;
    attend_gpu_plan own;
    attend_plan plan;
    attend_gpu_stream *on;
} attend_gpu_run;

/* Between the two, the work of one run is enqueued through run->plan. It ends whether or not that succeeded.
   inspects: cuBLAS is not used, and brought->workspace has list_bytes alone. */
attend_status attend_gpu_run_begin(attend_plan *plan, const attend_run *brought, bool inspects,
                                   attend_gpu_run *run);
attend_status attend_gpu_run_end(const attend_gpu_run *run, attend_status status);

/* Runs attention on device tensors; lengths are the caller's. */
attend_status attend_gpu_attention(const attend_plan *plan, const attend_attention_args *on_device,
                                   const attend_key_part *part);
attend_status attend_gpu_attention_forward(attend_plan *plan, const attend_attention_args *args,
                                           const attend_key_part *part);

/* ---- carried states: merge.c ---- */

void attend_gpu_reserve_state(attend_gpu_arena *arena, const attend_problem *problem, attend_state *state);
/* The state to compute on in place of the caller's, as attend_gpu_take_input() and attend_gpu_take_output(). */
attend_status attend_gpu_take_state(const attend_gpu_context *gpu, const char *name,
                                    const attend_state *given, const attend_state *staging, bool is_output,
                                    attend_state *use);
attend_status attend_gpu_give_state(const attend_gpu_context *gpu, const attend_state *given,
                                    const attend_state *used);
attend_state_view attend_gpu_state_view(const attend_state *state);
attend_status attend_gpu_merge(attend_context *context, const attend_problem *problem,
                               const attend_merge_args *args, const attend_run *run);

attend_status attend_gpu_inspect(attend_plan *plan, const attend_attention_args *args,
                                 const attend_inspect_request *request);

/* Adds a layer's part to the arenas of a plan; then, once they are allocated, uploads and wires it. */
attend_status attend_gpu_layer_reserve(attend_plan *plan, attend_gpu_arenas *arenas);
attend_status attend_gpu_layer_create(attend_plan *plan);
attend_status attend_gpu_layer_forward(attend_plan *plan, const attend_layer_args *args);

/* Rotary embedding and QK-norm of a layer; running it is nothing where the problem has neither. */
attend_status attend_gpu_reserve_rope(attend_plan *plan, attend_gpu_arenas *arenas);
attend_status attend_gpu_create_rope(attend_plan *plan);
attend_status attend_gpu_rope(const attend_plan *plan, const attend_attention_args *attention,
                              const attend_tensor *positions);
/* The same for Q and K that a caller brings. */
attend_status attend_gpu_rotary(attend_context *context, const attend_problem *problem,
                                const attend_rotary_args *args);

/* Absolute positions of a layer that has them: x becomes `placed`. */
attend_status attend_gpu_reserve_positions(attend_plan *plan, attend_gpu_arenas *arenas);
attend_status attend_gpu_create_positions(attend_plan *plan);
attend_status attend_gpu_add_positions(const attend_plan *plan, const attend_layer_args *args,
                                       const attend_attention_args *attention, attend_tensor *x);

/* The projections of a layer plan, from device tensors to device tensors. */
attend_status attend_gpu_project_heads(const attend_plan *plan, const attend_tensor *x,
                                       const attend_tensor *context);
attend_status attend_gpu_project_output(const attend_plan *plan, const attend_tensor *heads,
                                        const attend_tensor *out);

#endif
