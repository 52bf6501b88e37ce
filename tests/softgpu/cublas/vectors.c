/* Levels 1 and 2 and geam, in fp32 and fp64: read all, compute in double, round once to the type. That is more accurate than
   cuBLAS, whose fp32 sums run in fp32. One task structure and one function a routine; the entry points are at the end. */
#include "cublas/element.h"
#include "cublas/scalar.h"

#include <math.h>
#include <stdlib.h>

typedef struct vector {
    const char *name;
    void *address;
    int64_t count, step; /* elements; a negative step starts at the far end, as in BLAS */
} vector;

typedef struct vector_task vector_task;
struct vector_task {
    const char *what;
    cudaError_t (*run)(const vector_task *task, double *x, double *y);
    cudaDataType type;
    vector x, y;
    scalar alpha, beta;
    void *result; /* host or device, as the pointer mode says */
    bool result_on_host;
    bool keeps_y; /* y is written without being read */
    const void *matrix;
    int64_t rows, columns, leading;
    bool transposed;
};

/* ---- memory -------------------------------------------------------------------------------------------------------------- */

static char *place(const vector *v, int64_t bytes, int64_t i)
{
    int64_t first = v->step < 0 ? (1 - v->count) * v->step : 0;
    return (char *)v->address + (first + i * v->step) * bytes;
}

static bool load(const vector_task *task, const vector *v, double *to)
{
    int64_t bytes = element_bytes(task->type);
    const void *data;
    if (v->count && v->step == 1) {
        if (!device_read(task->what, v->name, v->address, v->count * bytes, &data)) return false;
        element_widen_double(task->type, data, v->count, to);
        return true;
    }
    for (int64_t i = 0; i < v->count; i++) {
        if (!device_read(task->what, v->name, place(v, bytes, i), bytes, &data)) return false;
        element_widen_double(task->type, data, 1, to + i);
    }
    return true;
}

static cudaError_t store(const vector_task *task, const vector *v, const double *from)
{
    int64_t bytes = element_bytes(task->type), whole = v->step == 1 ? v->count : 1;
    void *data;
    for (int64_t i = 0; i < v->count; i += whole) {
        if (!device_write(task->what, v->name, place(v, bytes, i), whole * bytes, &data)) return cudaErrorIllegalAddress;
        element_narrow_double(task->type, from + i, whole, data);
    }
    return cudaSuccess;
}

static cudaError_t store_result(const vector_task *task, double value)
{
    void *to = task->result;
    int64_t bytes = element_bytes(task->type);
    if (!task->result_on_host && !device_write(task->what, "result", task->result, bytes, &to))
        return cudaErrorIllegalAddress;
    element_narrow_double(task->type, &value, 1, to);
    return cudaSuccess;
}

static cudaError_t run(sg_device *device, void *argument)
{
    (void)device;
    const vector_task *task = argument;
    double *x = malloc((size_t)(task->x.count + 1) * sizeof *x), *y = malloc((size_t)(task->y.count + 1) * sizeof *y);
    cudaError_t error = x && y ? cudaSuccess : cudaErrorMemoryAllocation;
    if (error == cudaSuccess && (!load(task, &task->x, x) || (!task->keeps_y && !load(task, &task->y, y))))
        error = cudaErrorIllegalAddress;
    if (error == cudaSuccess) error = task->run(task, x, y);
    free(x);
    free(y);
    return error;
}

static cublasStatus_t submit(cublasHandle_t handle, const vector_task *task)
{
    cublasStatus_t status = handle_enqueue(handle, task->what, run, task, sizeof *task);
    return status == CUBLAS_STATUS_SUCCESS && task->result ? handle_wait_for_result(handle) : status;
}

/* ---- level 1 --------------------------------------------------------------------------------------------------------------- */

static cudaError_t axpy(const vector_task *task, double *x, double *y)
{
    double alpha;
    if (!scalar_read(&task->alpha, task->what, &alpha)) return cudaErrorIllegalAddress;
    for (int64_t i = 0; i < task->x.count; i++) y[i] += alpha * x[i];
    return store(task, &task->y, y);
}

