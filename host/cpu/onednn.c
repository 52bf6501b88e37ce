#include "cpu/onednn.h"

#include "cpu/guard.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_BYTES = 4 << 20 };

#define DNNL_TRY(call)                                               \
    do {                                                             \
        dnnl_status_t dnnl_try_status = (call);                      \
        if (dnnl_try_status != dnnl_success) return dnnl_try_status; \
    } while (0)

/* Accepts implementations that sum the products of an output element in one order, whatever the rows and
   columns. */
static bool is_wanted(dnnl_primitive_desc_t convolution)
{
    const char *name = "";
    if (convolution) dnnl_primitive_desc_query(convolution, dnnl_query_impl_info_str, 0, &name);
    return !strncmp(name, "jit_1x1:", 8);
}

/* ---- differences of oneDNN 2 and 3: a layout is a value in 2, an object in 3; a convolution is described
   and then searched for in 2, created in one call in 3 ---- */

typedef dnnl_memory_desc_t layout;
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t layout_view;
typedef dnnl_primitive_desc_t search;
#define layout_init    dnnl_memory_desc_create_with_tag
#define search_destroy dnnl_primitive_desc_destroy
static layout_view view(const layout *l) { return *l; }
static void layout_destroy(layout l) { dnnl_memory_desc_destroy(l); }
#else
typedef const dnnl_memory_desc_t *layout_view;
typedef dnnl_primitive_desc_iterator_t search;
#define layout_init    dnnl_memory_desc_init_by_tag
#define search_destroy dnnl_primitive_desc_iterator_destroy
static layout_view view(const layout *l) { return l; }
static void layout_destroy(layout l) { (void)l; }
#endif

/* Layouts of x, W, bias and y for products, and of W as given. */
typedef struct layouts {
    layout x, w, b, y, given;
} layouts;

#if DNNL_VERSION_MAJOR >= 3
static dnnl_status_t find_convolution(search *s, dnnl_engine_t engine, dnnl_primitive_attr_t attributes,
                                      const layouts *l, layout_view bias, dnnl_primitive_desc_t *found)
{
    DNNL_TRY(dnnl_convolution_forward_primitive_desc_create(
        s, engine, dnnl_forward_inference, dnnl_convolution_direct, l->x, l->w, bias, l->y,
        (dnnl_dims_t){1, 1}, (dnnl_dims_t){0, 0}, (dnnl_dims_t){0, 0}, (dnnl_dims_t){0, 0}, attributes));
    while (!is_wanted(*s)) DNNL_TRY(dnnl_primitive_desc_next_impl(*s));
    *found = *s, *s = NULL;
    return dnnl_success;
}

static dnnl_status_t describe_matmul(dnnl_engine_t engine, dnnl_primitive_attr_t attributes, const layouts *l,
                                     layout_view bias, dnnl_primitive_desc_t *made)
{
    return dnnl_matmul_primitive_desc_create(made, engine, l->x, l->w, bias, l->y, attributes);
}
#else
static dnnl_status_t find_convolution(search *s, dnnl_engine_t engine, dnnl_primitive_attr_t attributes,
                                      const layouts *l, layout_view bias, dnnl_primitive_desc_t *found)
{
    dnnl_convolution_desc_t convolution;
    DNNL_TRY(dnnl_convolution_forward_desc_init(&convolution, dnnl_forward_inference, dnnl_convolution_direct,
                                                &l->x, &l->w, bias, &l->y, (dnnl_dims_t){1, 1},
                                                (dnnl_dims_t){0, 0}, (dnnl_dims_t){0, 0}));
    dnnl_status_t status = dnnl_primitive_desc_iterator_create(s, &convolution, attributes, engine, NULL);
    while (status == dnnl_success) {
        *found = dnnl_primitive_desc_iterator_fetch(*s);
        if (is_wanted(*found)) break;
        dnnl_primitive_desc_destroy(*found);
        *found = NULL;
        status = dnnl_primitive_desc_iterator_next(*s);
    }
    return status;
}

static dnnl_status_t describe_matmul(dnnl_engine_t engine, dnnl_primitive_attr_t attributes, const layouts *l,
                                     layout_view bias, dnnl_primitive_desc_t *made)
{
    dnnl_matmul_desc_t product;
    DNNL_TRY(dnnl_matmul_desc_init(&product, &l->x, &l->w, bias, &l->y));
    return dnnl_primitive_desc_create(made, &product, attributes, engine, NULL);
}
#endif

