/* Gradients of a layer on the CPU: what the forward run did not leave is computed again, then the stages are
   gone through backwards. The gradients of Q, K and V lie side by side in fp32, so that one product makes of
   them that of x. */
#include "core/layer_arguments.h"
#include "cpu/cpu.h"
#include "shared/rope.h"

#include <stdlib.h>

/* ---- memory, reserved with the plan ---- */

/* Columns of a token's gradients of Q, K and V. */
typedef struct widths {
    int64_t q, k, v;
} widths;

static widths widths_of(const attend_problem *p)
{
    return (widths){p->num_heads * p->head_dim, p->num_kv_heads * p->head_dim,
                    p->num_kv_heads * p->head_dim_v};
}

attend_status attend_cpu_layer_backward_create(attend_plan *plan)
{
    attend_cpu_plan *cpu = plan->state;
    const attend_problem *p = &plan->problem;
    attend_cpu_layer_memory *m = &cpu->back;
    size_t *bytes = &plan->memory.host_bytes;
    const size_t element = attend_dtype_bytes(p->dtype);
    const bool cross = attend_problem_is_cross(p), norm = p->qk_norm != ATTEND_QK_NORM_NONE;
    const widths w = widths_of(p);
    const int64_t q = attend_tensor_batch(p) * attend_rows_q(p),
                  k = attend_tensor_batch(p) * attend_rows_projected(p);
    const int64_t of_x = attend_cpu_times(q, p->hidden_size),
                  of_context = attend_cpu_times(k, p->context_hidden_size);
    m->dheads = attend_cpu_allocate(attend_cpu_times(q, p->num_heads * p->head_dim_v), element, bytes);
    m->dy = attend_cpu_allocate(attend_cpu_times(q, w.q + (cross ? 0 : w.k + w.v)), sizeof(float), bytes);
    m->dy_kv = attend_cpu_allocate(cross ? attend_cpu_times(k, w.k + w.v) : 0, sizeof(float), bytes);
    m->dx = attend_cpu_allocate(attend_most(of_x, of_context), sizeof(float), bytes);
    m->lse = attend_cpu_allocate(attend_cpu_times(q, p->num_heads), sizeof(float), bytes);
    m->y_q = attend_cpu_allocate(norm ? attend_cpu_times(q, w.q) : 0, element, bytes);
    m->y_k = attend_cpu_allocate(norm ? attend_cpu_times(k, w.k) : 0, element, bytes);
    m->norm_sums = attend_cpu_allocate(attend_cpu_rope_backward_sums(p), sizeof(double), bytes);
    if (m->dheads && m->dy && m->dy_kv && m->dx && m->lse && m->y_q && m->y_k && m->norm_sums)
        return ATTEND_OK;
    return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the layer's gradients of Q, K, V, heads and x");
}

void attend_cpu_layer_backward_destroy(attend_cpu_plan *cpu)
{
    attend_cpu_layer_memory *m = &cpu->back;
    free(m->dheads), free(m->dy), free(m->dy_kv), free(m->dx), free(m->lse), free(m->y_q), free(m->y_k),
        free(m->norm_sums);
}

/* ---- a run ---- */

typedef struct layer_run {
    attend_plan *plan;
    attend_cpu_plan *cpu;
    const attend_layer_args *args;
    const attend_layer_gradients *g;
    attend_row_positions row_positions;
    attend_rope rope;
    attend_tensor x, source; /* what Q, and K and V, are projected from, with one head */
    attend_tensor y_q, y_k;  /* data NULL without qk_norm */
    attend_attention_args attention;
    attend_tensor dy[3]; /* f32, of Q, K and V */
} layer_run;

static attend_status project(const layer_run *r, int index, const attend_tensor *x, const attend_tensor *y)
{
    static const int forward[] = {ATTEND_CPU_O, ATTEND_CPU_Q, ATTEND_CPU_K};
    attend_progress_tracker *tracker = r->cpu->context->tracker;
    const int like = index < ATTEND_CPU_BACK_TO_HEADS ? index : forward[index - ATTEND_CPU_BACK_TO_HEADS];
    return attend_cpu_project(r->cpu->projections[index], x, y, r->cpu->projection_scratch,
                              tracker->work.projections[like], tracker);
}

