/* Clusters: ranks, addresses of each other's shared memory, reads, writes and atomics through them, barriers in one and in two steps,
   arrivals at another block's mbarrier, copies to all. Launched with an attribute, and with a fixed size. */
#include "kernels/hopper.cuh"

#include <cooperative_groups.h>
#include <vector>

namespace cg = cooperative_groups;

static __device__ unsigned mapped(unsigned address, unsigned rank)
{
    unsigned to;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(address), "r"(rank));
    return to;
}

static __device__ void cluster_sync()
{
    asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* A ring: each block writes into the next one's shared memory, counts in the first one's, reads the previous one's. */
__global__ void ring(const int *in, int *out)
{
    __shared__ int own[64], from_previous[64], count;
    cg::cluster_group cluster = cg::this_cluster();
    unsigned rank = cluster.block_rank(), size = cluster.num_blocks();
    int t = threadIdx.x, i = blockIdx.x * 64 + t;
    if (t == 0) count = 0;
    own[t] = in[i];
    cluster.sync();
    int *next = cluster.map_shared_rank(from_previous, (rank + 1) % size);
    next[t] = own[t] * 2;
    atomicAdd(cluster.map_shared_rank(&count, 0), 1);
    int seen;
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(seen) : "r"(mapped(shared_address(&own[t]), (rank + size - 1) % size)) : "memory");
    unsigned which;
    asm("getctarank.shared::cluster.u32 %0, %1;" : "=r"(which) : "r"(mapped(shared_address(own), size - 1)));
    asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
    out[i] = seen + from_previous[t] + (rank == 0 ? count : 0) + (int)which;
    cluster_sync();
}

/* Every block arrives at the first one's mbarrier once it has written its number there; the first then reads them all. */
__global__ void __cluster_dims__(4, 1, 1) gather(int *out)
{
    __shared__ int numbers[4];
    __shared__ unsigned long long full;
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    if (threadIdx.x == 0) mbarrier_init(shared_address(&full), 4);
    asm volatile("barrier.cluster.arrive.relaxed.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
    if (threadIdx.x == 0) {
        asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(mapped(shared_address(&numbers[rank]), 0)), "r"(100 + rank) : "memory");
        asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(mapped(shared_address(&full), 0)) : "memory");
    }
    if (rank == 0) {
        mbarrier_wait(shared_address(&full), 0);
        if (threadIdx.x < 4) out[blockIdx.x / 4 * 4 + threadIdx.x] = numbers[threadIdx.x];
    }
    cluster_sync();
}

/* The last block sends one line to all, and stores a word into each with a barrier that counts its bytes. */
__global__ void __cluster_dims__(2, 1, 1) send(const int *in, int *out)
{
    __shared__ __align__(128) int line[32];
    __shared__ __align__(16) int word[4];
    __shared__ unsigned long long full;
    unsigned rank, barrier = shared_address(&full);
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_expect(barrier, sizeof line + 4);
    }
    cluster_sync();
    if (rank == 1 && threadIdx.x == 0) {
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], 128, [%2], %3;" ::"r"(shared_address(line)),
                     "l"(in), "r"(barrier), "h"((short)3)
                     : "memory");
        for (unsigned r = 0; r < 2; r++)
            asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(mapped(shared_address(word), r)), "r"(7 + r),
                         "r"(mapped(barrier, r))
                         : "memory");
    }
    mbarrier_wait(barrier, 0);
    out[blockIdx.x * 32 + threadIdx.x] = line[threadIdx.x] + word[0];
    cluster_sync();
}

