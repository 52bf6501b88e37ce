/* The calls of attend that need CUDA's types; attend.h needs none. */
#ifndef ATTEND_ATTEND_CUDA_H
#define ATTEND_ATTEND_CUDA_H

#include <attend/context.h>
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Runs everything of the context on the caller's stream from now on, but for runs that name one (attend_run).
 * The stream belongs to the context's device and outlives its use here; NULL is the legacy default stream.
 * Runs that share a workspace with one still in flight on another stream wait for it by events; tensors are
 * the caller's to order. Without this call a context has a stream of its own, which is non-blocking: the
 * legacy default stream and it do not wait for each other.
 * Errors: INVALID_ARGUMENT if the context is not on CUDA. */
ATTEND_API attend_status attend_context_set_stream(attend_context *context, cudaStream_t stream);

/* The stream in use; errors as above. */
ATTEND_API attend_status attend_context_stream(const attend_context *context, cudaStream_t *stream);

#ifdef __cplusplus
}
#endif

#endif
