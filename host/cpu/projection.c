/* Projections by oneDNN in fp32: y = x·Wᵀ + b on rows without gaps. Weights are converted and rearranged once, with the plan;
   rows that are strided or stored in 16 bits go through the plan's own buffers. */
#include "cpu.h"

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>

struct attend_cpu_projection {
    int threads;
    int64_t rows, in, out;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, b, y;
    float *weight; /* fp32 copy, freed once it is rearranged */
    float *bias;
    float *x_rows, *y_rows; /* [rows][in] and [rows][out], for tensors that oneDNN cannot take as they lie */
};

/* oneDNN takes its thread count from OpenMP; the caller's setting is put back. */
static int borrow_threads(int threads)
{
    int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    return before;
}

#define DNNL_TRY(call)                                                                                                 \
    do {                                                                                                               \
        dnnl_status_t dnnl_try_status = (call);                                                                        \
        if (dnnl_try_status != dnnl_success)                                                                           \
            return attend_fail(dnnl_try_status == dnnl_out_of_memory ? ATTEND_OUT_OF_MEMORY : ATTEND_UNSUPPORTED,      \
                               "oneDNN refused a projection: " #call " returned %d", (int)dnnl_try_status);            \
    } while (0)

static attend_status copy_weight(attend_cpu_projection *m, const attend_tensor *weight, size_t *bytes)
{
    m->weight = attend_cpu_allocate(m->out, (size_t)m->in * sizeof(float), bytes);
    if (!m->weight) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a projection's weights");
    for (int64_t r = 0; r < m->out; r++)
        for (int64_t c = 0; c < m->in; c++)
            attend_cpu_load_row(m->weight + r * m->in + c, weight->data, r * weight->stride[0] + c * weight->stride[1], 1,
                                weight->dtype);
    return ATTEND_OK;
}

/* Builds the primitive for W as oneDNN likes it best, and rearranges W to that. */
static attend_status build(attend_cpu_projection *m)
{
    dnnl_memory_desc_t x, w, w_given, b, y;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t primitive_desc;
    dnnl_primitive_t reorder;
    dnnl_primitive_desc_t reorder_desc;
    dnnl_memory_t given;
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&x, 2, (dnnl_dims_t){m->rows, m->in}, dnnl_f32, dnnl_ab));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&w, 2, (dnnl_dims_t){m->in, m->out}, dnnl_f32, dnnl_format_tag_any));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&w_given, 2, (dnnl_dims_t){m->in, m->out}, dnnl_f32, dnnl_ba));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&b, 2, (dnnl_dims_t){1, m->out}, dnnl_f32, dnnl_ab));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&y, 2, (dnnl_dims_t){m->rows, m->out}, dnnl_f32, dnnl_ab));
    DNNL_TRY(dnnl_matmul_desc_init(&desc, &x, &w, m->bias ? &b : NULL, &y));
    DNNL_TRY(dnnl_primitive_desc_create(&primitive_desc, &desc, NULL, m->engine, NULL));
    w = *dnnl_primitive_desc_query_md(primitive_desc, dnnl_query_weights_md, 0);
    dnnl_status_t made = dnnl_primitive_create(&m->primitive, primitive_desc);
    dnnl_primitive_desc_destroy(primitive_desc);
    DNNL_TRY(made);
    DNNL_TRY(dnnl_memory_create(&m->x, &x, m->engine, DNNL_MEMORY_NONE));
    DNNL_TRY(dnnl_memory_create(&m->y, &y, m->engine, DNNL_MEMORY_NONE));
    if (m->bias) DNNL_TRY(dnnl_memory_create(&m->b, &b, m->engine, m->bias));
    DNNL_TRY(dnnl_memory_create(&m->w, &w, m->engine, DNNL_MEMORY_ALLOCATE));
    DNNL_TRY(dnnl_memory_create(&given, &w_given, m->engine, m->weight));
    dnnl_status_t status = dnnl_reorder_primitive_desc_create(&reorder_desc, &w_given, m->engine, &w, m->engine, NULL);
    if (status == dnnl_success) {
        status = dnnl_primitive_create(&reorder, reorder_desc);
        dnnl_primitive_desc_destroy(reorder_desc);
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_execute(reorder, m->stream, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, given}, {DNNL_ARG_TO, m->w}});
        dnnl_stream_wait(m->stream);
        dnnl_primitive_destroy(reorder);
    }
    dnnl_memory_destroy(given);
    DNNL_TRY(status);
    return ATTEND_OK;
}

