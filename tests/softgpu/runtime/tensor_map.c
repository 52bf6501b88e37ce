/* cuTensorMapEncodeTiled, which writes tensor maps as the engine's tensor copies read them. */
#include "engine/tensor_map.h"
#include "runtime/driver.h"
#include "runtime/queue.h"
#include <cuda.h>
#include <stdio.h>
#include <string.h>

enum { BOX_MOST = 256, STEP_MOST = 8, ALIGN = 16, STRIDE_BITS = 40, SIZE_BITS = 32 };

/* By CU_TENSOR_MAP_DATA_TYPE_…; the others have less than a byte, and 0 here. */
static const struct {
    uint8_t bytes, type;
} elements[] = {
    [CU_TENSOR_MAP_DATA_TYPE_UINT8] = {1, TENSOR_U8},         [CU_TENSOR_MAP_DATA_TYPE_UINT16] = {2, TENSOR_U16},
    [CU_TENSOR_MAP_DATA_TYPE_FLOAT16] = {2, TENSOR_F16},      [CU_TENSOR_MAP_DATA_TYPE_BFLOAT16] = {2, TENSOR_BF16},
    [CU_TENSOR_MAP_DATA_TYPE_UINT32] = {4, TENSOR_U32},       [CU_TENSOR_MAP_DATA_TYPE_INT32] = {4, TENSOR_S32},
    [CU_TENSOR_MAP_DATA_TYPE_FLOAT32] = {4, TENSOR_F32},      [CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ] = {4, TENSOR_F32},
    [CU_TENSOR_MAP_DATA_TYPE_TFLOAT32] = {4, TENSOR_F32},     [CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ] = {4, TENSOR_F32},
    [CU_TENSOR_MAP_DATA_TYPE_UINT64] = {8, TENSOR_U64},       [CU_TENSOR_MAP_DATA_TYPE_INT64] = {8, TENSOR_S64},
    [CU_TENSOR_MAP_DATA_TYPE_FLOAT64] = {8, TENSOR_F64},
};

static int element_bytes(CUtensorMapDataType type) {
    return (size_t)type < sizeof elements / sizeof *elements ? elements[type].bytes : 0;
}

/* The driver gives a number only; which rule was broken is said here. */
static CUresult refuse(const char *rule) {
    fprintf(stderr, "softgpu: cuTensorMapEncodeTiled: %s\n", rule);
    return CUDA_ERROR_INVALID_VALUE;
}

static CUresult fill_sizes(tensor_map *m, const cuuint64_t *sizes, const cuuint64_t *strides, const cuuint32_t *box,
                           const cuuint32_t *steps) {
    for (int d = 0; d < m->rank; d++) {
        if (sizes[d] < 1 || sizes[d] > UINT64_C(1) << SIZE_BITS) return refuse("each size must lie in 1 to 2^32");
        if (box[d] < 1 || box[d] > BOX_MOST) return refuse("a box has 1 to 256 elements along each dimension");
        if (d && (steps[d] < 1 || steps[d] > STEP_MOST)) return refuse("element strides must lie in 1 to 8");
        if (d && (strides[d - 1] % ALIGN || strides[d - 1] >> STRIDE_BITS))
            return refuse("strides must be multiples of 16 below 2^40");
        m->sizes[d] = (uint32_t)(sizes[d] - 1);
        m->box[d] = (uint16_t)box[d];
        m->steps[d] = d ? (uint8_t)steps[d] : 1;
        if (d) m->strides[d - 1] = strides[d - 1];
    }
    return CUDA_SUCCESS;
}

CUresult driver_encode_tiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
                             const cuuint64_t *sizes, const cuuint64_t *strides, const cuuint32_t *box,
                             const cuuint32_t *steps, CUtensorMapInterleave interleave,
                             CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                             CUtensorMapFloatOOBfill fill) {
    static const uint8_t spans[] = {[CU_TENSOR_MAP_SWIZZLE_NONE] = 0,
                                    [CU_TENSOR_MAP_SWIZZLE_32B] = 32,
                                    [CU_TENSOR_MAP_SWIZZLE_64B] = 64,
                                    [CU_TENSOR_MAP_SWIZZLE_128B] = 128};
    (void)promotion;
    if (!map || !sizes || !box || !steps || (rank > 1 && !strides)) return refuse("an argument is NULL");
    if (rank < 1 || rank > TENSOR_DIMENSIONS) return refuse("a tensor has 1 to 5 dimensions");
    if ((uintptr_t)address % ALIGN || !address) return refuse("the tensor must begin at a multiple of 16");
    if (!element_bytes(type) || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE ||
        (unsigned)swizzle > CU_TENSOR_MAP_SWIZZLE_128B) {
        softgpu_unsupported("cuTensorMapEncodeTiled with sub-byte types, interleaving, NaN fill or swizzled atoms");
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    tensor_map m = {.magic = TENSOR_MAP_MAGIC,
                    .address = (uintptr_t)address,
                    .rank = (uint8_t)rank,
                    .type = elements[type].type,
                    .element_bytes = elements[type].bytes,
                    .swizzle = spans[swizzle]};
    CUresult status = fill_sizes(&m, sizes, strides, box, steps);
    if (status != CUDA_SUCCESS) return status;
    int row = m.box[0] * m.element_bytes;
    if (row % ALIGN) return refuse("a box's rows must be multiples of 16 bytes");
    if (m.swizzle && row > m.swizzle) return refuse("a box's rows must fit the swizzle's span");
    memset(map, 0, sizeof *map);
    memcpy(map, &m, sizeof m);
    return CUDA_SUCCESS;
}
