// Every PTX instruction that CUDA C cannot express, one wrapper each, named after it; sections are those of the PTX ISA.
#pragma once

#include <cstdint>

namespace attend {

// 9.7.3.21 ex2: 2^x with a relative error of at most 2^-22; 2^-inf is +0.
__device__ inline float ex2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 9.7.9.20 cvta: an address in the shared window, as the instructions below take it.
__device__ inline uint32_t shared_address(const void *pointer)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// 9.7.9.25.3.1 cp.async: copies the first `bytes` (0 to 16) of 16 bytes to shared memory past L1; zeros fill the rest.
__device__ inline void cp_async(uint32_t to, const void *from, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
}

// 9.7.9.25.3.2 cp.async.commit_group: closes the group of copies issued since the last one.
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// 9.7.9.25.3.3 cp.async.wait_group: waits until at most `pending` of this thread's groups are still under way.
template <int pending> __device__ inline void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

} // namespace attend
