/* Rotary embedding of a caller's own Q and K: resolved arguments. */
#ifndef ATTEND_CORE_ROTARY_H
#define ATTEND_CORE_ROTARY_H

#include "shared/rope.h"

#include <attend/rotary.h>

/* Checks a caller's arguments against a resolved problem. Absent tensors have data NULL; q_out and k_out are
   q and k if the call is in place. Lists and positions are not read. */
attend_status attend_rotary_args_resolve(const attend_problem *problem, const attend_rotary_args *args,
                                         size_t bytes, attend_rotary_args *resolved);

/* Checks which lists of lengths new tokens may have; the lists are not read. */
attend_status attend_token_lists_check(const attend_problem *problem, const int64_t *seqlens_q,
                                       const int64_t *cu_seqlens_q);

/* Checks lists that are on the host. */
attend_status attend_rotary_lists_check(const attend_problem *problem, const attend_rotary_args *args);

attend_rope attend_rotary_rope(const attend_problem *problem, const attend_rotary_args *args);
attend_row_positions attend_rotary_row_positions(const attend_problem *problem,
                                                 const attend_rotary_args *args);
/* Fills `tensors` with those of q and k that are given; returns their number. */
int attend_rotary_tensors(const attend_rotary_args *args, attend_rope_tensor tensors[2]);

#endif
