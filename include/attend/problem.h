/* What is computed, in plain numbers: visibility, scores, positions. */
#ifndef ATTEND_PROBLEM_H
#define ATTEND_PROBLEM_H

#include <attend/tensor.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which keys j are visible to query i. With seqlen_q = seqlen_k both alignments are the same; with per-batch
 * lengths, the lengths of that batch entry count. */
typedef enum attend_causal {
    ATTEND_CAUSAL_NONE = 0,
    ATTEND_CAUSAL_TOP_LEFT, /* j <= i */
    /* j <= i + seqlen_k - seqlen_q: the last query sees every key (decoding with a cache) */
    ATTEND_CAUSAL_BOTTOM_RIGHT
} attend_causal;

/* The axes along which a mask or a bias varies, or'ed together; it is broadcast along the others. */
typedef enum attend_axes {
    ATTEND_PER_BATCH = 1,
    ATTEND_PER_HEAD = 2,
    ATTEND_PER_QUERY = 4,
    ATTEND_PER_KEY = 8
} attend_axes;

/* A score's penalty by distance (Press, Smith, Lewis, "Train Short, Test Long", arXiv:2108.12409). */
typedef enum attend_alibi {
    ATTEND_ALIBI_NONE = 0,
    ATTEND_ALIBI_SYMMETRIC, /* -slope·|j - position| */
    /* slope·(j - position): the same for keys before the query, a bonus for those after it */
    ATTEND_ALIBI_CAUSAL
} attend_alibi;

/* Which elements of a head are rotated as a pair by a rotary embedding (Su et al., arXiv:2104.09864). */
typedef enum attend_rotary {
    ATTEND_ROTARY_NONE = 0,
    ATTEND_ROTARY_HALVES,     /* c and c + rotary_dim/2: GPT-NeoX, and Llama as transformers stores it */
    ATTEND_ROTARY_INTERLEAVED /* 2c and 2c + 1: GPT-J, and Llama's own code */
} attend_rotary;

/* How rotary_factor scales the frequencies for sequences longer than those trained on. */
typedef enum attend_rotary_scaling {
    ATTEND_ROTARY_UNSCALED = 0,
    ATTEND_ROTARY_LINEAR, /* all frequencies */
    /* a larger base; with rotary_original_seqlen it grows as seqlen_k exceeds that (dynamic NTK) */
    ATTEND_ROTARY_NTK,
    ATTEND_ROTARY_YARN,  /* Peng et al., arXiv:2309.00071 */
    ATTEND_ROTARY_LLAMA3 /* as Llama 3.1 */
} attend_rotary_scaling;

/* What is added to a token of x for its position. */
typedef enum attend_absolute {
    ATTEND_ABSOLUTE_NONE = 0,
    /* sin(position / base^(2c/hidden_size)) at element 2c, cos at 2c + 1: Vaswani et al., arXiv:1706.03762 */
    ATTEND_ABSOLUTE_SINUSOIDAL,
    /* the same sines first, then all cosines: Marian. An odd hidden_size has one sine more, in both orders */
    ATTEND_ABSOLUTE_SINUSOIDAL_HALVES,
    /* a row of the weights' position_table: Gehring et al., arXiv:1705.03122 */
    ATTEND_ABSOLUTE_LEARNED
} attend_absolute;

/* A norm over each head of Q and K, before the rotary embedding. */
typedef enum attend_qk_norm {
    ATTEND_QK_NORM_NONE = 0,
    ATTEND_QK_NORM_RMS,  /* y / sqrt(mean y² + epsilon) · weight */
    ATTEND_QK_NORM_LAYER /* the same of y - mean y, plus bias */
} attend_qk_norm;

/* One attention problem: out_i = Σ_j softmax_j(score_ij) v_j over the keys j that query i may see. Query head
 * h reads KV head h / (num_heads / num_kv_heads). A query that sees no key gives zeros and, without sinks, an
 * LSE of -infinity. batch, seqlen_q and seqlen_k may be 0; head counts and dims are at least 1.
 *
 * With s = softmax_scale·head_scales[h]·q_i·k_j,
 *     score_ij = softcap·tanh(s / softcap) + ALiBi + relative bias + bias_ij,
 * each term only where it is asked for.
 * The position of query i among the keys, from which windows, chunks and distances count, is i, or with
 * align_bottom_right i + seqlen_k - seqlen_q, lengths being those of its batch entry. */
