/* Projections by oneDNN in fp32: y = x·Wᵀ + b on rows without gaps, a chunk of them at a time, as a matrix product or, where that is
   faster, as a 1×1 convolution whose pixels are the rows. Weights are converted and rearranged once, with the plan; rows that are
   strided or stored in 16 bits go through buffers of one chunk. */
#include "cpu.h"

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1024 }; /* rows: enough for oneDNN to run at its best, little beside the tensors */

/* The product of so many rows. */
typedef struct chunk_product {
    int64_t rows;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, y;
} chunk_product;

struct attend_cpu_projection {
    int threads;
    int64_t rows, in, out;
    bool convolution;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    chunk_product whole, last; /* of a whole chunk, and of what is left behind the last one */
    dnnl_memory_t w, b;
    float *weight; /* fp32 copy, freed once it is rearranged */
    float *bias;
    float *x_rows, *y_rows; /* [chunk][in] and [chunk][out], for tensors that oneDNN cannot take as they lie */
};

/* oneDNN takes its thread count from OpenMP; the caller's setting is put back. */
static int borrow_threads(int threads)
{
    int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    return before;
}

#define DNNL_TRY(call)                                                                                            \
    do {                                                                                                          \
        dnnl_status_t dnnl_try_status = (call);                                                                   \
        if (dnnl_try_status != dnnl_success)                                                                      \
            return attend_fail(dnnl_try_status == dnnl_out_of_memory ? ATTEND_OUT_OF_MEMORY : ATTEND_UNSUPPORTED, \
                               "oneDNN refused a projection: " #call " returned %d", (int)dnnl_try_status);       \
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

/* W as *w says in, as it is to be arranged out; `any` there asks oneDNN how it likes W best. */
static dnnl_status_t describe_product(const attend_cpu_projection *m, int64_t rows, dnnl_memory_desc_t *w, dnnl_primitive_desc_t *desc)
{
    dnnl_memory_desc_t x, b, y;
    dnnl_matmul_desc_t product;
    dnnl_memory_desc_init_by_tag(&x, 2, (dnnl_dims_t){rows, m->in}, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&b, 2, (dnnl_dims_t){1, m->out}, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&y, 2, (dnnl_dims_t){rows, m->out}, dnnl_f32, dnnl_ab);
    dnnl_status_t status = dnnl_matmul_desc_init(&product, &x, w, m->bias ? &b : NULL, &y);
    return status == dnnl_success ? dnnl_primitive_desc_create(desc, &product, NULL, m->engine, NULL) : status;
}

/* The same as a convolution over an image of `rows` pixels with `in` channels, whose channels are neighbours. */
static dnnl_status_t describe_convolution(const attend_cpu_projection *m, int64_t rows, dnnl_memory_desc_t *w, dnnl_primitive_desc_t *desc)
{
    dnnl_memory_desc_t x, b, y;
    dnnl_convolution_desc_t convolution;
    dnnl_memory_desc_init_by_tag(&x, 4, (dnnl_dims_t){1, m->in, rows, 1}, dnnl_f32, dnnl_nhwc);
    dnnl_memory_desc_init_by_tag(&b, 1, (dnnl_dims_t){m->out}, dnnl_f32, dnnl_a);
    dnnl_memory_desc_init_by_tag(&y, 4, (dnnl_dims_t){1, m->out, rows, 1}, dnnl_f32, dnnl_nhwc);
    dnnl_status_t status =
        dnnl_convolution_forward_desc_init(&convolution, dnnl_forward_inference, dnnl_convolution_direct, &x, w, m->bias ? &b : NULL, &y,
                                           (dnnl_dims_t){1, 1}, (dnnl_dims_t){0, 0}, (dnnl_dims_t){0, 0});
    return status == dnnl_success ? dnnl_primitive_desc_create(desc, &convolution, NULL, m->engine, NULL) : status;
}

static dnnl_status_t describe(const attend_cpu_projection *m, int64_t rows, dnnl_memory_desc_t *w, dnnl_primitive_desc_t *desc)
{
    dnnl_status_t status = m->convolution ? describe_convolution(m, rows, w, desc) : describe_product(m, rows, w, desc);
    if (status == dnnl_success) *w = *dnnl_primitive_desc_query_md(*desc, dnnl_query_weights_md, 0);
    return status;
}

/* W in whatever arrangement is best. */
static dnnl_memory_desc_t any_weight(const attend_cpu_projection *m)
{
    dnnl_memory_desc_t w;
    if (m->convolution)
        dnnl_memory_desc_init_by_tag(&w, 4, (dnnl_dims_t){m->out, m->in, 1, 1}, dnnl_f32, dnnl_format_tag_any);
    else
        dnnl_memory_desc_init_by_tag(&w, 2, (dnnl_dims_t){m->in, m->out}, dnnl_f32, dnnl_format_tag_any);
    return w;
}

/* AVX2's product rearranges x and W at every call, its 1×1 convolution neither: 4 to 10 % faster in large, 20 to 40 % in small. */
static bool convolution_is_faster(attend_cpu_projection *m)
{
    const int64_t rows[] = {m->whole.rows, m->last.rows};
    bool faster = m->convolution = true;
    dnnl_memory_desc_t w = any_weight(m);
    for (int i = 0; i < 2 && faster; i++) {
        dnnl_primitive_desc_t desc;
        const char *name = "";
        if (rows[i] == 0) continue;
        if (describe(m, rows[i], &w, &desc) != dnnl_success) return false;
        dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name);
        faster = !strcmp(name, "jit_1x1:avx2");
        dnnl_primitive_desc_destroy(desc);
    }
    return faster;
}

static attend_status build_product(attend_cpu_projection *m, chunk_product *product, dnnl_memory_desc_t *w)
{
    dnnl_primitive_desc_t desc;
    DNNL_TRY(describe(m, product->rows, w, &desc));
    dnnl_status_t status = dnnl_primitive_create(&product->primitive, desc);
    if (status == dnnl_success)
        status = dnnl_memory_create(&product->x, dnnl_primitive_desc_query_md(desc, dnnl_query_src_md, 0), m->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&product->y, dnnl_primitive_desc_query_md(desc, dnnl_query_dst_md, 0), m->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success && m->bias && !m->b)
        status = dnnl_memory_create(&m->b, dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 1), m->engine, m->bias);
    dnnl_primitive_desc_destroy(desc);
    DNNL_TRY(status);
    return ATTEND_OK;
}

