/* The memory of a task: a tile of rows, which all tasks of a KV head read, and a block of keys, which one
   task owns. */
#ifndef ATTEND_CPU_BACKWARD_KERNEL_BLOCK_H
#define ATTEND_CPU_BACKWARD_KERNEL_BLOCK_H

#include "cpu/backward.h"
#include "cpu/kernel_multiply.h"
#include "cpu/kernel_pack.h"

enum { TILE = ATTEND_CPU_BACKWARD_ROWS, BLOCK = ATTEND_CPU_BACKWARD_KEYS, MAX_PANELS = BLOCK / LANES };

static int64_t rounded(int64_t n, int64_t to) { return attend_cpu_round_up(n, to); }

static int64_t tile_floats(const attend_problem *p)
{
    const int64_t d = p->head_dim, dv = p->head_dim_v;
    return rounded(TILE * (d + rounded(d, ROWS) + rounded(d, LANES) + dv + rounded(dv, ROWS) + 5) + 1, 16);
}

static attend_cpu_backward_tile tile_of(const attend_problem *p, float *memory)
{
    const int64_t d = p->head_dim, dv = p->head_dim_v;
    attend_cpu_backward_tile t;
    t.q_rows = memory, t.dout_rows = t.q_rows + TILE * d, t.q_columns = t.dout_rows + TILE * dv;
    t.dout_columns = t.q_columns + TILE * rounded(d, ROWS), t.dq = t.dout_columns + TILE * rounded(dv, ROWS);
    t.unit = t.dq + TILE * rounded(d, LANES), t.lse2 = t.unit + TILE, t.lse2_rest = t.lse2 + TILE;
    t.delta = t.lse2_rest + TILE;
    t.sum = t.delta + TILE;
    t.finite = t.sum + TILE;
    return t;
}

/* Keys of the block side by side. */
typedef struct key_panel {
    int64_t first, step; /* its first key within the block; lanes */
    int vectors;
    /* Rows of the tile at work that see any of it, whole panels of rows; whole: all of them see all lanes. */
    int64_t low, high;
    bool whole;
} key_panel;

typedef struct block {
    const attend_cpu_backward_task *task;
    const attend_problem *p;
    int64_t d, dv, keys; /* keys that are there */
    int panels;
    key_panel panel[MAX_PANELS];
    bool finite; /* K */
    /* panels [head dim][lanes] of K, V and of their gradients, [columns rounded to ROWS][lanes] */
    float *k, *v, *dk, *dv_sum;
    float *k_columns; /* panels [BLOCK][columns] of up to VECTORS vectors */
    float *ds;        /* panels [TILE][lanes]: S, then dS */
    float *weights;   /* [TILE][WIDTH]: dP, then P, of one panel */
    float *slopes;    /* the same, of softcaps */
    double *key_bias; /* [group][BLOCK]: the gradient of a bias that does not vary along queries */
    attend_cpu_element_rows *elements;
    int32_t begin[TILE], end[TILE]; /* keys of the block that each row of the tile sees */
} block;

static int64_t scratch_floats(const attend_problem *p)
{
    const int64_t d = p->head_dim, dv = p->head_dim_v, group = p->num_heads / p->num_kv_heads;
    int64_t floats = BLOCK * (d + dv + rounded(d, ROWS) + rounded(dv, ROWS) + rounded(d, LANES) + TILE) +
                     2 * TILE * WIDTH + 16 * LANES;
    if (attend_is_elementwise(p)) floats += (int64_t)(sizeof(attend_cpu_element_rows) / sizeof(float));
    if (p->bias_axes) floats += 2 * group * BLOCK;
    return rounded(floats, 16);
}

/* Three or two vectors wide: one alone would not hide the latency of the multiply-adds. */
static int vectors_at(int64_t left)
{
    return left > VECTORS && left % VECTORS == 1 ? 2 : (int)least(left, VECTORS);
}

static block block_of(const attend_cpu_backward_task *task)
{
    const attend_problem *p = task->head.problem;
    block b = {.task = task, .p = p, .d = p->head_dim, .dv = p->head_dim_v};
    b.keys = least(BLOCK, task->head.sequence.seqlen_k - task->first_key);
    int64_t left = b.keys > 0 ? (b.keys + LANES - 1) / LANES : 0;
    for (int64_t first = 0; left > 0;) {
        key_panel *panel = &b.panel[b.panels++];
        *panel = (key_panel){.first = first, .vectors = vectors_at(left)};
        panel->step = panel->vectors * LANES;
        first += panel->step, left -= panel->vectors;
    }
    float *memory = task->scratch;
    if (attend_is_elementwise(p))
        b.elements = (attend_cpu_element_rows *)memory,
        memory += sizeof(attend_cpu_element_rows) / sizeof(float);
    b.k = memory, b.v = b.k + BLOCK * b.d, b.dk = b.v + BLOCK * b.dv;
    b.dv_sum = b.dk + BLOCK * rounded(b.d, ROWS), b.k_columns = b.dv_sum + BLOCK * rounded(b.dv, ROWS);
    b.ds = b.k_columns + BLOCK * rounded(b.d, LANES), b.weights = b.ds + BLOCK * TILE;
    b.slopes = b.weights + TILE * WIDTH;
    b.key_bias = (double *)(b.slopes + TILE * WIDTH);
    return b;
}

#endif
