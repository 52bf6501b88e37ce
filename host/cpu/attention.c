/* Attention on the CPU: copies each KV head to tiled panels once, then runs tasks on threads. The schedule
   (attend_cpu_schedule) cuts tasks by rows of a KV head; where these are too few, by rows and spans of keys,
   merged afterwards; few rows read K and V in place. No bit depends on the schedule. */
#include "cpu/cpu.h"
#include "core/arguments.h"

int64_t attend_cpu_rows_of(const attend_problem *p) { return p->num_heads / p->num_kv_heads * p->seqlen_q; }

/* Keys in tiled panels before those of an entry. Entries begin at their first key, rounded down to whole
   blocks, plus a block for each entry before, so that each can be padded to whole blocks; without packed
   sequences at multiples of the longest. */
static int64_t keys_before(const attend_cpu_plan *plan, int64_t entry, int64_t first_k)
{
    int64_t block = plan->blocking.keys;
    return plan->problem->packed ? (first_k / block + entry) * block
                                 : entry * attend_cpu_round_up(plan->problem->seqlen_k, block);
}

int64_t attend_cpu_keys_reserved(const attend_cpu_plan *plan)
{
    return keys_before(plan, plan->problem->batch, plan->problem->total_k);
}

static int64_t rows_before(const attend_problem *p, int64_t entry, int64_t first_q)
{
    return p->num_heads / p->num_kv_heads * (p->packed ? first_q : entry * p->seqlen_q);
}

int64_t attend_cpu_rows_reserved(const attend_problem *p) { return rows_before(p, p->batch, p->total_q); }

/* Panels of the rows of a box of one KV head. They are divided into equal parts of at most blocking.panels;
   only the last part's last panel may not be full. */
static int64_t panels_of(const attend_cpu_plan *plan)
{
    int64_t width = plan->context->kernel->lanes * plan->context->kernel->vectors;
    return attend_parts_of(attend_cpu_slot_rows(plan), width);
}

static int64_t parts_of(const attend_cpu_plan *plan)
{
    return attend_parts_of(panels_of(plan), plan->blocking.panels);
}

attend_cpu_schedule attend_cpu_schedule_of(const attend_cpu_plan *plan)
{
    const attend_problem *p = plan->problem;
    int64_t spans = attend_cpu_spans(plan->box.keys < p->seqlen_k ? plan->box.keys : p->seqlen_k),
            tasks = plan->box.heads * parts_of(plan);
    if (attend_cpu_rows_of(p) <= ATTEND_CPU_FEW_ROWS) return ATTEND_CPU_DECODE;
    return spans > 1 && tasks < 2 * plan->context->threads ? ATTEND_CPU_SPLIT : ATTEND_CPU_WHOLE;
}

static attend_cpu_rows rows_of(const attend_tensor *t, int64_t b, int64_t first, int64_t head)
{
    int64_t at = b * t->stride[0] + first * t->stride[1] + head * t->stride[2];
    return (attend_cpu_rows){(char *)t->data + at * (int64_t)attend_dtype_bytes(t->dtype), t->stride[1],
                             t->stride[2]};
}

attend_cpu_key_rows attend_cpu_key_rows_of(const attend_tensor *t, int64_t kv_head)
{
    return (attend_cpu_key_rows){(char *)t->data +
                                     kv_head * t->stride[2] * (int64_t)attend_dtype_bytes(t->dtype),
                                 t->stride[0], t->stride[1]};
}

/* What all tasks of a box share */
typedef struct running {
    attend_cpu_plan *plan;
    const attend_attention_args *args;
    const attend_key_part *part;
    int64_t first_head, heads; /* pairs of batch entry and KV head */
    int64_t heads_together;    /* KV heads a task of the decode schedule */
} running;

/* Blocks or spans of `size` keys that the part's keys meet. */
static int64_t count_in(const attend_key_part *part, int64_t size)
{
    return part->first < part->end ? (part->end - 1) / size + 1 - part->first / size : 0;
}

/* Panels and partials of a task in a box that is a part, where slots follow each other. */
static void place_in_slot(const running *r, int64_t index, attend_cpu_task *task)
{
    const attend_cpu_plan *plan = r->plan;
    const attend_problem *p = plan->problem;
    const int64_t slot = index - r->first_head, block = plan->blocking.keys,
                  before = r->part->first - slot * attend_cpu_slot_keys(plan),
                  rows_before = task->group * r->part->first_query - slot * attend_cpu_slot_rows(plan);
    if (plan->keys)
        task->keys = (attend_cpu_keys){
            attend_cpu_counted_from(plan->keys, before * p->head_dim, sizeof(float)),
            attend_cpu_counted_from(plan->values, before * attend_cpu_v_width(plan->context->kernel, p),
                                    sizeof(float)),
            attend_cpu_counted_from(plan->finite, before / block, sizeof(bool))};
    if (plan->partials) {
        task->partial_spans = attend_cpu_spans(plan->box.keys < p->seqlen_k ? plan->box.keys : p->seqlen_k);
        task->partials = attend_cpu_counted_from(plan->partials,
                                                 (rows_before * task->partial_spans + task->first_span) *
                                                     attend_cpu_partial_floats(p),
                                                 sizeof(float));
    }
}

