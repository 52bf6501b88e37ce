/* The loops of inspection over scores, compiled once per instruction set: S[keys][lanes] = K·Qᵀ as in
   kernel.c, then the sums of attend/inspect.h, lane by lane. Sums are taken within blocks of keys at absolute
   positions, then block by block: a row's results depend on no other row. */
#include "cpu/elements.h"
#include "cpu/inspect.h"
#include "cpu/kernel_multiply.h"
#include "cpu/kernel_pack.h"
#include "cpu/kernel_softmax.h"

_Static_assert((int)WIDTH <= (int)ATTEND_CPU_INSPECT_ROWS, "a glance holds a panel of rows");

/* Scores are read several times here, so they are in units of log2: without elementwise features, the factor
   goes into the queries. */
static void load_queries(const attend_cpu_task *task, attend_cpu_inspect_state *state)
{
    int64_t there = least(state->rows, task->sequence.seqlen_q - state->first_row),
            step = state->vectors * LANES;
    for (int v = 0; v < state->vectors; v++) {
        float *q = state->q + v * LANES, unit[LANES];
        pack_queries(task, state->first_row + v * LANES, there - v * LANES, q, step, unit);
        for (int64_t c = 0; c < task->problem->head_dim && !task->elements; c++)
            store(q + c * step, load(q + c * step) * load(unit));
    }
}

static void load_keys(const attend_cpu_task *task, int64_t first, float *keys)
{
    switch (task->problem->dtype) {
    case ATTEND_F32: pack_keys(task, first, keys, ATTEND_F32); break;
    case ATTEND_F16: pack_keys(task, first, keys, ATTEND_F16); break;
    case ATTEND_BF16: pack_keys(task, first, keys, ATTEND_BF16); break;
    default: break; /* activations have no other dtype */
    }
}

/* A block of keys for one state: keys [from, to) of it are visible to some row. */
typedef struct block {
    const attend_cpu_task *task;
    attend_cpu_inspect_state *state;
    float *s; /* [ATTEND_CPU_BLOCK][vectors·LANES] */
    int64_t first, from, to;
} block;

/* The keys [from, to) within the block of an interval of keys, for each of LANES rows. */
ALWAYS_INLINE void clamp_to_block(const block *b, const int64_t *begin, const int64_t *end, vi *from, vi *to)
{
    for (int i = 0; i < LANES; i++) {
        (*from)[i] = (int32_t)least(most(begin[i] - b->first, 0), ATTEND_CPU_BLOCK);
        (*to)[i] = (int32_t)least(most(end[i] - b->first, 0), ATTEND_CPU_BLOCK);
    }
}

/* Scores of the block, -infinity where masked. False where no row sees any key. */
ALWAYS_INLINE bool score_block(block *b, int vectors, const float *keys)
{
    const attend_cpu_inspect_state *state = b->state;
    const attend_cpu_elements *e = b->task->elements;
    int64_t d = b->task->problem->head_dim, step = vectors * LANES;
    b->from = most(state->low - b->first, 0), b->to = least(state->high - b->first, ATTEND_CPU_BLOCK);
    if (b->from >= b->to) return false;
    attend_cpu_scores tile = {b->s + b->from * step, 1, b->first + b->from, b->to - b->from, step};
    attend_cpu_visibility visibility = ATTEND_CPU_VISIBLE;
    attend_cpu_element_rows element_rows;
    if (e) {
        attend_cpu_prepare_rows(e, state->first_row, state->rows, LANES, &element_rows);
        visibility = OF_ISA(attend_cpu_scorer).visibility_of_tile(e, &element_rows, &tile);
        if (visibility == ATTEND_CPU_HIDDEN) return false;
        b->from = tile.first_key - b->first, b->to = b->from + tile.keys;
    }
    for (int64_t j = b->from / ROWS * ROWS; j < b->to; j += ROWS)
        multiply(ROWS, vectors, (steps){1, ROWS, step, step}, keys + j * d, state->q, d, b->s + j * step,
                 FRESH);
    if (e) {
        OF_ISA(attend_cpu_scorer).score(e, &element_rows, &tile, visibility);
        for (float *s = b->s + b->from * step; s < b->s + b->to * step; s += LANES)
            store(s, load(s) * splat((float)ATTEND_LOG2E));
    }
    if (state->all_low <= b->first + b->from && state->all_high >= b->first + b->to) return true;
    for (int v = 0; v < vectors; v++) {
        vi from, to;
        clamp_to_block(b, state->begin + v * LANES, state->end + v * LANES, &from, &to);
        for (int64_t j = b->from; j < b->to; j++) {
            float *s = b->s + j * step + v * LANES;
            vi at = splat_int((int32_t)j);
            store(s, choose((from <= at) & (at < to), load(s), splat(-INFINITY)));
        }
    }
    return true;
}

