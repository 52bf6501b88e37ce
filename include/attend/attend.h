/* attend: multi-head attention on NVIDIA GPUs and on CPUs.
 *
 * A problem (plain numbers) on a context (where to run) becomes a plan once; the plan runs many times.
 *
 *     attend_context *ctx;
 *     attend_plan *plan;
 *     attend_problem problem = {.batch = 1, .seqlen_q = 4096, .seqlen_k = 4096, .num_heads = 8, .head_dim = 64};
 *     attend_context_create(&(attend_context_options){.device = ATTEND_AUTO}, &ctx);
 *     attend_attention_plan(ctx, &problem, &plan);
 *     attend_attention_forward(plan, &(attend_attention_args){.q = q, .k = k, .v = v, .out = out});
 *     attend_synchronize(ctx);
 *
 * Rules that hold everywhere:
 * - Every call that can fail returns an attend_status; attend_error_message() is then a sentence that names the
 *   argument and the limit. A call that fails changes nothing that it was given, but for the pointer to an object that
 *   it was to make: that becomes NULL.
 * - A field that is zero means "the usual". Structs may grow at their end: every call passes the size that its
 *   caller was compiled with, so older programs keep working.
 * - Sizes, strides and lengths are int64_t and count elements; fields in bytes say so.
 * - The library never prints or ends the process. One thing below it does: OpenMP's run-time library, where the system
 *   refuses to start a thread that a CPU context was promised.
 * - A context and its plans serve one thread at a time. Different contexts are independent.
 * - Results are deterministic: a row's bits do not depend on threads, batch size or timing.
 */
#ifndef ATTEND_ATTEND_H
#define ATTEND_ATTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ATTEND_API __attribute__((visibility("default")))

#define ATTEND_VERSION_MAJOR 0
#define ATTEND_VERSION_MINOR 1
#define ATTEND_VERSION_PATCH 0

/* ---- status -------------------------------------------------------------------------------------------------- */

typedef enum attend_status {
    ATTEND_OK = 0,
    ATTEND_INVALID_ARGUMENT, /* a value that no backend can accept; the message names it */
    ATTEND_UNSUPPORTED,      /* a valid problem that this backend or build does not do */
    ATTEND_OUT_OF_MEMORY,    /* on the host or on the device */
    ATTEND_NO_DEVICE,        /* no CUDA driver, no device of that index, or a build without CUDA */
    ATTEND_DEVICE_ERROR,     /* CUDA or cuBLAS failed; the message has the call and CUDA's name for the error */
    ATTEND_BAD_FILE,         /* a file whose content is not what its format promises */
    ATTEND_IO_ERROR,         /* the system refused to open, read or write */
    ATTEND_CANCELLED         /* a progress callback asked to stop */
} attend_status;

/* "ATTEND_INVALID_ARGUMENT" and so on; never NULL. */
ATTEND_API const char *attend_status_name(attend_status status);

/* The sentence of the last failure in the calling thread; "" before the first. Valid until that thread's next failure. */
ATTEND_API const char *attend_error_message(void);

/* The library's own version, "0.1.0". */
ATTEND_API const char *attend_version(void);

/* ---- tensors ------------------------------------------------------------------------------------------------- */

/* Activations and weights are of the first three; masks are ATTEND_U8, segment ids ATTEND_I32, indices of keys ATTEND_I64. */
typedef enum attend_dtype { ATTEND_F32 = 0, ATTEND_F16, ATTEND_BF16, ATTEND_U8, ATTEND_I32, ATTEND_I64 } attend_dtype;

/* Bytes of one element. */
ATTEND_API size_t attend_dtype_bytes(attend_dtype dtype);
/* "f32", "f16", "bf16", "u8", "i32", "i64". */
ATTEND_API const char *attend_dtype_name(attend_dtype dtype);

#define ATTEND_MAX_RANK 4

/* A view of memory that the caller owns, on the host or on the device. Element (i, j, …) lies at
 * data + i·stride[0] + j·stride[1] + …; strides count elements. All strides zero means row-major without gaps.
 * A stride of 0 along one axis broadcasts an input; outputs must not overlap themselves or any input. */
typedef struct attend_tensor {
    void *data; /* NULL: absent. Inputs are never written through it. */
    attend_dtype dtype;
    int rank;
    int64_t shape[ATTEND_MAX_RANK];
    int64_t stride[ATTEND_MAX_RANK];
} attend_tensor;

