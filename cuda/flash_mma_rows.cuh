// The kernels and rows of flash_mma in one dtype. The file that includes this defines ATTEND_FAMILY, the
// prefix of their names, ATTEND_ELEMENT and ATTEND_DTYPE. Parameters of a kernel: dim, warps, 16-row
// fragments a warp, keys a tile, whether Q stays in registers; docs/kernels.md has the figures that chose
// them.
#include "flash_mma.cuh"
#include "mma_rows.cuh"

#define KERNEL(suffix, ...) ATTEND_MMA_KERNEL(NAMED(suffix), flash_mma, mma_tile<ATTEND_ELEMENT, __VA_ARGS__>)

ATTEND_D32(KERNEL(_d32, 32, 4, 2, 64, false))
ATTEND_D64(KERNEL(_d64, 64, 4, 2, 64, true))
ATTEND_D96(KERNEL(_d96, 96, 4, 2, 64, false))
ATTEND_D128(KERNEL(_d128, 128, 4, 2, 64, false))
ATTEND_D192(KERNEL(_d192, 192, 8, 1, 64, false))
ATTEND_D256(KERNEL(_d256, 256, 8, 1, 64, false))
ATTEND_D256(KERNEL(_d256_m64, 256, 4, 1, 64, false))

extern "C" __global__ void NAMED(_combine)(const __grid_constant__ attend_kernel_args args)
{
    attend::combine<ATTEND_ELEMENT>(args);
}

constexpr attend_kernel_row ROWS[] = {
    // clang-format off
    ATTEND_D32(ROW(_d32),)
    ATTEND_D64(ROW(_d64),)
    ATTEND_D96(ROW(_d96),)
    ATTEND_D128(ROW(_d128),)
    ATTEND_D192(ROW(_d192),)
    ATTEND_D256(ROW(_d256),)
    ATTEND_D256(ROW(_d256_m64),)
    // clang-format on
};
const int ROW_COUNT = sizeof ROWS / sizeof *ROWS;
