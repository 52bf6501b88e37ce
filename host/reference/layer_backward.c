/* Gradients of a whole layer by the chain rule, in fp64. With y = W·x + b: dx = Wᵀ·dy, dW = Σ dy·xᵀ and
   db = Σ dy over all tokens. A token whose dy is 0 adds nothing, even if its x is NaN. */
#include "reference/reference.h"
#include "core/arguments.h"
#include "core/problem.h"
#include "shared/positions.h"
#include "shared/rope.h"

#include <stdlib.h>
#include <string.h>

typedef struct layer_run {
    const attend_problem *p;
    const attend_layer_weights *w;
    const attend_layer_args *args;
    const attend_layer_gradients *wanted;
    attend_reference_layer_gradients *to;
    attend_reference_layer forward;
    attend_row_positions row_positions;
    double *dheads;
    double *y[2];                                   /* Q and K as they were projected, before QK-norm */
    attend_reference_gradient of[ATTEND_GRADIENTS]; /* of Q, K and V, then as they were projected */
    bool rounded;
    int threads;
    attend_progress_tracker *tracker;
} layer_run;

static int64_t rows_of(const layer_run *r, int projection)
{
    const bool of_keys = projection == ATTEND_WK || projection == ATTEND_WV;
    return attend_tensor_batch(r->p) * (of_keys ? attend_rows_projected(r->p) : attend_rows_q(r->p));
}

static double *zeros(int64_t count) { return calloc((size_t)count + 1, sizeof(double)); }

static void round_stored(const layer_run *r, double *x, int64_t count)
{
    for (int64_t i = 0; i < count && r->rounded; i++) x[i] = attend_round(x[i], r->p->dtype);
}

/* [batch, rows, width] of a projection's tokens. */
static attend_tensor tokens_of(const layer_run *r, int projection, double *data, int64_t width)
{
    const int64_t batch = attend_tensor_batch(r->p), rows = batch ? rows_of(r, projection) / batch : 0;
    attend_tensor t = attend_tensor_3d(data, ATTEND_REFERENCE_F64, batch, rows, width);
    t.stride[0] = rows * width, t.stride[1] = width, t.stride[2] = 1;
    return t;
}

/* dx += Wᵀ·dy for all tokens. */
static bool project_back(const layer_run *r, int projection, const attend_tensor *dy, double *dx)
{
    const attend_tensor w = attend_tensor_transposed(&(&r->w->wq)[projection]), none = {0};
    const int64_t count = rows_of(r, projection) * w.shape[0];
    double *own = zeros(count);
    const attend_reference_projection to = {.exact = own};
    attend_progress_stage(r->tracker, r->tracker->work.projections[projection], rows_of(r, projection));
    const bool complete =
        own && attend_reference_project(dy, &w, &none, r->p->dtype, r->threads, r->tracker, &to);
    for (int64_t i = 0; i < count && complete; i++) dx[i] += own[i];
    free(own);
    return complete;
}

typedef struct products_job {
    const attend_tensor *dy, *x;
    double *dw, *db; /* NULL: not wanted */
} products_job;

static double at_token(const attend_tensor *t, int64_t token, int64_t c)
{
    return attend_load(t, token / t->shape[1] * t->stride[0] + token % t->shape[1] * t->stride[1] +
                              c * t->stride[2]);
}

static void sum_row(void *job, int64_t row, int thread, double *memory)
{
    const products_job *j = job;
    const int64_t in = j->x->shape[2];
    (void)thread, (void)memory;
    for (int64_t t = 0; t < j->dy->shape[0] * j->dy->shape[1]; t++) {
        const double g = at_token(j->dy, t, row);
        if (g == 0) continue;
        if (j->db) j->db[row] += g;
        for (int64_t c = 0; c < in && j->dw; c++) j->dw[row * in + c] += g * at_token(j->x, t, c);
    }
}

/* The gradients of a projection's weight and bias. */
static bool sum_products(const layer_run *r, int projection, const attend_tensor *dy, const attend_tensor *x)
{
    const int64_t out = dy->shape[2], tokens = rows_of(r, projection);
    products_job job = {dy, x, r->to->weights[projection], r->to->weights[ATTEND_BQ + projection]};
    if (!job.dw && !job.db) return true;
    return attend_reference_spread(r->threads, out, 4.0 * (double)tokens * (double)out * (double)x->shape[2],
                                   0, sum_row, &job);
}

