/* Attention on the CPU: packs each KV head once, then hands tasks to threads: rows of a KV head, all their keys; where such tasks are
   too few, rows and spans of keys, merged afterwards. Few rows skip the packing. Which way is taken changes no bit. */
#include "cpu.h"
#include "../arguments.h"

#include <omp.h>

int64_t attend_cpu_rows_of(const attend_problem *p) { return p->num_heads / p->num_kv_heads * p->seqlen_q; }

/* Packed sequences have room by where they begin among all keys, so that each can be filled up to whole blocks; others by the longest. */
static int64_t keys_before(const attend_cpu_plan *plan, int64_t entry, int64_t first_k)
{
    int64_t block = plan->blocking.keys;
    return plan->problem->packed ? (first_k / block + entry) * block : entry * attend_cpu_round_up(plan->problem->seqlen_k, block);
}

int64_t attend_cpu_keys_reserved(const attend_cpu_plan *plan) { return keys_before(plan, plan->problem->batch, plan->problem->total_k); }

static int64_t rows_before(const attend_problem *p, int64_t entry, int64_t first_q)
{
    return p->num_heads / p->num_kv_heads * (p->packed ? first_q : entry * p->seqlen_q);
}

int64_t attend_cpu_rows_reserved(const attend_problem *p) { return rows_before(p, p->batch, p->total_q); }

/* Panels of rows of one KV head, cut into equal parts of at most blocking.panels: only the last part has a panel less than full. */
static int64_t panels_of(const attend_cpu_plan *plan)
{
    int64_t width = plan->context->kernel->lanes * plan->context->kernel->vectors;
    return (attend_cpu_rows_of(plan->problem) + width - 1) / width;
}

static int64_t parts_of(const attend_cpu_plan *plan) { return (panels_of(plan) + plan->blocking.panels - 1) / plan->blocking.panels; }

attend_cpu_way attend_cpu_way_of(const attend_cpu_plan *plan)
{
    const attend_problem *p = plan->problem;
    int64_t spans = attend_cpu_spans(p->seqlen_k), tasks = p->batch * p->num_kv_heads * parts_of(plan);
    if (attend_cpu_rows_of(p) <= ATTEND_CPU_FEW_ROWS) return ATTEND_CPU_FEW;
    return spans > 1 && tasks < 2 * plan->context->threads ? ATTEND_CPU_SPLIT : ATTEND_CPU_WHOLE;
}

static attend_cpu_rows rows_of(const attend_tensor *t, int64_t b, int64_t first, int64_t head, bool has_group)
{
    int64_t at = b * t->stride[0] + first * t->stride[1] + head * t->stride[2];
    return (attend_cpu_rows){(char *)t->data + at * (int64_t)attend_dtype_bytes(t->dtype), t->stride[1], has_group ? t->stride[2] : 0};
}

/* What all tasks of KV head `index` (batch entry by batch entry) share. */
static attend_cpu_task task_of(const attend_cpu_plan *plan, const attend_attention_args *args, int64_t index, float *scratch)
{
    const attend_problem *p = plan->problem;
    int64_t b = index / p->num_kv_heads, kv_head = index % p->num_kv_heads, group = p->num_heads / p->num_kv_heads;
    const attend_tensor *lse = &args->lse;
    const attend_head *heads = plan->per_head + b * p->num_heads + kv_head * group;
    const attend_sequence s = heads->sequence;
    attend_cpu_task task = {
        .problem = p,
        .blocking = plan->blocking,
        .group = group,
        .heads = heads,
        .sequence = s,
        .rows = group * attend_rows_of(p, &s),
        .q = rows_of(&args->q, s.batch, s.first_q, kv_head * group, true),
        .k = rows_of(&args->k, s.batch, s.first_k, kv_head, false),
        .v = rows_of(&args->v, s.batch, s.first_k, kv_head, false),
        .out = rows_of(&args->out, s.batch, s.first_q, kv_head * group, true),
        .lse = lse->data ? (float *)lse->data + s.batch * lse->stride[0] + kv_head * group * lse->stride[1] + s.first_q * lse->stride[2]
                         : NULL,
        .lse_stride = lse->stride[2],
        .lse_head_stride = lse->stride[1],
        .scratch = scratch,
    };
    if (attend_is_elementwise(p)) task.elements = &plan->elements[index];
    task.end_span = attend_cpu_spans(task.sequence.seqlen_k);
    if (plan->keys) {
        int64_t at = kv_head * attend_cpu_keys_reserved(plan) + keys_before(plan, b, s.first_k);
        task.keys = (attend_cpu_keys){plan->keys + at * p->head_dim, plan->values + at * attend_cpu_v_width(plan->context->kernel, p),
                                      plan->finite ? plan->finite + at / plan->blocking.keys : NULL};
    }
    if (plan->partials)
        task.partials = plan->partials + (kv_head * attend_cpu_rows_reserved(p) + rows_before(p, b, s.first_q)) *
                                             attend_cpu_spans(p->seqlen_k) * attend_cpu_partial_floats(p);
    return task;
}

