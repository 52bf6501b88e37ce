/* Histograms of bytes: one a block in shared memory, added up by atomics; the last block to finish finds the mode. */
#include "programs/program.h"

enum { BINS = 256 };

__device__ unsigned finished;

__global__ void count(const unsigned char *x, int n, unsigned *bins, int *mode)
{
    __shared__ unsigned mine[BINS];
    __shared__ bool last;
    for (int b = threadIdx.x; b < BINS; b += blockDim.x) mine[b] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&mine[x[i]], 1u);
    __syncthreads();
    for (int b = threadIdx.x; b < BINS; b += blockDim.x)
        if (mine[b]) atomicAdd(&bins[b], mine[b]);
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence(); // past the barrier: one before it would not carry what the other warps have added
        last = atomicInc(&finished, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x) return;
    __threadfence();
    int best = 0;
    for (int b = 1; b < BINS; b++)
        if (__ldcg(&bins[b]) > __ldcg(&bins[best])) best = b;
    *mode = best;
}

int main()
{
    int n = 20000;
    std::vector<unsigned char> x(n);
    std::vector<unsigned> expected(BINS);
    for (int i = 0; i < n; i++) expected[x[i] = (i * i + i / 3) % (i % 3 ? 251 : 40)]++;
    unsigned char *device = to_device(x);
    unsigned *bins = to_device(std::vector<unsigned>(BINS, 0));
    int *mode = to_device(std::vector<int>(1, -1));
    count<<<9, 96>>>(device, n, bins, mode);
    CHECK(cudaGetLastError());
    EXPECT(to_host(bins, BINS) == expected);
    int best = to_host(mode, 1)[0];
    for (unsigned c : expected) EXPECT(c <= expected[best]);
    CHECK(cudaFree(device));
    CHECK(cudaFree(bins));
    CHECK(cudaFree(mode));
}