static attend_status create(attend_cpu_projection *m, const attend_tensor *weight, const attend_tensor *bias, size_t *bytes)
{
    DNNL_TRY(dnnl_engine_create(&m->engine, dnnl_cpu, 0));
    DNNL_TRY(dnnl_stream_create(&m->stream, m->engine, dnnl_stream_default_flags));
    ATTEND_TRY(copy_weight(m, weight, bytes));
    m->x_rows = attend_cpu_allocate(m->rows, (size_t)m->in * sizeof(float), bytes);
    m->y_rows = attend_cpu_allocate(m->rows, (size_t)m->out * sizeof(float), bytes);
    if (bias->data) m->bias = attend_cpu_allocate(m->out, sizeof(float), bytes);
    if (!m->x_rows || !m->y_rows || (bias->data && !m->bias))
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a projection's rows");
    if (bias->data) attend_cpu_load_row(m->bias, bias->data, 0, m->out, bias->dtype);
    if (m->rows == 0) return ATTEND_OK; /* nothing will ever be multiplied */
    int before = borrow_threads(m->threads);
    attend_status status = build(m);
    omp_set_num_threads(before);
    free(m->weight); /* W lives on in oneDNN's arrangement, of the same size */
    m->weight = NULL;
    return status;
}

attend_status attend_cpu_projection_create(const attend_tensor *weight, const attend_tensor *bias, int64_t batch,
                                           int64_t seqlen, int threads, size_t *bytes, attend_cpu_projection **projection)
{
    attend_cpu_projection *m = calloc(1, sizeof *m);
    *projection = m;
    if (!m) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a projection");
    m->threads = threads;
    m->rows = batch * seqlen, m->in = weight->shape[1], m->out = weight->shape[0];
    return create(m, weight, bias, bytes);
}

/* Whether the tensor lies as rows of floats without gaps. */
static bool is_plain(const attend_tensor *t)
{
    return t->dtype == ATTEND_F32 && t->stride[1] == t->shape[2] && t->stride[0] == t->shape[1] * t->shape[2];
}

static void gather(const attend_cpu_projection *m, const attend_tensor *x)
{
#pragma omp parallel for num_threads(m->threads)
    for (int64_t r = 0; r < m->rows; r++)
        attend_cpu_load_row(m->x_rows + r * m->in, x->data, r / x->shape[1] * x->stride[0] + r % x->shape[1] * x->stride[1],
                            m->in, x->dtype);
}

static void scatter(const attend_cpu_projection *m, const attend_tensor *y)
{
#pragma omp parallel for num_threads(m->threads)
    for (int64_t r = 0; r < m->rows; r++)
        attend_cpu_store_row(y->data, r / y->shape[1] * y->stride[0] + r % y->shape[1] * y->stride[1], m->y_rows + r * m->out,
                             m->out, y->dtype);
}

attend_status attend_cpu_project(const attend_cpu_projection *m, const attend_tensor *x, const attend_tensor *y)
{
    if (m->rows == 0) return ATTEND_OK;
    if (!is_plain(x)) gather(m, x);
    DNNL_TRY(dnnl_memory_set_data_handle(m->x, is_plain(x) ? x->data : m->x_rows));
    DNNL_TRY(dnnl_memory_set_data_handle(m->y, is_plain(y) ? y->data : m->y_rows));
    const dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, m->x}, {DNNL_ARG_WEIGHTS, m->w}, {DNNL_ARG_DST, m->y}, {DNNL_ARG_BIAS, m->b}};
    int before = borrow_threads(m->threads);
    dnnl_status_t status = dnnl_primitive_execute(m->primitive, m->stream, m->bias ? 4 : 3, arguments);
    dnnl_stream_wait(m->stream);
    omp_set_num_threads(before);
    DNNL_TRY(status);
    if (!is_plain(y)) scatter(m, y);
    return ATTEND_OK;
}

void attend_cpu_projection_destroy(attend_cpu_projection *m)
{
    if (!m) return;
    dnnl_memory_t memories[] = {m->x, m->w, m->b, m->y};
    for (int i = 0; i < 4; i++)
        if (memories[i]) dnnl_memory_destroy(memories[i]);
    if (m->primitive) dnnl_primitive_destroy(m->primitive);
    if (m->stream) dnnl_stream_destroy(m->stream);
    if (m->engine) dnnl_engine_destroy(m->engine);
    free(m->weight), free(m->bias), free(m->x_rows), free(m->y_rows);
    free(m);
}
