/* Gradients of a layer on the device: what the forward run did not leave is computed again, then the stages
   are gone through backwards. Between stages gradients are stored in the problem's dtype, as products read
   it; all that leave the layer are summed in fp32 by the products themselves. */
#include "gpu/dtype.h"
#include "gpu/gpu.h"
#include "gpu/range.h"

#include <string.h>

/* ---- memory, reserved with the plan ---- */

/* [batch, rows, heads, dim] without gaps, so that heads are columns of one matrix. */
static void reserve_heads(attend_gpu_arena *arena, attend_tensor *t, const attend_problem *p, int64_t rows,
                          int64_t heads, int64_t dim)
{
    int64_t elements = 0;
    *t = attend_tensor_row_major(attend_tensor_4d(NULL, p->dtype, attend_tensor_batch(p), rows, heads, dim));
    if (!attend_multiply(attend_tensor_batch(p) * rows, heads * dim, &elements)) arena->overflow = true;
    attend_gpu_reserve(arena, &t->data, elements, attend_dtype_bytes(p->dtype));
}

/* Elements of the larger of x and context, with rows of whole vectors. */
static int64_t input_elements(const attend_problem *p, attend_gpu_arena *arena)
{
    const size_t element = attend_dtype_bytes(p->dtype);
    const int64_t batch = attend_tensor_batch(p);
    int64_t x = 0, context = 0;
    if (!attend_multiply(batch * attend_rows_q(p), attend_gpu_whole_rows(p->hidden_size, element), &x) ||
        !attend_multiply(batch * attend_rows_projected(p),
                         attend_gpu_whole_rows(p->context_hidden_size, element), &context))
        arena->overflow = true;
    return attend_most(x, context);
}

static int64_t sum_floats(const attend_problem *p)
{
    const int64_t q = attend_tensor_batch(p) * attend_rows_q(p),
                  k = attend_tensor_batch(p) * attend_rows_projected(p);
    const int64_t of_q = attend_row_sum_floats(q, attend_most(p->output_size, p->num_heads * p->head_dim)),
                  of_k = attend_row_sum_floats(k, p->num_kv_heads * attend_most(p->head_dim, p->head_dim_v)),
                  of_norm = attend_row_sum_floats(q, 2 * p->head_dim);
    return attend_most(attend_most(of_q, of_k), p->qk_norm ? of_norm : 0);
}

static void reserve_staging(attend_plan *plan, attend_gpu_arena *staging)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_layer_backward *b = &own->layer.back;
    const attend_problem *p = &plan->problem;
    const int64_t batch = attend_tensor_batch(p), q = attend_rows_q(p), k = attend_rows_projected(p);
    if (own->offload.host_tensors & ATTEND_HOST_INPUTS) {
        attend_gpu_reserve_tensor(staging, &b->dout, p->dtype, 3, (int64_t[]){batch, q, p->output_size});
        attend_gpu_reserve_tensor(staging, &b->dlse, ATTEND_F32, 3, (int64_t[]){batch, p->num_heads, q});
    }
    if (!(own->offload.host_tensors & ATTEND_HOST_OUTPUTS)) return;
    attend_gpu_reserve_tensor(staging, &b->to_x, ATTEND_F32, 3, (int64_t[]){batch, q, p->hidden_size});
    if (attend_problem_is_cross(p))
        attend_gpu_reserve_tensor(staging, &b->to_context, ATTEND_F32, 3,
                                  (int64_t[]){batch, k, p->context_hidden_size});
    for (int i = 0; i < ATTEND_LAYER_WEIGHTS; i++) {
        const attend_tensor *w = &(&plan->weights.wq)[i];
        attend_tensor *t = &b->weights[i];
        if (!w->data) continue;
        *t = *w, t->dtype = ATTEND_F32;
        attend_gpu_reserve(staging, &t->data, attend_tensor_elements(w), sizeof(float));
    }
}

