/* A transpose through a shared tile that is one column wider than it needs to be, so that its columns lie in different banks. */
#include "programs/program.h"

enum { TILE = 32, ROWS = 8 };

__global__ void transpose(const float *in, float *out, int rows, int columns)
{
    __shared__ float tile[TILE][TILE + 1];
    int x = blockIdx.x * TILE + threadIdx.x, y = blockIdx.y * TILE + threadIdx.y;
    for (int r = 0; r < TILE; r += ROWS)
        if (x < columns && y + r < rows) tile[threadIdx.y + r][threadIdx.x] = in[(y + r) * columns + x];
    __syncthreads();
    x = blockIdx.y * TILE + threadIdx.x, y = blockIdx.x * TILE + threadIdx.y;
    for (int r = 0; r < TILE; r += ROWS)
        if (x < rows && y + r < columns) out[(y + r) * rows + x] = tile[threadIdx.x][threadIdx.y + r];
}

int main()
{
    int rows = 70, columns = 133;
    std::vector<float> x(rows * columns);
    for (size_t i = 0; i < x.size(); i++) x[i] = i;
    float *in = to_device(x), *out;
    CHECK(cudaMalloc(&out, x.size() * sizeof *out));
    transpose<<<dim3((columns + TILE - 1) / TILE, (rows + TILE - 1) / TILE), dim3(TILE, ROWS)>>>(in, out, rows, columns);
    CHECK(cudaGetLastError());
    std::vector<float> y = to_host(out, x.size());
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) EXPECT(y[c * rows + r] == x[r * columns + c]);
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}
