/* Keys and values in caches: what a run takes from one, and what its page table may hold. */
#ifndef ATTEND_CORE_CACHE_H
#define ATTEND_CORE_CACHE_H

#include "core/arguments.h"

/* Rank, dtype and capacity of a cache, which has to hold `keys` keys a sequence. */
attend_status attend_cache_check(const attend_problem *problem, const attend_cache *cache, int64_t keys);

/* Where keys are in a cache whose K and page table (absent: one piece) are resolved. */
attend_key_layout attend_key_layout_of(const attend_tensor *k, const attend_tensor *table);

/* What a cache that passed has to be: its K and V, and its page table where that has a rank. Returns how
   many. */
int attend_cache_expect(const attend_problem *problem, attend_tensor_role role, attend_tensor *k,
                        attend_tensor *v, attend_tensor *table, attend_expected expected[3]);

/* Takes the keys of args: its own k and v, or those of its cache, of which args->k and args->v become views.
   expected: what k and v have to be, and where table->rank is not 0, that of a page table. Follow it, once
   these are resolved, by attend_keys_locate(). */
attend_status attend_keys_take(const attend_problem *problem, attend_attention_args *args,
                               const attend_key_part *part, attend_tensor *table,
                               attend_expected expected[3]);

/* Sets part->keys, for args->k and v, which in one piece then hold the part's keys alone. */
void attend_keys_locate(attend_attention_args *args, const attend_tensor *table, attend_key_part *part);

/* Of a layer, what its attention reads in its cache, which is resolved. */
void attend_layer_keys_locate(const attend_cache *cache, attend_attention_args *args, attend_key_part *all);

/* A page table on the host: the entries of all keys of the part. seqlens_k: on the host; NULL: all are there.
   */
attend_status attend_key_layout_check(const attend_problem *problem, const int64_t *seqlens_k,
                                      const attend_key_part *part);

#endif
