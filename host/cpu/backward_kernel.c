/* Gradients by blocks (Dao et al. 2022). Compiled once per instruction set; backward.h is its interface.
   
   Keys of a block are the lanes, in panels of up to VECTORS vectors. For each tile of rows and each panel
       S = Q·Kᵀ, dP = dO·Vᵀ;  P = 2^(S·unit - lse2), dS = P∘(dP - Δ);  dVᵀ += dOᵀ·P, dKᵀ += Qᵀ·dS
   and once for the tile dQ += dS·K over all panels. S and dP of a panel stay in the first-level cache. Rows
   are the operand that is broadcast, so that only dQ reads dS across its lanes, as broadcasts too. */

#include "cpu/backward.h"
#include "cpu/kernel_multiply.h"
#include "cpu/kernel_pack.h"
#include "cpu/kernel_softmax.h"

enum { TILE = ATTEND_CPU_BACKWARD_ROWS, BLOCK = ATTEND_CPU_BACKWARD_KEYS, MAX_PANELS = BLOCK / LANES };

static int64_t rounded(int64_t n, int64_t to) { return attend_cpu_round_up(n, to); }

/* ---- memory ---- */

static int64_t tile_floats(const attend_problem *p)
{
    const int64_t d = p->head_dim, dv = p->head_dim_v;
    return rounded(TILE * (d + rounded(d, ROWS) + rounded(d, LANES) + dv + rounded(dv, ROWS) + 5) + 1, 16);
}

static attend_cpu_backward_tile tile_of(const attend_problem *p, float *memory)
{
    const int64_t d = p->head_dim, dv = p->head_dim_v;
    attend_cpu_backward_tile t;
    t.q_rows = memory, t.dout_rows = t.q_rows + TILE * d, t.q_columns = t.dout_rows + TILE * dv;
    t.dout_columns = t.q_columns + TILE * rounded(d, ROWS), t.dq = t.dout_columns + TILE * rounded(dv, ROWS);
    t.unit = t.dq + TILE * rounded(d, LANES), t.lse2 = t.unit + TILE, t.lse2_rest = t.lse2 + TILE;
    t.delta = t.lse2_rest + TILE;
    t.sum = t.delta + TILE;
    t.finite = t.sum + TILE;
    return t;
}

/* Keys of the block side by side. */
typedef struct key_panel {
    int64_t first, step; /* its first key within the block; lanes */
    int vectors;
    /* Rows of the tile at work that see any of it, whole panels of rows; whole: all of them see all lanes. */
    int64_t low, high;
    bool whole;
} key_panel;

typedef struct block {
    const attend_cpu_backward_task *task;
    const attend_problem *p;
    int64_t d, dv, keys; /* keys that are there */
    int panels;
    key_panel panel[MAX_PANELS];
    bool finite; /* K */
    /* panels [head dim][lanes] of K, V and of their gradients, [columns rounded to ROWS][lanes] */
    float *k, *v, *dk, *dv_sum;
    float *k_columns; /* panels [BLOCK][columns] of up to VECTORS vectors */
    float *ds;        /* panels [TILE][lanes]: S, then dS */
    float *weights;   /* [TILE][WIDTH]: dP, then P, of one panel */
    float *slopes;    /* the same, of softcaps */
    double *key_bias; /* [group][BLOCK]: the gradient of a bias that does not vary along queries */
    attend_cpu_element_rows *elements;
    int32_t begin[TILE], end[TILE]; /* keys of the block that each row of the tile sees */
} block;

static int64_t scratch_floats(const attend_problem *p)
{
    const int64_t d = p->head_dim, dv = p->head_dim_v, group = p->num_heads / p->num_kv_heads;
    int64_t floats = BLOCK * (d + dv + rounded(d, ROWS) + rounded(dv, ROWS) + rounded(d, LANES) + TILE) +
                     2 * TILE * WIDTH + 16 * LANES;
    if (attend_is_elementwise(p)) floats += (int64_t)(sizeof(attend_cpu_element_rows) / sizeof(float));
    if (p->bias_axes) floats += 2 * group * BLOCK;
    return rounded(floats, 16);
}

/* Three or two vectors wide: one alone would not hide the latency of the multiply-adds. */
static int vectors_at(int64_t left)
{
    return left > VECTORS && left % VECTORS == 1 ? 2 : (int)least(left, VECTORS);
}

