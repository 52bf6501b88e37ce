/* The keys and queries of each sequence that take part in a run, and the states that it continues and leaves.
   */
#ifndef ATTEND_CORE_PART_H
#define ATTEND_CORE_PART_H

#include "shared/keys.h"

#include <attend/state.h>
#include <stdbool.h>

typedef struct attend_key_part {
    int64_t first, end;     /* keys [first, end) */
    attend_key_layout keys; /* where they lie in k and v */
    int64_t first_query,
        end_query; /* queries [first_query, end_query); q, out, lse and states begin at first_query */
    attend_state from, into; /* resolved; absent: data of all three is NULL */
} attend_key_part;

/* All keys and queries of a resolved problem, and nothing carried. */
static inline attend_key_part attend_all_keys(const attend_problem *problem)
{
    return (attend_key_part){.end = problem->seqlen_k, .end_query = problem->seqlen_q};
}

#endif