void attend_gpu_reserve_layer_backward(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_layer_backward *b = &((attend_gpu_plan *)plan->state)->layer.back;
    const attend_problem *p = &plan->problem;
    attend_gpu_arena *run = &arenas->run;
    const int64_t batch = attend_tensor_batch(p), q = attend_rows_q(p), k = attend_rows_projected(p),
                  heads = p->num_heads, kv_heads = p->num_kv_heads;
    const int64_t inputs = input_elements(p, run);
    reserve_heads(run, &b->dheads, p, q, heads, p->head_dim_v);
    reserve_heads(run, &b->dq, p, q, heads, p->head_dim);
    reserve_heads(run, &b->dk, p, k, kv_heads, p->head_dim);
    reserve_heads(run, &b->dv, p, k, kv_heads, p->head_dim_v);
    b->y_q = b->y_k = (attend_tensor){0};
    if (p->qk_norm) {
        reserve_heads(run, &b->y_q, p, q, heads, p->head_dim);
        reserve_heads(run, &b->y_k, p, k, kv_heads, p->head_dim);
    }
    attend_gpu_reserve_tensor(run, &b->lse, ATTEND_F32, 3, (int64_t[]){batch, heads, q});
    attend_gpu_reserve(run, &b->kept, inputs, attend_dtype_bytes(p->dtype));
    attend_gpu_reserve(run, (void **)&b->dx, inputs, sizeof(float));
    attend_gpu_reserve(run, (void **)&b->sums, sum_floats(p), sizeof(float));
    reserve_staging(plan, &arenas->staging);
}

/* ---- a run ---- */

typedef struct layer_run {
    const attend_plan *plan;
    const attend_gpu_plan *own;
    const attend_gpu_context *gpu;
    const attend_layer_args *args;
    const attend_layer_gradients *given;
    attend_layer_gradients use; /* on the device */
    attend_layer_needs needs;
    attend_feature_args features;
    attend_row_positions row_positions;
    attend_tensor x, context; /* what Q, and K and V, are projected from */
    attend_attention_args attention;
} layer_run;

/* In the orientation of the one that is given, since the staging has no gaps. */
static attend_tensor like(const attend_tensor *staging, const attend_tensor *given)
{
    attend_tensor t = *given;
    t.data = staging->data;
    if (t.rank == 2 && given->stride[1] != 1 && given->shape[1] != 1)
        t.stride[0] = 1, t.stride[1] = t.shape[0];
    else
        t = attend_tensor_row_major(t);
    return t;
}

/* For one gradient that leaves; `use` is what kernels write. */
typedef attend_status each_gradient(const layer_run *r, const char *name, const attend_tensor *given,
                                    const attend_tensor *staging, attend_tensor *use);

/* Gradients to add to are inputs, too. */
static attend_status take_gradient(const layer_run *r, const char *name, const attend_tensor *given,
                                   const attend_tensor *staging, attend_tensor *use)
{
    const attend_tensor room = staging->data ? like(staging, given) : *staging;
    const attend_tensor from = attend_gpu_long_lines(given), to = attend_gpu_long_lines(&room);
    if (!given->data) return ATTEND_OK;
    ATTEND_TRY(attend_gpu_take_output(r->gpu, name, given, &room, use));
    return r->given->accumulate && use->data != given->data
               ? attend_gpu_copy(r->gpu, &to, &from, cudaMemcpyHostToDevice)
               : ATTEND_OK;
}

static attend_status give_gradient(const layer_run *r, const char *name, const attend_tensor *given,
                                   const attend_tensor *staging, attend_tensor *use)
{
    const attend_tensor to = attend_gpu_long_lines(given), from = attend_gpu_long_lines(use);
    (void)name, (void)staging;
    return given->data ? attend_gpu_give_output(r->gpu, &to, &from) : ATTEND_OK;
}

static attend_status for_each(layer_run *r, each_gradient *each)
{
    const attend_gpu_layer_backward *b = &r->own->layer.back;
    const attend_layer_gradients *g = r->given;
    ATTEND_TRY(each(r, "dx", &g->dx, &b->to_x, &r->use.dx));
    ATTEND_TRY(each(r, "dcontext", &g->dcontext, &b->to_context, &r->use.dcontext));
    for (int i = 0; i < ATTEND_LAYER_WEIGHTS; i++)
        ATTEND_TRY(each(r, attend_layer_gradient_name(i), &(&g->weights.wq)[i], &b->weights[i],
                        &(&r->use.weights.wq)[i]));
    for (int i = ATTEND_GRADIENT_BIAS; i < ATTEND_GRADIENTS; i++)
        ATTEND_TRY(each(r, attend_gradient_expected(&r->plan->problem, (attend_gradient)i).name, &g->of[i],
                        &r->own->backward.of[i], &r->use.of[i]));
    return ATTEND_OK;
}

