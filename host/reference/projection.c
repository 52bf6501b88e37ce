/* The layer's projections in fp64, element by element, with the dot product's bound: 2(n+2)ε Σ|x||w| + u|y|. */
#include "reference.h"

#include <math.h>

typedef struct value {
    double exact, bound, baseline;
} value;

static value dot(const attend_tensor *weight, const attend_tensor *bias, int64_t row, const attend_tensor *x, int64_t x_row,
                 attend_dtype dtype)
{
    int64_t n = x->shape[2];
    double y = 0, magnitude = 0;
    float naive = 0;
    for (int64_t c = 0; c < n; c++) {
        double w = attend_load(weight, row * weight->stride[0] + c * weight->stride[1]);
        double v = attend_load(x, x_row + c * x->stride[2]);
        y += w * v;
        magnitude += fabs(w * v);
        naive += (float)w * (float)v;
    }
    if (bias->data) {
        double b = attend_load(bias, row * bias->stride[0]);
        y += b, magnitude += fabs(b), naive += (float)b;
    }
    return (value){
        .exact = y,
        .bound = 2 * ((double)n + 2) * 0x1p-24 * magnitude + attend_unit_roundoff(dtype) * fabs(y) + attend_half_least(dtype),
        .baseline = dtype == ATTEND_F32 ? naive : attend_round(y, dtype),
    };
}

void attend_reference_project(const attend_tensor *x, const attend_tensor *weight, const attend_tensor *bias,
                              attend_dtype dtype, int threads, const attend_reference_projection *y)
{
    int64_t seqlen = x->shape[1], rows = weight->shape[0];
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < x->shape[0] * seqlen; t++)
        for (int64_t r = 0; r < rows; r++) {
            value v = dot(weight, bias, r, x, t / seqlen * x->stride[0] + t % seqlen * x->stride[1], dtype);
            if (y->exact) y->exact[t * rows + r] = v.exact;
            if (y->bound) y->bound[t * rows + r] = v.bound;
            if (y->baseline) y->baseline[t * rows + r] = v.baseline;
        }
}
