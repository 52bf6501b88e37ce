/* Row-major S = Q·Kᵀ is column-major Sᵀ = K·Qᵀ, and O = P·V is Oᵀ = Vᵀ·Pᵀ. Each is a batched product over all
   heads of a batch entry, or over the heads that share a KV head. In decoding, the heads of the only query
   are rows of a matrix, so that all heads that share a KV head are one product. A layer has four products
   more, each Y = X·Wᵀ. */
#include "tool/naive_device.h"
#include "file/fail.h"

#ifdef ATTEND_HAVE_CUDA
#include "tool/naive.h"
#include "tool/naive_softmax.h"
#include "gpu/blas.h"
#include "gpu/dtype.h"

#include <stdlib.h>

/* y [rows, out] from x [rows, in] and w [out, in]. */
typedef struct projection {
    void *x, *w, *y;
    int64_t rows, in, out;
} projection;

struct naive_device {
    attend_problem p;
    projection projections[4]; /* q, k, v, output; w NULL: attention only */
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

/* Allocates Q, K, V and the heads' output, and sets the projections that write and read them. */
static attend_status make_projections(naive_device *n, const attend_layer_args *layer,
                                      const attend_layer_weights *weights)
{
    const attend_problem *p = &n->p;
    const attend_tensor *const w = &weights->wq;
    attend_tensor *const own[] = {&n->args.q, &n->args.k, &n->args.v, &n->args.out};
    const size_t element = attend_dtype_bytes(p->dtype);
    for (int i = 0; i < 4; i++) {
        projection *y = &n->projections[i];
        *y = (projection){layer->x.data,          NULL,          layer->out.data,
                          p->batch * p->seqlen_q, w[i].shape[1], w[i].shape[0]};
        const size_t bytes = (size_t)(y->in * y->out) * element,
                     heads = (size_t)(y->rows * (i < 3 ? y->out : y->in)) * element;
        ATTEND_TRY(check(cudaMalloc(&own[i]->data, heads), "cudaMalloc"));
        ATTEND_TRY(check(cudaMalloc(&y->w, bytes), "cudaMalloc"));
        ATTEND_TRY(check(cudaMemcpy(y->w, w[i].data, bytes, cudaMemcpyHostToDevice), "cudaMemcpy"));
        *(i < 3 ? &y->y : &y->x) = own[i]->data;
    }
    return check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

static attend_status open_device(naive_device *n, const attend_layer_args *layer,
                                 const attend_layer_weights *weights)
{
    if (weights) ATTEND_TRY(make_projections(n, layer, weights));
    ATTEND_TRY(check_blas(n, n->cublas.create(&n->blas), "cublasCreate"));
    return check_blas(n, n->cublas.set_stream(n->blas, n->stream), "cublasSetStream");
}

attend_status naive_device_make(const attend_problem *p, const attend_attention_args *attention,
                                const attend_layer_args *layer, const attend_layer_weights *weights,
                                void *stream, naive_device **naive, const char **why)
{
    static char lacking[512];
    int64_t bytes = naive_score_bytes(p, attend_dtype_bytes(p->dtype));
    *naive = NULL, *why = bytes == 0 ? "there are no scores" : "its scores do not fit in the device's memory";
    naive_device *n = bytes > 0 ? calloc(1, sizeof *n) : NULL;
    if (!n) return ATTEND_OK;
    n->p = *p, n->args = *attention, n->stream = stream;
    n->rows = (naive_rows){.dtype = p->dtype,
                           .rows = p->batch * p->num_heads * p->seqlen_q,
                           .queries = p->seqlen_q,
                           .keys = p->seqlen_k,
                           .causal = p->causal != ATTEND_CAUSAL_NONE};
    if (p->causal == ATTEND_CAUSAL_BOTTOM_RIGHT) n->rows.diagonal = p->seqlen_k - p->seqlen_q;
    const bool found = attend_blas_load(&n->cublas, lacking, sizeof lacking);
    if (!found) *why = lacking;
    if (!found || cudaMalloc(&n->rows.scores, (size_t)bytes) != cudaSuccess) {
        cudaGetLastError();
        free(n);
        return ATTEND_OK;
    }
    attend_status status = open_device(n, layer, weights);
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
    void *const own[] = {n->args.q.data, n->args.k.data, n->args.v.data, n->args.out.data};
    for (int i = 0; i < 4 && n->projections[i].rows; i++) cudaFree(own[i]), cudaFree(n->projections[i].w);
    cudaFree(n->rows.scores);
    free(n);
}

static char *element(void *data, int64_t index, attend_dtype dtype)
{
    return (char *)data + index * (int64_t)attend_dtype_bytes(dtype);
}

/* `count` products of a batch entry. They begin with heads `head` and `kv_head`, and are `step` heads and
   `kv_step` KV heads apart. Each has `rows` rows of Q and O, `row_heads` heads apart. */
typedef struct products {
    int64_t count, head, step, kv_head, kv_step, rows, row_heads;
} products;

static attend_status multiply_heads(const naive_device *n, int64_t b, const products *of, bool values)
{
    const attend_problem *p = &n->p;
    const float one = 1, zero = 0, scale = p->softmax_scale;
    const cudaDataType_t type = attend_gpu_blas_type(p->dtype);
    const int64_t d = p->head_dim, dv = p->head_dim_v, plane = p->seqlen_q * p->seqlen_k;
    char *scores = element(n->rows.scores, (b * p->num_heads + of->head) * plane, p->dtype);
    char *q = element(n->args.q.data, (b * p->seqlen_q * p->num_heads + of->head) * d, p->dtype);
    char *k = element(n->args.k.data, (b * p->seqlen_k * p->num_kv_heads + of->kv_head) * d, p->dtype);
    char *v = element(n->args.v.data, (b * p->seqlen_k * p->num_kv_heads + of->kv_head) * dv, p->dtype);
    char *out = element(n->args.out.data, (b * p->seqlen_q * p->num_heads + of->head) * dv, p->dtype);
    cublasStatus_t status =
        values ? n->cublas.multiply(n->blas, CUBLAS_OP_N, CUBLAS_OP_N, dv, of->rows, p->seqlen_k, &one, v,
                                    type, p->num_kv_heads * dv, of->kv_step * dv, scores, type, p->seqlen_k,
                                    of->step * plane, &zero, out, type, of->row_heads * dv, of->step * dv,
                                    of->count, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT)
               : n->cublas.multiply(n->blas, CUBLAS_OP_T, CUBLAS_OP_N, p->seqlen_k, of->rows, d, &scale, k,
                                    type, p->num_kv_heads * d, of->kv_step * d, q, type, of->row_heads * d,
                                    of->step * d, &zero, scores, type, p->seqlen_k, of->step * plane,
                                    of->count, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    return check_blas(n, status, "cublasGemmStridedBatchedEx");
}

static attend_status multiply(const naive_device *n, bool values)
{
    const int64_t heads = n->p.num_heads, kv_heads = n->p.num_kv_heads, group = heads / kv_heads,
                  rows = n->p.seqlen_q;
    const bool at_once = group == 1 || rows == 1;
    for (int64_t b = 0; b < n->p.batch; b++)
        for (int64_t h = 0; h < (at_once ? 1 : kv_heads); h++) {
            const products of = group == 1  ? (products){heads, 0, 1, 0, 1, rows, heads}
                                : rows == 1 ? (products){kv_heads, 0, group, 0, 1, group, 1}
                                            : (products){group, h * group, 1, h, 0, rows, heads};
            ATTEND_TRY(multiply_heads(n, b, &of, values));
        }
    return ATTEND_OK;
}

static attend_status project(const naive_device *n, const projection *y)
{
    const float one = 1, zero = 0;
    const cudaDataType_t type = attend_gpu_blas_type(n->p.dtype);
    return check_blas(n,
                      n->cublas.multiply(n->blas, CUBLAS_OP_T, CUBLAS_OP_N, y->out, y->rows, y->in, &one,
                                         y->w, type, y->in, 0, y->x, type, y->in, 0, &zero, y->y, type,
                                         y->out, 0, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                      "cublasGemmStridedBatchedEx");
}

attend_status naive_device_enqueue(naive_device *n)
{
    const bool is_layer = n->projections[0].w;
    for (int i = 0; i < 3 && is_layer; i++) ATTEND_TRY(project(n, &n->projections[i]));
    ATTEND_TRY(multiply(n, false));
    ATTEND_TRY(check(naive_softmax(&n->rows, n->stream), "cudaLaunchKernel of naive_softmax"));
    ATTEND_TRY(multiply(n, true));
    return is_layer ? project(n, &n->projections[3]) : ATTEND_OK;
}

#else

attend_status naive_device_make(const attend_problem *p, const attend_attention_args *attention,
                                const attend_layer_args *layer, const attend_layer_weights *weights,
                                void *stream, naive_device **naive, const char **why)
{
    (void)p, (void)attention, (void)layer, (void)weights, (void)stream;
    *naive = NULL, *why = NULL;
    return attend_file_fail(ATTEND_NO_DEVICE, "this build of attend has no CUDA backend");
}
attend_status naive_device_enqueue(naive_device *n) { return (void)n, ATTEND_NO_DEVICE; }
void naive_device_free(naive_device *n) { (void)n; }

#endif
