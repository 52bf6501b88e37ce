// PTX instructions of sm_90a, one wrapper each, named after it; sections are those of the PTX ISA.
#pragma once

#include "ptx.cuh"

namespace attend
{

// ---- barriers ----

// 9.7.13.1 bar.sync: barrier `id` of `threads` threads of the block.
template <int threads> __device__ inline void bar_sync(int id)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(threads) : "memory");
}

// 9.7.13.1 bar.arrive: the same, without waiting.
template <int threads> __device__ inline void bar_arrive(int id)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "n"(threads) : "memory");
}

// 9.7.13.1 bar.red.or: bar.sync; whether `any` holds in one of the threads.
template <int threads> __device__ inline bool bar_or(int id, bool any)
{
    int result;
    asm volatile("{\n\t.reg .pred in, out;\n\tsetp.ne.u32 in, %1, 0;\n\tbar.red.or.pred out, %2, %3, in;\n\t"
                 "selp.u32 %0, 1, 0, out;\n\t}"
                 : "=r"(result)
                 : "r"(static_cast<int>(any)), "r"(id), "n"(threads)
                 : "memory");
    return result != 0;
}

// 9.7.13.15.9 mbarrier.init: a phase ends after `count` arrivals.
__device__ inline void mbarrier_init(uint32_t barrier, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

// 9.7.13.15.13 mbarrier.arrive
__device__ inline void mbarrier_arrive(uint32_t barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// The same by those threads alone for which it is said, without a branch.
__device__ inline void mbarrier_arrive(uint32_t barrier, bool arrives)
{
    asm volatile("{\n\t.reg .pred arrives;\n\tsetp.ne.u32 arrives, %1, 0;\n\t"
                 "@arrives mbarrier.arrive.shared::cta.b64 _, [%0];\n\t}" ::"r"(barrier),
                 "r"(static_cast<int>(arrives))
                 : "memory");
}

// 9.7.13.15.16 mbarrier.try_wait.parity: waits for the end of the phase of this parity.
__device__ inline void mbarrier_wait(uint32_t barrier, uint32_t parity)
{
    asm volatile(
        "{\n\t.reg .pred done;\nwaiting:\n\t"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t@!done bra waiting;\n\t}" ::"r"(barrier),
        "r"(parity)
        : "memory");
}

// 9.7.13.4 fence.proxy.async: what threads wrote before to shared memory is there for wgmma.
__device__ inline void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// 9.7.19.5 setmaxnreg: so many registers a thread, given back to the block's pool or taken from it.
template <int registers> __device__ inline void setmaxnreg_dec()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers> __device__ inline void setmaxnreg_inc()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

// ---- products of a warpgroup ----

// 9.7.15.5.1: the low word of the descriptor of a tile in panels (panel_tile), in rows along k, or along the
// other dimension: groups of 8 rows follow each other, panels are `panel_bytes` apart.
__device__ inline uint32_t matrix_at(uint32_t address, uint32_t panel_bytes)
{
    return address >> 4 | panel_bytes >> 4 << 16;
}
// The descriptor of what lies `bytes` further. The high word is the same for all.
__device__ inline uint64_t descriptor(uint32_t matrix, uint32_t bytes)
{
    constexpr uint32_t group_bytes = 1024, swizzle_128 = 1;
    return uint64_t(group_bytes >> 4 | swizzle_128 << 30) << 32 | (matrix + (bytes >> 4));
}

// Keeps the compiler from moving what it does with a register across a product under way.
__device__ inline void hold(float &x) { asm volatile("" : "+f"(x)::"memory"); }
__device__ inline void hold(uint32_t &x) { asm volatile("" : "+r"(x)::"memory"); }
template <typename T, int n> __device__ void hold(T (&array)[n])
{
#pragma unroll
    for (int i = 0; i < n; i++) hold(array[i]);
}

// 9.7.15.7.1 wgmma.fence: products that follow see what was written to their registers.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// 9.7.15.7.2 wgmma.commit_group: closes the group of products issued since the last one.
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// 9.7.15.7.3 wgmma.wait_group: waits until at most `pending` groups are under way.
template <int pending> __device__ inline void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// 9.7.15.5.2 wgmma.mma_async: products of 64 rows with fp32 sums, in steps of 16 along k. A warp has 16 rows
// of d, each in the layout of mma.m16n8k16. Rows of a in shared memory lie along k; in registers a is mma's.
template <typename T> struct wgmma;

#define ATTEND_SUMS_16(how, d, n)                                                                 \
    how(d[n][0]), how(d[n][1]), how(d[n][2]), how(d[n][3]), how(d[n + 1][0]), how(d[n + 1][1]),   \
        how(d[n + 1][2]), how(d[n + 1][3]), how(d[n + 2][0]), how(d[n + 2][1]), how(d[n + 2][2]), \
        how(d[n + 2][3]), how(d[n + 3][0]), how(d[n + 3][1]), how(d[n + 3][2]), how(d[n + 3][3])
#define ATTEND_SUMS_32(how, d) ATTEND_SUMS_16(how, d, 0), ATTEND_SUMS_16(how, d, 4)
#define ATTEND_SUMS_64(how, d) ATTEND_SUMS_32(how, d), ATTEND_SUMS_16(how, d, 8), ATTEND_SUMS_16(how, d, 12)
#define ATTEND_FIRST_32                                                                                    \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
    "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define ATTEND_FIRST_64                                                                       \
    ATTEND_FIRST_32                                                                           \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, " \
    "%49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
// One product: d = a·b (adds 0, sums "=f") or d += a·b (1, "+f"). n: columns of d; count: its registers; then
// the operands behind d, as the instruction takes them, and how a comes in.
#define ATTEND_WGMMA(adds, how, type, n, count, operands, ...)                                             \
    asm volatile("{\n\t.reg .pred adds;\n\tsetp.ne.u32 adds, " #adds ", 0;\n\t"                            \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" ATTEND_FIRST_##count \
                 "}, " operands "\n\t}"                                                                    \
                 : ATTEND_SUMS_##count(how, d)                                                             \
                 : __VA_ARGS__, "l"(b)                                                                     \
                 : "memory")
#define ATTEND_FRAGMENT(a) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
#define ATTEND_WGMMA_OF(element, type)                                                        \
    template <> struct wgmma<element> {                                                       \
        /* d = a·b and d += a·b for columns of b that lie along k */                        \
        static __device__ void start(float (&d)[16][4], uint64_t a, uint64_t b)               \
        {                                                                                     \
            ATTEND_WGMMA(0, "=f", type, 128, 64, "%64, %65, adds, 1, 1, 0, 0;", "l"(a));      \
        }                                                                                     \
        static __device__ void add(float (&d)[16][4], uint64_t a, uint64_t b)                 \
        {                                                                                     \
            ATTEND_WGMMA(1, "+f", type, 128, 64, "%64, %65, adds, 1, 1, 0, 0;", "l"(a));      \
        }                                                                                     \
        /* d += a·b for rows of b that lie along the columns of d */                         \
        static __device__ void add(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b)     \
        {                                                                                     \
            ATTEND_WGMMA(1, "+f", type, 128, 64, "{%64, %65, %66, %67}, %68, adds, 1, 1, 1;", \
                         ATTEND_FRAGMENT(a));                                                 \
        }                                                                                     \
        static __device__ void add(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b)      \
        {                                                                                     \
            ATTEND_WGMMA(1, "+f", type, 64, 32, "{%32, %33, %34, %35}, %36, adds, 1, 1, 1;",  \
                         ATTEND_FRAGMENT(a));                                                 \
        }                                                                                     \
    };
ATTEND_WGMMA_OF(__half, "f16")
ATTEND_WGMMA_OF(__nv_bfloat16, "bf16")

} // namespace attend
