/* Design: keys and values that grow, in one piece or in pages. */
#ifndef ATTEND_DESIGN_CACHE_H
#define ATTEND_DESIGN_CACHE_H

#include "attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where cached keys and values are; the memory is the caller's. Slots that hold no key yet may hold anything.
 * A frozen struct with room: it is reached through attend_attention_args. Of a packed problem q alone is
 * packed; cu_seqlens_k and total_k are absent, and batch and total_q of the plan are upper limits of what its
 * runs bring. */
typedef struct attend_cache {
    /* In one piece: [batch, capacity, num_kv_heads, dim]. With a block_table, pools [pages, page_size,
     * num_kv_heads, dim]; page_size from 1 on. The last stride is 1, the others are free: both pools may be
     * interleaved. */
    attend_tensor k, v;
    /* i32 [batch, max_pages]: page p of sequence b, where the tokens p·page_size … lie. Host or device.
     * Entries past the length are not read; one outside [0, pages) is no page: its keys are neither written
     * nor seen. */
    attend_tensor block_table;
    /* [batch], host or device: where attend_cache_append() writes the first new key. Attention goes by
     * attend_feature_args.seqlens_k alone, which counts the new keys too. */
    const int64_t *seqlens;
    /* Of 8-bit caches; a value is what is stored times its scale. fp8 (e4m3): f32 [num_kv_heads], the
     * caller's, read by append and attention. int8: f32 [batch or pages, capacity or page_size,
     * num_kv_heads], written by append. */
    attend_tensor k_scales, v_scales;
    uint64_t reserved[16]; /* zeros */
} attend_cache;

/* New tokens of each sequence, as rows of q of the same problem: packed, or [batch, seqlen_q]. */
typedef struct attend_cache_append_args {
    attend_tensor k, v; /* [batch, seqlen_q, num_kv_heads, dim], or packed [1, total_q, …] */
    const attend_feature_args *features; /* their lengths and positions */
    attend_tensor k_norm, k_norm_bias;   /* with qk_norm */
} attend_cache_append_args;

/* Writes new keys, normalised and rotated as the problem says, and values to the slots from seqlens[b] on,
 * converted to the cache's dtype: one kernel, nothing allocated, no workspace, may be captured. Token i of
 * sequence b is at position first_position + seqlens[b] + i, unless features bring positions; q is the
 * caller's to turn, by attend_rotary_apply(). Does not change seqlens. Slots past the capacity or without a
 * page are an error where lengths are on the host, and are not written where they are on the device. Errors:
 * INVALID_ARGUMENT, DEVICE_ERROR. */
ATTEND_API attend_status attend_cache_append_sized(attend_context *context, const attend_problem *problem,
                                                   size_t problem_bytes, const attend_cache *cache,
                                                   size_t cache_bytes, const attend_cache_append_args *args,
                                                   size_t args_bytes, size_t features_bytes,
                                                   const attend_run *run, size_t run_bytes);
static inline attend_status attend_cache_append(attend_context *context, const attend_problem *problem,
                                                const attend_cache *cache,
                                                const attend_cache_append_args *args, const attend_run *run)
{
    return attend_cache_append_sized(context, problem, sizeof *problem, cache, sizeof *cache, args,
                                     sizeof *args, sizeof(attend_feature_args), run, sizeof *run);
}

#ifdef __cplusplus
}
#endif

#endif