static cudaError_t scal(const vector_task *task, double *x, double *y)
{
    double alpha;
    (void)y;
    if (!scalar_read(&task->alpha, task->what, &alpha)) return cudaErrorIllegalAddress;
    for (int64_t i = 0; i < task->x.count; i++) x[i] *= alpha;
    return store(task, &task->x, x);
}

static cudaError_t copy(const vector_task *task, double *x, double *y)
{
    (void)y;
    return store(task, &task->y, x);
}

static cudaError_t swap(const vector_task *task, double *x, double *y)
{
    cudaError_t error = store(task, &task->x, y);
    return error == cudaSuccess ? store(task, &task->y, x) : error;
}

static cudaError_t dot(const vector_task *task, double *x, double *y)
{
    double sum = 0;
    for (int64_t i = 0; i < task->x.count; i++) sum += x[i] * y[i];
    return store_result(task, sum);
}

static cudaError_t nrm2(const vector_task *task, double *x, double *y)
{
    double norm = 0;
    (void)y;
    for (int64_t i = 0; i < task->x.count; i++) norm = hypot(norm, x[i]);
    return store_result(task, norm);
}

static cudaError_t asum(const vector_task *task, double *x, double *y)
{
    double sum = 0;
    (void)y;
    for (int64_t i = 0; i < task->x.count; i++) sum += fabs(x[i]);
    return store_result(task, sum);
}

static cublasStatus_t level1(cublasHandle_t handle, const char *what, cudaDataType type,
                             cudaError_t (*routine)(const vector_task *, double *, double *), int64_t n,
                             const void *alpha, const void *x, int64_t step_x, const void *y, int64_t step_y, void *result,
                             bool needs_alpha, bool needs_result)
{
    cublasStatus_t status = handle_check(handle);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if ((needs_alpha && !alpha) || (needs_result && !result)) return CUBLAS_STATUS_INVALID_VALUE;
    int64_t count = n > 0 ? n : 0;
    if (!count && !needs_result) return CUBLAS_STATUS_SUCCESS;
    vector_task task = {.what = what,
                        .run = routine,
                        .type = type,
                        .x = {"x", (void *)(uintptr_t)x, count, step_x},
                        .y = {"y", (void *)(uintptr_t)y, y ? count : 0, step_y},
                        .result = result,
                        .result_on_host = handle->pointer_mode == CUBLAS_POINTER_MODE_HOST,
                        .keeps_y = routine == copy};
    if (needs_alpha) task.alpha = scalar_take(handle, alpha, type);
    return submit(handle, &task);
}

/* ---- level 2 and geam ---------------------------------------------------------------------------------------------------- */

static bool load_column(const vector_task *task, const char *name, const void *matrix, int64_t leading, int64_t column,
                        int64_t rows, double *to)
{
    const void *data;
    int64_t bytes = element_bytes(task->type);
    if (!device_read(task->what, name, (const char *)matrix + column * leading * bytes, rows * bytes, &data)) return false;
    element_widen_double(task->type, data, rows, to);
    return true;
}

static cudaError_t gemv(const vector_task *task, double *x, double *y)
{
    double alpha, beta;
    if (!scalar_read(&task->alpha, task->what, &alpha) || !scalar_read(&task->beta, task->what, &beta))
        return cudaErrorIllegalAddress;
    if (beta != 0 && !load(task, &task->y, y)) return cudaErrorIllegalAddress;
    for (int64_t i = 0; i < task->y.count; i++) y[i] = beta != 0 ? beta * y[i] : 0;
    double *column = malloc((size_t)task->rows * sizeof *column);
    if (!column) return cudaErrorMemoryAllocation;
    bool good = true;
    for (int64_t j = 0; alpha != 0 && good && j < task->columns; j++) {
        good = load_column(task, "A", task->matrix, task->leading, j, task->rows, column);
        for (int64_t i = 0; good && i < task->rows; i++)
            y[task->transposed ? j : i] += alpha * column[i] * x[task->transposed ? i : j];
    }
    free(column);
    return good ? store(task, &task->y, y) : cudaErrorIllegalAddress;
}

