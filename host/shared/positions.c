/* The positions of the rows of a problem's tensors. */
#include "shared/positions.h"

attend_row_positions attend_row_positions_of(const attend_problem *p, const attend_feature_args *features)
{
    return (attend_row_positions){
        .positions = features->positions.data,
        .positions_batch = features->positions.stride[0],
        .positions_row = features->positions.stride[1],
        .starts = features->starts_k,
        .cu_seqlens = p->packed ? features->cu_seqlens_q : NULL,
        .first = p->first_position,
        .sequences = p->batch,
    };
}
