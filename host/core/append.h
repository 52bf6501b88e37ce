/* Appending to a cache: what was given, resolved, and what backends make of it. */
#ifndef ATTEND_CORE_APPEND_H
#define ATTEND_CORE_APPEND_H

#include "shared/append.h"
#include "shared/rope.h"

#include <attend/cache.h>
#include <attend/layer.h>

/* The call as a backend takes it. Lists, positions and the table are not read yet: only a backend knows where
   they lie. */
typedef struct attend_appending {
    attend_rope_tensor k; /* to: the cache's K */
    attend_row_positions rows;
    attend_append append;
} attend_appending;

/* New tokens, `args`, on their way into a cache; resolved, all of them. */
attend_appending attend_appending_of(const attend_problem *problem, const attend_cache *cache,
                                     const attend_cache_append_args *args);

/* The tokens of a layer with a cache, projected: new_k and new_v. */
attend_appending attend_layer_appending(const attend_problem *problem, const attend_layer_weights *weights,
                                        const attend_layer_args *args, const attend_tensor *new_k,
                                        const attend_tensor *new_v);
/* Lists and tables on the host, of a layer with a cache: new tokens have slots, seqlens_k counts them, and
   all keys have pages. */
attend_status attend_layer_appending_check(const attend_problem *problem, const attend_appending *appending,
                                           const int64_t *seqlens_k);

/* What lies on the host: lengths, and that every new key has a slot. */
attend_status attend_appending_check(const attend_problem *problem, const attend_appending *appending);

#endif
