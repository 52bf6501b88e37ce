/* wgmma for the tests' own kernels: 64 by 64 by 16, fp16 into fp32. */
#ifndef SOFTGPU_KERNELS_WARPGROUP_CUH
#define SOFTGPU_KERNELS_WARPGROUP_CUH

/* A tile whose rows along k are 128 bytes, swizzled by as many. */
static __device__ __forceinline__ unsigned long long swizzled_descriptor(unsigned start)
{
    return (unsigned long long)(start >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

#define SUMS4(c, d, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define SUMS(c, d)                                                                                                                         \
    SUMS4(c, d, 0), SUMS4(c, d, 4), SUMS4(c, d, 8), SUMS4(c, d, 12), SUMS4(c, d, 16), SUMS4(c, d, 20), SUMS4(c, d, 24), SUMS4(c, d, 28)

static __device__ __forceinline__ void warpgroup_fence(float (&sum)[32]) { asm volatile("wgmma.fence.sync.aligned;" : SUMS("+f", sum) : : "memory"); }

static __device__ __forceinline__ void warpgroup_multiply(float (&sum)[32], unsigned long long a, unsigned long long b, int accumulates)
{
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %34, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, p, 1, 1, 0, 0;\n\t}"
                 : SUMS("+f", sum)
                 : "l"(a), "l"(b), "r"(accumulates)
                 : "memory");
}

static __device__ __forceinline__ void warpgroup_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int LEFT> static __device__ __forceinline__ void warpgroup_wait(float (&sum)[32])
{
    asm volatile("wgmma.wait_group.sync.aligned %32;" : SUMS("+f", sum) : "n"(LEFT) : "memory");
}

#endif
