/* Mistakes of the host: leaks, launches beyond the device's limits, copies beyond an allocation or of what was never written,
   results used before they are there, cuBLAS told the wrong size. Findings here have no line of device code. */
#include "kernels/planted.h"

#include <cublas_v2.h>
#include <cstring>

__global__ void set_all(float *x, int n, float value)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x) x[i] = value;
}

__global__ void use_dynamic_shared(float *out)
{
    extern __shared__ float memory[];
    memory[threadIdx.x] = 1;
    out[threadIdx.x] = memory[threadIdx.x];
}

static void leak(int planted)
{
    float *x = device_array(10, 1.0f);
    set_all<<<1, 32>>>(x, 10, 2);
    finish();
    if (!planted) CHECK(cudaFree(x));
}

static void too_many_threads(int planted)
{
    float *x = device_array(10, 1.0f);
    set_all<<<1, planted ? 1056 : 1024>>>(x, 10, 2);
    (void)cudaGetLastError();
    finish();
    CHECK(cudaFree(x));
}

static void too_much_shared(int planted)
{
    float *x = device_array(32, 1.0f);
    int bytes = 64 * 1024;
    if (!planted) CHECK(cudaFuncSetAttribute(use_dynamic_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    use_dynamic_shared<<<1, 32, bytes>>>(x);
    (void)cudaGetLastError();
    finish();
    CHECK(cudaFree(x));
}

static void copy_too_long(int planted)
{
    float host[33], *x = device_array(32, 1.0f);
    (void)cudaMemcpy(host, x, (32 + planted) * sizeof *x, cudaMemcpyDeviceToHost);
    CHECK(cudaFree(x));
}

static void copy_of_unwritten(int planted)
{
    float host[32], sum = 0, *x;
    CHECK(cudaMalloc(&x, sizeof host));
    if (!planted) CHECK(cudaMemset(x, 0, sizeof host));
    CHECK(cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost));
    for (float value : host) sum += value;
    if (sum == 12345) std::puts("unlikely");
    CHECK(cudaFree(x));
}

/* Managed memory: the host may look only after it has waited. */
static void host_reads_early(int planted)
{
    float *x;
    CHECK(cudaMallocManaged(&x, 32 * sizeof *x));
    std::memset(x, 0, 32 * sizeof *x);
    set_all<<<1, 32>>>(x, 32, 2);
    if (!planted) CHECK(cudaDeviceSynchronize());
    if (x[5] == 12345) std::puts("unlikely");
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaFree(x));
}

__global__ void count_up(int *x, int for_host)
{
    if (for_host)
        atomicAdd_system(x, 1);
    else
        atomicAdd(x, 1);
}

/* Both sides count in one word at the same time: atomics of the whole system may. */
static void host_counts_too(int planted)
{
    int *x;
    CHECK(cudaMallocManaged(&x, sizeof *x));
    *x = 0;
    count_up<<<1, 32>>>(x, !planted);
    __atomic_fetch_add(x, 1, __ATOMIC_RELAXED);
    CHECK(cudaDeviceSynchronize());
    if (*x != 33) std::puts("lost");
    CHECK(cudaFree(x));
}

static void gemm(int planted, int n, bool written)
{
    cublasHandle_t handle;
    float one = 1, zero = 0, *c = device_array(16 * 16, 0.0f), *a;
    CHECK(cudaMalloc(&a, 16 * 16 * sizeof *a));
    if (written) CHECK(cudaMemset(a, 0, 16 * 16 * sizeof *a));
    if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) std::exit(3);
    (void)cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 16, 16, n, &one, a, 16, a, 17 > n ? 16 : n, &zero, c, 16);
    (void)planted;
    finish();
    if (cublasDestroy(handle) != CUBLAS_STATUS_SUCCESS) std::exit(3);
    CHECK(cudaFree(a));
    CHECK(cudaFree(c));
}

/* A batch of pointers at an odd element of fp16, where k is a multiple of 8: vectorised loads would fault. */
static void gemm_misaligned(int planted)
{
    cublasHandle_t handle;
    unsigned short *a = device_array<unsigned short>(16 * 16 + 8, 0);
    unsigned short *c = device_array<unsigned short>(16 * 16, 0);
    const void *pointers[] = {a, a + (planted ? 1 : 8), c}, **on_device;
    const float one = 1, zero = 0;
    CHECK(cudaMalloc(&on_device, sizeof pointers));
    CHECK(cudaMemcpy(on_device, pointers, sizeof pointers, cudaMemcpyHostToDevice));
    if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) std::exit(3);
    (void)cublasGemmBatchedEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, 16, 16, 16, &one, on_device, CUDA_R_16F, 16,
                              on_device + 1, CUDA_R_16F, 16, &zero, const_cast<void **>(on_device + 2),
                              CUDA_R_16F, 16, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    finish();
    if (cublasDestroy(handle) != CUBLAS_STATUS_SUCCESS) std::exit(3);
    CHECK(cudaFree(a));
    CHECK(cudaFree(c));
    CHECK(cudaFree(on_device));
}

/* Products on two streams in one workspace, or the second's within the first's: wrong unless the second stream waits. Many, since the
   order of streams is drawn. */
static void gemm_workspaces(int planted, size_t second_at)
{
    cublasHandle_t handle;
    cudaStream_t streams[2];
    cudaEvent_t done;
    char *workspace;
    const float one = 1, zero = 0;
    float *a = device_array(16 * 16, 0.0f), *c[] = {device_array(16 * 16, 0.0f), device_array(16 * 16, 0.0f)};
    CHECK(cudaMalloc(&workspace, 4096));
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaEventCreate(&done));
    if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) std::exit(3);
    for (cudaStream_t &stream : streams) CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int i = 0; i < 16; i++) {
        if (!planted && i > 0) CHECK(cudaStreamWaitEvent(streams[i % 2], done));
        (void)cublasSetStream(handle, streams[i % 2]);
        const size_t at = i % 2 ? second_at : 0;
        (void)cublasSetWorkspace(handle, workspace + at, 4096 - at);
        (void)cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 16, 16, 16, &one, a, 16, a, 16, &zero, c[i % 2], 16);
        CHECK(cudaEventRecord(done, streams[i % 2]));
    }
    finish();
    if (cublasDestroy(handle) != CUBLAS_STATUS_SUCCESS) std::exit(3);
    for (float *array : {a, c[0], c[1]}) CHECK(cudaFree(array));
    CHECK(cudaFree(workspace));
}

static void gemm_workspace(int planted) { gemm_workspaces(planted, 0); }
static void gemm_workspace_tail(int planted) { gemm_workspaces(planted, 2048); }
static void gemm_too_deep(int planted) { gemm(planted, 16 + planted, true); }
static void gemm_of_unwritten(int planted) { gemm(planted, 16, !planted); }

const planted_case planted_host[] = {
    {"leak", leak},
    {"too_many_threads", too_many_threads},
    {"too_much_shared", too_much_shared},
    {"copy_too_long", copy_too_long},
    {"copy_of_unwritten", copy_of_unwritten},
    {"host_reads_early", host_reads_early},
    {"host_counts_too", host_counts_too},
    {"gemm_too_deep", gemm_too_deep},
    {"gemm_of_unwritten", gemm_of_unwritten},
    {"gemm_misaligned", gemm_misaligned},
    {"gemm_workspace", gemm_workspace},
    {"gemm_workspace_tail", gemm_workspace_tail},
    {NULL, NULL},
};
