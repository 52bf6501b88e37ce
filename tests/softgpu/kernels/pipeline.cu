/* A matrix product as Hopper kernels are written: one warp fetches tiles by tensor copies, four multiply them with wgmma, mbarriers between
   them say which buffers are full and which are empty again; the result leaves by a tensor copy. Compared with plain loops. */
#include "kernels/hopper.cuh"
#include "kernels/warpgroup.cuh"

#include <cmath>
#include <cuda_fp16.h>
#include <vector>

static const int TILE_M = 64, TILE_N = 64, TILE_K = 64, STAGES = 3, CONSUMERS = 128, THREADS = CONSUMERS + 32;
static const int TILE_BYTES = TILE_M * TILE_K * 2;

struct __align__(1024) shared_tiles {
    __half a[STAGES][TILE_M * TILE_K], b[STAGES][TILE_N * TILE_K];
    __half c[TILE_M * TILE_N];
    unsigned long long full[STAGES], empty[STAGES];
};

static __device__ void fetch(shared_tiles &s, const CUtensorMap *a, const CUtensorMap *b, int tiles)
{
    for (int t = 0; t < tiles; t++) {
        int stage = t % STAGES, round = t / STAGES;
        unsigned full = shared_address(&s.full[stage]);
        mbarrier_wait(shared_address(&s.empty[stage]), (round + 1) % 2); /* the first round finds them empty */
        mbarrier_expect(full, 2 * TILE_BYTES);
        tensor_load(2, shared_address(s.a[stage]), a, full, t * TILE_K, blockIdx.y * TILE_M);
        tensor_load(2, shared_address(s.b[stage]), b, full, t * TILE_K, blockIdx.x * TILE_N);
    }
}

/* Buffers are given back by all consumers, or by one of them for all. */
static __device__ void multiply(shared_tiles &s, const CUtensorMap *c, int tiles, int givers)
{
    float sum[32] = {};
    for (int t = 0; t < tiles; t++) {
        int stage = t % STAGES, round = t / STAGES;
        mbarrier_wait(shared_address(&s.full[stage]), round % 2);
        warpgroup_fence(sum);
        for (int k = 0; k < TILE_K; k += 16)
            warpgroup_multiply(sum, swizzled_descriptor(shared_address(s.a[stage]) + k * 2), swizzled_descriptor(shared_address(s.b[stage]) + k * 2), 1);
        warpgroup_commit();
        warpgroup_wait<0>(sum);
        if (threadIdx.x < givers) mbarrier_arrive(shared_address(&s.empty[stage]));
    }
    int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    for (int r = 0; r < 32; r++) s.c[(row + r / 2 % 2 * 8) * TILE_N + r / 4 * 8 + threadIdx.x % 4 * 2 + r % 2] = __float2half(sum[r]);
    asm volatile("fence.proxy.async.shared::cta;\n\tbar.sync 1, 128;" ::: "memory");
    if (threadIdx.x == 0) {
        tensor_store(2, shared_address(s.c), c, blockIdx.x * TILE_N, blockIdx.y * TILE_M);
        asm volatile("cp.async.bulk.commit_group;\n\tcp.async.bulk.wait_group.read 0;" ::: "memory");
    }
}

/* c = a b': all rows along k; c has 16-bit elements too. */
__global__ void __launch_bounds__(THREADS, 1) product(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b,
                                                   const __grid_constant__ CUtensorMap c, int tiles, int givers)
{
    extern __shared__ shared_tiles shared[];
    shared_tiles &s = shared[0];
    if (threadIdx.x == 0)
        for (int stage = 0; stage < STAGES; stage++) {
            mbarrier_init(shared_address(&s.full[stage]), 1);
            mbarrier_init(shared_address(&s.empty[stage]), givers);
        }
    __syncthreads();
    if (threadIdx.x >= CONSUMERS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == CONSUMERS) fetch(s, &a, &b, tiles);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        multiply(s, &c, tiles, givers);
    }
}

static CUtensorMap plane(void *data, int rows, int columns, int box_rows, CUtensorMapSwizzle swizzle)
{
    const int size[] = {columns, rows}, box[] = {TILE_K, box_rows}, step[] = {1, 1};
    return tensor_map(data, 2, size, box, step, swizzle);
}

static int run(int m, int n, int k, int givers)
{
    std::vector<__half> a(m * k), b(n * k), c(m * n);
    for (int i = 0; i < m * k; i++) a[i] = __float2half((i * 29 % 17 - 8) * 0.125f);
    for (int i = 0; i < n * k; i++) b[i] = __float2half((i * 13 % 23 - 11) * 0.0625f);
    __half *da, *db, *dc;
    CHECK(cudaMalloc(&da, a.size() * 2));
    CHECK(cudaMalloc(&db, b.size() * 2));
    CHECK(cudaMalloc(&dc, c.size() * 2));
    CHECK(cudaMemcpy(da, a.data(), a.size() * 2, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(db, b.data(), b.size() * 2, cudaMemcpyHostToDevice));
    CHECK(cudaFuncSetAttribute(product, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(shared_tiles)));
    dim3 grid((n + TILE_N - 1) / TILE_N, (m + TILE_M - 1) / TILE_M);
    product<<<grid, THREADS, sizeof(shared_tiles)>>>(plane(da, m, k, TILE_M, CU_TENSOR_MAP_SWIZZLE_128B), plane(db, n, k, TILE_N, CU_TENSOR_MAP_SWIZZLE_128B),
                                                     plane(dc, m, n, TILE_M, CU_TENSOR_MAP_SWIZZLE_NONE), (k + TILE_K - 1) / TILE_K, givers);
    CHECK(cudaMemcpy(c.data(), dc, c.size() * 2, cudaMemcpyDeviceToHost));
    CHECK(cudaFree(da));
    CHECK(cudaFree(db));
    CHECK(cudaFree(dc));
    int wrong = 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0, size = 0;
            for (int p = 0; p < k; p++) {
                double product = (double)__half2float(a[i * k + p]) * (double)__half2float(b[j * k + p]);
                sum += product;
                size += std::fabs(product);
            }
            wrong += !(std::fabs((double)__half2float(c[i * n + j]) - sum) <= std::fabs(sum) / 2048 + size * 1e-5);
        }
    if (wrong) std::fprintf(stderr, "%d x %d x %d: %d elements are wrong\n", m, n, k, wrong);
    return wrong != 0;
}

int main() { return run(128, 128, 320, 1) | run(72, 200, 136, CONSUMERS) | run(64, 64, 64, 1); }
