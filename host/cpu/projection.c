/* Projections by oneDNN in fp32, y = x·Wᵀ + b: one product of a block of rows and a panel of columns,
   computed for every block and panel by whichever thread is free. oneDNN itself works on one thread: what it
   computes depends on nobody's grants, and no second pool of threads waits beside ours. A block or panel that
   is not full is filled up, so a row's bits depend on no neighbour.

   Weights are converted and rearranged once, with the plan; rows that are strided or stored in 16 bits go
   through buffers of one block. */
#include "cpu/cpu.h"
#include "cpu/guard.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Without a 1×1 convolution bits may depend on the product's size, so that it has one for all problems; and
   on where a row stands in it, if rows at its end are computed in another way than groups of 4 or 6. */
enum { FIXED_ROWS = 12, FIXED_COLUMNS = 256 };
enum { MOST_ROWS = 256, LEAST_ROWS = 16, LEAST_COLUMNS = 64, NEAR_BYTES = 4 << 20 };
enum { ROOM_BYTES = 4 << 20 };

/* A part of W, arranged as oneDNN likes it, and of the bias. */
typedef struct panel {
    dnnl_memory_t w, b;
} panel;

/* What a thread tells oneDNN: where x and y lie this time. */
typedef struct worker {
    dnnl_stream_t stream;
    dnnl_memory_t x, y, scratchpad;
} worker;

struct attend_cpu_projection {
    attend_pool *pool;
    int64_t rows, in, out;
    bool biased, convolution;
    int64_t block, blocks;   /* rows of a block, and how many */
    int64_t columns, panels; /* of a panel, and how many */
    size_t panel_bytes, scratchpad_bytes;
    dnnl_engine_t engine;
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    char *arranged; /* W, panel by panel */
    float *bias;
    panel *panel;
    worker *worker; /* of each thread */
    /* While the plan is made. */
    dnnl_primitive_desc_iterator_t descriptions;
    float *weight;
    dnnl_memory_t given;
    dnnl_primitive_desc_t reorder_description;
    dnnl_primitive_t reorder;
};

#define DNNL_TRY(call)                                               \
    do {                                                             \
        dnnl_status_t dnnl_try_status = (call);                      \
        if (dnnl_try_status != dnnl_success) return dnnl_try_status; \
    } while (0)

/* oneDNN checks not all of its small allocations while it plans, and would end the process where one fails.
   So memory for all of them is asked for first, and given back. */
static dnnl_status_t find_room(void)
{
    void *volatile room = malloc(ROOM_BYTES);
    if (!room) return dnnl_out_of_memory;
    free(room);
    return dnnl_success;
}

/* The calling thread's own number of threads for OpenMP is put back. */
static dnnl_status_t on_one_thread(dnnl_status_t (*call)(void *), void *data)
{
    const int before = omp_get_max_threads();
    if (before != 1) omp_set_num_threads(1);
    const dnnl_status_t status = attend_cpu_guard(call, data);
    if (before != 1) omp_set_num_threads(before);
    return status;
}

static attend_status failed(dnnl_status_t status, const char *what)
{
    return attend_fail(status == dnnl_out_of_memory ? ATTEND_OUT_OF_MEMORY : ATTEND_UNSUPPORTED,
                       "oneDNN could not %s a projection: status %d", what, (int)status);
}

/* About how long one thread takes: 32 multiply-adds a nanosecond, and W read once. */
static double nanoseconds(const attend_cpu_projection *m)
{
    return (double)m->in * (double)m->out * ((double)m->rows / 32 + 0.125);
}

static int64_t parts(int64_t of, int64_t most) { return (of + most - 1) / most; }

/* Enough products that no thread waits long for the last. Rows are cut first, down to where a product becomes
   slow; columns first where a panel of W would not stay in a cache. */
