/* The choice of the kernel's build for this processor. */
#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const attend_cpu_kernel *const kernels[] = {
#if defined(__x86_64__)
    &attend_cpu_kernel_avx512,
    &attend_cpu_kernel_avx2,
#elif defined(__aarch64__)
    &attend_cpu_kernel_neon,
#endif
    &attend_cpu_kernel_portable,
};

attend_status attend_cpu_kernel_choose(const attend_cpu_kernel **kernel, bool *is_forced)
{
    const char *forced = getenv("ATTEND_CPU_ISA");
    char names[64] = "";
    *is_forced = forced != NULL;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        if (forced && strcmp(forced, kernels[i]->name)) continue;
        if (kernels[i]->runs_here()) {
            *kernel = kernels[i];
            return ATTEND_OK;
        }
        if (forced)
            return attend_fail(ATTEND_UNSUPPORTED, "ATTEND_CPU_ISA=%s: this processor lacks it", forced);
    }
    for (size_t i = 0, used = 0; i < sizeof kernels / sizeof *kernels && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", kernels[i]->name);
    return attend_fail(ATTEND_INVALID_ARGUMENT, "ATTEND_CPU_ISA=%s is not one of %s, which this build has",
                       forced, names);
}

const attend_cpu_kernel *attend_cpu_kernel_row(size_t index)
{
    return index < sizeof kernels / sizeof *kernels ? kernels[index] : NULL;
}
