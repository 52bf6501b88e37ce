/* The positions of the rows of a problem's tensors. */
#include "shared/positions.h"

attend_row_positions attend_row_positions_of(const attend_problem *p, const attend_lists *lists,
                                             const attend_tensor *positions)
{
    return (attend_row_positions){
        .positions = positions->data,
        .positions_batch = positions->stride[0],
        .positions_row = positions->stride[1],
        .starts = lists->starts_k,
        .cu_seqlens = p->packed ? lists->cu_seqlens_q : NULL,
        .first = p->first_position,
        .sequences = p->batch,
    };
}

attend_row_positions attend_layer_row_positions(const attend_problem *p, const attend_layer_args *args)
{
    const attend_lists lists = {.starts_k = args->starts_k, .cu_seqlens_q = args->cu_seqlens_q};
    return attend_row_positions_of(p, &lists, &args->positions);
}
