/* A summary of the segment ids of consecutive rows or keys, which tells ranges without a common segment and
   ranges of one segment. Shared by the CPU path and the CUDA kernels. */
#ifndef ATTEND_SHARED_SEGMENT_H
#define ATTEND_SHARED_SEGMENT_H

#include "shared/visibility.h"

/* The range of the ids, and a bit for each remainder modulo 64 that occurs: ids need not be sorted, nor
   documents numbered in order. */
typedef struct attend_ids {
    int32_t least, most;
    uint64_t remainders;
} attend_ids;

enum { attend_id_block = 64 }; /* keys a summary, counted from the tensor's first key */

ATTEND_SHARED int64_t attend_id_blocks(int64_t keys)
{
    return keys / attend_id_block + (keys % attend_id_block != 0);
}

ATTEND_SHARED attend_ids attend_no_ids(void)
{
    attend_ids none = {INT32_MAX, INT32_MIN, 0};
    return none;
}

ATTEND_SHARED void attend_ids_add(attend_ids *ids, int32_t id)
{
    if (id < ids->least) ids->least = id;
    if (id > ids->most) ids->most = id;
    ids->remainders |= (uint64_t)1 << ((uint32_t)id % 64);
}

ATTEND_SHARED void attend_ids_join(attend_ids *ids, const attend_ids *others)
{
    if (others->least < ids->least) ids->least = others->least;
    if (others->most > ids->most) ids->most = others->most;
    ids->remainders |= others->remainders;
}

/* Whether they may have an id in common; false is certain. */
ATTEND_SHARED bool attend_ids_meet(const attend_ids *a, const attend_ids *b)
{
    return a->least <= b->most && b->least <= a->most && (a->remainders & b->remainders) != 0;
}

/* Whether an id may be one of them; false is certain. */
ATTEND_SHARED bool attend_ids_hold(const attend_ids *ids, int32_t id)
{
    return id >= ids->least && id <= ids->most && (ids->remainders >> ((uint32_t)id % 64) & 1) != 0;
}

/* Whether all ids of both are the same. */
ATTEND_SHARED bool attend_ids_same(const attend_ids *a, const attend_ids *b)
{
    return a->least == a->most && b->least == b->most && a->least == b->least;
}

#endif
