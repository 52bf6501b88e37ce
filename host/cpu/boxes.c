/* What a plan with a memory limit holds at once: some KV heads, and of one KV head blocks of queries and
   parts of keys, whose sums are carried from part to part (docs/state.md). No bit depends on it. */
#include "cpu/cpu.h"

static int64_t half(int64_t n) { return (n + 1) / 2; }

/* ---- memory ---- */

int64_t attend_cpu_slot_keys(const attend_cpu_plan *plan)
{
    return attend_cpu_round_up(attend_least(plan->box.keys, plan->problem->seqlen_k), plan->blocking.keys);
}

int64_t attend_cpu_slot_rows(const attend_cpu_plan *plan)
{
    return plan->problem->num_heads / plan->problem->num_kv_heads * plan->box.queries;
}

bool attend_cpu_carries(const attend_cpu_plan *plan) { return plan->box.keys < plan->problem->seqlen_k; }

static int64_t state_floats(const attend_cpu_plan *plan)
{
    if (!attend_cpu_carries(plan)) return 0;
    return attend_cpu_times(attend_cpu_times(plan->box.heads, attend_cpu_slot_rows(plan)),
                            plan->problem->head_dim_v + 2);
}

void attend_cpu_reservations(const attend_cpu_plan *plan, attend_cpu_reservation all[ATTEND_CPU_RESERVATIONS])
{
    const attend_problem *p = plan->problem;
    const bool panels = plan->schedule != ATTEND_CPU_DECODE;
    const int64_t whole_rows = attend_cpu_times(p->num_kv_heads, attend_cpu_rows_reserved(p)),
                  keys = !panels ? 0
                         : plan->box.is_part
                             ? attend_cpu_times(plan->box.heads, attend_cpu_slot_keys(plan))
                             : attend_cpu_times(p->num_kv_heads, attend_cpu_keys_reserved(plan)),
                  rows = plan->box.is_part ? attend_cpu_times(plan->box.heads, attend_cpu_slot_rows(plan))
                                           : whole_rows,
                  spans = plan->schedule != ATTEND_CPU_WHOLE
                              ? attend_cpu_spans(attend_least(plan->box.keys, p->seqlen_k))
                              : 0;
    const attend_cpu_reservation made[] = {
        {attend_cpu_times(keys, p->head_dim), sizeof(float)},
        {attend_cpu_times(keys, attend_cpu_v_width(plan->context->kernel, p)), sizeof(float)},
        {keys / plan->blocking.keys, sizeof(bool)},
        {attend_cpu_times(rows, attend_cpu_times(spans, attend_cpu_partial_floats(p))), sizeof(float)},
        {state_floats(plan), sizeof(float)},
    };
    memcpy(all, made, sizeof made);
}

/* Whether the box fits in so many bytes; *fewest is the fewest that a box was found to take. */
static bool fits(attend_cpu_plan *plan, size_t room, size_t *fewest)
{
    attend_cpu_reservation all[ATTEND_CPU_RESERVATIONS];
    size_t total = 0;
    plan->schedule = attend_cpu_schedule_of(plan);
    attend_cpu_reservations(plan, all);
    for (int i = 0; i < ATTEND_CPU_RESERVATIONS; i++)
        attend_cpu_count_bytes(all[i].elements, all[i].bytes, &total);
    if (total < *fewest) *fewest = total;
    return total <= room;
}

/* ---- the choice ---- */

enum { MOST_SPANS = 64, FEWEST_QUERIES = 64 };

/* Whole heads, as many as fit; else one with the most of its keys at once; else the largest blocks of its
   queries, since each block packs the keys again. Few rows read keys in place: only their partial results
   grow with the keys. */
size_t attend_cpu_choose_box(attend_cpu_plan *plan, size_t room)
{
    const attend_problem *p = plan->problem;
    const bool few = attend_cpu_rows_of(p) <= ATTEND_CPU_FEW_ROWS;
    attend_cpu_box *box = &plan->box;
    size_t fewest = SIZE_MAX;
    *box = (attend_cpu_box){attend_cpu_times(p->batch, p->num_kv_heads), p->seqlen_q,
                            attend_most(p->seqlen_k, 1), false};
    bool found = fits(plan, room, &fewest);
    box->is_part = !found;
    while (!found && !few && box->heads > 1) box->heads = half(box->heads), found = fits(plan, room, &fewest);
    if (p->packed) return fewest; /* a state has no entries of packed sequences */
    if (!found && !few)
        box->keys = attend_least(box->keys, MOST_SPANS * ATTEND_CPU_SPAN), found = fits(plan, room, &fewest);
    while (!found && box->keys > ATTEND_CPU_SPAN)
        box->keys = attend_cpu_round_up(half(box->keys), ATTEND_CPU_SPAN), found = fits(plan, room, &fewest);
    while (!found && !few && box->queries > FEWEST_QUERIES)
        box->queries = attend_most(half(box->queries), FEWEST_QUERIES), found = fits(plan, room, &fewest);
    return fewest;
}