/* Q, K and V, unless they were given; and Q and K before QK-norm. */
static attend_status project_inputs(layer_run *r)
{
    const attend_problem *p = &r->plan->problem;
    attend_attention_args *a = &r->attention;
    const bool norm = p->qk_norm != ATTEND_QK_NORM_NONE, given = a->q.data;
    const int64_t rows_q = attend_rows_q(p), rows_k = attend_rows_projected(p);
    attend_cpu_plan *cpu = r->cpu;
    if (!given) {
        a->q = attend_cpu_layer_heads(p, cpu->q, rows_q, p->num_heads, p->head_dim);
        a->k = attend_cpu_layer_heads(p, cpu->k, rows_k, p->num_kv_heads, p->head_dim);
        a->v = attend_cpu_layer_heads(p, cpu->v, rows_k, p->num_kv_heads, p->head_dim_v);
        ATTEND_TRY(project(r, ATTEND_CPU_V, &r->source, &a->v));
    }
    if (norm) {
        r->y_q = attend_cpu_layer_heads(p, cpu->back.y_q, rows_q, p->num_heads, p->head_dim);
        r->y_k = attend_cpu_layer_heads(p, cpu->back.y_k, rows_k, p->num_kv_heads, p->head_dim);
    }
    if (norm || !given) {
        ATTEND_TRY(project(r, ATTEND_CPU_Q, &r->x, norm ? &r->y_q : &a->q));
        ATTEND_TRY(project(r, ATTEND_CPU_K, &r->source, norm ? &r->y_k : &a->k));
    }
    const attend_layer_weights *w = &r->plan->weights;
    const attend_rope_tensor tensors[] = {{norm ? r->y_q : a->q, a->q, w->q_norm, w->q_norm_bias},
                                          {norm ? r->y_k : a->k, a->k, w->k_norm, w->k_norm_bias}};
    if (!given && attend_has_rope_or_norm(p))
        attend_cpu_rope(cpu->context->pool, &r->rope, &r->row_positions, tensors, 2, NULL, cpu->rope_scratch);
    return ATTEND_OK;
}

/* The heads' output and the LSE, unless they were given; not wanted: where they would be. */
static attend_status attend_again(layer_run *r, bool wanted)
{
    const attend_problem *p = &r->plan->problem;
    const attend_key_part all = attend_all_keys(p);
    attend_attention_args *a = &r->attention;
    if (a->out.data) return ATTEND_OK;
    a->out = attend_cpu_layer_heads(p, r->cpu->heads, attend_rows_q(p), p->num_heads, p->head_dim_v);
    if (!wanted) return ATTEND_OK;
    a->lse = attend_tensor_row_major(attend_tensor_3d(r->cpu->back.lse, ATTEND_F32, attend_tensor_batch(p),
                                                      p->num_heads, attend_rows_q(p)));
    return attend_cpu_attention(r->cpu, a, &all);
}

/* dW and db of a projection: 0 to 3 of Q, K, V and the output. */
static attend_status sum_weight(const layer_run *r, int index, const attend_tensor *dy,
                                const attend_tensor *x)
{
    attend_progress_tracker *tracker = r->cpu->context->tracker;
    const attend_cpu_weight_gradient g = {.dy = dy,
                                          .x = x,
                                          .dw = (&r->g->weights.wq)[index],
                                          .db = (&r->g->weights.bq)[index],
                                          .accumulate = r->g->accumulate};
    return attend_cpu_sum_weight(r->cpu->context->pool, &g, r->cpu->projection_scratch,
                                 r->cpu->projection_scratch_bytes, tracker->work.projections[index], tracker);
}

/* Columns of [batch, rows, width] as heads. */
static attend_tensor columns_of(const attend_problem *p, float *data, int64_t rows, int64_t width,
                                int64_t first, int64_t heads, int64_t dim)
{
    attend_tensor t = attend_tensor_4d(data + first, ATTEND_F32, attend_tensor_batch(p), rows, heads, dim);
    memcpy(t.stride, (int64_t[]){rows * width, width, dim, 1}, sizeof t.stride);
    return t;
}

/* All columns of a token as one head. */
static attend_tensor rows_of(const attend_problem *p, float *data, int64_t rows, int64_t width)
{
    return columns_of(p, data, rows, width, 0, 1, width);
}

