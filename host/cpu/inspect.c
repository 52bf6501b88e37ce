/* Inspection on the CPU: distributes blocks of rows of query heads over threads, passes over the keys of each
   twice (once, where LSE is given), and writes the results. Map and distance are sums over the blocks of a
   head: each block stores its part separately, and the parts are summed in order, so that no bit depends on
   the threads. */
#include "cpu/inspect.h"
#include "core/arguments.h"
#include "core/cache.h"
#include "cpu/cpu.h"

#include <math.h>
#include <stdlib.h>

enum { STATES = 4 }; /* states a block, which share tiled keys */

typedef struct inspecting {
    const attend_cpu_plan *plan;
    const attend_problem *problem;
    const attend_cpu_inspector *inspector;
    const attend_attention_args *args;
    const attend_key_part *part; /* all keys */
    const attend_inspect_request *request;
    int64_t block_rows, blocks;   /* rows of a block, blocks of a head */
    int64_t map_first, map_slots; /* the first block with rows of the map; rows of slots a head */
    /* [batch][num_heads][map_slots][X]: block b stores tile row y at b - map_first + y */
    float *slots;
    double (*sums)[2]; /* [batch][num_heads][blocks]: weight, weight·distance */
    char *scratch;
    size_t scratch_bytes; /* a thread */
} inspecting;

/* The layout of one thread's memory. */
typedef struct memory {
    attend_cpu_inspect_state states[STATES];
    float *keys, *scores, *gathered; /* gathered: rows of K in several pages */
} memory;

static const double ln2 = 0.6931471805599453;

static bool wants_map(const inspecting *w) { return w->request->want.map.data != NULL; }

static size_t scratch_bytes(const inspecting *w)
{
    int64_t width = ATTEND_CPU_INSPECT_ROWS, columns = wants_map(w) ? w->request->want.map.shape[3] : 0;
    int64_t floats = ATTEND_CPU_BLOCK * (w->problem->head_dim + 2 * width) +
                     w->inspector->lanes * w->problem->head_dim +
                     STATES * width * (w->problem->head_dim + columns + 3 * w->request->top);
    return sizeof(memory) + (size_t)floats * sizeof(float) + 64 * (4 + 4 * STATES);
}

static void *carve(char **from, int64_t elements, size_t bytes)
{
    void *piece = *from;
    *from += ((size_t)elements * bytes + 63) / 64 * 64;
    return piece;
}

static memory *lay_out(const inspecting *w, int64_t thread)
{
    char *at = w->scratch + thread * (int64_t)w->scratch_bytes;
    int64_t width = ATTEND_CPU_INSPECT_ROWS, d = w->problem->head_dim, top = w->request->top;
    memory *m = carve(&at, 1, sizeof *m);
    m->keys = carve(&at, ATTEND_CPU_BLOCK * d, sizeof(float));
    m->scores = carve(&at, ATTEND_CPU_BLOCK * width, sizeof(float));
    m->gathered = carve(&at, w->inspector->lanes * d, sizeof(float));
    for (int i = 0; i < STATES; i++) {
        attend_cpu_inspect_state *state = &m->states[i];
        state->q = carve(&at, width * d, sizeof(float));
        state->map = wants_map(w) ? carve(&at, width * w->request->want.map.shape[3], sizeof(float)) : NULL;
        state->top_scores = carve(&at, width * top, sizeof(float));
        state->top_keys = carve(&at, width * top, sizeof(int64_t));
    }
    return m;
}

/* ---- states ---- */

static void find_visible(const attend_cpu_task *task, attend_cpu_inspect_state *state)
{
    state->low = INT64_MAX, state->high = 0, state->all_low = 0, state->all_high = INT64_MAX;
    for (int64_t r = 0; r < ATTEND_CPU_INSPECT_ROWS; r++) {
        int64_t row = state->first_row + r;
        state->begin[r] = state->end[r] = 0;
        if (r >= state->rows) continue;
        if (row < task->sequence.seqlen_q) {
            state->begin[r] = attend_visible_begin(task->problem, &task->sequence, row);
            state->end[r] = attend_visible_end(task->problem, &task->sequence, row);
        }
        if (state->begin[r] >= state->end[r]) {
            state->all_high = 0;
            continue;
        }
        if (state->begin[r] < state->low) state->low = state->begin[r];
        if (state->end[r] > state->high) state->high = state->end[r];
        if (state->begin[r] > state->all_low) state->all_low = state->begin[r];
        if (state->end[r] < state->all_high) state->all_high = state->end[r];
    }
    if (state->high == 0) state->low = 0;
}

