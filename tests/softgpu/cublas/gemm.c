/* The one gemm: which types go together, which arguments are errors, and the work itself. What is read is
   what BLAS says: with beta = 0 not C, with alpha = 0 or k = 0 neither A nor B; of a column its rows, not the
   padding up to its leading dimension. What cuBLAS leaves open is used against the caller: sums over k are
   cut in parts that depend on the shapes, the parts are rounded to C's type where the math mode allows it,
   and batches of pointers without the alignment that the documentation asks for fail. */
#include "cublas/gemm.h"

#include "cublas/element.h"
#include "cublas/product.h"

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
    bool narrow_parts;    /* parts of a sum are rounded to C's type */
    int64_t parts;        /* of the sum over k, one after the other */
    workspace_claim claim;
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

/* As cuBLAS's heuristics choose among kernels and split the sum over k: by shapes, batch, types and
   alignment, the same every time. Only more often, so that who counts on equal bits for other shapes finds
   out. */
static int64_t parts_of(const gemm *g)
{
    enum { PART = 16, MOST = 4 };
    const gemm_operand *operands[] = {&g->a, &g->b, &g->c};
    const int64_t shape[] = {g->m, g->n, g->k, g->batch};
    uint64_t hash = 0xcbf29ce484222325;
    for (int i = 0; i < 4; i++) hash = (hash ^ (uint64_t)shape[i]) * 0x100000001b3;
    for (int i = 0; i < 3; i++) {
        const bool aligned = g->batching == GEMM_STRIDED && (uintptr_t)operands[i]->address % 16 == 0 &&
                             operands[i]->leading % 8 == 0;
        hash = (hash ^ (uint64_t)operands[i]->type ^ (uint64_t)operands[i]->operation << 8 ^
                (uint64_t)aligned << 12) *
               0x100000001b3;
    }
    const int64_t most = g->k / PART < 1 ? 1 : g->k / PART < MOST ? g->k / PART : MOST;
    return 1 + (int64_t)((hash >> 32) % (uint64_t)most);
}

/* "Forces any reductions during matrix multiplications to use the accumulator type": without that flag they
   need not. */
static bool may_narrow_parts(const struct cublasContext *handle, const gemm_task *task)
{
    const gemm *g = &task->call;
    if (handle->math_mode & CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION ||
        handle->math_mode == CUBLAS_PEDANTIC_MATH)
        return false;
    return g->compute == CUBLAS_COMPUTE_32F && element_bytes(g->c.type) == 2;
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
    void *a, *b, *sums, *part, *column;
} buffers;

/* "If k % 8 == 0 then ensure intptr_t(ptr) % 16 == 0, if k % 2 == 0 then ensure intptr_t(ptr) % 4 == 0"
   (cublasGemmBatchedEx), for 16-bit types and fast modes. Of a strided batch the library sees the addresses,
   and chooses. */
static bool is_aligned(const gemm_task *task, const char *name, const void *address)
{
    const gemm *g = &task->call;
    const uintptr_t needed = g->k % 8 == 0 ? 16 : g->k % 2 == 0 ? 4 : 2;
    if (g->batching == GEMM_STRIDED || (element_bytes(g->a.type) != 2 && task->rounding == ELEMENT_EXACT))
        return true;
    if ((uintptr_t)address % needed == 0) return true;
    sg_finding("misaligned",
               "%s: a pointer to %s is no multiple of %d bytes, as 16-bit types and fast modes want it where "
               "k is %lld",
               g->what, name, (int)needed, (long long)g->k);
    return false;
}

static product_operand steps(const gemm_operand *x, int64_t rows)
{
    return x->operation == CUBLAS_OP_N ? (product_operand){1, rows} : (product_operand){rows, 1};
}

/* sums += part, in the precision that parts are kept in. */
static void add_part(const gemm_task *task, const buffers *buffer)
{
    const gemm *g = &task->call;
    const cudaDataType kept = task->half_sums ? CUDA_R_16F : task->narrow_parts ? g->c.type : CUDA_R_32F;
    for (int64_t i = 0; i < g->m * g->n && task->wide; i++)
        ((double *)buffer->sums)[i] += ((const double *)buffer->part)[i];
    for (int64_t j = 0; j < g->n && !task->wide; j++) {
        float *sums = (float *)buffer->sums + j * g->m;
        const float *part = (const float *)buffer->part + j * g->m;
        for (int64_t i = 0; i < g->m; i++) sums[i] += part[i];
        if (kept == CUDA_R_32F || task->parts == 1) continue;
        element_narrow_float(kept, sums, g->m, buffer->column);
        element_widen_float(kept, buffer->column, g->m, ELEMENT_EXACT, sums);
    }
}