typedef struct attend_problem {
    int64_t batch;
    /* the longest in the batch; a self-attention layer may leave seqlen_k 0: seqlen_q. A larger one counts
       the keys of a cache, which its runs then bring */
    int64_t seqlen_q, seqlen_k;
    int64_t num_heads;
    int64_t num_kv_heads; /* divides num_heads; 0: num_heads */
    int64_t head_dim;     /* of Q and K */
    int64_t head_dim_v;   /* of V and the output; 0: head_dim */
    attend_dtype dtype;   /* how tensors are stored; arithmetic is fp32 or better */
    attend_causal causal;
    float softmax_scale; /* 0: 1/sqrt(head_dim) */
    float softcap;       /* > 0: soft limit of |score| before any bias is added; 0: none */

    /* For a layer only; 0 in an attention problem. */
    int64_t hidden_size;         /* width of x */
    int64_t context_hidden_size; /* width of the context tensor of cross-attention; 0: K and V come from x */
    int64_t output_size;         /* width of the layer's output; 0: hidden_size */

    /* Who sees whom, besides causal: a key must pass every test that is asked for. */
    /* with windowed: position - window_left <= j <= position + window_right; -1: no limit */
    int64_t window_left, window_right;
    /* > 0: only keys of the query's chunk of so many positions, chunks counted from starts_k */
    int64_t chunk;
    /* the first so many keys, counted from starts_k, are seen by all whatever causal, window and chunk say */
    int64_t prefix;
    /* > 0: args bring a block_mask over blocks of so many queries by so many keys */
    int64_t block_q, block_k;
    /* With block_q, > 0: args bring a list of the visible key blocks of each block of queries, with at most
     * so many indices in all, in place of the block_mask. */
    int64_t block_list;
    /* Packed sequences: q is [1, total_q, num_heads, head_dim], k and v have total_k rows likewise, no
     * padding between sequences; args bring cu_seqlens_q and cu_seqlens_k; batch counts sequences, seqlen_q
     * and seqlen_k are the longest. */
    int64_t total_q, total_k;
    int mask_axes; /* of attend_axes: args bring a mask that varies along these; 0: none */
    /* ATTEND_PER_BATCH, ATTEND_PER_HEAD: along which the block_mask or the list also varies */
    int block_axes;
    bool packed;
    /* causal ATTEND_CAUSAL_BOTTOM_RIGHT implies it, ATTEND_CAUSAL_TOP_LEFT excludes it */
    bool align_bottom_right;
    bool windowed;
    bool left_padded; /* args bring starts_k: keys before it are padding */
    bool segments;    /* args bring segment ids; equal ids see each other */

    /* What a score is, beside scale and softcap. */
    bool head_scales; /* args bring a factor of the scale for each head: the reciprocal of a temperature */
    /* args bring a logit for each head that takes part in softmax, and in LSE, and gives no value */
    bool sinks;
    bool relative_bidirectional;
    int bias_axes;      /* of attend_axes: args bring a bias that varies along these; 0: none */
    attend_alibi alibi; /* slopes: those of args, else the paper's */
    /* T5's relative bias: args bring its table; bucket(j - position) as T5 defines it (Raffel et al.,
     * arXiv:1910.10683): half the buckets exact, the others logarithmic up to max_distance; bidirectional:
     * half of them for later keys. */
    int relative_buckets; /* 0: none; else at least 2, bidirectional: a multiple of 2 and at least 4 */
    int relative_max_distance;

    /* Where a token is; of self-attention layers only. The projected Q and K are normalised, turned and
     * stored once more; q and k of attend_layer_args are what attention then reads. Angles are computed in
     * double: no position is too far. Positions are the args' or count from first_position on: within the
     * row's sequence if packed, from starts_k if left_padded. */
    attend_rotary rotary;
    attend_rotary_scaling rotary_scaling;
    int64_t rotary_dim; /* the first so many elements of a head turn; even, at most 512; 0: head_dim */
    int64_t first_position;
    double rotary_base;             /* 0: 10000 */
    double rotary_factor;           /* of the scaling, at least 1 */
    int64_t rotary_original_seqlen; /* that was trained on: for YaRN and Llama 3, optional for NTK */
    /* turns within that length between which they ramp. 0: YaRN 1 and 32, Llama 3 1 and 4 */
    double rotary_low, rotary_high;
    double rotary_attention_factor; /* YaRN: of cosine and sine; 0: 0.1·ln(rotary_factor) + 1 */
    attend_qk_norm qk_norm;
    float qk_norm_epsilon;   /* 0: 1e-6 */
    bool rotary_untruncated; /* YaRN: the ramp's ends are not rounded to whole pairs (gpt-oss) */
    uint8_t reserved[3];

    /* Absolute positions, of self-attention layers only: added to x [batch, seqlen_q, hidden_size] before Q,
     * K and V are projected, the sum stored once in the dtype; x itself stays as it is. Positions as for
     * rotary. This is for layers that read the sum itself: the first of the original Transformer, of Marian
     * or GPT-1; where a norm stands between, as in BERT and GPT-2, x has its positions already. A learned
     * position outside the table is an error where the host can see it, and turns its row of x into NaN where
     * it lies on the device. */
    attend_absolute absolute;
    /* of the sinusoids; 0: 10000. For exponents c/(hidden_size/2 - 1), as fairseq,
       10000^(hidden_size/(hidden_size - 2)) */
    double absolute_base;
    int64_t max_positions; /* rows of position_table: positions 0 to max_positions - 1 */
} attend_problem;

