/* The reference as a device of its own: exact fp64 results, rounded once to storage. */
#include "../backend.h"
#include "reference.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A context's state is its thread count, kept in the pointer itself. */
static int threads_of(const attend_plan *plan) { return (int)(intptr_t)plan->context->state; }

static attend_status context_create(const attend_context_options *options, attend_context *context)
{
    int threads = options->threads ? options->threads : omp_get_num_procs();
    context->state = (void *)(intptr_t)threads;
    snprintf(context->name, sizeof context->name, "fp64 reference, %d thread%s", threads, threads == 1 ? "" : "s");
    return ATTEND_OK;
}

static void context_destroy(attend_context *context) { (void)context; }

static attend_status synchronize(attend_context *context)
{
    (void)context;
    return ATTEND_OK;
}

static attend_status plan_create(attend_plan *plan)
{
    snprintf(plan->kernel, sizeof plan->kernel, "reference_f64");
    return ATTEND_OK;
}

static void plan_destroy(attend_plan *plan) { (void)plan; }

static void store_row(const attend_attention_args *args, const attend_problem *p, int64_t b, int64_t h, int64_t i,
                      const attend_reference_row *row)
{
    int64_t at = b * args->out.stride[0] + i * args->out.stride[1] + h * args->out.stride[2];
    for (int64_t c = 0; c < p->head_dim_v; c++) attend_store(&args->out, at + c * args->out.stride[3], row->out[c]);
    if (args->lse.data)
        attend_store(&args->lse, b * args->lse.stride[0] + h * args->lse.stride[1] + i * args->lse.stride[2], row->lse);
}

typedef struct attention_job {
    const attend_attention_args *args;
    const attend_problem *problem;
} attention_job;

static void take_row(void *job, int64_t b, int64_t h, int64_t i, const attend_reference_row *row)
{
    const attention_job *attention = job;
    store_row(attention->args, attention->problem, b, h, i, row);
}

static attend_status run_attention(const attend_problem *problem, const attend_attention_args *args, int threads)
{
    attention_job job = {args, problem};
    if (!attend_reference_attention(problem, args, threads, take_row, &job))
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's copy of K and V");
    return ATTEND_OK;
}

static attend_status attention_forward(attend_plan *plan, const attend_attention_args *args)
{
    const attend_problem *p = &plan->problem;
    ATTEND_TRY(attend_lengths_check("seqlens_q", args->seqlens_q, p->batch, p->seqlen_q));
    ATTEND_TRY(attend_lengths_check("seqlens_k", args->seqlens_k, p->batch, p->seqlen_k));
    return run_attention(p, args, threads_of(plan));
}

/* A view of fp64 memory in the layout [batch, seqlen, heads, dim]. */
static attend_tensor heads_view(double *data, const attend_problem *p, int64_t seqlen, int64_t heads, int64_t dim)
{
    attend_tensor t = attend_tensor_4d(data, ATTEND_REFERENCE_F64, p->batch, seqlen, heads, dim);
    memcpy(t.stride, (int64_t[]){seqlen * heads * dim, heads * dim, dim, 1}, sizeof t.stride);
    return t;
}

static void copy_out(const attend_tensor *from, const attend_tensor *to)
{
    for (int64_t b = 0; to->data && b < to->shape[0]; b++)
        for (int64_t i = 0; i < to->shape[1]; i++)
            for (int64_t h = 0; h < to->shape[2]; h++)
                for (int64_t c = 0; c < to->shape[3]; c++)
                    attend_store(to, b * to->stride[0] + i * to->stride[1] + h * to->stride[2] + c * to->stride[3],
                                 attend_load(from, b * from->stride[0] + i * from->stride[1] + h * from->stride[2] + c));
}

static attend_status layer_forward(attend_plan *plan, const attend_layer_args *args)
{
    const attend_problem *p = &plan->problem;
    const attend_layer_weights *w = &plan->weights;
    const attend_tensor *source = attend_problem_is_cross(p) ? &args->context : &args->x;
    int threads = threads_of(plan);
    ATTEND_TRY(attend_lengths_check("seqlens_q", args->seqlens_q, p->batch, p->seqlen_q));
    ATTEND_TRY(attend_lengths_check("seqlens_k", args->seqlens_k, p->batch, p->seqlen_k));
    int64_t queries = p->batch * p->seqlen_q, keys = p->batch * p->seqlen_k;
    double *q = malloc((size_t)(queries * p->num_heads * p->head_dim + 1) * sizeof(double));
    double *k = malloc((size_t)(keys * p->num_kv_heads * p->head_dim + 1) * sizeof(double));
    double *v = malloc((size_t)(keys * p->num_kv_heads * p->head_dim_v + 1) * sizeof(double));
    double *heads = malloc((size_t)(queries * p->num_heads * p->head_dim_v + 1) * sizeof(double));
    double *out = malloc((size_t)(queries * p->output_size + 1) * sizeof(double));
    attend_status status = ATTEND_OK;
    if (!q || !k || !v || !heads || !out) {
        status = attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's fp64 intermediates");
        goto done;
    }
    attend_attention_args attention = {
        .q = heads_view(q, p, p->seqlen_q, p->num_heads, p->head_dim),
        .k = heads_view(k, p, p->seqlen_k, p->num_kv_heads, p->head_dim),
        .v = heads_view(v, p, p->seqlen_k, p->num_kv_heads, p->head_dim_v),
        .out = heads_view(heads, p, p->seqlen_q, p->num_heads, p->head_dim_v),
        .lse = args->lse, .seqlens_q = args->seqlens_q, .seqlens_k = args->seqlens_k,
    };
    attend_tensor joined = attend_tensor_3d(heads, ATTEND_REFERENCE_F64, p->batch, p->seqlen_q, p->num_heads * p->head_dim_v);
    memcpy(joined.stride, (int64_t[]){p->seqlen_q * joined.shape[2], joined.shape[2], 1, 0}, sizeof joined.stride);
    attend_reference_project(&args->x, &w->wq, &w->bq, p->dtype, threads, &(attend_reference_projection){.exact = q});
    attend_reference_project(source, &w->wk, &w->bk, p->dtype, threads, &(attend_reference_projection){.exact = k});
    attend_reference_project(source, &w->wv, &w->bv, p->dtype, threads, &(attend_reference_projection){.exact = v});
    status = run_attention(p, &attention, threads);
    if (status) goto done;
    attend_reference_project(&joined, &w->wo, &w->bo, p->dtype, threads, &(attend_reference_projection){.exact = out});
    attend_tensor result = heads_view(out, p, p->seqlen_q, 1, p->output_size), target = args->out;
    target.rank = 4, target.shape[2] = 1, target.shape[3] = p->output_size, target.stride[2] = 0, target.stride[3] = 1;
    copy_out(&result, &target);
    copy_out(&attention.q, &args->q);
    copy_out(&attention.k, &args->k);
    copy_out(&attention.v, &args->v);
    copy_out(&attention.out, &args->heads);
done:
    free(q), free(k), free(v), free(heads), free(out);
    return status;
}

static bool kernel(size_t index, attend_kernel_info *info)
{
    (void)index, (void)info;
    return false;
}

const attend_backend attend_reference_backend = {
    .device = ATTEND_REFERENCE,
    .context_create = context_create,
    .context_destroy = context_destroy,
    .synchronize = synchronize,
    .plan_create = plan_create,
    .plan_destroy = plan_destroy,
    .attention_forward = attention_forward,
    .layer_forward = layer_forward,
    .kernel = kernel,
};
