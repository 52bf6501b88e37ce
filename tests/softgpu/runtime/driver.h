/* What driver.c hands out that is not its own. */
#ifndef SOFTGPU_RUNTIME_DRIVER_H
#define SOFTGPU_RUNTIME_DRIVER_H

#include <cuda.h>

CUresult driver_encode_tiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
                             const cuuint64_t *sizes, const cuuint64_t *strides, const cuuint32_t *box,
                             const cuuint32_t *steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                             CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill);

#endif
