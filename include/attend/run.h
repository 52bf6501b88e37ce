/* What one run of a plan may bring beside its tensors: a stream, and the memory that it works in. */
#ifndef ATTEND_RUN_H
#define ATTEND_RUN_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st; /* what a cudaStream_t points to; so no CUDA header is needed here */

/* For attend_attention_run() and attend_layer_run(); NULL in its place, or all zeros, is a run as _forward()
 * makes it, which a plan with caller_workspace refuses where it needs one. examples/streams.c is a whole
 * program.
 *
 * On CUDA, runs of a plan made with caller_workspace share nothing: those on different streams may overlap,
 * each in a workspace that no other run uses until it is done (of a captured run: until its graph is
 * destroyed). Their tensors lie on the device; lists may lie on the host. Otherwise runs of one plan, and of
 * all layer plans of one context, wait for each other whatever streams they are given, but in captures, where
 * the caller orders them.
 *
 * A stream is touched during the call only, so it may be destroyed right behind it, as CUDA allows. */
typedef struct attend_run {
    /* A stream of the context's device; NULL: the context's own, or that of attend_context_set_stream().
     * cudaStreamLegacy names the legacy default stream. NULL unless the context is on CUDA. */
    struct CUstream_st *stream;
    void *workspace;        /* with caller_workspace: on the device, at a multiple of 256 bytes; else NULL */
    size_t workspace_bytes; /* at least run_workspace_bytes of attend_plan_memory */
} attend_run;

#ifdef __cplusplus
}
#endif

#endif