ALWAYS_INLINE void sum_block(block *b, int vectors)
{
    attend_cpu_inspect_state *state = b->state;
    int64_t step = vectors * LANES;
    for (int v = 0; v < vectors; v++) {
        const float *s = b->s + v * LANES;
        vf max = load(state->max + v * LANES), sum = splat(0), top = max;
        for (int64_t j = b->from; j < b->to; j++) top = maximum(load(s + j * step), top);
        vf base = finite_max(top);
        for (int64_t j = b->from; j < b->to; j++) sum += exp2_vector(load(s + j * step) - base);
        store(state->sum + v * LANES, load(state->sum + v * LANES) * exp2_vector(max - base) + sum);
        store(state->max + v * LANES, top);
    }
}

/* Keys arrive in ascending order, so that of equal scores the lower key is first. */
static void list_key(attend_cpu_inspect_state *state, int64_t top, int64_t row, float score, int64_t key)
{
    float *scores = state->top_scores + row * top;
    int64_t *keys = state->top_keys + row * top, rank = least(state->listed[row], top - 1);
    for (; rank > 0 && scores[rank - 1] < score; rank--)
        scores[rank] = scores[rank - 1], keys[rank] = keys[rank - 1];
    scores[rank] = score, keys[rank] = key;
    if (state->listed[row] < top) state->listed[row]++;
    if (state->listed[row] == top) state->least_top[row] = scores[top - 1];
}

/* Lists top keys, replaces scores by weights, and adds to the sums of every row. */
ALWAYS_INLINE void weigh_block(block *b, int vectors, int64_t top)
{
    attend_cpu_inspect_state *state = b->state;
    const attend_sequence *sequence = &b->task->sequence;
    int64_t step = vectors * LANES;
    for (int v = 0; v < vectors; v++) {
        int64_t row = v * LANES;
        vf lse = load(state->lse + row), least_top = load(state->least_top + row), weight = splat(0),
           entropy = splat(0), distance = splat(0), ahead;
        for (int i = 0; i < LANES; i++)
            ahead[i] =
                (float)(b->first - attend_position(b->task->problem, sequence, state->first_row + row + i));
        for (int64_t j = b->from; j < b->to; j++) {
            float *s = b->s + j * step + row;
            vf score = load(s);
            vi listed = score > least_top;
            if (__builtin_expect(any(listed), 0)) {
                for (int i = 0; i < LANES; i++)
                    if (listed[i]) list_key(state, top, row + i, score[i], b->first + j);
                least_top = load(state->least_top + row);
            }
            vf surplus = choose(score == splat(-INFINITY), splat(2 * LEAST), score - lse),
               w = exp2_vector(surplus);
            vf far = ahead + splat((float)j);
            store(s, w);
            weight += w, entropy -= w * surplus, distance += w * maximum(far, -far);
        }
        store(state->weight + row, load(state->weight + row) + weight);
        store(state->entropy + row, load(state->entropy + row) + entropy);
        store(state->distance + row, load(state->distance + row) + distance);
    }
}

