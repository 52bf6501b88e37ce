/* Kernels for positions: rotary embedding and QK-norm of heads, absolute positions of x. Plain C. */
#ifndef ATTEND_CUDA_POSITION_KERNELS_H
#define ATTEND_CUDA_POSITION_KERNELS_H

#include "shared/absolute.h"
#include "shared/append.h"
#include "kernels.h"
#include "shared/rope.h"

#ifdef __cplusplus
extern "C" {
#endif

/* QK-norm and rotary embedding of `count` (1 or 2) tensors of the same head_dim and rows, in one launch; with
   `append` (or NULL) into a cache, and its values with them. All pointers are to device memory. */
cudaError_t attend_rope_heads(const attend_rope *rope, const attend_row_positions *row_positions,
                              const attend_rope_tensor *tensors, int count, const attend_append *append,
                              cudaStream_t stream);

/* y = x + the absolute position of each row; x and y are [batch, rows, hidden_size] with last strides of 1.
   sinusoids: their frequencies in turns a position; table: learned positions. All pointers are to device
   memory. */
cudaError_t attend_add_positions(const attend_problem *problem, const attend_row_positions *row_positions,
                                 const double *sinusoids, const attend_tensor *table, const attend_tensor *x,
                                 const attend_tensor *y, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
