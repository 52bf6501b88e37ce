/* Projections by cuBLAS. Row-major Y = X·Wᵀ is, by columns, Yᵀ = W·Xᵀ: one product for each (batch, head) of Q, K and V,
   all of them in one call where their shapes and strides agree, and one more call for the output. */
#include "gpu.h"
#include "range.h"

static cudaDataType_t type_of(attend_dtype dtype)
{
    return dtype == ATTEND_F32 ? CUDA_R_32F : dtype == ATTEND_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* A row stride that no second row uses may be anything; cuBLAS wants at least a row's width. */
static int64_t row_stride(const attend_tensor *t, int64_t width)
{
    return t->stride[1] > width ? t->stride[1] : width;
}

/* Rows of Y start as the bias, and the product is added to them before the one rounding to storage. */
static attend_status fill_biases(const attend_plan *plan, const attend_gpu_projection *p, const attend_tensor *y)
{
    const attend_gpu_plan *own = plan->state;
    if (!p->bias) return ATTEND_OK;
    attend_view view = {y->data, y->stride[0], y->stride[1], y->stride[2]};
    return attend_gpu_check(attend_fill_bias(y->dtype, &view, p->bias, y->shape[0], y->shape[1], p->heads, p->dim, own->gpu->stream),
                            "cudaLaunchKernel of fill_bias");
}

static attend_status list(const attend_plan *plan, const attend_gpu_projection *p, int64_t first, const attend_tensor *x,
                          const attend_tensor *y)
{
    const attend_gpu_plan *own = plan->state;
    attend_view view = {y->data, y->stride[0], y->stride[1], y->stride[2]};
    return attend_gpu_check(attend_list_projections(&own->layer.pointers, first, attend_dtype_bytes(x->dtype), p->weight, p->step,
                                                    x->data, x->stride[0], &view, y->shape[0], p->heads, own->gpu->stream),
                            "cudaLaunchKernel of list_projections");
}

/* Projections [from, to): one call. */
static attend_status project_group(const attend_plan *plan, int from, int to, const attend_tensor *x, const attend_tensor *const *y)
{
    const attend_gpu_plan *own = plan->state;
    const attend_gpu_projection *p = &own->layer.projections[from];
    const attend_projection_pointers *pointers = &own->layer.pointers;
    const float alpha = 1, beta = p->bias ? 1 : 0;
    cudaDataType_t type = type_of(x->dtype);
    int64_t products = 0, seqlen = x->shape[1];
    if (attend_tensor_elements(x) == 0) return ATTEND_OK;
    for (int j = from; j < to; j++) {
        ATTEND_TRY(fill_biases(plan, &own->layer.projections[j], y[j]));
        ATTEND_TRY(list(plan, &own->layer.projections[j], products, x, y[j]));
        products += x->shape[0] * own->layer.projections[j].heads;
    }
    return attend_gpu_check_blas(
        cublasGemmBatchedEx_64(own->gpu->blas, p->operation, CUBLAS_OP_N, p->dim, seqlen, p->in, &alpha, pointers->weight, type, p->ld,
                               pointers->x, type, row_stride(x, p->in), &beta, (void *const *)pointers->y, type,
                               row_stride(y[from], p->dim), products, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmBatchedEx");
}

attend_status attend_gpu_project_heads(const attend_plan *plan, const attend_tensor *x, const attend_tensor *context)
{
    const attend_gpu_plan *own = plan->state;
    const attend_tensor *const y[] = {&own->q, &own->k, &own->v};
    attend_status status = ATTEND_OK;
    attend_range_begin("attend: project Q, K, V");
    const double *work = own->gpu->watch->work.projections;
    attend_watch_stage(own->gpu->watch, work[ATTEND_GPU_Q] + work[ATTEND_GPU_K] + work[ATTEND_GPU_V], ATTEND_GPU_O);
    for (int j = 0; j < ATTEND_GPU_O && !status; j = own->layer.group_end[j]) {
        status = project_group(plan, j, own->layer.group_end[j], j == ATTEND_GPU_Q ? x : context, y);
        if (!status) status = attend_gpu_tell(own->gpu, own->layer.group_end[j] - j);
    }
    attend_range_end();
    return status;
}

static attend_status project_output(const attend_plan *plan, const attend_tensor *heads, const attend_tensor *out)
{
    const attend_gpu_plan *own = plan->state;
    const attend_gpu_projection *p = &own->layer.projections[ATTEND_GPU_O];
    const float alpha = 1, beta = p->bias ? 1 : 0;
    cudaDataType_t type = type_of(out->dtype);
    attend_tensor rows = *out; /* [batch, seqlen, 1 head of all columns] */
    rows.shape[2] = 1, rows.shape[3] = p->dim, rows.stride[2] = 0, rows.stride[3] = 1;
    if (attend_tensor_elements(out) == 0) return ATTEND_OK;
    ATTEND_TRY(fill_biases(plan, p, &rows));
    int64_t batch = out->shape[0], seqlen = out->shape[1], ld = row_stride(out, p->dim), ld_heads = row_stride(heads, p->in);
    bool joined = out->stride[0] == seqlen * ld && heads->stride[0] == seqlen * ld_heads; /* one tall matrix */
    return attend_gpu_check_blas(
        cublasGemmStridedBatchedEx_64(own->gpu->blas, p->operation, CUBLAS_OP_N, p->dim, joined ? batch * seqlen : seqlen, p->in, &alpha,
                                      p->weight, type, p->ld, 0, heads->data, type, ld_heads, heads->stride[0], &beta, out->data, type,
                                      ld, out->stride[0], joined ? 1 : batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmStridedBatchedEx");
}

attend_status attend_gpu_project_output(const attend_plan *plan, const attend_tensor *heads, const attend_tensor *out)
{
    const attend_gpu_context *gpu = ((const attend_gpu_plan *)plan->state)->gpu;
    attend_range_begin("attend: project output");
    attend_watch_stage(gpu->watch, gpu->watch->work.projections[ATTEND_GPU_O], 1);
    attend_status status = project_output(plan, heads, out);
    if (!status) status = attend_gpu_tell(gpu, 1);
    attend_range_end();
    return status;
}