/* The lengths that runs bring, for counting; arrays on the host, as in attend_feature_args, NULL: not
   given. */
typedef struct attend_lists {
    const int64_t *seqlens_q, *seqlens_k, *starts_k, *cu_seqlens_q, *cu_seqlens_k;
} attend_lists;

/* What a problem can ask for beyond plain attention, one bit each. A backend or kernel that lacks one refuses
 * the plan with ATTEND_UNSUPPORTED and a sentence that names it; nothing falls back in silence.
 * docs/features.md has the whole table. */
typedef enum attend_feature {
    ATTEND_FEATURE_CAUSAL = 1 << 0,
    ATTEND_FEATURE_WINDOW = 1 << 1,
    ATTEND_FEATURE_CHUNK = 1 << 2,
    ATTEND_FEATURE_PREFIX = 1 << 3,
    ATTEND_FEATURE_SEGMENTS = 1 << 4,
    ATTEND_FEATURE_MASK = 1 << 5,
    ATTEND_FEATURE_BLOCK_MASK = 1 << 6,
    ATTEND_FEATURE_PACKED = 1 << 7,
    ATTEND_FEATURE_SOFTCAP = 1 << 8,
    ATTEND_FEATURE_ALIBI = 1 << 9,
    ATTEND_FEATURE_RELATIVE_BIAS = 1 << 10,
    ATTEND_FEATURE_BIAS = 1 << 11,
    ATTEND_FEATURE_HEAD_SCALES = 1 << 12,
    ATTEND_FEATURE_SINKS = 1 << 13,
    ATTEND_FEATURE_LEFT_PADDING = 1 << 14,
    ATTEND_FEATURE_ROTARY = 1 << 15,
    ATTEND_FEATURE_QK_NORM = 1 << 16,
    ATTEND_FEATURE_ABSOLUTE = 1 << 17
} attend_feature;

/* "sliding window" and so on, for bit 0, 1, …; NULL past the last. */
ATTEND_API const char *attend_feature_name(int bit);

/* The features that a problem asks for; one that is not valid asks for whatever its fields say, NULL or a
   struct that cannot be read for none. */
ATTEND_API uint64_t attend_problem_features_sized(const attend_problem *problem, size_t problem_bytes);
static inline uint64_t attend_problem_features(const attend_problem *problem)
{
    return attend_problem_features_sized(problem, sizeof *problem);
}

#ifdef __cplusplus
}
#endif

#endif
