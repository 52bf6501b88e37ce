/* Row-major S = Q·Kᵀ is, by columns, Sᵀ = K·Qᵀ, and Oᵀ = Vᵀ·Pᵀ: a batched product each for all heads of a
   batch entry, or for those that share a KV head. */
#include "tool/naive_device.h"
#include "file/fail.h"

#ifdef ATTEND_HAVE_CUDA
#include "tool/naive.h"
#include "tool/naive_softmax.h"
#include "gpu/blas.h"

#include <stdlib.h>

struct naive_device {
    attend_problem p;
    attend_attention_args args;
    naive_rows rows;
    attend_blas cublas;
    cublasHandle_t blas;
    cudaStream_t stream;
};

static attend_status check(cudaError_t error, const char *call)
{
    if (error == cudaSuccess) return ATTEND_OK;
    return attend_file_fail(ATTEND_DEVICE_ERROR, "%s failed: %s (%s)", call, cudaGetErrorName(error),
                            cudaGetErrorString(error));
}

static attend_status check_blas(const naive_device *n, cublasStatus_t status, const char *call)
{
    if (status == CUBLAS_STATUS_SUCCESS) return ATTEND_OK;
    return attend_file_fail(ATTEND_DEVICE_ERROR, "%s failed: %s", call, n->cublas.status_name(status));
}

static attend_status open_device(naive_device *n)
{
    ATTEND_TRY(
        check(cudaStreamCreateWithFlags(&n->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"));
    char why[512];
    if (!attend_blas_load(&n->cublas, why, sizeof why)) return attend_file_fail(ATTEND_NO_DEVICE, "%s", why);
    ATTEND_TRY(check_blas(n, n->cublas.create(&n->blas), "cublasCreate"));
    return check_blas(n, n->cublas.set_stream(n->blas, n->stream), "cublasSetStream");
}

attend_status naive_device_make(const attend_problem *p, const attend_attention_args *args,
                                naive_device **naive, const char **why)
{
    int64_t bytes = naive_score_bytes(p, attend_dtype_bytes(p->dtype));
    *naive = NULL, *why = bytes == 0 ? "there are no scores" : "its scores do not fit in the device's memory";
    naive_device *n = bytes > 0 ? calloc(1, sizeof *n) : NULL;
    if (!n) return ATTEND_OK;
    n->p = *p, n->args = *args;
    n->rows = (naive_rows){.dtype = p->dtype,
                           .rows = p->batch * p->num_heads * p->seqlen_q,
                           .queries = p->seqlen_q,
                           .keys = p->seqlen_k,
                           .causal = p->causal != ATTEND_CAUSAL_NONE};
    if (p->causal == ATTEND_CAUSAL_BOTTOM_RIGHT) n->rows.diagonal = p->seqlen_k - p->seqlen_q;
    if (cudaMalloc(&n->rows.scores, (size_t)bytes) != cudaSuccess) {
        cudaGetLastError();
        free(n);
        return ATTEND_OK;
    }
    attend_status status = open_device(n);
    if (status != ATTEND_OK) {
        naive_device_free(n);
        return status;
    }
    *naive = n, *why = NULL;
    return ATTEND_OK;
}

void naive_device_free(naive_device *n)
{
    if (!n) return;
    if (n->blas) n->cublas.destroy(n->blas);
    if (n->stream) cudaStreamDestroy(n->stream);
    cudaFree(n->rows.scores);
    free(n);
}

static char *element(void *data, int64_t index, attend_dtype dtype)
{
    return (char *)data + index * (int64_t)attend_dtype_bytes(dtype);
}

/* The products of `heads` heads of a batch entry from `head` on, whose K and V lie `kv_step` heads apart,
   from `kv_head` on. */
static attend_status multiply_heads(const naive_device *n, int64_t b, int64_t head, int64_t heads,
                                    int64_t kv_head, int64_t kv_step, bool values)
{
    const attend_problem *p = &n->p;
    const float one = 1, zero = 0, scale = p->softmax_scale;
    const cudaDataType_t type = p->dtype == ATTEND_F32   ? CUDA_R_32F
                                : p->dtype == ATTEND_F16 ? CUDA_R_16F
                                                         : CUDA_R_16BF;
    const int64_t d = p->head_dim, dv = p->head_dim_v, plane = p->seqlen_q * p->seqlen_k;
    char *scores = element(n->rows.scores, (b * p->num_heads + head) * plane, p->dtype);
    char *q = element(n->args.q.data, (b * p->seqlen_q * p->num_heads + head) * d, p->dtype);
    char *k = element(n->args.k.data, (b * p->seqlen_k * p->num_kv_heads + kv_head) * d, p->dtype);
    char *v = element(n->args.v.data, (b * p->seqlen_k * p->num_kv_heads + kv_head) * dv, p->dtype);
    char *out = element(n->args.out.data, (b * p->seqlen_q * p->num_heads + head) * dv, p->dtype);
    cublasStatus_t status =
        values ? n->cublas.multiply(n->blas, CUBLAS_OP_N, CUBLAS_OP_N, dv, p->seqlen_q, p->seqlen_k, &one, v,
                                    type, p->num_kv_heads * dv, kv_step * dv, scores, type, p->seqlen_k,
                                    plane, &zero, out, type, p->num_heads * dv, dv, heads, CUBLAS_COMPUTE_32F,
                                    CUBLAS_GEMM_DEFAULT)
               : n->cublas.multiply(n->blas, CUBLAS_OP_T, CUBLAS_OP_N, p->seqlen_k, p->seqlen_q, d, &scale, k,
                                    type, p->num_kv_heads * d, kv_step * d, q, type, p->num_heads * d, d,
                                    &zero, scores, type, p->seqlen_k, plane, heads, CUBLAS_COMPUTE_32F,
                                    CUBLAS_GEMM_DEFAULT);
    return check_blas(n, status, "cublasGemmStridedBatchedEx");
}

static attend_status multiply(const naive_device *n, bool values)
{
    const int64_t group = n->p.num_heads / n->p.num_kv_heads;
    for (int64_t b = 0; b < n->p.batch; b++) {
        if (group == 1) ATTEND_TRY(multiply_heads(n, b, 0, n->p.num_heads, 0, 1, values));
        for (int64_t h = 0; group > 1 && h < n->p.num_kv_heads; h++)
            ATTEND_TRY(multiply_heads(n, b, h * group, group, h, 0, values));
    }
    return ATTEND_OK;
}

attend_status naive_device_enqueue(naive_device *n)
{
    ATTEND_TRY(multiply(n, false));
    ATTEND_TRY(check(naive_softmax(&n->rows, n->stream), "cudaLaunchKernel of naive_softmax"));
    return multiply(n, true);
}

attend_status naive_device_wait(naive_device *n)
{
    return check(cudaStreamSynchronize(n->stream), "cudaStreamSynchronize");
}

#else

attend_status naive_device_make(const attend_problem *p, const attend_attention_args *args,
                                naive_device **naive, const char **why)
{
    (void)p, (void)args;
    *naive = NULL, *why = NULL;
    return attend_file_fail(ATTEND_NO_DEVICE, "this build of attend has no CUDA backend");
}
attend_status naive_device_enqueue(naive_device *n) { return (void)n, ATTEND_NO_DEVICE; }
attend_status naive_device_wait(naive_device *n) { return (void)n, ATTEND_NO_DEVICE; }
void naive_device_free(naive_device *n) { (void)n; }

#endif
