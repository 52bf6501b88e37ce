/* Gradients on the CPU. A task owns a block of keys of one KV head and walks over its rows, tile after tile:
   so five products do, dK and dV stay with their task, and dQ is a chain over blocks of keys, in whose order
   tasks take turns at a tile. backward.c starts tasks in that order and holds what they share;
   backward_kernel.c, compiled once per instruction set, does the arithmetic. Rows of a KV head are those of
   kernel.h. */
#ifndef ATTEND_CPU_BACKWARD_H
#define ATTEND_CPU_BACKWARD_H

#include "core/backward.h"
#include "core/progress.h"
#include "cpu/elements.h"

#include <math.h>
#include <stdatomic.h>

enum {
    ATTEND_CPU_BACKWARD_ROWS = 48, /* of a tile: whole panels and vectors in every build */
    ATTEND_CPU_BACKWARD_KEYS = ATTEND_CPU_BLOCK
};
_Static_assert((int)ATTEND_CPU_BACKWARD_ROWS <= (int)ATTEND_CPU_TILE_ROWS,
               "one lookup of features does for a tile");

/* What a tile of rows keeps through a run, one after the other, at multiples of 64 bytes. */
typedef struct attend_cpu_backward_tile {
    float *q_rows;    /* panels [head_dim][rows of the micro-kernel], times powers of two */
    float *dout_rows; /* the same of dout, [head_dim_v] deep */
    float *q_columns; /* panels [rows of the tile][rows of the micro-kernel] of columns, times the scale */
    float *dout_columns;
    float *dq; /* [rows][columns rounded up to vectors], without the scale */
    /* Of each row: scores times unit, less lse2 and what its rounding lost, are exponents of two; Σ p·dP -
       dlse. */
    float *unit, *lse2, *lse2_rest, *delta;
    float *sum;    /* of a row's weights; 1 where its LSE is near */
    float *finite; /* one: whether q and dout are */
} attend_cpu_backward_tile;

/* Whether an LSE is too far from 0 for weights by its fp32: their sum is taken, and divides them. */
static inline bool attend_cpu_lse_is_far(float lse) { return isfinite(lse) && fabsf(lse) >= 0x1p10f; }

/* How far others are with a tile: they have passed so many. */
typedef _Atomic int64_t attend_cpu_passed;

/* One block of keys of one KV head, or for rows() one tile of its rows. */
typedef struct attend_cpu_backward_task {
    attend_cpu_task head; /* the KV head: all its rows; no packed keys */
    const attend_gradients *gradients;
    attend_cpu_rows k, v, dout, out, dq, dk,
        dv;            /* from the head's first row or key; data NULL: absent. out: f32 */
    const float *dlse; /* strides as the lse's of head, of its own */
    int64_t dlse_stride, dlse_head_stride;
    bool ends_in_order; /* not before the block before it */
    bool begins_bias;   /* each element of the bias's gradient is one task's alone, and not there yet */
    int64_t batch;      /* among features */
    float *tiles;       /* of the head */
    int64_t tile;       /* rows() */
    int64_t first_key;  /* run() */
    attend_cpu_passed *passed; /* what this task has passed */
    const attend_cpu_passed *before,
        *before_shared; /* whom to wait for: NULL, nobody. shared: at elements of a
                                                        bias that heads or batch entries add to together */
    double *sums;       /* [group][attend_cpu_backward_sums()]: what the block adds to what features bring */
    float *scratch;
    attend_progress_tracker *tracker;
} attend_cpu_backward_task;

/* Sums over all pairs of a head: of a bias that varies along neither queries nor keys, of the slope, of
   buckets. */
static inline int64_t attend_cpu_backward_sums(const attend_problem *p) { return 2 + p->relative_buckets; }

static inline int64_t attend_cpu_backward_tiles(int64_t rows)
{
    return (rows + ATTEND_CPU_BACKWARD_ROWS - 1) / ATTEND_CPU_BACKWARD_ROWS;
}
static inline int64_t attend_cpu_backward_blocks(int64_t keys)
{
    return (keys + ATTEND_CPU_BACKWARD_KEYS - 1) / ATTEND_CPU_BACKWARD_KEYS;
}

/* Waits until who is before has passed `tiles` of them. It was started before, so it does. */
void attend_cpu_backward_wait(const attend_cpu_passed *before, int64_t tiles);

typedef struct attend_cpu_backward_kernel {
    int64_t (*tile_floats)(const attend_problem *problem);
    int64_t (*scratch_floats)(const attend_problem *problem);
    /* Makes the tile of the task: packs its rows, takes Σ dout·out where out is there. */
    void (*pack)(const attend_cpu_backward_task *task);
    /* Adds the block's Σ p·dP to the delta of rows, unless out gave it, and Σ p to the sum of far rows. */
    void (*sum_delta)(const attend_cpu_backward_task *task);
    /* Behind that, of a tile: weights of far rows now add up to 1. */
    void (*normalise)(const attend_cpu_backward_task *task);
    /* All gradients of the block; dk and dv leave. */
    void (*run)(const attend_cpu_backward_task *task);
    /* The tile's dq leaves. */
    void (*finish)(const attend_cpu_backward_task *task);
    attend_cpu_backward_tile (*tile_of)(const attend_problem *problem, float *memory);
} attend_cpu_backward_kernel;

extern const attend_cpu_backward_kernel attend_cpu_backward_avx512, attend_cpu_backward_avx2,
    attend_cpu_backward_neon, attend_cpu_backward_portable;

#endif
