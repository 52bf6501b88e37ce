/* The backends of this build, in the order in which their kernels are listed. */
#include "backend.h"

#include <string.h>

static const attend_backend *const backends[] = {
#ifdef ATTEND_HAVE_CUDA
    &attend_gpu_backend,
#endif
    &attend_cpu_backend,
    &attend_reference_backend,
    NULL,
};

#ifndef ATTEND_HAVE_CUDA
int attend_cuda_device_count(void) { return 0; }
#endif

const attend_backend *attend_backend_for(attend_device device)
{
    for (int i = 0; backends[i]; i++)
        if (backends[i]->device == device) return backends[i];
    return NULL;
}

bool attend_kernel_sized(size_t index, attend_kernel_info *info, size_t info_bytes)
{
    attend_kernel_info row;
    if (!info || info_bytes > sizeof row) return false;
    for (int i = 0; backends[i]; i++)
        for (size_t local = 0; backends[i]->kernel(local, &row); local++)
            if (index-- == 0) {
                memcpy(info, &row, info_bytes);
                return true;
            }
    return false;
}
