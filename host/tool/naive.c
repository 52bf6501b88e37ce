/* The naive algorithm, head by head. */
#include "tool/naive.h"
#include "file/fail.h"

#include <dnnl.h>
#include <math.h>
#include <omp.h>

int64_t naive_score_bytes(const attend_problem *p, size_t element_bytes)
{
    int64_t bytes = (int64_t)element_bytes;
    bool overflow = false;
    const int64_t sizes[] = {p->batch, p->num_heads, p->seqlen_q, p->seqlen_k};
    for (int i = 0; i < 4; i++) overflow |= __builtin_mul_overflow(bytes, sizes[i], &bytes);
    return overflow ? -1 : bytes;
}

/* The number of visible keys of a query. */
static int64_t visible(const attend_problem *p, int64_t query)
{
    int64_t end = p->causal == ATTEND_CAUSAL_TOP_LEFT       ? query + 1
                  : p->causal == ATTEND_CAUSAL_BOTTOM_RIGHT ? query + 1 + p->seqlen_k - p->seqlen_q
                                                            : p->seqlen_k;
    return end < 0 ? 0 : end > p->seqlen_k ? p->seqlen_k : end;
}

static void softmax_row(float *row, int64_t seen, int64_t all)
{
    float max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < seen; j++) max = fmaxf(max, row[j]);
    for (int64_t j = 0; j < seen; j++) sum += row[j] = expf(row[j] - max);
    for (int64_t j = 0; j < seen; j++) row[j] /= sum;
    for (int64_t j = seen; j < all; j++) row[j] = 0;
}

static bool one_head(const attend_problem *p, const float *q, const float *k, const float *v, float *scores,
                     float *out, int threads)
{
    int64_t stride_q = p->num_heads * p->head_dim, stride_k = p->num_kv_heads * p->head_dim;
    int64_t stride_v = p->num_kv_heads * p->head_dim_v, stride_out = p->num_heads * p->head_dim_v;
    dnnl_status_t status = dnnl_sgemm('N', 'T', p->seqlen_q, p->seqlen_k, p->head_dim, p->softmax_scale, q,
                                      stride_q, k, stride_k, 0, scores, p->seqlen_k);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < p->seqlen_q; i++)
        softmax_row(scores + i * p->seqlen_k, visible(p, i), p->seqlen_k);
    if (status == dnnl_success)
        status = dnnl_sgemm('N', 'N', p->seqlen_q, p->head_dim_v, p->seqlen_k, 1, scores, p->seqlen_k, v,
                            stride_v, 0, out, stride_out);
    return status == dnnl_success;
}

attend_status naive_attention(const attend_problem *p, const float *q, const float *k, const float *v,
                              float *scores, float *out, int threads)
{
    int64_t groups = p->num_heads / p->num_kv_heads, heads = p->batch * p->num_heads;
    int outer = heads >= threads ? threads : 1, inner = heads >= threads ? 1 : threads;
    bool good = true;
#pragma omp parallel for schedule(dynamic) num_threads(outer) reduction(&& : good)
    for (int64_t index = 0; index < heads; index++) {
        int64_t b = index / p->num_heads, h = index % p->num_heads;
        good = one_head(p, q + (b * p->seqlen_q * p->num_heads + h) * p->head_dim,
                        k + (b * p->seqlen_k * p->num_kv_heads + h / groups) * p->head_dim,
                        v + (b * p->seqlen_k * p->num_kv_heads + h / groups) * p->head_dim_v,
                        scores + index * p->seqlen_q * p->seqlen_k,
                        out + (b * p->seqlen_q * p->num_heads + h) * p->head_dim_v, inner) &&
               good;
    }
    return good ? ATTEND_OK
                : attend_file_fail(ATTEND_DEVICE_ERROR, "oneDNN's dnnl_sgemm failed in the naive algorithm");
}