static cublasStatus_t submit_gemv(cublasHandle_t handle, const char *what, cudaDataType type, cublasOperation_t operation,
                                  int64_t m, int64_t n, const void *alpha, const void *matrix, int64_t leading,
                                  const void *x, int64_t step_x, const void *beta, void *y, int64_t step_y)
{
    cublasStatus_t status = handle_check(handle);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (m < 0 || n < 0 || leading < (m > 1 ? m : 1) || !step_x || !step_y || (unsigned)operation > CUBLAS_OP_C || !alpha ||
        !beta)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!m || !n) return CUBLAS_STATUS_SUCCESS;
    bool transposed = operation != CUBLAS_OP_N;
    vector_task task = {.what = what,
                        .run = gemv,
                        .type = type,
                        .x = {"x", (void *)(uintptr_t)x, transposed ? m : n, step_x},
                        .y = {"y", y, transposed ? n : m, step_y},
                        .alpha = scalar_take(handle, alpha, type),
                        .beta = scalar_take(handle, beta, type),
                        .keeps_y = true,
                        .matrix = matrix,
                        .rows = m,
                        .columns = n,
                        .leading = leading,
                        .transposed = transposed};
    return submit(handle, &task);
}

typedef struct geam_task {
    const char *what;
    cudaDataType type;
    const void *x[2];
    int64_t leading[2], m, n, leading_c;
    bool transposed[2];
    scalar factor[2];
    char *c;
} geam_task;

/* sums[m x n] += factor * op(X) */
static bool add_matrix(const geam_task *g, int which, double *sums)
{
    const vector_task reader = {.what = g->what, .type = g->type};
    int64_t rows = g->transposed[which] ? g->n : g->m, columns = g->transposed[which] ? g->m : g->n;
    double factor, *column = malloc((size_t)rows * sizeof *column);
    bool good = column && scalar_read(&g->factor[which], g->what, &factor);
    for (int64_t j = 0; good && factor != 0 && j < columns; j++) {
        good = load_column(&reader, which ? "B" : "A", g->x[which], g->leading[which], j, rows, column);
        for (int64_t i = 0; good && i < rows; i++)
            sums[g->transposed[which] ? i * g->m + j : j * g->m + i] += factor * column[i];
    }
    free(column);
    return good;
}

static cudaError_t geam(sg_device *device, void *argument)
{
    (void)device;
    const geam_task *g = argument;
    int64_t bytes = element_bytes(g->type);
    double *sums = calloc((size_t)(g->m * g->n), sizeof *sums);
    bool good = sums && add_matrix(g, 0, sums) && add_matrix(g, 1, sums);
    for (int64_t j = 0; good && j < g->n; j++) {
        void *to;
        good = device_write(g->what, "C", g->c + j * g->leading_c * bytes, g->m * bytes, &to);
        if (good) element_narrow_double(g->type, sums + j * g->m, g->m, to);
    }
    free(sums);
    return good ? cudaSuccess : cudaErrorIllegalAddress;
}

static cublasStatus_t submit_geam(cublasHandle_t handle, const char *what, cudaDataType type, cublasOperation_t op_a,
                                  cublasOperation_t op_b, int64_t m, int64_t n, const void *alpha, const void *a, int64_t lda,
                                  const void *beta, const void *b, int64_t ldb, void *c, int64_t ldc)
{
    bool across_a = op_a != CUBLAS_OP_N, across_b = op_b != CUBLAS_OP_N;
    cublasStatus_t status = handle_check(handle);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (m < 0 || n < 0 || (unsigned)op_a > CUBLAS_OP_C || (unsigned)op_b > CUBLAS_OP_C || !alpha || !beta || lda < 1 ||
        ldb < 1 || ldc < 1 || lda < (across_a ? n : m) || ldb < (across_b ? n : m) || ldc < m ||
        (a == c && (across_a || lda != ldc)) || (b == c && (across_b || ldb != ldc)))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!m || !n) return CUBLAS_STATUS_SUCCESS;
    geam_task task = {what, type, {a, b}, {lda, ldb}, m, n, ldc, {across_a, across_b},
                      {scalar_take(handle, alpha, type), scalar_take(handle, beta, type)}, c};
    return handle_enqueue(handle, what, geam, &task, sizeof task);
}

