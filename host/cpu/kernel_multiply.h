/* The micro-kernels: C[rows][vectors] = A[depth][rows]·B[depth][vectors], every accumulator in a register,
   one broadcast a row and one multiply-add a row and vector. Each element is one chain of multiply-adds in
   order of depth, whatever the tile around it. */
#ifndef ATTEND_CPU_KERNEL_MULTIPLY_H
#define ATTEND_CPU_KERNEL_MULTIPLY_H

#include "cpu/vector.h"

enum { ROWS = ATTEND_ROWS, VECTORS = ATTEND_VECTORS, WIDTH = LANES * VECTORS };

/* Strides of element (r, k) of A, row k of B and row r of C. */
typedef struct steps {
    int64_t a_row, a_depth, b_depth, c_row;
} steps;

/* `count` steps of depth: 1, 2 or 4. count, rows, vectors and constant steps specialise the code where this
   is inlined. */
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
    if (count == 4 && rows == 4 && vectors == 3 && at.a_depth == 1 && at.b_depth == 3 * LANES) {
        multiply_add_rows_4x3_4(a, at.a_row, b, sum);
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

/* What is stored to C: the chain of products; the chain begun from C; the chain of products plus C. */
typedef enum into { FRESH, CONTINUED, ADDED } into;

/* The first step initialises the accumulators: from C, or by the products alone. */
ALWAYS_INLINE void multiply_first(int rows, int vectors, steps at, const float *a, const float *b,
                                  vf sum[8][8], const float *c, into how)
{
    vf column[8];
    UNROLL_FOR (8, int v = 0; v < vectors; v++) column[v] = load(b + v * LANES);
    UNROLL_FOR (8, int r = 0; r < rows; r++) {
        vf x = splat(a[r * at.a_row]);
        UNROLL_FOR (8, int v = 0; v < vectors; v++) {
            if (how == CONTINUED)
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

/* One tile. Its first step initialises the accumulators: setting them beforehand would leave the multipliers
   idle. Four steps an iteration take 8 % fewer instructions than two, which matters where another program
   uses the other half of the core; up to three more steps complete the depth. */
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

/* The products of a panel `vectors` wide over `tiles` tiles, as separate functions so that their loops get
   all registers: S = K·Qᵀ, over adjacent tiles of K, and O += Vᵀ·P, over tiles of V `next` floats apart. */
#define OUTPUT_PRODUCT(name, vectors)                                                                    \
    __attribute__((noinline)) static void name##_##vectors(const float *v, int64_t next, const float *p, \
                                                           int64_t depth, float *o, int64_t tiles)       \
    {                                                                                                    \
        for (; tiles > 0; tiles--, v += next, o += ROWS * vectors * LANES)                               \
            multiply(ROWS, vectors, (steps){1, ROWS, vectors * LANES, vectors * LANES}, v, p, depth, o,  \
                     ADDED);                                                                             \
    }
#define PANEL_PRODUCTS(vectors)                                                                           \
    __attribute__((noinline)) static void scores_##vectors(const float *k, const float *q, int64_t depth, \
                                                           float *s, int64_t tiles)                       \
    {                                                                                                     \
        for (; tiles > 0; tiles--, k += depth * ROWS, s += ROWS * vectors * LANES)                        \
            multiply(ROWS, vectors, (steps){1, ROWS, vectors * LANES, vectors * LANES}, k, q, depth, s,   \
                     FRESH);                                                                              \
    }                                                                                                     \
    OUTPUT_PRODUCT(output, vectors)

/* C += A·B one vector wide, where keys are masked whose values are not finite: those have no effect on a lane.
   Lanes see keys [begin, end); key is that of depth 0. `anywhere`: they see the keys that have weights. */
ALWAYS_INLINE void multiply_seen(steps at, const float *a, const float *b, int64_t depth, float *c,
                                 int32_t key, vi begin, vi end, bool anywhere)
{
    vf sum[ROWS];
    UNROLL_FOR (8, int r = 0; r < ROWS; r++) sum[r] = splat(0);
    for (int64_t k = 0; k < depth; k++) {
        const vf column = load(b);
        const vi j = splat_int(key + (int32_t)k);
        const vi seen = anywhere ? column != splat(0) : (begin <= j) & (j < end);
        UNROLL_FOR (8, int r = 0; r < ROWS; r++)
            sum[r] = choose(seen, multiply_into(sum[r], splat(a[r * at.a_row]), column), sum[r]);
        a += at.a_depth, b += at.b_depth;
    }
    UNROLL_FOR (8, int r = 0; r < ROWS; r++) store(c + r * at.c_row, load(c + r * at.c_row) + sum[r]);
}

#endif
