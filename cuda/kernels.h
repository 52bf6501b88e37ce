/* The only door between host/ and the device code: rows of the kernel table, what a launch needs, and the few
   small kernels that a layer uses beside attention. Plain C. */
#ifndef ATTEND_CUDA_KERNELS_H
#define ATTEND_CUDA_KERNELS_H

#include <attend/kernel.h>
#include "shared/score.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where a tensor lies on the device: [batch, seqlen, head, dim], strides in elements, the last one is 1. */
typedef struct attend_view {
    void *data;
    int64_t batch, seqlen, head;
} attend_view;

/* The keys that a row's sums take in before they join the total: spans.cuh. Spans go to blocks of their own
   where a KV head has at most split_rows query rows; no bit depends on that. */
enum { attend_span_keys = 1024, attend_split_rows = 64 };

/* Kernels count the keys of a sequence in 32 bits, up to the end of a tile that begins before the last. */
enum { attend_most_keys = INT32_MAX - 255 };

/* A carried state (attend_state), fp32: of each query and head the undivided output, the running maximum in
   exponents of two, and the sum. data NULL: none. */
typedef struct attend_state_view {
    attend_view out, max, sum; /* max and sum with one element a row */
} attend_state_view;

/* Where totals rest between spans: spans.cuh. Of each multiprocessor there are as many slots as it holds of
   the blocks that fill its registers: with fewer than blocks, some wait. */
enum { attend_slots_at_once = 2, attend_slot_bytes = 256 * 33 * 16 };
typedef struct attend_slots {
    int *taken; /* [count], zeros where no launch is in flight */
    char *memory;
    int64_t count;
} attend_slots;

/* One launch of attention, passed to the kernel by value. */
typedef struct attend_kernel_args {
    attend_problem problem; /* resolved */
    attend_view q, k, v, out;
    attend_view lse;    /* fp32 with one element a row; data NULL: not wanted */
    attend_lists lists; /* on the device */
    attend_terms terms; /* on the device */
    /* blocks are ordered so that their K and V stay in a cache of this size */
    int64_t l2_bytes;
    bool aligned;                 /* every row of q, k and v starts at a multiple of 16 bytes */
    bool out_aligned;             /* every row of out does */
    int64_t first_key, end_key;   /* only these take part; multiples of attend_span_keys, or seqlen_k */
    attend_state_view from, into; /* what the keys before left; what is left in place of out and lse */
    /* spans that go to blocks of their own; 1: none, a block takes all of its rows' spans */
    int64_t splits;
    float *partials;    /* what split spans leave to be merged: row->partial_bytes of memory */
    attend_slots slots; /* the context's */
    /* launch so many blocks of the grid from the first on; block_count 0: all of them */
    int64_t first_block, block_count;
} attend_kernel_args;

/* Whether scores are more than softmax_scale·q·k. */
ATTEND_SHARED bool attend_scores_terms(const attend_problem *p)
{
    return attend_adds_terms(p) || p->head_scales;
}

/* How a row cuts a problem into blocks. */
typedef struct attend_kernel_grid {
    int64_t blocks;
    int64_t splits; /* parts of the keys that go to blocks of their own and are merged; 1: none */
    bool grouped;   /* a tile's rows are the queries of all heads of a KV head */
} attend_kernel_grid;

typedef struct attend_kernel_row {
    attend_kernel_info info;
    bool any_alignment; /* also takes tensors whose rows are not aligned to 16 bytes */
    int64_t term_bytes; /* of shared memory, more than info says, where attend_scores_terms() */
    int64_t (*partial_bytes)(const attend_problem *problem); /* NULL: none */
    /* false: more blocks than a grid holds */
    bool (*grid)(const attend_problem *problem, attend_kernel_grid *grid);
    cudaError_t (*prepare)(void); /* for the current device, before the first launch */
    cudaError_t (*launch)(const attend_kernel_args *args, cudaStream_t stream);
} attend_kernel_row;

/* Fastest first among those that fit a problem: selection takes the first. */
extern const attend_kernel_row attend_flash_fma_rows[], attend_flash_mma_f16_rows[],
    attend_flash_mma_bf16_rows[];
extern const int attend_flash_fma_row_count, attend_flash_mma_f16_row_count, attend_flash_mma_bf16_row_count;

/* ptxas's report of one kernel for one architecture; the build writes the table (cmake/list-kernels), name
   NULL ends it. A row's kernel has its name. */
typedef struct attend_ptxas_report {
    const char *name;
    int architecture, registers;
    int64_t spill_bytes, shared_bytes;
} attend_ptxas_report;
extern const attend_ptxas_report attend_ptxas_reports[];

/* Bytes of the device code of a kernel family, which is a file of cuda/, as it lies in the library; the build writes
   the table, name NULL ends it. */
typedef struct attend_device_code_row {
    const char *family;
    int64_t bytes;
} attend_device_code_row;
extern const attend_device_code_row attend_device_code_rows[];

/* y[b, i, h, :] = bias[h, :] for every row i: what a projection with a bias adds to. */
cudaError_t attend_fill_bias(attend_dtype dtype, const attend_view *y, const void *bias, int64_t batch,
                             int64_t seqlen, int64_t heads, int64_t dim, cudaStream_t stream);

/* Summaries of the segment ids of `keys` keys in each batch entry of the tensors, attend_id_blocks(keys) an
   entry: terms.key_ids. */
cudaError_t attend_note_segments(const attend_plane *segments_k, int64_t batch, int64_t keys,
                                 attend_ids *summaries, cudaStream_t stream);

/* States over neighbouring ranges of keys, in their order, that become `into` or, where its data is NULL, out
   and lse, with sinks [num_heads] (NULL: none). At most 2^31 - 1 rows. */
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
   in the order of the stream, and fit for graph capture. */
cudaError_t attend_set_lengths(int64_t *device_lengths, const int64_t *host_lengths, int64_t count,
                               cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
