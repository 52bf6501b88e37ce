/* The one gemm: which types go together, which arguments are errors, and the work itself. What is read is what BLAS says:
   with beta = 0 not C, with alpha = 0 or k = 0 neither A nor B; of a column its rows, not the padding up to its leading dimension. */
#include "gemm.h"

#include "element.h"
#include "product.h"

#include <stdlib.h>
#include <string.h>

/* ---- what goes together ------------------------------------------------------------------------------------------------ */

/* The combinations that cublasGemmEx documents for real numbers. PEDANTIC forms and the emulated one come to the same. */
static const struct {
    cublasComputeType_t compute;
    cudaDataType scale, ab, c;
    element_rounding rounding;
} combinations[] = {
    {CUBLAS_COMPUTE_16F, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_16F_PEDANTIC, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32I, CUDA_R_32I, CUDA_R_8I, CUDA_R_32I, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32I_PEDANTIC, CUDA_R_32I, CUDA_R_8I, CUDA_R_32I, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_16F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_8I, CUDA_R_32F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_32F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_32F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_16F, CUDA_R_16F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_8I, CUDA_R_32F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_16BF, CUDA_R_32F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_16F, CUDA_R_32F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_32F_FAST_16F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, ELEMENT_TO_F16},
    {CUBLAS_COMPUTE_32F_FAST_16BF, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, ELEMENT_TO_BF16},
    {CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, ELEMENT_TO_TF32},
    {CUBLAS_COMPUTE_32F_EMULATED_16BFX9, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_64F, CUDA_R_64F, CUDA_R_64F, CUDA_R_64F, ELEMENT_EXACT},
    {CUBLAS_COMPUTE_64F_PEDANTIC, CUDA_R_64F, CUDA_R_64F, CUDA_R_64F, ELEMENT_EXACT},
};

/* The work as it is queued: complete in itself. */
typedef struct gemm_task {
    gemm call;
    scalar alpha, beta;
    element_rounding rounding;
    bool half_sums, wide; /* accumulate in fp16; in double */
} gemm_task;

static bool combine(const gemm *call, gemm_task *task, cudaDataType *scale)
{
    for (size_t i = 0; i < sizeof combinations / sizeof *combinations; i++)
        if (combinations[i].compute == call->compute && combinations[i].ab == call->a.type &&
            combinations[i].ab == call->b.type && combinations[i].c == call->c.type) {
            *scale = combinations[i].scale;
            task->rounding = combinations[i].rounding;
            task->half_sums = *scale == CUDA_R_16F;
            task->wide = *scale == CUDA_R_64F || *scale == CUDA_R_32I;
            return true;
        }
    return false;
}

static bool is_operation(cublasOperation_t operation) { return (unsigned)operation <= CUBLAS_OP_C; }

static int64_t stored_rows(const gemm_operand *x, int64_t rows, int64_t columns)
{
    return x->operation == CUBLAS_OP_N ? rows : columns;
}

static bool fits(const gemm_operand *x, int64_t rows) { return x->leading >= (rows > 1 ? rows : 1); }

