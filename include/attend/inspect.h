/* Inspection: which keys each query gives its weight to, over how many keys, and how far away, without
 * storing all weights.
 *
 * A plan is inspected with the args that it ran with. Every output is optional; memory is linear in seqlen:
 *
 *     attend_tensor keys = attend_tensor_4d(k, ATTEND_I64, batch, heads, seqlen_q, 5);
 *     attend_tensor weights = attend_tensor_4d(w, ATTEND_F32, batch, heads, seqlen_q, 5);
 *     attend_attention_inspect(plan, &args, &(attend_inspection){.top_keys = keys, .top_weights = weights});
 *
 * The weight of key j for query i of a head is p_ij = exp(score_ij - LSE_i), as attend_problem defines scores
 * and visibility; 0 if the key is masked. Σ_j p_ij = 1, or with sinks 1 minus the sink's weight; all are 0
 * for a query without visible keys. If a query's scores hold NaN or +infinity, its weights, and all outputs
 * computed from them, are NaN.
 *
 * docs/inspect.md has pictures, the command, and the error bounds. */
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

/* The outputs. Tensors are the caller's, on the host or on the plan's device, with any strides; data NULL:
 * not wanted. In a packed problem those with a row for each query are [1, num_heads, total_q, …], the others
 * have an entry for each sequence; keys and windows count within their sequence. Queries past their length
 * give zeros. */
typedef struct attend_inspection {
    /* The keys with the largest scores, in descending order; among equal scores the lower key comes first.
     * Entries beyond the number of visible keys are -1 with weight 0. Either tensor may be absent. */
    attend_tensor top_keys;    /* i64 [batch, num_heads, seqlen_q, n], n from 1 to ATTEND_MAX_TOP_KEYS */
    attend_tensor top_weights; /* f32 [batch, num_heads, seqlen_q, n] */
    /* -Σ_j p_ij·ln p_ij in nats; with sinks, the sink is one more outcome. Its exp is the number of keys that
       a query effectively attends to. */
    attend_tensor entropy; /* f32 [batch, num_heads, seqlen_q] */
    /* Σ p_ij over the keys of each window. */
    attend_tensor mass; /* f32 [batch, num_heads, seqlen_q, num_windows] */
    const attend_key_window *windows;
    int64_t num_windows; /* at most ATTEND_MAX_KEY_WINDOWS */
    /* The mean distance of a head: the mean of |j - position of i| over the weights of all its queries,
     * Σ_ij p_ij·|j - position_i| / Σ_ij p_ij; 0 if there is no weight. */
    attend_tensor distance; /* f32 [batch, num_heads] */
    /* All weights of chosen queries. */
    attend_tensor weights; /* f32 [batch, num_heads, num_queries, seqlen_k]; its last stride is 1 */
    /* rows of q, each in [0, seqlen_q), packed in [0, total_q); in any order, also repeatedly */
    const int64_t *queries;
    int64_t num_queries;
    /* A map of any part at any length: tile (y, x) is the mean of p_ij over the map's queries [y·N/Y, (y
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

/* Inspects attention as the plan computes it from args: q, k and the features; v and out are not read. With
 * args->lse, as a run of the plan wrote it, one pass over the scores is enough; without it they are computed
 * twice. Returns when all outputs are written. Unlike a run it allocates memory for the call, also if runs
 * bring their workspace, which it does not use. Bits depend on neither threads nor timing.
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

/* The same for a layer: args->q and args->k, and args->lse if given, are the outputs of a run. x, weights and
 * out are not read. */
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
