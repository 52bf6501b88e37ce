/* A sum in three steps: shuffles within a warp, shared memory within a block, one atomic a block. */
#include "programs/program.h"

__device__ int warp_sum(int x)
{
    for (int step = 16; step; step /= 2) x += __shfl_down_sync(0xffffffffu, x, step);
    return x;
}

__global__ void sum(const int *x, size_t n, int *total)
{
    __shared__ int parts[32];
    int mine = 0;
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) mine += x[i];
    mine = warp_sum(mine);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = mine;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    mine = warp_sum(threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0);
    if (threadIdx.x == 0) atomicAdd(total, mine);
}

/* Threads that have ended are not counted. */
__global__ void count_present(int *count)
{
    if (threadIdx.x % 2) return;
    const int present = __syncthreads_count(1);
    if (threadIdx.x == 0) *count = present;
}

int main()
{
    int *count = to_device(std::vector<int>(1, 0));
    count_present<<<1, 96>>>(count);
    EXPECT(to_host(count, 1)[0] == 48);
    CHECK(cudaFree(count));
    for (size_t n : {1, 31, 1000, 40000}) {
        std::vector<int> x(n);
        int expected = 0;
        for (size_t i = 0; i < n; i++) expected += x[i] = number(i);
        int *device = to_device(x), *total = to_device(std::vector<int>(1, 0));
        sum<<<7, 192>>>(device, n, total);
        CHECK(cudaGetLastError());
        EXPECT(to_host(total, 1)[0] == expected);
        CHECK(cudaFree(device));
        CHECK(cudaFree(total));
    }
}
