/* See caches.h. */
#include "support/caches.h"
#include "support/guard.h"
#include "shared/splitmix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

void *(*test_cache_reserve)(size_t) = test_guarded_begin; /* an entry before the first page's is read where pages are counted down */
void (*test_cache_release)(void *) = test_guarded_begin_free;

/* A view of one of the two pools. */
static attend_tensor pool(unsigned char *memory, attend_dtype dtype, const int64_t shape[4], test_pools pools, int64_t before, int64_t entry)
{
    const int64_t n = shape[1], h = shape[2], d = shape[3];
    attend_tensor t = attend_tensor_4d(memory + (size_t)before * attend_dtype_bytes(dtype), dtype, shape[0], n, h, d);
    if (pools == POOLS_HEADS_FIRST) t.stride[1] = d, t.stride[2] = n * d;
    t.stride[0] = entry;
    return t;
}

static void fill_table(test_cache *c, const attend_problem *p, const int64_t *seqlens_k, int64_t page_size, int64_t columns, bool shared, uint64_t seed)
{
    /* With every other seed the first page is nobody's, so that reading it for a key without a page gives NaN. */
    const int64_t first = seed % 2 == 0, count = c->pages - first;
    int32_t *order = malloc((size_t)count * sizeof *order);
    for (int64_t i = 0; i < count; i++) order[i] = (int32_t)(first + i);
    for (int64_t i = count - 1; i > 0; i--) {
        const int64_t other = (int64_t)(attend_mix(seed + (uint64_t)i) % (uint64_t)(i + 1));
        const int32_t swap = order[i];
        order[i] = order[other], order[other] = swap;
    }
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t n = 0; n < columns; n++) {
            const bool behind = n * page_size >= (seqlens_k ? seqlens_k[b] : p->seqlen_k);
            c->table[b * columns + n] = behind ? (n % 2 ? INT32_MIN : INT32_MAX) : order[(shared ? 0 : b * columns) + n];
        }
    free(order);
}

test_cache test_cache_make(const attend_problem *p, const int64_t *seqlens_k, int64_t page_size, test_pools pools, bool shared, uint64_t seed)
{
    test_cache c = {0};
    const int64_t rows = page_size ? page_size : p->seqlen_k + 5, columns = page_size ? (p->seqlen_k + page_size - 1) / page_size + 1 : 0;
    c.pages = page_size ? p->batch * columns + 3 : p->batch;
    const int64_t k_entry = rows * p->num_kv_heads * p->head_dim, v_entry = rows * p->num_kv_heads * p->head_dim_v;
    const bool together = pools == POOLS_INTERLEAVED;
    const size_t bytes = (size_t)(c.pages * (k_entry + v_entry)) * attend_dtype_bytes(p->dtype);
    c.memory = test_cache_reserve(bytes);
    assert_non_null(c.memory);
    memset(c.memory, 0xff, bytes);
    c.cache.k = pool(c.memory, p->dtype, (int64_t[]){c.pages, rows, p->num_kv_heads, p->head_dim}, pools, 0, together ? k_entry + v_entry : k_entry);
    c.cache.v = pool(c.memory, p->dtype, (int64_t[]){c.pages, rows, p->num_kv_heads, p->head_dim_v}, pools,
                     together ? k_entry : c.pages * k_entry, together ? k_entry + v_entry : v_entry);
    if (!page_size) return c;
    c.table = test_cache_reserve((size_t)(p->batch * columns + 1) * sizeof *c.table);
    fill_table(&c, p, seqlens_k, page_size, columns, shared, seed);
    c.cache.block_table = attend_tensor_2d(c.table, ATTEND_I32, p->batch, columns);
    return c;
}

void test_cache_free(test_cache *c)
{
    test_cache_release(c->memory);
    if (c->table) test_cache_release(c->table);
}

char *test_cache_row(const test_cache *c, int which, int64_t b, int64_t key, int64_t head)
{
    const attend_tensor *t = which ? &c->cache.v : &c->cache.k, *table = &c->cache.block_table;
    const int64_t size = t->shape[1], entry = c->table ? c->table[b * table->stride[0] + key / size * table->stride[1]] : b;
    return (char *)t->data +
           (entry * t->stride[0] + (c->table ? key % size : key) * t->stride[1] + head * t->stride[2]) * (int64_t)attend_dtype_bytes(t->dtype);
}

test_cache test_cache_of(const test_fixture *f, int64_t page_size, test_pools pools, uint64_t seed)
{
    const attend_problem *p = &f->problem;
    test_cache c = test_cache_make(p, f->features.seqlens_k, page_size, pools, page_size && f->c.layout == LAYOUT_BROADCAST, seed);
    for (int which = 0; which < 2; which++) {
        const attend_tensor *t = which ? &f->v.tensor : &f->k.tensor;
        const size_t element = attend_dtype_bytes(t->dtype);
        for (int64_t b = 0; b < p->batch; b++)
            for (int64_t j = 0; j < (f->features.seqlens_k ? f->features.seqlens_k[b] : p->seqlen_k); j++)
                for (int64_t h = 0; h < p->num_kv_heads; h++)
                    memcpy(test_cache_row(&c, which, b, j, h),
                           (const char *)t->data + (size_t)(b * t->stride[0] + j * t->stride[1] + h * t->stride[2]) * element,
                           (size_t)t->shape[3] * element);
    }
    return c;
}
