/* Design: keys and values that grow, in one piece or in pages. */
#ifndef ATTEND_DESIGN_CACHE_H
#define ATTEND_DESIGN_CACHE_H

#include "attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where cached keys and values are; the memory is the caller's. Slots that hold no key yet may hold anything. */
typedef struct attend_cache {
    /* In one piece: [batch, capacity, num_kv_heads, dim]. With a block_table, pools [pages, page_size, num_kv_heads, dim];
     * page_size from 1 on. Any strides but a last one of 1: both pools may be interleaved. */
    attend_tensor k, v;
    attend_tensor block_table; /* i32 [batch, max_pages]: page p of sequence b; entries past its length are not read */
    const int64_t *seqlens;    /* [batch]: keys that are there, before what a run appends; host or device */
    /* Of 8-bit caches: f32 [num_kv_heads] (fp8: a factor a head) or [batch, capacity or pages·page_size, num_kv_heads]
     * (int8: a factor a token and head). */
    attend_tensor k_scales, v_scales;
} attend_cache;

/* New tokens of each sequence, as rows of q of the same problem: packed, or [batch, seqlen_q]. */
typedef struct attend_cache_append_args {
    attend_tensor k, v; /* [batch, seqlen_q, num_kv_heads, dim], or packed [1, total_q, …] */
    const attend_feature_args *features; /* their lengths and positions */
    attend_tensor k_norm, k_norm_bias;   /* with qk_norm */
} attend_cache_append_args;

/* Writes new keys, normalised and rotated as the problem says, and values to the slots from seqlens[b] on, converted to
 * the cache's dtype: one kernel, nothing allocated, may be captured. Does not change seqlens. Slots past the capacity or
 * without a page are an error where lengths are on the host, and are not written where they are on the device. */
ATTEND_API attend_status attend_cache_append_sized(attend_context *context, const attend_problem *problem,
                                                   size_t problem_bytes, const attend_cache *cache, size_t cache_bytes,
                                                   const attend_cache_append_args *args, size_t args_bytes,
                                                   size_t features_bytes, const attend_run *run, size_t run_bytes);
static inline attend_status attend_cache_append(attend_context *context, const attend_problem *problem,
                                                const attend_cache *cache, const attend_cache_append_args *args,
                                                const attend_run *run)
{
    return attend_cache_append_sized(context, problem, sizeof *problem, cache, sizeof *cache, args, sizeof *args,
                                     sizeof(attend_feature_args), run, sizeof *run);
}

#ifdef __cplusplus
}
#endif

#endif
