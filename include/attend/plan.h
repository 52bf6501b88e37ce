/* A problem made ready to run on a context, by attend_attention_plan() or attend_layer_plan(). */
#ifndef ATTEND_PLAN_H
#define ATTEND_PLAN_H

#include <attend/status.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct attend_plan attend_plan;

/* What a plan holds while it lives, beside the caller's tensors. Linear in seqlen. */
typedef struct attend_plan_memory {
    size_t host_bytes;
    size_t device_workspace_bytes; /* projected Q, K and V, partial results, tables */
    size_t device_staging_bytes;   /* copies of host tensors */
} attend_plan_memory;

ATTEND_API attend_status attend_plan_memory_usage_sized(const attend_plan *plan, attend_plan_memory *memory, size_t memory_bytes);
static inline attend_status attend_plan_memory_usage(const attend_plan *plan, attend_plan_memory *memory)
{
    return attend_plan_memory_usage_sized(plan, memory, sizeof *memory);
}

/* The kernel and tiles chosen, in words. Lives as long as the plan. */
ATTEND_API const char *attend_plan_kernel(const attend_plan *plan);

/* Waits for the work in flight on its context, then frees the plan. NULL is allowed. */
ATTEND_API void attend_plan_destroy(attend_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
