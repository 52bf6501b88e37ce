/* The kernel table of the CUDA backend, and the choice of a row. No other file asks which kernel runs. */
#include "gpu/gpu.h"
#include "core/feature_set.h"
#include "kernel_choice.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

const attend_kernel_row *attend_gpu_kernel_row(size_t index)
{
    const struct {
        const attend_kernel_row *rows;
        size_t count;
    } families[] = {
        ATTEND_HOPPER({attend_flash_wgmma_f16_rows, (size_t)attend_flash_wgmma_f16_row_count}, )
            ATTEND_HOPPER({attend_flash_wgmma_bf16_rows, (size_t)attend_flash_wgmma_bf16_row_count}, ){
                attend_flash_mma_f16_rows, (size_t)attend_flash_mma_f16_row_count},
        {attend_flash_mma_bf16_rows, (size_t)attend_flash_mma_bf16_row_count},
        {attend_flash_fma_rows, (size_t)attend_flash_fma_row_count},
    };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (index < families[i].count) return &families[i].rows[index];
        index -= families[i].count;
    }
    return NULL;
}

int attend_gpu_least_architecture(void)
{
    int least = INT_MAX;
    const attend_kernel_row *row;
    for (size_t i = 0; (row = attend_gpu_kernel_row(i)); i++)
        if (row->info.architecture_min < least) least = row->info.architecture_min;
    return least;
}

const attend_backward_row *attend_gpu_backward_row(size_t index)
{
    const struct {
        const attend_backward_row *rows;
        size_t count;
    } families[] = {
        {attend_backward_mma_f16_rows, (size_t)attend_backward_mma_f16_row_count},
        {attend_backward_mma_bf16_rows, (size_t)attend_backward_mma_bf16_row_count},
        {attend_backward_fma_rows, (size_t)attend_backward_fma_row_count},
    };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (index < families[i].count) return &families[i].rows[index];
        index -= families[i].count;
    }
    return NULL;
}

const attend_kernel_info *attend_gpu_kernel_info(size_t index)
{
    size_t forward = 0;
    while (forward < index && attend_gpu_kernel_row(forward)) forward++;
    const attend_kernel_row *row = attend_gpu_kernel_row(forward);
    if (row) return &row->info;
    const attend_backward_row *backward = attend_gpu_backward_row(index - forward);
    return backward ? &backward->info : NULL;
}

/* Why a row does not fit a problem, in the order of the checks. The row that failed the latest check is the
   nearest, and an error names it. */
typedef enum misfit {
    DTYPE,
    FEATURES,
    HEAD_DIM,
    ALIGNMENT,
    ARCHITECTURE,
    SHARED_MEMORY,
    KEYS,
    BLOCKS,
    FITS
} misfit;

/* What of a row decides whether it fits. */
typedef struct candidate {
    const attend_kernel_info *info;
    bool any_alignment, fits_grid;
    int64_t shared_bytes;
} candidate;

/* The only function that decides whether a row fits. If not, `why` says why, to be printed after the row's
   name. */
