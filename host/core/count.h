/* How much a problem asks for: pairs of queries and keys that are visible, and those that tiles of a kernel
   hold. */
#ifndef ATTEND_CORE_COUNT_H
#define ATTEND_CORE_COUNT_H

#include "core/problem.h"
#include "core/progress.h"

/* Tiles of a kernel: rows are queries, or with `group` above 1 the queries of so many heads side by side. */
typedef struct attend_tiling {
    int64_t rows, keys, group;
} attend_tiling;

typedef struct attend_count {
    double pairs, pairs_computed; /* of all heads and batch entries */
} attend_count;

/* Rows, width of a row and width of the result of a layer's four projections: Q, K, V, output. */
void attend_count_projections(const attend_problem *problem, int64_t sizes[4][3]);

/* A resolved problem; lists on the host, each may be NULL. tiling.rows 0: pairs_computed are the pairs. */
attend_count attend_count_pairs(const attend_problem *problem, const attend_lists *lists,
                                const attend_tiling *tiling);

/* What a run on whole sequences does, for telling how far it is: lists may lie on the device. */
attend_work attend_count_work(const attend_problem *problem, bool is_layer);

#endif
