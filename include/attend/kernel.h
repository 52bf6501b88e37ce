/* The kernels of this build. */
#ifndef ATTEND_KERNEL_H
#define ATTEND_KERNEL_H

#include <attend/context.h>
#include <attend/tensor.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One row of the kernel table. */
typedef struct attend_kernel_info {
    const char *name;
    attend_device device;
    attend_dtype dtype;
    int64_t head_dim_max, head_dim_v_max;
    int architecture_min; /* 80 for sm_80; 0 on the CPU */
    int tile_q, tile_k, threads;
    int64_t shared_bytes;
    uint64_t features; /* of attend_feature: what problems may ask of it */
    bool backward; /* its work is gradients, of plans made with `backward`, beside a row that runs forward */
    bool architecture_exact; /* it runs on architecture_min alone, not on later ones */
    uint8_t reserved[6];
} attend_kernel_info;

ATTEND_API bool attend_kernel_sized(size_t index, attend_kernel_info *info, size_t info_bytes);

/* Row `index` of the table of all backends in this build; false past the last, and where info is NULL. */
static inline bool attend_kernel(size_t index, attend_kernel_info *info)
{
    return attend_kernel_sized(index, info, sizeof *info);
}

/* What the CUDA compiler made of a row for one architecture of this build, as ptxas reported it. */
typedef struct attend_kernel_resources {
    int architecture;     /* 80 for sm_80 */
    int registers;        /* of a thread */
    int64_t spill_bytes;  /* spill stores and loads */
    int64_t shared_bytes; /* of a block */
    int blocks, warps;    /* that a multiprocessor of this architecture holds at once */
} attend_kernel_resources;

ATTEND_API bool attend_kernel_resources_sized(size_t index, size_t build, attend_kernel_resources *resources,
                                              size_t resources_bytes);

/* Row `index` as compiled for architecture number `build` of this build; false past the last, and for rows of
   the CPU. */
static inline bool attend_kernel_resources_of(size_t index, size_t build, attend_kernel_resources *resources)
{
    return attend_kernel_resources_sized(index, build, resources, sizeof *resources);
}

/* Bytes of the device code of kernel family number `index` in this build: all its rows, for all
   architectures, compressed as in the library. A family is named after its source ("flash_mma_f16"); beside
   attention there are those of layers and inspection. False past the last, in a build without CUDA, and where
   an argument is NULL. Which architectures and head dims are compiled is chosen with the build:
   ATTEND_ARCHITECTURES and ATTEND_HEAD_DIMS. */
ATTEND_API bool attend_device_code(size_t index, const char **family, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
