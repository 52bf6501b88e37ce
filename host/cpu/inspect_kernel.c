/* The loops of inspection over scores, compiled once per instruction set: S[keys][lanes] = K·Qᵀ as in
   kernel.c, then what attend/inspect.h asks of each row, lane by lane. Sums are taken within blocks of keys
   at absolute positions, then block by block: a row's numbers depend on nothing beside it. */
#include "cpu/elements.h"
#include "cpu/inspect.h"
#include "cpu/kernel_multiply.h"
#include "cpu/kernel_pack.h"
#include "cpu/kernel_softmax.h"

#define CONCAT_(a, b) a##b
#define CONCAT(a, b)  CONCAT_(a, b)

_Static_assert((int)WIDTH <= (int)ATTEND_CPU_INSPECT_ROWS, "a glance holds a panel of rows");

/* Many passes read scores here: they come in units of log2, so the queries take the unit too where the dot
   product is all. */
static void take_queries(const attend_cpu_task *task, attend_cpu_inspect_state *g)
{
    int64_t there = least(g->rows, task->sequence.seqlen_q - g->first_row), step = g->vectors * LANES;
    for (int v = 0; v < g->vectors; v++) {
        float *q = g->q + v * LANES, unit[LANES];
        pack_queries(task, g->first_row + v * LANES, there - v * LANES, q, step, unit);
        for (int64_t c = 0; c < task->problem->head_dim && !task->elements; c++)
            store(q + c * step, load(q + c * step) * load(unit));
    }
}

static void take_keys(const attend_cpu_task *task, int64_t first, float *keys)
{
    attend_cpu_task block = *task;
    block.k.data =
        (char *)task->k.data + first * task->k.stride * (int64_t)attend_dtype_bytes(task->problem->dtype);
    block.sequence.seqlen_k -= first;
    block.keys.k = keys;
    switch (task->problem->dtype) {
    case ATTEND_F32: pack_keys(&block, 0, ATTEND_F32); break;
    case ATTEND_F16: pack_keys(&block, 0, ATTEND_F16); break;
    case ATTEND_BF16: pack_keys(&block, 0, ATTEND_BF16); break;
    default: break; /* no activation is of another dtype */
    }
}

/* A block of keys as one glance meets it: places [from, to) of it are looked at. */
typedef struct block {
    const attend_cpu_task *task;
    attend_cpu_inspect_state *state;
    float *s; /* [ATTEND_CPU_BLOCK][vectors·LANES] */
    int64_t first, from, to;
} block;

/* Places [*begin, *end) of the block, of an interval of keys for each of LANES rows. */
ALWAYS_INLINE void row_positions(const block *b, const int64_t *begin, const int64_t *end, vi *from, vi *to)
{
    for (int i = 0; i < LANES; i++) {
        (*from)[i] = (int32_t)least(most(begin[i] - b->first, 0), ATTEND_CPU_BLOCK);
        (*to)[i] = (int32_t)least(most(end[i] - b->first, 0), ATTEND_CPU_BLOCK);
    }
}