/* From the gradients of Q or K as attention read them to those of what was projected. */
static void rope_back(const layer_run *r, int which)
{
    const attend_problem *p = r->p;
    const attend_reference_rotation rope = attend_reference_rotation_of(p, false);
    const int64_t heads = which ? p->num_kv_heads : p->num_heads, d = p->head_dim, rows = attend_rows_q(p);
    double *dy = r->of[which].exact;
    if (!attend_has_rope_or_norm(p) || !dy) return;
    for (int64_t n = 0; n < attend_tensor_batch(p) * rows; n++)
        for (int64_t at = n * heads * d; at < (n + 1) * heads * d; at += d) {
            bool any = false;
            for (int64_t c = at; c < at + d; c++) any |= dy[c] != 0;
            if (any)
                attend_reference_rope_backward(
                    &rope, d, &(&r->w->q_norm)[which],
                    attend_row_position(&r->row_positions, n / rows, n % rows), r->y[which] + at, dy + at,
                    r->to->weights[ATTEND_Q_NORM + which], r->to->weights[ATTEND_Q_NORM_BIAS + which]);
        }
    round_stored(r, dy, attend_tensor_batch(p) * rows * heads * d);
}

/* Q and K as they were projected. */
static bool project_again(layer_run *r, const attend_tensor *x)
{
    for (int i = 0; i < 2 && attend_has_rope_or_norm(r->p); i++) {
        const attend_tensor *w = &(&r->w->wq)[i];
        r->y[i] = zeros(rows_of(r, i) * w->shape[0]);
        const attend_reference_projection to = {.exact = r->y[i]};
        attend_progress_stage(r->tracker, 0, 1);
        if (!r->y[i] ||
            !attend_reference_project(x, w, &(&r->w->bq)[i], r->p->dtype, r->threads, r->tracker, &to))
            return false;
        round_stored(r, r->y[i], rows_of(r, i) * w->shape[0]);
    }
    return true;
}

static bool attention_back(layer_run *r, const attend_layer_needs *needs)
{
    const attend_problem *p = r->p;
    const int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p);
    const attend_attention_args args = {
        .q = r->forward.q, .k = r->forward.k, .v = r->forward.v, .features = r->args->features};
    attend_gradients g = {.dout =
                              attend_reference_view(r->dheads, batch, rows_q, p->num_heads, p->head_dim_v),
                          .dlse = r->wanted->dlse};
    memcpy(g.of, r->wanted->of, sizeof g.of);
    g.of[ATTEND_GRADIENT_Q].data = needs->q ? r : NULL;
    g.of[ATTEND_GRADIENT_K].data = needs->k ? r : NULL;
    g.of[ATTEND_GRADIENT_V].data = needs->v ? r : NULL;
    if (!attend_reference_backward(p, &args, &g, false, r->threads, r->tracker, r->of)) return false;
    for (int i = 0; i <= ATTEND_GRADIENT_V; i++)
        if (r->of[i].exact)
            round_stored(r, r->of[i].exact,
                         rows_of(r, i) * (i == 0 ? p->num_heads : p->num_kv_heads) *
                             (i == ATTEND_GRADIENT_V ? p->head_dim_v : p->head_dim));
    for (int i = ATTEND_GRADIENT_BIAS; i < ATTEND_GRADIENTS; i++)
        r->to->of[i] = r->of[i], r->of[i] = (attend_reference_gradient){0};
    return true;
}

/* Every row of x has one of the table, to which its gradient goes. */
static void add_to_table(const layer_run *r, const double *dx)
{
    const int64_t hidden = r->p->hidden_size, rows = attend_rows_q(r->p);
    double *table = r->to->weights[ATTEND_POSITION_TABLE];
    for (int64_t n = 0; table && n < attend_tensor_batch(r->p) * rows; n++) {
        if (!attend_is_there(&r->row_positions, n / rows, n % rows)) continue;
        const int64_t at = attend_row_position(&r->row_positions, n / rows, n % rows);
        for (int64_t c = 0; c < hidden; c++) table[at * hidden + c] += dx[n * hidden + c];
    }
}

