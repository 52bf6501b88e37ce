/* Progress of a run over all of its stages, reported to the context's callback. Every context has a tracker;
   without a callback `progress` is NULL, and these functions do nothing. */
#ifndef ATTEND_CORE_PROGRESS_H
#define ATTEND_CORE_PROGRESS_H

#include "core/status.h"

/* The work of a run in FLOPs, from which the share of each stage follows. */
typedef struct attend_work {
    double projections[4]; /* layer: Q, K, V, output */
    double attention;      /* or the inspection */
    int rounds;            /* how often all of that is done; 0: once */
    double more;           /* beside that */
} attend_work;

typedef struct attend_progress_tracker {
    attend_progress *progress;
    void *user;
    attend_work work;            /* of the run */
    double total, before, stage; /* FLOPs: of the run, of finished stages, of the current stage */
    int64_t done, units;         /* of the current stage */
    int64_t reported;            /* of ATTEND_PROGRESS_TOTAL */
    bool cancelled;
} attend_progress_tracker;

enum { ATTEND_PROGRESS_TOTAL = 1 << 30 }; /* the `total` of every callback */

/* Begins a run and reports 0. */
attend_status attend_progress_begin(attend_progress_tracker *tracker, const attend_work *work);
/* Begins a stage of `units` units. Called by the thread that called the library. */
void attend_progress_stage(attend_progress_tracker *tracker, double work, int64_t units);
/* Adds finished units, on any thread. `reports` is true only on the thread that called the library, which
   then calls the callback. */
void attend_progress_count(attend_progress_tracker *tracker, int64_t units, bool reports);
/* CANCELLED after the callback has returned false. */
attend_status attend_progress_status(const attend_progress_tracker *tracker);
/* Reports completion. */
void attend_progress_end(attend_progress_tracker *tracker);

static inline bool attend_progress_continues(const attend_progress_tracker *tracker)
{
    return !tracker->progress || !__atomic_load_n(&tracker->cancelled, __ATOMIC_RELAXED);
}

#endif
