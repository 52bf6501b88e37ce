/* Which task runs when. Nothing runs before some host thread waits; then the tasks that the wait depends on run, and
   only those, one at a time on a device lock of their own, picked at random among those that are ready. */
#include "runtime/stream.h"
#include <stdlib.h>

static bool device_busy, host_functions_skipped;
static uint64_t visit, queued, unfinished;

uint64_t tasks_queued(void) { return queued; }
uint64_t tasks_pending(void) { return unfinished; }

void skip_host_functions(void) { host_functions_skipped = true; }

static bool complete(place p) { return p.stream->finished >= p.number; }

static cudaError_t free_entry(entry *e, cudaError_t status) {
    if (e) {
        task_release(e->task);
        free(e->after);
        free(e);
    }
    return status;
}

static int default_stream_places(stream *s, place *places) {
    context *c = s->context;
    int count = 0;
    if (s->flags & cudaStreamNonBlocking) return 0;
    if (s != c->legacy) {
        places[0] = (place){c->legacy, c->legacy->queued};
        return !complete(places[0]);
    }
    for (stream *other = c->streams; other; other = other->next) {
        place p = {other, other->queued};
        if (other == s || (other->flags & cudaStreamNonBlocking) || complete(p)) continue;
        if (places) places[count] = p;
        count++;
    }
    return count;
}

static int places_bound(const stream *s) {
    int count = 1;
    if (s == s->context->legacy)
        for (const stream *other = s->context->streams; other; other = other->next) count++;
    return count;
}

cudaError_t queue_append(stream *s, task *t, const place *after, int after_count, cudaEvent_t event) {
    if (!t) return cudaErrorMemoryAllocation;
    entry *e = calloc(1, sizeof *e);
    if (!e) return task_release(t), cudaErrorMemoryAllocation;
    e->task = t;
    e->event = event;
    e->after = malloc((size_t)(places_bound(s) + after_count) * sizeof *e->after);
    if (!e->after) return free_entry(e, cudaErrorMemoryAllocation);
    e->after_count = default_stream_places(s, e->after);
    for (int i = 0; i < after_count; i++) e->after[e->after_count++] = after[i];
    if (s->last) s->last->next = e;
    else s->first = e;
    s->last = e;
    s->queued++;
    e->serial = ++queued;
    unfinished++;
    s->ends_with_kernel = t->kind == TASK_KERNEL;
    if (task_calls_host(t)) watch_host_functions();
    return cudaSuccess;
}

typedef struct candidates {
    stream *chosen;
    uint64_t count;
    bool others_running; /* some other thread runs what we need */
} candidates;

/* Collects the streams whose first entry is ready and needed for the place; keeps one of them, each equally likely. */
static void look(stream *s, candidates *found) {
    if (s->visited == visit) return;
    s->visited = visit;
    if (s->running) {
        found->others_running = true;
        return;
    }
    bool ready = true;
    for (int i = 0; i < s->first->after_count; i++) {
        place p = s->first->after[i];
        if (complete(p)) continue;
        ready = false;
        look(p.stream, found);
    }
    if (ready && random_below(++found->count) == 0) found->chosen = s;
}

/* A stream may have gone on since a place that another waits for. */
static double clock_at(place p) { return p.number < p.stream->ends_room ? p.stream->ends[p.number] : p.stream->clock; }

static void note_end(stream *s, uint64_t number) {
    if (number >= s->ends_room) {
        const uint64_t room = 2 * number + 64;
        double *ends = realloc(s->ends, room * sizeof *ends);
        if (!ends) return;
        s->ends = ends, s->ends_room = room;
    }
    s->ends[number] = s->clock;
}

static void finish_entry(stream *s, entry *e) {
    note_end(s, s->finished + 1);
    if (e->event && e->event->at.stream == s && e->event->at.number == s->finished + 1) e->event->seconds = s->clock;
    s->first = e->next;
    if (!s->first) s->last = NULL;
    s->finished++;
    if (--unfinished == 0) sg_watch_forget();
    free_entry(e, cudaSuccess);
    stream_bury(s);
}

static void run_first(stream *s) {
    entry *e = s->first;
    context *c = s->context;
    bool on_host = e->task->kind == TASK_HOST;
    s->running = true;
    while (!on_host && device_busy) pthread_cond_wait(&runtime_progress, &runtime_lock);
    if (!on_host) device_busy = true;
    for (int i = 0; i < e->after_count; i++)
        if (clock_at(e->after[i]) > s->clock) s->clock = clock_at(e->after[i]);
    cudaError_t status = cudaSuccess;
    const double begin = s->clock;
    bool callback = on_host && e->task->host.callback;
    bool skipped = device_lost() != cudaSuccess || (on_host && host_functions_skipped) ||
                   (c->sticky != cudaSuccess && !callback);
    if (!skipped) {
        if (!on_host) sg_watch_run(e->serial);
        pthread_mutex_unlock(&runtime_lock);
        status = task_run(e->task, c, &s->clock);
        pthread_mutex_lock(&runtime_lock);
    }
    if (!skipped) timeline_note(s, e->task, begin, s->clock);
    if (status != cudaSuccess) fail_context(c, status);
    if (!on_host) device_busy = false;
    s->running = false;
    finish_entry(s, e);
    pthread_cond_broadcast(&runtime_progress);
}

/* One task towards the places; false once all are complete. */
static bool step(const place *targets, int count) {
    candidates found = {0};
    bool pending = false;
    visit++;
    for (int i = 0; i < count; i++) {
        if (complete(targets[i])) continue;
        pending = true;
        look(targets[i].stream, &found);
    }
    if (found.chosen) run_first(found.chosen);
    else if (pending) pthread_cond_wait(&runtime_progress, &runtime_lock);
    return pending;
}

static cudaError_t standing_error(const context *c) {
    return device_lost() != cudaSuccess ? device_lost() : c->sticky;
}

cudaError_t wait_place(place target) {
    while (step(&target, 1)) {}
    return standing_error(target.stream->context);
}

cudaError_t wait_stream(stream *s) {
    return wait_place((place){s, s->queued});
}

cudaError_t wait_context(context *c) {
    int count = 0, i = 0;
    for (stream *s = c->streams; s; s = s->next) count++;
    place *targets = malloc((size_t)(count + 1) * sizeof *targets);
    if (!targets) return cudaErrorMemoryAllocation;
    for (stream *s = c->streams; s; s = s->next) targets[i++] = (place){s, s->queued};
    while (step(targets, count)) {}
    free(targets);
    return standing_error(c);
}

cudaError_t query_place(place target) {
    if (complete(target)) return standing_error(target.stream->context);
    step(&target, 1);
    return cudaErrorNotReady;
}