static attend_status take_inputs(layer_run *r)
{
    const attend_gpu_layer *layer = &r->own->layer;
    const attend_gpu_layer_backward *b = &layer->back;
    const attend_layer_args *a = r->args;
    const attend_problem *p = &r->plan->problem;
    ATTEND_TRY(attend_gpu_take_features(r->plan, &r->features));
    r->row_positions = attend_row_positions_of(p, &r->features, NULL);
    ATTEND_TRY(attend_gpu_check_positions(r->plan, a));
    ATTEND_TRY(p->absolute ? attend_gpu_take_input(r->gpu, "x", &a->x, &layer->x, &r->x)
                           : attend_gpu_take_rows(r->gpu, "x", &a->x, &layer->x, &r->x));
    ATTEND_TRY(attend_gpu_add_positions(r->plan, &r->row_positions, &r->x));
    r->context = r->x;
    if (attend_problem_is_cross(p))
        ATTEND_TRY(attend_gpu_take_rows(r->gpu, "context", &a->context, &layer->context, &r->context));
    ATTEND_TRY(attend_gpu_take_rows(r->gpu, "dout", &r->given->dout, &b->dout, &r->use.dout));
    return attend_gpu_take_input(r->gpu, "dlse", &r->given->dlse, &b->dlse, &r->use.dlse);
}

/* ---- what the forward run did not leave ---- */

static attend_status project_inputs(layer_run *r)
{
    const attend_gpu_plan *own = r->own;
    const attend_gpu_layer_backward *b = &own->layer.back;
    const attend_layer_args *a = r->args;
    const bool given = a->q.data, norm = r->plan->problem.qk_norm;
    const double *work = r->gpu->tracker->work.projections;
    const attend_tensor *const heads[] = {&own->q, &own->k, &own->v};
    r->attention.q = own->q, r->attention.k = own->k, r->attention.v = own->v;
    if (norm || !given) {
        attend_progress_stage(r->gpu->tracker, work[ATTEND_GPU_Q] + work[ATTEND_GPU_K] + work[ATTEND_GPU_V],
                              ATTEND_GPU_O);
        ATTEND_TRY(attend_gpu_project_heads(r->plan, &r->x, &r->context, heads));
    }
    if (norm) {
        ATTEND_TRY(attend_gpu_copy(r->gpu, &b->y_q, &own->q, cudaMemcpyDeviceToDevice));
        ATTEND_TRY(attend_gpu_copy(r->gpu, &b->y_k, &own->k, cudaMemcpyDeviceToDevice));
    }
    if (!given) return attend_gpu_rope(r->plan, &r->row_positions, &own->q, &own->k);
    ATTEND_TRY(attend_gpu_take_input(r->gpu, "q", &a->q, &own->q, &r->attention.q));
    ATTEND_TRY(attend_gpu_take_input(r->gpu, "k", &a->k, &own->k, &r->attention.k));
    return attend_gpu_take_input(r->gpu, "v", &a->v, &own->v, &r->attention.v);
}

/* A product reads the heads' output as one matrix: given in another layout, it is copied. */
static attend_status take_heads(layer_run *r)
{
    const attend_tensor *out = &r->own->out;
    ATTEND_TRY(attend_gpu_take_input(r->gpu, "heads", &r->args->heads, out, &r->attention.out));
    const attend_tensor *t = &r->attention.out;
    if (t->stride[2] == t->shape[3] && (t->shape[1] <= 1 || t->stride[1] >= t->shape[2] * t->shape[3]))
        return ATTEND_OK;
    ATTEND_TRY(attend_gpu_copy(r->gpu, out, t, cudaMemcpyDeviceToDevice));
    r->attention.out = *out;
    return ATTEND_OK;
}

static attend_status attend_again(layer_run *r, bool wanted)
{
    const attend_key_part all = attend_all_keys(&r->plan->problem);
    const attend_gpu_layer_backward *b = &r->own->layer.back;
    r->attention.out = r->own->out, r->attention.lse = b->lse;
    if (!wanted) return ATTEND_OK;
    if (!r->args->heads.data) return attend_gpu_attention(r->plan, &r->attention, &all);
    ATTEND_TRY(take_heads(r));
    return attend_gpu_take_input(r->gpu, "lse", &r->args->lse, &b->lse, &r->attention.lse);
}

/* ---- products ---- */

/* Rows of a matrix [batch, rows, width], heads joined. */
typedef struct matrix {
    const char *data;
    int64_t batch, rows, width, line, step; /* line: distance of rows; step: of entries */
    attend_dtype dtype;
} matrix;

