/* A row's visible interval, and its output: written at once, or stored as partials of spans and merged. */
#ifndef ATTEND_CPU_KERNEL_ROWS_H
#define ATTEND_CPU_KERNEL_ROWS_H

#include "cpu/kernel_pack.h"
#include "cpu/kernel_softmax.h"

/* ---- a row's sums ----

   o: the sum of weights times values; m: the integer running max that weights are relative to; l: the sum of
   weights. Empty is l = 0, not m = -infinity, which m also is where all scores are NaN. */

/* Merges columns of a partial into those of a total, by the same arithmetic for each element as
   span_merge(). */
static void join(float *o, float *m, float *l, const float *part, float part_m, float part_l, int64_t columns)
{
    if (part_l == 0) return;
    if (*l == 0) {
        memcpy(o, part, (size_t)columns * sizeof *o);
        *m = part_m, *l = part_l;
        return;
    }
    vf factor, part_factor, m_merged = merge_maxima(splat(*m), splat(part_m), &factor, &part_factor);
    for (int64_t c = 0; c < columns; c += LANES)
        store(o + c,
              merge_sums(load(o + c), factor, load_some(part, c, columns - c, ATTEND_F32), part_factor));
    *l = merge_sums(splat(*l), factor, splat(part_l), part_factor)[0];
    *m = m_merged[0];
}

/* One query and head of a state */
typedef struct state_row {
    float *o, *m, *l;
} state_row;

ALWAYS_INLINE float *float_at(const attend_tensor *t, int64_t a, int64_t b, int64_t c)
{
    return (float *)t->data + a * t->stride[0] + b * t->stride[1] + c * t->stride[2];
}

static state_row state_row_of(const attend_state *s, int64_t batch, int64_t query, int64_t head)
{
    return (state_row){float_at(&s->out, batch, query, head), float_at(&s->max, batch, head, query),
                       float_at(&s->sum, batch, head, query)};
}

/* Reads columns from `first` on. The maximum may be any number, ours is an integer; where it is one already,
   no bit changes. */
static void load_state(state_row row, int64_t first, int64_t columns, float *o, float *m, float *l)
{
    memcpy(o, row.o + first, (size_t)columns * sizeof *o);
    *m = ceilf(*row.m), *l = *row.l;
    if (*m == *row.m || *l == 0) return;
    const float factor = exp2f(*row.m - *m);
    for (int64_t c = 0; c < columns; c++) o[c] *= factor;
    *l *= factor;
}

static void store_state(state_row row, int64_t first, int64_t columns, const float *o, float m, float l)
{
    if (l == 0)
        memset(row.o + first, 0, (size_t)columns * sizeof *o), *row.m = -INFINITY, *row.l = 0;
    else
        memcpy(row.o + first, o, (size_t)columns * sizeof *o), *row.m = m, *row.l = l;
}

/* Writes columns of a row's output, at element `at`, and its LSE (NULL: not wanted); sink: NULL if there is
   none. */
ALWAYS_INLINE void finish_row(const attend_problem *p, void *out, int64_t at, int64_t columns, float *lse,
                              const float *sink, const float *o, float m, float l)
{
    const bool sees = l != 0;
    float log_sum = -INFINITY;
    if (sink) {
        float normaliser;
        attend_softmax_finish(sees ? attend_score_of_max(m) : -INFINITY, l, *sink, &normaliser, &log_sum);
        l = 1 / normaliser;
    } else if (sees && lse) {
        log_sum = (float)(attend_score_of_max(m) + logf(l));
    }
    for (int64_t c = 0; c < columns; c += LANES) {
        vf value = splat(0);
        if (sees) value = load(o + c) / splat(l);
        store_some(out, at + c, value, columns - c, p->dtype);
    }
    if (lse) *lse = log_sum;
}

/* ---- rows of a task ---- */

/* The state of a row over the keys before the run's, o padded to vectors; empty without a given state, or
   past the query length. */
