/* The interface between host/ and the device code: rows of the kernel table, the arguments of a launch, and
   the small kernels that a layer uses beside attention. Plain C. */
#ifndef ATTEND_CUDA_KERNELS_H
#define ATTEND_CUDA_KERNELS_H

#include <attend/kernel.h>
#include "shared/keys.h"
#include "shared/score.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor on the device: [batch, seqlen, head, dim], strides in elements, the last one is 1. */
typedef struct attend_view {
    void *data;
    int64_t batch, seqlen, head;
} attend_view;

static inline attend_view attend_view_of(const attend_tensor *t)
{
    const attend_view view = {t->data, t->stride[0], t->stride[1], t->stride[2]};
    return view;
}
/* Of one number a row: [batch, heads, seqlen] */
static inline attend_view attend_rows_view_of(const attend_tensor *t)
{
    const attend_view view = {t->data, t->stride[0], t->stride[2], t->stride[1]};
    return view;
}

/* A row's sums run over spans of attend_span_keys keys, which are then merged (spans.cuh). Each span gets a
   block of its own (split schedule) where a KV head has at most split_rows query rows; no bit depends on
   that. */
enum { attend_span_keys = 1024, attend_split_rows = 64 };

/* Kernels count the keys of a sequence in 32 bits, up to the end of the last tile. */
enum { attend_most_keys = INT32_MAX - 255 };

/* A carried state (attend_state), fp32: for each query and head the output before its division by the sum,
   the running max as an exponent of 2, and the sum. data NULL: none. */
typedef struct attend_state_view {
    attend_view out, max, sum; /* max and sum have one element a row */
} attend_state_view;

/* Scratch memory for the totals between spans (spans.cuh). There are as many slots a multiprocessor as it
   holds blocks that fill its registers; with fewer slots than blocks, blocks wait. */
enum { attend_slots_at_once = 2, attend_slot_bytes = 256 * 33 * 16 };
typedef struct attend_slots {
    int *taken; /* [count], all 0 while no launch is in flight */
    char *memory;
    int64_t count;
} attend_slots;

/* What of a problem a launch is about. Entries, heads, queries and keys keep the numbers that they have in
   the problem: a tensor that holds the box alone is given by where its element 0 would lie. */
typedef struct attend_kernel_box {
    int64_t first_batch, batch, first_kv_head, kv_heads; /* so many from the first on */
    int64_t first_query, end_query;
    int64_t first_key, end_key; /* multiples of attend_span_keys, or seqlen_k */
} attend_kernel_box;

ATTEND_SHARED attend_kernel_box attend_whole_box(const attend_problem *p)
{
    attend_kernel_box box = {0, p->batch, 0, p->num_kv_heads, 0, p->seqlen_q, 0, p->seqlen_k};
    return box;
}

/* One launch of attention, passed to the kernel by value. */
typedef struct attend_kernel_args {
    attend_problem problem; /* resolved */
    attend_view q, k, v, out;
    attend_key_layout keys; /* with a table, on the device, k and v are pools: [page, key, head, dim] */
    attend_view lse;        /* fp32, one element a row; data NULL: not wanted */
    attend_lists lists;     /* on the device */
    attend_terms terms;     /* on the device */
    /* blocks are ordered so that their K and V fit in a cache of this size */
    int64_t l2_bytes;
    bool aligned;                 /* every row of q, k and v starts at a multiple of 16 bytes */
    bool out_aligned;             /* the same for out */
    attend_kernel_box box;        /* only this takes part */
    attend_state_view from, into; /* state of the keys before; state to write in place of out and lse */
    /* splits of the box's keys, a block each; 1: a block takes all spans of its rows */
    int64_t splits;
    float *partials;    /* partial results of the splits: row->partial_bytes of memory */
    attend_slots slots; /* the context's */
    /* blocks of the grid to launch: block_count from first_block on; block_count 0: all that follow */
    int64_t first_block, block_count;
} attend_kernel_args;

