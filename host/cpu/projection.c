/* Projections in fp32, y = x·Wᵀ + b, in products of a block of rows and a panel of columns (onednn.c), each
   computed by the next free thread. oneDNN itself uses one thread: its results do not depend on the number of
   threads that it gets, and no second thread pool competes with ours. Blocks and panels that are not full are
   padded, so a row's bits depend on no other row.

   Weights are converted and repacked once, with the plan; rows that are strided or stored in 16 bits are
   copied to buffers of one block. */
#include "cpu/cpu.h"
#include "cpu/onednn.h"

#include <stdlib.h>
#include <string.h>

/* Without a 1×1 convolution bits may depend on the product's size, so that it is the same for all problems;
   and on the row's index in it, if the last rows are computed in another way than groups of 4 or 6. */
enum { FIXED_ROWS = 12, FIXED_COLUMNS = 256 };
enum { MOST_ROWS = 256, LEAST_ROWS = 16, LEAST_COLUMNS = 64, NEAR_BYTES = 4 << 20 };

struct attend_cpu_projection {
    attend_pool *pool;
    int64_t rows, in, out;
    bool biased;
    int64_t block, blocks;   /* rows a block, number of blocks */
    int64_t columns, panels; /* columns a panel, number of panels */
    attend_onednn *products;
    size_t panel_bytes, scratch_bytes; /* multiples of a cache line */
    char *arranged;                    /* W, panel by panel */
    float *bias;
    float *weight; /* NULL once the plan is made */
};

/* An estimate for one thread: 32 multiply-adds a nanosecond, and W read once. */
static double nanoseconds(const attend_cpu_projection *m)
{
    return (double)m->in * (double)m->out * ((double)m->rows / 32 + 0.125);
}

/* Chooses blocks and panels: enough products that no thread waits long for the last one. Rows are divided
   first, down to where a product becomes slow; columns first where a panel of W would not fit in a cache. */
