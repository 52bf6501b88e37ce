/* Device code for where a token is: rotary embedding and QK-norm of heads. Plain C. */
#ifndef ATTEND_CUDA_POSITION_KERNELS_H
#define ATTEND_CUDA_POSITION_KERNELS_H

#include "kernels.h"
#include "turn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Norm and rotary embedding of `count` tensors, at most 2, of one head dim and as many rows: one launch. All on the device. */
cudaError_t attend_turn_heads(const attend_turn *turn, const attend_places *places, const attend_turning *sides, int count, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