/* Whether scores are more than softmax_scale·q·k, for kernels that compute all heads of a group in one
   block. */
ATTEND_SHARED bool attend_scores_terms(const attend_problem *p)
{
    return attend_adds_terms(p) || p->head_scales;
}

/* How a row of the kernel table divides a problem into blocks. */
typedef struct attend_kernel_grid {
    int64_t blocks;
    int64_t splits; /* splits of the keys, a block each, merged afterwards; 1: none */
    bool grouped;   /* a tile's rows are the queries of all heads that share a KV head */
} attend_kernel_grid;

typedef struct attend_kernel_row {
    attend_kernel_info info;
    bool any_alignment; /* also takes tensors whose rows are not aligned to 16 bytes */
    int64_t term_bytes; /* shared memory beyond info's, where attend_scores_terms() */
    int64_t (*partial_bytes)(const attend_problem *problem, const attend_kernel_box *box); /* NULL: none */
    /* false: more blocks than a grid holds */
    bool (*grid)(const attend_problem *problem, const attend_kernel_box *box, attend_kernel_grid *grid);
    cudaError_t (*prepare)(void); /* for the current device, before the first launch */
    cudaError_t (*launch)(const attend_kernel_args *args, cudaStream_t stream);
} attend_kernel_row;

/* Sorted by speed, fastest first: selection takes the first row that fits a problem. */
extern const attend_kernel_row attend_flash_fma_rows[], attend_flash_mma_f16_rows[],
    attend_flash_mma_bf16_rows[], attend_flash_wgmma_f16_rows[], attend_flash_wgmma_bf16_rows[];
extern const int attend_flash_fma_row_count, attend_flash_mma_f16_row_count, attend_flash_mma_bf16_row_count,
    attend_flash_wgmma_f16_row_count, attend_flash_wgmma_bf16_row_count;

/* ptxas's report of one kernel for one architecture. The build writes the table (cmake/list-kernels); a name
   of NULL ends it. Kernels have the names of their rows. */
typedef struct attend_ptxas_report {
    const char *name;
    int architecture, registers;
    int64_t spill_bytes, shared_bytes;
} attend_ptxas_report;
extern const attend_ptxas_report attend_ptxas_reports[];

/* Bytes of the device code of a kernel family (a file of cuda/) in the library. The build writes the table; a
   family of NULL ends it. */
typedef struct attend_device_code_row {
    const char *family;
    int64_t bytes;
} attend_device_code_row;
extern const attend_device_code_row attend_device_code_rows[];

/* y[b, i, h, :] = bias[h, :] for every row i; a projection with a bias then adds to y. */
cudaError_t attend_fill_bias(attend_dtype dtype, const attend_view *y, const void *bias, int64_t batch,
                             int64_t seqlen, int64_t heads, int64_t dim, cudaStream_t stream);

/* terms.key_ids: summaries of the segment ids of `keys` keys a batch entry, attend_id_blocks(keys) summaries
   an entry. */
cudaError_t attend_note_segments(const attend_plane *segments_k, int64_t batch, int64_t keys,
                                 attend_ids *summaries, cudaStream_t stream);

/* Merges states over consecutive ranges of keys, in their order, into `into` or, where its data is NULL, into
   out and lse, with sinks [num_heads] (NULL: none). At most 2^31 - 1 rows. */
enum { attend_merge_at_once = 8 };
typedef struct attend_merging {
    int64_t batch, seqlen_q, num_heads, dims;
    attend_state_view states[attend_merge_at_once], into;
    int64_t count;
    attend_view out, lse;
    const float *sinks;
    int64_t sinks_head; /* stride */
} attend_merging;
cudaError_t attend_merge_states(const attend_merging *merging, attend_dtype dtype, cudaStream_t stream);

/* Copies `count` lengths from the host into device memory as kernel parameters: read before the call returns,
   ordered on the stream, and usable in graph capture. */
cudaError_t attend_set_lengths(int64_t *device_lengths, const int64_t *host_lengths, int64_t count,
                               cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