/* ---- creation ---- */

/* A panel of W in oneDNN's layout, and of the bias. */
typedef struct panel {
    dnnl_memory_t w, b;
} panel;

/* A thread's oneDNN objects; x and y are set for each product. */
typedef struct worker {
    dnnl_stream_t stream;
    dnnl_memory_t x, y, scratch;
} worker;

struct attend_onednn {
    attend_onednn_shape shape;
    dnnl_engine_t engine;
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    size_t panel_bytes, scratch_bytes;
    int64_t panels;
    panel *panel;
    int threads;
    worker *worker; /* one a thread */
    /* used during creation only */
    layouts layouts;
    search search;
    float *weight;
    char *arranged;
    size_t panel_stride;
    float *bias;
    dnnl_memory_t given;
    dnnl_primitive_desc_t reorder_description;
    dnnl_primitive_t reorder;
};

/* While it creates primitives, oneDNN does not check all of its small allocations and ends the process if one
   fails. So memory for all of them is allocated once and freed before. */
static dnnl_status_t find_room(void)
{
    void *volatile room = malloc(ROOM_BYTES);
    if (!room) return dnnl_out_of_memory;
    free(room);
    return dnnl_success;
}

/* Calls oneDNN with one OpenMP thread, and restores the caller's number. */
static dnnl_status_t on_one_thread(dnnl_status_t (*call)(void *), void *data)
{
    const int before = omp_get_max_threads();
    if (before != 1) omp_set_num_threads(1);
    const dnnl_status_t status = attend_cpu_guard(call, data);
    if (before != 1) omp_set_num_threads(before);
    return status;
}

attend_status attend_onednn_failed(int status, const char *what)
{
    return attend_fail(status == dnnl_out_of_memory ? ATTEND_OUT_OF_MEMORY : ATTEND_UNSUPPORTED,
                       "oneDNN could not %s a projection: status %d", what, status);
}

/* Rows are the pixels of an image, with `in` adjacent channels: a 1×1 convolution repacks neither x nor W,
   which the matrix product does at every call. */
static dnnl_status_t lay_out_convolution(attend_onednn *m)
{
    const attend_onednn_shape *s = &m->shape;
    layouts *l = &m->layouts;
    DNNL_TRY(layout_init(&l->x, 4, (dnnl_dims_t){1, s->in, s->rows, 1}, dnnl_f32, dnnl_nhwc));
    DNNL_TRY(layout_init(&l->w, 4, (dnnl_dims_t){s->columns, s->in, 1, 1}, dnnl_f32, dnnl_format_tag_any));
    DNNL_TRY(layout_init(&l->b, 1, (dnnl_dims_t){s->columns}, dnnl_f32, dnnl_a));
    DNNL_TRY(layout_init(&l->y, 4, (dnnl_dims_t){1, s->columns, s->rows, 1}, dnnl_f32, dnnl_nhwc));
    return layout_init(&l->given, 4, (dnnl_dims_t){s->columns, s->in, 1, 1}, dnnl_f32, dnnl_oihw);
}

static dnnl_status_t lay_out_product(attend_onednn *m)
{
    const attend_onednn_shape *s = &m->shape;
    layouts *l = &m->layouts;
    DNNL_TRY(layout_init(&l->x, 2, (dnnl_dims_t){s->rows, s->in}, dnnl_f32, dnnl_ab));
    DNNL_TRY(layout_init(&l->w, 2, (dnnl_dims_t){s->in, s->columns}, dnnl_f32, dnnl_format_tag_any));
    DNNL_TRY(layout_init(&l->b, 2, (dnnl_dims_t){1, s->columns}, dnnl_f32, dnnl_ab));
    DNNL_TRY(layout_init(&l->y, 2, (dnnl_dims_t){s->rows, s->columns}, dnnl_f32, dnnl_ab));
    return layout_init(&l->given, 2, (dnnl_dims_t){s->in, s->columns}, dnnl_f32, dnnl_ba);
}

static layout_view view_of(const attend_onednn *m, dnnl_query_t what, int index)
{
    return dnnl_primitive_desc_query_md(m->description, what, index);
}

