/* What a CUtensorMap holds on the software device: the host's call writes it, kernels' tensor copies read it. Its 128 bytes are opaque to
   programs, so the layout is this device's own. */
#ifndef SOFTGPU_ENGINE_TENSOR_MAP_H
#define SOFTGPU_ENGINE_TENSOR_MAP_H

#include <stdint.h>

#define TENSOR_MAP_MAGIC UINT64_C(0x70616d726f736e74)

enum { TENSOR_MAP_BYTES = 128, TENSOR_DIMENSIONS = 5 };

typedef struct tensor_map {
    uint64_t magic, address;
    uint64_t strides[TENSOR_DIMENSIONS - 1]; /* bytes, of dimensions 1 and on */
    uint32_t sizes[TENSOR_DIMENSIONS];       /* elements, less one */
    uint16_t box[TENSOR_DIMENSIONS];         /* elements of a copy, before they are thinned by steps */
    uint8_t steps[TENSOR_DIMENSIONS];        /* only each step-th of them is copied */
    uint8_t rank, element_bytes, swizzle;    /* swizzle: bytes of its span; 0: none */
} tensor_map;

_Static_assert(sizeof(tensor_map) <= TENSOR_MAP_BYTES, "a CUtensorMap holds it");

#endif
