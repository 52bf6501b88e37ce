/* The interface between the two parts of inspection on the CPU: inspect.c, which distributes rows and writes
   results, and inspect_kernel.c, the loops over scores, compiled once per instruction set. Rows of one query
   head are the lanes, as in kernel.c. */
#ifndef ATTEND_CPU_INSPECT_H
#define ATTEND_CPU_INSPECT_H

#include "core/inspect.h"
#include "cpu/task.h"

enum { ATTEND_CPU_INSPECT_ROWS = 48 }; /* rows of a state: at most 3 vectors of 16 */

/* Rows of one query head, and their sums so far. Scores and LSE are in units of log2. */
typedef struct attend_cpu_inspect_state {
    int64_t first_row, rows;
    int vectors;
    /* visible intervals: of each row; of keys that some row sees; of keys that all rows see */
    int64_t begin[ATTEND_CPU_INSPECT_ROWS], end[ATTEND_CPU_INSPECT_ROWS], low, high, all_low, all_high;
    float *q; /* [head_dim][vectors·lanes], scaled */
    /* of the first pass: the running max, Σ 2^(score - max) */
    float max[ATTEND_CPU_INSPECT_ROWS], sum[ATTEND_CPU_INSPECT_ROWS];
    float lse[ATTEND_CPU_INSPECT_ROWS]; /* for the second pass: weights are 2^(score - lse) */
    float weight[ATTEND_CPU_INSPECT_ROWS], entropy[ATTEND_CPU_INSPECT_ROWS],
        distance[ATTEND_CPU_INSPECT_ROWS];
    float mass[ATTEND_MAX_KEY_WINDOWS][ATTEND_CPU_INSPECT_ROWS];
    /* sums of weights, [columns of the map][vectors·lanes]; NULL: not requested */
    float *map;
    float *weights[ATTEND_CPU_INSPECT_ROWS];  /* [seqlen_k], all weights of the row; NULL: not requested */
    float least_top[ATTEND_CPU_INSPECT_ROWS]; /* scores above it are listed; infinity: no list requested */
    int64_t listed[ATTEND_CPU_INSPECT_ROWS];
    float *top_scores; /* [ATTEND_CPU_INSPECT_ROWS][top], largest first */
    int64_t *top_keys;
} attend_cpu_inspect_state;

typedef struct attend_cpu_inspector {
    int64_t lanes, vectors;
    /* Fills q. The task has one query head (group 1); its first_row is unused. */
    void (*load_queries)(const attend_cpu_task *task, attend_cpu_inspect_state *state);
    /* Packs ATTEND_CPU_BLOCK keys from `first` on for the two passes, into [ATTEND_CPU_BLOCK·head_dim]
       floats. */
    void (*load_keys)(const attend_cpu_task *task, int64_t first, float *keys);
    /* The first and the second pass over those keys. scores: scratch of
       [ATTEND_CPU_BLOCK·ATTEND_CPU_INSPECT_ROWS] floats. */
    void (*sum)(const attend_cpu_task *task, int64_t first, const float *keys, float *scores,
                attend_cpu_inspect_state *state);
    void (*collect)(const attend_cpu_task *task, const attend_inspect_request *request, int64_t first,
                    const float *keys, float *scores, attend_cpu_inspect_state *state);
} attend_cpu_inspector;

extern const attend_cpu_inspector attend_cpu_inspector_avx512, attend_cpu_inspector_avx2,
    attend_cpu_inspector_neon, attend_cpu_inspector_portable;

#endif
