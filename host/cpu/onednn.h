/* The one place that speaks to oneDNN, 2 or 3: products y = x·Wᵀ + b in fp32, all of one size, each on the
   thread that calls, from which nothing is thrown. */
#ifndef ATTEND_CPU_ONEDNN_H
#define ATTEND_CPU_ONEDNN_H

#include "core/status.h"

typedef struct attend_onednn attend_onednn;

typedef struct attend_onednn_shape {
    int64_t rows, in, columns; /* x is [rows, in], W [columns, in], y [rows, columns] */
    bool biased;
    bool convolution; /* by a 1×1 convolution, else by a matrix product */
} attend_onednn_shape;

/* NULL where oneDNN has no such convolution: never for a matrix product. May leave something to destroy where it fails. */
attend_status attend_onednn_create(const attend_onednn_shape *shape, attend_onednn **products);
void attend_onednn_destroy(attend_onednn *products);

/* What an arranged panel of W takes, and what a product needs beside x and y. */
size_t attend_onednn_panel_bytes(const attend_onednn *products);
size_t attend_onednn_scratch_bytes(const attend_onednn *products);

/* Arranges so many panels of W, [columns, in] each, one behind the other, as products take them, at multiples
   of `panel_stride` bytes; W may go then, `arranged` and `bias` are read by each product. */
attend_status attend_onednn_prepare(attend_onednn *products, int threads, int64_t panels, float *weight,
                                    char *arranged, size_t panel_stride, float *bias);

/* One product. 0, or what attend_onednn_failed() makes a sentence of: threads of a pool have nobody to tell. */
int attend_onednn_multiply(const attend_onednn *products, int thread, int64_t panel, float *x, float *y,
                           char *scratch);
attend_status attend_onednn_failed(int status, const char *what);

#endif