/* ---- the boxes of a run ---- */

/* The keys that rows of the box see, in whole spans. Keys that are all held at once are all packed. */
static void seen_keys(attend_cpu_boxes *b)
{
    const attend_cpu_plan *plan = b->plan;
    const attend_problem *p = plan->problem;
    int64_t low = b->part->end, high = b->part->first;
    b->at.first = b->part->first, b->seen_end = b->part->end;
    if (!attend_cpu_carries(plan)) return;
    for (int64_t i = b->first_head; i < b->first_head + b->heads; i++) {
        const attend_sequence *s = &plan->per_head[i / p->num_kv_heads * p->num_heads].sequence;
        const int64_t last = attend_least(b->at.end_query, s->seqlen_q) - 1;
        if (last < b->at.first_query) continue;
        low = attend_least(low, attend_visible_begin(p, s, b->at.first_query));
        high = attend_most(high, attend_visible_end(p, s, last));
    }
    if (low >= high) low = high = b->part->first;
    b->at.first = attend_clamp(low / ATTEND_CPU_SPAN * ATTEND_CPU_SPAN, b->part->first, b->part->end);
    b->seen_end = attend_clamp(attend_cpu_round_up(high, ATTEND_CPU_SPAN), b->at.first, b->part->end);
}

/* The box's sums between two parts of keys. */
static attend_state carried(const attend_cpu_boxes *b)
{
    const attend_problem *p = b->plan->problem;
    const int64_t queries = b->plan->box.queries, group = p->num_heads / p->num_kv_heads,
                  dims = p->head_dim_v, rows = b->plan->box.heads * group * queries,
                  before = b->first_head * group * queries;
    float *const out = b->plan->carried, *const max = out + rows * dims, *const sum = max + rows;
    return (attend_state){.out = {.data = attend_cpu_counted_from(out, before * dims, sizeof *out),
                                  .dtype = ATTEND_F32,
                                  .rank = 4,
                                  .stride = {p->num_heads * queries * dims, dims, queries * dims, 1}},
                          .max = {.data = attend_cpu_counted_from(max, before, sizeof *max),
                                  .dtype = ATTEND_F32,
                                  .rank = 3,
                                  .stride = {p->num_heads * queries, queries, 1}},
                          .sum = {.data = attend_cpu_counted_from(sum, before, sizeof *sum),
                                  .dtype = ATTEND_F32,
                                  .rank = 3,
                                  .stride = {p->num_heads * queries, queries, 1}}};
}

/* The caller's tensors, from the box's first query on. */
static void skip_queries(attend_tensor *t, int axis, int64_t queries)
{
    if (t->data)
        t->data = (char *)t->data + queries * t->stride[axis] * (int64_t)attend_dtype_bytes(t->dtype);
}

static attend_state from_query(const attend_state *state, int64_t queries)
{
    attend_state s = *state;
    skip_queries(&s.out, 1, queries), skip_queries(&s.max, 2, queries), skip_queries(&s.sum, 2, queries);
    return s;
}

attend_attention_args attend_cpu_box_args(const attend_cpu_boxes *b, const attend_attention_args *args)
{
    const int64_t queries = b->at.first_query - b->part->first_query;
    attend_attention_args a = *args;
    skip_queries(&a.q, 1, queries), skip_queries(&a.out, 1, queries), skip_queries(&a.lse, 2, queries);
    return a;
}

static bool next_rows(attend_cpu_boxes *b)
{
    const attend_problem *p = b->plan->problem;
    const attend_cpu_box *box = &b->plan->box;
    if (!b->begun || b->at.end_query >= b->part->end_query) {
        b->first_head += b->heads;
        b->at.first_query = b->part->first_query;
    } else {
        b->at.first_query = b->at.end_query;
    }
    b->begun = true;
    b->heads = attend_least(box->heads, p->batch * p->num_kv_heads - b->first_head);
    b->at.end_query = attend_least(b->part->end_query, b->at.first_query + box->queries);
    return b->heads > 0 && b->at.first_query < b->at.end_query;
}

bool attend_cpu_next_box(attend_cpu_boxes *b)
{
    const bool carries = attend_cpu_carries(b->plan), goes_on = b->begun && b->at.end < b->seen_end;
    if (goes_on) {
        b->at.first = b->at.end;
    } else {
        if (!b->begun) b->at = *b->part;
        if (!next_rows(b)) return false;
        seen_keys(b);
    }
    b->at.end = carries ? attend_least(b->seen_end, b->at.first + b->plan->box.keys) : b->seen_end;
    const int64_t queries = b->at.first_query - b->part->first_query;
    b->at.from = goes_on ? carried(b) : from_query(&b->part->from, queries);
    b->at.into = b->at.end < b->seen_end ? carried(b) : from_query(&b->part->into, queries);
    return true;
}