/* Row-major views without gaps. Activations of attention are [batch, seqlen, heads, head_dim]: permute the strides
 * where memory holds [batch, heads, seqlen, head_dim], offset `data` into packed QKV. */
static inline attend_tensor attend_tensor_4d(void *data, attend_dtype dtype, int64_t n0, int64_t n1, int64_t n2, int64_t n3)
{
    attend_tensor t = {data, dtype, 4, {n0, n1, n2, n3}, {0, 0, 0, 0}};
    return t;
}
static inline attend_tensor attend_tensor_3d(void *data, attend_dtype dtype, int64_t n0, int64_t n1, int64_t n2)
{
    attend_tensor t = {data, dtype, 3, {n0, n1, n2, 0}, {0, 0, 0, 0}};
    return t;
}
static inline attend_tensor attend_tensor_2d(void *data, attend_dtype dtype, int64_t n0, int64_t n1)
{
    attend_tensor t = {data, dtype, 2, {n0, n1, 0, 0}, {0, 0, 0, 0}};
    return t;
}
static inline attend_tensor attend_tensor_1d(void *data, attend_dtype dtype, int64_t n0)
{
    attend_tensor t = {data, dtype, 1, {n0, 0, 0, 0}, {0, 0, 0, 0}};
    return t;
}

/* ---- problems ------------------------------------------------------------------------------------------------ */

/* Which keys query i sees. With seqlen_q = seqlen_k both alignments are the same; with per-batch lengths, the lengths
 * of that batch entry count. */
typedef enum attend_causal {
    ATTEND_CAUSAL_NONE = 0,
    ATTEND_CAUSAL_TOP_LEFT,    /* j <= i */
    ATTEND_CAUSAL_BOTTOM_RIGHT /* j <= i + seqlen_k - seqlen_q: the last query sees all (decoding with a cache) */
} attend_causal;

/* The axes along which a mask or a bias varies, or'ed together; along the others one value serves all. */
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
    ATTEND_ALIBI_CAUSAL     /* slope·(j - position): the same for keys before the query, a bonus for those after it */
} attend_alibi;

/* Which elements of a head turn together in a rotary embedding (Su et al., arXiv:2104.09864). */
typedef enum attend_rotary {
    ATTEND_ROTARY_NONE = 0,
    ATTEND_ROTARY_HALVES,     /* c and c + rotary_dim/2: GPT-NeoX, and Llama as transformers stores it */
    ATTEND_ROTARY_INTERLEAVED /* 2c and 2c + 1: GPT-J, and Llama's own code */
} attend_rotary;

/* How the frequencies are stretched for sequences longer than those trained on, by rotary_factor. */
typedef enum attend_rotary_scaling {
    ATTEND_ROTARY_UNSCALED = 0,
    ATTEND_ROTARY_LINEAR, /* all frequencies */
    ATTEND_ROTARY_NTK,    /* a larger base; with rotary_original_seqlen it grows as seqlen_k exceeds that (dynamic NTK) */
    ATTEND_ROTARY_YARN,   /* Peng et al., arXiv:2309.00071 */
    ATTEND_ROTARY_LLAMA3  /* as Llama 3.1 */
} attend_rotary_scaling;

/* A norm over each head of Q and K, before the rotary embedding. */
typedef enum attend_qk_norm {
    ATTEND_QK_NORM_NONE = 0,
    ATTEND_QK_NORM_RMS,  /* y / sqrt(mean y² + epsilon) · weight */
    ATTEND_QK_NORM_LAYER /* the same of y - mean y, plus bias */
} attend_qk_norm;

/* One attention problem: out_i = Σ_j softmax_j(score_ij) v_j over the keys j that query i may see. Query head h reads KV
 * head h / (num_heads / num_kv_heads). A query that sees no key gives zeros and, without sinks, an LSE of -infinity.
 * batch, seqlen_q and seqlen_k may be 0; head counts and dims are at least 1.
 *
 * With s = softmax_scale·head_scales[h]·q_i·k_j,
 *     score_ij = softcap·tanh(s / softcap) + ALiBi + relative bias + bias_ij,   each term only where it is asked for.
 * The position of query i among the keys, from which windows, chunks and distances count, is i, or with
 * align_bottom_right i + seqlen_k - seqlen_q, lengths being those of its batch entry. */