static block block_of(const attend_cpu_backward_task *task)
{
    const attend_problem *p = task->head.problem;
    block b = {.task = task, .p = p, .d = p->head_dim, .dv = p->head_dim_v};
    b.keys = least(BLOCK, task->head.sequence.seqlen_k - task->first_key);
    int64_t left = b.keys > 0 ? (b.keys + LANES - 1) / LANES : 0;
    for (int64_t first = 0; left > 0;) {
        key_panel *panel = &b.panel[b.panels++];
        *panel = (key_panel){.first = first, .vectors = vectors_at(left)};
        panel->step = panel->vectors * LANES;
        first += panel->step, left -= panel->vectors;
    }
    float *memory = task->scratch;
    if (attend_is_elementwise(p))
        b.elements = (attend_cpu_element_rows *)memory,
        memory += sizeof(attend_cpu_element_rows) / sizeof(float);
    b.k = memory, b.v = b.k + BLOCK * b.d, b.dk = b.v + BLOCK * b.dv;
    b.dv_sum = b.dk + BLOCK * rounded(b.d, ROWS), b.k_columns = b.dv_sum + BLOCK * rounded(b.dv, ROWS);
    b.ds = b.k_columns + BLOCK * rounded(b.d, LANES), b.weights = b.ds + BLOCK * TILE;
    b.slopes = b.weights + TILE * WIDTH;
    b.key_bias = (double *)(b.slopes + TILE * WIDTH);
    return b;
}

/* ---- packing ---- */

ALWAYS_INLINE vf nan_unless_finite(vf v) { return v * splat(0); }

/* LANES rows of the tile from row r on as panels of rows and of columns: [d] each, times a factor of each
   row. Returns lanes of which one is NaN where an element is not finite. */
static vf pack_some_rows(const attend_cpu_backward_task *task, const attend_cpu_rows *from, int64_t row,
                         int64_t r, int64_t count, int64_t d, vf row_factor, vf column_factor, float *rows,
                         float *columns)
{
    const attend_cpu_task *head = &task->head;
    const int64_t width = rounded(d, ROWS);
    vf bad = splat(0);
    for (int64_t c = 0; c < width; c += LANES) {
        vf tile[LANES];
        for (int i = 0; i < LANES; i++) {
            tile[i] = splat(0);
            if (i < count)
                tile[i] =
                    load_some(from->data, row_offset(head, from, row + i) + c, d - c, head->problem->dtype);
            bad += nan_unless_finite(tile[i]);
            const vf v = tile[i] * splat(column_factor[i]);
            if (c + LANES <= width)
                store_vectors(columns, TILE, c, r + i, v);
            else
                for (int64_t n = 0; n < width - c; n++)
                    columns[(c + n) / ROWS * TILE * ROWS + (r + i) * ROWS + (c + n) % ROWS] = v[n];
        }
        transpose(tile);
        for (int64_t i = 0; i < LANES && c + i < d; i++)
            store_vectors(rows, d, r, c + i, tile[i] * row_factor);
    }
    return bad;
}

static float lse_of(const attend_cpu_backward_task *task, int64_t row)
{
    const packed_row at = packed_row_of(&task->head, row);
    return task->head.lse[at.query * task->head.lse_stride + at.head * task->head.lse_head_stride];
}

static float dlse_of(const attend_cpu_backward_task *task, int64_t row)
{
    const packed_row at = packed_row_of(&task->head, row);
    return task->dlse ? task->dlse[at.query * task->dlse_stride + at.head * task->dlse_head_stride] : 0;
}

/* What a row's scores are relative to, and Σ dout·out - dlse. */
static void pack_row(const attend_cpu_backward_task *task, int64_t row, int64_t r,
                     attend_cpu_backward_tile *t)
{
    const attend_cpu_task *head = &task->head;
    const attend_problem *p = head->problem;
    const float lse = lse_of(task, row);
    const bool huge = isfinite(lse) && fabsf(lse) >= ATTEND_HUGE_SCORE;
    const double lse2 = lse == -INFINITY ? 0 : huge ? attend_max_of_huge(lse) : lse * ATTEND_LOG2E;
    t->lse2[r] = (float)lse2, t->lse2_rest[r] = isfinite(lse2) ? (float)(lse2 - t->lse2[r]) : 0;
    t->sum[r] = attend_cpu_lse_is_far(lse) ? 0 : 1;
    t->delta[r] = -dlse_of(task, row);
    if (!task->out.data || attend_cpu_lse_is_far(lse)) return;
    vf sum = splat(0);
    for (int64_t c = 0; c < p->head_dim_v; c += LANES) {
        const vf out = load_some(task->out.data, row_offset(head, &task->out, row) + c, p->head_dim_v - c,
                                 ATTEND_F32),
                 dout = load_some(task->dout.data, row_offset(head, &task->dout, row) + c, p->head_dim_v - c,
                                  p->dtype);
        /* a row that sees nothing has out 0, whatever its dout is */
        sum = choose(out == splat(0), sum, multiply_into(sum, out, dout));
    }
    float total = 0;
    for (int i = 0; i < LANES; i++) total += sum[i];
    t->delta[r] += total;
}

