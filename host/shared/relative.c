/* T5's buckets (Raffel et al., arXiv:1910.10683): small distances have one bucket each, large ones share
   buckets logarithmically. */
#include "shared/relative.h"

#include <math.h>

int32_t attend_relative_bucket(const attend_problem *p, int64_t distance)
{
    int buckets = p->relative_buckets, first = 0;
    if (p->relative_bidirectional) {
        buckets /= 2;
        if (distance > 0) first = buckets;
        if (distance < 0) distance = -distance;
    } else {
        distance = distance < 0 ? -distance : 0;
    }
    int exact = buckets / 2;
    if (distance < exact) return first + (int32_t)distance;
    float far = logf((float)distance / (float)exact) / (float)log((double)p->relative_max_distance / exact) *
                (float)(buckets - exact);
    int64_t bucket = exact + (int64_t)far;
    return first + (int32_t)(bucket < buckets - 1 ? bucket : buckets - 1);
}

void attend_relative_fill(const attend_problem *p, int32_t *buckets)
{
    int64_t limit = p->relative_max_distance;
    for (int64_t d = -limit; p->relative_buckets > 0 && d <= limit; d++)
        buckets[d + limit] = attend_relative_bucket(p, d);
}
