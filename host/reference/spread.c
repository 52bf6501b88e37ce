/* Parallel loops of the reference. Threads live as long as the loop: they survive a fork, and their cost is
   small beside the work. */
#include "reference/reference.h"
#include "core/pool.h"

#include <stdlib.h>

static const double worth = 200000; /* ns of work for each thread, so that starting it costs little */

typedef struct spread {
    attend_reference_body *body;
    void *job;
    double *memory;
    int64_t doubles;
} spread;

static void run(void *job, int64_t index, int thread)
{
    const spread *s = job;
    s->body(s->job, index, thread, s->memory + thread * s->doubles);
}

bool attend_reference_spread(int threads, int64_t count, double nanoseconds, int64_t doubles,
                             attend_reference_body *body, void *job)
{
    attend_pool *pool = NULL;
    spread s = {.body = body, .job = job, .doubles = doubles};
    if (nanoseconds < worth * threads) threads = nanoseconds > worth ? (int)(nanoseconds / worth) : 1;
    if (threads > count) threads = count > 1 ? (int)count : 1;
    s.memory = calloc((size_t)threads, (size_t)(doubles + 1) * sizeof(double));
    const bool complete = s.memory && attend_pool_create(threads, &pool) == ATTEND_OK;
    if (complete) attend_pool_run(pool, count, nanoseconds, run, &s);
    attend_pool_destroy(pool);
    free(s.memory);
    return complete;
}
