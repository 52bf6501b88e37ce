/* The backends of this build, in the order in which their kernels are listed. */
#include "core/backend.h"
#include "core/struct.h"

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

const attend_backend *attend_backend_of_row(size_t *index, attend_kernel_info *row)
{
    for (int i = 0; backends[i]; i++) {
        for (size_t local = 0; backends[i]->kernel(local, row); local++) {
            if ((*index)-- > 0) continue;
            *index = local;
            return backends[i];
        }
    }
    return NULL;
}

bool attend_kernel_sized(size_t index, attend_kernel_info *info, size_t info_bytes)
{
    attend_kernel_info row;
    if (attend_struct_check(ATTEND_STRUCT(attend_kernel_info), "info", info, info_bytes) ||
        !attend_backend_of_row(&index, &row))
        return false;
    attend_struct_write(ATTEND_STRUCT(attend_kernel_info), info, info_bytes, &row);
    return true;
}

bool attend_kernel_resources_sized(size_t index, size_t build, attend_kernel_resources *resources,
                                   size_t resources_bytes)
{
    attend_kernel_info row;
    attend_kernel_resources found;
    if (attend_struct_check(ATTEND_STRUCT(attend_kernel_resources), "resources", resources, resources_bytes))
        return false;
    const attend_backend *backend = attend_backend_of_row(&index, &row);
    if (!backend || !backend->kernel_resources || !backend->kernel_resources(index, build, &found))
        return false;
    attend_struct_write(ATTEND_STRUCT(attend_kernel_resources), resources, resources_bytes, &found);
    return true;
}

bool attend_device_code(size_t index, const char **family, int64_t *bytes)
{
    const attend_backend *gpu = attend_backend_for(ATTEND_CUDA);
    return family && bytes && gpu && gpu->device_code(index, family, bytes);
}