static matrix matrix_of(const attend_tensor *t)
{
    const int64_t width = t->rank == 4 ? t->shape[2] * t->shape[3] : t->shape[2];
    matrix m = {t->data,      t->shape[0], t->shape[1], width, attend_gpu_row_stride(t, width),
                t->stride[0], t->dtype};
    if (m.batch <= 1 || m.step == m.rows * m.line) m.rows *= m.batch, m.batch = m.batch > 1 ? 1 : m.batch;
    return m;
}

/* C = op(A)·op(B) + beta·C, column-major. */
static attend_status multiply(const layer_run *r, cublasOperation_t of_a, cublasOperation_t of_b, int64_t m,
                              int64_t n, int64_t k, const void *a, int64_t line_a, const void *b,
                              int64_t line_b, float beta, void *c, attend_dtype dtype, int64_t line_c)
{
    const attend_gpu_context *gpu = r->gpu;
    const cudaDataType_t type = attend_gpu_blas_type(r->plan->problem.dtype);
    const float alpha = 1;
    if (m == 0 || n == 0) return ATTEND_OK;
    return attend_gpu_check_blas(gpu,
                                 gpu->cublas.multiply(gpu->blas, of_a, of_b, m, n, k, &alpha, a, type, line_a,
                                                      0, b, type, line_b, 0, &beta, c,
                                                      attend_gpu_blas_type(dtype), line_c, 0, 1,
                                                      CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                                 "cublasGemmStridedBatchedEx");
}

/* dx = dy·W for projection j, or dx += dy·W. dx has no gaps between entries. */
static attend_status input_product(const layer_run *r, int j, const attend_tensor *dy, void *dx,
                                   attend_dtype dtype, int64_t line, bool adds)
{
    const attend_gpu_projection *w = &r->own->layer.projections[j];
    const cublasOperation_t operation = w->operation == CUBLAS_OP_T ? CUBLAS_OP_N : CUBLAS_OP_T;
    const matrix m = matrix_of(dy);
    const size_t element = attend_dtype_bytes(m.dtype);
    for (int64_t b = 0; b < m.batch; b++)
        ATTEND_TRY(multiply(r, operation, CUBLAS_OP_N, w->in, m.rows, m.width, w->weight, w->ld,
                            m.data + (size_t)(b * m.step) * element, m.line, adds ? 1 : 0,
                            (char *)dx + (size_t)(b * m.rows * line) * attend_dtype_bytes(dtype), dtype,
                            line));
    return ATTEND_OK;
}

/* No rows: whether cuBLAS then clears C, it does not say. */
static attend_status clear_matrix(const layer_run *r, const attend_tensor *dw, int64_t line, bool by_rows)
{
    const size_t width = (size_t)dw->shape[by_rows ? 1 : 0] * sizeof(float),
                 height = (size_t)dw->shape[by_rows ? 0 : 1];
    if (r->given->accumulate) return ATTEND_OK;
    return attend_gpu_check(
        cudaMemset2DAsync(dw->data, (size_t)line * sizeof(float), 0, width, height, r->gpu->stream),
        "cudaMemset2DAsync");
}

/* dW = Σ dy·xᵀ over all rows, or dW += that. */
static attend_status weight_product(const layer_run *r, const attend_tensor *dw, const attend_tensor *dy,
                                    const attend_tensor *x)
{
    const matrix y = matrix_of(dy), m = matrix_of(x);
    const bool joined = y.batch <= 1 && m.batch <= 1, by_rows = dw->stride[1] == 1 || dw->shape[1] == 1;
    const int64_t entries = joined ? 1 : dy->shape[0], rows = joined ? y.rows : dy->shape[1];
    const size_t element = attend_dtype_bytes(y.dtype);
    const int64_t line = attend_most(by_rows ? dw->stride[0] : dw->stride[1], dw->shape[by_rows ? 1 : 0]);
    if (dy->shape[0] * dy->shape[1] == 0) return clear_matrix(r, dw, line, by_rows);
    for (int64_t b = 0; b < entries; b++) {
        const float beta = r->given->accumulate || b > 0 ? 1 : 0;
        const char *y_data = y.data + (size_t)(b * dy->stride[0]) * element,
                   *x_data = m.data + (size_t)(b * x->stride[0]) * element;
        ATTEND_TRY(by_rows ? multiply(r, CUBLAS_OP_N, CUBLAS_OP_T, m.width, y.width, rows, x_data, m.line,
                                      y_data, y.line, beta, dw->data, ATTEND_F32, line)
                           : multiply(r, CUBLAS_OP_N, CUBLAS_OP_T, y.width, m.width, rows, y_data, y.line,
                                      x_data, m.line, beta, dw->data, ATTEND_F32, line));
    }
    return ATTEND_OK;
}

static attend_row_sum sum_to(const layer_run *r, const attend_tensor *t)
{
    return (attend_row_sum){t->data, t->stride[0], r->given->accumulate};
}

/* The gradients of projection j's weight and bias. */
static attend_status weight_back(const layer_run *r, int j, const attend_tensor *dy, const attend_tensor *x)
{
    const attend_tensor *dw = &(&r->use.weights.wq)[j], *db = &(&r->use.weights.bq)[j];
    const attend_row_sum sum = sum_to(r, db);
    if (dw->data) ATTEND_TRY(weight_product(r, dw, dy, x));
    if (db->data)
        ATTEND_TRY(attend_gpu_check(attend_sum_rows(dy, &sum, r->own->layer.back.sums, r->gpu->stream),
                                    "cudaLaunchKernel of sum_rows"));
    return ATTEND_OK;
}

/* ---- stages ---- */

static attend_status output_back(const layer_run *r)
{
    const attend_gpu_layer_backward *b = &r->own->layer.back;
    const attend_tensor dout = attend_tensor_one_head(&r->use.dout);
    const int64_t width = b->dheads.shape[2] * b->dheads.shape[3];
    ATTEND_TRY(weight_back(r, ATTEND_GPU_O, &dout, &r->attention.out));
    return r->needs.attention
               ? input_product(r, ATTEND_GPU_O, &dout, b->dheads.data, b->dheads.dtype, width, false)
               : ATTEND_OK;
}

static attend_status clear(const layer_run *r, const attend_tensor *t)
{
    return attend_gpu_check(cudaMemsetAsync(t->data, 0,
                                            (size_t)attend_tensor_elements(t) * attend_dtype_bytes(t->dtype),
                                            r->gpu->stream),
                            "cudaMemsetAsync");
}

static attend_status attention_back(const layer_run *r)
{
    const attend_gpu_layer_backward *b = &r->own->layer.back;
    attend_gradients g = {.dout = b->dheads, .dlse = r->use.dlse, .accumulate = r->given->accumulate};
    if (r->plan->problem.dtype == ATTEND_F32) g.out_f32 = r->attention.out;
    memcpy(g.of, r->use.of, sizeof g.of);
    g.of[ATTEND_GRADIENT_Q] = r->needs.q ? b->dq : (attend_tensor){0};
    g.of[ATTEND_GRADIENT_K] = r->needs.k ? b->dk : (attend_tensor){0};
    g.of[ATTEND_GRADIENT_V] = r->needs.v ? b->dv : (attend_tensor){0};
    for (int i = 0; i <= ATTEND_GRADIENT_V && g.accumulate; i++) /* that is said of the callers' tensors */
        if (g.of[i].data) ATTEND_TRY(clear(r, &g.of[i]));
    return attend_gpu_gradients(r->plan, &r->attention, &g);
}

static attend_status rope_back(const layer_run *r, int which)
{
    const attend_gpu_plan *own = r->own;
    const attend_gpu_layer_backward *b = &own->layer.back;
    const attend_layer_weights *w = &r->use.weights;
    const attend_rope_gradient g = {which ? b->dk : b->dq, which ? b->y_k : b->y_q, own->norms[which],
                                    sum_to(r, &(&w->q_norm)[which]), sum_to(r, &(&w->q_norm_bias)[which])};
    if (!attend_has_rope_or_norm(&r->plan->problem)) return ATTEND_OK;
    return attend_gpu_check(attend_rope_backward(&own->rope, &r->row_positions, &g, b->sums, r->gpu->stream),
                            "cudaLaunchKernel of rope_back");
}

/* The gradients of projections [from, end), which read `input`, and of that. */
static attend_status inputs_back(const layer_run *r, int from, int end, const attend_tensor *input,
                                 const attend_tensor *to)
{
    const attend_gpu_layer_backward *b = &r->own->layer.back;
    const attend_tensor *const dy[] = {&b->dq, &b->dk, &b->dv};
    const bool needed[] = {r->needs.q, r->needs.k, r->needs.v};
    const attend_tensor *table = &r->use.weights.position_table;
    const bool of_x = from == ATTEND_GPU_Q, positions = of_x && table->data;
    const int64_t width = input->shape[2];
    attend_tensor kept = *input, rows[3];
    int count = 0;
    kept.data = b->kept, kept.stride[1] = attend_gpu_whole_rows(width, attend_dtype_bytes(kept.dtype));
    kept.stride[0] = kept.shape[1] * kept.stride[1];
    bool weights = false;
    for (int j = from; j < end; j++) {
        if (needed[j]) rows[count++] = *dy[j];
        weights |= (&r->use.weights.wq)[j].data != NULL;
    }
    if (weights)
        ATTEND_TRY(attend_gpu_check(attend_keep_rows(rows, count, input, &kept, r->gpu->stream),
                                    "cudaLaunchKernel of keep_rows"));
    for (int j = from; j < end; j++) {
        if (!needed[j]) continue;
        ATTEND_TRY(weight_back(r, j, dy[j], &kept));
        if (to->data || positions) ATTEND_TRY(input_product(r, j, dy[j], b->dx, ATTEND_F32, width, j > from));
        ATTEND_TRY(attend_gpu_report_progress(r->gpu, 1));
    }
    if (to->data)
        ATTEND_TRY(attend_gpu_check(attend_leave_rows(b->dx, to, r->given->accumulate, r->gpu->stream),
                                    "cudaLaunchKernel of leave_rows"));
    if (!positions) return ATTEND_OK;
    return attend_gpu_check(attend_sum_positions(b->dx, input->shape[0], input->shape[1], &r->row_positions,
                                                 table, r->given->accumulate, r->gpu->stream),
                            "cudaLaunchKernel of sum_positions");
}

static attend_status run_stages(layer_run *r)
{
    const bool cross = attend_problem_is_cross(&r->plan->problem),
               heads = r->needs.attention || r->use.weights.wo.data;
    attend_progress_tracker *tracker = r->gpu->tracker;
    const double *work = tracker->work.projections;
    if (r->needs.attention || (heads && !r->args->heads.data)) ATTEND_TRY(project_inputs(r));
    ATTEND_TRY(attend_again(r, heads));
    attend_progress_stage(tracker, 2 * work[ATTEND_GPU_O], 1);
    ATTEND_TRY(output_back(r));
    ATTEND_TRY(attend_gpu_report_progress(r->gpu, 1));
    if (!r->needs.attention) return ATTEND_OK;
    ATTEND_TRY(attention_back(r));
    if (r->needs.q) ATTEND_TRY(rope_back(r, 0));
    if (r->needs.k) ATTEND_TRY(rope_back(r, 1));
    attend_progress_stage(tracker, 2 * (work[ATTEND_GPU_Q] + work[ATTEND_GPU_K] + work[ATTEND_GPU_V]),
                          ATTEND_GPU_O);
    ATTEND_TRY(inputs_back(r, ATTEND_GPU_Q, cross ? ATTEND_GPU_K : ATTEND_GPU_O, &r->x, &r->use.dx));
    return cross ? inputs_back(r, ATTEND_GPU_K, ATTEND_GPU_O, &r->context, &r->use.dcontext) : ATTEND_OK;
}

static attend_status run_on_device(const attend_plan *plan, const attend_layer_args *args,
                                   const attend_layer_gradients *g)
{
    const attend_gpu_plan *own = plan->state;
    layer_run r = {.plan = plan,
                   .own = own,
                   .gpu = own->gpu,
                   .args = args,
                   .given = g,
                   .use = *g,
                   .needs = attend_layer_needs_of(&plan->problem, g),
                   .features = *args->features};
    r.attention.features = &r.features;
    ATTEND_TRY(take_inputs(&r));
    ATTEND_TRY(for_each(&r, take_gradient));
    ATTEND_TRY(run_stages(&r));
    return for_each(&r, give_gradient);
}

attend_status attend_gpu_layer_backward_run(attend_plan *plan, const attend_layer_args *args,
                                            const attend_layer_gradients *g, const attend_run *brought)
{
    const attend_gpu_context *gpu = ((attend_gpu_plan *)plan->state)->gpu;
    attend_gpu_run run;
    ATTEND_TRY(attend_gpu_enter(gpu));
    attend_range_begin("attend: gradients of a layer");
    attend_status status = attend_gpu_run_begin(plan, brought, false, &run);
    if (!status) status = run_on_device(&run.plan, args, g);
    status = attend_gpu_run_end(&run, status);
    attend_range_end();
    attend_gpu_leave(gpu);
    return status;
}