typedef struct attend_problem {
    int64_t batch;
    int64_t seqlen_q, seqlen_k; /* the longest in the batch; a self-attention layer may leave seqlen_k 0: seqlen_q */
    int64_t num_heads;
    int64_t num_kv_heads;  /* divides num_heads; 0: num_heads */
    int64_t head_dim;      /* of Q and K */
    int64_t head_dim_v;    /* of V and the output; 0: head_dim */
    attend_dtype dtype;    /* how tensors are stored; arithmetic is fp32 or better */
    attend_causal causal;
    float softmax_scale;   /* 0: 1/sqrt(head_dim) */

    /* For a layer only; 0 in an attention problem. */
    int64_t hidden_size;         /* width of x */
    int64_t context_hidden_size; /* width of the context tensor of cross-attention; 0: K and V come from x */
    int64_t output_size;         /* width of the layer's output; 0: hidden_size */

    /* Who sees whom, besides causal: a key must pass every test that is asked for. */
    bool align_bottom_right; /* causal ATTEND_CAUSAL_BOTTOM_RIGHT implies it, ATTEND_CAUSAL_TOP_LEFT excludes it */
    bool windowed;           /* position - window_left <= j <= position + window_right; -1: no limit on that side */
    int64_t window_left, window_right;
    int64_t chunk;    /* > 0: only keys of the query's chunk of so many positions, chunks counted from starts_k */
    bool left_padded; /* args bring starts_k: keys before it are padding */
    int64_t prefix;   /* the first so many keys, counted from starts_k, are seen by all whatever causal, window and chunk say */
    bool segments;    /* args bring segment ids; equal ids see each other */
    int mask_axes;    /* of attend_axes: args bring a mask that varies along these; 0: none */
    int64_t block_q, block_k; /* > 0: args bring a block_mask over blocks of so many queries by so many keys */
    int block_axes;           /* ATTEND_PER_BATCH, ATTEND_PER_HEAD: along which the block_mask also varies */
    /* Packed sequences: q is [1, total_q, num_heads, head_dim], k and v have total_k rows likewise, no padding between
     * sequences; args bring cu_seqlens_q and cu_seqlens_k; batch counts sequences, seqlen_q and seqlen_k are the longest. */
    bool packed;
    int64_t total_q, total_k;

    /* What a score is. */
    float softcap; /* > 0: soft limit of |score| before any bias is added; 0: none */
    attend_alibi alibi; /* slopes: those of args, else the paper's */
    /* T5's relative bias: args bring its table; bucket(j - position) as T5 defines it (Raffel et al., arXiv:1910.10683):
     * half the buckets exact, the others logarithmic up to max_distance; bidirectional: half of them for later keys. */
    int relative_buckets; /* 0: none; else at least 2, bidirectional: a multiple of 2 and at least 4 */
    int relative_max_distance;
    bool relative_bidirectional;
    int bias_axes;    /* of attend_axes: args bring a bias that varies along these; 0: none */
    bool head_scales; /* args bring a factor of the scale for each head: the reciprocal of a temperature */
    bool sinks; /* args bring a logit for each head that takes part in softmax, and in LSE, and gives no value */

    /* Where a token is; of self-attention layers only. The projected Q and K are normalised, turned and stored once more; q and k
     * of attend_layer_args are what attention then reads. Angles are computed in double: no position is too far. Positions are
     * the args' or count from first_position on: within the row's sequence if packed, from starts_k if left_padded. */
    attend_rotary rotary;
    int64_t rotary_dim; /* the first so many elements of a head turn; even, at most 512; 0: head_dim */
    int64_t first_position;
    double rotary_base; /* 0: 10000 */
    attend_rotary_scaling rotary_scaling;
    double rotary_factor;           /* of the scaling, at least 1 */
    int64_t rotary_original_seqlen; /* that was trained on: for YaRN and Llama 3, optional for NTK */
    double rotary_low, rotary_high; /* turns within that length between which they ramp. 0: YaRN 1 and 32, Llama 3 1 and 4 */
    double rotary_attention_factor; /* YaRN: of cosine and sine; 0: 0.1·ln(rotary_factor) + 1 */
    attend_qk_norm qk_norm;
    float qk_norm_epsilon; /* 0: 1e-6 */
    bool rotary_untruncated; /* YaRN: the ramp's ends are not rounded to whole pairs (gpt-oss) */
    /* With block_q, > 0: args bring a list of the visible key blocks of each block of queries, with at most so many indices in all, in
     * place of the block_mask. */
    int64_t block_list;
} attend_problem;

