/* The naive algorithm on a CUDA device: cuBLAS, a softmax, cuBLAS, scores of all heads in the tensors' dtype
   in memory between them. */
#ifndef ATTEND_TOOL_NAIVE_DEVICE_H
#define ATTEND_TOOL_NAIVE_DEVICE_H

#include <attend/attend.h>

typedef struct naive_device naive_device;

/* Of attention q, k, v and out, of a layer x and out: on the device, without gaps; out is written. A layer's
 * weights lie on the host, without gaps and biases; `weights` is NULL for attention. The problem has its
 * defaults filled. *why says in words what keeps it from running here, and *naive is NULL then. Where the
 * build has no CUDA this fails with ATTEND_NO_DEVICE. stream: a cudaStream_t. */
attend_status naive_device_make(const attend_problem *problem, const attend_attention_args *attention,
                                const attend_layer_args *layer, const attend_layer_weights *weights,
                                void *stream, naive_device **naive, const char **why);
attend_status naive_device_enqueue(naive_device *naive);
void naive_device_free(naive_device *naive);

#endif