static void cut(attend_cpu_projection *m, bool convolution)
{
    const int threads = attend_pool_worth(m->pool, nanoseconds(m));
    const int64_t wanted = threads > 1 ? 4 * threads : 1;
    int64_t blocks = attend_parts_of(m->rows, MOST_ROWS), panels = 1;
    if (!convolution) {
        m->block = FIXED_ROWS, m->columns = m->out < FIXED_COLUMNS ? m->out : FIXED_COLUMNS;
        m->blocks = attend_parts_of(m->rows, m->block), m->panels = attend_parts_of(m->out, m->columns);
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
    m->block = attend_parts_of(m->rows, blocks),
    m->columns =
        attend_cpu_round_up(attend_parts_of(m->out, panels), 16); /* whole vectors on any processor */
    m->blocks = attend_parts_of(m->rows, m->block), m->panels = attend_parts_of(m->out, m->columns);
}

static size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* A 1×1 convolution of any size, or where there is none a product of fixed size. */
static attend_status describe(attend_cpu_projection *m)
{
    for (int convolution = 1; convolution >= 0 && !m->products; convolution--) {
        cut(m, convolution);
        ATTEND_TRY(attend_onednn_create(
            &(attend_onednn_shape){m->block, m->in, m->columns, m->biased, convolution}, &m->products));
    }
    m->panel_bytes = whole_lines(attend_onednn_panel_bytes(m->products));
    m->scratch_bytes = whole_lines(attend_onednn_scratch_bytes(m->products));
    return ATTEND_OK;
}

/* One weight to its columns of W. */
static void load_weight(const attend_cpu_projection *m, const attend_tensor *weight, float *to)
{
    const int64_t together = weight->stride[1] == 1 ? weight->shape[1] : 1;
    for (int64_t r = 0; r < m->out; r++)
        for (int64_t c = 0; c < weight->shape[1]; c += together)
            attend_cpu_load_row(to + r * m->in + c, weight->data,
                                r * weight->stride[0] + c * weight->stride[1], together, weight->dtype);
}

/* Allocates memory for describe()'s sizes; converts W, row by row, and the bias to floats. Padding of the
   last panel is 0. */
static attend_status reserve(attend_cpu_projection *m, const attend_tensor *weights, int count,
                             const attend_tensor *bias, size_t *bytes)
{
    const int64_t padded = m->panels * m->columns;
    size_t for_now = 0;
    m->weight = attend_cpu_allocate(padded, (size_t)m->in * sizeof(float), &for_now);
    m->arranged = attend_cpu_allocate(m->panels, m->panel_bytes, bytes);
    m->bias = attend_cpu_allocate(padded, sizeof(float), bytes);
    if (!m->weight || !m->arranged || !m->bias)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a projection's weights");
    memset(m->weight + m->out * m->in, 0, (size_t)((padded - m->out) * m->in) * sizeof(float));
    memset(m->bias, 0, (size_t)padded * sizeof(float));
    float *to = m->weight;
    for (int i = 0; i < count; to += weights[i++].shape[1]) load_weight(m, &weights[i], to);
    if (m->biased) attend_cpu_load_row(m->bias, bias->data, 0, m->out, bias->dtype);
    return ATTEND_OK;
}

attend_status attend_cpu_projection_create(const attend_tensor *weights, int count, const attend_tensor *bias,
                                           int64_t rows, attend_pool *pool, size_t *bytes,
                                           attend_cpu_projection **projection)
{
    attend_cpu_projection *m = *projection = calloc(1, sizeof *m);
    if (!m) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a projection");
    m->pool = pool;
    m->rows = rows, m->out = weights->shape[0], m->biased = bias->data != NULL;
    for (int i = 0; i < count; i++) m->in += weights[i].shape[1];
    if (rows == 0) return ATTEND_OK; /* there is nothing to multiply */
    ATTEND_TRY(describe(m));
    ATTEND_TRY(reserve(m, weights, count, bias, bytes));
    ATTEND_TRY(attend_onednn_prepare(m->products, attend_pool_threads(pool), m->panels, m->weight,
                                     m->arranged, m->panel_bytes, m->bias));
    free(m->weight), m->weight = NULL; /* `arranged` replaces it */
    return ATTEND_OK;
}

/* ---- runs ---- */

typedef struct multiplying {
    const attend_cpu_projection *m;
    const attend_tensor *x, *y;
    bool x_plain, y_plain; /* rows of floats without gaps */
    char *scratch;
    size_t scratch_bytes; /* a thread */
    attend_progress_tracker *tracker;
    int status; /* a status of any thread that is not 0 */
} multiplying;

static bool is_plain(const attend_tensor *t)
{
    const int64_t *n = t->shape, *s = t->stride;
    return t->dtype == ATTEND_F32 && (n[2] == 1 || s[2] == n[3]) && (n[1] == 1 || s[1] == n[2] * n[3]) &&
           (n[0] == 1 || s[0] == n[1] * n[2] * n[3]);
}

void attend_cpu_copy_columns(const attend_tensor *t, int64_t r, int64_t first, int64_t count, float *floats,
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

/* Indices go panel by panel, so that a panel stays in a cache for all rows. */
static void multiply(void *job, int64_t index, int thread)
{
    multiplying *of = job;
    const attend_cpu_projection *m = of->m;
    if (!attend_progress_continues(of->tracker) || __atomic_load_n(&of->status, __ATOMIC_RELAXED) != 0)
        return;
    const int64_t first = index % m->blocks * m->block, column = index / m->blocks * m->columns;
    const int64_t rows = m->rows - first < m->block ? m->rows - first : m->block;
    const int64_t columns = m->out - column < m->columns ? m->out - column : m->columns;
    float *x = (float *)(of->scratch + (size_t)thread * of->scratch_bytes),
          *y = x + attend_cpu_round_up(m->block * m->in, 16);
    char *scratch = (char *)(y + attend_cpu_round_up(m->block * m->columns, 16));
    float *x_block = x, *y_block = y;
    if (of->x_plain && rows == m->block) {
        x_block = (float *)of->x->data + first * m->in;
    } else {
        for (int64_t r = 0; r < rows; r++)
            attend_cpu_copy_columns(of->x, first + r, 0, m->in, x + r * m->in, false);
        memset(x + rows * m->in, 0, (size_t)((m->block - rows) * m->in) * sizeof *x);
    }
    const bool in_place =
        of->y_plain && rows == m->block && columns == m->columns && (m->columns == m->out || rows == 1);
    if (in_place) y_block = (float *)of->y->data + first * m->out + column;
    const int status =
        attend_onednn_multiply(m->products, thread, index / m->blocks, x_block, y_block, scratch);
    if (status) __atomic_store_n(&of->status, status, __ATOMIC_RELAXED);
    for (int64_t r = 0; r < rows && !in_place && !status; r++)
        attend_cpu_copy_columns(of->y, first + r, column, columns, y + r * m->columns, true);
    attend_progress_count(of->tracker, 1, thread == 0);
}

size_t attend_cpu_projection_scratch(const attend_cpu_projection *m)
{
    return (size_t)(attend_cpu_round_up(m->block * m->in, 16) +
                    attend_cpu_round_up(m->block * m->columns, 16)) *
               sizeof(float) +
           m->scratch_bytes;
}

attend_status attend_cpu_project(const attend_cpu_projection *m, const attend_tensor *x,
                                 const attend_tensor *y, char *scratch, double work,
                                 attend_progress_tracker *tracker)
{
    multiplying of = {m,       x, y, is_plain(x), is_plain(y), scratch, attend_cpu_projection_scratch(m),
                      tracker, 0};
    attend_progress_stage(tracker, work, m->blocks * m->panels);
    attend_pool_run(m->pool, m->blocks * m->panels, nanoseconds(m), multiply, &of);
    if (of.status) return attend_onednn_failed(of.status, "compute");
    return attend_progress_status(tracker);
}

void attend_cpu_projection_destroy(attend_cpu_projection *m)
{
    if (!m) return;
    attend_onednn_destroy(m->products);
    free(m->arranged), free(m->bias), free(m->weight);
    free(m);
}
