/* The three steps that attend avoids: S = scale·Q·Kᵀ with all scores in memory, softmax of each row, O = P·V.
   On a CPU; naive_device.h does it on CUDA. In fp32, with oneDNN's matrix products, all heads at once or one
   after another over all threads, whichever keeps the threads busy. */
#ifndef ATTEND_TOOL_NAIVE_H
#define ATTEND_TOOL_NAIVE_H

#include <attend/attend.h>

/* Bytes of the score matrices, or -1 where 63 bits do not hold them. */
int64_t naive_score_bytes(const attend_problem *problem, size_t element_bytes);

/* q, k, v and out: fp32 tensors without gaps; scores: naive_score_bytes() of memory for floats. The problem
 * has its defaults filled. */
attend_status naive_attention(const attend_problem *problem, const float *q, const float *k, const float *v,
                              float *scores, float *out, int threads);

#endif
