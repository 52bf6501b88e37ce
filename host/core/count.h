/* Counts the visible pairs of query and key of a problem, and the pairs in the tiles that a kernel
   computes. */
#ifndef ATTEND_CORE_COUNT_H
#define ATTEND_CORE_COUNT_H

#include "core/problem.h"
#include "core/progress.h"

/* Tiles of a kernel: rows are queries, or, with `group` above 1, the queries of `group` heads side by
   side. */
typedef struct attend_tiling {
    int64_t rows, keys, group;
} attend_tiling;

typedef struct attend_count {
    double pairs, pairs_computed; /* over all heads and batch entries */
} attend_count;

/* Rows, input width and output width of a layer's four projections: Q, K, V, output. */
void attend_count_projections(const attend_problem *problem, int64_t sizes[4][3]);

/* The problem is resolved; lists are on the host, and each may be NULL. tiling.rows 0: pairs_computed equals
   pairs. */
attend_count attend_count_pairs(const attend_problem *problem, const attend_lists *lists,
                                const attend_tiling *tiling);

/* The work of a run on sequences of full length, for progress: lists are not read, as they may be on the
   device. */
attend_work attend_count_work(const attend_problem *problem, bool is_layer);

#endif