/* Rows of part `part` of a KV head. */
static void take_part(const attend_cpu_plan *plan, int64_t part, attend_cpu_task *task)
{
    int64_t width = plan->context->kernel->lanes * plan->context->kernel->vectors, panels = panels_of(plan), parts = parts_of(plan);
    int64_t end = panels * (part + 1) / parts * width;
    task->first_row = panels * part / parts * width;
    task->rows = (end < task->rows ? end : task->rows) - task->first_row;
}

/* KV heads that a task of few rows takes together: where they lie side by side, unless threads would go without. */
static int64_t few_heads(const attend_cpu_plan *plan, const attend_attention_args *args)
{
    const attend_problem *p = plan->problem;
    int64_t heads = args->k.stride[2] < args->k.stride[1] ? ATTEND_CPU_FEW_HEADS : 1;
    while (heads > 1 && (p->num_kv_heads % heads || p->batch * p->num_kv_heads / heads * attend_cpu_spans(p->seqlen_k) < 4 * plan->context->threads))
        heads /= 2;
    return heads;
}

static void run_few_unit(const attend_cpu_plan *plan, const attend_attention_args *args, int64_t unit, float *scratch)
{
    attend_cpu_task tasks[ATTEND_CPU_FEW_HEADS];
    int64_t count = few_heads(plan, args), groups = plan->problem->batch * plan->problem->num_kv_heads / count, span = unit / groups;
    for (int64_t i = 0; i < count; i++) {
        tasks[i] = task_of(plan, args, unit % groups * count + i, scratch);
        if (span >= tasks[i].end_span || tasks[i].rows == 0) return;
        tasks[i].first_span = span, tasks[i].end_span = span + 1;
    }
    plan->context->kernel->run_few(tasks, count);
}

/* One unit of the main loop. Units go from the last rows to the first, whose causal tasks are the shortest. */
static void run_unit(const attend_cpu_plan *plan, const attend_attention_args *args, int64_t unit, float *scratch)
{
    const attend_cpu_kernel *kernel = plan->context->kernel;
    int64_t heads = plan->problem->batch * plan->problem->num_kv_heads, rest = unit / heads;
    attend_cpu_task task = task_of(plan, args, unit % heads, scratch);
    if (plan->way != ATTEND_CPU_WHOLE) {
        int64_t span = rest % attend_cpu_spans(plan->problem->seqlen_k);
        rest /= attend_cpu_spans(plan->problem->seqlen_k);
        if (span >= task.end_span) return;
        task.first_span = span, task.end_span = span + 1;
    }
    take_part(plan, parts_of(plan) - 1 - rest, &task);
    if (task.rows > 0) kernel->run(&task);
}

static void merge_row(const attend_cpu_plan *plan, const attend_attention_args *args, int64_t index, float *scratch)
{
    int64_t rows = attend_cpu_rows_of(plan->problem);
    attend_cpu_task task = task_of(plan, args, index / rows, scratch);
    if (index % rows >= task.rows) return;
    task.first_row = index % rows, task.rows = 1;
    plan->context->kernel->merge(&task);
}

