/* Kernel launches: what every way to launch boils down to. */
#ifndef SOFTGPU_RUNTIME_LAUNCH_H
#define SOFTGPU_RUNTIME_LAUNCH_H

#include "runtime/task.h"

typedef struct launch_request {
    const void *function; /* stub or cudaKernel_t */
    dim3 grid, block, cluster;
    size_t shared;
    bool cooperative;
    bool early; /* programmatic stream serialization */
    void **arguments;
} launch_request;

/* Checks a launch against the device's limits as cudaLaunchKernel does, and copies the arguments. */
cudaError_t launch_task(context *c, const launch_request *request, const char *what, task **made);
/* The dynamic shared memory that a kernel may have: by attribute, or what the plain limit leaves. */
int64_t dynamic_shared_limit(const function *f, const context *c, const sg_function_info *info);

#endif