/* ---- contexts ------------------------------------------------------------------------------------------------ */

typedef enum attend_device {
    ATTEND_AUTO = 0, /* CUDA where a device can be used, else the CPU */
    ATTEND_CPU,
    ATTEND_CUDA,
    ATTEND_REFERENCE /* naive fp64 on the CPU: the definition of correct, slow */
} attend_device;

#define ATTEND_MAX_THREADS 4096

/* Called from the thread that called the library, while a run works: done of total units, which say nothing but their ratio. Returns false
 * to stop: the run ends soon with ATTEND_CANCELLED, and its outputs hold anything. */
typedef bool attend_progress(void *user, int64_t done, int64_t total);

typedef struct attend_context_options {
    attend_device device;
    int device_index;         /* which CUDA device */
    int threads;              /* CPU threads, at most ATTEND_MAX_THREADS; 0: as many as the process may use */
    bool device_tensors_only; /* CUDA: plans reserve no staging for host tensors, and refuse them */
    /* Nothing stands in for what was asked: ATTEND_AUTO is refused, and a run on CUDA whose q, k or v has rows that are not at
     * multiples of 16 bytes is UNSUPPORTED where the plan's kernel needs them so, instead of taking the slower one that
     * attend_plan_explain() names. Dtypes and algorithms are never exchanged, strict or not. */
    bool strict;
    /* NULL: none, at no cost. On a CPU it tells of attention, not of a layer's projections; the reference does not call it. On CUDA a run
     * with it goes slice by slice, waits for each, and can be no part of a graph. */
    attend_progress *progress;
    void *progress_user;
} attend_context_options;

typedef struct attend_context attend_context;

/* attend_context_create() for bindings, which pass the size of their struct themselves. */
ATTEND_API attend_status attend_context_create_sized(const attend_context_options *options, size_t options_bytes,
                                                     attend_context **context);

/* Makes a context; options may be NULL. Errors: INVALID_ARGUMENT, NO_DEVICE, OUT_OF_MEMORY, DEVICE_ERROR; *context is
 * NULL then. The caller destroys it, after its plans. */
static inline attend_status attend_context_create(const attend_context_options *options, attend_context **context)
{
    return attend_context_create_sized(options, sizeof *options, context);
}

/* Waits for the work in flight, then frees the context. NULL is allowed. */
ATTEND_API void attend_context_destroy(attend_context *context);

/* The device that ATTEND_AUTO chose, or the one asked for. */
ATTEND_API attend_device attend_context_device(const attend_context *context);

/* A name for people: "NVIDIA H100 80GB HBM3 (sm_90)", "CPU, 2 threads, avx512". Lives as long as the context. */
ATTEND_API const char *attend_context_device_name(const attend_context *context);

/* Waits until all that was enqueued on the context is done; returns the first error that happened on the way. */
ATTEND_API attend_status attend_synchronize(attend_context *context);

/* ---- plans --------------------------------------------------------------------------------------------------- */

typedef struct attend_plan attend_plan;

/* What a plan holds while it lives, beside the caller's tensors. Linear in seqlen. */
typedef struct attend_plan_memory {
    size_t host_bytes;
    size_t device_workspace_bytes; /* projected Q, K and V, partial results, tables */
    size_t device_staging_bytes;   /* copies of host tensors */
} attend_plan_memory;

ATTEND_API attend_status attend_plan_memory_usage_sized(const attend_plan *plan, attend_plan_memory *memory,
                                                        size_t memory_bytes);
static inline attend_status attend_plan_memory_usage(const attend_plan *plan, attend_plan_memory *memory)
{
    return attend_plan_memory_usage_sized(plan, memory, sizeof *memory);
}

/* The kernel and tiles chosen, in words. Lives as long as the plan. */
ATTEND_API const char *attend_plan_kernel(const attend_plan *plan);

/* The lengths that runs bring, for counting; arrays on the host, as in attend_attention_args, NULL: not given. */
typedef struct attend_lists {
    const int64_t *seqlens_q, *seqlens_k, *starts_k, *cu_seqlens_q, *cu_seqlens_k;
} attend_lists;

