/* An inclusive scan in one pass: each block adds up what earlier blocks have published, looking back from the nearest one (Merrill and
   Garland, "Single-pass parallel prefix scan with decoupled look-back"). Blocks are numbered in the order in which they start. */
#include "programs/program.h"

enum { THREADS = 128, NOTHING = 0, AGGREGATE = 1, PREFIX = 2 };

__device__ int started;

__device__ int block_scan(int x, int *parts, int *total)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int step = 1; step < 32; step *= 2) {
        int left = __shfl_up_sync(0xffffffffu, x, step);
        if (lane >= step) x += left;
    }
    if (lane == 31) parts[warp] = x;
    __syncthreads();
    for (int w = 0; w < warp; w++) x += parts[w];
    *total = 0;
    for (int w = 0; w < THREADS / 32; w++) *total += parts[w];
    return x;
}

__device__ int look_back(int block, volatile int *states, volatile int *aggregates, volatile int *prefixes)
{
    int before = 0;
    for (int b = block - 1; b >= 0; b--) {
        int state;
        while ((state = states[b]) == NOTHING) {}
        __threadfence();
        if (state == PREFIX) return before + prefixes[b];
        before += aggregates[b];
    }
    return before;
}

__global__ void scan(const int *x, int *y, int n, int *states, int *aggregates, int *prefixes)
{
    __shared__ int parts[THREADS / 32], block, before;
    if (threadIdx.x == 0) block = atomicAdd(&started, 1);
    __syncthreads();
    int i = block * THREADS + threadIdx.x, total;
    int mine = block_scan(i < n ? x[i] : 0, parts, &total);
    if (threadIdx.x == 0) {
        aggregates[block] = total;
        __threadfence();
        *const_cast<volatile int *>(&states[block]) = AGGREGATE;
        before = look_back(block, states, aggregates, prefixes);
        prefixes[block] = before + total;
        __threadfence();
        *const_cast<volatile int *>(&states[block]) = PREFIX;
    }
    __syncthreads();
    if (i < n) y[i] = before + mine;
}

int main()
{
    int n = 5000, blocks = (n + THREADS - 1) / THREADS, zero = 0, sum = 0;
    std::vector<int> x(n);
    for (int i = 0; i < n; i++) x[i] = number(i);
    int *in = to_device(x), *out = to_device(std::vector<int>(n));
    int *states = to_device(std::vector<int>(blocks, NOTHING)), *aggregates, *prefixes;
    CHECK(cudaMalloc(&aggregates, blocks * sizeof(int)));
    CHECK(cudaMalloc(&prefixes, blocks * sizeof(int)));
    CHECK(cudaMemcpyToSymbol(started, &zero, sizeof zero));
    scan<<<blocks, THREADS>>>(in, out, n, states, aggregates, prefixes);
    CHECK(cudaGetLastError());
    std::vector<int> y = to_host(out, n);
    for (int i = 0; i < n; i++) EXPECT(y[i] == (sum += x[i]));
    for (int *p : {in, out, states, aggregates, prefixes}) CHECK(cudaFree(p));
}