/* The same where the box is the whole problem. */
static void place(const running *r, int64_t entry, int64_t kv_head, attend_cpu_task *task)
{
    const attend_cpu_plan *plan = r->plan;
    const attend_problem *p = plan->problem;
    const attend_sequence *s = &task->sequence;
    if (plan->keys) {
        int64_t at = kv_head * attend_cpu_keys_reserved(plan) + keys_before(plan, entry, s->first_k);
        task->keys = (attend_cpu_keys){plan->keys + at * p->head_dim,
                                       plan->values + at * attend_cpu_v_width(plan->context->kernel, p),
                                       plan->finite + at / plan->blocking.keys};
    }
    if (plan->partials) {
        task->partial_spans = attend_cpu_spans(p->seqlen_k);
        task->partials =
            plan->partials + (kv_head * attend_cpu_rows_reserved(p) + rows_before(p, entry, s->first_q)) *
                                 task->partial_spans * attend_cpu_partial_floats(p);
    }
}

/* The task of all rows of KV head `index`, counted batch entry by batch entry. */
static attend_cpu_task task_of(const running *r, int64_t index, float *scratch)
{
    const attend_cpu_plan *plan = r->plan;
    const attend_attention_args *args = r->args;
    const attend_problem *p = plan->problem;
    int64_t b = index / p->num_kv_heads, kv_head = index % p->num_kv_heads,
            group = p->num_heads / p->num_kv_heads;
    const attend_tensor *lse = &args->lse;
    const attend_head *heads = plan->per_head + b * p->num_heads + kv_head * group;
    const attend_sequence s = heads->sequence;
    const int64_t rows_end = attend_rows_of(p, &s), first_query = r->part->first_query;
    attend_cpu_task task = {
        .problem = p,
        .blocking = plan->blocking,
        .group = group,
        .heads = heads,
        .sequence = s,
        .part = r->part,
        .first_row = group * first_query,
        .rows = group * ((rows_end < r->part->end_query ? rows_end : r->part->end_query) - first_query),
        .q = rows_of(&args->q, s.batch, s.first_q, kv_head * group),
        .k = attend_cpu_key_rows_of(&args->k, kv_head),
        .v = attend_cpu_key_rows_of(&args->v, kv_head),
        .out = rows_of(&args->out, s.batch, s.first_q, kv_head * group),
        .lse = lse->data ? (float *)lse->data + s.batch * lse->stride[0] + kv_head * group * lse->stride[1] +
                               s.first_q * lse->stride[2]
                         : NULL,
        .lse_stride = lse->stride[2],
        .lse_head_stride = lse->stride[1],
        .scratch = scratch,
    };
    if (attend_is_elementwise(p)) task.elements = &plan->elements[index];
    const int64_t spans = attend_cpu_spans(s.seqlen_k);
    task.first_span = r->part->first / ATTEND_CPU_SPAN;
    task.end_span = task.first_span + count_in(r->part, ATTEND_CPU_SPAN);
    if (task.end_span > spans) task.end_span = spans;
    if (plan->box.is_part)
        place_in_slot(r, index, &task);
    else
        place(r, b, kv_head, &task);
    return task;
}

/* Restricts a task to part `part` of a KV head's rows. */
static void restrict_to_part(const attend_cpu_plan *plan, int64_t part, attend_cpu_task *task)
{
    int64_t width = plan->context->kernel->lanes * plan->context->kernel->vectors, panels = panels_of(plan),
            parts = parts_of(plan);
    int64_t end = panels * (part + 1) / parts * width;
    const int64_t first = panels * part / parts * width;
    task->rows = (end < task->rows ? end : task->rows) - first;
    task->first_row += first;
}

/* KV heads a task of the decode schedule: several where they are adjacent in memory, if enough tasks for all
   threads remain. */
static int64_t few_heads(const attend_cpu_plan *plan, const attend_attention_args *args, int64_t spans)
{
    const attend_problem *p = plan->problem;
    int64_t heads = args->k.stride[2] < args->k.stride[1] ? ATTEND_CPU_FEW_HEADS : 1;
    while (heads > 1 && (p->num_kv_heads % heads ||
                         p->batch * p->num_kv_heads / heads * spans < 4 * plan->context->threads))
        heads /= 2;
    return heads;
}