/* Brings W from [out, in], row by row, to the arrangement w. */
static attend_status rearrange(attend_cpu_projection *m, const dnnl_memory_desc_t *w)
{
    dnnl_memory_desc_t w_given;
    dnnl_primitive_t reorder;
    dnnl_primitive_desc_t reorder_desc;
    dnnl_memory_t given;
    if (m->convolution)
        DNNL_TRY(dnnl_memory_desc_init_by_tag(&w_given, 4, (dnnl_dims_t){m->out, m->in, 1, 1}, dnnl_f32, dnnl_oihw));
    else
        DNNL_TRY(dnnl_memory_desc_init_by_tag(&w_given, 2, (dnnl_dims_t){m->in, m->out}, dnnl_f32, dnnl_ba));
    DNNL_TRY(dnnl_memory_create(&m->w, w, m->engine, DNNL_MEMORY_ALLOCATE));
    DNNL_TRY(dnnl_memory_create(&given, &w_given, m->engine, m->weight));
    dnnl_status_t status = dnnl_reorder_primitive_desc_create(&reorder_desc, &w_given, m->engine, w, m->engine, NULL);
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

static attend_status build(attend_cpu_projection *m)
{
    m->convolution = convolution_is_faster(m);
    dnnl_memory_desc_t w = any_weight(m);
    ATTEND_TRY(build_product(m, &m->whole, &w));
    if (m->last.rows) ATTEND_TRY(build_product(m, &m->last, &w));
    return rearrange(m, &w);
}

static attend_status create(attend_cpu_projection *m, const attend_tensor *weight, const attend_tensor *bias, size_t *bytes)
{
    DNNL_TRY(dnnl_engine_create(&m->engine, dnnl_cpu, 0));
    DNNL_TRY(dnnl_stream_create(&m->stream, m->engine, dnnl_stream_default_flags));
    ATTEND_TRY(copy_weight(m, weight, bytes));
    m->whole.rows = m->rows < CHUNK ? m->rows : CHUNK;
    m->last.rows = m->rows % CHUNK == m->rows ? 0 : m->rows % CHUNK;
    m->x_rows = attend_cpu_allocate(m->whole.rows, (size_t)m->in * sizeof(float), bytes);
    m->y_rows = attend_cpu_allocate(m->whole.rows, (size_t)m->out * sizeof(float), bytes);
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

attend_status attend_cpu_projection_create(const attend_tensor *weight, const attend_tensor *bias, int64_t batch, int64_t seqlen,
                                           int threads, size_t *bytes, attend_cpu_projection **projection)
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

/* Where row r of [batch, seqlen, width] begins, in elements. */
static int64_t row_at(const attend_tensor *t, int64_t r)
{
    return r / t->shape[1] * t->stride[0] + r % t->shape[1] * t->stride[1];
}

static void gather(const attend_cpu_projection *m, const attend_tensor *x, int64_t first, int64_t rows)
{
#pragma omp parallel for num_threads(m->threads)
    for (int64_t r = 0; r < rows; r++) attend_cpu_load_row(m->x_rows + r * m->in, x->data, row_at(x, first + r), m->in, x->dtype);
}

static void scatter(const attend_cpu_projection *m, const attend_tensor *y, int64_t first, int64_t rows)
{
#pragma omp parallel for num_threads(m->threads)
    for (int64_t r = 0; r < rows; r++)
        attend_cpu_store_row(y->data, row_at(y, first + r), m->y_rows + r * m->out, m->out, y->dtype);
}

static attend_status multiply(const attend_cpu_projection *m, const chunk_product *product, const attend_tensor *x,
                              const attend_tensor *y, int64_t first)
{
    bool x_plain = is_plain(x), y_plain = is_plain(y);
    if (!x_plain) gather(m, x, first, product->rows);
    DNNL_TRY(dnnl_memory_set_data_handle(product->x, x_plain ? (float *)x->data + first * m->in : m->x_rows));
    DNNL_TRY(dnnl_memory_set_data_handle(product->y, y_plain ? (float *)y->data + first * m->out : m->y_rows));
    const dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, product->x}, {DNNL_ARG_WEIGHTS, m->w}, {DNNL_ARG_DST, product->y}, {DNNL_ARG_BIAS, m->b}};
    int before = borrow_threads(m->threads);
    dnnl_status_t status = dnnl_primitive_execute(product->primitive, m->stream, m->bias ? 4 : 3, arguments);
    dnnl_stream_wait(m->stream);
    omp_set_num_threads(before);
    DNNL_TRY(status);
    if (!y_plain) scatter(m, y, first, product->rows);
    return ATTEND_OK;
}

