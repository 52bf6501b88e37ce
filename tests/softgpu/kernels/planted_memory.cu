/* Addresses: beyond an allocation, a shared array, a local array; misaligned; freed; never written. */
#include "kernels/planted.h"

#undef NDEBUG
#include <cassert>

__global__ void sum_row(const float *x, int n, float *out)
{
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i]; // PLANTED(global_read: out of bounds) PLANTED(freed: use after free) PLANTED(unwritten_global: uninitialised)
    atomicAdd(out, sum);
}

__global__ void fill_row(float *x, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] = 1; // PLANTED(global_write: out of bounds)
}

__global__ void shift_shared(float *out, int n)
{
    extern __shared__ float tile[];
    tile[threadIdx.x] = threadIdx.x;
    if (n > blockDim.x && threadIdx.x == 0) tile[n - 1] = 0; // PLANTED(shared_write: out of bounds)
    __syncthreads();
    out[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

__global__ void scramble_local(int *out, int n)
{
    int digits[8];
    for (int i = 0; i < 8; i++) digits[i] = i * threadIdx.x;
    out[threadIdx.x] = digits[(threadIdx.x * 5) % n]; // PLANTED(local_read: out of bounds)
}

__global__ void copy_quads(const float *in, float *out)
{
    float4 quad = *reinterpret_cast<const float4 *>(in + threadIdx.x * 4); // PLANTED(misaligned_load: misaligned)
    out[threadIdx.x] = quad.x + quad.y + quad.z + quad.w;
}

__global__ void reverse_tail(const float *in, float *out, int n, int zero_fill)
{
    __shared__ float tile[64];
    if (threadIdx.x < n)
        tile[threadIdx.x] = in[threadIdx.x];
    else if (zero_fill)
        tile[threadIdx.x] = 0;
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x]; // PLANTED(unwritten_shared: uninitialised)
}

__global__ void add_to_register(float *out, int written)
{
    float x;
    asm volatile("{\n\t.reg .f32 t;\n\t.reg .pred p;\n\tsetp.ne.s32 p, %1, 0;\n\t@p mov.f32 t, 0f3f800000;\n\tadd.f32 %0, t, t;\n\t}"
                 : "=f"(x)
                 : "r"(written)); // PLANTED(unwritten_register: uninitialised)
    out[threadIdx.x] = x;
}

/* Sums tiles of 32; one tile too many reads what lies beyond. */
__global__ void sum_tiles(const float *x, int tiles, float *out)
{
    __shared__ float tile[32];
    float sum = 0;
    for (int t = 0; t < tiles; t++) {
        tile[threadIdx.x] = x[t * 32 + threadIdx.x]; // PLANTED(extra_tile: out of bounds)
        __syncthreads();
        for (int i = 0; i < 32; i++) sum += tile[i];
        __syncthreads();
    }
    out[threadIdx.x] = sum;
}

/* Pairs whose first half is the last that there is. */
__global__ void shared_pairs(float2 *out, int count)
{
    extern __shared__ float tile[];
    for (int i = threadIdx.x; i < count; i += blockDim.x) tile[i] = i;
    __syncthreads();
    out[threadIdx.x] = *reinterpret_cast<float2 *>(tile + threadIdx.x * 2); // PLANTED(shared_pair: out of bounds)
}

/* nvcc would round the frame up. */
__global__ void local_pairs(long long *out, long long at)
{
    long long pair;
    asm volatile("{\n\t.local .align 8 .b8 frame[36];\n\t.reg .b64 start, here;\n\tmov.b64 start, frame;\n\tst.local.b64 [start+24], %1;\n\t"
                 "add.s64 here, start, %1;\n\tld.local.b64 %0, [here];\n\t}"
                 : "=l"(pair)
                 : "l"(at)); // PLANTED(local_pair: out of bounds)
    out[threadIdx.x] = pair;
}

__global__ void count_threads(int *counter)
{
    atomicAdd(counter, 1); // PLANTED(unwritten_atomic: uninitialised)
}

__constant__ float table[16];

__global__ void look_up(float *out, int n)
{
    out[threadIdx.x] = table[threadIdx.x % n]; // PLANTED(constant_read: out of bounds)
}

static void global_read(int planted)
{
    float *x = device_array(100, 1.0f), *out = device_array(1, 0.0f);
    sum_row<<<1, 32>>>(x, 100 + planted, out);
    finish();
    CHECK(cudaFree(x));
    CHECK(cudaFree(out));
}

static void global_write(int planted)
{
    float *x = device_array(100, 0.0f);
    fill_row<<<4, 32>>>(x, 100 + planted);
    finish();
    CHECK(cudaFree(x));
}

static void shared_write(int planted)
{
    float *out = device_array(64, 0.0f);
    shift_shared<<<1, 64, 64 * sizeof(float)>>>(out, 64 + planted);
    finish();
    CHECK(cudaFree(out));
}

static void local_read(int planted)
{
    int *out = device_array(64, 0);
    scramble_local<<<1, 64>>>(out, 8 + planted);
    finish();
    CHECK(cudaFree(out));
}

static void misaligned_load(int planted)
{
    float *in = device_array(132, 1.0f), *out = device_array(32, 0.0f);
    copy_quads<<<1, 32>>>(in + planted, out);
    finish();
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}

static void freed(int planted)
{
    float *x = device_array(100, 1.0f), *out = device_array(1, 0.0f);
    if (planted) CHECK(cudaFree(x));
    sum_row<<<1, 32>>>(x, 100, out);
    finish();
    if (!planted) CHECK(cudaFree(x));
    CHECK(cudaFree(out));
}

static void unwritten_global(int planted)
{
    float *x, *out = device_array(1, 0.0f);
    CHECK(cudaMalloc(&x, 100 * sizeof *x));
    CHECK(cudaMemset(x, 0, (100 - planted) * sizeof *x));
    sum_row<<<1, 32>>>(x, 100, out);
    finish();
    CHECK(cudaFree(x));
    CHECK(cudaFree(out));
}

static void unwritten_shared(int planted)
{
    float *in = device_array(64, 1.0f), *out = device_array(64, 0.0f);
    reverse_tail<<<1, 64>>>(in, out, 60, !planted);
    finish();
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
}

__global__ void check_lengths(const int *lengths, int limit)
{
    assert(lengths[threadIdx.x] <= limit); // PLANTED(assertion: assertion)
}

/* The two halves of a sum, in frames of their own. */
__device__ __noinline__ float sum_down(const float *x, int n, int floor)
{
    float part[4];
    if (n <= floor) return 0;
    part[0] = x[n & 3];
    part[1] = sum_down(x, n - 1, floor); // PLANTED(endless_recursion: out of bounds)
    return part[0] + part[1];
}

__global__ void sum_recursively(const float *x, float *out, int n, int floor) { out[threadIdx.x] = sum_down(x, n, floor); }

static void assertion(int planted)
{
    int *lengths = device_array(32, 7);
    check_lengths<<<1, 32>>>(lengths, 7 - planted);
    finish();
    CHECK(cudaFree(lengths));
}

static void endless_recursion(int planted)
{
    float *x = device_array(4, 1.0f), *out = device_array(32, 0.0f);
    sum_recursively<<<1, 32>>>(x, out, 20, planted ? -1000000 : 0);
    finish();
    CHECK(cudaFree(x));
    CHECK(cudaFree(out));
}

static void unwritten_register(int planted)
{
    float *out = device_array(32, 0.0f);
    add_to_register<<<1, 32>>>(out, !planted);
    finish();
    CHECK(cudaFree(out));
}

static void extra_tile(int planted)
{
    float *x = device_array(128, 1.0f), *out = device_array(32, 0.0f);
    sum_tiles<<<1, 32>>>(x, 4 + planted, out);
    finish();
    CHECK(cudaFree(x));
    CHECK(cudaFree(out));
}

static void constant_read(int planted)
{
    float values[16] = {0}, *out = device_array(32, 0.0f);
    CHECK(cudaMemcpyToSymbol(table, values, sizeof values));
    look_up<<<1, 32>>>(out, 16 + planted);
    finish();
    CHECK(cudaFree(out));
}

static void shared_pair(int planted)
{
    float2 *out = device_array(33, float2());
    shared_pairs<<<1, 33, (66 - planted) * sizeof(float)>>>(out, 66 - planted);
    finish();
    CHECK(cudaFree(out));
}

static void local_pair(int planted)
{
    long long *out = device_array(32, 0ll);
    local_pairs<<<1, 32>>>(out, planted ? 32 : 24);
    finish();
    CHECK(cudaFree(out));
}

static void unwritten_atomic(int planted)
{
    int *counter;
    CHECK(cudaMalloc(&counter, sizeof *counter));
    if (!planted) CHECK(cudaMemset(counter, 0, sizeof *counter));
    count_threads<<<1, 32>>>(counter);
    finish();
    CHECK(cudaFree(counter));
}

const planted_case planted_memory[] = {
    {"global_read", global_read},
    {"global_write", global_write},
    {"shared_write", shared_write},
    {"local_read", local_read},
    {"misaligned_load", misaligned_load},
    {"freed", freed},
    {"unwritten_global", unwritten_global},
    {"unwritten_shared", unwritten_shared},
    {"unwritten_register", unwritten_register},
    {"assertion", assertion},
    {"endless_recursion", endless_recursion},
    {"extra_tile", extra_tile},
    {"constant_read", constant_read},
    {"shared_pair", shared_pair},
    {"local_pair", local_pair},
    {"unwritten_atomic", unwritten_atomic},
    {NULL, NULL},
};