static float *scratch_of(const attend_cpu_plan *plan, int thread)
{
    return plan->scratch + thread * plan->scratch_floats;
}

static void run_few_unit(void *job, int64_t unit, int thread)
{
    const running *r = job;
    const attend_cpu_plan *plan = r->plan;
    attend_progress_tracker *tracker = plan->context->tracker;
    attend_cpu_task tasks[ATTEND_CPU_FEW_HEADS];
    int64_t count = r->heads_together, groups = r->heads / count,
            span = r->part->first / ATTEND_CPU_SPAN + unit / groups;
    bool empty = false;
    if (!attend_progress_continues(tracker)) return;
    for (int64_t i = 0; i < count && !empty; i++) {
        tasks[i] = task_of(r, r->first_head + unit % groups * count + i, scratch_of(plan, thread));
        empty = span >= tasks[i].end_span || tasks[i].rows == 0;
        tasks[i].first_span = span, tasks[i].end_span = span + 1;
    }
    if (!empty) plan->context->kernel->run_few(tasks, count);
    attend_progress_count(tracker, 1, thread == 0);
}

/* Units are counted from the last rows to the first, whose causal tasks are the shortest. */
static void run_unit(void *job, int64_t unit, int thread)
{
    const running *r = job;
    const attend_cpu_plan *plan = r->plan;
    attend_progress_tracker *tracker = plan->context->tracker;
    int64_t rest = unit / r->heads, spans = count_in(r->part, ATTEND_CPU_SPAN);
    if (!attend_progress_continues(tracker)) return;
    attend_cpu_task task = task_of(r, r->first_head + unit % r->heads, scratch_of(plan, thread));
    if (plan->schedule != ATTEND_CPU_WHOLE) {
        const int64_t span = task.first_span + rest % spans;
        rest /= spans;
        if (span >= task.end_span) task.rows = 0;
        task.first_span = span, task.end_span = span + 1;
    }
    restrict_to_part(plan, parts_of(plan) - 1 - rest, &task);
    if (task.rows > 0) plan->context->kernel->run(&task);
    attend_progress_count(tracker, 1, thread == 0);
}

static void merge_row(void *job, int64_t index, int thread)
{
    const running *r = job;
    int64_t rows = attend_cpu_slot_rows(r->plan);
    attend_cpu_task task = task_of(r, r->first_head + index / rows, scratch_of(r->plan, thread));
    if (index % rows >= task.rows) return;
    task.first_row += index % rows, task.rows = 1;
    r->plan->context->kernel->merge(&task);
}

static void pack_block(void *job, int64_t index, int thread)
{
    const running *r = job;
    int64_t keys = r->plan->blocking.keys, blocks = count_in(r->part, keys),
            first = (r->part->first / keys + index % blocks) * keys;
    attend_cpu_task task = task_of(r, r->first_head + index / blocks, scratch_of(r->plan, thread));
    if (first < task.sequence.seqlen_k) r->plan->context->kernel->pack(&task, first);
}

static void fill_relative(void *job, int64_t head, int thread)
{
    const attend_cpu_plan *plan = job;
    (void)thread;
    attend_cpu_fill_relative(&plan->per_head[head],
                             plan->relative + head * attend_cpu_relative_floats(plan->problem));
}

static void fill_ids(void *job, int64_t index, int thread)
{
    const attend_cpu_plan *plan = job;
    const int64_t blocks = attend_cpu_id_blocks(plan->problem);
    (void)thread;
    plan->ids[index] =
        attend_cpu_key_ids(&plan->per_head[index / blocks * plan->problem->num_heads], index % blocks);
}

void attend_cpu_prepare_heads(attend_cpu_plan *plan, const attend_attention_args *args)
{
    const attend_problem *p = plan->problem;
    const attend_lists lists = attend_lists_of(args->features);
    const int64_t group = p->num_heads / p->num_kv_heads, floats = attend_cpu_relative_floats(p),
                  blocks = attend_cpu_id_blocks(p);
    plan->terms = attend_terms_of(args->features);
    plan->terms.relative_buckets = plan->relative_buckets;
    for (int64_t b = 0; b < p->batch; b++) {
        attend_sequence s = attend_sequence_of(p, &lists, b);
        for (int64_t h = 0; h < p->num_heads; h++)
            plan->per_head[b * p->num_heads + h] = attend_head_of(p, &plan->terms, &s, b, h);
        for (int64_t h = 0; h < p->num_kv_heads; h++)
            plan->elements[b * p->num_kv_heads + h] = (attend_cpu_elements){
                .heads = plan->per_head + b * p->num_heads + h * group,
                .group = group,
                .relative = plan->relative + h * group * floats,
                .reach = attend_cpu_relative_reach(p),
                .ids = plan->ids + b * blocks,
            };
    }
    attend_pool *pool = plan->context->pool;
    if (floats > 0 && p->batch > 0)
        attend_pool_run(pool, p->num_heads, 2.0 * (double)(p->num_heads * floats), fill_relative, plan);
    attend_pool_run(pool, p->batch * blocks, (double)(p->batch * blocks * ATTEND_CPU_BLOCK), fill_ids, plan);
}

