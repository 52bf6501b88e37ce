/* cuBLAS against a naive loop in double: every type, operation, form of batch and leading dimension; what is not to be read is
   never written, so that the software device reports a read of it. An ordinary program: it runs on a real GPU too. */
#include "numbers/numbers.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The header shows it to C++ only. */
cublasStatus_t cublasHgemm(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const uint16_t *,
                           const uint16_t *, int, const uint16_t *, int, const uint16_t *, uint16_t *, int);

static cublasHandle_t handle;

/* What the bounds below are for; test_sums.c has the other mode. */
#define SUMS_IN_COMPUTE_TYPE \
    ((cublasMath_t)(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION))

#define CUDA(call)   assert_int_equal(call, cudaSuccess)
#define CUBLAS(call) assert_int_equal(call, CUBLAS_STATUS_SUCCESS)

/* ---- elements ----------------------------------------------------------------------------------------------------------- */

static size_t bytes_of(cudaDataType type)
{
    return type == CUDA_R_8I ? 1 : type == CUDA_R_16F || type == CUDA_R_16BF ? 2 : type == CUDA_R_64F ? 8 : 4;
}

static void put(cudaDataType type, void *array, int64_t i, double value)
{
    switch (type) {
    case CUDA_R_8I: ((int8_t *)array)[i] = (int8_t)value; break;
    case CUDA_R_32I: ((int32_t *)array)[i] = (int32_t)value; break;
    case CUDA_R_16F: ((uint16_t *)array)[i] = (uint16_t)sg_encode(&sg_f16, value, SG_RN, 0); break;
    case CUDA_R_16BF: ((uint16_t *)array)[i] = (uint16_t)sg_encode(&sg_bf16, value, SG_RN, 0); break;
    case CUDA_R_32F: ((float *)array)[i] = (float)value; break;
    default: ((double *)array)[i] = value;
    }
}

static double get(cudaDataType type, const void *array, int64_t i)
{
    switch (type) {
    case CUDA_R_8I: return ((const int8_t *)array)[i];
    case CUDA_R_32I: return ((const int32_t *)array)[i];
    case CUDA_R_16F: return sg_decode(&sg_f16, ((const uint16_t *)array)[i]);
    case CUDA_R_16BF: return sg_decode(&sg_bf16, ((const uint16_t *)array)[i]);
    case CUDA_R_32F: return (double)((const float *)array)[i];
    default: return ((const double *)array)[i];
    }
}

static double unit_of(cudaDataType type)
{
    return type == CUDA_R_16F ? 0x1p-11 : type == CUDA_R_16BF ? 0x1p-8 : type == CUDA_R_32F ? 0x1p-24 : 0x1p-53;
}

static double random_value(cudaDataType type)
{
    return type == CUDA_R_8I ? (double)(random() % 200 - 100) : (double)(random() % 2001 - 1000) / 1000;
}

/* ---- one gemm ----------------------------------------------------------------------------------------------------------- */

typedef struct matrix {
    cudaDataType type;
    int rows, columns, leading, batch;
    int64_t stride;
    void *host;
    char *device;
    char **pointers; /* on the device */
} matrix;

/* Only the rows are copied: the padding up to the leading dimension stays unwritten on the device. With
   `aligned` each matrix of the batch begins at a multiple of 16 bytes, as arrays of pointers want it. */
static matrix make(cudaDataType type, int rows, int columns, int padding, int batch, bool filled,
                   bool aligned)
{
    matrix m = {type, rows, columns, (rows > 0 ? rows : 1) + padding, batch, 0, NULL, NULL, NULL};
    size_t size = bytes_of(type);
    if (type == CUDA_R_8I) m.leading = (m.leading + 3) / 4 * 4;
    m.stride = (int64_t)m.leading * columns + (type == CUDA_R_8I ? 4 : 1);
    if (aligned) m.stride = (m.stride + 15) / 16 * 16;
    size_t total = (size_t)(m.stride * batch) * size + 16;
    m.host = calloc(1, total);
    CUDA(cudaMalloc((void **)&m.device, total));
    for (int b = 0; b < batch; b++)
        for (int j = 0; j < columns; j++)
            for (int i = 0; i < rows; i++) put(type, m.host, b * m.stride + (int64_t)j * m.leading + i, random_value(type));
    for (int b = 0; filled && b < batch && rows && columns; b++)
        CUDA(cudaMemcpy2D(m.device + (size_t)(b * m.stride) * size, (size_t)m.leading * size,
                          (char *)m.host + (size_t)(b * m.stride) * size, (size_t)m.leading * size, (size_t)rows * size,
                          (size_t)columns, cudaMemcpyHostToDevice));
    char *addresses[8];
    for (int b = 0; b < batch; b++) addresses[b] = m.device + (size_t)(b * m.stride) * size;
    CUDA(cudaMalloc((void **)&m.pointers, sizeof addresses));
    CUDA(cudaMemcpy(m.pointers, addresses, (size_t)batch * sizeof *addresses, cudaMemcpyHostToDevice));
    return m;
}