static bool allocate(layer_run *r)
{
    const attend_problem *p = r->p;
    const attend_layer_gradients *g = r->wanted;
    bool complete = true;
    if (g->dx.data || g->weights.position_table.data)
        complete = (r->to->dx = zeros(rows_of(r, ATTEND_WQ) * p->hidden_size)) && complete;
    if (g->dcontext.data)
        complete = (r->to->dcontext = zeros(rows_of(r, ATTEND_WK) * p->context_hidden_size)) && complete;
    for (int i = 0; i < ATTEND_LAYER_WEIGHTS; i++)
        if ((&g->weights.wq)[i].data)
            complete = (r->to->weights[i] = zeros(attend_tensor_elements(&(&g->weights.wq)[i]))) && complete;
    r->dheads = zeros(rows_of(r, ATTEND_WO) * p->num_heads * p->head_dim_v);
    return complete && r->dheads;
}

static bool run(layer_run *r)
{
    const attend_problem *p = r->p;
    const bool cross = attend_problem_is_cross(p);
    const attend_layer_needs needs = attend_layer_needs_of(p, r->wanted);
    if (!attend_reference_run_layer(p, r->w, r->args,
                                    r->rounded ? ATTEND_REFERENCE_STORED : ATTEND_REFERENCE_EXACT, r->threads,
                                    r->tracker, &r->forward))
        return false;
    const attend_tensor *x = p->absolute ? &r->forward.x_with_positions : &r->args->x,
                        *source = cross ? &r->args->context : x;
    const attend_tensor heads = tokens_of(r, ATTEND_WO, r->forward.heads.data, p->num_heads * p->head_dim_v);
    if (!sum_products(r, ATTEND_WO, &r->wanted->dout, &heads)) return false;
    if (!needs.attention || !attend_progress_continues(r->tracker)) return true;
    if (!project_back(r, ATTEND_WO, &r->wanted->dout, r->dheads)) return false;
    round_stored(r, r->dheads, rows_of(r, ATTEND_WO) * heads.shape[2]);
    if (!project_again(r, x) || !attention_back(r, &needs)) return false;
    rope_back(r, 0), rope_back(r, 1);
    for (int i = ATTEND_WQ; i <= ATTEND_WV && attend_progress_continues(r->tracker); i++) {
        double *dx = i == ATTEND_WQ || !cross ? r->to->dx : r->to->dcontext;
        if (!r->of[i].exact) continue;
        const attend_tensor dy = tokens_of(r, i, r->of[i].exact, (&r->w->wq)[i].shape[0]);
        if (!sum_products(r, i, &dy, i == ATTEND_WQ ? x : source)) return false;
        if (dx && !project_back(r, i, &dy, dx)) return false;
    }
    if (r->to->dx) add_to_table(r, r->to->dx);
    return true;
}

bool attend_reference_layer_backward(const attend_problem *p, const attend_layer_weights *w,
                                     const attend_layer_args *args, const attend_layer_gradients *wanted,
                                     attend_reference_rounding rounding, int threads,
                                     attend_progress_tracker *tracker, attend_reference_layer_gradients *to)
{
    attend_layer_args forward = *args;
    forward.lse = (attend_tensor){0}; /* an input here */
    layer_run r = {.p = p,
                   .w = w,
                   .args = &forward,
                   .wanted = wanted,
                   .to = to,
                   .row_positions = attend_row_positions_of(p, args->features, NULL),
                   .rounded = rounding != ATTEND_REFERENCE_EXACT,
                   .threads = threads,
                   .tracker = tracker};
    *to = (attend_reference_layer_gradients){0};
    const bool complete = allocate(&r) && run(&r);
    attend_reference_free_layer(&r.forward);
    attend_reference_backward_free(r.of);
    free(r.dheads), free(r.y[0]), free(r.y[1]);
    return complete;
}

void attend_reference_layer_backward_free(attend_reference_layer_gradients *g)
{
    free(g->dx), free(g->dcontext);
    for (int i = 0; i < ATTEND_LAYER_WEIGHTS; i++) free(g->weights[i]);
    attend_reference_backward_free(g->of);
}
