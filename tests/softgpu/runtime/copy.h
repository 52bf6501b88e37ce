/* Copies and fills: validation at the call, then a task in the stream; README.md states which calls wait. */
#ifndef SOFTGPU_RUNTIME_COPY_H
#define SOFTGPU_RUNTIME_COPY_H

#include "runtime/task.h"

static inline struct cudaPitchedPtr pitched(void *pointer, size_t pitch, size_t width, size_t height) {
    return (struct cudaPitchedPtr){.ptr = pointer, .pitch = pitch, .xsize = width, .ysize = height};
}

/* Checks directions and ranges of a copy; the result is width bytes × height × depth. */
cudaError_t copy_of_3d(const struct cudaMemcpy3DParms *p, copy_task *copy);

#endif
