/* C = A·B on tensor cores, by fragments of the WMMA interface: half in, float out. */
#include "programs/program.h"

#include <cuda_fp16.h>
#include <mma.h>

using namespace nvcuda;

/* One warp a 16 × 16 tile of C; B is column-major. */
__global__ void gemm(const half *a, const half *b, float *c, int n, int k)
{
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> left;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> right;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    int row = blockIdx.y * 16, column = (blockIdx.x * blockDim.y + threadIdx.y) * 16;
    if (column >= n) return;
    wmma::fill_fragment(sum, 0.0f);
    for (int d = 0; d < k; d += 16) {
        wmma::load_matrix_sync(left, a + row * k + d, k);
        wmma::load_matrix_sync(right, b + column * k + d, k);
        wmma::mma_sync(sum, left, right, sum);
    }
    for (int i = 0; i < sum.num_elements; i++) sum.x[i] *= 2;
    wmma::store_matrix_sync(c + row * n + column, sum, n, wmma::mem_row_major);
}

int main()
{
    int m = 32, n = 48, k = 64;
    std::vector<half> a(m * k), b(n * k);
    for (size_t i = 0; i < a.size(); i++) a[i] = __float2half(number(i));
    for (size_t i = 0; i < b.size(); i++) b[i] = __float2half(number(5 * i + 2));
    half *da = to_device(a), *db = to_device(b);
    float *dc;
    CHECK(cudaMalloc(&dc, m * n * sizeof *dc));
    gemm<<<dim3(2, m / 16), dim3(32, 2)>>>(da, db, dc, n, k);
    CHECK(cudaGetLastError());
    std::vector<float> c = to_host(dc, m * n);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float sum = 0;
            for (int d = 0; d < k; d++) sum += __half2float(a[i * k + d]) * __half2float(b[j * k + d]);
            EXPECT(c[i * n + j] == 2 * sum);
        }
    CHECK(cudaFree(da));
    CHECK(cudaFree(db));
    CHECK(cudaFree(dc));
}