/* Rows whose weights are requested start with zeros; repeated requests are copied at the end. */
static void choose_weights(const inspecting *w, const attend_cpu_task *task, int64_t head,
                           attend_cpu_inspect_state *state)
{
    const attend_inspection *want = &w->request->want;
    const attend_tensor *t = &want->weights;
    for (int64_t n = 0; t->data && n < want->num_queries; n++) {
        int64_t r = want->queries[n] - task->sequence.first_q - state->first_row;
        if (r < 0 || r >= state->rows || state->weights[r]) continue;
        state->weights[r] =
            (float *)t->data + task->sequence.batch * t->stride[0] + head * t->stride[1] + n * t->stride[2];
        memset(state->weights[r], 0, (size_t)w->problem->seqlen_k * sizeof(float));
    }
}

static void begin(const inspecting *w, const attend_cpu_task *task, int64_t head,
                  attend_cpu_inspect_state *state)
{
    int64_t lanes = w->inspector->lanes;
    state->vectors = (int)((state->rows + lanes - 1) / lanes);
    find_visible(task, state);
    memset(state->mass, 0, sizeof state->mass);
    if (state->map)
        memset(state->map, 0,
               (size_t)(w->request->want.map.shape[3] * state->vectors * lanes) * sizeof(float));
    for (int64_t r = 0; r < ATTEND_CPU_INSPECT_ROWS; r++) {
        state->max[r] = -INFINITY, state->sum[r] = state->lse[r] = 0;
        state->weight[r] = state->entropy[r] = state->distance[r] = 0;
        state->weights[r] = NULL, state->listed[r] = 0;
        state->least_top[r] = w->request->top > 0 ? -INFINITY : INFINITY;
    }
    choose_weights(w, task, head, state);
    w->inspector->load_queries(task, state);
}

/* log2 of the sums, or the caller's LSE in base 2; 0 for a row without visible keys. */
static void compute_lse(const inspecting *w, const attend_cpu_task *task, const attend_head *head,
                        attend_cpu_inspect_state *state)
{
    const attend_tensor *given = &w->args->lse;
    const attend_sequence *s = &task->sequence;
    for (int64_t r = 0; r < state->rows && state->first_row + r < s->seqlen_q; r++) {
        double sum = state->sum[r], max = state->max[r], lse = sum != 0 ? max + log2(sum) : -INFINITY;
        if (given->data) {
            int64_t at = s->batch * given->stride[0] + head->head * given->stride[1] +
                         (s->first_q + state->first_row + r) * given->stride[2];
            lse = ((const float *)given->data)[at] / ln2;
        } else if (w->problem->sinks) {
            double sink = attend_head_sink(&w->plan->terms, head->head) / ln2, top = sink > lse ? sink : lse;
            if (top != -INFINITY) lse = isnan(lse) ? lse : top + log2(exp2(lse - top) + exp2(sink - top));
        }
        state->lse[r] = lse == -INFINITY ? 0 : lse == INFINITY ? NAN : (float)lse;
    }
}

/* ---- results of rows ---- */

/* Element offset of a row in a tensor with the axes [batch, num_heads, rows, …]. */
static int64_t row_offset(const attend_tensor *t, const attend_sequence *s, int64_t head, int64_t row)
{
    return s->batch * t->stride[0] + head * t->stride[1] + (s->first_q + row) * t->stride[2];
}

