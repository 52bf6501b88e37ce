/* C = A·B by tiles: while one is multiplied, cp.async brings the next. */
#include "programs/program.h"

#include <cuda_pipeline.h>

enum { TILE = 32, DEPTH = 16, STAGES = 2 };

struct tiles {
    float a[TILE][DEPTH + 4], b[DEPTH][TILE + 4];
};

/* 16 bytes a thread; beyond the matrices zeros. */
__device__ void fetch(tiles *t, const float *a, const float *b, int m, int n, int k, int row, int column, int depth)
{
    for (int i = threadIdx.x; i < TILE * DEPTH / 4; i += blockDim.x) {
        int r = i / (DEPTH / 4), c = i % (DEPTH / 4) * 4;
        bool inside = row + r < m && depth + c < k;
        __pipeline_memcpy_async(&t->a[r][c], inside ? &a[(row + r) * k + depth + c] : a, 16, inside ? 0 : 16);
        r = i / (TILE / 4), c = i % (TILE / 4) * 4;
        inside = depth + r < k && column + c < n;
        __pipeline_memcpy_async(&t->b[r][c], inside ? &b[(depth + r) * n + column + c] : b, 16, inside ? 0 : 16);
    }
    __pipeline_commit();
}

__global__ void gemm(const float *a, const float *b, float *c, int m, int n, int k)
{
    __shared__ alignas(16) tiles stages[STAGES];
    int row = blockIdx.y * TILE, column = blockIdx.x * TILE, count = (k + DEPTH - 1) / DEPTH;
    int x = threadIdx.x % TILE, y = threadIdx.x / TILE * 8;
    float sum[8] = {};
    fetch(&stages[0], a, b, m, n, k, row, column, 0);
    for (int t = 0; t < count; t++) {
        if (t + 1 < count) fetch(&stages[(t + 1) % STAGES], a, b, m, n, k, row, column, (t + 1) * DEPTH);
        __pipeline_wait_prior(t + 1 < count ? 1 : 0);
        __syncthreads();
        const tiles &now = stages[t % STAGES];
        for (int d = 0; d < DEPTH; d++)
            for (int r = 0; r < 8; r++) sum[r] += now.a[y + r][d] * now.b[d][x];
        __syncthreads();
    }
    for (int r = 0; r < 8; r++)
        if (row + y + r < m && column + x < n) c[(row + y + r) * n + column + x] = sum[r];
}

int main()
{
    int m = 70, n = 52, k = 44;
    std::vector<float> a(m * k), b(k * n);
    for (size_t i = 0; i < a.size(); i++) a[i] = number(i);
    for (size_t i = 0; i < b.size(); i++) b[i] = number(3 * i + 1);
    float *da = to_device(a), *db = to_device(b), *dc;
    CHECK(cudaMalloc(&dc, m * n * sizeof *dc));
    gemm<<<dim3((n + TILE - 1) / TILE, (m + TILE - 1) / TILE), TILE * TILE / 8>>>(da, db, dc, m, n, k);
    CHECK(cudaGetLastError());
    std::vector<float> c = to_host(dc, m * n);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float sum = 0;
            for (int d = 0; d < k; d++) sum += a[i * k + d] * b[d * n + j];
            EXPECT(c[i * n + j] == sum);
        }
    CHECK(cudaFree(da));
    CHECK(cudaFree(db));
    CHECK(cudaFree(dc));
}
