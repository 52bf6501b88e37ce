/* The micro-kernels: A[depth][rows]·B[depth][vectors] into C[rows][vectors], every accumulator in a register,
   one broadcast and one multiply-add per row and vector. Each element is one chain of multiply-adds in the
   order of depth, whatever lies beside it. */
#ifndef ATTEND_CPU_KERNEL_MULTIPLY_H
#define ATTEND_CPU_KERNEL_MULTIPLY_H

#include "cpu/vector.h"

enum { ROWS = ATTEND_ROWS, VECTORS = ATTEND_VECTORS, WIDTH = LANES * VECTORS };

/* Where element (r, k) of A, row k of B and row r of C lie. */
typedef struct steps {
    int64_t a_row, a_depth, b_depth, c_row;
} steps;

/* `count` steps of depth: 1, 2 or 4. count, rows, vectors and the steps that are constants where this is
 * inlined shape the code.
 */
ALWAYS_INLINE void multiply_add(int count, int rows, int vectors, steps at, const float *a, const float *b,
                                vf sum[8][8])
{
#ifdef TILE_4X3
    if (rows == 4 && vectors == 3 && at.a_row == 1) {
        if (count == 4) multiply_add_4x3_4(a, b, sum);
        if (count == 2) multiply_add_4x3_2(a, b, sum);
        if (count == 1) multiply_add_4x3_1(a, b, sum);
        return;
    }
#endif
    UNROLL_FOR (4, int k = 0; k < count; k++) {
        vf column[8];
        UNROLL_FOR (8, int v = 0; v < vectors; v++) column[v] = load(b + k * at.b_depth + v * LANES);
        UNROLL_FOR (8, int r = 0; r < rows; r++) {
            vf x = splat(a[k * at.a_depth + r * at.a_row]);
            UNROLL_FOR (8, int v = 0; v < vectors; v++) sum[r][v] = multiply_into(sum[r][v], x, column[v]);
        }
    }
}

/* What becomes of C: the chain itself, the chain begun from what was there, or the sum of both. */
typedef enum into { FRESH, GOING_ON, ADDED } into;

/* The first step makes the accumulators: from C, or of the products alone. */
ALWAYS_INLINE void multiply_first(int rows, int vectors, steps at, const float *a, const float *b,
                                  vf sum[8][8], const float *c, into how)
{
    vf column[8];
    UNROLL_FOR (8, int v = 0; v < vectors; v++) column[v] = load(b + v * LANES);
    UNROLL_FOR (8, int r = 0; r < rows; r++) {
        vf x = splat(a[r * at.a_row]);
        UNROLL_FOR (8, int v = 0; v < vectors; v++) {
            if (how == GOING_ON)
                sum[r][v] = multiply_into(load(c + r * at.c_row + v * LANES), x, column[v]);
            else
                sum[r][v] = x * column[v];
        }
    }
}

ALWAYS_INLINE void store_sums(int rows, int vectors, steps at, vf sum[8][8], float *c, into how)
{
    UNROLL_FOR (8, int r = 0; r < rows; r++) {
        UNROLL_FOR (8, int v = 0; v < vectors; v++) {
            if (how == ADDED) sum[r][v] += load(c + r * at.c_row + v * LANES);
            store(c + r * at.c_row + v * LANES, sum[r][v]);
        }
    }
}

/* One tile. Its first step stands apart: accumulators that wait to be made leave the multipliers idle. Four
   steps a turn take 8 % fewer instructions than two, which counts where another program has the other half of
   the core; one and two more make up the depth. */
