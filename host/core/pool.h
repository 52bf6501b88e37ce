/* A context's threads: the caller's own and helpers, which sleep where there is nothing to do. What a loop
   computes never depends on how many of them come: indices are dealt out one after the other, and who calls
   does all that nobody else took. */
#ifndef ATTEND_CORE_POOL_H
#define ATTEND_CORE_POOL_H

#include "core/status.h"

typedef struct attend_pool attend_pool;

/* Processors that the calling thread may run on, at least 1. */
int attend_processors(void);

/* Starts threads - 1 helpers. OUT_OF_MEMORY where the system refuses one. */
attend_status attend_pool_create(int threads, attend_pool **pool);
void attend_pool_destroy(attend_pool *pool);

/* With the caller's. */
int attend_pool_threads(const attend_pool *pool);

/* How many threads so much work keeps busy, as long as waking one of them takes at least; from 1 to all. */
int attend_pool_worth(const attend_pool *pool, double nanoseconds);

/* Calls body(job, i, thread) for every i in [0, count), in any order, and returns when all are done. thread
   is 0 (who calls, who takes part) to threads - 1; no two calls at once have the same. nanoseconds: about how
   long one thread would take. Allocates nothing. */
typedef void attend_pool_body(void *job, int64_t index, int thread);
void attend_pool_run(attend_pool *pool, int64_t count, double nanoseconds, attend_pool_body *body, void *job);

#endif
