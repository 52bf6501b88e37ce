/* The positions of the rows of a problem's tensors. */
#include "shared/positions.h"

#include <attend/cache.h>

attend_row_positions attend_row_positions_of(const attend_problem *p, const attend_feature_args *features,
                                             const attend_cache *cache)
{
    return (attend_row_positions){
        .positions = features->positions.data,
        .positions_batch = features->positions.stride[0],
        .positions_row = features->positions.stride[1],
        .firsts = cache ? cache->seqlens : NULL,
        .starts = features->starts_k,
        .lengths = cache ? features->seqlens_q : NULL,
        .cu_seqlens = p->packed ? features->cu_seqlens_q : NULL,
        .first = p->first_position,
        .sequences = p->batch,
    };
}
