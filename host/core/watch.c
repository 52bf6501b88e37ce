/* Telling how far a run is. The fraction never goes back, though threads that count and the one that tells
   are not in step. */
#include "core/watch.h"

static void tell(attend_watch *w, double part)
{
    const int64_t done = (int64_t)(part * ATTEND_WATCH_TOTAL);
    if (done > w->told) w->told = done < ATTEND_WATCH_TOTAL ? done : ATTEND_WATCH_TOTAL;
    if (!w->progress(w->user, w->told, ATTEND_WATCH_TOTAL))
        __atomic_store_n(&w->cancelled, true, __ATOMIC_RELAXED);
}

attend_status attend_watch_begin(attend_watch *w, const attend_work *work)
{
    if (!w->progress) return ATTEND_OK;
    *w = (attend_watch){.progress = w->progress, .user = w->user, .work = *work, .total = work->attention};
    for (int i = 0; i < 4; i++) w->total += work->projections[i];
    if (work->rounds > 1) w->total *= work->rounds;
    tell(w, 0);
    return attend_watch_status(w);
}

void attend_watch_stage(attend_watch *w, double work, int64_t units)
{
    if (!w->progress) return;
    w->before += w->stage;
    w->stage = work, w->units = units, w->done = 0;
}

void attend_watch_count(attend_watch *w, int64_t units, bool tells)
{
    if (!w->progress) return;
    const int64_t done = __atomic_add_fetch(&w->done, units, __ATOMIC_RELAXED);
    if (!tells || !attend_watch_goes_on(w)) return;
    const double part = w->units > 0 ? (double)done / (double)w->units : 1;
    tell(w, w->total > 0 ? (w->before + w->stage * part) / w->total : 0);
}

attend_status attend_watch_status(const attend_watch *w)
{
    if (attend_watch_goes_on(w)) return ATTEND_OK;
    return attend_fail(ATTEND_CANCELLED, "the progress callback asked to stop after %.3g %% of the run",
                       100.0 * (double)w->told / ATTEND_WATCH_TOTAL);
}

void attend_watch_end(attend_watch *w)
{
    if (w->progress) w->progress(w->user, ATTEND_WATCH_TOTAL, ATTEND_WATCH_TOTAL);
}
