/* Memory from pools in stream order, rows with a pitch and copies of boxes between them, fills. */
#include "programs/program.h"

__global__ void scale(float *x, size_t pitch, int width, int height)
{
    int c = blockIdx.x * blockDim.x + threadIdx.x, r = blockIdx.y;
    if (c >= width || r >= height) return;
    float *row = reinterpret_cast<float *>(reinterpret_cast<char *>(x) + r * pitch);
    row[c] *= 2;
}

static void use_pitched_rows()
{
    int width = 37, height = 11;
    float *x;
    size_t pitch, bytes = width * sizeof *x;
    std::vector<float> in(width * height), out(width * height, -1.0f);
    for (size_t i = 0; i < in.size(); i++) in[i] = number(i);
    CHECK(cudaMallocPitch(&x, &pitch, bytes, height));
    EXPECT(pitch >= bytes);
    CHECK(cudaMemcpy2D(x, pitch, in.data(), bytes, bytes, height, cudaMemcpyHostToDevice));
    scale<<<dim3(2, height), 32>>>(x, pitch, width, height);
    CHECK(cudaMemset2D(x, pitch, 0, 4, 2)); /* the first element of two rows */
    CHECK(cudaMemcpy2D(out.data(), bytes, x, pitch, bytes, height, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < in.size(); i++) EXPECT(out[i] == (i == 0 || i == static_cast<size_t>(width) ? 0 : 2 * in[i]));
    CHECK(cudaFree(x));
}

static void use_pools()
{
    cudaStream_t stream;
    cudaMemPool_t pool;
    unsigned long long keep = ~0ull;
    int n = 1000;
    std::vector<float> in(n), out(n);
    for (int i = 0; i < n; i++) in[i] = number(i);
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaDeviceGetDefaultMemPool(&pool, 0));
    CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
    for (int round = 0; round < 3; round++) {
        float *x, *copy;
        CHECK(cudaMallocAsync(&x, n * sizeof *x, stream));
        CHECK(cudaMallocAsync(&copy, n * sizeof *copy, stream));
        CHECK(cudaMemcpyAsync(x, in.data(), n * sizeof *x, cudaMemcpyHostToDevice, stream));
        scale<<<dim3((n + 127) / 128, 1), 128, 0, stream>>>(x, 0, n, 1);
        CHECK(cudaMemcpyAsync(copy, x, n * sizeof *x, cudaMemcpyDeviceToDevice, stream));
        CHECK(cudaFreeAsync(x, stream));
        CHECK(cudaMemcpyAsync(out.data(), copy, n * sizeof *x, cudaMemcpyDeviceToHost, stream));
        CHECK(cudaFreeAsync(copy, stream));
        CHECK(cudaStreamSynchronize(stream));
        for (int i = 0; i < n; i++) EXPECT(out[i] == 2 * in[i]);
    }
    CHECK(cudaStreamDestroy(stream));
}

int main()
{
    use_pitched_rows();
    use_pools();
}
