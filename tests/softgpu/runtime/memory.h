/* Allocations as the API sees them: which call made them, for which device, from which pool. */
#ifndef SOFTGPU_RUNTIME_MEMORY_H
#define SOFTGPU_RUNTIME_MEMORY_H

#include "runtime/state.h"

typedef struct allocation {
    struct allocation *next; /* in its bucket */
    uint64_t address;
    size_t bytes;
    sg_memory_kind kind;
    context *context;
    unsigned flags;  /* of cudaHostAlloc and cudaHostRegister */
    pool *pool;      /* NULL unless it came from one */
    bool in_graph;   /* owned by an allocation node */
} allocation;

/* Retries once all queued frees have run, as the driver does. */
cudaError_t memory_allocate(context *c, sg_memory_kind kind, size_t bytes, const char *origin, void **pointer);
allocation *memory_of(const void *start);   /* NULL if none starts there */
void memory_drop(allocation *a);            /* out of the table; the bytes live on until they are freed */
void memory_forget(uint64_t start);         /* frees at once */
void memory_release_all(context *c);        /* at reset */

pool *pool_create(context *c, uint64_t max_bytes);
void pool_returned(pool *p, int64_t bytes); /* a queued free has run; takes the lock; NULL: none */
void pools_release(context *c);
void pool_give(pool *p, size_t bytes);      /* the same under the lock */
void memory_leave_pool(const pool *p);      /* the pool goes, its allocations stay */

#endif
