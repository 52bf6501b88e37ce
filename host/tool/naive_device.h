/* The naive algorithm on a CUDA device: cuBLAS, a softmax kernel, cuBLAS. The scores of all heads are in
   device memory, in the tensors' dtype. */
#ifndef ATTEND_TOOL_NAIVE_DEVICE_H
#define ATTEND_TOOL_NAIVE_DEVICE_H

#include <attend/attend.h>

typedef struct naive_device naive_device;

/* Attention's q, k, v and out, or a layer's x and out, are contiguous device tensors; out is written. A
   layer's weights are contiguous host tensors without biases; `weights` is NULL for attention. The problem's
   defaults must be filled in. stream is a cudaStream_t. If the algorithm cannot run here, *naive is NULL and
   *why is the reason. Fails with ATTEND_NO_DEVICE in a build without CUDA. */
attend_status naive_device_make(const attend_problem *problem, const attend_attention_args *attention,
                                const attend_layer_args *layer, const attend_layer_weights *weights,
                                void *stream, naive_device **naive, const char **why);
attend_status naive_device_enqueue(naive_device *naive);
void naive_device_free(naive_device *naive);

#endif
