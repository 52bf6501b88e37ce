/* Looking inside attention: who looks at whom, how sharply and how far, without ever holding all weights.
 *
 * A plan that ran can be inspected with the args that it ran with, for as much of the following as is asked
 * for, in memory linear in seqlen:
 *
 *     attend_tensor keys = attend_tensor_4d(k, ATTEND_I64, batch, heads, seqlen_q, 5);
 *     attend_tensor weights = attend_tensor_4d(w, ATTEND_F32, batch, heads, seqlen_q, 5);
 *     attend_attention_inspect(plan, &args, &(attend_inspection){.top_keys = keys, .top_weights = weights});
 *
 * The weight of key j for query i of a head is p_ij = exp(score_ij - LSE_i), as attend_problem defines scores
 * and which keys are seen; 0 where the key is not seen. Σ_j p_ij = 1, or with sinks 1 less the weight that
 * the sink takes; all are 0 for a query that sees no key. Where a query's scores hold NaN or +infinity, its
 * weights are NaN, and what is made of them.
 *
 * docs/inspect.md has pictures, the command, and how exact results are. */
#ifndef ATTEND_INSPECT_H
#define ATTEND_INSPECT_H

#include <attend/attention.h>
#include <attend/layer.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ATTEND_MAX_TOP_KEYS    64
#define ATTEND_MAX_KEY_WINDOWS 16

/* Keys first … last, both included, counted from the query's position as attend_problem defines it ({-1, -1}:
 * the key before; INT64_MIN and INT64_MAX: no limit), or if `absolute` from the first key of the sequence
 * that is not padding. */
typedef struct attend_key_window {
    int64_t first, last;
    bool absolute;
    uint8_t reserved[7];
} attend_key_window;

/* What is wanted. Tensors are the caller's, on the host or on the plan's device, of any strides; data NULL:
 * not wanted. In a packed problem they are [1, num_heads, total_q, …] where they have a row for each query,
 * and have an entry for each sequence where they do not; keys and windows count within their sequence.
 * Queries past their length give zeros. */
typedef struct attend_inspection {
    /* The keys with the largest scores, largest first, of equal ones the lower key first; -1 with weight 0
     * where fewer are seen. One may be wanted without the other. */
    attend_tensor top_keys;    /* i64 [batch, num_heads, seqlen_q, n], n from 1 to ATTEND_MAX_TOP_KEYS */
    attend_tensor top_weights; /* f32 [batch, num_heads, seqlen_q, n] */
    /* -Σ_j p_ij·ln p_ij in nats; with sinks, the sink is one more outcome. exp of it: over how many keys a
       query spreads. */
    attend_tensor entropy; /* f32 [batch, num_heads, seqlen_q] */
    /* Σ p_ij over the keys of each window. */
    attend_tensor mass; /* f32 [batch, num_heads, seqlen_q, num_windows] */
    const attend_key_window *windows;
    int64_t num_windows; /* at most ATTEND_MAX_KEY_WINDOWS */
    /* How far a head looks: the mean of |j - position of i| over all weight that its queries give to keys,
     * Σ_ij p_ij·|j - position_i| / Σ_ij p_ij; 0 where that is none. */
    attend_tensor distance; /* f32 [batch, num_heads] */
    /* All weights of chosen queries. */
    attend_tensor weights; /* f32 [batch, num_heads, num_queries, seqlen_k]; its last stride is 1 */
    /* rows of q, each in [0, seqlen_q), packed in [0, total_q); in any order, also repeatedly */
    const int64_t *queries;
    int64_t num_queries;
    /* A picture of any part at any length: tile (y, x) is the mean of p_ij over the map's queries [y·N/Y, (y
     * + 1)·N/Y) and keys [x·M/X, (x + 1)·M/X), rounded down, for a map of N queries by M keys in Y by X
     * tiles. N and M 0: all from first_query and first_key on. */
    attend_tensor map; /* f32 [batch, num_heads, Y, X]; 1 <= Y <= N, 1 <= X <= M */
    int64_t first_query, map_queries;
    int64_t first_key, map_keys;
} attend_inspection;

ATTEND_API attend_status attend_attention_inspect_sized(attend_plan *plan, const attend_attention_args *args,
                                                        size_t args_bytes, size_t features_bytes,
                                                        const attend_inspection *inspection,
                                                        size_t inspection_bytes);

/* Inspects attention as the plan computes it from args: q, k, lists and what features bring; v and out are
 * not looked at. With args->lse, as a run of the plan left it, one pass over the scores does; without, they
 * are computed twice. Returns when all is there. Unlike a run it takes memory while it works: what it writes
 * itself, also where runs bring their workspace, which it does not need. Bits depend on neither threads nor
 * timing.
 * Errors: INVALID_ARGUMENT, OUT_OF_MEMORY, DEVICE_ERROR. */
static inline attend_status attend_attention_inspect(attend_plan *plan, const attend_attention_args *args,
                                                     const attend_inspection *inspection)
{
    return attend_attention_inspect_sized(plan, args, sizeof *args, sizeof *args->features, inspection,
                                          sizeof *inspection);
}

ATTEND_API attend_status attend_layer_inspect_sized(attend_plan *plan, const attend_layer_args *args,
                                                    size_t args_bytes, size_t features_bytes,
                                                    const attend_inspection *inspection,
                                                    size_t inspection_bytes);

/* The same for a layer that ran: args->q and args->k, and args->lse if given, hold what that run wrote there.
 * x, weights and out are not looked at. */
static inline attend_status attend_layer_inspect(attend_plan *plan, const attend_layer_args *args,
                                                 const attend_inspection *inspection)
{
    return attend_layer_inspect_sized(plan, args, sizeof *args, sizeof *args->features, inspection,
                                      sizeof *inspection);
}

#ifdef __cplusplus
}
#endif

#endif