static void pack_tile(const attend_cpu_backward_task *task)
{
    const attend_problem *p = task->head.problem;
    const int64_t first = task->tile * TILE, count = least(task->head.rows - first, TILE);
    attend_cpu_backward_tile t = tile_of(p, task->tiles + task->tile * tile_floats(p));
    vf bad = splat(0);
    memset(t.dq, 0, (size_t)(TILE * rounded(p->head_dim, LANES)) * sizeof *t.dq);
    memset(t.unit, 0, 5 * TILE * sizeof *t.unit);
    for (int64_t r = 0; r < count; r++) {
        t.unit[r] = row_scale_of(&task->head, first + r).unit;
        pack_row(task, first + r, r, &t);
    }
    for (int64_t r = 0; r < TILE; r += LANES) {
        vf power = splat(0), scale = splat(0);
        for (int64_t i = 0; i < LANES && r + i < count; i++) {
            power[i] = row_scale_of(&task->head, first + r + i).power;
            scale[i] = task->head.heads[packed_row_of(&task->head, first + r + i).head].scale;
        }
        bad += pack_some_rows(task, &task->head.q, first + r, r, count - r, p->head_dim, power, scale,
                              t.q_rows, t.q_columns);
        bad += pack_some_rows(task, &task->dout, first + r, r, count - r, p->head_dim_v, splat(1), splat(1),
                              t.dout_rows, t.dout_columns);
    }
    *t.finite = !any(bad != bad);
}

/* Panels [columns][lanes] of keys of `from`. */
static bool pack_key_panels(const block *b, const attend_cpu_rows *from, int64_t columns, float *to)
{
    const attend_cpu_task *head = &b->task->head;
    vf bad = splat(0);
    for (int i = 0; i < b->panels; i++)
        for (int v = 0; v < b->panel[i].vectors; v++) {
            const int64_t key = b->panel[i].first + v * LANES, at = (b->task->first_key + key) * from->stride,
                          element = (int64_t)attend_dtype_bytes(head->problem->dtype);
            for (int64_t c = 0; c < columns; c += LANES) {
                vf tile[LANES];
                load_transposed(tile, (const char *)from->data + at * element, from->stride, b->keys - key, c,
                                columns, head->problem->dtype);
                for (int64_t n = 0; n < LANES && c + n < columns; n++) {
                    bad += nan_unless_finite(tile[n]);
                    store(to + b->panel[i].first * columns + (c + n) * b->panel[i].step + v * LANES, tile[n]);
                }
            }
        }
    return !any(bad != bad);
}

/* K as panels [BLOCK][columns], keys that are not there 0. */
static void pack_key_columns(const block *b)
{
    const attend_cpu_rows *from = &b->task->k;
    int64_t left = rounded(b->d, LANES) / LANES;
    for (int64_t c = 0; left > 0;) {
        const int vectors = vectors_at(left);
        for (int64_t j = 0; j < BLOCK; j++)
            for (int v = 0; v < vectors; v++) {
                const int64_t column = c + v * LANES;
                vf k = splat(0);
                if (j < b->keys)
                    k = load_some(from->data, (b->task->first_key + j) * from->stride + column, b->d - column,
                                  b->p->dtype);
                store(b->k_columns + BLOCK * c + j * vectors * LANES + v * LANES, k);
            }
        c += vectors * LANES, left -= vectors;
    }
}

/* ---- products ---- */

/* Rows [r, r + ROWS) of dQ, one panel of columns. */
#define DQ_PRODUCT(vectors_)                                                                       \
    __attribute__((noinline)) static void dq_##vectors_(const block *b, int64_t r, const float *k, \
                                                        float *dq, int64_t dq_step)                \
    {                                                                                              \
        enum { STEP = vectors_ * LANES };                                                          \
        vf sum[8][8];                                                                              \
        UNROLL_FOR (8, int i = 0; i < ROWS; i++)                                                   \
            UNROLL_FOR (8, int v = 0; v < vectors_; v++) sum[i][v] = splat(0);                     \
        for (int n = 0; n < b->panels; n++) {                                                      \
            const key_panel *panel = &b->panel[n];                                                 \
            if (r < panel->low || r >= panel->high) continue;                                      \
            const float *ds = b->ds + panel->first * TILE + r * panel->step;                       \
            for (int64_t j = 0; j < panel->step; j += 4)                                           \
                multiply_add(4, ROWS, vectors_, (steps){panel->step, 1, STEP, 0}, ds + j,          \
                             k + (panel->first + j) * STEP, sum);                                  \
        }                                                                                          \
        store_sums(ROWS, vectors_, (steps){0, 0, 0, dq_step}, sum, dq, ADDED);                     \
    }

typedef void rows_product(const float *rows, const float *keys, int64_t depth, float *to, int64_t tiles);
typedef void columns_product(const float *columns, int64_t next, const float *weights, int64_t depth,
                             float *to, int64_t tiles);
typedef void dq_product(const block *b, int64_t r, const float *k, float *dq, int64_t dq_step);

#undef PANEL_PRODUCTS
#define PANEL_PRODUCTS(vectors)                                                                            \
    __attribute__((noinline)) static void scores_##vectors(const float *rows, const float *keys,           \
                                                           int64_t depth, float *to, int64_t tiles)        \
    {                                                                                                      \
        for (; tiles > 0; tiles--, rows += depth * ROWS, to += ROWS * vectors * LANES)                     \
            multiply(ROWS, vectors, (steps){1, ROWS, vectors * LANES, vectors * LANES}, rows, keys, depth, \
                     to, FRESH);                                                                           \
    }                                                                                                      \
    OUTPUT_PRODUCT(output, vectors, ADDED)                                                                 \
    DQ_PRODUCT(vectors)
