/* Exact attention by blocks with an online softmax (Milakov & Gimelshein 2018; Dao et al. 2022). Compiled
   once per instruction set with ATTEND_ISA, ATTEND_LANES, ATTEND_ROWS, ATTEND_VECTORS, ATTEND_RUNS_HERE;
   kernel.h is its interface.

   Rows of queries are the lanes. A panel is up to VECTORS vectors of rows. For each block of keys it computes
   scores S[keys][lanes] = K·Qᵀ, replaces them by weights P in place, and adds O[columns][lanes] += Vᵀ·P. K
   and V are the broadcast operand, Q and P the loaded one: so softmax needs no reduction across lanes, and P
   no packing. A row's results depend on no other row. */

#include "cpu/backward.h"
#include "cpu/elements.h"
#include "cpu/inspect.h"
#include "cpu/kernel.h"
#include "cpu/kernel_multiply.h"
#include "cpu/kernel_pack.h"
#include "cpu/kernel_softmax.h"
#include "cpu/kernel_rows.h"
#include "cpu/kernel_decode.h"

#define STRING_(a) #a
#define STRING(a)  STRING_(a)

/* Up to WIDTH rows and their state */
typedef struct panel {
    _Alignas(64) int64_t first_row;
    int64_t rows;
    int vectors;
    bool fresh; /* no span has been merged, and no state was given */
    bool begun; /* the current span has a visible block, and its sums are set */
    /* Ranges of keys over the rows that have visible keys; sums of other rows are meaningless and not
       used. */
    int64_t low, high;         /* keys that some row sees */
    int64_t all_low, all_high; /* keys that every row sees; low <= all_low <= all_high <= high */
    float *q;                  /* [head_dim][vectors·LANES], times row_scale.power */
    float *o, *o_span;         /* [width of V][vectors·LANES], of the merged spans and of the current one */
    float m[WIDTH], l[WIDTH], m_span[WIDTH], l_span[WIDTH];
    float unit[WIDTH];                /* factor from scores to exponents of 2 */
    int64_t begin[WIDTH], end[WIDTH]; /* visible interval of each row */
} panel;

typedef struct work {
    const attend_cpu_task *task;
    int64_t d, v_width, keys;
    float *s; /* [keys of a block][WIDTH] */
    panel *panels;
    attend_cpu_element_rows *element_rows; /* one a panel; NULL without elementwise features */
    int64_t count;
} work;

static int64_t panel_floats(const attend_problem *p)
{
    return (int64_t)(sizeof(panel) / sizeof(float)) +
           (p->head_dim + 2 * attend_cpu_round_up(p->head_dim_v, ROWS)) * WIDTH;
}

static int64_t scratch_floats(const attend_problem *p, const attend_cpu_blocking *blocking)
{
    const int64_t element_rows =
        attend_is_elementwise(p) ? (int64_t)(sizeof(attend_cpu_element_rows) / sizeof(float)) : 0;
    return attend_cpu_round_up(
        most(blocking->keys * WIDTH + blocking->panels * (panel_floats(p) + element_rows), few_floats(p)),
        16);
}

/* ---- panels ---- */

static void panel_visible(const attend_cpu_task *task, panel *p)
{
    p->low = INT64_MAX, p->high = 0, p->all_low = 0, p->all_high = INT64_MAX;
    for (int64_t r = 0; r < WIDTH; r++) {
        p->begin[r] = p->end[r] = 0;
        if (r < p->rows) visible(task, p->first_row + r, &p->begin[r], &p->end[r]);
        if (p->begin[r] >= p->end[r]) continue;
        p->low = least(p->low, p->begin[r]), p->high = most(p->high, p->end[r]);
        p->all_low = most(p->all_low, p->begin[r]), p->all_high = least(p->all_high, p->end[r]);
    }
    if (p->high == 0) p->low = 0;
    if (p->all_low >= p->all_high) p->all_low = p->all_high = p->high;
}