static void store_top(const inspecting *w, const attend_sequence *s, int64_t head, int64_t r,
                      const attend_cpu_inspect_state *state)
{
    const attend_tensor *keys = &w->request->want.top_keys, *weights = &w->request->want.top_weights;
    bool poisoned = isnan(state->weight[r]);
    for (int64_t n = 0; n < w->request->top; n++) {
        bool there = n < state->listed[r] && !poisoned;
        float weight = there      ? exp2f(state->top_scores[r * w->request->top + n] - state->lse[r])
                       : poisoned ? NAN
                                  : 0;
        if (keys->data)
            ((int64_t *)keys->data)[row_offset(keys, s, head, state->first_row + r) + n * keys->stride[3]] =
                there ? state->top_keys[r * w->request->top + n] : -1;
        if (weights->data)
            ((float *)
                 weights->data)[row_offset(weights, s, head, state->first_row + r) + n * weights->stride[3]] =
                weight;
    }
}

static void store_row(const inspecting *w, const attend_sequence *s, int64_t head, int64_t r,
                      const attend_cpu_inspect_state *state)
{
    const attend_tensor *entropy = &w->request->want.entropy, *mass = &w->request->want.mass;
    double nats = state->entropy[r] * ln2;
    if (w->problem->sinks && state->weight[r] != 0) { /* alone: weight 1, entropy 0 */
        double surplus = attend_head_sink(&w->plan->terms, head) / ln2 - state->lse[r],
               weight = exp2(surplus);
        if (weight != 0) nats -= weight * surplus * ln2;
    }
    if (entropy->data)
        ((float *)entropy->data)[row_offset(entropy, s, head, state->first_row + r)] = (float)nats;
    for (int64_t n = 0; mass->data && n < w->request->want.num_windows; n++)
        ((float *)mass->data)[row_offset(mass, s, head, state->first_row + r) + n * mass->stride[3]] =
            state->mass[n][r];
    store_top(w, s, head, r, state);
}

static void store_map(const inspecting *w, int64_t head_index, int64_t block, int64_t r,
                      const attend_cpu_inspect_state *state)
{
    const attend_inspection *want = &w->request->want;
    int64_t columns = want->map.shape[3], y = state->first_row + r - want->first_query,
            step = state->vectors * w->inspector->lanes;
    if (!state->map || y < 0 || y >= want->map_queries) return;
    int64_t slot = block - w->map_first + attend_map_tile(y, want->map_queries, want->map.shape[2]);
    float *to = w->slots + (head_index * w->map_slots + slot) * columns;
    for (int64_t x = 0; x < columns; x++) to[x] += state->map[x * step + r];
}

static void copy_repeated(const inspecting *w, const attend_sequence *s, int64_t head,
                          const attend_cpu_inspect_state *state)
{
    const attend_inspection *want = &w->request->want;
    const attend_tensor *t = &want->weights;
    for (int64_t n = 0; t->data && n < want->num_queries; n++) {
        int64_t r = want->queries[n] - s->first_q - state->first_row;
        if (r < 0 || r >= state->rows) continue;
        float *to = (float *)t->data + s->batch * t->stride[0] + head * t->stride[1] + n * t->stride[2];
        if (to != state->weights[r]) memcpy(to, state->weights[r], (size_t)w->problem->seqlen_k * sizeof *to);
    }
}

static void store_results(const inspecting *w, const attend_sequence *s, int64_t head_index, int64_t block,
                          const attend_cpu_inspect_state *state)
{
    double *sums = w->sums[head_index * w->blocks + block];
    int64_t head = head_index % w->problem->num_heads;
    for (int64_t r = 0; r < state->rows; r++) {
        store_row(w, s, head, r, state);
        store_map(w, head_index, block, r, state);
        sums[0] += state->weight[r], sums[1] += state->distance[r];
    }
    copy_repeated(w, s, head, state);
}

/* ---- blocks of rows ---- */

static attend_cpu_rows rows_of(const attend_tensor *t, int64_t batch, int64_t first, int64_t head)
{
    int64_t at = batch * t->stride[0] + first * t->stride[1] + head * t->stride[2];
    return (attend_cpu_rows){(char *)t->data + at * (int64_t)attend_dtype_bytes(t->dtype), t->stride[1], 0};
}