static void cut(attend_cpu_projection *m)
{
    const int threads = attend_pool_worth(m->pool, nanoseconds(m));
    const int64_t wanted = threads > 1 ? 4 * threads : 1;
    int64_t blocks = parts(m->rows, MOST_ROWS), panels = 1;
    if (!m->convolution) {
        m->block = FIXED_ROWS, m->columns = m->out < FIXED_COLUMNS ? m->out : FIXED_COLUMNS;
        m->blocks = parts(m->rows, m->block), m->panels = parts(m->out, m->columns);
        return;
    }
    while (blocks * panels < wanted) {
        const bool narrow = m->out / panels < 2 * LEAST_COLUMNS, low = m->rows / blocks < 2 * LEAST_ROWS;
        const bool far = m->in * (m->out / panels) * (int64_t)sizeof(float) > NEAR_BYTES;
        if (narrow && low) break;
        if (low || (far && !narrow))
            panels *= 2;
        else
            blocks *= 2;
    }
    m->block = parts(m->rows, blocks),
    m->columns = attend_cpu_round_up(parts(m->out, panels), 16); /* whole vectors of any processor */
    m->blocks = parts(m->rows, m->block), m->panels = parts(m->out, m->columns);
}

/* A block of rows is an image of so many pixels with `in` channels, which are neighbours. oneDNN's 1×1
   convolutions rearrange neither x nor W, as its matrix product does at every call, and add the products of
   an output in one order whatever the size: NULL where there is none. */
static dnnl_status_t describe_convolution(attend_cpu_projection *m)
{
    dnnl_memory_desc_t x, w, b, y;
    dnnl_convolution_desc_t convolution;
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&x, 4, (dnnl_dims_t){1, m->in, m->block, 1}, dnnl_f32, dnnl_nhwc));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&w, 4, (dnnl_dims_t){m->columns, m->in, 1, 1}, dnnl_f32,
                                          dnnl_format_tag_any));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&b, 1, (dnnl_dims_t){m->columns}, dnnl_f32, dnnl_a));
    DNNL_TRY(
        dnnl_memory_desc_init_by_tag(&y, 4, (dnnl_dims_t){1, m->columns, m->block, 1}, dnnl_f32, dnnl_nhwc));
    DNNL_TRY(dnnl_convolution_forward_desc_init(&convolution, dnnl_forward_inference, dnnl_convolution_direct,
                                                &x, &w, m->biased ? &b : NULL, &y, (dnnl_dims_t){1, 1},
                                                (dnnl_dims_t){0, 0}, (dnnl_dims_t){0, 0}));
    dnnl_status_t status =
        dnnl_primitive_desc_iterator_create(&m->descriptions, &convolution, m->attributes, m->engine, NULL);
    while (status == dnnl_success) {
        const char *name = "";
        m->description = dnnl_primitive_desc_iterator_fetch(m->descriptions);
        if (m->description) dnnl_primitive_desc_query(m->description, dnnl_query_impl_info_str, 0, &name);
        if (!strncmp(name, "jit_1x1:", 8)) break;
        dnnl_primitive_desc_destroy(m->description);
        m->description = NULL;
        status = dnnl_primitive_desc_iterator_next(m->descriptions);
    }
    return status == dnnl_out_of_memory ? status
                                        : dnnl_success; /* others: there are no more, or none at all */
}

static dnnl_status_t describe_product(attend_cpu_projection *m)
{
    dnnl_memory_desc_t x, w, b, y;
    dnnl_matmul_desc_t product;
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&x, 2, (dnnl_dims_t){m->block, m->in}, dnnl_f32, dnnl_ab));
    DNNL_TRY(
        dnnl_memory_desc_init_by_tag(&w, 2, (dnnl_dims_t){m->in, m->columns}, dnnl_f32, dnnl_format_tag_any));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&b, 2, (dnnl_dims_t){1, m->columns}, dnnl_f32, dnnl_ab));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&y, 2, (dnnl_dims_t){m->block, m->columns}, dnnl_f32, dnnl_ab));
    DNNL_TRY(dnnl_matmul_desc_init(&product, &x, &w, m->biased ? &b : NULL, &y));
    return dnnl_primitive_desc_create(&m->description, &product, m->attributes, m->engine, NULL);
}

static dnnl_status_t describe(void *projection)
{
    attend_cpu_projection *m = projection;
    DNNL_TRY(find_room());
    DNNL_TRY(dnnl_engine_create(&m->engine, dnnl_cpu, 0));
    DNNL_TRY(dnnl_primitive_attr_create(&m->attributes));
    DNNL_TRY(dnnl_primitive_attr_set_scratchpad_mode(
        m->attributes, dnnl_scratchpad_mode_user)); /* a thread's, not one for all */
    m->convolution = true;
    cut(m);
    DNNL_TRY(describe_convolution(m));
    if (!m->description) {
        m->convolution = false;
        cut(m);
        DNNL_TRY(describe_product(m));
    }
    m->panel_bytes =
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(m->description, dnnl_query_weights_md, 0));
    m->scratchpad_bytes =
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(m->description, dnnl_query_scratchpad_md, 0));
    return dnnl_primitive_create(&m->primitive, m->description);
}

