/* The kernel table of the CUDA backend, and the choice of a row. Nobody else asks "which kernel?". */
#include "gpu.h"
#include "feature_set.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const attend_kernel_row *attend_gpu_kernel_row(size_t index)
{
    const struct {
        const attend_kernel_row *rows;
        size_t count;
    } families[] = {
        {attend_flash_mma_f16_rows, (size_t)attend_flash_mma_f16_row_count},
        {attend_flash_mma_bf16_rows, (size_t)attend_flash_mma_bf16_row_count},
        {attend_flash_fma_rows, (size_t)attend_flash_fma_row_count},
    };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (index < families[i].count) return &families[i].rows[index];
        index -= families[i].count;
    }
    return NULL;
}

static bool fits(const attend_gpu_context *gpu, const attend_problem *p, bool aligned, const attend_kernel_row *row)
{
    const attend_kernel_info *info = &row->info;
    int64_t shared_bytes = info->shared_bytes + (attend_scores_elements(p) ? row->element_bytes : 0);
    return info->dtype == p->dtype && p->head_dim <= info->head_dim_max && p->head_dim_v <= info->head_dim_v_max &&
           info->architecture_min <= gpu->architecture && shared_bytes <= gpu->shared_bytes &&
           !(attend_features_of(p) & ~(info->features | ATTEND_FEATURES_LAYER)) && (aligned || row->any_alignment);
}

attend_status attend_gpu_select_kernel(const attend_gpu_context *gpu, const attend_problem *p, bool aligned,
                                       const attend_kernel_row **row)
{
    const char *forced = getenv("ATTEND_KERNEL");
    uint64_t any = ATTEND_FEATURES_LAYER; /* and what at least one row can do */
    for (size_t i = 0; (*row = attend_gpu_kernel_row(i)); i++) any |= (*row)->info.features;
    ATTEND_TRY(attend_features_check(p, any, "no CUDA kernel of this build"));
    for (size_t i = 0; (*row = attend_gpu_kernel_row(i)); i++)
        if (fits(gpu, p, aligned, *row) && (!forced || !strcmp(forced, (*row)->info.name))) return ATTEND_OK;
    /* Rows that need alignment are forced on aligned tensors only. */
    for (size_t i = 0; forced && !aligned && (*row = attend_gpu_kernel_row(i)); i++)
        if (fits(gpu, p, false, *row)) return ATTEND_OK;
    if (forced)
        return attend_fail(ATTEND_UNSUPPORTED, "ATTEND_KERNEL is %s, which does not fit this problem or does not exist", forced);
    return attend_fail(ATTEND_UNSUPPORTED,
                       "no CUDA kernel for %s with head_dim %" PRId64 " and head_dim_v %" PRId64 ": both may be at most 256",
                       attend_dtype_name(p->dtype), p->head_dim, p->head_dim_v);
}