static dnnl_status_t describe(void *products)
{
    attend_onednn *m = products;
    DNNL_TRY(find_room());
    /* this fails for lack of memory alone, which oneDNN 3 reports as a runtime error */
    if (dnnl_engine_create(&m->engine, dnnl_cpu, 0) != dnnl_success) return dnnl_out_of_memory;
    DNNL_TRY(dnnl_primitive_attr_create(&m->attributes));
    DNNL_TRY(dnnl_primitive_attr_set_scratchpad_mode(
        m->attributes, dnnl_scratchpad_mode_user)); /* one a thread, not a shared one */
    DNNL_TRY(m->shape.convolution ? lay_out_convolution(m) : lay_out_product(m));
    const layout_view bias = m->shape.biased ? view(&m->layouts.b) : NULL;
    if (m->shape.convolution) {
        const dnnl_status_t status =
            find_convolution(&m->search, m->engine, m->attributes, &m->layouts, bias, &m->description);
        if (status == dnnl_out_of_memory) return status;
        if (!m->description) return dnnl_success; /* no implementation is accepted */
    } else {
        DNNL_TRY(describe_matmul(m->engine, m->attributes, &m->layouts, bias, &m->description));
    }
    m->panel_bytes = dnnl_memory_desc_get_size(view_of(m, dnnl_query_weights_md, 0));
    m->scratch_bytes = dnnl_memory_desc_get_size(view_of(m, dnnl_query_scratchpad_md, 0));
    return dnnl_primitive_create(&m->primitive, m->description);
}

attend_status attend_onednn_create(const attend_onednn_shape *shape, attend_onednn **products)
{
    attend_onednn *m = *products = calloc(1, sizeof *m);
    if (!m) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a projection");
    m->shape = *shape;
    const dnnl_status_t status = on_one_thread(describe, m);
    if (status != dnnl_success) return attend_onednn_failed(status, "plan");
    if (!m->description) attend_onednn_destroy(m), *products = NULL;
    return ATTEND_OK;
}

/* Repacks W from [columns, in] to the layout of products, panel by panel. */
static dnnl_status_t rearrange(attend_onednn *m)
{
    const layout_view given = view(&m->layouts.given), arranged = view_of(m, dnnl_query_weights_md, 0);
    DNNL_TRY(dnnl_memory_create(&m->given, given, m->engine, DNNL_MEMORY_NONE));
    DNNL_TRY(dnnl_reorder_primitive_desc_create(&m->reorder_description, given, m->engine, arranged,
                                                m->engine, NULL));
    DNNL_TRY(dnnl_primitive_create(&m->reorder, m->reorder_description));
    for (int64_t i = 0; i < m->panels; i++) {
        DNNL_TRY(dnnl_memory_set_data_handle(m->given, m->weight + i * m->shape.columns * m->shape.in));
        DNNL_TRY(dnnl_memory_create(&m->panel[i].w, arranged, m->engine,
                                    m->arranged + (size_t)i * m->panel_stride));
        const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, m->given}, {DNNL_ARG_TO, m->panel[i].w}};
        DNNL_TRY(dnnl_primitive_execute(m->reorder, m->worker->stream, 2, arguments));
        DNNL_TRY(dnnl_stream_wait(m->worker->stream));
    }
    return dnnl_success;
}

static dnnl_status_t prepare(void *products)
{
    attend_onednn *m = products;
    DNNL_TRY(find_room());
    for (int i = 0; i < m->threads; i++) {
        worker *w = &m->worker[i];
        DNNL_TRY(dnnl_stream_create(&w->stream, m->engine, dnnl_stream_default_flags));
        DNNL_TRY(dnnl_memory_create(&w->x, view_of(m, dnnl_query_src_md, 0), m->engine, DNNL_MEMORY_NONE));
        DNNL_TRY(dnnl_memory_create(&w->y, view_of(m, dnnl_query_dst_md, 0), m->engine, DNNL_MEMORY_NONE));
        DNNL_TRY(dnnl_memory_create(&w->scratch, view_of(m, dnnl_query_scratchpad_md, 0), m->engine,
                                    DNNL_MEMORY_NONE));
    }
    for (int64_t i = 0; i < m->panels && m->shape.biased; i++)
        DNNL_TRY(dnnl_memory_create(&m->panel[i].b, view_of(m, dnnl_query_weights_md, 1), m->engine,
                                    m->bias + i * m->shape.columns));
    return rearrange(m);
}

