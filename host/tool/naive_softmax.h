/* The softmax of the naive algorithm on a CUDA device: the kernel is in naive_softmax.cu. */
#ifndef ATTEND_TOOL_NAIVE_SOFTMAX_H
#define ATTEND_TOOL_NAIVE_SOFTMAX_H

#include <attend/attend.h>
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Scores [rows, keys], replaced by weights. Row r is query r % queries. If causal, its visible keys are those
   up to its own index + diagonal. */
typedef struct naive_rows {
    void *scores;
    attend_dtype dtype;
    int64_t rows, queries, keys, diagonal;
    bool causal;
} naive_rows;
cudaError_t naive_softmax(const naive_rows *rows, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
