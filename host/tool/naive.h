/* The three steps that attend avoids: S = scale·Q·Kᵀ with all scores in memory, softmax of each row, O = P·V.
   On the CPU, in fp32, with oneDNN's matrix products: one thread per head, or all threads on one head after
   another, whichever keeps more threads busy. naive_device.h has the CUDA version. */
#ifndef ATTEND_TOOL_NAIVE_H
#define ATTEND_TOOL_NAIVE_H

#include <attend/attend.h>

/* Bytes of the score matrices; -1 if that overflows 63 bits. */
int64_t naive_score_bytes(const attend_problem *problem, size_t element_bytes);

/* q, k, v and out: contiguous fp32 tensors; scores: naive_score_bytes() of memory. The problem's defaults
   must be filled in. */
attend_status naive_attention(const attend_problem *problem, const float *q, const float *k, const float *v,
                              float *scores, float *out, int threads);

#endif
