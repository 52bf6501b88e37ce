/* Gradients of a projection's weight and bias: dW = Σ dy·xᵀ and db = Σ dy over all tokens. A task makes one
   tile of dW, all tokens in their order, so that bits do not depend on the threads; oneDNN multiplies, on one
   thread. A token whose dy is 0 adds nothing: its x is not read, which may be NaN. */
#include "cpu/cpu.h"
#include "cpu/onednn.h"

#include <string.h>

enum { TOKENS = 256, ROWS = 192, COLUMNS = 192 };

/* A task's memory. */
typedef struct tile {
    float dy[TOKENS * ROWS], x[TOKENS * COLUMNS], dw[ROWS * COLUMNS];
    double db[ROWS];
} tile;

typedef struct summing {
    const attend_cpu_weight_gradient *g;
    int64_t tokens, in, out, panels; /* panels: of COLUMNS of dW */
    char *scratch;
    size_t scratch_bytes; /* a thread */
    attend_progress_tracker *tracker;
    int status; /* a status of any thread that is not 0 */
} summing;

size_t attend_cpu_weight_gradient_scratch(void) { return sizeof(tile); }

static bool load(const attend_tensor *t, int64_t token, int64_t first, int64_t count, float *to)
{
    bool any = false;
    attend_cpu_copy_columns(t, token, first, count, to, false);
    for (int64_t c = 0; c < count; c++) any |= to[c] != 0;
    return any;
}

/* Adds tokens [first, first + count). */
static int add_tokens(const summing *of, tile *t, int64_t first, int64_t count, int64_t row, int64_t rows,
                      int64_t column, int64_t columns)
{
    for (int64_t i = 0; i < count; i++) {
        float *dy = t->dy + i * ROWS, *x = t->x + i * COLUMNS;
        if (load(of->g->dy, first + i, row, rows, dy))
            attend_cpu_copy_columns(of->g->x, first + i, column, columns, x, false);
        else
            memset(x, 0, (size_t)columns * sizeof *x);
        for (int64_t r = 0; r < rows; r++) t->db[r] += dy[r];
    }
    attend_onednn_sum sum = {.rows = rows,
                             .columns = columns,
                             .count = count,
                             .a = t->dy,
                             .b = t->x,
                             .c = t->dw,
                             .a_line = ROWS,
                             .b_line = COLUMNS,
                             .c_line = COLUMNS};
    return columns > 0 ? attend_onednn_add_products(&sum) : 0;
}

static float *element(const attend_tensor *t, int64_t r, int64_t c)
{
    return (float *)t->data + r * t->stride[0] + c * t->stride[1];
}

static void store(const summing *of, const tile *t, int64_t row, int64_t rows, int64_t column,
                  int64_t columns)
{
    const attend_cpu_weight_gradient *g = of->g;
    for (int64_t r = 0; r < rows; r++) {
        float *db = column == 0 && g->db.data ? (float *)g->db.data + (row + r) * g->db.stride[0] : NULL;
        if (db) *db = (float)((g->accumulate ? (double)*db : 0) + t->db[r]);
        for (int64_t c = 0; c < columns; c++) {
            float *dw = element(&g->dw, row + r, column + c);
            *dw = (g->accumulate ? *dw : 0) + t->dw[r * COLUMNS + c];
        }
    }
}

static void sum_tile(void *job, int64_t index, int thread)
{
    summing *of = job;
    tile *t = (tile *)(of->scratch + (size_t)thread * of->scratch_bytes);
    const int64_t row = index / of->panels * ROWS, column = index % of->panels * COLUMNS,
                  rows = attend_least(of->out - row, ROWS),
                  columns = of->g->dw.data ? attend_least(of->in - column, COLUMNS) : 0;
    int status = __atomic_load_n(&of->status, __ATOMIC_RELAXED);
    memset(t->dw, 0, sizeof t->dw), memset(t->db, 0, sizeof t->db);
    for (int64_t first = 0; first < of->tokens && !status; first += TOKENS) {
        if (!attend_progress_continues(of->tracker)) return;
        status =
            add_tokens(of, t, first, attend_least(of->tokens - first, TOKENS), row, rows, column, columns);
    }
    if (status) {
        __atomic_store_n(&of->status, status, __ATOMIC_RELAXED);
        return;
    }
    store(of, t, row, rows, column, columns);
    attend_progress_count(of->tracker, 1, thread == 0);
}

attend_status attend_cpu_sum_weight(attend_pool *pool, const attend_cpu_weight_gradient *g, char *scratch,
                                    size_t scratch_bytes, double work, attend_progress_tracker *tracker)
{
    const int64_t *dy = g->dy->shape, *x = g->x->shape;
    summing of = {.g = g,
                  .tokens = dy[0] * dy[1],
                  .in = x[2] * x[3],
                  .out = dy[2] * dy[3],
                  .panels = 1,
                  .scratch = scratch,
                  .scratch_bytes = scratch_bytes,
                  .tracker = tracker};
    if (g->dw.data && of.in > COLUMNS) of.panels = attend_parts_of(of.in, COLUMNS);
    const int64_t tasks = attend_parts_of(of.out, ROWS) * of.panels;
    if (!g->dw.data && !g->db.data) return ATTEND_OK;
    attend_progress_stage(tracker, work, tasks);
    attend_pool_run(pool, tasks, (double)of.tokens * (double)of.in * (double)of.out / 24, sum_tile, &of);
    if (of.status) return attend_onednn_failed(of.status, "sum the gradient of");
    return attend_progress_status(tracker);
}
