/* Appending to a cache: what was given, resolved, and what backends make of it. */
#ifndef ATTEND_CORE_APPEND_H
#define ATTEND_CORE_APPEND_H

#include "shared/append.h"
#include "shared/rope.h"

/* The call as a backend takes it. Lists, positions and the table are not read yet: only a backend knows where
   they lie. */
typedef struct attend_appending {
    attend_rope_tensor k; /* to: the cache's K */
    attend_row_positions rows;
    attend_append append;
} attend_appending;

/* What lies on the host: lengths, and that every new key has a slot. */
attend_status attend_appending_check(const attend_problem *problem, const attend_appending *appending);

#endif