/* A projection of a layer: y [rows, out] = x [rows, in]·Wᵀ. */
typedef struct attend_projection_work {
    int64_t rows, in, out;
    int call;    /* those of one number go into one call of the library */
    double flops, bytes; /* 2·rows·in·out; x, W and y once */
} attend_projection_work;

/* What a plan will do. Pairs are (query, key) pairs of all heads that causal, window, chunk, prefix and lengths leave visible; what
 * masks, block masks and segments hide besides is known to the run alone, and not taken off. Without lists every sequence has its
 * longest length; packed ones share the totals evenly. Exact up to 4 million rows, beyond from a sample of so many. */
typedef struct attend_explanation {
    attend_device device;
    const char *kernel;           /* the row of the table that runs */
    const char *kernel_unaligned; /* CUDA: what runs instead where rows of q, k or v do not lie at multiples of 16 bytes */
    int tile_q, tile_k, threads;  /* 0: none. Rows of a tile are queries, with `grouped` those of all heads of a KV head */
    bool grouped;
    int64_t shared_bytes;
    int64_t splits;         /* parts of the keys that are computed apart, then merged; 1: none */
    int64_t blocks;         /* of the grid; on a CPU the units of work that threads take */
    int64_t blocks_at_once; /* that the device holds; on a CPU its threads; 0: unknown */
    size_t host_bytes, device_workspace_bytes, device_staging_bytes; /* as attend_plan_memory */
    double pairs, pairs_computed; /* visible; and those of the tiles that hold them */
    double flops, bytes;          /* of attention: 2·pairs·(head_dim + head_dim_v); its tensors once */
    /* Of a layer. */
    int projection_count; /* 4: Q, K, V, output; 0 for attention */
    attend_projection_work projections[4];
    const char *projection_library; /* NULL for attention */
    double turn_bytes;              /* that rotary embedding and QK-norm read and write */
} attend_explanation;

ATTEND_API attend_status attend_plan_explain_sized(const attend_plan *plan, const attend_lists *lists, size_t lists_bytes,
                                                   attend_explanation *explanation, size_t explanation_bytes);

/* Explains a plan; lists may be NULL. Texts live as long as the plan. Errors: INVALID_ARGUMENT. */
static inline attend_status attend_plan_explain(const attend_plan *plan, const attend_lists *lists, attend_explanation *explanation)
{
    return attend_plan_explain_sized(plan, lists, sizeof *lists, explanation, sizeof *explanation);
}

/* The same in words, for people, with the rows of the kernel table that were not chosen and why. Writes at most `bytes`, the last of
 * them 0, and returns how many all would need, without the 0; text may be NULL if bytes is 0. Returns 0 where it fails. */
ATTEND_API size_t attend_plan_explain_text(const attend_plan *plan, const attend_lists *lists, char *text, size_t bytes);

#define ATTEND_REASON_BYTES 160

/* A row of the kernel table as a plan saw it. */
typedef struct attend_kernel_choice {
    const char *name;
    attend_device device;
    attend_dtype dtype;
    bool chosen, chosen_unaligned;    /* as kernel and kernel_unaligned above */
    char reason[ATTEND_REASON_BYTES]; /* of a row not chosen: "takes head_dim up to 64, the problem has 128" */
} attend_kernel_choice;

ATTEND_API bool attend_plan_choice_sized(const attend_plan *plan, size_t index, attend_kernel_choice *choice, size_t choice_bytes);

/* Row `index` of the table, in the order of attend_kernel(); false past the last. */
static inline bool attend_plan_choice(const attend_plan *plan, size_t index, attend_kernel_choice *choice)
{
    return attend_plan_choice_sized(plan, index, choice, sizeof *choice);
}

/* Waits for the work in flight on its context, then frees the plan. NULL is allowed. */
ATTEND_API void attend_plan_destroy(attend_plan *plan);

/* ---- attention ----------------------------------------------------------------------------------------------- */

ATTEND_API attend_status attend_attention_plan_sized(attend_context *context, const attend_problem *problem,
                                                     size_t problem_bytes, attend_plan **plan);

/* Plans out = attention(q, k, v). Validates every field; all memory is reserved here and none at run time.
 * Errors: INVALID_ARGUMENT, UNSUPPORTED, OUT_OF_MEMORY, DEVICE_ERROR; *plan is NULL then. */
static inline attend_status attend_attention_plan(attend_context *context, const attend_problem *problem,
                                                  attend_plan **plan)
{
    return attend_attention_plan_sized(context, problem, sizeof *problem, plan);
}

