/* T5's buckets of relative positions */
#ifndef ATTEND_SHARED_RELATIVE_H
#define ATTEND_SHARED_RELATIVE_H

#include <attend/problem.h>

/* The bucket of a distance (key's position minus query's). The logarithms are fp32, as in the model's own
   code: models are trained with the buckets that these give to distances at a border. */
int32_t attend_relative_bucket(const attend_problem *problem, int64_t distance);

/* The buckets of the distances -relative_max_distance … relative_max_distance, as score.h reads them. */
static inline int64_t attend_relative_distances(const attend_problem *p)
{
    return p->relative_buckets > 0 ? 2 * (int64_t)p->relative_max_distance + 1 : 0;
}
void attend_relative_fill(const attend_problem *problem, int32_t *buckets);

#endif