static size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Memory for what describe() found, and W and the bias as floats, W row by row; what fills up the last panel
 * is 0. */
static attend_status reserve(attend_cpu_projection *m, const attend_tensor *weight, const attend_tensor *bias,
                             size_t *bytes)
{
    const int64_t padded = m->panels * m->columns;
    size_t for_now = 0;
    m->weight = attend_cpu_allocate(padded, (size_t)m->in * sizeof(float), &for_now);
    m->arranged = attend_cpu_allocate(m->panels, whole_lines(m->panel_bytes), bytes);
    m->bias = attend_cpu_allocate(padded, sizeof(float), bytes);
    m->panel = calloc((size_t)m->panels, sizeof *m->panel);
    m->worker = calloc((size_t)attend_pool_threads(m->pool), sizeof *m->worker);
    if (!m->weight || !m->arranged || !m->bias || !m->panel || !m->worker)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a projection's weights");
    memset(m->weight + m->out * m->in, 0, (size_t)((padded - m->out) * m->in) * sizeof(float));
    memset(m->bias, 0, (size_t)padded * sizeof(float));
    const int64_t together = weight->stride[1] == 1 ? m->in : 1;
    for (int64_t r = 0; r < m->out; r++)
        for (int64_t c = 0; c < m->in; c += together)
            attend_cpu_load_row(m->weight + r * m->in + c, weight->data,
                                r * weight->stride[0] + c * weight->stride[1], together, weight->dtype);
    if (m->biased) attend_cpu_load_row(m->bias, bias->data, 0, m->out, bias->dtype);
    return ATTEND_OK;
}

/* Brings W from [columns, in], row by row, to the arrangement that the product takes, a panel at a time. */
static dnnl_status_t rearrange(attend_cpu_projection *m, const dnnl_memory_desc_t *w)
{
    dnnl_memory_desc_t given;
    if (m->convolution)
        DNNL_TRY(dnnl_memory_desc_init_by_tag(&given, 4, (dnnl_dims_t){m->columns, m->in, 1, 1}, dnnl_f32,
                                              dnnl_oihw));
    else
        DNNL_TRY(
            dnnl_memory_desc_init_by_tag(&given, 2, (dnnl_dims_t){m->in, m->columns}, dnnl_f32, dnnl_ba));
    DNNL_TRY(dnnl_memory_create(&m->given, &given, m->engine, DNNL_MEMORY_NONE));
    DNNL_TRY(
        dnnl_reorder_primitive_desc_create(&m->reorder_description, &given, m->engine, w, m->engine, NULL));
    DNNL_TRY(dnnl_primitive_create(&m->reorder, m->reorder_description));
    for (int64_t i = 0; i < m->panels; i++) {
        DNNL_TRY(dnnl_memory_set_data_handle(m->given, m->weight + i * m->columns * m->in));
        DNNL_TRY(dnnl_memory_create(&m->panel[i].w, w, m->engine,
                                    m->arranged + (size_t)i * whole_lines(m->panel_bytes)));
        const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, m->given}, {DNNL_ARG_TO, m->panel[i].w}};
        DNNL_TRY(dnnl_primitive_execute(m->reorder, m->worker->stream, 2, arguments));
        DNNL_TRY(dnnl_stream_wait(m->worker->stream));
    }
    return dnnl_success;
}

