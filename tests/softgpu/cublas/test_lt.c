/* cublasLtMatmul gives what cublasGemmEx gives, bit for bit, and says what it lacks. */
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { M = 24, N = 16, K = 40, BATCH = 2, MOST = M * K * BATCH };

static const struct {
    int transpose_a, transpose_b, batch;
    float beta;
} cases[] = {{0, 0, 1, 0}, {1, 0, 1, 0}, {0, 1, BATCH, 0}, {1, 1, BATCH, 0.5f}};

#define CUDA(call)   assert_int_equal(call, cudaSuccess)
#define CUBLAS(call) assert_int_equal(call, CUBLAS_STATUS_SUCCESS)

static float *filled(float first)
{
    float host[MOST], *device;
    for (int i = 0; i < MOST; i++) host[i] = first + (float)(i * 37 % 101) / 64;
    CUDA(cudaMalloc((void **)&device, sizeof host));
    CUDA(cudaMemcpy(device, host, sizeof host, cudaMemcpyHostToDevice));
    return device;
}

static cublasLtMatrixLayout_t layout(int rows, int columns, int32_t batch)
{
    const int64_t stride = (int64_t)rows * columns;
    cublasLtMatrixLayout_t made;
    CUBLAS(cublasLtMatrixLayoutCreate(&made, CUDA_R_32F, (uint64_t)rows, (uint64_t)columns, rows));
    CUBLAS(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
    CUBLAS(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride));
    return made;
}

static void a_plain_product_is_that_of_cublas(void **state)
{
    (void)state;
    cublasHandle_t handle;
    cublasLtHandle_t lt;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t result;
    const size_t room = 1 << 16;
    void *workspace;
    CUBLAS(cublasCreate(&handle));
    CUBLAS(cublasLtCreate(&lt));
    CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
    CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room));
    CUDA(cudaMalloc(&workspace, room));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int32_t ta = cases[i].transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, tb = cases[i].transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
        const int a_rows = cases[i].transpose_a ? K : M, b_rows = cases[i].transpose_b ? N : K, batch = cases[i].batch;
        const uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        const float alpha = 1.5f, beta = cases[i].beta;
        float *a = filled(1), *b = filled(2), *c = filled(3), *d = filled(3), expected[MOST], got[MOST];
        cublasLtMatrixLayout_t a_layout = layout(a_rows, M + K - a_rows, batch), b_layout = layout(b_rows, K + N - b_rows, batch), c_layout = layout(M, N, batch);
        cublasLtMatmulDesc_t product;
        int found;
        CUBLAS(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        CUBLAS(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
        CUBLAS(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
        CUBLAS(cublasLtMatmulAlgoGetHeuristic(lt, product, a_layout, b_layout, c_layout, c_layout, preference, 1, &result, &found));
        assert_int_equal(found, 1);
        CUBLAS(cublasGemmStridedBatchedEx(handle, (cublasOperation_t)ta, (cublasOperation_t)tb, M, N, K, &alpha, a, CUDA_R_32F, a_rows, M * K, b,
                                          CUDA_R_32F, b_rows, K * N, &beta, c, CUDA_R_32F, M, M * N, batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
        CUBLAS(cublasLtMatmul(lt, product, &alpha, a, a_layout, b, b_layout, &beta, d, c_layout, d, c_layout, &result.algo, workspace, room, NULL));
        CUDA(cudaMemcpy(expected, c, sizeof expected, cudaMemcpyDeviceToHost));
        CUDA(cudaMemcpy(got, d, sizeof got, cudaMemcpyDeviceToHost));
        assert_memory_equal(got, expected, sizeof got);
        assert_int_equal(cublasLtMatmul(lt, product, &alpha, b, b_layout, b, b_layout, &beta, d, c_layout, d, c_layout, NULL, NULL, 0, NULL),
                         CUBLAS_STATUS_INVALID_VALUE); /* sizes that do not fit */
        CUBLAS(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
        assert_int_equal(cublasLtMatmul(lt, product, &alpha, a, a_layout, b, b_layout, &beta, d, c_layout, d, c_layout, NULL, NULL, 0, NULL),
                         CUBLAS_STATUS_NOT_SUPPORTED);
        CUBLAS(cublasLtMatmulDescDestroy(product));
        CUBLAS(cublasLtMatrixLayoutDestroy(a_layout));
        CUBLAS(cublasLtMatrixLayoutDestroy(b_layout));
        CUBLAS(cublasLtMatrixLayoutDestroy(c_layout));
        for (int p = 0; p < 4; p++) CUDA(cudaFree((float *[]){a, b, c, d}[p]));
    }
    CUDA(cudaFree(workspace));
    CUBLAS(cublasLtMatmulPreferenceDestroy(preference));
    CUBLAS(cublasLtDestroy(lt));
    CUBLAS(cublasDestroy(handle));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_plain_product_is_that_of_cublas)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
