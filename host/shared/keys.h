/* Where the keys of a sequence lie in k and v: in one piece, or in pages of two pools. Every loader asks
   here. Plain C, also compiled by nvcc. */
#ifndef ATTEND_SHARED_KEYS_H
#define ATTEND_SHARED_KEYS_H

#include "shared/visibility.h"

/* k and v have the same layout, each with strides of its own. */
typedef struct attend_key_layout {
    int64_t first;                   /* in one piece: the key at row 0 of k and v */
    const int32_t *table;            /* [batch, pages of a sequence]; NULL: in one piece */
    int64_t table_batch, table_page; /* strides of the table */
    int64_t pages;                   /* of the pools; an entry outside of [0, pages) is no page */
    int64_t page_size;
    int64_t shift; /* page_size is 1 << shift; -1: it is no power of two */
} attend_key_layout;

/* Indices along the first two axes of k and v. entry -1: the key's page is none. */
typedef struct attend_key_slot {
    int64_t entry, row;
} attend_key_slot;

/* The page of a key, counted within its sequence. */
ATTEND_SHARED int64_t attend_page_of(const attend_key_layout *l, int64_t key)
{
    return l->shift >= 0 ? key >> l->shift : key / l->page_size;
}

/* A key of a sequence whose keys are in pages. */
ATTEND_SHARED attend_key_slot attend_paged_slot(const attend_key_layout *l, const attend_sequence *s,
                                                int64_t key)
{
    const int64_t page = attend_page_of(l, key);
    const int64_t entry = l->table[s->batch * l->table_batch + page * l->table_page];
    const attend_key_slot slot = {entry >= 0 && entry < l->pages ? entry : -1, key - page * l->page_size};
    return slot;
}

ATTEND_SHARED attend_key_slot attend_slot_of(const attend_key_layout *l, const attend_sequence *s,
                                             int64_t key)
{
    const attend_key_slot slot = {s->batch, s->first_k + key - l->first};
    return l->table ? attend_paged_slot(l, s, key) : slot;
}

/* How many of `count` keys from `key` on lie in consecutive rows of one entry; at least 1. */
ATTEND_SHARED int64_t attend_keys_together(const attend_key_layout *l, int64_t key, int64_t count)
{
    if (!l->table) return count;
    const int64_t rest = (attend_page_of(l, key) + 1) * l->page_size - key;
    return rest < count ? rest : count;
}

#endif