static void end(matrix *m)
{
    CUDA(cudaFree(m->device));
    CUDA(cudaFree(m->pointers));
    free(m->host);
}

typedef enum form { SINGLE, STRIDED, POINTERS, FORMS } form;

typedef struct combination {
    const char *name;
    cublasComputeType_t compute;
    cudaDataType scale, ab, c;
    double input_unit, sum_unit; /* what the inputs and the sums lose */
} combination;

static const combination combinations[] = {
    {"f32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, 0, 0x1p-24},
    {"f32 pedantic", CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, 0, 0x1p-24},
    {"f32 by tf32", CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, 0x1p-10, 0x1p-23},
    {"f32 by f16", CUBLAS_COMPUTE_32F_FAST_16F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, 0x1p-10, 0x1p-23},
    {"f32 by bf16", CUBLAS_COMPUTE_32F_FAST_16BF, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, 0x1p-7, 0x1p-23},
    {"f64", CUBLAS_COMPUTE_64F, CUDA_R_64F, CUDA_R_64F, CUDA_R_64F, 0, 0x1p-53},
    {"f16 in f32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_16F, 0, 0x1p-23},
    {"f16 to f32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_32F, 0, 0x1p-23},
    {"f16 in f16", CUBLAS_COMPUTE_16F, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F, 0, 0x1p-10},
    {"bf16 in f32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF, 0, 0x1p-23},
    {"bf16 to f32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_32F, 0, 0x1p-23},
    {"int8 to f32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_8I, CUDA_R_32F, 0, 0x1p-23},
    {"int8", CUBLAS_COMPUTE_32I, CUDA_R_32I, CUDA_R_8I, CUDA_R_32I, 0, 0},
};
enum { COMBINATIONS = sizeof combinations / sizeof *combinations };

typedef struct problem {
    const combination *with;
    form form;
    cublasOperation_t op_a, op_b;
    int m, n, k, padding;
    double alpha, beta;
    bool device_scalars;
} problem;

static double element(const matrix *x, cublasOperation_t operation, int batch, int row, int column)
{
    int i = operation == CUBLAS_OP_N ? row : column, j = operation == CUBLAS_OP_N ? column : row;
    return get(x->type, x->host, batch * x->stride + (int64_t)j * x->leading + i);
}

static void compare(const problem *p, const matrix *a, const matrix *b, const matrix *c, const void *result)
{
    for (int t = 0; t < c->batch; t++)
        for (int j = 0; j < p->n; j++)
            for (int i = 0; i < p->m; i++) {
                double sum = 0, size = 0;
                for (int k = 0; k < p->k; k++) {
                    double x = element(a, p->op_a, t, i, k) * element(b, p->op_b, t, k, j);
                    sum += x;
                    size += fabs(x);
                }
                double old = p->beta != 0 ? element(c, CUBLAS_OP_N, t, i, j) : 0;
                double expected = p->alpha * sum + p->beta * old;
                double got = get(c->type, result, t * c->stride + (int64_t)j * c->leading + i);
                double bound = fabs(p->alpha) * size * (2 * p->with->input_unit + (p->k + 3) * p->with->sum_unit) +
                               4 * p->with->sum_unit * fabs(p->beta * old) + 2 * unit_of(c->type) * fabs(expected) + 1e-7 * (c->type == CUDA_R_16F);
                if (!(fabs(got - expected) <= bound))
                    fail_msg("%s, form %d, ops %d %d, %dx%dx%d, batch %d, C[%d][%d]: %.9g, expected %.9g +- %.3g", p->with->name,
                             (int)p->form, (int)p->op_a, (int)p->op_b, p->m, p->n, p->k, t, i, j, got, expected, bound);
            }
}

static cublasStatus_t call(const problem *p, const void *alpha, const void *beta, matrix *a, matrix *b, matrix *c)
{
    const combination *w = p->with;
    switch (p->form) {
    case SINGLE:
        return cublasGemmEx(handle, p->op_a, p->op_b, p->m, p->n, p->k, alpha, a->device, a->type, a->leading, b->device,
                            b->type, b->leading, beta, c->device, c->type, c->leading, w->compute, CUBLAS_GEMM_DEFAULT);
    case STRIDED:
        return cublasGemmStridedBatchedEx_64(handle, p->op_a, p->op_b, p->m, p->n, p->k, alpha, a->device, a->type, a->leading,
                                             a->stride, b->device, b->type, b->leading, b->stride, beta, c->device, c->type,
                                             c->leading, c->stride, c->batch, w->compute, CUBLAS_GEMM_DEFAULT);
    default:
        return cublasGemmBatchedEx(handle, p->op_a, p->op_b, p->m, p->n, p->k, alpha, (const void *const *)a->pointers,
                                   a->type, a->leading, (const void *const *)b->pointers, b->type, b->leading, beta,
                                   (void *const *)c->pointers, c->type, c->leading, c->batch, w->compute, CUBLAS_GEMM_DEFAULT);
    }
}

static void run(const problem *p)
{
    int batch = p->form == SINGLE ? 1 : 3;
    bool plain_a = p->op_a == CUBLAS_OP_N, plain_b = p->op_b == CUBLAS_OP_N;
    matrix a = make(p->with->ab, plain_a ? p->m : p->k, plain_a ? p->k : p->m, p->padding, batch,
                    p->alpha != 0, p->form == POINTERS);
    matrix b = make(p->with->ab, plain_b ? p->k : p->n, plain_b ? p->n : p->k, p->padding, batch,
                    p->alpha != 0, p->form == POINTERS);
    matrix c = make(p->with->c, p->m, p->n, p->padding, batch, p->beta != 0, p->form == POINTERS);
    double scalars[2];
    void *alpha = &scalars[0], *beta = &scalars[1], *on_device = NULL;
    put(p->with->scale, alpha, 0, p->alpha);
    put(p->with->scale, beta, 0, p->beta);
    if (p->device_scalars) {
        CUDA(cudaMalloc(&on_device, sizeof scalars));
        CUDA(cudaMemcpy(on_device, scalars, sizeof scalars, cudaMemcpyHostToDevice));
        alpha = on_device, beta = (char *)on_device + 8;
    }
    CUBLAS(cublasSetPointerMode(handle, p->device_scalars ? CUBLAS_POINTER_MODE_DEVICE : CUBLAS_POINTER_MODE_HOST));
    CUBLAS(call(p, alpha, beta, &a, &b, &c));
    char *result = calloc(1, (size_t)(c.stride * batch) * bytes_of(c.type) + 16);
    for (int t = 0; t < batch && p->m && p->n; t++) {
        size_t size = bytes_of(c.type), offset = (size_t)(t * c.stride) * size;
        CUDA(cudaMemcpy2D(result + offset, (size_t)c.leading * size, c.device + offset, (size_t)c.leading * size,
                          (size_t)p->m * size, (size_t)p->n, cudaMemcpyDeviceToHost));
    }
    compare(p, &a, &b, &c, result);
    CUDA(cudaFree(on_device));
    free(result);
    end(&a);
    end(&b);
    end(&c);
    CUBLAS(cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_HOST));
}

/* ---- tests ---------------------------------------------------------------------------------------------------------------- */

static void every_combination_in_every_form(void **state)
{
    (void)state;
    static const int sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {17, 33, 9}, {33, 2, 130}, {0, 3, 2}, {3, 0, 2}, {4, 3, 0}};
    static const double scalars[][2] = {{1, 0}, {2, 1}, {-1, 3}, {0, 2}, {0, 0}};
    srandom(5);
    for (int w = 0; w < COMBINATIONS; w++)
        for (int f = 0; f < FORMS; f++)
            for (int s = 0; s < 7; s++)
                for (int ops = 0; ops < 4; ops++) {
                    int turn = w + f + s + ops;
                    run(&(problem){.with = &combinations[w], .form = f, .op_a = ops & 1, .op_b = ops >> 1, .m = sizes[s][0],
                                   .n = sizes[s][1], .k = sizes[s][2], .padding = turn % 3, .alpha = scalars[turn % 5][0],
                                   .beta = scalars[turn % 5][1], .device_scalars = turn % 4 == 3});
                }
}

static void typed_entry_points_agree_with_the_ex_form(void **state)
{
    (void)state;
    enum { N = 20 };
    matrix s = make(CUDA_R_32F, N, N, 0, 1, true, false), d = make(CUDA_R_64F, N, N, 0, 1, true, false),
           h = make(CUDA_R_16F, N, N, 0, 1, true, false);
    matrix sums[3][2];
    static const cudaDataType types[] = {CUDA_R_32F, CUDA_R_64F, CUDA_R_16F};
    matrix *inputs[] = {&s, &d, &h};
    static const cublasComputeType_t computes[] = {CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_16F};
    float one_s = 1, zero_s = 0;
    double one_d = 1, zero_d = 0;
    uint16_t one_h = 0x3c00, zero_h = 0;
    const void *ones[] = {&one_s, &one_d, &one_h}, *zeros[] = {&zero_s, &zero_d, &zero_h};
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 2; i++) sums[t][i] = make(types[t], N, N, 0, 1, false, false);
    CUBLAS(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_T, N, N, N, &one_s, (float *)s.device, N, (float *)s.device, N, &zero_s,
                       (float *)sums[0][0].device, N));
    CUBLAS(cublasDgemm_64(handle, CUBLAS_OP_N, CUBLAS_OP_T, N, N, N, &one_d, (double *)d.device, N, (double *)d.device, N,
                          &zero_d, (double *)sums[1][0].device, N));
    CUBLAS(cublasHgemm(handle, CUBLAS_OP_N, CUBLAS_OP_T, N, N, N, &one_h, (uint16_t *)h.device, N, (uint16_t *)h.device, N,
                       &zero_h, (uint16_t *)sums[2][0].device, N));
    for (int t = 0; t < 3; t++) {
        CUBLAS(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_T, N, N, N, ones[t], inputs[t]->device, types[t], N, inputs[t]->device,
                            types[t], N, zeros[t], sums[t][1].device, types[t], N, computes[t], CUBLAS_GEMM_DEFAULT));
        char left[N * N * 8], right[N * N * 8];
        size_t bytes = N * N * bytes_of(types[t]);
        CUDA(cudaMemcpy(left, sums[t][0].device, bytes, cudaMemcpyDeviceToHost));
        CUDA(cudaMemcpy(right, sums[t][1].device, bytes, cudaMemcpyDeviceToHost));
        assert_memory_equal(left, right, bytes);
        end(&sums[t][0]);
        end(&sums[t][1]);
        end(inputs[t]);
    }
}

static void bad_arguments_get_their_status(void **state)
{
    (void)state;
    float one = 1, *x;
    CUDA(cudaMalloc((void **)&x, 4096));
    CUDA(cudaMemset(x, 0, 4096));
    const struct {
        cublasStatus_t status;
        int null_handle, op_a, op_b, m, n, k, lda, ldb, ldc;
        const float *alpha;
        cudaDataType type;
        cublasComputeType_t compute;
    } cases[] = {
        {CUBLAS_STATUS_SUCCESS, 0, 0, 0, 2, 3, 4, 2, 4, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_NOT_INITIALIZED, 1, 0, 0, 2, 3, 4, 2, 4, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 9, 0, 2, 3, 4, 2, 4, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 0, 9, 2, 3, 4, 2, 4, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 0, 0, -1, 3, 4, 2, 4, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 0, 0, 2, -3, 4, 2, 4, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 0, 0, 2, 3, -4, 2, 4, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 0, 0, 2, 3, 4, 1, 4, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 1, 0, 2, 3, 4, 3, 4, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 0, 0, 2, 3, 4, 2, 3, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 0, 1, 2, 3, 4, 2, 2, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 0, 0, 2, 3, 4, 2, 4, 1, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 0, 0, 0, 3, 4, 0, 4, 1, &one, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_INVALID_VALUE, 0, 0, 0, 2, 3, 4, 2, 4, 2, NULL, CUDA_R_32F, CUBLAS_COMPUTE_32F},
        {CUBLAS_STATUS_NOT_SUPPORTED, 0, 0, 0, 2, 3, 4, 2, 4, 2, &one, CUDA_R_32F, CUBLAS_COMPUTE_16F},
        {CUBLAS_STATUS_NOT_SUPPORTED, 0, 0, 0, 2, 3, 4, 2, 4, 2, &one, CUDA_R_16BF, CUBLAS_COMPUTE_16F},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cublasStatus_t status =
            cublasGemmEx(cases[i].null_handle ? NULL : handle, (cublasOperation_t)cases[i].op_a, (cublasOperation_t)cases[i].op_b,
                         cases[i].m, cases[i].n, cases[i].k, cases[i].alpha, x, cases[i].type, cases[i].lda, x, cases[i].type,
                         cases[i].ldb, &one, x + 512, cases[i].type, cases[i].ldc, cases[i].compute, CUBLAS_GEMM_DEFAULT);
        if (status != cases[i].status)
            fail_msg("case %zu: %s, expected %s", i, cublasGetStatusName(status), cublasGetStatusName(cases[i].status));
    }
    assert_int_equal(cublasSgemmBatched(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, NULL, 1, NULL, 1, &one, NULL, 1, -1),
                     CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(cublasSetPointerMode(NULL, CUBLAS_POINTER_MODE_HOST), CUBLAS_STATUS_NOT_INITIALIZED);
    assert_int_equal(cublasSetWorkspace(handle, (char *)x + 8, 1024), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(cublasSgemv(handle, CUBLAS_OP_N, 2, 2, &one, x, 2, x, 0, &one, x, 1), CUBLAS_STATUS_INVALID_VALUE);
    CUDA(cudaFree(x));
}

static void settings_are_kept(void **state)
{
    (void)state;
    int version, major;
    cublasPointerMode_t mode;
    cublasMath_t math;
    cudaStream_t stream, kept;
    CUBLAS(cublasGetVersion(handle, &version));
    CUBLAS(cublasGetProperty(MAJOR_VERSION, &major));
    assert_int_equal(major, CUBLAS_VER_MAJOR);
    assert_true(version >= CUBLAS_VER_MAJOR * 10000);
    CUBLAS(cublasGetPointerMode(handle, &mode));
    assert_int_equal(mode, CUBLAS_POINTER_MODE_HOST);
    CUBLAS(cublasSetMathMode(handle, CUBLAS_TF32_TENSOR_OP_MATH));
    CUBLAS(cublasGetMathMode(handle, &math));
    assert_int_equal(math, CUBLAS_TF32_TENSOR_OP_MATH);
    CUBLAS(cublasSetMathMode(handle, SUMS_IN_COMPUTE_TYPE));
    CUDA(cudaStreamCreate(&stream));
    CUBLAS(cublasSetStream(handle, stream));
    CUBLAS(cublasGetStream(handle, &kept));
    assert_ptr_equal(stream, kept);
    CUBLAS(cublasSetStream(handle, NULL));
    CUDA(cudaStreamDestroy(stream));
    assert_string_equal(cublasGetStatusName(CUBLAS_STATUS_ALLOC_FAILED), "CUBLAS_STATUS_ALLOC_FAILED");
    assert_non_null(cublasGetStatusString(CUBLAS_STATUS_ALLOC_FAILED));
}

static void graphs_replay_the_work(void **state)
{
    (void)state;
    enum { N = 8 };
    float one = 1, half = 0.5f, ones[N * N], c[N * N], *a, *sum;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    for (int i = 0; i < N * N; i++) ones[i] = 1;
    CUDA(cudaStreamCreate(&stream));
    CUDA(cudaMalloc((void **)&a, sizeof ones));
    CUDA(cudaMalloc((void **)&sum, sizeof ones));
    CUDA(cudaMemcpy(a, ones, sizeof ones, cudaMemcpyHostToDevice));
    CUDA(cudaMemset(sum, 0, sizeof ones));
    CUBLAS(cublasSetStream(handle, stream));
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CUBLAS(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, N, N, N, &one, a, N, a, N, &half, sum, N));
    CUDA(cudaStreamEndCapture(stream, &graph));
    one = 100; /* the scalars were taken at the call */
    CUDA(cudaGraphInstantiate(&ready, graph, 0));
    CUDA(cudaGraphLaunch(ready, stream));
    CUDA(cudaGraphLaunch(ready, stream));
    CUDA(cudaStreamSynchronize(stream));
    CUDA(cudaMemcpy(c, sum, sizeof c, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N * N; i++) assert_true(c[i] == N + N / 2);
    CUDA(cudaGraphExecDestroy(ready));
    CUDA(cudaGraphDestroy(graph));
    CUBLAS(cublasSetStream(handle, NULL));
    CUDA(cudaStreamDestroy(stream));
    CUDA(cudaFree(a));
    CUDA(cudaFree(sum));
}

static void vectors_and_matrices(void **state)
{
    (void)state;
    const double x[] = {1, -2, 3, -4, 5, -6}, y[] = {1, 1, 2, 2, 3, 3};
    double *dx, *dy, got[6], result, two = 2, one = 1, zero = 0;
    CUDA(cudaMalloc((void **)&dx, sizeof x));
    CUDA(cudaMalloc((void **)&dy, sizeof y));
    CUBLAS(cublasSetVector(6, sizeof *x, x, 1, dx, 1));
    CUBLAS(cublasSetVector(6, sizeof *y, y, 1, dy, 1));
    CUBLAS(cublasDdot(handle, 6, dx, 1, dy, 1, &result));
    assert_float_equal(result, 1 - 2 + 6 - 8 + 15 - 18, 1e-12);
    CUBLAS(cublasDdot_64(handle, 3, dx, 2, dy, -2, &result)); /* x = 1 3 5, y = 3 2 1 */
    assert_float_equal(result, 3 + 6 + 5, 1e-12);
    CUBLAS(cublasDnrm2(handle, 6, dx, 1, &result));
    assert_float_equal(result, sqrt(91), 1e-12);
    CUBLAS(cublasDasum(handle, 6, dx, 1, &result));
    assert_float_equal(result, 21, 1e-12);
    CUBLAS(cublasDaxpy(handle, 3, &two, dx, 2, dy, 1)); /* y = 3 7 12 2 3 3 */
    CUBLAS(cublasDscal(handle, 2, &two, dy + 4, 1));
    CUBLAS(cublasGetVector(6, sizeof *y, dy, 1, got, 1));
    assert_memory_equal(got, ((double[]){3, 7, 12, 2, 6, 6}), sizeof got);
    /* A = dx as 2 x 3: rows (1 3 5), (-2 -4 -6) */
    CUBLAS(cublasDgemv(handle, CUBLAS_OP_N, 2, 3, &one, dx, 2, dy, 1, &zero, dy + 4, 1));
    CUBLAS(cublasGetVector(2, sizeof *y, dy + 4, 1, got, 1));
    assert_memory_equal(got, ((double[]){3 + 21 + 60, -6 - 28 - 72}), 2 * sizeof *got);
    CUBLAS(cublasDgemv_64(handle, CUBLAS_OP_T, 2, 3, &one, dx, 2, dy, 1, &one, dy + 2, 1));
    CUBLAS(cublasGetVector(3, sizeof *y, dy + 2, 1, got, 1));
    assert_memory_equal(got, ((double[]){12 + 3 - 14, 2 + 9 - 28, 84 + 15 - 42}), 3 * sizeof *got);
    CUBLAS(cublasDgeam(handle, CUBLAS_OP_T, CUBLAS_OP_T, 3, 2, &two, dx, 2, &zero, NULL, 2, dy, 3)); /* transpose */
    CUBLAS(cublasGetMatrix(3, 2, sizeof *y, dy, 3, got, 3));
    assert_memory_equal(got, ((double[]){2, 6, 10, -4, -8, -12}), sizeof got);
    CUDA(cudaFree(dx));
    CUDA(cudaFree(dy));
}

static int begin(void **state)
{
    (void)state;
    return cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS ||
           cublasSetMathMode(handle, SUMS_IN_COMPUTE_TYPE) != CUBLAS_STATUS_SUCCESS;
}

static int finish(void **state)
{
    (void)state;
    return cublasDestroy(handle) != CUBLAS_STATUS_SUCCESS;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_in_every_form), cmocka_unit_test(typed_entry_points_agree_with_the_ex_form),
        cmocka_unit_test(bad_arguments_get_their_status),  cmocka_unit_test(settings_are_kept),
        cmocka_unit_test(graphs_replay_the_work),          cmocka_unit_test(vectors_and_matrices),
    };
    return cmocka_run_group_tests(tests, begin, finish);
}
