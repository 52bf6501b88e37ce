/* mbarriers, tensor copies and tensor maps for the tests' own kernels. */
#ifndef SOFTGPU_KERNELS_HOPPER_CUH
#define SOFTGPU_KERNELS_HOPPER_CUH

#include "kernels/planted.h"

#include <cuda.h>
#include <cudaTypedefs.h>

static __device__ __forceinline__ unsigned shared_address(const void *pointer) { return (unsigned)__cvta_generic_to_shared(pointer); }

static __device__ __forceinline__ void mbarrier_init(unsigned barrier, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n\tfence.mbarrier_init.release.cluster;" ::"r"(barrier), "r"(count) : "memory");
}

static __device__ __forceinline__ void mbarrier_arrive(unsigned barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* Arrives, and announces bytes. */
static __device__ __forceinline__ void mbarrier_expect(unsigned barrier, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void mbarrier_wait(unsigned barrier, int parity)
{
    asm volatile("{\n\t.reg .pred done;\nagain:\n\tmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t@!done bra again;\n\t}" ::"r"(barrier), "r"(parity)
                 : "memory");
}

#define TENSOR_LOAD(rank, mode, coordinates)                                                                                                     \
    asm volatile("cp.async.bulk.tensor." rank ".shared::cluster.global" mode ".mbarrier::complete_tx::bytes [%0], [%1, {" coordinates "}], [%2];" ::"r"(to), \
                 "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)                                                      \
                 : "memory")

static __device__ __forceinline__ void tensor_load(int rank, unsigned to, const CUtensorMap *map, unsigned barrier, int c0, int c1 = 0, int c2 = 0, int c3 = 0,
                                                   int c4 = 0)
{
    switch (rank) {
    case 1: TENSOR_LOAD("1d", "", "%3"); break;
    case 2: TENSOR_LOAD("2d", ".tile", "%3, %4"); break;
    case 3: TENSOR_LOAD("3d", "", "%3, %4, %5"); break;
    case 4: TENSOR_LOAD("4d", "", "%3, %4, %5, %6"); break;
    default: TENSOR_LOAD("5d", "", "%3, %4, %5, %6, %7");
    }
}

#define TENSOR_STORE(rank, coordinates)                                                                                                    \
    asm volatile("cp.async.bulk.tensor." rank ".global.shared::cta.bulk_group [%1, {" coordinates "}], [%0];" ::"r"(from), "l"(map), "r"(c0),  \
                 "r"(c1), "r"(c2), "r"(c3), "r"(c4)                                                                                        \
                 : "memory")

static __device__ __forceinline__ void tensor_store(int rank, unsigned from, const CUtensorMap *map, int c0, int c1 = 0, int c2 = 0, int c3 = 0, int c4 = 0)
{
    switch (rank) {
    case 1: TENSOR_STORE("1d", "%2"); break;
    case 2: TENSOR_STORE("2d", "%2, %3"); break;
    case 3: TENSOR_STORE("3d", "%2, %3, %4"); break;
    case 4: TENSOR_STORE("4d", "%2, %3, %4, %5"); break;
    default: TENSOR_STORE("5d", "%2, %3, %4, %5, %6");
    }
}

/* A dense tensor of 16-bit elements (or others), innermost dimension first. */
static inline CUtensorMap tensor_map(void *data, int rank, const int *size, const int *box, const int *step, CUtensorMapSwizzle swizzle,
                                     CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_UINT16)
{
    const int bytes = type == CU_TENSOR_MAP_DATA_TYPE_UINT16 ? 2 : 4;
    static PFN_cuTensorMapEncodeTiled_v12000 encode;
    CUtensorMap map;
    cuuint64_t sizes[5], strides[5];
    cuuint32_t boxes[5], steps[5];
    for (int d = 0; d < rank; d++) {
        sizes[d] = size[d];
        strides[d] = (d ? strides[d - 1] : bytes) * size[d];
        boxes[d] = box[d];
        steps[d] = step[d];
    }
    cudaDriverEntryPointQueryResult found;
    if (!encode) CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", (void **)&encode, 12000, cudaEnableDefault, &found));
    CUresult result = encode(&map, type, rank, data, sizes, strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                             CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) std::exit(4);
    return map;
}

#endif
