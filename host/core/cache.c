/* Keys and values in caches, in one piece or in pages: checked against a resolved problem. */
#include "core/cache.h"
#include "core/problem.h"
#include "core/struct.h"

#include <inttypes.h>

static attend_status check_dtype(const attend_problem *p, const char *name, const attend_tensor *t)
{
    if (t->dtype == p->dtype) return ATTEND_OK;
    return attend_fail(
        ATTEND_UNSUPPORTED,
        "cache.%s is %s, but the problem's dtype is %s: a cache of another dtype is not supported", name,
        attend_dtype_name(t->dtype), attend_dtype_name(p->dtype));
}

attend_status attend_cache_check(const attend_problem *p, const attend_cache *c, int64_t keys)
{
    const bool paged = c->block_table.rank != 0;
    if (c->block_table.data && !paged)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "cache.block_table has rank 0, expected 2");
    ATTEND_TRY(attend_reserved_check("cache", c->reserved, sizeof c->reserved));
    ATTEND_TRY(check_dtype(p, "k", &c->k));
    ATTEND_TRY(check_dtype(p, "v", &c->v));
    if (c->k.rank != 4)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "cache.k has rank %d, expected 4", c->k.rank);
    if (!paged && c->k.shape[1] < keys)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "cache.k holds %" PRId64 " keys a sequence, but seqlen_k is %" PRId64,
                           c->k.shape[1], keys);
    if (!paged) return ATTEND_OK;
    if (c->k.shape[0] < 0 || c->k.shape[0] > INT32_MAX)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "cache.k has %" PRId64 " pages, expected 0 to %d",
                           c->k.shape[0], INT32_MAX);
    if (c->k.shape[1] < 1)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "cache.k has pages of %" PRId64 " keys, expected at least 1", c->k.shape[1]);
    if (c->block_table.rank != 2)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "cache.block_table has rank %d, expected 2",
                           c->block_table.rank);
    if (c->block_table.shape[1] < attend_parts_of(keys, c->k.shape[1]))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "cache.block_table has %" PRId64 " pages a sequence, but seqlen_k (%" PRId64
                           ") takes %" PRId64 " pages of %" PRId64 " keys",
                           c->block_table.shape[1], keys, attend_parts_of(keys, c->k.shape[1]),
                           c->k.shape[1]);
    int64_t capacity;
    if (!attend_multiply(c->block_table.shape[1], c->k.shape[1], &capacity))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "cache.block_table has %" PRId64 " pages of %" PRId64
                           " keys a sequence, more keys than 63 bits can count",
                           c->block_table.shape[1], c->k.shape[1]);
    return ATTEND_OK;
}

int attend_cache_expect(const attend_problem *p, attend_tensor_role role, attend_tensor *k, attend_tensor *v,
                        attend_tensor *table, attend_expected expected[3])
{
    const bool paged = table->rank != 0;
    const int64_t entries = paged ? k->shape[0] : p->batch, rows = k->shape[1]; /* capacity, or page_size */
    expected[0] = (attend_expected){
        "cache.k", k, role, false, p->dtype, 4, {entries, rows, p->num_kv_heads, p->head_dim}};
    expected[1] = (attend_expected){
        "cache.v", v, role, false, p->dtype, 4, {entries, rows, p->num_kv_heads, p->head_dim_v}};
    if (paged)
        expected[2] = (attend_expected){"cache.block_table",        table, ATTEND_INPUT, false, ATTEND_I32, 2,
                                        {p->batch, table->shape[1]}};
    return paged ? 3 : 2;
}

attend_status attend_keys_take(const attend_problem *p, attend_attention_args *r, const attend_key_part *part,
                               attend_tensor *table, attend_expected expected[3])
{
    const int64_t batch = attend_tensor_batch(p), rows = p->packed ? p->total_k : part->end - part->first;
    expected[0] = (attend_expected){
        "k", &r->k, ATTEND_INPUT, false, p->dtype, 4, {batch, rows, p->num_kv_heads, p->head_dim}};
    expected[1] = (attend_expected){
        "v", &r->v, ATTEND_INPUT, false, p->dtype, 4, {batch, rows, p->num_kv_heads, p->head_dim_v}};
    *table = (attend_tensor){0};
    if (!r->cache) return ATTEND_OK;
    const attend_cache *c = r->cache;
    if (r->k.data || r->v.data)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is given beside cache, which has it",
                           r->k.data ? "k" : "v");
    if (p->packed)
        return attend_fail(
            ATTEND_UNSUPPORTED,
            "cache does not go with packed sequences: q as [batch, seqlen_q] with seqlens_q does");
    ATTEND_TRY(attend_cache_check(p, c, p->seqlen_k));
    r->k = c->k, r->v = c->v, *table = c->block_table;
    attend_cache_expect(p, ATTEND_INPUT, &r->k, &r->v, table, expected);
    return ATTEND_OK;
}

attend_key_layout attend_key_layout_of(const attend_tensor *k, const attend_tensor *table)
{
    attend_key_layout l = {0};
    if (!table->rank) return l;
    l.table = table->data, l.table_batch = table->stride[0], l.table_page = table->stride[1];
    l.pages = k->shape[0], l.page_size = k->shape[1], l.shift = -1;
    for (int64_t n = 0; n < 63; n++)
        if (l.page_size == (int64_t)1 << n) l.shift = n;
    return l;
}

/* To the part's keys. */
static void narrow(attend_tensor *t, const attend_key_part *part)
{
    t->data = (char *)t->data + part->first * t->stride[1] * (int64_t)attend_dtype_bytes(t->dtype);
    t->shape[1] = part->end - part->first;
}

void attend_keys_locate(attend_attention_args *r, const attend_tensor *table, attend_key_part *part)
{
    if (r->cache && !table->rank) narrow(&r->k, part), narrow(&r->v, part);
    r->cache = NULL;
    part->keys = attend_key_layout_of(&r->k, table);
    if (!table->rank) part->keys.first = part->first;
}

void attend_layer_keys_locate(const attend_cache *cache, attend_attention_args *args, attend_key_part *all)
{
    args->k = cache->k, args->v = cache->v, args->cache = cache;
    attend_keys_locate(args, &cache->block_table, all);
}

attend_status attend_key_layout_check(const attend_problem *p, const int64_t *seqlens_k,
                                      const attend_key_part *part)
{
    const attend_key_layout *l = &part->keys;
    for (int64_t b = 0; l->table && b < p->batch; b++) {
        const int64_t length = attend_length(seqlens_k, b, p->seqlen_k),
                      end = length < part->end ? length : part->end;
        for (int64_t page = attend_page_of(l, part->first); page * l->page_size < end; page++) {
            const int32_t entry = l->table[b * l->table_batch + page * l->table_page];
            if (l->pages == 0)
                return attend_fail(ATTEND_INVALID_ARGUMENT,
                                   "cache.k has no pages, but sequence %" PRId64 " has %" PRId64 " keys", b,
                                   length);
            if (entry < 0 || entry >= l->pages)
                return attend_fail(ATTEND_INVALID_ARGUMENT,
                                   "cache.block_table[%" PRId64 ", %" PRId64 "] is %" PRId32
                                   ", expected 0 to %" PRId64 ": sequence %" PRId64 " has %" PRId64
                                   " keys, and cache.k %" PRId64 " pages",
                                   b, page, entry, l->pages - 1, b, length, l->pages);
        }
    }
    return ATTEND_OK;
}