attend_status attend_cpu_project(const attend_cpu_projection *m, const attend_tensor *x, const attend_tensor *y, double work,
                                 attend_watch *watch)
{
    attend_watch_stage(watch, work, m->rows);
    for (int64_t first = 0; first < m->rows; first += m->whole.rows) {
        const chunk_product *product = first + m->whole.rows <= m->rows ? &m->whole : &m->last;
        ATTEND_TRY(multiply(m, product, x, y, first));
        attend_watch_count(watch, product->rows, true);
        ATTEND_TRY(attend_watch_status(watch));
    }
    return ATTEND_OK;
}

void attend_cpu_projection_destroy(attend_cpu_projection *m)
{
    if (!m) return;
    dnnl_memory_t memories[] = {m->w, m->b, m->whole.x, m->whole.y, m->last.x, m->last.y};
    for (int i = 0; i < 6; i++)
        if (memories[i]) dnnl_memory_destroy(memories[i]);
    if (m->whole.primitive) dnnl_primitive_destroy(m->whole.primitive);
    if (m->last.primitive) dnnl_primitive_destroy(m->last.primitive);
    if (m->stream) dnnl_stream_destroy(m->stream);
    if (m->engine) dnnl_engine_destroy(m->engine);
    free(m->weight), free(m->bias), free(m->x_rows), free(m->y_rows);
    free(m);
}