PANEL_PRODUCTS(1)
PANEL_PRODUCTS(2)
#if ATTEND_VECTORS == 3
PANEL_PRODUCTS(3)
static rows_product *const scores[] = {NULL, scores_1, scores_2, scores_3};
static columns_product *const outputs[] = {NULL, output_1, output_2, output_3};
static dq_product *const dqs[] = {NULL, dq_1, dq_2, dq_3};
#else
static rows_product *const scores[] = {NULL, scores_1, scores_2};
static columns_product *const outputs[] = {NULL, output_1, output_2};
static dq_product *const dqs[] = {NULL, dq_1, dq_2};
#endif

/* The same where operands may hold what is not finite: a weight of 0 takes nothing from them. */
static void output_weighed(const key_panel *panel, const float *columns, const float *weights, int64_t depth,
                           float *to, int64_t width)
{
    const steps at = {1, ROWS, panel->step, panel->step};
    for (int64_t c = 0; c < width; c += ROWS)
        for (int v = 0; v < panel->vectors; v++)
            multiply_weighed(at, columns + c * TILE, weights + v * LANES, depth,
                             to + c * panel->step + v * LANES);
}

static void dq_weighed(const block *b, int64_t r, const float *k, int64_t step, float *dq)
{
    for (int n = 0; n < b->panels; n++) {
        const key_panel *panel = &b->panel[n];
        if (r < panel->low || r >= panel->high) continue;
        const float *ds = b->ds + panel->first * TILE + r * panel->step;
        for (int64_t j = 0; j < panel->step; j++)
            for (int64_t c = 0; c < step && ds[j] != 0; c += LANES)
                store(dq + c,
                      multiply_into(load(dq + c), splat(ds[j]), load(k + (panel->first + j) * step + c)));
    }
}

/* ---- a tile ---- */

static void row_visible(block *b, int64_t first_row, int64_t r, int64_t rows)
{
    int64_t begin = 0, end = 0;
    if (r < rows) visible(&b->task->head, first_row + r, &begin, &end);
    b->begin[r] = (int32_t)attend_clamp(begin - b->task->first_key, 0, BLOCK);
    b->end[r] = (int32_t)attend_clamp(end - b->task->first_key, 0, BLOCK);
}

/* Which rows see any of the panel, and whether all see all of it. */
static void panel_visible(const block *b, key_panel *panel, int64_t rows)
{
    const int64_t end = panel->first + panel->step;
    panel->low = TILE, panel->high = 0, panel->whole = true;
    for (int64_t r = 0; r < rows; r++)
        if (b->begin[r] < least(b->end[r], end) && b->end[r] > panel->first)
            panel->low = least(panel->low, r / ROWS * ROWS), panel->high = r / ROWS * ROWS + ROWS;
    /* features are applied to all rows of a tile */
    if (b->elements && panel->high > 0) panel->low = 0, panel->high = rounded(rows, ROWS);
    for (int64_t r = panel->low; r < panel->high; r++)
        panel->whole = panel->whole && b->begin[r] <= panel->first && b->end[r] >= end;
}

/* Which keys of the block the tile's rows see; false where none. Neither end of what rows see decreases, so
   that the first and the last row decide for most tiles. */
static bool tile_visible(block *b, int64_t first_row, int64_t rows)
{
    const int64_t last = rows - 1;
    row_visible(b, first_row, 0, rows), row_visible(b, first_row, last, rows);
    if (b->end[last] == 0 || b->begin[0] == BLOCK) return false;
    const bool whole = rows == TILE && b->keys == BLOCK && b->begin[last] == 0 && b->end[0] == BLOCK;
    for (int64_t r = 0; r < TILE; r++) {
        if (!whole)
            row_visible(b, first_row, r, rows);
        else
            b->begin[r] = 0, b->end[r] = BLOCK;
    }
    for (int n = 0; n < b->panels; n++) panel_visible(b, &b->panel[n], rows);
    return true;
}

