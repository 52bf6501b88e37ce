/* Preloaded into the command: a clock that stands still but for attention and products of matrices, which
 * take the microseconds that ATTEND_TEST_ATTEND and ATTEND_TEST_NAIVE list, call by call, the last one again
 * and again; half of them is work that is waited for. Nothing is computed. */
#include <attend/attend.h>

#include <dlfcn.h>
#include <dnnl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef ATTEND_HAVE_CUDA
#include <cublas_v2.h>
#endif

static int64_t now_ns = 1000000000000, pending_ns;

typedef struct durations {
    const char *variable;
    char *next;
    int64_t last_us;
} durations;
static durations of_attend = {.variable = "ATTEND_TEST_ATTEND"}, of_naive = {.variable = "ATTEND_TEST_NAIVE"};

static int64_t next_us(durations *d)
{
    if (!d->next) d->next = getenv(d->variable);
    if (d->next && *d->next) d->last_us = strtoll(d->next, &d->next, 10);
    if (d->next && *d->next == ',') d->next++;
    return d->last_us;
}

static void work(durations *d)
{
    const int64_t us = next_us(d);
    now_ns += us * 500, pending_ns += us * 500;
}

/* The C library's, which this file hides: since glibc 2.34 in libc, with a version of its own. */
static void *looked_up(void *library, const char *name)
{
    static void *(*real)(void *, const char *);
    if (!real) {
        void *found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
        if (!found) found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
        memcpy(&real, &found, sizeof found);
    }
    return real ? real(library, name) : NULL;
}

static void wait(void) { now_ns += pending_ns, pending_ns = 0; }

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (clock != CLOCK_MONOTONIC)
        return ((int (*)(clockid_t, struct timespec *))looked_up(RTLD_NEXT, "clock_gettime"))(clock, time);
    *time = (struct timespec){now_ns / 1000000000, now_ns % 1000000000};
    return 0;
}

attend_status attend_attention_run_sized(attend_plan *plan, const attend_attention_args *args, size_t args_bytes,
                                         size_t features_bytes, const attend_run *run, size_t run_bytes)
{
    (void)plan, (void)args, (void)args_bytes, (void)features_bytes, (void)run, (void)run_bytes;
    work(&of_attend);
    return ATTEND_OK;
}

attend_status attend_synchronize(attend_context *context)
{
    (void)context;
    wait();
    return ATTEND_OK;
}

/* Two products a run, and no waiting in between. */
dnnl_status_t dnnl_sgemm(char transa, char transb, dnnl_dim_t m, dnnl_dim_t n, dnnl_dim_t k, float alpha,
                         const float *a, dnnl_dim_t lda, const float *b, dnnl_dim_t ldb, float beta, float *c,
                         dnnl_dim_t ldc)
{
    (void)transa, (void)transb, (void)k, (void)alpha, (void)a, (void)lda, (void)b, (void)ldb, (void)beta;
    for (dnnl_dim_t i = 0; i < m; i++)
        for (dnnl_dim_t j = 0; j < n; j++) c[i * ldc + j] = 0;
    work(&of_naive);
    wait();
    return dnnl_success;
}

#ifdef ATTEND_HAVE_CUDA
static void *cublas; /* as the command loaded it */

cublasStatus_t cublasGemmStridedBatchedEx_64(cublasHandle_t handle, cublasOperation_t transa,
                                             cublasOperation_t transb, int64_t m, int64_t n, int64_t k,
                                             const void *alpha, const void *a, cudaDataType a_type,
                                             int64_t lda, long long int stride_a, const void *b,
                                             cudaDataType b_type, int64_t ldb, long long int stride_b,
                                             const void *beta, void *c, cudaDataType c_type, int64_t ldc,
                                             long long int stride_c, int64_t count,
                                             cublasComputeType_t compute, cublasGemmAlgo_t algorithm)
{
    const size_t bytes = (size_t)(m * n * count) * (c_type == CUDA_R_32F ? 4 : 2);
    cudaStream_t stream;
    (void)transa, (void)transb, (void)k, (void)alpha, (void)a, (void)a_type, (void)lda, (void)stride_a,
        (void)b;
    (void)b_type, (void)ldb, (void)stride_b, (void)beta, (void)ldc, (void)stride_c, (void)compute,
        (void)algorithm;
    ((cublasStatus_t(*)(cublasHandle_t, cudaStream_t *))looked_up(cublas, "cublasGetStream_v2"))(handle, &stream);
    cudaMemsetAsync(c, 0, bytes, stream); /* softmax reads it */
    work(&of_naive);
    return CUBLAS_STATUS_SUCCESS;
}

/* cuBLAS is loaded by name when a context is made: what is looked up there is found here. */
void *dlsym(void *restrict library, const char *restrict name)
{
    if (strcmp(name, "cublasGemmStridedBatchedEx_64") != 0) return looked_up(library, name);
    void *here;
    cublas = library;
    __typeof__(cublasGemmStridedBatchedEx_64) *const ours = cublasGemmStridedBatchedEx_64;
    memcpy(&here, &ours, sizeof here);
    return here;
}

/* An event is reached once what is in flight is done. */
enum { EVENTS = 64 };
static struct {
    cudaEvent_t event;
    int64_t ns;
} reached[EVENTS];

static int64_t *when_reached(cudaEvent_t event)
{
    int i = 0;
    while (i < EVENTS - 1 && reached[i].event && reached[i].event != event) i++;
    reached[i].event = event;
    return &reached[i].ns;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    *when_reached(event) = now_ns + pending_ns;
    return ((cudaError_t(*)(cudaEvent_t, cudaStream_t))looked_up(RTLD_NEXT, "cudaEventRecord"))(event, stream);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    wait();
    return ((cudaError_t(*)(cudaEvent_t))looked_up(RTLD_NEXT, "cudaEventSynchronize"))(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end)
{
    *milliseconds = (float)(*when_reached(end) - *when_reached(begin)) / 1000000;
    return cudaSuccess;
}
#endif
