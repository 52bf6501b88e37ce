/* A problem made ready to run on a context, by attend_attention_plan() or attend_layer_plan(). */
#ifndef ATTEND_PLAN_H
#define ATTEND_PLAN_H

#include <attend/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct attend_plan attend_plan;

/* Tensors of a plan's runs that may lie on the host, or'ed. */
typedef enum attend_host_tensors {
    ATTEND_HOST_INPUTS = 1,  /* q, k, v, feature tensors */
    ATTEND_HOST_OUTPUTS = 2, /* out, lse */
    ATTEND_HOST_STATES = 4,  /* those that runs take up and leave */
    ATTEND_HOST_ALL = 7
} attend_host_tensors;

/* How a plan is made; all zeros mean the usual, NULL in their place too. */
typedef struct attend_plan_options {
    /* Runs bring their workspace (attend_run), and the plan reserves neither that nor staging for host
     * tensors. Allowed on CPUs too, where a run needs none: run_workspace_bytes is 0. */
    bool caller_workspace;
    /* The plan also runs backwards (backward.h, layer_backward.h), with what that needs: on CPUs about five
     * times q in f32, on CUDA two numbers a query and head, and whole copies of tensors on the host. Layers
     * add the gradients of Q, K, V, heads and x, and on CPUs the weights once more, in f32. */
    bool backward;
    /* On CUDA, attend_host_tensors: for these alone a plan holds room on the device, pinned memory, streams
     * and threads, and its runs refuse others that lie on the host. 0: all tensors lie on the device. Lists
     * of features, and a layer's weights, may lie anywhere. Not with caller_workspace. On CPUs, where every
     * tensor lies on the host, it changes nothing. */
    uint8_t host_tensors;
    uint8_t reserved[5]; /* zeros */
    /* Device memory that the plan may take; 0: at most what is free when it is made. What fits is copied
     * once, the rest is streamed through it, blocks of queries by parts of keys (docs/offload.md): no bit
     * depends on that. On CPUs the plan's own memory (host_bytes below; 0: any): keys that it would hold in a
     * form of its own are held part by part. A plan that cannot work in it is OUT_OF_MEMORY, and the sentence
     * has the least that would do, as has *least_bytes, unless NULL, in any case. The reference takes any. */
    size_t memory_limit_bytes;
    size_t *least_bytes;
} attend_plan_options;

/* What a plan holds while it lives, beside the caller's tensors, and what each run brings. Linear in seqlen,
 * but for staging of masks and biases that vary per query and key. */
typedef struct attend_plan_memory {
    size_t host_bytes;
    size_t device_workspace_bytes; /* projected Q, K and V, partial results, tables */
    size_t device_staging_bytes;   /* copies of host tensors */
    size_t run_workspace_bytes;    /* what each run brings, with caller_workspace; else 0 */
} attend_plan_memory;

ATTEND_API attend_status attend_plan_memory_usage_sized(const attend_plan *plan, attend_plan_memory *memory,
                                                        size_t memory_bytes);
static inline attend_status attend_plan_memory_usage(const attend_plan *plan, attend_plan_memory *memory)
{
    return attend_plan_memory_usage_sized(plan, memory, sizeof *memory);
}

/* The kernel and tiles chosen, in words. Lives as long as the plan. */
ATTEND_API const char *attend_plan_kernel(const attend_plan *plan);

/* Keys of a span, which ranges of keys are multiples of (attention.h): sums begin anew at each. 0: the plan
 * runs over all keys alone (layers; kernels that cannot carry a state). */
ATTEND_API int64_t attend_plan_key_span(const attend_plan *plan);

/* Waits for the work in flight on its context, on whatever streams, then frees the plan. Destroy graphs that
 * captured its runs first: they use its memory. Once per plan; NULL is allowed. */
ATTEND_API void attend_plan_destroy(attend_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
