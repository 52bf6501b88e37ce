// The kernels and rows of flash_wgmma in one dtype, as flash_mma_rows.cuh. Parameters of a kernel: dim,
// warpgroups that compute, stages.
#include "flash_wgmma.cuh"
#include "mma_rows.cuh"

#define CONCAT_(a, b) a##b
#define CONCAT(a, b)  CONCAT_(a, b)
#define NAMED(suffix) CONCAT(ATTEND_FAMILY, suffix)
#define KERNEL_(name, ...)                                                                                  \
    using name##_tile = attend::wgmma_tile<ATTEND_ELEMENT, __VA_ARGS__>;                                    \
    extern "C" __global__ void __launch_bounds__(name##_tile::block_threads, name##_tile::blocks) name(     \
        const __grid_constant__ attend_kernel_args args, const __grid_constant__ attend::block_order order) \
    {                                                                                                       \
        attend::flash_wgmma<name##_tile>(args, order);                                                      \
    }
#define KERNEL__(name, ...) KERNEL_(name, __VA_ARGS__)
#define KERNEL(suffix, ...) KERNEL__(NAMED(suffix), __VA_ARGS__)
#define ROW(suffix)         ATTEND_MMA_ROW(NAMED(suffix), NAMED(_combine), ATTEND_DTYPE)
#define ROWS                CONCAT(attend_, NAMED(_rows))

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
const int CONCAT(attend_, NAMED(_row_count)) = sizeof ROWS / sizeof *ROWS;