/* S and dP become dS and P; keys from `from` to `to` of the panel are looked at, others hidden. */
ALWAYS_INLINE void weigh_panel(const block *b, const attend_cpu_backward_tile *t, const key_panel *panel,
                               bool partly, int64_t from, int64_t to)
{
    const int vectors = panel->vectors;
    vi lane;
    UNROLL_FOR (16, int i = 0; i < LANES; i++) lane[i] = i + (int32_t)panel->first;
    for (int64_t r = panel->low; r < panel->high; r++) {
        const vf unit = splat(t->unit[r]), lse2 = splat(-t->lse2[r]), rest = splat(t->lse2_rest[r]),
                 delta = splat(t->delta[r]);
        const bool huge = attend_max_is_huge(t->lse2[r]);
        const vi begin = splat_int((int32_t)most(b->begin[r], panel->first + from)),
                 end = splat_int((int32_t)least(b->end[r], panel->first + to));
        for (int v = 0; v < vectors; v++) {
            float *s = b->ds + panel->first * TILE + r * panel->step + v * LANES,
                  *w = b->weights + r * panel->step + v * LANES;
            vf x = multiply_into(lse2, load(s), unit);
            if (huge) x = exponent_of(load(s), unit) + lse2, x = choose(x > splat(0), splat(0), x);
            x -= rest;
            if (partly) {
                const vi key = lane + splat_int(v * LANES);
                x = choose((begin <= key) & (key < end), x, splat(-INFINITY));
            }
            const vf weight = exp2_vector(x);
            vf ds = weight * (load(w) - delta);
            if (partly) ds = choose(weight == splat(0), weight, ds);
            store(w, weight), store(s, ds);
        }
    }
}

/* Of the elements: what of the panel is hidden, scores, slopes. Returns whether any of it is visible. */
static bool score_panel(block *b, key_panel *panel, int64_t *from, int64_t *to)
{
    const attend_cpu_task *head = &b->task->head;
    attend_cpu_scores tile = {b->ds + panel->first * TILE, panel->step, b->task->first_key + panel->first,
                              least(panel->step, b->keys - panel->first), 1};
    const attend_cpu_scores all = tile;
    const attend_cpu_visibility visibility =
        OF_ISA(attend_cpu_scorer).visibility_of_tile(head->elements, b->elements, &tile);
    if (visibility == ATTEND_CPU_HIDDEN) return false;
    *from = tile.first_key - all.first_key, *to = *from + tile.keys;
    if (b->p->softcap > 0) {
        const attend_cpu_scores slopes = {b->slopes, panel->step, all.first_key, all.keys, 1};
        memcpy(b->slopes, all.scores, (size_t)(b->elements->rows * panel->step) * sizeof(float));
        OF_ISA(attend_cpu_scorer).softcap_slopes(head->elements, b->elements, &slopes);
    }
    const bool hides = OF_ISA(attend_cpu_scorer).score(head->elements, b->elements, &tile, visibility);
    if (hides || tile.keys < panel->step) panel->whole = false;
    return true;
}

/* ---- what features bring ---- */

ALWAYS_INLINE const attend_tensor *gradient_of(const block *b, attend_gradient g)
{
    return &b->task->gradients->of[g];
}

static float sum_row(const float *ds, int64_t keys)
{
    float sum = 0;
    for (int64_t k = 0; k < keys; k++) sum += ds[k];
    return sum;
}

static float *bias_row(const block *b, packed_row at)
{
    const attend_tensor *t = gradient_of(b, ATTEND_GRADIENT_BIAS);
    return (float *)t->data + b->task->batch * attend_tensor_step(t, 0) +
           b->task->head.heads[at.head].head * attend_tensor_step(t, 1) + at.query * attend_tensor_step(t, 2);
}

/* Rows of a bias's gradient lie far apart: asked for before the tile's products, they are there behind them.
   Where nobody else adds to them they begin here. */
static void begin_bias(const block *b, int64_t first_row, int64_t rows)
{
    const attend_tensor *t = gradient_of(b, ATTEND_GRADIENT_BIAS);
    const int64_t step = t->data ? attend_tensor_step(t, 3) : 0;
    if (!t->data || (!b->task->begins_bias && (attend_tensor_step(t, 2) == 0 || step != 1))) return;
    for (int64_t r = 0; r < rows; r++) {
        float *to = bias_row(b, packed_row_of(&b->task->head, first_row + r)) + b->task->first_key * step;
        for (int64_t k = 0; b->task->begins_bias && k < b->keys; k++) to[k * step] = 0;
        for (int64_t k = 0; !b->task->begins_bias && k < b->keys; k += 16) __builtin_prefetch(to + k, 1, 2);
    }
}

/* dS of a panel joins the bias's gradient; rows and blocks come in their order. */
static void add_bias(const block *b, const key_panel *panel, int64_t first_row, int64_t keys)
{
    const attend_tensor *t = gradient_of(b, ATTEND_GRADIENT_BIAS);
    const bool by_query = b->p->bias_axes & ATTEND_PER_QUERY, by_key = b->p->bias_axes & ATTEND_PER_KEY;
    const int64_t key = b->task->first_key + panel->first, step = attend_tensor_step(t, 3),
                  rows = b->elements->rows;
    for (int64_t r = 0; r < rows; r++) {
        const packed_row at = packed_row_of(&b->task->head, first_row + r);
        const float *ds = b->ds + panel->first * TILE + r * panel->step;
        if (!by_query && by_key) {
            double *sums = b->key_bias + at.head * BLOCK + panel->first;
            for (int64_t k = 0; k < keys; k++) sums[k] += ds[k];
        } else if (!by_query) {
            b->task->sums[at.head * attend_cpu_backward_sums(b->p)] += sum_row(ds, keys);
        } else if (!by_key) {
            *bias_row(b, at) += sum_row(ds, keys);
        } else {
            float *to = bias_row(b, at) + key * step;
            int64_t k = 0;
            for (; step == 1 && k + LANES <= keys; k += LANES) store(to + k, load(to + k) + load(ds + k));
            for (; k < keys; k++) to[k * step] += ds[k];
        }
    }
}

