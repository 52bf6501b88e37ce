// The kernels and rows of flash_wgmma in one dtype, as flash_mma_rows.cuh. Parameters of a kernel: dim,
// warpgroups that compute, stages.
#include "flash_wgmma.cuh"
#include "mma_rows.cuh"

#define KERNEL(suffix, ...) \
    ATTEND_MMA_KERNEL(NAMED(suffix), flash_wgmma, wgmma_tile<ATTEND_ELEMENT, __VA_ARGS__>)

ATTEND_D64(KERNEL(_d64, 64, 2, 2))
ATTEND_D128(KERNEL(_d128, 128, 2, 2))

extern "C" __global__ void NAMED(_combine)(const __grid_constant__ attend_kernel_args args)
{
    attend::combine<ATTEND_ELEMENT>(args);
}

constexpr attend_kernel_row ROWS[] = {
    // clang-format off
    ATTEND_D64(ROW(_d64),)
    ATTEND_D128(ROW(_d128),)
    // clang-format on
};
const int ROW_COUNT = sizeof ROWS / sizeof *ROWS;
