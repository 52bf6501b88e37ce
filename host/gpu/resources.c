/* Registers, spills and shared memory of each row by ptxas's report, how many of its blocks fit on a
   multiprocessor, and the bytes of device code. */
#include "gpu/gpu.h"

#include <string.h>

/* Shared memory and threads of a multiprocessor (CUDA C++ Programming Guide, "Technical Specifications per
   Compute Capability"). */
static const struct {
    int architecture;
    int64_t shared_bytes;
    int threads, blocks;
} multiprocessors[] = {{80, 164 << 10, 2048, 32}, {86, 100 << 10, 1536, 16}, {87, 164 << 10, 1536, 16},
                       {89, 100 << 10, 1536, 24}, {90, 228 << 10, 2048, 32}, {100, 228 << 10, 2048, 32},
                       {120, 100 << 10, 1536, 32}};
enum { REGISTERS = 65536, REGISTER_UNIT = 256, SYSTEM_SHARED = 1024 };

/* The least number of blocks that any resource allows. Registers are allocated to warps in units of 256. */
static int blocks_that_fit(const attend_kernel_resources *r, int threads)
{
    size_t i = 0, last = sizeof multiprocessors / sizeof *multiprocessors - 1;
    while (i < last && multiprocessors[i + 1].architecture <= r->architecture) i++;
    int64_t warps = (threads + 31) / 32,
            warp_registers = ((int64_t)r->registers * 32 + REGISTER_UNIT - 1) / REGISTER_UNIT * REGISTER_UNIT;
    int64_t blocks = attend_least(multiprocessors[i].blocks, multiprocessors[i].threads / threads);
    blocks = attend_least(blocks, multiprocessors[i].shared_bytes / (r->shared_bytes + SYSTEM_SHARED));
    if (warp_registers > 0) blocks = attend_least(blocks, REGISTERS / (warp_registers * warps));
    return (int)blocks;
}

/* Uses the resources of the build that the device runs: the newest that is not newer than the device. */
int attend_gpu_blocks_at_once(const attend_gpu_context *gpu, const attend_kernel_row *row,
                              int64_t more_shared_bytes)
{
    attend_kernel_resources best = {0};
    for (const attend_ptxas_report *r = attend_ptxas_reports; r->name; r++)
        if (!strcmp(r->name, row->info.name) && r->architecture <= gpu->architecture &&
            r->architecture > best.architecture)
            best = (attend_kernel_resources){r->architecture,
                                             r->registers,
                                             r->spill_bytes,
                                             row->info.shared_bytes + more_shared_bytes + r->shared_bytes,
                                             0,
                                             0};
    if (!best.architecture) return 0;
    best.architecture = gpu->architecture; /* the limits are the device's, not the build's */
    return blocks_that_fit(&best, row->info.threads);
}

bool attend_gpu_kernel_resources(size_t index, size_t build, attend_kernel_resources *resources)
{
    const attend_kernel_info *row = attend_gpu_kernel_info(index);
    for (const attend_ptxas_report *r = attend_ptxas_reports; row && r->name; r++) {
        if (strcmp(r->name, row->name) || build-- > 0) continue;
        *resources = (attend_kernel_resources){
            r->architecture, r->registers, r->spill_bytes, row->shared_bytes + r->shared_bytes, 0, 0};
        resources->blocks = blocks_that_fit(resources, row->threads);
        resources->warps = resources->blocks * ((row->threads + 31) / 32);
        return true;
    }
    return false;
}

bool attend_gpu_device_code(size_t index, const char **family, int64_t *bytes)
{
    size_t i = 0;
    while (attend_device_code_rows[i].family && i < index) i++;
    *family = attend_device_code_rows[i].family, *bytes = attend_device_code_rows[i].bytes;
    return *family;
}