/* Of each score its term's: score.h says how a gradient goes back. */
static void add_features(const block *b, const key_panel *panel, int64_t first_row)
{
    const attend_cpu_task *head = &b->task->head;
    const attend_problem *p = b->p;
    const bool table = gradient_of(b, ATTEND_GRADIENT_RELATIVE_TABLE)->data,
               slopes = gradient_of(b, ATTEND_GRADIENT_SLOPES)->data;
    const int64_t keys = least(panel->step, b->keys - panel->first);
    if (gradient_of(b, ATTEND_GRADIENT_BIAS)->data) add_bias(b, panel, first_row, keys);
    for (int64_t r = 0; (slopes || table) && r < b->elements->rows; r++) {
        const packed_row at = packed_row_of(head, first_row + r);
        const float *ds = b->ds + panel->first * TILE + r * panel->step;
        double *sums = b->task->sums + at.head * attend_cpu_backward_sums(p);
        const int64_t distance = b->task->first_key + panel->first - b->elements->position[r];
        float slope = 0;
        for (int64_t k = 0; slopes && k < keys; k++) slope += ds[k] * attend_alibi_factor(p, distance + k);
        sums[1] += slope;
        for (int64_t k = 0; table && k < keys; k++)
            sums[2 + attend_bucket_of(p, head->heads->terms, distance + k)] += ds[k];
    }
}

/* At the end of the block; who shares it is done. */
static void leave_key_bias(const block *b)
{
    const attend_tensor *t = gradient_of(b, ATTEND_GRADIENT_BIAS);
    for (int64_t g = 0; g < b->task->head.group; g++)
        for (int64_t k = 0; k < b->keys; k++)
            ((float *)t->data)[b->task->batch * attend_tensor_step(t, 0) +
                               b->task->head.heads[g].head * attend_tensor_step(t, 1) +
                               (b->task->first_key + k) * attend_tensor_step(t, 3)] +=
                (float)b->key_bias[g * BLOCK + k];
}

/* ---- a block ---- */

/* P and dS of a panel against a tile; false where nothing of it is visible. */
static bool make_panel(block *b, const attend_cpu_backward_tile *t, key_panel *panel)
{
    int64_t from = 0, to = panel->step;
    if (panel->high == 0) return false;
    const int64_t tiles = (panel->high - panel->low) / ROWS, at = panel->low * panel->step;
    scores[panel->vectors](t->q_rows + panel->low * b->d, b->k + panel->first * b->d, b->d,
                           b->ds + panel->first * TILE + at, tiles);
    if (b->elements && !score_panel(b, panel, &from, &to)) {
        panel->low = panel->high = 0;
        return false;
    }
    scores[panel->vectors](t->dout_rows + panel->low * b->dv, b->v + panel->first * b->dv, b->dv,
                           b->weights + at, tiles);
    if (panel->whole)
        weigh_panel(b, t, panel, false, from, to);
    else
        weigh_panel(b, t, panel, true, from, to);
    return true;
}

static void sum_delta_tile(block *b, int64_t index)
{
    const attend_cpu_backward_task *task = b->task;
    const int64_t first_row = index * TILE, rows = least(task->head.rows - first_row, TILE);
    attend_cpu_backward_tile t = tile_of(b->p, task->tiles + index * tile_floats(b->p));
    vf sums[TILE], weights[TILE];
    bool any_far = false;
    if (!tile_visible(b, first_row, rows)) {
        attend_cpu_backward_wait(task->before, index + 1);
        return;
    }
    if (b->elements) attend_cpu_prepare_rows(task->head.elements, first_row, rows, LANES, b->elements);
    float none[TILE] = {0}; /* the sum so far, which others may be adding to, is no part of p·dP */
    attend_cpu_backward_tile without = t;
    without.delta = none;
    for (int r = 0; r < TILE; r++) sums[r] = weights[r] = splat(0);
    for (int64_t r = 0; r < rows; r++)
        any_far = any_far || attend_cpu_lse_is_far(lse_of(task, first_row + r));
    for (int n = 0; n < b->panels; n++) {
        key_panel *panel = &b->panel[n];
        if (!make_panel(b, &without, panel)) continue;
        for (int64_t r = panel->low; r < panel->high; r++)
            for (int v = 0; v < panel->vectors; v++)
                sums[r] += load(b->ds + panel->first * TILE + r * panel->step + v * LANES);
        for (int64_t r = panel->low; any_far && r < panel->high; r++)
            for (int v = 0; v < panel->vectors; v++)
                weights[r] += load(b->weights + r * panel->step + v * LANES);
    }
    attend_cpu_backward_wait(task->before, index + 1);
    for (int64_t r = 0; r < rows; r++) {
        float sum = 0, weight = 0;
        for (int i = 0; i < LANES; i++) sum += sums[r][i], weight += weights[r][i];
        const bool far = attend_cpu_lse_is_far(lse_of(task, first_row + r));
        if (!task->out.data || far) t.delta[r] += sum;
        if (far) t.sum[r] += weight;
    }
}

