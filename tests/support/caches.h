/* A fixture's keys in a cache: the same values, in pages or in one piece with room. */
#ifndef ATTEND_TEST_SUPPORT_CACHES_H
#define ATTEND_TEST_SUPPORT_CACHES_H

#include "support/fixture.h"

typedef enum test_pools {
    POOLS_APART,       /* [pages, page_size, heads, dim] each */
    POOLS_HEADS_FIRST, /* [pages, heads, page_size, dim] each */
    POOLS_INTERLEAVED, /* page by page, K before V */
    POOLS
} test_pools;

/* Where pools and tables are: on the host's heap, unless a test chooses memory that a device reads in place. */
extern void *(*test_cache_reserve)(size_t bytes);
extern void (*test_cache_release)(void *memory);

#ifdef ATTEND_TEST_MANAGED /* a CUDA context takes caches on the device alone */
#include <cuda_runtime_api.h>
static inline void *test_cache_reserve_managed(size_t bytes)
{
    void *memory;
    return cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal) ? NULL : memory;
}
static inline void test_cache_release_managed(void *memory) { cudaFree(memory); }
#define TEST_CACHES_IN_PLACE() (test_cache_reserve = test_cache_reserve_managed, test_cache_release = test_cache_release_managed)
#else
#define TEST_CACHES_IN_PLACE() ((void)0)
#endif

typedef struct test_cache {
    attend_cache cache;
    unsigned char *memory;
    int32_t *table;
    int64_t pages; /* some of nobody */
} test_cache;

/* A pool of pages in one allocation, every byte 0xff, and a table in which each sequence has pages of its own
   in any order; with `shared`, sequences have the same pages. Entries behind the lengths are no pages.
   page_size 0: one piece, with more capacity than seqlen_k. */
test_cache test_cache_make(const attend_problem *problem, const int64_t *seqlens_k, int64_t page_size, test_pools pools,
                           bool shared, uint64_t seed);
void test_cache_free(test_cache *cache);

/* The address of a key's row of one head in the cache's K (0) or V (1). */
char *test_cache_row(const test_cache *cache, int which, int64_t b, int64_t key, int64_t head);

/* The same with a copy of a fixture's keys. */
test_cache test_cache_of(const test_fixture *fixture, int64_t page_size, test_pools pools, uint64_t seed);

#endif