/* LANES separate rows, the panel's from row r on, transposed to columns of `o`. */
static void rows_panel(const work *w, const panel *p, const float *rows, int64_t width, float *o, int64_t r)
{
    int64_t step = p->vectors * LANES;
    for (int64_t c = 0; c < w->v_width; c += LANES) {
        vf tile[LANES];
        for (int i = 0; i < LANES; i++) tile[i] = load(rows + i * width + c);
        transpose(tile);
        for (int64_t i = 0; i < LANES && c + i < w->v_width; i++) store(o + (c + i) * step + r, tile[i]);
    }
}

/* Begins with the state of the keys before (part->from). */
static void panel_resume(const work *w, panel *p)
{
    int64_t width = attend_cpu_round_up(w->v_width, LANES);
    float *rows = p->o_span;
    for (int64_t r = 0; r < p->vectors * LANES; r += LANES) {
        memset(rows, 0, (size_t)(LANES * width) * sizeof *rows);
        for (int64_t i = r; i < r + LANES; i++) {
            p->m[i] = -INFINITY, p->l[i] = 0;
            if (i < p->rows) begin_row(w->task, p->first_row + i, rows + (i - r) * width, &p->m[i], &p->l[i]);
        }
        rows_panel(w, p, rows, width, p->o, r);
    }
    p->fresh = false;
}

static void panel_begin(const work *w, panel *p, int64_t row, int64_t rows)
{
    p->first_row = row, p->rows = rows, p->vectors = (int)((rows + LANES - 1) / LANES);
    panel_visible(w->task, p);
    int64_t step = p->vectors * LANES;
    p->fresh = true;
    if (w->task->part->from.out.data && p->high > 0) panel_resume(w, p);
    if (w->element_rows && p->high > 0)
        attend_cpu_prepare_rows(w->task->elements, row, rows, LANES, &w->element_rows[p - w->panels]);
    for (int v = 0; v < p->vectors; v++)
        pack_queries(w->task, row + v * LANES, rows - v * LANES, p->q + v * LANES, step, p->unit + v * LANES);
}

static void span_begin(const work *w, panel *p)
{
    int64_t step = p->vectors * LANES;
    for (int64_t r = 0; r < step; r++) p->m_span[r] = -INFINITY, p->l_span[r] = 0;
    memset(p->o_span, 0, (size_t)(w->v_width * step) * sizeof *p->o_span);
    p->begun = true;
}

/* The visible intervals of the lanes of vector v, counted from `key` and clamped to a span. */
ALWAYS_INLINE void visible_from(const panel *p, int v, int64_t key, vi *begin, vi *end)
{
    for (int i = 0; i < LANES; i++) {
        (*begin)[i] = (int32_t)least(most(p->begin[v * LANES + i] - key, 0), ATTEND_CPU_SPAN);
        (*end)[i] = (int32_t)least(most(p->end[v * LANES + i] - key, 0), ATTEND_CPU_SPAN);
    }
}

/* Sets the scores of keys [from, to) of the block at `key` to -infinity where masked. */
static void hide(const work *w, const panel *p, int64_t key, int64_t from, int64_t to)
{
    for (int v = 0; v < p->vectors && from < to; v++) {
        vi begin, end;
        visible_from(p, v, key, &begin, &end);
        for (int64_t j = from; j < to; j++) {
            float *s = w->s + (j * p->vectors + v) * LANES;
            vi at = splat_int((int32_t)j);
            store(s, choose((begin <= at) & (at < end), load(s), splat(-INFINITY)));
        }
    }
}

/* Replaces the scores of one vector of rows by weights, and adds their sum. One vector at a time keeps all
   constants in registers; four keys an iteration hide the latency of the polynomial. */
ALWAYS_INLINE void weigh_lanes(float *s, int64_t step, int64_t from, int64_t to, vf m, vf unit, float *sum)
{
    const weigher w = weigher_of(finite_max(m), unit);
    vf l = splat(0);
    subtract_base(s, step, from, to, &w);
    int64_t j = from;
    for (; j + 4 <= to; j += 4)
        UNROLL_FOR (4, int i = 0; i < 4; i++) {
            vf weight = weigh(load(s + (j + i) * step), &w);
            store(s + (j + i) * step, weight);
            l += weight;
        }
    for (; j < to; j++) {
        vf weight = weigh(load(s + j * step), &w);
        store(s + j * step, weight);
        l += weight;
    }
    store(sum, load(sum) + l);
}

