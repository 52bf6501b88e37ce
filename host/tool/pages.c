/* Keys and values in pages, in any order: copied from the tensors of a job. */
#include "tool/pages.h"
#include "file/fail.h"
#include "shared/shape.h"
#include "shared/splitmix.h"

#include <inttypes.h>
#include <string.h>

attend_status pages_table(pool *pool, uint64_t seed, int64_t batch, int64_t columns, attend_tensor *table)
{
    int64_t pages;
    if (__builtin_mul_overflow(batch, columns, &pages) || pages > INT32_MAX)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "--page-size makes more pages than a table can number: %" PRId64
                                " a sequence, batch %" PRId64,
                                columns, batch);
    ATTEND_TRY(pool_tensor(pool, "the page table", ATTEND_I32, 2, (int64_t[]){batch, columns}, table));
    int32_t *entries = table->data;
    for (int64_t i = 0; i < pages; i++) { /* Fisher and Yates */
        const int64_t other = (int64_t)(attend_mix(seed + (uint64_t)i) % (uint64_t)(i + 1));
        entries[i] = entries[other], entries[other] = (int32_t)i;
    }
    return ATTEND_OK;
}

static attend_status make_pool(pool *pool, const char *name, const attend_tensor *from, int64_t pages,
                               int64_t page_size, attend_tensor *to)
{
    const int64_t shape[] = {pages, page_size, from->shape[2], from->shape[3]};
    ATTEND_TRY(pool_tensor(pool, name, from->dtype, 4, shape, to));
    memset(to->data, 0xff,
           (size_t)(pages * page_size * shape[2] * shape[3]) * attend_dtype_bytes(from->dtype));
    return ATTEND_OK;
}

/* Both are contiguous. */
static void copy_keys(const attend_tensor *from, const attend_cache *cache, const attend_tensor *to)
{
    const int64_t *n = from->shape, size = to->shape[1], columns = cache->block_table.shape[1];
    const size_t row = (size_t)(n[2] * n[3]) * attend_dtype_bytes(from->dtype);
    for (int64_t b = 0; b < n[0]; b++)
        for (int64_t j = 0; j < n[1]; j += size) {
            const int64_t page = ((const int32_t *)cache->block_table.data)[b * columns + j / size],
                          keys = size < n[1] - j ? size : n[1] - j;
            memcpy((char *)to->data + (size_t)(page * size) * row,
                   (const char *)from->data + (size_t)(b * n[1] + j) * row, (size_t)keys * row);
        }
}

attend_status pages_make(const options *o, job *job)
{
    const attend_tensor *k = &job->attention.k, *v = &job->attention.v;
    const int64_t size = o->page_size, columns = attend_parts_of(k->shape[1], size);
    attend_cache *cache = &job->cache;
    if (job->problem.packed)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--page-size does not go with packed sequences");
    ATTEND_TRY(pages_table(&job->pool, o->seed, k->shape[0], columns, &cache->block_table));
    const int64_t pages = k->shape[0] * columns;
    ATTEND_TRY(make_pool(&job->pool, "the pages of K", k, pages, size, &cache->k));
    ATTEND_TRY(make_pool(&job->pool, "the pages of V", v, pages, size, &cache->v));
    copy_keys(k, cache, &cache->k), copy_keys(v, cache, &cache->v);
    return ATTEND_OK;
}
