/* Streams hold queues of tasks that run as late as the program's synchronisation allows; events are places in those
   queues. A wait runs what it needs and nothing else, in an order drawn from the seed where streams are independent. */
#ifndef SOFTGPU_RUNTIME_STREAM_H
#define SOFTGPU_RUNTIME_STREAM_H

#include "runtime/capture.h"
#include "runtime/task.h"

typedef struct place { /* complete when the stream has finished its number-th entry */
    stream *stream;
    uint64_t number;
} place;

typedef struct entry {
    struct entry *next;
    task *task;
    uint64_t serial; /* in the order of calls, over all streams */
    place *after; /* in other streams */
    int after_count;
    cudaEvent_t event; /* recorded when the entry is done; NULL mostly */
} entry;

struct CUstream_st {
    uint32_t magic;
    stream *next; /* in its context */
    context *context;
    unsigned flags;
    int priority;
    uint64_t id;
    uint64_t queued, finished; /* numbers of entries */
    entry *first, *last;
    bool running, destroyed;
    bool ends_with_kernel;     /* the last that was queued */
    double clock; /* modelled seconds */
    double *ends; /* the clock when each entry was done, by its number; what is beyond `ends_room` is not known */
    uint64_t ends_room;
    uint64_t visited; /* scheduler's mark */
    capture_state capture;
    cudaLaunchAttributeValue attributes[cudaLaunchAttributeMemSyncDomain + 1]; /* cudaStreamSetAttribute keeps them */
};

struct CUevent_st {
    uint32_t magic;
    struct CUevent_st *next; /* all events there ever were: a handle is never reused */
    context *context;
    unsigned flags;
    place at;        /* stream NULL: never recorded, which counts as complete */
    double seconds;  /* the stream's clock there */
    capture *capture; /* recorded in a capturing stream */
    node_list captured;
};

stream *stream_create(context *c, unsigned flags, int priority);
/* The stream that a handle means to the calling thread; NULL and an error where there is none. */
cudaError_t stream_of(cudaStream_t handle, stream **s);
/* Takes a destroyed stream whose work is done out of its context; its handle stays invalid for ever. */
void stream_bury(stream *s);
void streams_forget(context *c); /* at reset: handles become invalid */

/* Appends a task (whose reference passes to the queue), or adds it to the graph that the stream captures. */
cudaError_t stream_append(stream *s, task *t);
/* The same, never captured and with a wait for other places. */
cudaError_t queue_append(stream *s, task *t, const place *after, int after_count, cudaEvent_t event);

/* Entries of all queues since the start, and those that have not run yet. */
uint64_t tasks_queued(void);
uint64_t tasks_pending(void);

/* Run what the host must wait for, the lock held at start and end; the sticky error if the device died of it. */
cudaError_t wait_place(place target);
cudaError_t wait_stream(stream *s);
cudaError_t wait_context(context *c);
/* One step towards a place, for queries: cudaErrorNotReady unless it was complete already. */
cudaError_t query_place(place target);
/* Writes down when the model has a task run, if SOFTGPU_TIMELINE names a file. */
void timeline_note(const stream *s, const task *t, double begin, double end);
void drain_devices(void);
void watch_host_functions(void); /* one was queued: progress.c */
void skip_host_functions(void); /* the process is ending: their data may be gone */

cudaError_t event_of(cudaEvent_t handle);
cudaError_t event_record(cudaEvent_t event, stream *s, unsigned flags);

#endif