static void end_making(attend_onednn *m)
{
    layouts *l = &m->layouts;
    search_destroy(m->search);
    dnnl_primitive_destroy(m->reorder);
    dnnl_primitive_desc_destroy(m->reorder_description);
    dnnl_memory_destroy(m->given);
    layout_destroy(l->x), layout_destroy(l->w), layout_destroy(l->b), layout_destroy(l->y);
    layout_destroy(l->given);
    memset(l, 0, sizeof *l);
    m->search = NULL, m->reorder = NULL, m->reorder_description = NULL, m->given = NULL;
}

attend_status attend_onednn_prepare(attend_onednn *m, int threads, int64_t panels, float *weight,
                                    char *arranged, size_t panel_stride, float *bias)
{
    m->threads = threads, m->panels = panels;
    m->weight = weight, m->arranged = arranged, m->panel_stride = panel_stride, m->bias = bias;
    m->panel = calloc((size_t)panels, sizeof *m->panel);
    m->worker = calloc((size_t)threads, sizeof *m->worker);
    if (!m->panel || !m->worker) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a projection");
    const dnnl_status_t status = on_one_thread(prepare, m);
    end_making(m);
    return status == dnnl_success ? ATTEND_OK : attend_onednn_failed(status, "prepare");
}

size_t attend_onednn_panel_bytes(const attend_onednn *m) { return m->panel_bytes; }
size_t attend_onednn_scratch_bytes(const attend_onednn *m) { return m->scratch_bytes; }

void attend_onednn_destroy(attend_onednn *m)
{
    if (!m) return;
    end_making(m);
    for (int64_t i = 0; m->panel && i < m->panels; i++) {
        dnnl_memory_destroy(m->panel[i].w);
        dnnl_memory_destroy(m->panel[i].b);
    }
    for (int i = 0; m->worker && i < m->threads; i++) {
        dnnl_memory_destroy(m->worker[i].x);
        dnnl_memory_destroy(m->worker[i].y);
        dnnl_memory_destroy(m->worker[i].scratch);
        if (m->worker[i].stream) dnnl_stream_destroy(m->worker[i].stream);
    }
    dnnl_primitive_destroy(m->primitive);
    dnnl_primitive_desc_destroy(m->description);
    dnnl_primitive_attr_destroy(m->attributes);
    if (m->engine) dnnl_engine_destroy(m->engine);
    free(m->panel), free(m->worker);
    free(m);
}

/* ---- products ---- */

typedef struct product {
    const attend_onednn *m;
    const worker *worker;
    const panel *panel;
    float *x, *y;
    char *scratch;
} product;

static dnnl_status_t execute(void *data)
{
    const product *p = data;
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, p->worker->x},
                                         {DNNL_ARG_WEIGHTS, p->panel->w},
                                         {DNNL_ARG_DST, p->worker->y},
                                         {DNNL_ARG_SCRATCHPAD, p->worker->scratch},
                                         {DNNL_ARG_BIAS, p->panel->b}};
    DNNL_TRY(dnnl_memory_set_data_handle(p->worker->x, p->x));
    DNNL_TRY(dnnl_memory_set_data_handle(p->worker->y, p->y));
    if (p->m->scratch_bytes > 0) DNNL_TRY(dnnl_memory_set_data_handle(p->worker->scratch, p->scratch));
    DNNL_TRY(
        dnnl_primitive_execute(p->m->primitive, p->worker->stream, p->m->shape.biased ? 5 : 4, arguments));
    return dnnl_stream_wait(p->worker->stream);
}

int attend_onednn_multiply(const attend_onednn *m, int thread, int64_t panel, float *x, float *y,
                           char *scratch)
{
    product p = {m, &m->worker[thread], &m->panel[panel], x, y, scratch};
    return (int)on_one_thread(execute, &p);
}

static dnnl_status_t add_products(void *sum)
{
    const attend_onednn_sum *s = sum;
    return dnnl_sgemm('T', 'N', s->rows, s->columns, s->count, 1, s->a, s->a_line, s->b, s->b_line, 1, s->c,
                      s->c_line);
}

int attend_onednn_add_products(attend_onednn_sum *sum) { return (int)on_one_thread(add_products, sum); }