typedef struct attend_attention_args {
    attend_tensor q;   /* [batch, seqlen_q, num_heads, head_dim]; the last stride of all four is 1 */
    attend_tensor k;   /* [batch, seqlen_k, num_kv_heads, head_dim] */
    attend_tensor v;   /* [batch, seqlen_k, num_kv_heads, head_dim_v] */
    attend_tensor out; /* [batch, seqlen_q, num_heads, head_dim_v] */
    attend_tensor lse; /* optional, f32 [batch, num_heads, seqlen_q]: natural logarithm of Σ_j exp(score) */
    /* Optional lengths [batch], each in [0, seqlen]. Rows of out past a query length become 0, their LSE -infinity;
     * q, k and v past the lengths are not read. Host arrays are checked and read before the call returns; device
     * arrays are read by the kernel, which clamps them to the range. */
    const int64_t *seqlens_q;
    const int64_t *seqlens_k;
    /* With left_padded, [batch]: the first key that is not padding; keys [starts_k, seqlens_k) are there. */
    const int64_t *starts_k;
    /* Of a packed problem, [batch + 1]: sequence b has the rows [cu_seqlens[b], cu_seqlens[b + 1]); from 0 to the total.
     * As lengths, they are checked on the host and clamped on the device. */
    const int64_t *cu_seqlens_q, *cu_seqlens_k;
    /* What the problem announces, and nothing else. An axis along which mask, bias or block_mask does not vary has extent
     * 1, or its full extent with stride 0. In a packed problem queries and keys count from their sequence's first. */
    attend_tensor segments_q, segments_k; /* i32 [batch, seqlen_q] and [batch, seqlen_k]; packed: [1, total] */
    attend_tensor mask;                   /* u8 [batch, num_heads, seqlen_q, seqlen_k]; not 0: seen */
    attend_tensor block_mask;             /* u8 [batch, num_heads, ceil(seqlen_q/block_q), ceil(seqlen_k/block_k)] */
    attend_tensor bias;           /* f32 or the problem's dtype, shaped as mask; -infinity hides a key as a mask does */
    attend_tensor alibi_slopes;   /* optional with alibi: f32 [num_heads] */
    attend_tensor relative_table; /* f32 [num_heads, relative_buckets]; T5 stores it transposed: strides {1, num_heads} */
    attend_tensor head_scales;    /* f32 [num_heads] */
    attend_tensor sinks;          /* f32 [num_heads] */
    /* With block_list: block i of queries sees the blocks of keys indices[offsets[i]] … indices[offsets[i + 1] - 1], ascending. Offsets are
     * i64 [batch, num_heads, blocks of queries + 1], indices i32 [block_list]; on the host they are checked, on the device clamped. */
    attend_tensor block_offsets, block_indices;
} attend_attention_args;

ATTEND_API attend_status attend_attention_forward_sized(attend_plan *plan, const attend_attention_args *args,
                                                        size_t args_bytes);

/* Enqueues the plan on its context. On a CPU it returns when the result is there. On CUDA it returns at once if all
 * tensors lie on the device (and may be captured in a CUDA graph); host tensors are copied in and out on the stream,
 * and belong to the context until attend_synchronize(). Errors: INVALID_ARGUMENT (shapes, dtypes, strides, overlaps,
 * lengths), DEVICE_ERROR. */
static inline attend_status attend_attention_forward(attend_plan *plan, const attend_attention_args *args)
{
    return attend_attention_forward_sized(plan, args, sizeof *args);
}

/* ---- layer --------------------------------------------------------------------------------------------------- */

/* Weights as they multiply: y = W·x + b with W of shape [out, in]. Strides give the orientation (torch's Linear is
 * row-major [out, in]; GPT-2's Conv1D is the same shape with strides {1, out}) and the place inside fused tensors.
 * One of a matrix's two strides must be 1. */
typedef struct attend_layer_weights {
    attend_tensor wq;             /* [num_heads·head_dim, hidden_size] */
    attend_tensor wk;             /* [num_kv_heads·head_dim, context_hidden_size or hidden_size] */
    attend_tensor wv;             /* [num_kv_heads·head_dim_v, the same] */
    attend_tensor wo;             /* [output_size, num_heads·head_dim_v] */
    attend_tensor bq, bk, bv, bo; /* optional biases, one element a row of their matrix */
    /* With qk_norm, optional [head_dim]: absent weights are 1, absent biases (of a layer norm) 0. */
    attend_tensor q_norm, k_norm, q_norm_bias, k_norm_bias;
} attend_layer_weights;