static void add_window(const block *b, const attend_key_window *window, float *mass)
{
    const attend_cpu_inspect_state *state = b->state;
    int64_t begin[LANES], end[LANES], step = state->vectors * LANES;
    for (int v = 0; v < state->vectors; v++) {
        int64_t low = b->to, high = b->from;
        for (int i = 0; i < LANES; i++) {
            attend_window_keys(b->task->problem, &b->task->sequence, window, state->first_row + v * LANES + i,
                               &begin[i], &end[i]);
            low = least(low, most(begin[i] - b->first, b->from)),
            high = most(high, least(end[i] - b->first, b->to));
        }
        vi from, to;
        vf sum = splat(0);
        clamp_to_block(b, begin, end, &from, &to);
        for (int64_t j = low; j < high; j++) {
            vi at = splat_int((int32_t)j);
            sum += choose((from <= at) & (at < to), load(b->s + j * step + v * LANES), splat(0));
        }
        store(mass + v * LANES, load(mass + v * LANES) + sum);
    }
}

/* Adds to the map, column by column: the weights of a column's keys are summed within the block first. */
static void add_to_map(const block *b, const attend_inspection *want)
{
    const attend_cpu_inspect_state *state = b->state;
    int64_t step = state->vectors * LANES, columns = want->map.shape[3],
            end = least(want->first_key + want->map_keys - b->first, b->to);
    for (int64_t j = most(want->first_key - b->first, b->from); j < end;) {
        int64_t column = attend_map_tile(b->first + j - want->first_key, want->map_keys, columns);
        int64_t next =
            least(want->first_key + attend_map_begin(column + 1, want->map_keys, columns) - b->first, end);
        for (int v = 0; v < state->vectors; v++) {
            vf sum = splat(0);
            for (int64_t i = j; i < next; i++) sum += load(b->s + i * step + v * LANES);
            float *to = state->map + column * step + v * LANES;
            store(to, load(to) + sum);
        }
        j = next;
    }
}

static void store_weights(const block *b)
{
    const attend_cpu_inspect_state *state = b->state;
    for (int64_t row = 0; row < state->rows; row++)
        for (int64_t j = b->from; j < b->to && state->weights[row]; j++)
            state->weights[row][b->first + j] = b->s[j * state->vectors * LANES + row];
}

/* The loops that gain from a constant width. */
#define PANEL(n)                                                                              \
    __attribute__((noinline)) static void sum_##n(block *b, const float *keys)                \
    {                                                                                         \
        if (score_block(b, n, keys)) sum_block(b, n);                                         \
    }                                                                                         \
    __attribute__((noinline)) static bool weigh_##n(block *b, const float *keys, int64_t top) \
    {                                                                                         \
        if (!score_block(b, n, keys)) return false;                                           \
        weigh_block(b, n, top);                                                               \
        return true;                                                                          \
    }
PANEL(1)
PANEL(2)
#if ATTEND_VECTORS == 3
PANEL(3)
static void (*const sums[])(block *, const float *) = {NULL, sum_1, sum_2, sum_3};
static bool (*const weighs[])(block *, const float *, int64_t) = {NULL, weigh_1, weigh_2, weigh_3};
#else
static void (*const sums[])(block *, const float *) = {NULL, sum_1, sum_2};
static bool (*const weighs[])(block *, const float *, int64_t) = {NULL, weigh_1, weigh_2};
#endif

static void sum(const attend_cpu_task *task, int64_t first, const float *keys, float *scores,
                attend_cpu_inspect_state *state)
{
    block b = {.task = task, .state = state, .s = scores, .first = first};
    sums[state->vectors](&b, keys);
}

static void collect(const attend_cpu_task *task, const attend_inspect_request *request, int64_t first,
                    const float *keys, float *scores, attend_cpu_inspect_state *state)
{
    block b = {.task = task, .state = state, .s = scores, .first = first};
    if (!weighs[state->vectors](&b, keys, request->top)) return;
    for (int64_t n = 0; n < request->want.num_windows && request->want.mass.data; n++)
        add_window(&b, &request->windows[n], state->mass[n]);
    if (state->map) add_to_map(&b, &request->want);
    store_weights(&b);
}

const attend_cpu_inspector OF_ISA(attend_cpu_inspector) = {LANES,     VECTORS, load_queries,
                                                           load_keys, sum,     collect};