/* Each block fetches half of a tile for both; a policy for the cache changes nothing. */
__global__ void __cluster_dims__(2, 1, 1) spread(const __grid_constant__ CUtensorMap map, unsigned short *out)
{
    __shared__ __align__(128) unsigned short tile[2][4 * 64];
    __shared__ unsigned long long full;
    unsigned rank, barrier = shared_address(&full);
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_expect(barrier, sizeof tile);
    }
    cluster_sync();
    if (threadIdx.x == 0)
        asm volatile("{\n\t.reg .b64 policy;\n\tcreatepolicy.fractional.L2::evict_last.b64 policy, 1.0;\n\t"
                     "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
                     "[%0], [%1, {%2, %3}], [%4], %5, policy;\n\t}" ::"r"(shared_address(tile[rank])),
                     "l"(&map), "r"(0), "r"(rank * 4), "r"(barrier), "h"((short)3)
                     : "memory");
    mbarrier_wait(barrier, 0);
    for (int i = threadIdx.x; i < 2 * 4 * 64; i += 32) out[blockIdx.x * 2 * 4 * 64 + i] = tile[0][i];
    cluster_sync();
}

static int differ(const char *name, const std::vector<int> &got, const std::vector<int> &expected)
{
    for (size_t i = 0; i < got.size(); i++)
        if (got[i] != expected[i]) {
            std::fprintf(stderr, "%s: element %d is %d, expected %d\n", name, (int)i, got[i], expected[i]);
            return 1;
        }
    return 0;
}

static std::vector<int> host(const int *device, int n)
{
    std::vector<int> v(n);
    CHECK(cudaMemcpy(v.data(), device, n * sizeof(int), cudaMemcpyDeviceToHost));
    return v;
}

static int run_ring(int blocks, int size)
{
    int n = blocks * 64, *out = device_array(n, 0), *in;
    std::vector<int> numbers(n), expected(n);
    for (int i = 0; i < n; i++) numbers[i] = i * 7 + 1;
    CHECK(cudaMalloc(&in, n * sizeof(int)));
    CHECK(cudaMemcpy(in, numbers.data(), n * sizeof(int), cudaMemcpyHostToDevice));
    for (int i = 0; i < n; i++) {
        int block = i / 64, rank = block % size, previous = (block - rank + (rank + size - 1) % size) * 64 + i % 64;
        expected[i] = 3 * numbers[previous] + (rank == 0 ? 64 * size : 0) + size - 1;
    }
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = size;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks;
    config.blockDim = 64;
    config.attrs = &attribute;
    config.numAttrs = 1;
    CHECK(cudaLaunchKernelEx(&config, ring, (const int *)in, out));
    int wrong = differ("ring", host(out, n), expected);
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
    return wrong;
}

static int run_gather()
{
    int *out = device_array(8, 0);
    gather<<<8, 32>>>(out);
    int wrong = differ("gather", host(out, 8), {100, 101, 102, 103, 100, 101, 102, 103});
    CHECK(cudaFree(out));
    return wrong;
}

static int run_send()
{
    int *in = device_array(32, 5), *out = device_array(128, 0);
    std::vector<int> expected(128);
    for (int i = 0; i < 128; i++) expected[i] = 5 + 7 + i / 32 % 2;
    send<<<4, 32>>>(in, out);
    int wrong = differ("send", host(out, 128), expected);
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
    return wrong;
}

static int run_spread()
{
    const int size[] = {64, 8}, box[] = {64, 4}, step[] = {1, 1}, n = 64 * 8;
    unsigned short *in, *out = device_array<unsigned short>(2 * n, 0), numbers[n], got[2 * n];
    for (int i = 0; i < n; i++) numbers[i] = (unsigned short)(i * 3 + 1);
    CHECK(cudaMalloc(&in, sizeof numbers));
    CHECK(cudaMemcpy(in, numbers, sizeof numbers, cudaMemcpyHostToDevice));
    spread<<<2, 32>>>(tensor_map(in, 2, size, box, step, CU_TENSOR_MAP_SWIZZLE_NONE), out);
    CHECK(cudaMemcpy(got, out, sizeof got, cudaMemcpyDeviceToHost));
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
    return differ("spread", std::vector<int>(got, got + n), std::vector<int>(numbers, numbers + n)) +
           differ("spread, second block", std::vector<int>(got + n, got + 2 * n), std::vector<int>(numbers, numbers + n));
}

int main()
{
    int wrong = run_spread() + run_ring(8, 2) + run_ring(8, 8) + run_ring(3, 1) + run_gather() + run_send();
    return wrong != 0;
}
