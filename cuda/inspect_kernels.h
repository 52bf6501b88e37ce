/* The interface between host/gpu/inspect.c and the inspection kernels. Plain C. */
#ifndef ATTEND_CUDA_INSPECT_KERNELS_H
#define ATTEND_CUDA_INSPECT_KERNELS_H

#include "core/inspect.h"
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { attend_inspect_rows = 16 }; /* rows a block */

/* Passed to the kernels by value. All pointers are to device memory, also those of the request and its list
   of queries. */
typedef struct attend_inspect_args {
    attend_problem problem; /* resolved */
    attend_view q, k;
    attend_key_layout keys; /* as in attend_kernel_args */
    attend_view lse;        /* fp32, one element a row; data NULL: to be computed */
    attend_lists lists;
    attend_terms terms;
    attend_inspect_request request;
    int64_t blocks;               /* a head */
    int64_t first_block;          /* first of the launch */
    int64_t map_first, map_slots; /* the first block with rows of the map; rows of slots a head */
    /* zeros, [batch][num_heads][map_slots][X]: block b stores tile row y at b - map_first + y */
    float *slots;
    double *sums; /* [batch][num_heads][blocks][2]: weight, weight·distance */
} attend_inspect_args;

/* Launches `count` of the batch·num_heads·blocks blocks, from first_block on. */
cudaError_t attend_inspect_blocks(const attend_inspect_args *args, int64_t count, cudaStream_t stream);
cudaError_t attend_inspect_finish(const attend_inspect_args *args, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