static void normalise(const attend_cpu_backward_task *task)
{
    const attend_problem *p = task->head.problem;
    const int64_t first = task->tile * TILE, count = least(task->head.rows - first, TILE);
    attend_cpu_backward_tile t = tile_of(p, task->tiles + task->tile * tile_floats(p));
    for (int64_t r = 0; r < count; r++) {
        const float lse = lse_of(task, first + r), dlse = dlse_of(task, first + r);
        if (!attend_cpu_lse_is_far(lse)) continue;
        const attend_head *head = &task->head.heads[packed_row_of(&task->head, first + r).head];
        if (p->sinks) t.sum[r] += expf(attend_head_sink(head->terms, head->head) - lse);
        if (t.sum[r] == 0) continue;
        t.lse2_rest[r] += log2f(t.sum[r]);
        t.delta[r] = (t.delta[r] + dlse) / t.sum[r] - dlse;
    }
}

static void run_tile(block *b, int64_t index)
{
    const attend_cpu_backward_task *task = b->task;
    const attend_gradients *g = task->gradients;
    const int64_t first_row = index * TILE, rows = least(task->head.rows - first_row, TILE),
                  d = rounded(b->d, LANES);
    const attend_cpu_backward_tile t = tile_of(b->p, task->tiles + index * tile_floats(b->p));
    const bool adds = g->of[ATTEND_GRADIENT_BIAS].data || g->of[ATTEND_GRADIENT_SLOPES].data ||
                      g->of[ATTEND_GRADIENT_RELATIVE_TABLE].data;
    bool careful = false;
    if (adds) {
        attend_cpu_backward_wait(task->before, index + 1);
        attend_cpu_backward_wait(task->before_shared, index + 1);
        begin_bias(b, first_row, rows);
    }
    if (!tile_visible(b, first_row, rows)) {
        attend_cpu_backward_wait(task->before, index + 1);
        return;
    }
    if (b->elements) attend_cpu_prepare_rows(task->head.elements, first_row, rows, LANES, b->elements);
    for (int n = 0; n < b->panels; n++) {
        key_panel *panel = &b->panel[n];
        if (!make_panel(b, &t, panel)) continue;
        const int64_t low = panel->low, depth = panel->high - low;
        float *ds = b->ds + panel->first * TILE;
        if (adds) add_features(b, panel, first_row);
        for (int64_t i = low * panel->step; b->p->softcap > 0 && i < panel->high * panel->step; i += LANES)
            store(ds + i, choose(load(ds + i) == splat(0), splat(0), load(ds + i) * load(b->slopes + i)));
        const bool weighed = !panel->whole && !(b->finite && *t.finite);
        float *dv = b->dv_sum + panel->first * rounded(b->dv, ROWS),
              *dk = b->dk + panel->first * rounded(b->d, ROWS);
        careful = careful || weighed;
        if (weighed) {
            output_weighed(panel, t.dout_columns + low * ROWS, b->weights + low * panel->step, depth, dv,
                           rounded(b->dv, ROWS));
            output_weighed(panel, t.q_columns + low * ROWS, ds + low * panel->step, depth, dk,
                           rounded(b->d, ROWS));
            continue;
        }
        if (task->dv.data)
            outputs[panel->vectors](t.dout_columns + low * ROWS, TILE * ROWS, b->weights + low * panel->step,
                                    depth, dv, rounded(b->dv, ROWS) / ROWS);
        if (task->dk.data)
            outputs[panel->vectors](t.q_columns + low * ROWS, TILE * ROWS, ds + low * panel->step, depth, dk,
                                    rounded(b->d, ROWS) / ROWS);
    }
    attend_cpu_backward_wait(task->before, index + 1);
    int64_t left = d / LANES;
    for (int64_t c = 0; left > 0;) {
        const int vectors = vectors_at(left);
        for (int64_t r = 0; r < rounded(rows, ROWS); r += careful ? 1 : ROWS)
            if (careful)
                dq_weighed(b, r, b->k_columns + BLOCK * c, vectors * LANES, t.dq + r * d + c);
            else
                dqs[vectors](b, r, b->k_columns + BLOCK * c, t.dq + r * d + c, d);
        c += vectors * LANES, left -= vectors;
    }
}

