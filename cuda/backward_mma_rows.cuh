// The kernels and rows of backward_mma in one dtype. The file that includes this defines ATTEND_FAMILY, the
// prefix of their names, ATTEND_ELEMENT and ATTEND_DTYPE. Parameters of a kernel: dim, warps, 16-row
// fragments a warp, rows of the other side's tile; of queries, then of keys.
#include "backward_mma.cuh"
#include "named.cuh"

#define KERNEL_(name, stage, ...)                                         \
    using name##_tile = attend::backward_mma_tile<__VA_ARGS__>;           \
    extern "C" __global__ void __launch_bounds__(name##_tile::threads, 1) \
        name(const __grid_constant__ attend_backward_args args)           \
    {                                                                     \
        attend::run_backward_mma<name##_tile, stage>(args);               \
    }
#define KERNEL(name, stage, ...) KERNEL_(name, stage, __VA_ARGS__)
#define QUERIES(suffix, ...)     KERNEL(NAMED(suffix), ATTEND_BACKWARD_QUERIES, ATTEND_ELEMENT, __VA_ARGS__)
#define KEYS(suffix, ...)        KERNEL(NAMED(suffix##_keys), ATTEND_BACKWARD_KEYS, ATTEND_ELEMENT, __VA_ARGS__)
#define ROW_(name, keys) \
    attend::backward_mma_row<name##_tile, name, keys##_tile, keys>::row(#name, ATTEND_DTYPE)
#define ROW__(name, keys) ROW_(name, keys)
#define ROW(suffix)       ROW__(NAMED(suffix), NAMED(suffix##_keys))

ATTEND_D64(QUERIES(_d64, 64, 4, 2, 32) KEYS(_d64, 64, 8, 1, 64))
ATTEND_D128(QUERIES(_d128, 128, 8, 1, 32) KEYS(_d128, 128, 8, 1, 32))

constexpr attend_backward_row ROWS[] = {
    // clang-format off
    ATTEND_D64(ROW(_d64),)
    ATTEND_D128(ROW(_d128),)
    // clang-format on
};
const int ROW_COUNT = sizeof ROWS / sizeof *ROWS;
