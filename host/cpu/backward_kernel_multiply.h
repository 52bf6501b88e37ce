/* The products of a tile and a block, by the micro-kernels of the forward. */
#ifndef ATTEND_CPU_BACKWARD_KERNEL_MULTIPLY_H
#define ATTEND_CPU_BACKWARD_KERNEL_MULTIPLY_H

#include "cpu/backward_kernel_block.h"

/* Rows [r, r + ROWS) of dQ, one panel of columns. */
#define DQ_PRODUCT(vectors_)                                                                       \
    __attribute__((noinline)) static void dq_##vectors_(const block *b, int64_t r, const float *k, \
                                                        float *dq, int64_t dq_step)                \
    {                                                                                              \
        enum { STEP = vectors_ * LANES };                                                          \
        vf sum[8][8];                                                                              \
        UNROLL_FOR (8, int i = 0; i < ROWS; i++)                                                   \
            UNROLL_FOR (8, int v = 0; v < vectors_; v++) sum[i][v] = splat(0);                     \
        for (int n = 0; n < b->panels; n++) {                                                      \
            const key_panel *panel = &b->panel[n];                                                 \
            if (r < panel->low || r >= panel->high) continue;                                      \
            const float *ds = b->ds + panel->first * TILE + r * panel->step;                       \
            for (int64_t j = 0; j < panel->step; j += 4)                                           \
                multiply_add(4, ROWS, vectors_, (steps){panel->step, 1, STEP, 0}, ds + j,          \
                             k + (panel->first + j) * STEP, sum);                                  \
        }                                                                                          \
        store_sums(ROWS, vectors_, (steps){0, 0, 0, dq_step}, sum, dq, ADDED);                     \
    }

typedef void rows_product(const float *rows, const float *keys, int64_t depth, float *to, int64_t tiles);
typedef void columns_product(const float *columns, int64_t next, const float *weights, int64_t depth,
                             float *to, int64_t tiles);
typedef void dq_product(const block *b, int64_t r, const float *k, float *dq, int64_t dq_step);

#undef PANEL_PRODUCTS
#define PANEL_PRODUCTS(vectors)                                                                            \
    __attribute__((noinline)) static void scores_##vectors(const float *rows, const float *keys,           \
                                                           int64_t depth, float *to, int64_t tiles)        \
    {                                                                                                      \
        for (; tiles > 0; tiles--, rows += depth * ROWS, to += ROWS * vectors * LANES)                     \
            multiply(ROWS, vectors, (steps){1, ROWS, vectors * LANES, vectors * LANES}, rows, keys, depth, \
                     to, FRESH);                                                                           \
    }                                                                                                      \
    OUTPUT_PRODUCT(output, vectors)                                                                        \
    DQ_PRODUCT(vectors)
PANEL_PRODUCTS(1)
PANEL_PRODUCTS(2)
#if ATTEND_VECTORS == 3
PANEL_PRODUCTS(3)
static rows_product *const scores[] = {NULL, scores_1, scores_2, scores_3};
static columns_product *const outputs[] = {NULL, output_1, output_2, output_3};
static dq_product *const dqs[] = {NULL, dq_1, dq_2, dq_3};
#else
static rows_product *const scores[] = {NULL, scores_1, scores_2};
static columns_product *const outputs[] = {NULL, output_1, output_2};
static dq_product *const dqs[] = {NULL, dq_1, dq_2};
#endif

/* The same where operands may hold what is not finite: a weight of 0 takes nothing from them. */
static void output_weighed(const key_panel *panel, const float *columns, const float *weights, int64_t depth,
                           float *to, int64_t width)
{
    const steps at = {1, ROWS, panel->step, panel->step};
    for (int64_t c = 0; c < width; c += ROWS)
        for (int v = 0; v < panel->vectors; v++)
            multiply_seen(at, columns + c * TILE, weights + v * LANES, depth,
                          to + c * panel->step + v * LANES, 0, splat_int(0), splat_int(0), true);
}

static void dq_weighed(const block *b, int64_t r, const float *k, int64_t step, float *dq)
{
    for (int n = 0; n < b->panels; n++) {
        const key_panel *panel = &b->panel[n];
        if (r < panel->low || r >= panel->high) continue;
        const float *ds = b->ds + panel->first * TILE + r * panel->step;
        for (int64_t j = 0; j < panel->step; j++)
            for (int64_t c = 0; c < step && ds[j] != 0; c += LANES)
                store(dq + c,
                      multiply_into(load(dq + c), splat(ds[j]), load(k + (panel->first + j) * step + c)));
    }
}

#endif