/* The dense product in its parts. */
static bool multiply(const gemm_task *task, int64_t a_rows, int64_t b_rows, const buffers *buffer)
{
    const gemm *g = &task->call;
    const product_operand a = steps(&g->a, a_rows), b = steps(&g->b, b_rows);
    const size_t size = task->wide ? sizeof(double) : sizeof(float);
    for (int64_t part = 0; part < task->parts; part++) {
        const int64_t from = part * g->k / task->parts, to = (part + 1) * g->k / task->parts;
        const void *left = (const char *)buffer->a + (size_t)(from * a.column_step) * size,
                   *right = (const char *)buffer->b + (size_t)(from * b.row_step) * size;
        if (!(task->wide ? product_double : product_float)(a, b, g->m, g->n, to - from, task->half_sums, left,
                                                           right, buffer->part))
            return false;
        add_part(task, buffer);
    }
    return true;
}

/* The matrices of A and B, dense: false after a finding. */
static bool load_inputs(const gemm_task *task, int64_t member, int64_t a_rows, int64_t b_rows,
                        const buffers *buffer)
{
    const gemm *g = &task->call;
    const void *a, *b;
    return locate(g, &g->a, "array of A", member, &a) && locate(g, &g->b, "array of B", member, &b) &&
           is_aligned(task, "A", a) && is_aligned(task, "B", b) &&
           load(task, &g->a, "A", a, a_rows, g->m + g->k - a_rows, buffer->a) &&
           load(task, &g->b, "B", b, b_rows, g->k + g->n - b_rows, buffer->b);
}

static cudaError_t run_member(const gemm_task *task, int64_t member, double alpha, double beta, const buffers *buffer)
{
    const gemm *g = &task->call;
    const void *c;
    int64_t a_rows = stored_rows(&g->a, g->m, g->k), b_rows = stored_rows(&g->b, g->k, g->n);
    size_t size = task->wide ? sizeof(double) : sizeof(float);
    if (!locate(g, &g->c, "array of C", member, &c) || !is_aligned(task, "C", c))
        return cudaErrorIllegalAddress;
    memset(buffer->sums, 0, (size_t)(g->m * g->n) * size);
    if (alpha != 0 && g->k) {
        if (!load_inputs(task, member, a_rows, b_rows, buffer)) return cudaErrorIllegalAddress;
        if (!multiply(task, a_rows, b_rows, buffer)) return cudaErrorMemoryAllocation;
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
    if (!workspace_is_still(&task->claim, g->what)) return cudaErrorIllegalAddress;
    if (!scalar_read(&task->alpha, g->what, &alpha) || !scalar_read(&task->beta, g->what, &beta))
        return cudaErrorIllegalAddress;
    buffers buffer = {malloc((size_t)(g->m * g->k * 8) + 1), malloc((size_t)(g->k * g->n * 8) + 1),
                      malloc((size_t)(g->m * g->n * 8) + 1), malloc((size_t)(g->m * g->n * 8) + 1),
                      malloc((size_t)(g->m * 8) + 1)};
    cudaError_t error = buffer.a && buffer.b && buffer.sums && buffer.part && buffer.column
                            ? cudaSuccess
                            : cudaErrorMemoryAllocation;
    for (int64_t member = 0; error == cudaSuccess && member < g->batch; member++)
        error = run_member(task, member, alpha, beta, &buffer);
    free(buffer.a);
    free(buffer.b);
    free(buffer.sums);
    free(buffer.part);
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
    const int mode = (int)handle->math_mode & ~CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    if (call->compute == CUBLAS_COMPUTE_32F && mode == CUBLAS_TF32_TENSOR_OP_MATH &&
        call->a.type == CUDA_R_32F)
        task.call.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    if (!combine(&task.call, &task, &scale) || !int8_rows_are_aligned(call)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!call->m || !call->n || !call->batch) return CUBLAS_STATUS_SUCCESS;
    task.parts = parts_of(call), task.narrow_parts = may_narrow_parts(handle, &task);
    task.alpha = scalar_take(handle, call->alpha, scale);
    task.beta = scalar_take(handle, call->beta, scale);
    if (!call->c.address) return CUBLAS_STATUS_INVALID_VALUE;
    status = handle_claim_workspace(handle, call->what, &task.claim);
    if (status == CUBLAS_STATUS_SUCCESS) status = handle_enqueue(handle, call->what, run, &task, sizeof task);
    const cublasStatus_t released = handle_release_workspace(handle, &task.claim);
    return status == CUBLAS_STATUS_SUCCESS ? released : status;
}
