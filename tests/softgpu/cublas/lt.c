/* cublasLt, as far as a plain product goes: C = D, columns first, no epilogue. It calls libcublas.so.13, which has the product. What a
   descriptor asks for beyond that is said to be lacking when it is asked for. */
#include "runtime/queue.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct description {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t pointer_mode, transpose[3];
    uint32_t epilogue;
} description;

typedef struct matrix {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t leading, stride;
    int32_t batch, order;
} matrix;

_Static_assert(sizeof(description) <= sizeof(cublasLtMatmulDescOpaque_t), "a descriptor holds it");
_Static_assert(sizeof(matrix) <= sizeof(cublasLtMatrixLayoutOpaque_t), "a layout holds it");

static cublasStatus_t lacking(const char *what)
{
    softgpu_unsupported(what);
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

/* ---- handles: cuBLAS's own, which may be used in their place ------------------------------------------------------------ */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) { return cublasCreate((cublasHandle_t *)handle); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return cublasDestroy((cublasHandle_t)handle); }

/* One that a call can give its stream and workspace to, for the current device. */
static cublasStatus_t inner(cublasHandle_t *handle)
{
    enum { DEVICES = 16 };
    static cublasHandle_t handles[DEVICES];
    int device;
    if (cudaGetDevice(&device) != cudaSuccess || device >= DEVICES) return CUBLAS_STATUS_NOT_INITIALIZED;
    cublasStatus_t status = handles[device] ? CUBLAS_STATUS_SUCCESS : cublasCreate(&handles[device]);
    *handle = handles[device];
    return status;
}

