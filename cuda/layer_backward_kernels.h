/* Kernels around the products of a layer's gradients. Plain C. Tensors are [batch, rows, heads, dim] on the
   device, their last stride 1. Sums are fp32, in an order that depends on shapes alone: over parts of the
   rows, then over the parts. */
#ifndef ATTEND_CUDA_LAYER_BACKWARD_KERNELS_H
#define ATTEND_CUDA_LAYER_BACKWARD_KERNELS_H

#include "kernels.h"
#include "shared/rope.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where sums over all rows go: to[i·step] becomes the sum, or grows by it. data NULL: not wanted. */
typedef struct attend_row_sum {
    float *data;
    int64_t step;
    bool accumulate;
} attend_row_sum;

/* Floats of scratch for sums of so many columns over so many rows. */
int64_t attend_row_sum_floats(int64_t rows, int64_t columns);

/* Sums x over its rows, a sum for each column of each head. */
cudaError_t attend_sum_rows(const attend_tensor *x, const attend_row_sum *to, float *scratch,
                            cudaStream_t stream);

/* dy, the gradient of heads as attention read them, becomes in place that of y, the heads before QK-norm and
   rotary embedding (data NULL without a norm); and those of the norm's weight and bias. scratch: for sums of
   2·head_dim columns. */
typedef struct attend_rope_gradient {
    attend_tensor dy, y, weight;
    attend_row_sum dweight, dbias;
} attend_rope_gradient;
cudaError_t attend_rope_backward(const attend_rope *rope, const attend_row_positions *row_positions,
                                 const attend_rope_gradient *gradient, float *scratch, cudaStream_t stream);

/* to = x, but rows where all of dy[0 … count) are 0 become 0: they add nothing to a weight's gradient, and
   may hold NaN. x and to are [batch, rows, width]; 1 to 3 dy. */
cudaError_t attend_keep_rows(const attend_tensor *dy, int count, const attend_tensor *x,
                             const attend_tensor *to, cudaStream_t stream);

/* to = from, or to += from, rounded to the dtype of `to`. from: fp32, contiguous; both [batch, rows, width].
   */
cudaError_t attend_leave_rows(const float *from, const attend_tensor *to, bool accumulate,
                              cudaStream_t stream);

/* table[position] = Σ dx over the rows at that position, or += that. dx: fp32, contiguous, [rows][width] of
   all entries; table: f32 [positions, width]. rows: of an entry. */
cudaError_t attend_sum_positions(const float *dx, int64_t batch, int64_t rows,
                                 const attend_row_positions *row_positions, const attend_tensor *table,
                                 bool accumulate, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