/* dK or dV of the block to their rows, and zeros past the sequence's keys. */
static void leave_keys(const block *b, const attend_cpu_rows *to, attend_dtype dtype, const float *sums,
                       int64_t columns)
{
    const int64_t width = rounded(columns, ROWS), first = b->task->first_key,
                  last = b->p->packed ? b->task->head.sequence.seqlen_k : b->p->seqlen_k;
    if (!to->data) return;
    const bool adds = b->task->gradients->accumulate;
    for (int n = 0; n < b->panels; n++)
        for (int v = 0; v < b->panel[n].vectors; v++) {
            const int64_t key = b->panel[n].first + v * LANES;
            for (int64_t c = 0; c < columns; c += LANES) {
                vf tile[LANES];
                for (int i = 0; i < LANES; i++)
                    tile[i] =
                        c + i < columns
                            ? load(sums + b->panel[n].first * width + (c + i) * b->panel[n].step + v * LANES)
                            : splat(0);
                transpose(tile);
                for (int64_t i = 0; i < LANES && key + i < b->keys; i++) {
                    const int64_t at = (first + key + i) * to->stride + c;
                    vf value = tile[i];
                    if (adds) value += load_some(to->data, at, columns - c, dtype);
                    store_some(to->data, at, value, columns - c, dtype);
                }
            }
        }
    for (int64_t key = first + most(b->keys, 0); !adds && key < least(first + BLOCK, last); key++)
        for (int64_t c = 0; c < columns; c += LANES)
            store_some(to->data, key * to->stride + c, splat(0), columns - c, dtype);
}

static void pass(const attend_cpu_backward_task *task, int64_t tiles)
{
    atomic_store_explicit(task->passed, tiles, memory_order_release);
}

static void sum_delta(const attend_cpu_backward_task *task)
{
    block b = block_of(task);
    if (b.keys > 0) pack_key_panels(&b, &task->k, b.d, b.k), pack_key_panels(&b, &task->v, b.dv, b.v);
    for (int64_t i = 0; b.keys > 0 && i * TILE < task->head.rows && attend_progress_continues(task->tracker);
         i++)
        sum_delta_tile(&b, i), pass(task, i + 1);
    pass(task, INT64_MAX);
}

static void run(const attend_cpu_backward_task *task)
{
    block b = block_of(task);
    const attend_tensor *of = task->gradients->of;
    const bool key_bias = of[ATTEND_GRADIENT_BIAS].data &&
                          (b.p->bias_axes & (ATTEND_PER_QUERY | ATTEND_PER_KEY)) == ATTEND_PER_KEY;
    memset(task->sums, 0, (size_t)(task->head.group * attend_cpu_backward_sums(b.p)) * sizeof *task->sums);
    if (b.keys > 0) {
        pack_key_panels(&b, &task->v, b.dv, b.v);
        b.finite = pack_key_panels(&b, &task->k, b.d, b.k);
        pack_key_columns(&b);
        memset(b.dk, 0, (size_t)(BLOCK * rounded(b.d, ROWS)) * sizeof *b.dk);
        memset(b.dv_sum, 0, (size_t)(BLOCK * rounded(b.dv, ROWS)) * sizeof *b.dv_sum);
        if (key_bias) memset(b.key_bias, 0, (size_t)(task->head.group * BLOCK) * sizeof *b.key_bias);
    }
    for (int64_t i = 0; b.keys > 0 && i * TILE < task->head.rows && attend_progress_continues(task->tracker);
         i++)
        run_tile(&b, i), pass(task, i + 1);
    leave_keys(&b, &task->dk, of[ATTEND_GRADIENT_K].dtype, b.dk, b.d);
    leave_keys(&b, &task->dv, of[ATTEND_GRADIENT_V].dtype, b.dv_sum, b.dv);
    if (task->ends_in_order) attend_cpu_backward_wait(task->before, INT64_MAX);
    attend_cpu_backward_wait(task->before_shared, INT64_MAX);
    if (key_bias) leave_key_bias(&b);
    pass(task, INT64_MAX);
}

static void finish_tile(const attend_cpu_backward_task *task)
{
    const attend_problem *p = task->head.problem;
    const attend_tensor *of = &task->gradients->of[ATTEND_GRADIENT_Q];
    const int64_t first = task->tile * TILE,
                  last = least(TILE, task->head.group * attend_rows_of(p, &task->head.sequence) - first);
    const attend_cpu_backward_tile t = tile_of(p, task->tiles + task->tile * tile_floats(p));
    for (int64_t r = 0; r < last; r++) {
        const bool there = first + r < task->head.rows;
        const int64_t at = row_offset(&task->head, &task->dq, first + r);
        const vf scale = splat(task->head.heads[packed_row_of(&task->head, first + r).head].scale);
        for (int64_t c = 0; c < p->head_dim; c += LANES) {
            vf value = splat(0);
            if (there) value = load(t.dq + r * rounded(p->head_dim, LANES) + c) * scale;
            if (task->gradients->accumulate)
                value += load_some(task->dq.data, at + c, p->head_dim - c, of->dtype);
            store_some(task->dq.data, at + c, value, p->head_dim - c, of->dtype);
        }
    }
}

const attend_cpu_backward_kernel OF_ISA(attend_cpu_backward) = {
    tile_floats, scratch_floats, pack_tile, sum_delta, normalise, run, finish_tile, tile_of};
