/* A lower bound of a kernel's time from its counts and the device's documented rates. A model: no latency, no caches, perfect overlap. */
#ifndef SOFTGPU_ENGINE_MODEL_H
#define SOFTGPU_ENGINE_MODEL_H

#include "engine/counts.h"

typedef struct model_bound {
    double seconds;
    const char *by; /* the pipe, "issue", "shared memory" or "L2" that sets it */
    double multiprocessor_seconds, l2_seconds; /* of all multiprocessors together; of the L2: what more blocks multiply */
} model_bound;

model_bound model_time(const counted_kernel *kernel, const counts *totals);
const char *pipe_name(pipe p);

#endif