/* Softmax of keys [from, to) of the block: updates m and l, and replaces scores by weights. `vectors` is a
   constant where inlined. */
ALWAYS_INLINE void fold(const work *w, panel *p, int vectors, int64_t from, int64_t to)
{
    vf top[VECTORS], m[VECTORS], unit[VECTORS], factor[VECTORS];
    int64_t step = vectors * LANES;
    vi grows = splat_int(0);
    UNROLL_FOR (8, int v = 0; v < vectors; v++) top[v] = splat(-INFINITY), m[v] = load(p->m_span + v * LANES);
    int64_t j = from;
    for (; j + 4 <= to; j += 4)
        UNROLL_FOR (4, int i = 0; i < 4; i++)
            UNROLL_FOR (8, int v = 0; v < vectors; v++)
                top[v] = maximum(load(w->s + (j + i) * step + v * LANES), top[v]);
    for (; j < to; j++)
        UNROLL_FOR (8, int v = 0; v < vectors; v++)
            top[v] = maximum(load(w->s + j * step + v * LANES), top[v]);
    UNROLL_FOR (8, int v = 0; v < vectors; v++) {
        unit[v] = load(p->unit + v * LANES);
        grows |= may_raise(m[v], top[v], unit[v]);
    }
    if (any(grows)) {
        UNROLL_FOR (8, int v = 0; v < vectors; v++) {
            m[v] = raise(m[v], top[v], unit[v], &factor[v]);
            store(p->m_span + v * LANES, m[v]);
            store(p->l_span + v * LANES, load(p->l_span + v * LANES) * factor[v]);
        }
        for (int64_t c = 0; c < w->v_width; c++)
            UNROLL_FOR (8, int v = 0; v < vectors; v++) {
                float *o = p->o_span + c * step + v * LANES;
                store(o, load(o) * factor[v]);
            }
    }
    for (int v = 0; v < vectors; v++)
        weigh_lanes(w->s + v * LANES, step, from, to, m[v], unit[v], p->l_span + v * LANES);
}

typedef void scores_product(const float *k, const float *q, int64_t depth, float *s, int64_t tiles);
typedef void output_product(const float *v, int64_t next, const float *p, int64_t depth, float *o,
                            int64_t tiles);

/* O += Vᵀ·P. Where values are finite, a weight of 0 is enough for keys that a row does not see. On every path
   the block's output is one chain of multiply-adds from zero, added to O once: a chain through all keys would
   accumulate more rounding error. */
ALWAYS_INLINE void aggregate(const work *w, panel *p, int vectors, output_product *output, int64_t key,
                             int64_t from, int64_t to, bool hides)
{
    const float *values = w->task->keys.v + key * w->v_width + from * ROWS;
    const int64_t step = vectors * LANES;
    const bool hidden = hides || from < p->all_low - key || p->all_high - key < to;
    if (!hidden || w->task->keys.finite[key / w->keys]) {
        output(values, w->keys * ROWS, w->s + from * step, to - from, p->o_span, w->v_width / ROWS);
        return;
    }
    for (int v = 0; v < vectors; v++) {
        vi begin, end;
        visible_from(p, v, key, &begin, &end);
        for (int64_t c = 0; c < w->v_width; c += ROWS)
            multiply_seen((steps){1, ROWS, step, step}, values + c * w->keys, w->s + from * step + v * LANES,
                          to - from, p->o_span + c * step + v * LANES, (int32_t)from, begin, end, hides);
    }
}

