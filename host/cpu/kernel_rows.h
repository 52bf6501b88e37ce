/* What a row sees, and how its sums become its output: finished at once, or left as partials of spans and
   merged. */
#ifndef ATTEND_CPU_KERNEL_ROWS_H
#define ATTEND_CPU_KERNEL_ROWS_H

#include "cpu/kernel_pack.h"
#include "cpu/kernel_softmax.h"

/* Row `row` of the KV head sees the keys [*begin, *end); the only place where the kernel asks. */
ALWAYS_INLINE void visible(const attend_cpu_task *task, int64_t row, int64_t *begin, int64_t *end)
{
    int64_t query = place_of(task, row).query;
    *begin = *end = 0;
    if (query >= task->sequence.seqlen_q) return;
    *begin = attend_visible_begin(task->problem, &task->sequence, query);
    *end = attend_visible_end(task->problem, &task->sequence, query);
}

/* Writes one row's output from its sums. One without an interval of keys may have gathered anything; one that
   saw none of its interval has l = 0. */
static void finish_row(const attend_cpu_task *task, int64_t row, const float *o, float m, float l,
                       bool interval)
{
    const attend_problem *p = task->problem;
    const place place = place_of(task, row);
    int64_t at = row_offset(task, &task->out, row);
    bool sees = interval && l != 0;
    float lse = -INFINITY;
    if (p->sinks && place.query < task->sequence.seqlen_q) {
        float normaliser, sink = attend_head_sink(task->heads->terms, task->heads[place.head].head);
        attend_softmax_finish(sees ? m * 0x1.62e42fefa39efp-1 : -INFINITY, sees ? l : 0, sink, &normaliser,
                              &lse);
        l = 1 / normaliser;
    } else if (sees && task->lse) {
        lse = (float)(m * 0x1.62e42fefa39efp-1 + logf(l));
    }
    for (int64_t c = 0; c < p->head_dim_v; c += LANES) {
        vf value = splat(0);
        if (sees) value = load(o + c) / splat(l);
        store_some(task->out.data, at + c, value, p->head_dim_v - c, p->dtype);
    }
    if (task->lse) task->lse[place.query * task->lse_stride + place.head * task->lse_head_stride] = lse;
}

static float *partial_of(const attend_cpu_task *task, int64_t row, int64_t span)
{
    return task->partials + (row * attend_cpu_spans(task->sequence.seqlen_k) + span) *
                                attend_cpu_partial_floats(task->problem);
}

/* A partial: the output's sums, then m, then l. */
ALWAYS_INLINE float *partial_m(const attend_cpu_task *task, float *partial)
{
    return partial + task->problem->head_dim_v;
}

/* Total first, then span by span: the same arithmetic, element by element, as panel_merge(). */
static void merge_row(const attend_cpu_task *task, int64_t row)
{
    int64_t dv = task->problem->head_dim_v, begin, end;
    float *o = task->scratch, m = -INFINITY, l = 0;
    memset(o, 0, (size_t)attend_cpu_round_up(dv, LANES) * sizeof *o);
    visible(task, row, &begin, &end);
    for (int64_t span = begin / ATTEND_CPU_SPAN; span * ATTEND_CPU_SPAN < end; span++) {
        float *part = partial_of(task, row, span), *part_m = partial_m(task, part);
        if (part_m[0] == -INFINITY) continue;
        if (m == -INFINITY) {
            memcpy(o, part, (size_t)dv * sizeof *o);
            m = part_m[0], l = part_m[1];
            continue;
        }
        vf total_factor, part_factor,
            merged = merge_references(splat(m), splat(part_m[0]), &total_factor, &part_factor);
        for (int64_t c = 0; c < dv; c += LANES)
            store(o + c, load(o + c) * total_factor + load_some(part, c, dv - c, ATTEND_F32) * part_factor);
        l = (splat(l) * total_factor + splat(part_m[1]) * part_factor)[0];
        m = merged[0];
    }
    finish_row(task, row, o, m, l, begin < end);
}

static void merge(const attend_cpu_task *task)
{
    for (int64_t row = task->first_row; row < task->first_row + task->rows; row++) merge_row(task, row);
}

#endif