/* The gradients of Q, K and V as attention read them, and those of features. */
static attend_status attention_back(layer_run *r, const attend_layer_needs *needs)
{
    const attend_problem *p = &r->plan->problem;
    const attend_cpu_layer_memory *m = &r->cpu->back;
    const bool cross = attend_problem_is_cross(p);
    const widths w = widths_of(p);
    const int64_t rows_q = attend_rows_q(p), rows_k = attend_rows_projected(p), wide = w.q + w.k + w.v,
                  batch = attend_tensor_batch(p);
    float *kv = cross ? m->dy_kv : m->dy + w.q;
    const int64_t kv_width = cross ? w.k + w.v : wide, q_width = cross ? w.q : wide;
    attend_gradients g = {.dlse = r->g->dlse, .accumulate = r->g->accumulate};
    const attend_tensor dout = attend_tensor_one_head(&r->g->dout);
    g.dout = attend_cpu_layer_heads(p, m->dheads, rows_q, p->num_heads, p->head_dim_v);
    memcpy(g.of, r->g->of, sizeof g.of);
    r->dy[0] = columns_of(p, m->dy, rows_q, q_width, 0, p->num_heads, p->head_dim);
    r->dy[1] = columns_of(p, kv, rows_k, kv_width, 0, p->num_kv_heads, p->head_dim);
    r->dy[2] = columns_of(p, kv, rows_k, kv_width, w.k, p->num_kv_heads, p->head_dim_v);
    if (needs->q) g.of[ATTEND_GRADIENT_Q] = r->dy[0];
    if (needs->k) g.of[ATTEND_GRADIENT_K] = r->dy[1];
    if (needs->v) g.of[ATTEND_GRADIENT_V] = r->dy[2];
    if (g.accumulate) { /* that is said of the callers' tensors */
        memset(m->dy, 0, (size_t)(batch * rows_q * q_width) * sizeof(float));
        if (cross) memset(m->dy_kv, 0, (size_t)(batch * rows_k * kv_width) * sizeof(float));
    }
    ATTEND_TRY(project(r, ATTEND_CPU_BACK_TO_HEADS, &dout, &g.dout));
    return attend_cpu_backward(r->plan, &r->attention, &g, NULL);
}

static void rope_back(const layer_run *r, int which)
{
    const attend_plan *plan = r->plan;
    const attend_layer_weights *g = &r->g->weights;
    const attend_cpu_rope_gradient gradient = {.dy = r->dy[which],
                                               .y = which ? r->y_k : r->y_q,
                                               .weight = (&plan->weights.q_norm)[which],
                                               .dweight = (&g->q_norm)[which],
                                               .dbias = (&g->q_norm_bias)[which],
                                               .accumulate = r->g->accumulate};
    if (attend_has_rope_or_norm(&plan->problem))
        attend_cpu_rope_backward(r->cpu->context->pool, &r->rope, &r->row_positions, &gradient,
                                 r->cpu->rope_scratch, r->cpu->back.norm_sums);
}

/* ---- x and context ---- */

typedef struct leaving {
    const float *from; /* [tokens][width] */
    const attend_tensor *to;
    bool accumulate;
} leaving;

enum { PART = 1024 };

static void leave_row(void *job, int64_t n, int thread)
{
    const leaving *l = job;
    const int64_t width = l->to->shape[2], rows = l->to->shape[1];
    (void)thread;
    for (int64_t c = 0; c < width; c += PART) {
        const int64_t count = attend_least(width - c, PART),
                      at = n / rows * l->to->stride[0] + n % rows * l->to->stride[1] + c;
        float sum[PART];
        memset(sum, 0, sizeof sum);
        if (l->accumulate) attend_cpu_load_row(sum, l->to->data, at, count, l->to->dtype);
        for (int64_t i = 0; i < count; i++) sum[i] += l->from[n * width + c + i];
        attend_cpu_store_row(l->to->data, at, sum, count, l->to->dtype);
    }
}

typedef struct table_job {
    const layer_run *r;
    const float *dx;
} table_job;

enum { TABLE_COLUMNS = 64 };

/* Some columns of the table of learned positions: what every token's x adds. */
static void sum_table(void *job, int64_t index, int thread)
{
    const table_job *j = job;
    const layer_run *r = j->r;
    const attend_tensor *table = &r->g->weights.position_table;
    const int64_t rows = r->x.shape[1], hidden = table->shape[1], first = index * TABLE_COLUMNS,
                  count = attend_least(hidden - first, TABLE_COLUMNS);
    (void)thread;
    for (int64_t i = 0; i < table->shape[0] && !r->g->accumulate; i++)
        memset((float *)table->data + i * table->stride[0] + first, 0, (size_t)count * sizeof(float));
    for (int64_t n = 0; n < r->x.shape[0] * rows; n++) {
        if (!attend_is_there(&r->row_positions, n / rows, n % rows)) continue;
        float *to = (float *)table->data + first +
                    attend_row_position(&r->row_positions, n / rows, n % rows) * table->stride[0];
        for (int64_t c = 0; c < count; c++) to[c] += j->dx[n * hidden + first + c];
    }
}