/* ---- descriptors ----------------------------------------------------------------------------------------------------------- */

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *made, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (!made) return CUBLAS_STATUS_INVALID_VALUE;
    *made = calloc(1, sizeof **made);
    if (!*made) return CUBLAS_STATUS_ALLOC_FAILED;
    *(description *)*made = (description){.compute = compute, .scale = scale, .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t made)
{
    free(made);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t made, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    description *d = (description *)made;
    if (!d || !value || bytes < sizeof(int32_t)) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: memcpy(&d->pointer_mode, value, sizeof d->pointer_mode); break;
    case CUBLASLT_MATMUL_DESC_TRANSA: memcpy(&d->transpose[0], value, sizeof(int32_t)); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: memcpy(&d->transpose[1], value, sizeof(int32_t)); break;
    case CUBLASLT_MATMUL_DESC_TRANSC: memcpy(&d->transpose[2], value, sizeof(int32_t)); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: memcpy(&d->epilogue, value, sizeof d->epilogue); break;
    default: return lacking("cublasLtMatmulDescSetAttribute of more than modes, transposes and the epilogue");
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *made, cudaDataType type, uint64_t rows, uint64_t columns,
                                          int64_t leading)
{
    if (!made) return CUBLAS_STATUS_INVALID_VALUE;
    *made = calloc(1, sizeof **made);
    if (!*made) return CUBLAS_STATUS_ALLOC_FAILED;
    *(matrix *)*made = (matrix){.type = type, .rows = rows, .columns = columns, .leading = leading, .batch = 1,
                                .order = CUBLASLT_ORDER_COL};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t made)
{
    free(made);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t made, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t bytes)
{
    matrix *m = (matrix *)made;
    if (!m || !value || bytes < sizeof(int32_t)) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_ORDER: memcpy(&m->order, value, sizeof m->order); break;
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: memcpy(&m->batch, value, sizeof m->batch); break;
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        if (bytes < sizeof m->stride) return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(&m->stride, value, sizeof m->stride);
        break;
    default: return lacking("cublasLtMatrixLayoutSetAttribute of more than order and batches");
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- algorithms: one, that needs nothing ------------------------------------------------------------------------------------ */

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *made)
{
    if (!made) return CUBLAS_STATUS_INVALID_VALUE;
    *made = calloc(1, sizeof **made);
    return *made ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t made)
{
    free(made);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t made, cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    (void)attribute, (void)bytes;
    return made && value ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

/* NULL: the product can be made; otherwise what is lacking. */
static const char *lacks(const description *d, const matrix *a, const matrix *b, const matrix *c, const matrix *to)
{
    const matrix *all[] = {a, b, c, to};
    for (int i = 0; i < 4; i++)
        if (all[i]->order != CUBLASLT_ORDER_COL) return "cublasLtMatmul of rows first, or tiled";
    if (d->epilogue != CUBLASLT_EPILOGUE_DEFAULT) return "cublasLtMatmul with an epilogue";
    if (d->transpose[2] != CUBLAS_OP_N || memcmp(c, to, sizeof *c)) return "cublasLtMatmul with C unlike D";
    if (d->pointer_mode != CUBLASLT_POINTER_MODE_HOST && d->pointer_mode != CUBLASLT_POINTER_MODE_DEVICE)
        return "cublasLtMatmul with vectors of scalars";
    cudaDataType_t natural = d->compute == CUBLAS_COMPUTE_64F   ? CUDA_R_64F
                             : d->compute == CUBLAS_COMPUTE_16F ? CUDA_R_16F
                             : d->compute == CUBLAS_COMPUTE_32I ? CUDA_R_32I
                                                                : CUDA_R_32F;
    return d->scale != natural ? "cublasLtMatmul with scalars of another type than it computes in" : NULL;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t to,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *found)
{
    int version;
    cublasStatus_t status = cublasGetVersion((cublasHandle_t)handle, &version);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (!d || !a || !b || !c || !to || !preference || wanted < 1 || !results || !found) return CUBLAS_STATUS_INVALID_VALUE;
    const char *what = lacks((const description *)d, (const matrix *)a, (const matrix *)b, (const matrix *)c, (const matrix *)to);
    *found = what ? 0 : 1;
    if (what) return lacking(what);
    results[0] = (cublasLtMatmulHeuristicResult_t){.state = CUBLAS_STATUS_SUCCESS, .wavesCount = 1};
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product --------------------------------------------------------------------------------------------------------------- */

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t d_, const void *alpha, const void *a_data,
                              cublasLtMatrixLayout_t a_, const void *b_data, cublasLtMatrixLayout_t b_, const void *beta,
                              const void *c_data, cublasLtMatrixLayout_t c_, void *to_data, cublasLtMatrixLayout_t to_,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t bytes, cudaStream_t stream)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    const description *d = (const description *)d_;
    const matrix *a = (const matrix *)a_, *b = (const matrix *)b_, *c = (const matrix *)c_, *to = (const matrix *)to_;
    int version;
    cublasHandle_t own;
    (void)algorithm;
    cublasStatus_t status = cublasGetVersion((cublasHandle_t)handle, &version);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (!d || !a || !b || !c || !to || !alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    const char *what = lacks(d, a, b, c, to);
    if (what) return lacking(what);
    if (c_data != to_data) return lacking("cublasLtMatmul with C elsewhere than D");
    const bool across_a = d->transpose[0] != CUBLAS_OP_N, across_b = d->transpose[1] != CUBLAS_OP_N;
    const uint64_t k = across_a ? a->rows : a->columns;
    if ((across_a ? a->columns : a->rows) != to->rows || (across_b ? b->rows : b->columns) != to->columns ||
        (across_b ? b->columns : b->rows) != k || a->batch != to->batch || b->batch != to->batch)
        return CUBLAS_STATUS_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    status = inner(&own);
    if (status == CUBLAS_STATUS_SUCCESS) status = cublasSetStream(own, stream);
    if (status == CUBLAS_STATUS_SUCCESS) status = cublasSetWorkspace(own, workspace, workspace ? bytes : 0);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasSetPointerMode(own, d->pointer_mode == CUBLASLT_POINTER_MODE_HOST ? CUBLAS_POINTER_MODE_HOST : CUBLAS_POINTER_MODE_DEVICE);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasGemmStridedBatchedEx_64(own, (cublasOperation_t)d->transpose[0], (cublasOperation_t)d->transpose[1],
                                               (int64_t)to->rows, (int64_t)to->columns, (int64_t)k, alpha, a_data, a->type,
                                               a->leading, a->stride, b_data, b->type, b->leading, b->stride, beta, to_data,
                                               to->type, to->leading, to->stride, to->batch, d->compute, CUBLAS_GEMM_DEFAULT);
    pthread_mutex_unlock(&lock);
    return status;
}