ALWAYS_INLINE void multiply(int rows, int vectors, steps at, const float *a, const float *b, int64_t depth,
                            float *c, into how)
{
    vf sum[8][8];
    multiply_first(rows, vectors, at, a, b, sum, c, how);
    a += at.a_depth, b += at.b_depth;
    if ((depth - 1) & 1) {
        multiply_add(1, rows, vectors, at, a, b, sum);
        a += at.a_depth, b += at.b_depth;
    }
    if ((depth - 1) & 2) {
        multiply_add(2, rows, vectors, at, a, b, sum);
        a += 2 * at.a_depth, b += 2 * at.b_depth;
    }
    for (int64_t turns = (depth - 1) / 4; turns > 0; turns--) {
        multiply_add(4, rows, vectors, at, a, b, sum);
        a += 4 * at.a_depth, b += 4 * at.b_depth;
    }
    store_sums(rows, vectors, at, sum, c, how);
}

/* The products of a panel `vectors` wide over `tiles` tiles, as functions of their own so that their loops
   get all registers: S = K·Qᵀ, tiles of K side by side, and O += Vᵀ·P, tiles of V `next` floats apart. */
#define OUTPUT_PRODUCT(name, vectors, how)                                                               \
    __attribute__((noinline)) static void name##_##vectors(const float *v, int64_t next, const float *p, \
                                                           int64_t depth, float *o, int64_t tiles)       \
    {                                                                                                    \
        for (; tiles > 0; tiles--, v += next, o += ROWS * vectors * LANES)                               \
            multiply(ROWS, vectors, (steps){1, ROWS, vectors * LANES, vectors * LANES}, v, p, depth, o,  \
                     how);                                                                               \
    }
#define PANEL_PRODUCTS(vectors)                                                                           \
    __attribute__((noinline)) static void scores_##vectors(const float *k, const float *q, int64_t depth, \
                                                           float *s, int64_t tiles)                       \
    {                                                                                                     \
        for (; tiles > 0; tiles--, k += depth * ROWS, s += ROWS * vectors * LANES)                        \
            multiply(ROWS, vectors, (steps){1, ROWS, vectors * LANES, vectors * LANES}, k, q, depth, s,   \
                     FRESH);                                                                              \
    }                                                                                                     \
    OUTPUT_PRODUCT(output, vectors, ADDED)                                                                \
    OUTPUT_PRODUCT(extend, vectors, GOING_ON)

/* One vector wide, and only for lanes that see the key: key is that of depth 0, a lane sees [begin, end).
   What a lane does not see reaches it in no way, not even as a NaN. */
ALWAYS_INLINE void multiply_seen(steps at, const float *a, const float *b, int64_t depth, float *c,
                                 int32_t key, vi begin, vi end)
{
    vf sum[ROWS];
    UNROLL_FOR (8, int r = 0; r < ROWS; r++) sum[r] = load(c + r * at.c_row);
    for (int64_t k = 0; k < depth; k++) {
        vi j = splat_int(key + (int32_t)k), seen = (begin <= j) & (j < end);
        vf column = load(b);
        UNROLL_FOR (8, int r = 0; r < ROWS; r++)
            sum[r] = choose(seen, multiply_into(sum[r], splat(a[r * at.a_row]), column), sum[r]);
        a += at.a_depth, b += at.b_depth;
    }
    UNROLL_FOR (8, int r = 0; r < ROWS; r++) store(c + r * at.c_row, sum[r]);
}

/* One vector wide, and not for weights that are 0: what a lane does not see reaches it in no way. */
ALWAYS_INLINE void multiply_weighed(steps at, const float *a, const float *b, int64_t depth, float *c)
{
    vf sum[ROWS];
    UNROLL_FOR (8, int r = 0; r < ROWS; r++) sum[r] = load(c + r * at.c_row);
    for (int64_t k = 0; k < depth; k++) {
        vf column = load(b);
        vi weighs = column != splat(0);
        UNROLL_FOR (8, int r = 0; r < ROWS; r++)
            sum[r] = choose(weighs, multiply_into(sum[r], splat(a[r * at.a_row]), column), sum[r]);
        a += at.a_depth, b += at.b_depth;
    }
    UNROLL_FOR (8, int r = 0; r < ROWS; r++) store(c + r * at.c_row, sum[r]);
}

#endif