static dnnl_status_t prepare(void *projection)
{
    attend_cpu_projection *m = projection;
    const dnnl_primitive_desc_t d = m->description;
    DNNL_TRY(find_room());
    for (int i = 0; i < attend_pool_threads(m->pool); i++) {
        worker *w = &m->worker[i];
        DNNL_TRY(dnnl_stream_create(&w->stream, m->engine, dnnl_stream_default_flags));
        DNNL_TRY(dnnl_memory_create(&w->x, dnnl_primitive_desc_query_md(d, dnnl_query_src_md, 0), m->engine,
                                    DNNL_MEMORY_NONE));
        DNNL_TRY(dnnl_memory_create(&w->y, dnnl_primitive_desc_query_md(d, dnnl_query_dst_md, 0), m->engine,
                                    DNNL_MEMORY_NONE));
        DNNL_TRY(dnnl_memory_create(&w->scratchpad,
                                    dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0), m->engine,
                                    DNNL_MEMORY_NONE));
    }
    for (int64_t i = 0; i < m->panels && m->biased; i++)
        DNNL_TRY(dnnl_memory_create(&m->panel[i].b, dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 1),
                                    m->engine, m->bias + i * m->columns));
    return rearrange(m, dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 0));
}

static void end_planning(attend_cpu_projection *m)
{
    dnnl_primitive_desc_iterator_destroy(m->descriptions);
    dnnl_primitive_destroy(m->reorder);
    dnnl_primitive_desc_destroy(m->reorder_description);
    dnnl_memory_destroy(m->given);
    free(m->weight);
    m->descriptions = NULL, m->reorder = NULL, m->reorder_description = NULL, m->given = NULL,
    m->weight = NULL;
}

attend_status attend_cpu_projection_create(const attend_tensor *weight, const attend_tensor *bias,
                                           int64_t rows, attend_pool *pool, size_t *bytes,
                                           attend_cpu_projection **projection)
{
    attend_cpu_projection *m = *projection = calloc(1, sizeof *m);
    if (!m) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a projection");
    m->pool = pool;
    m->rows = rows, m->in = weight->shape[1], m->out = weight->shape[0], m->biased = bias->data != NULL;
    if (rows == 0) return ATTEND_OK; /* nothing will ever be multiplied */
    dnnl_status_t status = on_one_thread(describe, m);
    if (status != dnnl_success) return failed(status, "plan");
    ATTEND_TRY(reserve(m, weight, bias, bytes));
    status = on_one_thread(prepare, m);
    end_planning(m); /* W lives on in oneDNN's arrangement */
    return status == dnnl_success ? ATTEND_OK : failed(status, "prepare");
}

/* ---- a run ---- */

typedef struct multiplying {
    const attend_cpu_projection *m;
    const attend_tensor *x, *y;
    bool x_plain, y_plain; /* rows of floats without gaps */
    char *scratch;
    size_t scratch_bytes; /* of a thread */
    attend_watch *watch;
    int status; /* the first that was not dnnl_success, of any thread */
} multiplying;

static bool is_plain(const attend_tensor *t)
{
    const int64_t *n = t->shape, *s = t->stride;
    return t->dtype == ATTEND_F32 && (n[2] == 1 || s[2] == n[3]) && (n[1] == 1 || s[1] == n[2] * n[3]) &&
           (n[0] == 1 || s[0] == n[1] * n[2] * n[3]);
}

/* Columns [first, first + count) of row r, head by head, from the tensor to floats or back. */
static void copy_row(const attend_tensor *t, int64_t r, int64_t first, int64_t count, float *floats,
                     bool back)
{
    const int64_t row = r / t->shape[1] * t->stride[0] + r % t->shape[1] * t->stride[1], dim = t->shape[3];
    for (int64_t c = first, n; c < first + count; c += n) {
        const int64_t at = row + c / dim * t->stride[2] + c % dim;
        n = dim - c % dim < first + count - c ? dim - c % dim : first + count - c;
        if (back)
            attend_cpu_store_row(t->data, at, floats + c - first, n, t->dtype);
        else
            attend_cpu_load_row(floats + c - first, t->data, at, n, t->dtype);
    }
}

/* One product, as oneDNN's call takes it. */
typedef struct product {
    const attend_cpu_projection *m;
    const worker *worker;
    const panel *panel;
    float *x, *y;
    char *scratchpad;
} product;

static dnnl_status_t execute(void *data)
{
    const product *p = data;
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, p->worker->x},
                                         {DNNL_ARG_WEIGHTS, p->panel->w},
                                         {DNNL_ARG_DST, p->worker->y},
                                         {DNNL_ARG_SCRATCHPAD, p->worker->scratchpad},
                                         {DNNL_ARG_BIAS, p->panel->b}};
    DNNL_TRY(dnnl_memory_set_data_handle(p->worker->x, p->x));
    DNNL_TRY(dnnl_memory_set_data_handle(p->worker->y, p->y));
    if (p->m->scratchpad_bytes > 0)
        DNNL_TRY(dnnl_memory_set_data_handle(p->worker->scratchpad, p->scratchpad));
    DNNL_TRY(dnnl_primitive_execute(p->m->primitive, p->worker->stream, p->m->biased ? 5 : 4, arguments));
    return dnnl_stream_wait(p->worker->stream);
}