/* One panel and the block of keys at `key`. */
ALWAYS_INLINE void block_of(const work *w, panel *p, int vectors, scores_product *scores,
                            output_product *output, int64_t key)
{
    int64_t from = most(p->low - key, 0), to = least(p->high - key, w->keys), step = vectors * LANES;
    if (from >= to) return;
    const attend_cpu_elements *e = w->task->elements;
    const attend_cpu_element_rows *element_rows = e ? &w->element_rows[p - w->panels] : NULL;
    attend_cpu_scores tile = {w->s + from * step, 1, key + from, to - from, step};
    attend_cpu_visibility visibility = ATTEND_CPU_VISIBLE;
    if (e) {
        visibility = OF_ISA(attend_cpu_scorer).visibility_of_tile(e, element_rows, &tile);
        if (visibility == ATTEND_CPU_HIDDEN) return;
        from = tile.first_key - key, to = from + tile.keys;
    }
    if (!p->begun) span_begin(w, p);
    int64_t first = from / ROWS * ROWS;
    scores(w->task->keys.k + (key + first) * w->d, p->q, w->d, w->s + first * step,
           (to - first + ROWS - 1) / ROWS);
    const bool hides = e && OF_ISA(attend_cpu_scorer).score(e, element_rows, &tile, visibility);
    hide(w, p, key, from, least(p->all_low - key, to));
    hide(w, p, key, most(p->all_high - key, from), to);
    fold(w, p, vectors, from, to);
    aggregate(w, p, vectors, output, key, from, to, hides);
}

