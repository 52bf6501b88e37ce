/* Projections by cuBLAS. Row-major Y = X·Wᵀ is column-major Yᵀ = W·Xᵀ. Q, K and V are one product where their
   weights are one matrix; the output projection is another. Batches are strided, never arrays of pointers:
   cuBLAS assumes that those are aligned to 16 bytes, which weights in a file and slices need not be. From an
   address and a stride it sees the alignment and takes a kernel that fits. */
#include "gpu/gpu.h"
#include "gpu/dtype.h"
#include "gpu/range.h"

/* An axis of one element may have any stride. */
int64_t attend_gpu_row_stride(const attend_tensor *t, int64_t width)
{
    const int64_t stride = t->shape[1] > 1 ? t->stride[1] : t->shape[0] > 1 ? t->stride[0] : width;
    return stride > width ? stride : width;
}

/* Writes the bias to every row of Y; the product is added to it in fp32 and rounded once. */
static attend_status fill_biases(const attend_plan *plan, const attend_gpu_projection *p,
                                 const attend_tensor *y)
{
    const attend_gpu_plan *own = plan->state;
    if (!p->bias) return ATTEND_OK;
    attend_view view = {y->data, y->stride[0], y->stride[1], y->stride[2]};
    return attend_gpu_check(attend_fill_bias(y->dtype, &view, p->bias, y->shape[0], y->shape[1], p->heads,
                                             p->dim, own->gpu->stream),
                            "cudaLaunchKernel of fill_bias");
}

/* Y = X·Wᵀ, plus Y if that holds a bias. One product if heads are neighbouring columns and the rows of all
   batch entries have one stride; otherwise a strided batch over heads or over entries. */
static attend_status multiply(const attend_plan *plan, const attend_gpu_projection *p, const attend_tensor *x,
                              const attend_tensor *y)
{
    const attend_gpu_context *gpu = ((const attend_gpu_plan *)plan->state)->gpu;
    const float alpha = 1, beta = p->bias ? 1 : 0;
    const cudaDataType_t type = attend_gpu_blas_type(x->dtype);
    const size_t element = attend_dtype_bytes(x->dtype);
    const bool side_by_side = p->heads == 1 || y->stride[2] == p->dim;
    const int64_t columns = side_by_side ? p->heads * p->dim : p->dim, batch = x->shape[0],
                  seqlen = x->shape[1];
    const int64_t ld_x = attend_gpu_row_stride(x, p->in), ld_y = attend_gpu_row_stride(y, columns);
    const bool joined = batch == 1 || (x->stride[0] == seqlen * ld_x && y->stride[0] == seqlen * ld_y);
    const int64_t rows = joined ? batch * seqlen : seqlen, entries = joined ? 1 : batch;
    const int64_t calls = side_by_side ? 1 : entries, products = side_by_side ? entries : p->heads;
    for (int64_t i = 0; i < calls; i++)
        ATTEND_TRY(attend_gpu_check_blas(
            gpu,
            gpu->cublas.multiply(gpu->blas, p->operation, CUBLAS_OP_N, columns, rows, p->in, &alpha,
                                 p->weight, type, p->ld, side_by_side ? 0 : p->step,
                                 (const char *)x->data + (size_t)(i * x->stride[0]) * element, type, ld_x,
                                 side_by_side ? x->stride[0] : 0, &beta,
                                 (char *)y->data + (size_t)(i * y->stride[0]) * element, type, ld_y,
                                 side_by_side ? y->stride[0] : y->stride[2], products, CUBLAS_COMPUTE_32F,
                                 CUBLAS_GEMM_DEFAULT),
            "cublasGemmStridedBatchedEx"));
    return ATTEND_OK;
}

/* Projections `from` up to, without, `to`, whose weights are rows of one matrix and whose outputs are columns
   of one Y. */
static attend_status project_group(const attend_plan *plan, int from, int to, const attend_tensor *x,
                                   const attend_tensor *const *y)
{
    const attend_gpu_plan *own = plan->state;
    attend_gpu_projection whole = own->layer.projections[from];
    attend_tensor heads = *y[from];
    if (attend_tensor_elements(x) == 0) return ATTEND_OK;
    for (int j = from; j < to; j++) ATTEND_TRY(fill_biases(plan, &own->layer.projections[j], y[j]));
    for (int j = from + 1; j < to; j++) whole.heads += own->layer.projections[j].heads;
    return multiply(plan, &whole, x, &heads);
}

attend_status attend_gpu_project_heads(const attend_plan *plan, const attend_tensor *x,
                                       const attend_tensor *context, const attend_tensor *const y[3])
{
    const attend_gpu_plan *own = plan->state;
    attend_status status = ATTEND_OK;
    attend_range_begin("attend: project Q, K, V");
    for (int j = 0; j < ATTEND_GPU_O && !status; j = own->layer.group_end[j]) {
        if (!y[j]) continue;
        status = project_group(plan, j, own->layer.group_end[j], j == ATTEND_GPU_Q ? x : context, y);
        if (!status) status = attend_gpu_report_progress(own->gpu, own->layer.group_end[j] - j);
    }
    attend_range_end();
    return status;
}

static attend_status project_output(const attend_plan *plan, const attend_tensor *heads,
                                    const attend_tensor *out)
{
    const attend_gpu_plan *own = plan->state;
    const attend_gpu_projection *p = &own->layer.projections[ATTEND_GPU_O];
    attend_tensor rows = *out; /* [batch, seqlen, 1, num_heads * head_dim] */
    rows.shape[2] = 1, rows.shape[3] = p->dim, rows.stride[2] = 0, rows.stride[3] = 1;
    if (attend_tensor_elements(out) == 0) return ATTEND_OK;
    ATTEND_TRY(fill_biases(plan, p, &rows));
    return multiply(plan, p, heads, &rows);
}

attend_status attend_gpu_project_output(const attend_plan *plan, const attend_tensor *heads,
                                        const attend_tensor *out)
{
    const attend_gpu_context *gpu = ((const attend_gpu_plan *)plan->state)->gpu;
    attend_range_begin("attend: project output");
    attend_status status = project_output(plan, heads, out);
    if (!status) status = attend_gpu_report_progress(gpu, 1);
    attend_range_end();
    return status;
}
