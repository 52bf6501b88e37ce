/* What a CUtensorMap holds on the software device: the host's call writes it, kernels' tensor copies read it. Its 128 bytes are opaque to
   programs, so the layout is this device's own. */
#ifndef SOFTGPU_ENGINE_TENSOR_MAP_H
#define SOFTGPU_ENGINE_TENSOR_MAP_H

#include <stdint.h>

#define TENSOR_MAP_MAGIC UINT64_C(0x70616d726f736e74)

enum { TENSOR_MAP_BYTES = 128, TENSOR_DIMENSIONS = 5 };

typedef enum tensor_type { TENSOR_U8, TENSOR_U16, TENSOR_U32, TENSOR_S32, TENSOR_U64, TENSOR_S64, TENSOR_F16, TENSOR_BF16, TENSOR_F32, TENSOR_F64, TENSOR_TYPES } tensor_type;

/* CUTLASS clears bit 21 of word 1 in maps of tensors below 128 KiB, for the sake of drivers up to 13.1: nothing lies there. */
typedef struct tensor_map {
    uint64_t magic, word_1, address;
    uint64_t strides[TENSOR_DIMENSIONS - 1]; /* bytes, of dimensions 1 and on */
    uint32_t sizes[TENSOR_DIMENSIONS];       /* elements, less one */
    uint16_t box[TENSOR_DIMENSIONS];         /* elements of a copy, before they are thinned by steps */
    uint8_t steps[TENSOR_DIMENSIONS];        /* only each step-th of them is copied */
    uint8_t rank, type, element_bytes, swizzle;    /* swizzle: bytes of its span; 0: none */
} tensor_map;

_Static_assert(sizeof(tensor_map) <= TENSOR_MAP_BYTES, "a CUtensorMap holds it");

#endif