#define BLOCK(n)                                                                          \
    PANEL_PRODUCTS(n)                                                                     \
    __attribute__((noinline)) static void block_##n(const work *w, panel *p, int64_t key) \
    {                                                                                     \
        block_of(w, p, n, scores_##n, output_##n, key);                                   \
    }
BLOCK(1)
BLOCK(2)
#if ATTEND_VECTORS == 3
BLOCK(3)
static void (*const blocks[])(const work *, panel *, int64_t) = {NULL, block_1, block_2, block_3};
#else
static void (*const blocks[])(const work *, panel *, int64_t) = {NULL, block_1, block_2};
#endif
_Static_assert(sizeof blocks / sizeof *blocks == VECTORS + 1,
               "one build of the loops for each width of a panel");

/* ---- output of panels ---- */

/* Merges the span into the total; the first span becomes the total. The arithmetic of a row is that of
   join(). */
static void span_merge(const work *w, panel *p)
{
    int64_t step = p->vectors * LANES;
    if (p->fresh) {
        float *o = p->o;
        p->o = p->o_span, p->o_span = o, p->fresh = false;
        memcpy(p->m, p->m_span, sizeof p->m);
        memcpy(p->l, p->l_span, sizeof p->l);
        return;
    }
    for (int v = 0; v < p->vectors; v++) {
        int64_t r = v * LANES;
        vf total = load(p->m + r), part = load(p->m_span + r), total_factor, part_factor;
        vf l = load(p->l + r), l_part = load(p->l_span + r);
        vi nothing_yet = l == splat(0), nothing_new = l_part == splat(0);
        store(p->m + r, merge_maxima(total, part, &total_factor, &part_factor));
        store(p->l + r,
              choose(nothing_new, l,
                     choose(nothing_yet, l_part, merge_sums(l, total_factor, l_part, part_factor))));
        for (int64_t i = r; i < w->v_width * step; i += step) {
            vf o = load(p->o + i), o_part = load(p->o_span + i);
            store(p->o + i,
                  choose(nothing_new, o,
                         choose(nothing_yet, o_part, merge_sums(o, total_factor, o_part, part_factor))));
        }
    }
}

/* LANES rows of sums `o`, the panel's from row r on, transposed to separate rows. */
static void panel_rows(const work *w, const panel *p, const float *o, int64_t r, float *rows, int64_t width)
{
    int64_t step = p->vectors * LANES;
    for (int64_t c = 0; c < w->v_width; c += LANES) {
        vf tile[LANES];
        for (int i = 0; i < LANES; i++)
            tile[i] = c + i < w->v_width ? load(o + (c + i) * step + r) : splat(0);
        transpose(tile);
        for (int i = 0; i < LANES; i++) store(rows + i * width + c, tile[i]);
    }
}

static void panel_finish(const work *w, panel *p)
{
    if (p->fresh) memset(p->l, 0, sizeof p->l); /* no span was visible */
    int64_t width = attend_cpu_round_up(w->v_width, LANES);
    for (int64_t r = 0; r < p->rows; r += LANES) {
        panel_rows(w, p, p->o, r, p->o_span, width);
        for (int64_t i = r; i < r + LANES && i < p->rows; i++) {
            float *o = p->o_span + (i - r) * width;
            /* its sums are meaningless: it has no visible key */
            if (p->begin[i] >= p->end[i]) begin_row(w->task, p->first_row + i, o, &p->m[i], &p->l[i]);
            end_row(w->task, p->first_row + i, o, p->m[i], p->l[i]);
        }
    }
}

static void store_span(const work *w, const panel *p, int64_t span)
{
    int64_t dv = w->task->problem->head_dim_v, width = attend_cpu_round_up(w->v_width, LANES);
    for (int64_t r = 0; r < p->rows; r += LANES) {
        panel_rows(w, p, p->o_span, r, p->o, width);
        for (int64_t i = r; i < r + LANES && i < p->rows; i++) {
            float *part = partial_of(w->task, p->first_row + i, span), *part_m = partial_m(w->task, part);
            memcpy(part, p->o + (i - r) * width, (size_t)dv * sizeof *part);
            part_m[0] = p->m_span[i], part_m[1] = p->l_span[i];
        }
    }
}

/* ---- tasks ---- */

/* Divides the task's rows into panels of three or two vectors: one vector alone could not hide the latency of
   its multiply-adds. */
static void cut(work *w)
{
    const attend_cpu_task *task = w->task;
    int64_t vectors = (task->rows + LANES - 1) / LANES, row = task->first_row, end = row + task->rows;
    float *floats = (float *)(w->panels + task->blocking.panels);
    if (task->elements)
        w->element_rows = (attend_cpu_element_rows *)floats,
        floats = (float *)(w->element_rows + task->blocking.panels);
    for (w->count = 0; vectors > 0; w->count++) {
        int64_t width = VECTORS == 3 && vectors == 4 ? 2 : least(vectors, VECTORS);
        panel *p = &w->panels[w->count];
        p->q = floats, p->o = p->q + w->d * WIDTH, p->o_span = p->o + w->v_width * WIDTH;
        floats = p->o_span + w->v_width * WIDTH;
        panel_begin(w, p, row, least(width * LANES, end - row));
        row += width * LANES, vectors -= width;
    }
}

static void run(const attend_cpu_task *task)
{
    const attend_problem *problem = task->problem;
    work w = {task,
              problem->head_dim,
              attend_cpu_round_up(problem->head_dim_v, ROWS),
              task->blocking.keys,
              task->scratch,
              NULL,
              NULL,
              0};
    w.panels = (panel *)(w.s + w.keys * WIDTH);
    cut(&w);
    for (int64_t span = task->first_span; span < task->end_span; span++) {
        int64_t key = span * ATTEND_CPU_SPAN, end = key + ATTEND_CPU_SPAN;
        bool seen[ATTEND_CPU_MAX_PANELS];
        for (int64_t i = 0; i < w.count; i++) {
            seen[i] = w.panels[i].low < end && w.panels[i].high > key;
            w.panels[i].begun = false; /* set by the first visible block */
        }
        for (int64_t block = key; block < end && block < task->sequence.seqlen_k; block += w.keys)
            for (int64_t i = 0; i < w.count; i++)
                if (seen[i]) blocks[w.panels[i].vectors](&w, &w.panels[i], block);
        for (int64_t i = 0; i < w.count; i++) {
            if (task->partials && seen[i]) {
                if (!w.panels[i].begun) span_begin(&w, &w.panels[i]);
                store_span(&w, &w.panels[i], span);
            } else if (w.panels[i].begun) {
                span_merge(&w, &w.panels[i]);
            }
        }
    }
    for (int64_t i = 0; i < w.count && !task->partials; i++) panel_finish(&w, &w.panels[i]);
}

static void pack_block(const attend_cpu_task *task, int64_t first)
{
    task->keys.finite[first / task->blocking.keys] = pack(task, first);
}

static bool runs_here(void) { return ATTEND_RUNS_HERE; }

const attend_cpu_kernel OF_ISA(attend_cpu_kernel) = {STRING(ATTEND_ISA),
                                                     LANES,
                                                     ROWS,
                                                     VECTORS,
                                                     runs_here,
                                                     scratch_floats,
                                                     pack_block,
                                                     run,
                                                     run_few,
                                                     merge,
                                                     merge_states,
                                                     &OF_ISA(attend_cpu_inspector),
                                                     &OF_ISA(attend_cpu_scorer),
                                                     &OF_ISA(attend_cpu_backward)};