ATTEND_API attend_status attend_layer_plan_sized(attend_context *context, const attend_problem *problem,
                                                 size_t problem_bytes, const attend_layer_weights *weights,
                                                 size_t weights_bytes, attend_plan **plan);

/* Plans out = Wo·attention(Wq·x + bq, Wk·c + bk, Wv·c + bv) + bo, where c is x or the context tensor. The weights must
 * stay valid and unchanged while the plan lives; the plan may keep a rearranged copy of its own. Errors as for
 * attention. */
static inline attend_status attend_layer_plan(attend_context *context, const attend_problem *problem,
                                              const attend_layer_weights *weights, attend_plan **plan)
{
    return attend_layer_plan_sized(context, problem, sizeof *problem, weights, sizeof *weights, plan);
}

typedef struct attend_layer_args {
    attend_tensor x;       /* [batch, seqlen_q, hidden_size]; the last stride is 1 */
    attend_tensor context; /* cross-attention: [batch, seqlen_k, context_hidden_size] */
    attend_tensor out;     /* [batch, seqlen_q, output_size] */
    attend_tensor lse;     /* optional, as in attention */
    /* As in attention, but a row past its query length is what the output projection makes of zeros: bo, or 0. */
    const int64_t *seqlens_q;
    const int64_t *seqlens_k;
    /* Optional outputs for those who look inside: the projected Q, K and V, and the heads' output before Wo, shaped as
     * q, k, v and out of attend_attention_args. */
    attend_tensor q, k, v, heads;
    /* As in attend_attention_args; if packed, x, context and out are [1, total, …]. */
    const int64_t *starts_k;
    const int64_t *cu_seqlens_q, *cu_seqlens_k;
    attend_tensor segments_q, segments_k, mask, block_mask, bias, alibi_slopes, relative_table, head_scales, sinks;
    attend_tensor positions; /* optional with rotary: i32 [batch, seqlen_q]; packed: [1, total_q] */
    attend_tensor block_offsets, block_indices; /* as in attend_attention_args */
} attend_layer_args;

ATTEND_API attend_status attend_layer_forward_sized(attend_plan *plan, const attend_layer_args *args,
                                                    size_t args_bytes);

/* Runs a layer plan; everything said of attend_attention_forward() holds. */
static inline attend_status attend_layer_forward(attend_plan *plan, const attend_layer_args *args)
{
    return attend_layer_forward_sized(plan, args, sizeof *args);
}

/* ---- comparing ----------------------------------------------------------------------------------------------- */

/* One element of a result [batch, seqlen, head, column]; column is -1 in an LSE, head is -1 in a layer's output. */
typedef struct attend_element {
    int64_t batch, head, row, column;
    double actual, expected;
    double bound; /* the largest error that rule 1 allows here */
} attend_element;

/* The two rules of docs/numerics.md: every element within its bound; and every tensor, head and tile of rows no worse
 * in the mean square than its storage dtype forces. A ratio above 1 breaks its rule. */
typedef struct attend_comparison {
    bool passed;
    int64_t elements;
    double bound_ratio;          /* rule 1 on out: the worst |actual - expected| / bound */
    double quality_ratio;        /* rule 2 on out: the worst of the tensor, its heads and its tiles of 64 rows */
    double lse_bound_ratio;      /* rule 1 on lse; 0 without one */
    double max_error, rms_error; /* of out */
    attend_element worst;        /* where bound_ratio was reached */
    attend_element worst_lse;
} attend_comparison;

ATTEND_API attend_status attend_compare_sized(const attend_problem *problem, size_t problem_bytes,
                                              const attend_attention_args *args, size_t args_bytes, int threads,
                                              attend_comparison *comparison, size_t comparison_bytes);

/* Holds args->out (and lse if given), wherever they were computed, against the fp64 reference of the same stored
 * inputs. All tensors on the host; O(seqlen_q·seqlen_k) time on `threads` CPU threads (0: all), O(seqlen) memory.
 * Errors: INVALID_ARGUMENT, also where the reference itself is not finite; breaking a rule is ATTEND_OK with
 * passed = false. */