static misfit judge(const attend_gpu_context *gpu, const attend_problem *p, bool aligned,
                    const candidate *row, char *why, size_t bytes)
{
    const attend_kernel_info *info = row->info;
    const uint64_t lacking = attend_features_of(p) & ~(info->features | ATTEND_FEATURES_LAYER);
    const int64_t shared_bytes = row->shared_bytes;
    if (info->dtype != p->dtype)
        return snprintf(why, bytes, "takes %s, the problem is %s", attend_dtype_name(info->dtype),
                        attend_dtype_name(p->dtype)),
               DTYPE;
    if (lacking) {
        char text[128];
        attend_features_text(lacking, text, sizeof text);
        return snprintf(why, bytes, "does not support: %s", text), FEATURES;
    }
    if (p->head_dim > info->head_dim_max)
        return snprintf(why, bytes, "takes head_dim up to %" PRId64 ", the problem has %" PRId64,
                        info->head_dim_max, p->head_dim),
               HEAD_DIM;
    if (p->head_dim_v > info->head_dim_v_max)
        return snprintf(why, bytes, "takes head_dim_v up to %" PRId64 ", the problem has %" PRId64,
                        info->head_dim_v_max, p->head_dim_v),
               HEAD_DIM;
    if (!aligned && !row->any_alignment)
        return snprintf(why, bytes, "needs every row of q, k and v at a multiple of 16 bytes"), ALIGNMENT;
    if (info->architecture_exact ? info->architecture_min != gpu->architecture
                                 : info->architecture_min > gpu->architecture)
        return snprintf(why, bytes, "needs sm_%d%s, the device is sm_%d", info->architecture_min,
                        info->architecture_exact ? " itself" : "", gpu->architecture),
               ARCHITECTURE;
    if (shared_bytes > gpu->shared_bytes)
        return snprintf(why, bytes,
                        "needs %" PRId64 " bytes of shared memory in a block, the device gives %" PRId64,
                        shared_bytes, gpu->shared_bytes),
               SHARED_MEMORY;
    if (p->seqlen_k > attend_most_keys)
        return snprintf(why, bytes, "takes seqlen_k up to %d, the problem has %" PRId64,
                        (int)attend_most_keys, p->seqlen_k),
               KEYS;
    if (!row->fits_grid) return snprintf(why, bytes, "would need more than 2147483647 blocks"), BLOCKS;
    return FITS;
}

static candidate candidate_of(const attend_kernel_row *row, const attend_problem *p)
{
    const int64_t shared_bytes = row->info.shared_bytes + (attend_scores_terms(p) ? row->term_bytes : 0);
    const attend_kernel_box whole = attend_whole_box(p);
    attend_kernel_grid grid;
    return (candidate){&row->info, row->any_alignment, row->grid(p, &whole, &grid), shared_bytes};
}

static candidate candidate_of_backward(const attend_backward_row *row, const attend_problem *p)
{
    candidate c = {&row->info, row->any_alignment, true, row->info.shared_bytes};
    int64_t blocks;
    for (int i = 0; i < ATTEND_BACKWARD_STAGES; i++)
        c.fits_grid = c.fits_grid && row->blocks(p, (attend_backward_stage)i, &blocks);
    return c;
}

static const attend_kernel_row *find_row(const char *name)
{
    const attend_kernel_row *row;
    for (size_t i = 0; (row = attend_gpu_kernel_row(i)); i++)
        if (!strcmp(name, row->info.name)) return row;
    return NULL;
}

/* ATTEND_KERNEL's row; if it needs aligned tensors and these are not, the first row that fits them. */
static attend_status take_forced(const attend_gpu_context *gpu, const attend_problem *p, bool aligned,
                                 const char *name, const attend_kernel_row **row)
{
    char why[ATTEND_REASON_BYTES];
    *row = find_row(name);
    if (!*row)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "ATTEND_KERNEL is \"%s\", which is not in CUDA's kernel table; attend info "
                           "--kernels lists them",
                           name);
    const candidate c = candidate_of(*row, p);
    const misfit misfit = judge(gpu, p, aligned, &c, why, sizeof why);
    if (misfit == ALIGNMENT) *row = NULL;
    if (misfit == ALIGNMENT || misfit == FITS) return ATTEND_OK;
    return attend_fail(ATTEND_UNSUPPORTED, "ATTEND_KERNEL is %s, which %s", name, why);
}

/* The row that failed the latest check. */
typedef struct nearest {
    misfit misfit;
    const char *name;
    char why[ATTEND_REASON_BYTES];
} nearest;

