/* Design: tensors on the host, budgets, several devices. Tensors of any call may lie anywhere; no call is
   added for it. */
#ifndef ATTEND_DESIGN_OFFLOAD_H
#define ATTEND_DESIGN_OFFLOAD_H

#include <attend/context.h>
#include <attend/plan.h>
#include <attend/problem.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Joins attend_plan_options at its end. Which tensors a plan's runs may bring from the host; 0: any, as
 * without options. A plan that knows reserves less. */
typedef enum attend_host_tensors {
    ATTEND_HOST_NONE = 8,    /* all lie on the device, no staging is reserved */
    ATTEND_HOST_INPUTS = 1,  /* q, k, v or x, and what features bring */
    ATTEND_HOST_OUTPUTS = 2, /* out, lse, gradients */
    ATTEND_HOST_WEIGHTS = 4  /* stay on the host and are streamed, instead of copied once with the plan */
} attend_host_tensors;

typedef struct attend_memory_options {
    int host_tensors; /* of attend_host_tensors, or'ed */
    uint8_t reserved[4];
    /* Memory that the plan may take on each device, cuBLAS's included; 0: at most what is free when it is
     * made. What fits is copied once, the rest is streamed in parts of keys through pinned memory of the
     * library's. A plan that cannot work in it is OUT_OF_MEMORY; *least_bytes, if not NULL, says what would
     * do. Tensors may be pageable, pinned, managed, or mapped from a file, read-only ones too. */
    size_t memory_limit_bytes;
    size_t *least_bytes;
} attend_memory_options;

/* Stands for attend_attention_plan_with(), whose options will have these fields. */
ATTEND_API attend_status attend_attention_plan_in(attend_context *context, const attend_problem *problem,
                                                  const attend_memory_options *memory, attend_plan **plan);

/* Joins attend_explanation at its end. */
typedef struct attend_transfers {
    double bytes_to_device, bytes_to_host; /* by one run */
    double link_bytes_per_second;          /* measured once a context */
    double transfer_seconds, compute_seconds;
    int64_t query_blocks, key_parts; /* the loop: each block of queries meets each part of keys */
} attend_transfers;

/* A context over several devices: batch entries and heads are shared out, then blocks of queries. The bits
 * are those of one device. Tensors on a device lie on the first; its streams order the runs. Everything else
 * is as with attend_context_create(). */
ATTEND_API attend_status attend_context_create_group(const attend_context_options *options,
                                                     size_t options_bytes, const int *devices,
                                                     int device_count, attend_context **context);

#ifdef __cplusplus
}
#endif

#endif
