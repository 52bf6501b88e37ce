/* The interface between host/gpu/backward.c and the kernels of gradients: rows of their table, and the
   arguments of a launch. Plain C. */
#ifndef ATTEND_CUDA_BACKWARD_KERNELS_H
#define ATTEND_CUDA_BACKWARD_KERNELS_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A run is these launches, one after the other; those whose gradients are not wanted are left out. */
typedef enum attend_backward_stage {
    /* a block has a tile of queries: delta, dq, and what features bring row by row */
    ATTEND_BACKWARD_QUERIES,
    ATTEND_BACKWARD_KEYS, /* a block has a tile of keys: dk, dv, and sums of a bias along queries */
    /* a block has a tile of a bias's gradient that heads or batch entries add to together */
    ATTEND_BACKWARD_BIAS,
    ATTEND_BACKWARD_STAGES
} attend_backward_stage;

typedef struct attend_gradient_view {
    attend_view view;   /* data NULL: not wanted */
    attend_dtype dtype; /* the problem's or f32 */
} attend_gradient_view;

/* fp32 that a run keeps between its launches, in the plan's workspace; NULL: not needed. By rows:
   [tensor's batch][num_heads][rows of the tensor]. */
typedef struct attend_backward_sums {
    float *delta; /* Σ p·dP - dlse, by queries */
    float *shift; /* log2 Σ p, of a run that sums p·dP: what the LSE lacks for weights that add up to 1 */
    /* what each query adds to a bias that does not vary along keys, to slopes, head scales and sinks */
    float *bias, *slopes, *scales, *sinks;
    float *key_bias; /* what each key adds to a bias that does not vary along queries, by keys */
    float *buckets;  /* [batch][num_heads][tiles of queries][relative_buckets] */
} attend_backward_sums;

/* Passed to the kernels by value. All memory is the device's. */
typedef struct attend_backward_args {
    attend_problem problem; /* resolved */
    attend_view q, k, v, dout;
    attend_view out;       /* fp32; data NULL: the sum of p·dP is taken */
    attend_view lse, dlse; /* fp32, one element a row */
    attend_lists lists;
    attend_terms terms;
    attend_gradient_view dq, dk, dv;
    attend_plane
        bias; /* gradients of features; a stride is 0 where they do not vary; data NULL: not wanted */
    attend_plane slopes; /* indexed by head, as scales and sinks; table's buckets lie along key */
    attend_plane table, scales, sinks;
    attend_backward_sums sums;
    int64_t tiles; /* of the longest sequence's queries: those of sums.buckets */
    bool accumulate;
    bool aligned;                     /* every row of q, k, v and dout starts at a multiple of 16 bytes */
    int64_t first_block, block_count; /* of the stage's grid */
} attend_backward_args;

/* A bias that varies along queries and keys gets dS itself: from the block that has it where no other adds to
   it, else in a stage of its own. */
ATTEND_SHARED bool attend_bias_is_whole(const attend_problem *p)
{
    return (p->bias_axes & ATTEND_PER_QUERY) && (p->bias_axes & ATTEND_PER_KEY);
}
ATTEND_SHARED bool attend_bias_is_shared(const attend_problem *p)
{
    return (!(p->bias_axes & ATTEND_PER_BATCH) && p->batch > 1) ||
           (!(p->bias_axes & ATTEND_PER_HEAD) && p->num_heads > 1);
}

typedef struct attend_backward_row {
    attend_kernel_info info;
    bool any_alignment; /* also takes tensors whose rows are not aligned to 16 bytes */
    bool takes_out; /* its scores are the forward kernel's, bit for bit: with out it needs no sum of p·dP */
    bool sums;      /* also makes what biases, slopes and tables of distances get */
    /* false: more blocks than a grid holds */
    bool (*blocks)(const attend_problem *problem, attend_backward_stage stage, int64_t *blocks);
    cudaError_t (*prepare)(void); /* for the current device, before the first launch */
    cudaError_t (*launch)(attend_backward_stage stage, const attend_backward_args *args, cudaStream_t stream);
} attend_backward_row;

/* Sorted by speed, fastest first. */
extern const attend_backward_row attend_backward_mma_f16_rows[], attend_backward_mma_bf16_rows[],
    attend_backward_fma_rows[];
extern const int attend_backward_mma_f16_row_count, attend_backward_mma_bf16_row_count,
    attend_backward_fma_row_count;

/* Sums of the stages to what features bring, in an order that is always the same. */
cudaError_t attend_backward_finish(const attend_backward_args *args, int tile_q, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