static cublasStatus_t check(const gemm *g)
{
    if (g->m < 0 || g->n < 0 || g->k < 0 || g->batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (!is_operation(g->a.operation) || !is_operation(g->b.operation)) return CUBLAS_STATUS_INVALID_VALUE;
    if (!fits(&g->a, stored_rows(&g->a, g->m, g->k)) || !fits(&g->b, stored_rows(&g->b, g->k, g->n)) || !fits(&g->c, g->m))
        return CUBLAS_STATUS_INVALID_VALUE;
    return g->alpha && g->beta ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- the work ----------------------------------------------------------------------------------------------------------- */

/* A stored matrix, rows x columns, as a dense array of the type computed in. */
static bool load(const gemm_task *task, const gemm_operand *x, const char *name, const void *address, int64_t rows,
                 int64_t columns, void *dense)
{
    int64_t bytes = element_bytes(x->type);
    for (int64_t j = 0; j < columns; j++) {
        const void *column;
        const char *start = (const char *)address + j * x->leading * bytes;
        if (rows && !device_read(task->call.what, name, start, rows * bytes, &column)) return false;
        if (rows && task->wide)
            element_widen_double(x->type, column, rows, (double *)dense + j * rows);
        else if (rows)
            element_widen_float(x->type, column, rows, task->rounding, (float *)dense + j * rows);
    }
    return true;
}

static bool store_column(const gemm_task *task, char *address, const void *sums, double alpha, double beta, void *scratch)
{
    const gemm *g = &task->call;
    int64_t bytes = g->m * element_bytes(g->c.type);
    const void *old;
    void *to;
    if (beta != 0) {
        if (!device_read(g->what, "C", address, bytes, &old)) return false;
        if (task->wide)
            element_widen_double(g->c.type, old, g->m, scratch);
        else
            element_widen_float(g->c.type, old, g->m, ELEMENT_EXACT, scratch);
    }
    double *wide = scratch;
    float *narrow = scratch;
    for (int64_t i = 0; i < g->m && task->wide; i++)
        wide[i] = (alpha != 0 ? alpha * ((const double *)sums)[i] : 0) + (beta != 0 ? beta * wide[i] : 0);
    for (int64_t i = 0; i < g->m && !task->wide; i++)
        narrow[i] = (alpha != 0 ? (float)alpha * ((const float *)sums)[i] : 0) + (beta != 0 ? (float)beta * narrow[i] : 0);
    if (!device_write(g->what, "C", address, bytes, &to)) return false;
    if (task->wide)
        element_narrow_double(g->c.type, wide, g->m, to);
    else
        element_narrow_float(g->c.type, narrow, g->m, to);
    return true;
}

/* Matrices of one member of the batch. */
static bool locate(const gemm *g, const gemm_operand *x, const char *name, int64_t member, const void **address)
{
    const void *pointer;
    *address = (const char *)x->address + member * x->stride * element_bytes(x->type);
    if (g->batching == GEMM_STRIDED) return true;
    if (!device_read(g->what, name, (const char *)x->address + member * 8, 8, &pointer)) return false;
    memcpy(address, pointer, sizeof *address);
    return true;
}

typedef struct buffers {
    void *a, *b, *sums, *column;
} buffers;

static product_operand steps(const gemm_operand *x, int64_t rows)
{
    return x->operation == CUBLAS_OP_N ? (product_operand){1, rows} : (product_operand){rows, 1};
}

static cudaError_t run_member(const gemm_task *task, int64_t member, double alpha, double beta, const buffers *buffer)
{
    const gemm *g = &task->call;
    const void *a, *b, *c;
    int64_t a_rows = stored_rows(&g->a, g->m, g->k), b_rows = stored_rows(&g->b, g->k, g->n);
    size_t size = task->wide ? sizeof(double) : sizeof(float);
    if (!locate(g, &g->c, "array of C", member, &c)) return cudaErrorIllegalAddress;
    memset(buffer->sums, 0, (size_t)(g->m * g->n) * size);
    if (alpha != 0 && g->k) {
        if (!locate(g, &g->a, "array of A", member, &a) || !locate(g, &g->b, "array of B", member, &b))
            return cudaErrorIllegalAddress;
        if (!load(task, &g->a, "A", a, a_rows, g->m + g->k - a_rows, buffer->a) ||
            !load(task, &g->b, "B", b, b_rows, g->k + g->n - b_rows, buffer->b))
            return cudaErrorIllegalAddress;
        bool done = (task->wide ? product_double : product_float)(steps(&g->a, a_rows), steps(&g->b, b_rows), g->m, g->n,
                                                                  g->k, task->half_sums, buffer->a, buffer->b, buffer->sums);
        if (!done) return cudaErrorMemoryAllocation;
    }
    for (int64_t j = 0; j < g->n; j++)
        if (!store_column(task, (char *)(uintptr_t)c + j * g->c.leading * element_bytes(g->c.type),
                          (const char *)buffer->sums + (size_t)(j * g->m) * size, alpha, beta, buffer->column))
            return cudaErrorIllegalAddress;
    return cudaSuccess;
}

static cudaError_t run(sg_device *device, void *argument)
{
    (void)device;
    const gemm_task *task = argument;
    const gemm *g = &task->call;
    double alpha, beta;
    if (!scalar_read(&task->alpha, g->what, &alpha) || !scalar_read(&task->beta, g->what, &beta))
        return cudaErrorIllegalAddress;
    buffers buffer = {malloc((size_t)(g->m * g->k * 8) + 1), malloc((size_t)(g->k * g->n * 8) + 1),
                      malloc((size_t)(g->m * g->n * 8) + 1), malloc((size_t)(g->m * 8) + 1)};
    cudaError_t error = buffer.a && buffer.b && buffer.sums && buffer.column ? cudaSuccess : cudaErrorMemoryAllocation;
    for (int64_t member = 0; error == cudaSuccess && member < g->batch; member++)
        error = run_member(task, member, alpha, beta, &buffer);
    free(buffer.a);
    free(buffer.b);
    free(buffer.sums);
    free(buffer.column);
    return error;
}

/* int8 products want 4-byte rows on the device. */
static bool int8_rows_are_aligned(const gemm *g)
{
    return g->a.type != CUDA_R_8I || (g->a.leading % 4 == 0 && g->b.leading % 4 == 0 && (uintptr_t)g->a.address % 4 == 0 &&
                                      (uintptr_t)g->b.address % 4 == 0);
}

cublasStatus_t gemm_submit(cublasHandle_t handle, const gemm *call)
{
    gemm_task task = {.call = *call};
    cudaDataType scale;
    cublasStatus_t status = handle_check(handle);
    if (status == CUBLAS_STATUS_SUCCESS) status = check(call);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (call->compute == CUBLAS_COMPUTE_32F && handle->math_mode == CUBLAS_TF32_TENSOR_OP_MATH && call->a.type == CUDA_R_32F)
        task.call.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    if (!combine(&task.call, &task, &scale) || !int8_rows_are_aligned(call)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!call->m || !call->n || !call->batch) return CUBLAS_STATUS_SUCCESS;
    task.alpha = scalar_take(handle, call->alpha, scale);
    task.beta = scalar_take(handle, call->beta, scale);
    if (!call->c.address) return CUBLAS_STATUS_INVALID_VALUE;
    return handle_enqueue(handle, call->what, run, &task, sizeof task);
}