static void walk(const inspecting *w, const attend_cpu_task *task, memory *m, int states, bool second)
{
    int64_t low = INT64_MAX, high = 0;
    for (int i = 0; i < states; i++) {
        if (m->states[i].high == 0) continue;
        if (m->states[i].low < low) low = m->states[i].low;
        if (m->states[i].high > high) high = m->states[i].high;
    }
    for (int64_t first = low / ATTEND_CPU_BLOCK * ATTEND_CPU_BLOCK; first < high; first += ATTEND_CPU_BLOCK) {
        w->inspector->load_keys(task, first, m->keys);
        for (int i = 0; i < states; i++)
            if (second)
                w->inspector->collect(task, w->request, first, m->keys, m->scores, &m->states[i]);
            else
                w->inspector->sum(task, first, m->keys, m->scores, &m->states[i]);
    }
}

static void inspect_block(const inspecting *w, int64_t unit, memory *m)
{
    const attend_problem *p = w->problem;
    int64_t head_index = unit / w->blocks, block = unit % w->blocks, head = head_index % p->num_heads;
    const attend_head *own = &w->plan->per_head[head_index];
    const attend_sequence s = own->sequence;
    attend_cpu_elements elements = w->plan->elements[head_index / (p->num_heads / p->num_kv_heads)];
    elements.relative += head % elements.group * attend_cpu_relative_floats(p);
    elements.heads = own, elements.group = 1;
    int64_t row = block * w->block_rows, width = w->inspector->lanes * w->inspector->vectors,
            all = attend_rows_of(p, &s);
    int64_t end = row + w->block_rows < all ? row + w->block_rows : all;
    attend_cpu_task task = {
        .problem = p,
        .part = w->part,
        .blocking = {ATTEND_CPU_BLOCK, STATES},
        .group = 1,
        .heads = own,
        .sequence = s,
        .q = rows_of(&w->args->q, s.batch, s.first_q, head),
        .k = attend_cpu_key_rows_of(&w->args->k, head / (p->num_heads / p->num_kv_heads)),
        .scratch = m->gathered,
    };
    if (attend_is_elementwise(p)) task.elements = &elements;
    int states = 0;
    for (; row < end; row += width, states++) {
        m->states[states].first_row = row, m->states[states].rows = end - row < width ? end - row : width;
        begin(w, &task, head, &m->states[states]);
    }
    if (!w->args->lse.data) walk(w, &task, m, states, false);
    for (int i = 0; i < states; i++) compute_lse(w, &task, own, &m->states[i]);
    walk(w, &task, m, states, true);
    for (int i = 0; i < states; i++) store_results(w, &s, head_index, block, &m->states[i]);
}

/* ---- sums over blocks ---- */

/* One row of the map's tiles of one head. */
static void finish_tiles(void *job, int64_t index, int thread)
{
    const inspecting *w = job;
    const attend_inspection *want = &w->request->want;
    const attend_tensor *t = &want->map;
    int64_t rows = t->shape[2], columns = t->shape[3], head_index = index / rows, y = index % rows;
    int64_t b = head_index / w->problem->num_heads, head = head_index % w->problem->num_heads;
    (void)thread;
    int64_t first = attend_map_begin(y, want->map_queries, rows),
            end = attend_map_begin(y + 1, want->map_queries, rows);
    for (int64_t x = 0; x < columns; x++) {
        int64_t keys =
            attend_map_begin(x + 1, want->map_keys, columns) - attend_map_begin(x, want->map_keys, columns);
        double sum = 0;
        for (int64_t block = (want->first_query + first) / w->block_rows;
             block <= (want->first_query + end - 1) / w->block_rows; block++)
            sum += w->slots[(head_index * w->map_slots + block - w->map_first + y) * columns + x];
        ((float *)t->data)[b * t->stride[0] + head * t->stride[1] + y * t->stride[2] + x * t->stride[3]] =
            (float)(sum / ((double)(end - first) * (double)keys));
    }
}