static inline attend_status attend_compare(const attend_problem *problem, const attend_attention_args *args, int threads,
                                           attend_comparison *comparison)
{
    return attend_compare_sized(problem, sizeof *problem, args, sizeof *args, threads, comparison, sizeof *comparison);
}

/* A layer stage by stage, each given what the stage before it really produced, and rule 2 from end to end. */
typedef struct attend_layer_comparison {
    bool passed;
    double projection_ratio[3];  /* rule 1 of Q, K and V: the dot product's bound */
    attend_comparison attention; /* of heads, given q, k and v */
    double output_ratio;         /* rule 1 of the output projection */
    double quality_ratio;        /* rule 2 of out, end to end */
    double max_error, rms_error; /* of out, end to end */
    attend_element worst;        /* of the output projection */
} attend_layer_comparison;

ATTEND_API attend_status attend_layer_compare_sized(const attend_problem *problem, size_t problem_bytes,
                                                    const attend_layer_weights *weights, size_t weights_bytes,
                                                    const attend_layer_args *args, size_t args_bytes, int threads,
                                                    attend_layer_comparison *comparison, size_t comparison_bytes);

/* args holds out and the intermediate q, k, v and heads of one run. All tensors on the host. Errors as
 * attend_compare(). */
static inline attend_status attend_layer_compare(const attend_problem *problem, const attend_layer_weights *weights,
                                                 const attend_layer_args *args, int threads,
                                                 attend_layer_comparison *comparison)
{
    return attend_layer_compare_sized(problem, sizeof *problem, weights, sizeof *weights, args, sizeof *args, threads,
                                      comparison, sizeof *comparison);
}

/* ---- what is there ------------------------------------------------------------------------------------------- */

/* What a problem can ask for beyond plain attention, one bit each. A backend or kernel that lacks one refuses the plan with
 * ATTEND_UNSUPPORTED and a sentence that names it; nothing falls back in silence. docs/features.md has the whole table. */
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
    ATTEND_FEATURE_QK_NORM = 1 << 16
} attend_feature;

/* "sliding window" and so on, for bit 0, 1, …; NULL past the last. */
ATTEND_API const char *attend_feature_name(int bit);

/* The features that a problem asks for; a struct that is not valid asks for whatever its fields say, NULL for none. */
ATTEND_API uint64_t attend_problem_features_sized(const attend_problem *problem, size_t problem_bytes);
static inline uint64_t attend_problem_features(const attend_problem *problem)
{
    return attend_problem_features_sized(problem, sizeof *problem);
}

/* CUDA devices that can be used; 0 without a driver or in a build without CUDA. */
ATTEND_API int attend_cuda_device_count(void);

/* One row of the kernel table. */
typedef struct attend_kernel_info {
    const char *name;
    attend_device device;
    attend_dtype dtype;
    int64_t head_dim_max, head_dim_v_max;
    int architecture_min; /* 80 for sm_80; 0 on the CPU */
    int tile_q, tile_k, threads;
    int64_t shared_bytes;
    uint64_t features; /* of attend_feature: what problems may ask of it */
} attend_kernel_info;

ATTEND_API bool attend_kernel_sized(size_t index, attend_kernel_info *info, size_t info_bytes);

/* Row `index` of the table of all backends in this build; false past the last, and where info is NULL. */
static inline bool attend_kernel(size_t index, attend_kernel_info *info)
{
    return attend_kernel_sized(index, info, sizeof *info);
}

/* What the CUDA compiler made of a row for one architecture of this build, as ptxas reported it. */
typedef struct attend_kernel_resources {
    int architecture;     /* 80 for sm_80 */
    int registers;        /* of a thread */
    int64_t spill_bytes;  /* stores and loads of what found no register */
    int64_t shared_bytes; /* of a block */
    int blocks, warps;    /* that a multiprocessor of this architecture holds at once */
} attend_kernel_resources;

ATTEND_API bool attend_kernel_resources_sized(size_t index, size_t build, attend_kernel_resources *resources,
                                              size_t resources_bytes);

/* Row `index` as compiled for architecture number `build` of this build; false past the last, and for rows of the CPU. */
static inline bool attend_kernel_resources_of(size_t index, size_t build, attend_kernel_resources *resources)
{
    return attend_kernel_resources_sized(index, build, resources, sizeof *resources);
}

#ifdef __cplusplus
}
#endif

#endif
