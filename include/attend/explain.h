/* What a plan will do, and why: kernel, tiles, memory, expected work, and why other kernels were not chosen.
   */
#ifndef ATTEND_EXPLAIN_H
#define ATTEND_EXPLAIN_H

#include <attend/plan.h>
#include <attend/context.h>
#include <attend/problem.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A projection of a layer: y [rows, out] = x [rows, in]·Wᵀ. */
typedef struct attend_projection_work {
    int64_t rows, in, out;
    int call; /* projections with the same number are computed by one library call */
    int reserved[3];
    double flops, bytes; /* 2·rows·in·out; x, W and y once */
} attend_projection_work;

/* What a plan will do. Pairs are (query, key) pairs of all heads that causal, window, chunk, prefix and
 * lengths leave visible; pairs hidden by masks, block masks and segments are counted too, since only the run
 * knows them. Without lists every sequence has the maximum length; packed sequences share the totals evenly.
 * Exact up to 4 million rows, estimated from a sample of 4 million beyond. */
typedef struct attend_explanation {
    const char *kernel; /* the row of the table that runs */
    /* CUDA: what runs instead if rows of q, k or v do not begin at multiples of 16 bytes */
    const char *kernel_unaligned;
    attend_device device;
    /* 0: none. Rows of a tile are queries, with `grouped` those of all heads of a KV head */
    int tile_q, tile_k, threads;
    int projection_count; /* of a layer 4: Q, K, V, output; 0 for attention */
    bool grouped;
    uint8_t reserved[3];
    int64_t shared_bytes;
    int64_t splits;         /* parts of the keys that different blocks compute, merged afterwards; 1: none */
    int64_t blocks;         /* of the grid; on a CPU the units of work that threads take */
    int64_t blocks_at_once; /* that the device holds; on a CPU its threads; 0: unknown */
    size_t host_bytes, device_workspace_bytes, device_staging_bytes; /* as attend_plan_memory */
    /* visible; and those of the tiles that hold them */
    double pairs, pairs_computed;
    double flops, bytes; /* of attention: 2·pairs·(head_dim + head_dim_v); its tensors once */
    /* Of a layer. */
    attend_projection_work projections[4];
    const char *projection_library; /* NULL for attention */
    double rope_bytes;              /* that rotary embedding and QK-norm read and write */
    double position_bytes;          /* that adding absolute positions to x reads and writes */
    /* CUDA, of attention whose q, k, v, out and what varies by query and key lie on the host, as far as
     * host_tensors lets them: what one run copies, and the loop. Every block of queries meets the parts of
     * keys that it sees. */
    double bytes_to_device, bytes_to_host;
    /* So many times queries, keys are brought; on a CPU whose memory_limit_bytes cuts a run, are taken up
     * and, at most, packed. */
    int64_t query_blocks, key_parts;
    /* Measured by the context's first explanation of a plan with large copies, behind the work in flight; 0:
     * none was. By it the copies take transfer_seconds; compute_seconds are a model's, of the device's clock
     * and arithmetic units. The longer of the two bounds the run. */
    double link_bytes_per_second, transfer_seconds, compute_seconds;
} attend_explanation;

ATTEND_API attend_status attend_plan_explain_sized(const attend_plan *plan, const attend_lists *lists,
                                                   size_t lists_bytes, attend_explanation *explanation,
                                                   size_t explanation_bytes);

/* Explains a plan; lists may be NULL. Texts live as long as the plan. Errors: INVALID_ARGUMENT. */
static inline attend_status attend_plan_explain(const attend_plan *plan, const attend_lists *lists,
                                                attend_explanation *explanation)
{
    return attend_plan_explain_sized(plan, lists, sizeof *lists, explanation, sizeof *explanation);
}

/* The same in words, for people, with the rows of the kernel table that were not chosen and why. Writes at
 * most `bytes`, the last of them 0, and returns how many all would need, without the 0; text may be NULL if
 * bytes is 0. Returns 0 on failure. */
ATTEND_API size_t attend_plan_explain_text(const attend_plan *plan, const attend_lists *lists, char *text,
                                           size_t bytes);

#define ATTEND_REASON_BYTES 160

/* A row of the kernel table as a plan saw it. */
typedef struct attend_kernel_choice {
    const char *name;
    attend_device device;
    attend_dtype dtype;
    /* as kernel and kernel_unaligned above; of a row that runs backwards, likewise */
    bool chosen, chosen_unaligned;
    uint8_t reserved[6];
    /* of a row not chosen: "takes head_dim up to 64, the problem has 128" */
    char reason[ATTEND_REASON_BYTES];
} attend_kernel_choice;

ATTEND_API bool attend_plan_choice_sized(const attend_plan *plan, size_t index, attend_kernel_choice *choice,
                                         size_t choice_bytes);

/* Row `index` of the table, in the order of attend_kernel(); false past the last. */
static inline bool attend_plan_choice(const attend_plan *plan, size_t index, attend_kernel_choice *choice)
{
    return attend_plan_choice_sized(plan, index, choice, sizeof *choice);
}

#ifdef __cplusplus
}
#endif

#endif