int64_t attend_cpu_units(const attend_cpu_plan *plan, int64_t heads, int64_t spans, int64_t heads_together)
{
    if (plan->schedule == ATTEND_CPU_WHOLE) return heads * parts_of(plan);
    return (plan->schedule == ATTEND_CPU_DECODE ? heads / heads_together : heads * parts_of(plan)) * spans;
}

/* Tasks of all boxes. */
static int64_t count_units(const attend_cpu_plan *plan, const attend_attention_args *args,
                           const attend_key_part *part)
{
    attend_cpu_boxes boxes = {.plan = plan, .part = part};
    int64_t units = 0;
    while (attend_cpu_next_box(&boxes)) {
        const int64_t spans = count_in(&boxes.at, ATTEND_CPU_SPAN);
        units += attend_cpu_units(plan, boxes.heads, spans, few_heads(plan, args, spans));
    }
    return units;
}

static void run_box(running *r)
{
    const attend_cpu_plan *plan = r->plan;
    const attend_problem *p = plan->problem;
    attend_pool *pool = plan->context->pool;
    const bool few = plan->schedule == ATTEND_CPU_DECODE;
    const int64_t spans = count_in(r->part, ATTEND_CPU_SPAN), rows = attend_cpu_slot_rows(plan),
                  units = attend_cpu_units(plan, r->heads, spans, r->heads_together),
                  blocks = count_in(r->part, plan->blocking.keys);
    /* Rough costs: 0.25 ns an element of K or V, and 1/16 ns for each row. */
    const double elements =
        (double)(p->packed && !plan->box.is_part ? p->num_kv_heads * p->total_k
                                                 : r->heads * (r->part->end - r->part->first)) *
        (double)(p->head_dim + p->head_dim_v);
    const double merged = (double)(r->heads * rows) * (double)spans * (double)p->head_dim_v;
    if (!few) attend_pool_run(pool, r->heads * blocks, 0.5 * elements, pack_block, r);
    attend_pool_run(pool, units, elements * (0.25 + (double)rows / 16), few ? run_few_unit : run_unit, r);
    if (plan->schedule != ATTEND_CPU_WHOLE && attend_progress_continues(plan->context->tracker))
        attend_pool_run(pool, r->heads * rows, merged, merge_row, r);
}

attend_status attend_cpu_attention(attend_cpu_plan *plan, const attend_attention_args *args,
                                   const attend_key_part *part)
{
    attend_progress_tracker *tracker = plan->context->tracker;
    attend_cpu_boxes boxes = {.plan = plan, .part = part};
    attend_cpu_prepare_heads(plan, args);
    attend_progress_stage(tracker, tracker->work.attention, count_units(plan, args, part));
    while (attend_progress_continues(tracker) && attend_cpu_next_box(&boxes)) {
        const attend_attention_args box = attend_cpu_box_args(&boxes, args);
        running run = {plan,        &box,
                       &boxes.at,   boxes.first_head,
                       boxes.heads, few_heads(plan, args, count_in(&boxes.at, ATTEND_CPU_SPAN))};
        run_box(&run);
    }
    return attend_progress_status(tracker);
}

typedef struct merging {
    const attend_cpu_kernel *kernel;
    const attend_problem *problem;
    const attend_merge_args *args;
} merging;

static void merge_states(void *job, int64_t index, int thread)
{
    const merging *m = job;
    const int64_t heads = m->problem->num_heads, queries = m->problem->seqlen_q;
    (void)thread;
    m->kernel->merge_states(m->problem, m->args, index / heads / queries, index / heads % queries,
                            index % heads);
}

attend_status attend_cpu_merge(attend_context *context, const attend_problem *p,
                               const attend_merge_args *args, const attend_run *run)
{
    const attend_cpu_context *cpu = context->state;
    merging m = {cpu->kernel, p, args};
    const int64_t rows = p->batch * p->seqlen_q * p->num_heads;
    (void)run;
    attend_pool_run(cpu->pool, rows, 0.5 * (double)rows * (double)(args->count + 1) * (double)p->head_dim_v,
                    merge_states, &m);
    return ATTEND_OK;
}
