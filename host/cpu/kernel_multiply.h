/* The micro-kernels: C[rows][vectors] (+)= A[depth][rows]·B[depth][vectors], every accumulator in a register, one broadcast and one
   multiply-add per row and vector. Each element is one chain of multiply-adds in the order of depth, whatever lies beside it. */
#ifndef ATTEND_CPU_KERNEL_MULTIPLY_H
#define ATTEND_CPU_KERNEL_MULTIPLY_H

#include "vector.h"

enum { ROWS = ATTEND_ROWS, VECTORS = ATTEND_VECTORS, WIDTH = LANES * VECTORS };

/* Where element (r, k) of A, row k of B and row r of C lie. */
typedef struct steps {
    int64_t a_row, a_depth, b_depth, c_row;
} steps;

/* One step of depth. rows, vectors and the steps that are constants where this is inlined shape the code. */
ALWAYS_INLINE void multiply_add(int rows, int vectors, steps at, const float *a, const float *b, vf sum[8][8])
{
    vf column[8];
    UNROLL(8) for (int v = 0; v < vectors; v++) column[v] = load(b + v * LANES);
    UNROLL(8) for (int r = 0; r < rows; r++)
    {
        vf x = splat(a[r * at.a_row]);
        UNROLL(8) for (int v = 0; v < vectors; v++) sum[r][v] += x * column[v];
    }
}

/* Two steps a turn: with one, gcc moves accumulators between registers at its end. */
ALWAYS_INLINE void multiply(int rows, int vectors, steps at, const float *a, const float *b, int64_t depth, float *c, bool accumulate)
{
    vf sum[8][8];
    UNROLL(8) for (int r = 0; r < rows; r++)
        UNROLL(8) for (int v = 0; v < vectors; v++) sum[r][v] = accumulate ? load(c + r * at.c_row + v * LANES) : splat(0);
    for (int64_t pairs = depth / 2; pairs > 0; pairs--) {
        multiply_add(rows, vectors, at, a, b, sum);
        multiply_add(rows, vectors, at, a + at.a_depth, b + at.b_depth, sum);
        a += 2 * at.a_depth, b += 2 * at.b_depth;
    }
    if (depth % 2) multiply_add(rows, vectors, at, a, b, sum);
    UNROLL(8) for (int r = 0; r < rows; r++)
        UNROLL(8) for (int v = 0; v < vectors; v++) store(c + r * at.c_row + v * LANES, sum[r][v]);
}

/* The two products of a panel `vectors` wide, as functions of their own so that their loops get all registers:
   S = K·Qᵀ (fresh) and O += Vᵀ·P (not). */
#define PANEL_PRODUCTS(vectors)                                                                                        \
    __attribute__((noinline)) static void scores_##vectors(const float *k, const float *q, int64_t depth, float *s)    \
    {                                                                                                                  \
        multiply(ROWS, vectors, (steps){1, ROWS, vectors * LANES, vectors * LANES}, k, q, depth, s, false);            \
    }                                                                                                                  \
    __attribute__((noinline)) static void output_##vectors(const float *v, const float *p, int64_t depth, float *o)    \
    {                                                                                                                  \
        multiply(ROWS, vectors, (steps){1, ROWS, vectors * LANES, vectors * LANES}, v, p, depth, o, true);             \
    }

/* One vector wide, and only for lanes that see the key: key is that of depth 0, a lane sees [begin, end). What a lane does not see
   reaches it in no way, not even as a NaN. */
ALWAYS_INLINE void multiply_seen(steps at, const float *a, const float *b, int64_t depth, float *c, int32_t key, vi begin, vi end)
{
    vf sum[ROWS];
    UNROLL(8) for (int r = 0; r < ROWS; r++) sum[r] = load(c + r * at.c_row);
    for (int64_t k = 0; k < depth; k++) {
        vi j = splat_int(key + (int32_t)k), seen = (begin <= j) & (j < end);
        vf column = load(b);
        UNROLL(8) for (int r = 0; r < ROWS; r++) sum[r] = choose(seen, sum[r] + splat(a[r * at.a_row]) * column, sum[r]);
        a += at.a_depth, b += at.b_depth;
    }
    UNROLL(8) for (int r = 0; r < ROWS; r++) store(c + r * at.c_row, sum[r]);
}

/* One vector wide, and not for weights that are 0: what a lane does not see reaches it in no way. */
ALWAYS_INLINE void multiply_weighed(steps at, const float *a, const float *b, int64_t depth, float *c)
{
    vf sum[ROWS];
    UNROLL(8) for (int r = 0; r < ROWS; r++) sum[r] = load(c + r * at.c_row);
    for (int64_t k = 0; k < depth; k++) {
        vf column = load(b);
        vi weighs = column != splat(0);
        UNROLL(8) for (int r = 0; r < ROWS; r++) sum[r] = choose(weighs, sum[r] + splat(a[r * at.a_row]) * column, sum[r]);
        a += at.a_depth, b += at.b_depth;
    }
    UNROLL(8) for (int r = 0; r < ROWS; r++) store(c + r * at.c_row, sum[r]);
}

#endif