/* One product makes the gradient of x, or of context. */
static attend_status inputs_back(const layer_run *r, int index, const attend_tensor *to)
{
    const attend_problem *p = &r->plan->problem;
    const widths w = widths_of(p);
    attend_pool *pool = r->cpu->context->pool;
    float *dx = r->cpu->back.dx;
    const bool cross = attend_problem_is_cross(p), of_x = index == ATTEND_CPU_BACK_TO_X;
    const int64_t rows = of_x ? attend_rows_q(p) : attend_rows_projected(p),
                  hidden = of_x ? p->hidden_size : p->context_hidden_size,
                  tokens = attend_tensor_batch(p) * rows;
    const attend_tensor dy = of_x ? rows_of(p, r->cpu->back.dy, rows, w.q + (cross ? 0 : w.k + w.v))
                                  : rows_of(p, r->cpu->back.dy_kv, rows, w.k + w.v),
                        out = rows_of(p, dx, rows, hidden);
    ATTEND_TRY(project(r, index, &dy, &out));
    leaving l = {dx, to, r->g->accumulate};
    if (to->data) attend_pool_run(pool, tokens, (double)(tokens * hidden), leave_row, &l);
    table_job table = {r, dx};
    if (of_x && r->g->weights.position_table.data)
        attend_pool_run(pool, attend_parts_of(hidden, TABLE_COLUMNS), (double)(tokens * hidden), sum_table,
                        &table);
    return ATTEND_OK;
}

static attend_status run(layer_run *r)
{
    const attend_problem *p = &r->plan->problem;
    const attend_layer_gradients *g = r->g;
    const attend_layer_needs needs = attend_layer_needs_of(p, g);
    const attend_tensor dout = attend_tensor_one_head(&g->dout);
    const bool heads = needs.attention || g->weights.wo.data; /* else they are not read */
    if (needs.attention || (heads && !r->attention.out.data)) ATTEND_TRY(project_inputs(r));
    ATTEND_TRY(attend_again(r, heads));
    ATTEND_TRY(sum_weight(r, ATTEND_CPU_O, &dout, &r->attention.out));
    if (!needs.attention) return ATTEND_OK;
    ATTEND_TRY(attention_back(r, &needs));
    if (needs.q) rope_back(r, 0);
    if (needs.k) rope_back(r, 1);
    if (needs.q) ATTEND_TRY(sum_weight(r, ATTEND_CPU_Q, &r->dy[0], &r->x));
    if (needs.k) ATTEND_TRY(sum_weight(r, ATTEND_CPU_K, &r->dy[1], &r->source));
    if (needs.v) ATTEND_TRY(sum_weight(r, ATTEND_CPU_V, &r->dy[2], &r->source));
    if (g->dx.data || g->weights.position_table.data)
        ATTEND_TRY(inputs_back(r, ATTEND_CPU_BACK_TO_X, &g->dx));
    return g->dcontext.data ? inputs_back(r, ATTEND_CPU_BACK_TO_CONTEXT, &g->dcontext) : ATTEND_OK;
}

attend_status attend_cpu_layer_backward(attend_plan *plan, const attend_layer_args *args,
                                        const attend_layer_gradients *g, const attend_run *brought)
{
    const attend_problem *p = &plan->problem;
    (void)brought;
    ATTEND_TRY(attend_layer_lists_check(p, &plan->weights, args));
    const attend_tensor x = p->absolute ? attend_cpu_add_positions(plan, args) : args->x;
    layer_run r = {.plan = plan,
                   .cpu = plan->state,
                   .args = args,
                   .g = g,
                   .row_positions = attend_row_positions_of(p, args->features, NULL),
                   .rope = attend_rope_of(p),
                   .x = attend_tensor_one_head(&x),
                   .attention = {.q = args->q,
                                 .k = args->k,
                                 .v = args->v,
                                 .out = args->heads,
                                 .lse = args->lse,
                                 .features = args->features}};
    r.source = attend_problem_is_cross(p) ? attend_tensor_one_head(&args->context) : r.x;
    return run(&r);
}
