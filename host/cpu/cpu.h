/* The CPU backend's own types: what a context and a plan hold. */
#ifndef ATTEND_CPU_CPU_H
#define ATTEND_CPU_CPU_H

#include "../backend.h"
#include "kernel.h"

#include <string.h>

typedef struct attend_cpu_context {
    int threads;
    const attend_cpu_kernel *kernel;
} attend_cpu_context;

typedef struct attend_cpu_projection attend_cpu_projection; /* projection.c */

typedef struct attend_cpu_plan {
    const attend_cpu_context *context;
    const attend_problem *problem;
    float *keys;    /* packed K of every KV head, then packed V */
    float *values;
    float *scratch; /* one part a thread */
    /* Of a layer: what the projections read and write; NULL parts are the caller's own tensors. */
    attend_cpu_projection *projections[4]; /* Q, K, V, output */
    void *q, *k, *v, *heads;
} attend_cpu_plan;

/* 64-byte aligned memory for `elements` of `bytes` each, counted in *total; NULL where it lacks or does not fit. */
void *attend_cpu_allocate(int64_t elements, size_t bytes, size_t *total);

attend_status attend_cpu_attention(attend_cpu_plan *plan, const attend_attention_args *args);

/* y = x·Wᵀ + b for x [batch, seqlen, in], y [batch, seqlen, out] of any row strides. */
attend_status attend_cpu_projection_create(const attend_tensor *weight, const attend_tensor *bias, int64_t batch,
                                           int64_t seqlen, int threads, size_t *bytes, attend_cpu_projection **projection);
attend_status attend_cpu_project(const attend_cpu_projection *projection, const attend_tensor *x, const attend_tensor *y);
void attend_cpu_projection_destroy(attend_cpu_projection *projection);

attend_status attend_cpu_layer_create(attend_plan *plan);
attend_status attend_cpu_layer_forward(attend_plan *plan, const attend_layer_args *args);
void attend_cpu_layer_destroy(attend_cpu_plan *plan);

/* Row of the list of instruction sets, fastest first; NULL past the last. */
const attend_cpu_kernel *attend_cpu_kernel_row(size_t index);

#endif