/* Scores of the block, -infinity where a row does not see a key. False where no row sees any. */
ALWAYS_INLINE bool score_block(block *b, int vectors, const float *keys)
{
    const attend_cpu_inspect_state *g = b->state;
    const attend_cpu_elements *e = b->task->elements;
    int64_t d = b->task->problem->head_dim, step = vectors * LANES;
    b->from = most(g->low - b->first, 0), b->to = least(g->high - b->first, ATTEND_CPU_BLOCK);
    if (b->from >= b->to) return false;
    attend_cpu_scores tile = {b->s + b->from * step, 1, b->first + b->from, b->to - b->from, step};
    attend_cpu_visibility visibility = ATTEND_CPU_VISIBLE;
    attend_cpu_element_rows request;
    if (e) {
        attend_cpu_prepare_rows(e, g->first_row, g->rows, LANES, &request);
        visibility = CONCAT(attend_cpu_scorer_, ATTEND_ISA).visibility_of_tile(e, &request, &tile);
        if (visibility == ATTEND_CPU_HIDDEN) return false;
        b->from = tile.first_key - b->first, b->to = b->from + tile.keys;
    }
    for (int64_t j = b->from / ROWS * ROWS; j < b->to; j += ROWS)
        multiply(ROWS, vectors, (steps){1, ROWS, step, step}, keys + j * d, g->q, d, b->s + j * step, FRESH);
    if (e) {
        CONCAT(attend_cpu_scorer_, ATTEND_ISA).score(e, &request, &tile, visibility);
        for (float *s = b->s + b->from * step; s < b->s + b->to * step; s += LANES)
            store(s, load(s) * splat((float)ATTEND_LOG2E));
    }
    if (g->all_low <= b->first + b->from && g->all_high >= b->first + b->to) return true;
    for (int v = 0; v < vectors; v++) {
        vi from, to;
        row_positions(b, g->begin + v * LANES, g->end + v * LANES, &from, &to);
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
    attend_cpu_inspect_state *g = b->state;
    int64_t step = vectors * LANES;
    for (int v = 0; v < vectors; v++) {
        const float *s = b->s + v * LANES;
        vf max = load(g->max + v * LANES), sum = splat(0), top = max;
        for (int64_t j = b->from; j < b->to; j++) top = maximum(load(s + j * step), top);
        vf reference = reference_of(top);
        for (int64_t j = b->from; j < b->to; j++) sum += exp2_vector(load(s + j * step) - reference);
        store(g->sum + v * LANES, load(g->sum + v * LANES) * exp2_vector(max - reference) + sum);
        store(g->max + v * LANES, top);
    }
}

/* Keys come in their order, so that of equal scores the lower key stays first. */
static void list_key(attend_cpu_inspect_state *g, int64_t top, int64_t row, float score, int64_t key)
{
    float *scores = g->top_scores + row * top;
    int64_t *keys = g->top_keys + row * top, place = least(g->listed[row], top - 1);
    for (; place > 0 && scores[place - 1] < score; place--)
        scores[place] = scores[place - 1], keys[place] = keys[place - 1];
    scores[place] = score, keys[place] = key;
    if (g->listed[row] < top) g->listed[row]++;
    if (g->listed[row] == top) g->least_top[row] = scores[top - 1];
}

/* Lists keys and turns scores into weights, with the sums that every row has. */
ALWAYS_INLINE void weigh_block(block *b, int vectors, int64_t top)
{
    attend_cpu_inspect_state *g = b->state;
    const attend_sequence *sequence = &b->task->sequence;
    int64_t step = vectors * LANES;
    for (int v = 0; v < vectors; v++) {
        int64_t row = v * LANES;
        vf lse = load(g->lse + row), least_top = load(g->least_top + row), weight = splat(0),
           entropy = splat(0), distance = splat(0), ahead;
        for (int i = 0; i < LANES; i++)
            ahead[i] =
                (float)(b->first - attend_position(b->task->problem, sequence, g->first_row + row + i));
        for (int64_t j = b->from; j < b->to; j++) {
            float *s = b->s + j * step + row;
            vf score = load(s);
            vi listed = score > least_top;
            if (__builtin_expect(any(listed), 0)) {
                for (int i = 0; i < LANES; i++)
                    if (listed[i]) list_key(g, top, row + i, score[i], b->first + j);
                least_top = load(g->least_top + row);
            }
            vf surplus = choose(score == splat(-INFINITY), splat(2 * LEAST), score - lse),
               w = exp2_vector(surplus);
            vf far = ahead + splat((float)j);
            store(s, w);
            weight += w, entropy -= w * surplus, distance += w * maximum(far, -far);
        }
        store(g->weight + row, load(g->weight + row) + weight);
        store(g->entropy + row, load(g->entropy + row) + entropy);
        store(g->distance + row, load(g->distance + row) + distance);
    }
}

static void add_window(const block *b, const attend_key_window *window, float *mass)
{
    const attend_cpu_inspect_state *g = b->state;
    int64_t begin[LANES], end[LANES], step = g->vectors * LANES;
    for (int v = 0; v < g->vectors; v++) {
        int64_t low = b->to, high = b->from;
        for (int i = 0; i < LANES; i++) {
            attend_window_keys(b->task->problem, &b->task->sequence, window, g->first_row + v * LANES + i,
                               &begin[i], &end[i]);
            low = least(low, most(begin[i] - b->first, b->from)),
            high = most(high, least(end[i] - b->first, b->to));
        }
        vi from, to;
        vf sum = splat(0);
        row_positions(b, begin, end, &from, &to);
        for (int64_t j = low; j < high; j++) {
            vi at = splat_int((int32_t)j);
            sum += choose((from <= at) & (at < to), load(b->s + j * step + v * LANES), splat(0));
        }
        store(mass + v * LANES, load(mass + v * LANES) + sum);
    }
}

/* Column by column of the map: the block's keys of one column are summed, then join it. */
static void add_to_map(const block *b, const attend_inspection *want)
{
    const attend_cpu_inspect_state *g = b->state;
    int64_t step = g->vectors * LANES, columns = want->map.shape[3],
            end = least(want->first_key + want->map_keys - b->first, b->to);
    for (int64_t j = most(want->first_key - b->first, b->from); j < end;) {
        int64_t column = attend_map_tile(b->first + j - want->first_key, want->map_keys, columns);
        int64_t next =
            least(want->first_key + attend_map_begin(column + 1, want->map_keys, columns) - b->first, end);
        for (int v = 0; v < g->vectors; v++) {
            vf sum = splat(0);
            for (int64_t i = j; i < next; i++) sum += load(b->s + i * step + v * LANES);
            float *to = g->map + column * step + v * LANES;
            store(to, load(to) + sum);
        }
        j = next;
    }
}

static void give_weights(const block *b)
{
    const attend_cpu_inspect_state *g = b->state;
    for (int64_t row = 0; row < g->rows; row++)
        for (int64_t j = b->from; j < b->to && g->weights[row]; j++)
            g->weights[row][b->first + j] = b->s[j * g->vectors * LANES + row];
}

/* The loops that gain from a width that is constant. */
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
                attend_cpu_inspect_state *g)
{
    block b = {.task = task, .state = g, .s = scores, .first = first};
    sums[g->vectors](&b, keys);
}

static void request(const attend_cpu_task *task, const attend_inspect_request *request, int64_t first,
                    const float *keys, float *scores, attend_cpu_inspect_state *g)
{
    block b = {.task = task, .state = g, .s = scores, .first = first};
    if (!weighs[g->vectors](&b, keys, request->top)) return;
    for (int64_t n = 0; n < request->want.num_windows && request->want.mass.data; n++)
        add_window(&b, &request->windows[n], g->mass[n]);
    if (g->map) add_to_map(&b, &request->want);
    give_weights(&b);
}

const attend_cpu_inspector CONCAT(attend_cpu_inspector_, ATTEND_ISA) = {LANES,     VECTORS, take_queries,
                                                                        take_keys, sum,     request};