/* ---- entry points ---------------------------------------------------------------------------------------------------------- */

#define ROUTINES(letter, real, type, INT, NAME)                                                                            \
    cublasStatus_t NAME(cublas##letter##axpy_v2)(cublasHandle_t handle, INT n, const real *alpha, const real *x, INT incx, \
                                                 real *y, INT incy)                                                        \
    {                                                                                                                      \
        return level1(handle, "cublas" #letter "axpy", type, axpy, n, alpha, x, incx, y, incy, NULL, true, false);         \
    }                                                                                                                      \
    cublasStatus_t NAME(cublas##letter##scal_v2)(cublasHandle_t handle, INT n, const real *alpha, real *x, INT incx)       \
    {                                                                                                                      \
        return level1(handle, "cublas" #letter "scal", type, scal, n, alpha, x, incx, NULL, 0, NULL, true, false);         \
    }                                                                                                                      \
    cublasStatus_t NAME(cublas##letter##copy_v2)(cublasHandle_t handle, INT n, const real *x, INT incx, real *y, INT incy) \
    {                                                                                                                      \
        return level1(handle, "cublas" #letter "copy", type, copy, n, NULL, x, incx, y, incy, NULL, false, false);         \
    }                                                                                                                      \
    cublasStatus_t NAME(cublas##letter##swap_v2)(cublasHandle_t handle, INT n, real *x, INT incx, real *y, INT incy)       \
    {                                                                                                                      \
        return level1(handle, "cublas" #letter "swap", type, swap, n, NULL, x, incx, y, incy, NULL, false, false);         \
    }                                                                                                                      \
    cublasStatus_t NAME(cublas##letter##dot_v2)(cublasHandle_t handle, INT n, const real *x, INT incx, const real *y,      \
                                                INT incy, real *result)                                                    \
    {                                                                                                                      \
        return level1(handle, "cublas" #letter "dot", type, dot, n, NULL, x, incx, y, incy, result, false, true);          \
    }                                                                                                                      \
    cublasStatus_t NAME(cublas##letter##nrm2_v2)(cublasHandle_t handle, INT n, const real *x, INT incx, real *result)      \
    {                                                                                                                      \
        return level1(handle, "cublas" #letter "nrm2", type, nrm2, n, NULL, x, incx, NULL, 0, result, false, true);        \
    }                                                                                                                      \
    cublasStatus_t NAME(cublas##letter##asum_v2)(cublasHandle_t handle, INT n, const real *x, INT incx, real *result)      \
    {                                                                                                                      \
        return level1(handle, "cublas" #letter "asum", type, asum, n, NULL, x, incx, NULL, 0, result, false, true);        \
    }                                                                                                                      \
    cublasStatus_t NAME(cublas##letter##gemv_v2)(cublasHandle_t handle, cublasOperation_t trans, INT m, INT n,             \
                                                 const real *alpha, const real *A, INT lda, const real *x, INT incx,       \
                                                 const real *beta, real *y, INT incy)                                      \
    {                                                                                                                      \
        return submit_gemv(handle, "cublas" #letter "gemv", type, trans, m, n, alpha, A, lda, x, incx, beta, y, incy);     \
    }                                                                                                                      \
    cublasStatus_t NAME(cublas##letter##geam)(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,   \
                                              INT m, INT n, const real *alpha, const real *A, INT lda, const real *beta,   \
                                              const real *B, INT ldb, real *C, INT ldc)                                    \
    {                                                                                                                      \
        return submit_geam(handle, "cublas" #letter "geam", type, transa, transb, m, n, alpha, A, lda, beta, B, ldb, C,    \
                           ldc);                                                                                           \
    }

#define PLAIN(name) name
#define WIDE(name)  name##_64
ROUTINES(S, float, CUDA_R_32F, int, PLAIN)
ROUTINES(D, double, CUDA_R_64F, int, PLAIN)
ROUTINES(S, float, CUDA_R_32F, int64_t, WIDE)
ROUTINES(D, double, CUDA_R_64F, int64_t, WIDE)
