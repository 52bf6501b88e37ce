/* Progress of a run. Threads count concurrently with the thread that reports, but the reported fraction never
   decreases. */
#include "core/progress.h"

static void report(attend_progress_tracker *tracker, double part)
{
    const int64_t done = (int64_t)(part * ATTEND_PROGRESS_TOTAL);
    if (done > tracker->reported)
        tracker->reported = done < ATTEND_PROGRESS_TOTAL ? done : ATTEND_PROGRESS_TOTAL;
    if (!tracker->progress(tracker->user, tracker->reported, ATTEND_PROGRESS_TOTAL))
        __atomic_store_n(&tracker->cancelled, true, __ATOMIC_RELAXED);
}

attend_status attend_progress_begin(attend_progress_tracker *tracker, const attend_work *work)
{
    if (!tracker->progress) return ATTEND_OK;
    *tracker = (attend_progress_tracker){
        .progress = tracker->progress, .user = tracker->user, .work = *work, .total = work->attention};
    for (int i = 0; i < 4; i++) tracker->total += work->projections[i];
    if (work->rounds > 1) tracker->total *= work->rounds;
    tracker->total += work->more;
    report(tracker, 0);
    return attend_progress_status(tracker);
}

void attend_progress_stage(attend_progress_tracker *tracker, double work, int64_t units)
{
    if (!tracker->progress) return;
    tracker->before += tracker->stage;
    tracker->stage = work, tracker->units = units, tracker->done = 0;
}

void attend_progress_count(attend_progress_tracker *tracker, int64_t units, bool reports)
{
    if (!tracker->progress) return;
    const int64_t done = __atomic_add_fetch(&tracker->done, units, __ATOMIC_RELAXED);
    if (!reports || !attend_progress_continues(tracker)) return;
    const double part = tracker->units > 0 ? (double)done / (double)tracker->units : 1;
    report(tracker, tracker->total > 0 ? (tracker->before + tracker->stage * part) / tracker->total : 0);
}

attend_status attend_progress_status(const attend_progress_tracker *tracker)
{
    if (attend_progress_continues(tracker)) return ATTEND_OK;
    return attend_fail(ATTEND_CANCELLED, "the progress callback asked to stop after %.3g %% of the run",
                       100.0 * (double)tracker->reported / ATTEND_PROGRESS_TOTAL);
}

void attend_progress_end(attend_progress_tracker *tracker)
{
    if (tracker->progress) tracker->progress(tracker->user, ATTEND_PROGRESS_TOTAL, ATTEND_PROGRESS_TOTAL);
}