static bool fits(nearest *n, const attend_gpu_context *gpu, const attend_problem *p, bool aligned,
                 const candidate *row)
{
    char why[ATTEND_REASON_BYTES];
    const misfit misfit = judge(gpu, p, aligned, row, why, sizeof why);
    if (misfit == FITS || misfit < n->misfit) return misfit == FITS;
    n->misfit = misfit, n->name = row->info->name;
    memcpy(n->why, why, sizeof why);
    return false;
}

static attend_status refuse(const nearest *n, const char *what)
{
    const bool left_out = ATTEND_HEAD_DIMS_LEFT_OUT && n->misfit == HEAD_DIM;
    return attend_fail(ATTEND_UNSUPPORTED, "no CUDA kernel fits%s; the nearest, %s, %s%s", what, n->name,
                       n->why, left_out ? "; this build has head dims " ATTEND_HEAD_DIMS : "");
}

attend_status attend_gpu_select_kernel(const attend_gpu_context *gpu, const attend_problem *p, bool aligned,
                                       const char *forced, const attend_kernel_row **row)
{
    nearest n = {.name = ""};
    *row = NULL;
    if (forced) ATTEND_TRY(take_forced(gpu, p, aligned, forced, row));
    if (*row) return ATTEND_OK;
    for (size_t i = 0; (*row = attend_gpu_kernel_row(i)); i++) {
        const candidate c = candidate_of(*row, p);
        if (fits(&n, gpu, p, aligned, &c)) return ATTEND_OK;
    }
    return refuse(&n, "");
}

attend_status attend_gpu_select_backward(const attend_gpu_context *gpu, const attend_problem *p, bool aligned,
                                         const attend_backward_row **row)
{
    nearest n = {.name = ""};
    for (size_t i = 0; (*row = attend_gpu_backward_row(i)); i++) {
        const candidate c = candidate_of_backward(*row, p);
        if (fits(&n, gpu, p, aligned, &c)) return ATTEND_OK;
    }
    return refuse(&n, " backwards");
}

/* Of a row that would do. */
static void say_first(const char *first, bool forced, attend_kernel_choice *choice)
{
    snprintf(choice->reason, sizeof choice->reason,
             forced ? "would fit, but ATTEND_KERNEL forces %s" : "would fit, but %s comes first in the table",
             first);
}

static void choose_forward(const attend_plan *plan, const attend_kernel_row *row,
                           attend_kernel_choice *choice)
{
    const attend_gpu_plan *own = plan->state;
    const candidate c = candidate_of(row, &plan->problem);
    choice->chosen = row == own->row, choice->chosen_unaligned = row == own->row_any;
    if (choice->chosen || choice->chosen_unaligned) return;
    if (judge(own->gpu, &plan->problem, true, &c, choice->reason, sizeof choice->reason) == FITS)
        say_first(own->row->info.name, own->forced, choice);
}

static void choose_backward(const attend_plan *plan, const attend_backward_row *row,
                            attend_kernel_choice *choice)
{
    const attend_gpu_plan *own = plan->state;
    const candidate c = candidate_of_backward(row, &plan->problem);
    if (!plan->options.backward) {
        snprintf(choice->reason, sizeof choice->reason, "runs backwards, the plan forward alone");
        return;
    }
    choice->chosen = row == own->backward.row, choice->chosen_unaligned = row == own->backward.row_any;
    if (choice->chosen || choice->chosen_unaligned) return;
    if (judge(own->gpu, &plan->problem, true, &c, choice->reason, sizeof choice->reason) == FITS)
        say_first(own->backward.row->info.name, false, choice);
}

bool attend_gpu_kernel_choice(const attend_plan *plan, size_t index, attend_kernel_choice *choice)
{
    const attend_kernel_info *info = attend_gpu_kernel_info(index);
    if (!info) return false;
    choice->name = info->name, choice->dtype = info->dtype;
    if (!info->backward)
        choose_forward(plan, attend_gpu_kernel_row(index), choice);
    else
        choose_backward(
            plan, (const attend_backward_row *)((const char *)info - offsetof(attend_backward_row, info)),
            choice);
    return true;
}
