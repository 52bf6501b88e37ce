/* A context's threads: the caller's own and helpers, which sleep between loops. Results never depend on how
   many helpers join a loop: threads take indices one after the other, and the caller does all that are
   left. */
#ifndef ATTEND_CORE_POOL_H
#define ATTEND_CORE_POOL_H

#include "core/status.h"

typedef struct attend_pool attend_pool;

/* Processors that the calling thread may run on, at least 1. */
int attend_processors(void);

/* Starts threads - 1 helpers. OUT_OF_MEMORY if the system refuses one. */
attend_status attend_pool_create(int threads, attend_pool **pool);
void attend_pool_destroy(attend_pool *pool);

/* The number of threads, including the caller's. */
int attend_pool_threads(const attend_pool *pool);

/* The number of threads that are worth using for work of this length on one thread; from 1 to all. */
int attend_pool_worth(const attend_pool *pool, double nanoseconds);

/* Calls body(job, i, thread) for every i in [0, count), in any order, and returns when all are done. thread
   is from 0 (the caller, who takes part) to threads - 1; no two concurrent calls have the same. nanoseconds:
   about how long one thread would take. Allocates nothing. */
typedef void attend_pool_body(void *job, int64_t index, int thread);
void attend_pool_run(attend_pool *pool, int64_t count, double nanoseconds, attend_pool_body *body, void *job);

#endif
