/* How far a run is, over all of its stages, told to the callback of its context. Every context has a watch;
   where nobody looks, progress is NULL and nothing here costs anything. */
#ifndef ATTEND_CORE_WATCH_H
#define ATTEND_CORE_WATCH_H

#include "core/status.h"

/* What a run will do, in flops: it says which part of the whole a stage is. */
typedef struct attend_work {
    double projections[4]; /* of a layer: Q, K, V, output */
    double attention;      /* or, of an inspection, looking */
    int rounds;            /* of all that; 0: one */
} attend_work;

typedef struct attend_watch {
    attend_progress *progress;
    void *user;
    attend_work work;            /* of the run */
    double total, before, stage; /* flops of the run, of stages that are over, of the stage at work */
    int64_t done, units;         /* of the stage */
    int64_t told;                /* of ATTEND_WATCH_TOTAL */
    bool cancelled;
} attend_watch;

enum { ATTEND_WATCH_TOTAL = 1 << 30 }; /* what a callback sees as `total` */

/* Begins a run, and tells so. */
attend_status attend_watch_begin(attend_watch *watch, const attend_work *work);
/* Begins a stage of so many units, by the calling thread. */
void attend_watch_stage(attend_watch *watch, double work, int64_t units);
/* So many more units are done, on any thread; `tells` only on the one that called the library. */
void attend_watch_count(attend_watch *watch, int64_t units, bool tells);
/* CANCELLED once the callback has asked to stop. */
attend_status attend_watch_status(const attend_watch *watch);
/* All is done. */
void attend_watch_end(attend_watch *watch);

static inline bool attend_watch_goes_on(const attend_watch *watch)
{
    return !watch->progress || !__atomic_load_n(&watch->cancelled, __ATOMIC_RELAXED);
}

#endif