static void finish_distance(void *job, int64_t head_index, int thread)
{
    const inspecting *w = job;
    const attend_tensor *t = &w->request->want.distance;
    double weight = 0, distance = 0;
    (void)thread;
    for (int64_t i = 0; i < w->blocks; i++)
        weight += w->sums[head_index * w->blocks + i][0], distance += w->sums[head_index * w->blocks + i][1];
    ((float *)t->data)[head_index / w->problem->num_heads * t->stride[0] +
                       head_index % w->problem->num_heads * t->stride[1]] =
        weight != 0 ? (float)(distance / weight) : 0;
}

static bool reserve(inspecting *w)
{
    const attend_inspection *want = &w->request->want;
    int64_t heads = w->problem->batch * w->problem->num_heads, slots = 0, sums;
    size_t total = 0;
    w->block_rows = STATES * w->inspector->lanes * w->inspector->vectors;
    w->blocks = (w->problem->seqlen_q + w->block_rows - 1) / w->block_rows;
    if (wants_map(w)) {
        w->map_first = want->first_query / w->block_rows;
        w->map_slots =
            (want->first_query + want->map_queries - 1) / w->block_rows - w->map_first + want->map.shape[2];
        if (!attend_multiply(heads, w->map_slots, &slots) ||
            !attend_multiply(slots, want->map.shape[3], &slots))
            return false;
    }
    if (!attend_multiply(heads, w->blocks, &sums)) return false;
    w->scratch_bytes = (scratch_bytes(w) + 63) / 64 * 64;
    w->slots = calloc((size_t)slots + 1, sizeof *w->slots);
    w->sums = calloc((size_t)sums + 1, sizeof *w->sums);
    w->scratch = attend_cpu_allocate(w->plan->context->threads, w->scratch_bytes, &total);
    return w->slots && w->sums && w->scratch;
}

/* The last rows first: they have the most visible keys. */
static void inspect_unit(void *job, int64_t index, int thread)
{
    const inspecting *w = job;
    attend_progress_tracker *tracker = w->plan->context->tracker;
    if (!attend_progress_continues(tracker)) return;
    inspect_block(w, w->problem->batch * w->problem->num_heads * w->blocks - 1 - index, lay_out(w, thread));
    attend_progress_count(tracker, 1, thread == 0);
}

static void run(inspecting *w)
{
    const attend_problem *p = w->problem;
    attend_pool *pool = w->plan->context->pool;
    attend_progress_tracker *tracker = w->plan->context->tracker;
    const int64_t heads = p->batch * p->num_heads, units = heads * w->blocks,
                  tiles = wants_map(w) ? heads * w->request->want.map.shape[2] : 0;
    const double scores = (double)(heads * p->seqlen_q) * (double)p->seqlen_k; /* at least 1 ns each */
    attend_progress_stage(tracker, tracker->work.attention, units);
    attend_pool_run(pool, units, scores, inspect_unit, w);
    attend_pool_run(pool, tiles,
                    (double)(heads * w->map_slots) *
                        (double)(wants_map(w) ? w->request->want.map.shape[3] : 0),
                    finish_tiles, w);
    if (w->request->want.distance.data)
        attend_pool_run(pool, heads, (double)(heads * w->blocks), finish_distance, w);
}

attend_status attend_cpu_inspect(attend_plan *plan, const attend_attention_args *args,
                                 const attend_key_part *part, const attend_inspect_request *request)
{
    attend_cpu_plan *cpu = plan->state;
    inspecting w = {.plan = cpu,
                    .problem = &plan->problem,
                    .inspector = cpu->context->kernel->inspector,
                    .args = args,
                    .part = part,
                    .request = request};
    ATTEND_TRY(attend_lists_check(&plan->problem, args->features));
    ATTEND_TRY(attend_key_layout_check(&plan->problem, args->features->seqlens_k, part));
    attend_cpu_prepare_heads(cpu, args);
    bool complete = reserve(&w);
    if (complete) run(&w);
    free(w.slots), free(w.sums), free(w.scratch);
    if (!complete)
        return attend_fail(ATTEND_OUT_OF_MEMORY,
                           "no memory for what inspecting attention of these lengths takes");
    return attend_progress_status(cpu->context->tracker);
}
