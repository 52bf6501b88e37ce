/* Rotary embedding of a caller's own Q and K: arguments resolved, and what backends make of them. */
#ifndef ATTEND_CORE_ROTARY_H
#define ATTEND_CORE_ROTARY_H

#include "shared/turn.h"

#include <attend/rotary.h>

/* Checks a caller's arguments against a resolved problem. Absent tensors have data NULL; q_out and k_out are
   q and k where they are turned in place. Lists and positions are not read. */
attend_status attend_rotary_args_resolve(const attend_problem *problem, const attend_rotary_args *args,
                                         size_t bytes, attend_rotary_args *resolved);

/* The lists that lie on the host. */
attend_status attend_rotary_lists_check(const attend_problem *problem, const attend_rotary_args *args);

attend_turn attend_rotary_turn(const attend_problem *problem, const attend_rotary_args *args);
attend_places attend_rotary_places(const attend_problem *problem, const attend_rotary_args *args);
/* q and k, those that are there: how many. */
int attend_rotary_sides(const attend_rotary_args *args, attend_turning sides[2]);

#endif
