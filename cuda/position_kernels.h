/* Device code for where a token is: rotary embedding and QK-norm of heads, absolute positions of x. Plain C.
   */
#ifndef ATTEND_CUDA_POSITION_KERNELS_H
#define ATTEND_CUDA_POSITION_KERNELS_H

#include "shared/absolute.h"
#include "kernels.h"
#include "shared/rope.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Norm and rotary embedding of `count` tensors, at most 2, of one head dim and as many rows: one launch. All
   on the device. */
cudaError_t attend_rope_heads(const attend_rope *rope, const attend_row_positions *row_positions,
                              const attend_rope_tensor *tensors, int count, cudaStream_t stream);

/* y = x + what the problem adds for each row's position; x and y [batch, rows, hidden_size] with last strides
   of 1. waves: the frequencies of sinusoids, table: learned positions. All on the device. */
cudaError_t attend_add_positions(const attend_problem *problem, const attend_row_positions *row_positions,
                                 const double *sinusoids, const attend_tensor *table, const attend_tensor *x,
                                 const attend_tensor *y, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
