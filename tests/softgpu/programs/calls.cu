/* Functions that are not inlined: values, structs, pointers to the caller's variables, recursion, function pointers, lanes that call
   different ones; memory from the device's heap. */
#include "programs/program.h"

struct three {
    float a, b, c;
};

__device__ __noinline__ float twice(float x) { return 2 * x + threadIdx.x; }

__device__ __noinline__ three change(three t, int k)
{
    t.a += k;
    t.c = twice(t.c);
    return t;
}

__host__ __device__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

/* Merge sort: each activation has an array of its own and pointers into its caller's. */
__device__ __noinline__ void sort(int *x, int n)
{
    int part[8];
    if (n < 2) return;
    sort(x, n / 2);
    sort(x + n / 2, n - n / 2);
    for (int i = 0, left = 0, right = n / 2; i < n; i++) {
        bool first = right == n || (left < n / 2 && x[left] <= x[right]);
        part[i] = first ? x[left++] : x[right++];
    }
    for (int i = 0; i < n; i++) x[i] = part[i];
}

typedef float function(float);
__device__ float plus_one(float x) { return x + 1; }
__device__ float times_three(float x) { return x * 3; }
__device__ function *table[2] = {plus_one, times_three};

__global__ void call_all(float *structs, int *numbers, int *sorted, float *pointed)
{
    __shared__ float together[64];
    int i = threadIdx.x, values[8];
    three t = change({1, 2, static_cast<float>(i)}, i);
    structs[i] = t.a + t.b + t.c;
    numbers[i] = fibonacci(i % 13);
    for (int j = 0; j < 8; j++) values[j] = (i * 7 + j * 5) % 11;
    sort(values, 8);
    for (int j = 0; j < 8; j++) sorted[8 * i + j] = values[j];
    together[i] = i % 3 ? table[i & 1](10) : 0; /* some lanes, different functions */
    __syncthreads();
    pointed[i] = together[63 - i];
    int *heap = static_cast<int *>(malloc(2 * sizeof *heap));
    heap[0] = i;
    heap[1] = heap[0] + 1;
    numbers[i] += heap[1];
    free(heap);
}

int main()
{
    float *structs, *pointed;
    int *numbers, *sorted;
    CHECK(cudaMalloc(&structs, 64 * sizeof *structs));
    CHECK(cudaMalloc(&pointed, 64 * sizeof *pointed));
    CHECK(cudaMalloc(&numbers, 64 * sizeof *numbers));
    CHECK(cudaMalloc(&sorted, 64 * 8 * sizeof *sorted));
    call_all<<<1, 64>>>(structs, numbers, sorted, pointed);
    CHECK(cudaGetLastError());
    std::vector<float> s = to_host(structs, 64), p = to_host(pointed, 64);
    std::vector<int> n = to_host(numbers, 64), order = to_host(sorted, 64 * 8);
    for (int i = 0; i < 64; i++) {
        int j = 63 - i;
        EXPECT(s[i] == 1 + i + 2 + 2 * i + i);
        EXPECT(n[i] == fibonacci(i % 13) + i + 1);
        EXPECT(p[i] == (j % 3 == 0 ? 0 : j & 1 ? 30 : 11));
        for (int k = 1; k < 8; k++) EXPECT(order[8 * i + k - 1] <= order[8 * i + k]);
    }
    CHECK(cudaFree(structs));
    CHECK(cudaFree(pointed));
    CHECK(cudaFree(numbers));
    CHECK(cudaFree(sorted));
}
