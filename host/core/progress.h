/* How far a run is, over all of its stages, told to the callback of its context. Every context has a watch;
   where nobody looks, progress is NULL and nothing here costs anything. */
#ifndef ATTEND_CORE_PROGRESS_H
#define ATTEND_CORE_PROGRESS_H

#include "core/status.h"

/* What a run will do, in flops: it says which part of the whole a stage is. */
typedef struct attend_work {
    double projections[4]; /* of a layer: Q, K, V, output */
    double attention;      /* or, of an inspection, looking */
    int rounds;            /* of all that; 0: one */
} attend_work;

typedef struct attend_progress_tracker {
    attend_progress *progress;
    void *user;
    attend_work work;            /* of the run */
    double total, before, stage; /* flops of the run, of stages that are over, of the stage at work */
    int64_t done, units;         /* of the stage */
    int64_t reported;            /* of ATTEND_PROGRESS_TOTAL */
    bool cancelled;
} attend_progress_tracker;

enum { ATTEND_PROGRESS_TOTAL = 1 << 30 }; /* what a callback sees as `total` */

/* Begins a run, and tells so. */
attend_status attend_progress_begin(attend_progress_tracker *tracker, const attend_work *work);
/* Begins a stage of so many units, by the calling thread. */
void attend_progress_stage(attend_progress_tracker *tracker, double work, int64_t units);
/* So many more units are done, on any thread; `tells` only on the one that called the library. */
void attend_progress_count(attend_progress_tracker *tracker, int64_t units, bool reports);
/* CANCELLED once the callback has asked to stop. */
attend_status attend_progress_status(const attend_progress_tracker *tracker);
/* All is done. */
void attend_progress_end(attend_progress_tracker *tracker);

static inline bool attend_progress_continues(const attend_progress_tracker *tracker)
{
    return !tracker->progress || !__atomic_load_n(&tracker->cancelled, __ATOMIC_RELAXED);
}

#endif
