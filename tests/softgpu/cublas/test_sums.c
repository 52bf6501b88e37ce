/* What cuBLAS leaves open about sums, which this one uses against its caller: the order depends on shape and batch but not on the run,
   and parts of a sum are rounded to C's 16 bits unless the math mode forbids it. */
#include "numbers/numbers.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { M = 8, N = 12, K = 256 };

static cublasHandle_t handle;
static double a[K * M], b[K * N]; /* as stored, by columns of K: C = Aᵀ·B */
static void *device_a, *device_b, *device_c;
static const cudaDataType types[] = {CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF};

#define CUDA(call)   assert_int_equal(call, cudaSuccess)
#define CUBLAS(call) assert_int_equal(call, CUBLAS_STATUS_SUCCESS)

static double put(cudaDataType type, void *to, int64_t i, double x)
{
    if (type == CUDA_R_32F) return ((float *)to)[i] = (float)x;
    const sg_format *format = type == CUDA_R_16F ? &sg_f16 : &sg_bf16;
    return sg_decode(format, ((uint16_t *)to)[i] = (uint16_t)sg_encode(format, x, SG_RN, 0));
}

static double get(cudaDataType type, const void *from, int64_t i)
{
    if (type == CUDA_R_32F) return (double)((const float *)from)[i];
    return sg_decode(type == CUDA_R_16F ? &sg_f16 : &sg_bf16, ((const uint16_t *)from)[i]);
}

static void fill(cudaDataType type, double *values, int64_t count, void *device)
{
    static double memory[K * N];
    for (int64_t i = 0; i < count; i++) values[i] = put(type, memory, i, (double)(random() % 2001 - 1000) / 1000);
    CUDA(cudaMemcpy(device, memory, (size_t)count * (type == CUDA_R_32F ? 4 : 2), cudaMemcpyHostToDevice));
}

/* The first `columns` columns of C, `batch` of them a time. */
static void multiply(cudaDataType type, int columns, int batch, double *c)
{
    static float memory[M * N];
    const float one = 1, zero = 0;
    const int each = columns / batch;
    CUBLAS(cublasGemmStridedBatchedEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, M, each, K, &one, device_a, type, K, 0, device_b, type, K, each * K,
                                      &zero, device_c, type, M, each * M, batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    CUDA(cudaMemcpy(memory, device_c, (size_t)(M * columns) * (type == CUDA_R_32F ? 4 : 2), cudaMemcpyDeviceToHost));
    for (int i = 0; i < M * columns; i++) c[i] = get(type, memory, i);
}

static void bits_depend_on_shape_and_batch_but_not_on_the_run(void **state)
{
    (void)state;
    fill(CUDA_R_32F, a, K * M, device_a), fill(CUDA_R_32F, b, K * N, device_b);
    int differ_by_columns = 0, differ_by_batch = 0;
    for (int columns = 1; columns <= N; columns++) {
        double whole[M * N], part[M * N], again[M * N];
        multiply(CUDA_R_32F, N, 1, whole), multiply(CUDA_R_32F, columns, 1, part), multiply(CUDA_R_32F, columns, 1, again);
        assert_memory_equal(part, again, sizeof *part * (size_t)(M * columns));
        differ_by_columns += memcmp(part, whole, sizeof *part * (size_t)(M * columns)) != 0;
        if (N % columns) continue;
        multiply(CUDA_R_32F, N, N / columns, part);
        differ_by_batch += memcmp(part, whole, sizeof whole) != 0;
    }
    assert_true(differ_by_columns > 0 && differ_by_batch > 0);
}

/* The worst error of C, as a part of what one rounding to C's type and fp32 sums of K terms may make. */
static double worst(cudaDataType type)
{
    const double unit = type == CUDA_R_32F ? 0x1p-24 : type == CUDA_R_16F ? 0x1p-11 : 0x1p-8;
    double most = 0, c[M * N];
    fill(type, a, K * M, device_a), fill(type, b, K * N, device_b);
    for (int columns = 1; columns <= N; columns++) {
        multiply(type, columns, 1, c);
        for (int i = 0; i < M * columns; i++) {
            double sum = 0, size = 0;
            for (int k = 0; k < K; k++) sum += a[i % M * K + k] * b[i / M * K + k], size += fabs(a[i % M * K + k] * b[i / M * K + k]);
            most = fmax(most, fabs(c[i] - sum) / (unit * fabs(sum) + (K + 2) * 0x1p-24 * size + 0x1p-25));
        }
    }
    return most;
}

static void parts_are_16_bits_wide_unless_that_is_forbidden(void **state)
{
    (void)state;
    for (int t = 0; t < 3; t++) {
        CUBLAS(cublasSetMathMode(handle, CUBLAS_DEFAULT_MATH));
        const double allowed = worst(types[t]);
        CUBLAS(cublasSetMathMode(handle, CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
        const double forbidden = worst(types[t]);
        if (!(forbidden <= 1) || (allowed > 1) != (types[t] != CUDA_R_32F)) fail_msg("type %d: %.3g, %.3g of the bound", t, allowed, forbidden);
    }
    CUBLAS(cublasSetMathMode(handle, CUBLAS_DEFAULT_MATH));
}

/* As documented: with every stream the workspace goes back to the handle's own. */
static void a_stream_takes_the_workspace_away(void **state)
{
    (void)state;
    enum { BYTES = 4096 };
    unsigned char *workspace, left[BYTES];
    double c[M * N];
    fill(CUDA_R_32F, a, K * M, device_a), fill(CUDA_R_32F, b, K * N, device_b);
    CUDA(cudaMalloc((void **)&workspace, BYTES));
    for (int kept = 0; kept < 2; kept++) {
        bool used = false;
        CUDA(cudaMemset(workspace, 0x55, BYTES));
        CUBLAS(cublasSetWorkspace(handle, workspace, BYTES));
        if (!kept) CUBLAS(cublasSetStream(handle, NULL));
        multiply(CUDA_R_32F, N, 1, c);
        CUDA(cudaMemcpy(left, workspace, BYTES, cudaMemcpyDeviceToHost));
        for (int i = 0; i < BYTES; i++) used |= left[i] != 0x55;
        assert_int_equal(used, kept);
    }
    CUBLAS(cublasSetStream(handle, NULL));
    CUDA(cudaFree(workspace));
}

static int begin(void **state)
{
    (void)state;
    srandom(7);
    return cublasCreate(&handle) || cudaMalloc(&device_a, K * N * 4) || cudaMalloc(&device_b, K * N * 4) || cudaMalloc(&device_c, M * N * 4);
}

static int finish(void **state)
{
    (void)state;
    return cublasDestroy(handle) || cudaFree(device_a) || cudaFree(device_b) || cudaFree(device_c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_depend_on_shape_and_batch_but_not_on_the_run),
        cmocka_unit_test(a_stream_takes_the_workspace_away),
        cmocka_unit_test(parts_are_16_bits_wide_unless_that_is_forbidden),
    };
    return cmocka_run_group_tests(tests, begin, finish);
}
