/* The only interface to oneDNN, 2 or 3: products y = x·Wᵀ + b in fp32, all of one size, each computed on the
   calling thread. No exception passes through. */
#ifndef ATTEND_CPU_ONEDNN_H
#define ATTEND_CPU_ONEDNN_H

#include "core/status.h"

typedef struct attend_onednn attend_onednn;

typedef struct attend_onednn_shape {
    int64_t rows, in, columns; /* x is [rows, in], W [columns, in], y [rows, columns] */
    bool biased;
    bool convolution; /* by a 1×1 convolution; otherwise by a matrix product */
} attend_onednn_shape;

/* *products is NULL where oneDNN has no suitable convolution; never for a matrix product. After a failure
   *products may have to be destroyed. */
attend_status attend_onednn_create(const attend_onednn_shape *shape, attend_onednn **products);
void attend_onednn_destroy(attend_onednn *products);

/* Bytes of an arranged panel of W, and of a product's scratch. */
size_t attend_onednn_panel_bytes(const attend_onednn *products);
size_t attend_onednn_scratch_bytes(const attend_onednn *products);

/* Arranges `panels` consecutive panels of W, [columns, in] each, for products, at multiples of `panel_stride`
   bytes. W may be freed afterwards; products read `arranged` and `bias`. */
attend_status attend_onednn_prepare(attend_onednn *products, int threads, int64_t panels, float *weight,
                                    char *arranged, size_t panel_stride, float *bias);

/* Computes one product. Returns 0 or a status for attend_onednn_failed(), which makes the error: it must be
   set on the caller's thread, not on one of the pool. */
int attend_onednn_multiply(const attend_onednn *products, int thread, int64_t panel, float *x, float *y,
                           char *scratch);
/* c[rows][columns] += Σ_t a[t][rows]·b[t][columns] over `count` t, row-major, each with the distance of its
   lines. Returns a status as above. */
typedef struct attend_onednn_sum {
    int64_t rows, columns, count;
    const float *a, *b;
    float *c;
    int64_t a_line, b_line, c_line;
} attend_onednn_sum;
int attend_onednn_add_products(attend_onednn_sum *sum);
attend_status attend_onednn_failed(int status, const char *what);

#endif