static void pack_block(const attend_cpu_plan *plan, const attend_attention_args *args, int64_t index)
{
    int64_t blocks = (plan->problem->seqlen_k + plan->blocking.keys - 1) / plan->blocking.keys;
    attend_cpu_task task = task_of(plan, args, index / blocks, NULL);
    int64_t first = index % blocks * plan->blocking.keys;
    if (first < task.sequence.seqlen_k) plan->context->kernel->pack(&task, first);
}

void attend_cpu_look_at_heads(attend_cpu_plan *plan, const attend_attention_args *args)
{
    const attend_problem *p = plan->problem;
    const attend_lists lists = attend_lists_of(args);
    const int64_t group = p->num_heads / p->num_kv_heads, floats = attend_cpu_relative_floats(p), blocks = attend_cpu_id_blocks(p);
    plan->terms = attend_terms_of(args);
    plan->terms.relative_buckets = plan->relative_buckets;
    for (int64_t b = 0; b < p->batch; b++) {
        attend_sequence s = attend_sequence_of(p, &lists, b);
        for (int64_t h = 0; h < p->num_heads; h++) plan->per_head[b * p->num_heads + h] = attend_head_of(p, &plan->terms, &s, b, h);
        for (int64_t h = 0; h < p->num_kv_heads; h++)
            plan->elements[b * p->num_kv_heads + h] = (attend_cpu_elements){
                .heads = plan->per_head + b * p->num_heads + h * group,
                .group = group,
                .relative = plan->relative + h * group * floats,
                .reach = attend_cpu_relative_reach(p),
                .ids = plan->ids + b * blocks,
            };
    }
#pragma omp parallel num_threads(plan->context->threads) if (floats > 0 || blocks > 0)
    {
#pragma omp for nowait
        for (int64_t h = 0; h < (floats > 0 && p->batch > 0 ? p->num_heads : 0); h++)
            attend_cpu_fill_relative(&plan->per_head[h], plan->relative + h * floats);
#pragma omp for
        for (int64_t i = 0; i < p->batch * blocks; i++) plan->ids[i] = attend_cpu_key_ids(&plan->per_head[i / blocks * p->num_heads], i % blocks);
    }
}

int64_t attend_cpu_units(const attend_cpu_plan *plan, int64_t heads_together)
{
    const attend_problem *p = plan->problem;
    int64_t heads = p->batch * p->num_kv_heads, spans = plan->way == ATTEND_CPU_WHOLE ? 1 : attend_cpu_spans(p->seqlen_k);
    return (plan->way == ATTEND_CPU_FEW ? heads / heads_together : heads * parts_of(plan)) * spans;
}

attend_status attend_cpu_attention(attend_cpu_plan *plan, const attend_attention_args *args)
{
    const attend_problem *p = plan->problem;
    ATTEND_TRY(attend_lists_check(p, args));
    attend_cpu_look_at_heads(plan, args);
    int64_t heads = p->batch * p->num_kv_heads, rows = heads * attend_cpu_rows_of(p);
    bool few = plan->way == ATTEND_CPU_FEW, merges = plan->way != ATTEND_CPU_WHOLE;
    int64_t packs = few ? 0 : heads * ((p->seqlen_k + plan->blocking.keys - 1) / plan->blocking.keys);
    int64_t units = attend_cpu_units(plan, few_heads(plan, args));
    attend_watch *watch = plan->context->watch;
    attend_watch_stage(watch, watch->work.attention, units);
    int64_t threads = plan->context->threads, most = units > packs ? units : packs;
#pragma omp parallel num_threads((int)(most < threads ? most + !most : threads))
    {
        float *scratch = plan->scratch + omp_get_thread_num() * plan->scratch_floats;
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < packs; i++) pack_block(plan, args, i);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < units; i++) {
            if (!attend_watch_goes_on(watch)) continue;
            if (few)
                run_few_unit(plan, args, i, scratch);
            else
                run_unit(plan, args, i, scratch);
            attend_watch_count(watch, 1, omp_get_thread_num() == 0);
        }
        if (merges && attend_watch_goes_on(watch)) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < rows; i++) merge_row(plan, args, i, scratch);
        }
    }
    return attend_watch_status(watch);
}
