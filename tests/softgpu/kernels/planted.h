/* Planted bugs: small CUDA programs with one defect each, and the same program without it. The line that a check must name carries
   the comment PLANTED(case: kind); the kinds are those of the engine's findings. */
#ifndef SOFTGPU_KERNELS_PLANTED_H
#define SOFTGPU_KERNELS_PLANTED_H

#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>

struct planted_case {
    const char *name;
    void (*run)(int planted); /* 0: the correct twin */
};

/* The cases of each file, ended by one without a name. */
extern const planted_case planted_memory[], planted_races[], planted_barriers[], planted_copies[], planted_host[], planted_hopper[];

static inline void check(cudaError_t error, const char *call)
{
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "planted: %s: %s\n", call, cudaGetErrorString(error));
    std::exit(3);
}
#define CHECK(call) check(call, #call)

/* Device memory of n elements, all written with `value`. */
template <typename T> static T *device_array(int n, T value)
{
    T *host = static_cast<T *>(std::malloc(n * sizeof(T))), *device;
    for (int i = 0; i < n; i++) host[i] = value;
    CHECK(cudaMalloc(&device, n * sizeof(T)));
    CHECK(cudaMemcpy(device, host, n * sizeof(T), cudaMemcpyHostToDevice));
    std::free(host);
    return device;
}

/* A planted access may end the launch with an error, which is the device's right. */
static inline void finish() { (void)cudaDeviceSynchronize(); }

#endif
