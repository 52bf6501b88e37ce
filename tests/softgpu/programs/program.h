/* Ordinary CUDA programs in the idioms that people use, each of which checks its own results: 0 if they are right. They know nothing of
   the software device; on it they must be right and without a finding. */
#ifndef SOFTGPU_PROGRAMS_PROGRAM_H
#define SOFTGPU_PROGRAMS_PROGRAM_H

#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <vector>

static inline void check(cudaError_t error, const char *call, int line)
{
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "line %d: %s: %s\n", line, call, cudaGetErrorString(error));
    std::exit(1);
}
#define CHECK(call) check(call, #call, __LINE__)

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (condition) break;                                                                                          \
        std::fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition);                                           \
        std::exit(1);                                                                                                  \
    } while (0)

template <typename T> static T *to_device(const std::vector<T> &host)
{
    T *device;
    CHECK(cudaMalloc(&device, host.size() * sizeof(T)));
    CHECK(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
    return device;
}

template <typename T> static std::vector<T> to_host(const T *device, size_t n)
{
    std::vector<T> host(n);
    CHECK(cudaMemcpy(host.data(), device, n * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
}

/* Small integers in a fixed order: sums of them are exact in any order. */
static inline int number(size_t i) { return static_cast<int>((i * 2654435761u >> 7) % 17) - 8; }

#endif
