// The rows of flash_mma in bf16: dim, warps, 16-row fragments a warp, keys, whether Q stays in registers.
// docs/kernels.md has the figures that chose them.
#include "mma_rows.cuh"

ATTEND_D32(ATTEND_MMA_KERNEL(flash_mma_bf16_d32, __nv_bfloat16, 32, 4, 2, 64, false))
ATTEND_D64(ATTEND_MMA_KERNEL(flash_mma_bf16_d64, __nv_bfloat16, 64, 4, 2, 64, true))
ATTEND_D96(ATTEND_MMA_KERNEL(flash_mma_bf16_d96, __nv_bfloat16, 96, 4, 2, 64, false))
ATTEND_D128(ATTEND_MMA_KERNEL(flash_mma_bf16_d128, __nv_bfloat16, 128, 4, 2, 64, false))
ATTEND_D192(ATTEND_MMA_KERNEL(flash_mma_bf16_d192, __nv_bfloat16, 192, 8, 1, 64, false))
ATTEND_D256(ATTEND_MMA_KERNEL(flash_mma_bf16_d256, __nv_bfloat16, 256, 8, 1, 64, false))
ATTEND_D256(ATTEND_MMA_KERNEL(flash_mma_bf16_d256_m64, __nv_bfloat16, 256, 4, 1, 64, false))

extern "C" __global__ void flash_mma_bf16_combine(const __grid_constant__ attend_kernel_args args)
{
    attend::combine<__nv_bfloat16>(args);
}

#define ROW(name) ATTEND_MMA_ROW(name, flash_mma_bf16_combine, ATTEND_BF16)
constexpr attend_kernel_row attend_flash_mma_bf16_rows[] = {
    // clang-format off
    ATTEND_D32(ROW(flash_mma_bf16_d32),)
    ATTEND_D64(ROW(flash_mma_bf16_d64),)
    ATTEND_D96(ROW(flash_mma_bf16_d96),)
    ATTEND_D128(ROW(flash_mma_bf16_d128),)
    ATTEND_D192(ROW(flash_mma_bf16_d192),)
    ATTEND_D256(ROW(flash_mma_bf16_d256),)
    ATTEND_D256(ROW(flash_mma_bf16_d256_m64),)
    // clang-format on
};
const int attend_flash_mma_bf16_row_count =
    sizeof attend_flash_mma_bf16_rows / sizeof *attend_flash_mma_bf16_rows;