static void begin_row(const attend_cpu_task *task, int64_t row, float *o, float *m, float *l)
{
    const attend_state *from = &task->part->from;
    const packed_row packed_row = packed_row_of(task, row);
    const int64_t dv = task->problem->head_dim_v;
    memset(o, 0, (size_t)attend_cpu_round_up(dv, LANES) * sizeof *o);
    *m = -INFINITY, *l = 0;
    if (!from->out.data || packed_row.query >= task->sequence.seqlen_q) return;
    load_state(state_row_of(from, task->sequence.batch, line_of(task, packed_row.query),
                            task->heads[packed_row.head].head),
               0, dv, o, m, l);
}

static void end_row(const attend_cpu_task *task, int64_t row, const float *o, float m, float l)
{
    const attend_problem *p = task->problem;
    const attend_state *into = &task->part->into;
    const packed_row packed_row = packed_row_of(task, row);
    const attend_head *head = &task->heads[packed_row.head];
    if (into->out.data) {
        store_state(state_row_of(into, task->sequence.batch, line_of(task, packed_row.query), head->head), 0,
                    p->head_dim_v, o, m, l);
        return;
    }
    const bool sinks = p->sinks && packed_row.query < task->sequence.seqlen_q;
    const float sink = sinks ? attend_head_sink(head->terms, head->head) : 0;
    float *lse = task->lse;
    if (lse)
        lse += line_of(task, packed_row.query) * task->lse_stride + packed_row.head * task->lse_head_stride;
    finish_row(p, task->out.data, row_offset(task, &task->out, row), p->head_dim_v, lse, sinks ? &sink : NULL,
               o, m, l);
}

static float *partial_of(const attend_cpu_task *task, int64_t row, int64_t span)
{
    return task->partials + (row * task->partial_spans + span) * attend_cpu_partial_floats(task->problem);
}

/* A partial is o, then m, then l. */
ALWAYS_INLINE float *partial_m(const attend_cpu_task *task, float *partial)
{
    return partial + task->problem->head_dim_v;
}

static void merge_row(const attend_cpu_task *task, int64_t row)
{
    int64_t dv = task->problem->head_dim_v, begin, end;
    float *o = task->scratch, m, l;
    begin_row(task, row, o, &m, &l);
    visible(task, row, &begin, &end);
    for (int64_t span = begin / ATTEND_CPU_SPAN; begin < end && span * ATTEND_CPU_SPAN < end; span++) {
        float *part = partial_of(task, row, span), *part_m = partial_m(task, part);
        join(o, &m, &l, part, part_m[0], part_m[1], dv);
    }
    end_row(task, row, o, m, l);
}

static void merge(const attend_cpu_task *task)
{
    for (int64_t row = task->first_row; row < task->first_row + task->rows; row++) merge_row(task, row);
}

/* ---- merging states ---- */

/* A fixed number of columns at a time, so that no memory is allocated. `into` may alias one of the states:
   its max and sum change with the last columns. */
static void merge_states(const attend_problem *p, const attend_merge_args *a, int64_t batch, int64_t query,
                         int64_t head)
{
    enum { COLUMNS = 512 };
    _Alignas(64) float o[COLUMNS], part[COLUMNS];
    const int64_t dv = p->head_dim_v;
    for (int64_t first = 0; first < dv; first += COLUMNS) {
        const int64_t columns = least(dv - first, COLUMNS);
        const bool last = first + columns == dv;
        float m = -INFINITY, l = 0, part_m, part_l;
        memset(o, 0, sizeof o);
        for (int64_t n = 0; n < a->count; n++) {
            load_state(state_row_of(&a->states[n], batch, query, head), first, columns, part, &part_m,
                       &part_l);
            join(o, &m, &l, part, part_m, part_l, columns);
        }
        if (a->into) {
            float kept[2];
            state_row row = state_row_of(a->into, batch, query, head);
            if (!last) row.m = &kept[0], row.l = &kept[1];
            store_state(row, first, columns, o, m, l);
            continue;
        }
        const float *sink = p->sinks ? (const float *)a->sinks.data + head * a->sinks.stride[0] : NULL;
        const attend_tensor *out = &a->out;
        finish_row(p, out->data,
                   batch * out->stride[0] + query * out->stride[1] + head * out->stride[2] + first, columns,
                   a->lse.data ? float_at(&a->lse, batch, head, query) : NULL, sink, o, m, l);
    }
}

#endif
