/* Warps with different work: one fetches tiles, three use them; two buffers, each with a named barrier for "full" and one for "free". */
#include "programs/program.h"

constexpr int TILE = 96, CONSUMERS = 96, ALL = CONSUMERS + 32, FULL = 1, FREE = 3;

__device__ void wait(int barrier) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(ALL) : "memory"); }
__device__ void arrive(int barrier) { asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "n"(ALL) : "memory"); }

__global__ void sum_tiles(const int *x, int tiles, int *out)
{
    __shared__ int buffer[2][TILE];
    if (threadIdx.x >= CONSUMERS) {
        for (int t = 0; t < tiles; t++) {
            if (t >= 2) wait(FREE + t % 2);
            for (int i = threadIdx.x - CONSUMERS; i < TILE; i += 32) buffer[t % 2][i] = x[t * TILE + i];
            arrive(FULL + t % 2);
        }
    } else {
        int sum = 0;
        for (int t = 0; t < tiles; t++) {
            wait(FULL + t % 2);
            sum += buffer[t % 2][(threadIdx.x + t) % TILE];
            if (t + 2 < tiles) arrive(FREE + t % 2);
        }
        out[threadIdx.x] = sum;
    }
}

int main()
{
    int tiles = 9;
    std::vector<int> x(tiles * TILE);
    for (size_t i = 0; i < x.size(); i++) x[i] = number(i);
    int *in = to_device(x), *out = to_device(std::vector<int>(CONSUMERS, 0));
    sum_tiles<<<1, ALL>>>(in, tiles, out);
    CHECK(cudaGetLastError());
    std::vector<int> y = to_host(out, CONSUMERS);
    for (int i = 0; i < CONSUMERS; i++) {
        int sum = 0;
        for (int t = 0; t < tiles; t++) sum += x[t * TILE + (i + t) % TILE];
        EXPECT(y[i] == sum);
    }
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}
