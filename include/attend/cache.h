/* Keys and values that grow, in one piece or in pages. */
#ifndef ATTEND_CACHE_H
#define ATTEND_CACHE_H

#include <attend/attention.h>
#include <attend/features.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where cached keys and values are: in memory of the caller, on the host for CPUs and the reference, on the
 * context's device for CUDA. Given to a run as attend_attention_args.cache, in place of k and v, or as
 * attend_layer_args.cache, and then written too. A run sees the first seqlens_k keys of each sequence, at
 * most seqlen_k of the plan; what lies in slots behind them, and in pages of nobody, may be anything. A row's
 * bits are those of the same keys in one piece, whatever the pages. A frozen struct with room.
 *
 *     attend_cache cache = {.k = attend_tensor_4d(k, ATTEND_BF16, pages, 16, kv_heads, 128),
 *                           .v = attend_tensor_4d(v, ATTEND_BF16, pages, 16, kv_heads, 128),
 *                           .block_table = attend_tensor_2d(table, ATTEND_I32, batch, max_pages)};
 *     attend_attention_args args = {.q = q, .out = out, .cache = &cache, ...};
 *
 * docs/cache.md shows prefill, decoding and shared pages. */
typedef struct attend_cache {
    /* In one piece: [batch, capacity, num_kv_heads, dim], capacity at least seqlen_k. With a block_table,
     * pools [pages, page_size, num_kv_heads, dim] of any page_size from 1 on. Both of the problem's dtype;
     * the last stride is 1, the others are free, so the two pools may be interleaved. */
    attend_tensor k, v;
    /* i32 [batch, max_pages], host or device; page_size·max_pages is at least seqlen_k. Entry p of sequence b
     * is the page that holds its keys p·page_size …; sequences may share pages. Entries behind the length are
     * not read. An entry outside [0, pages) is no page: on the host it is an error, on the device its keys
     * are neither read, written nor seen. On CUDA a run with a table on the host allocates room for a copy
     * and is over when it returns. */
    attend_tensor block_table;
    /* [batch], host or device: where attend_cache_append() and layers write each sequence's first new key;
     * NULL: slot 0. Attention goes by seqlens_k of attend_feature_args alone, which count new keys too. */
    const int64_t *seqlens;
    uint64_t reserved[47]; /* zeros */
} attend_cache;

/* New tokens, of each sequence as many as it has rows of q in the same problem. */
typedef struct attend_cache_append_args {
    attend_tensor k; /* [batch, seqlen_q, num_kv_heads, head_dim]; packed: [1, total_q, …] */
    attend_tensor v; /* the same with head_dim_v */
    /* Of these, seqlens_q or if packed cu_seqlens_q, and with rotary positions; NULL: none. */
    const attend_feature_args *features;
    attend_tensor k_norm, k_norm_bias; /* as in attend_layer_weights */
} attend_cache_append_args;

ATTEND_API attend_status attend_cache_append_sized(attend_context *context, const attend_problem *problem,
                                                   size_t problem_bytes, const attend_cache *cache,
                                                   const attend_cache_append_args *args, size_t args_bytes,
                                                   size_t features_bytes, const attend_run *run,
                                                   size_t run_bytes);

/* Writes new keys, normalised and rotated as the problem says and stored once, and new values as they are, to
 * the slots from cache->seqlens on. Token i of a sequence is at position first_position + seqlens + i, or at
 * features->positions; q is the caller's to rotate, by attend_rotary_apply(). Slots and pages of nobody, and
 * seqlens, stay as they are. No two sequences of a call may write to one page;
 * this is not checked.
 *
 * Of the problem it reads what attend_rotary_apply() reads, and head_dim_v; the rest may be that of the
 * attention that follows. A new key behind the capacity, or without a page, is an error where lists and table
 * are on the host, before anything is written; elsewhere it is dropped. `run` may be NULL; it needs no
 * workspace. On CUDA the cache is on the device; what else lies on the host is copied through memory
 * allocated for the call, which then waits for it.
 * Errors: INVALID_ARGUMENT, UNSUPPORTED, OUT_OF_MEMORY. */
static inline attend_status attend_cache_append(attend_context *context, const attend_problem *problem,
                                                const attend_cache *cache,
                                                const attend_cache_append_args *args, const attend_run *run)
{
    return attend_cache_append_sized(context, problem, sizeof *problem, cache, args, sizeof *args,
                                     sizeof(attend_feature_args), run, sizeof *run);
}

#ifdef __cplusplus
}
#endif

#endif