/* Panel by panel, so that one stays in a cache for all rows. */
static void multiply(void *job, int64_t index, int thread)
{
    multiplying *of = job;
    const attend_cpu_projection *m = of->m;
    if (!attend_watch_goes_on(of->watch) || __atomic_load_n(&of->status, __ATOMIC_RELAXED) != dnnl_success)
        return;
    const int64_t first = index % m->blocks * m->block, column = index / m->blocks * m->columns;
    const int64_t rows = m->rows - first < m->block ? m->rows - first : m->block;
    const int64_t columns = m->out - column < m->columns ? m->out - column : m->columns;
    float *x = (float *)(of->scratch + (size_t)thread * of->scratch_bytes),
          *y = x + attend_cpu_round_up(m->block * m->in, 16);
    product p = {m,
                 &m->worker[thread],
                 &m->panel[index / m->blocks],
                 x,
                 y,
                 (char *)(y + attend_cpu_round_up(m->block * m->columns, 16))};
    if (of->x_plain && rows == m->block) {
        p.x = (float *)of->x->data + first * m->in;
    } else {
        for (int64_t r = 0; r < rows; r++) copy_row(of->x, first + r, 0, m->in, x + r * m->in, false);
        memset(x + rows * m->in, 0, (size_t)((m->block - rows) * m->in) * sizeof *x);
    }
    const bool in_place =
        of->y_plain && rows == m->block && columns == m->columns && (m->columns == m->out || rows == 1);
    if (in_place) p.y = (float *)of->y->data + first * m->out + column;
    const dnnl_status_t status = on_one_thread(execute, &p);
    if (status != dnnl_success) __atomic_store_n(&of->status, status, __ATOMIC_RELAXED);
    for (int64_t r = 0; r < rows && !in_place && status == dnnl_success; r++)
        copy_row(of->y, first + r, column, columns, y + r * m->columns, true);
    attend_watch_count(of->watch, 1, thread == 0);
}

size_t attend_cpu_projection_scratch(const attend_cpu_projection *m)
{
    return (size_t)(attend_cpu_round_up(m->block * m->in, 16) +
                    attend_cpu_round_up(m->block * m->columns, 16)) *
               sizeof(float) +
           whole_lines(m->scratchpad_bytes);
}

attend_status attend_cpu_project(const attend_cpu_projection *m, const attend_tensor *x,
                                 const attend_tensor *y, char *scratch, double work, attend_watch *watch)
{
    multiplying of = {
        m, x, y, is_plain(x), is_plain(y), scratch, attend_cpu_projection_scratch(m), watch, dnnl_success};
    attend_watch_stage(watch, work, m->blocks * m->panels);
    attend_pool_run(m->pool, m->blocks * m->panels, nanoseconds(m), multiply, &of);
    if (of.status != dnnl_success) return failed((dnnl_status_t)of.status, "compute");
    return attend_watch_status(watch);
}

void attend_cpu_projection_destroy(attend_cpu_projection *m)
{
    if (!m) return;
    end_planning(m);
    for (int64_t i = 0; m->panel && i < m->panels; i++) {
        dnnl_memory_destroy(m->panel[i].w);
        dnnl_memory_destroy(m->panel[i].b);
    }
    for (int i = 0; m->worker && i < attend_pool_threads(m->pool); i++) {
        dnnl_memory_destroy(m->worker[i].x);
        dnnl_memory_destroy(m->worker[i].y);
        dnnl_memory_destroy(m->worker[i].scratchpad);
        if (m->worker[i].stream) dnnl_stream_destroy(m->worker[i].stream);
    }
    dnnl_primitive_destroy(m->primitive);
    dnnl_primitive_desc_destroy(m->description);
    dnnl_primitive_attr_destroy(m->attributes);
    if (m->engine) dnnl_engine_destroy(m->engine);
    free(m->arranged), free(m->bias), free(m->panel), free(m->worker);
    free(m);
}
