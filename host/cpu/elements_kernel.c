/* Tiles of scores with elementwise features, in vectors: attend_element_score() of host/shared/score.h, LANES
   by LANES. Compiled once per instruction set. Lanes are rows in kernel.c (many rows), keys in
   kernel_decode.h (few rows): the same code serves both. Only what varies along both rows and keys (bias,
   masks, distances) is loaded row by row and then transposed for the former. */
#include "cpu/elements_visibility.h"
#include "cpu/kernel_softmax.h"

typedef uint8_t vb __attribute__((vector_size(LANES), aligned(1), may_alias));

ALWAYS_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
ALWAYS_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* LANES by LANES scores: rows from `row` of x on, keys from `key` on, of which `rows` and `keys` are
   valid. */
typedef struct square {
    const attend_cpu_elements *e;
    const attend_cpu_element_rows *x;
    const attend_problem *p;
    const attend_terms *t;
    int64_t row, rows, key, keys;
} square;

/* Vectors of a square that are computed. */
ALWAYS_INLINE int vectors_of(const square *at, bool lanes_are_rows)
{
    return lanes_are_rows ? LANES : (int)at->rows;
}

/* ---- terms that vary along rows and keys, row by row ---- */

/* The keys of one row of a plane. */
ALWAYS_INLINE vf plane_row(const attend_plane *plane, int64_t offset, int64_t keys)
{
    if (plane->key == 1) return load_some(plane->data, offset, keys, plane->dtype);
    vf v = {0};
    if (plane->key == 0) return splat(load_one(plane->data, offset, plane->dtype));
    for (int i = 0; i < keys && i < LANES; i++)
        v[i] = load_one(plane->data, offset + i * plane->key, plane->dtype);
    return v;
}

/* The same for a mask: lanes are 0 where masked, any other value where visible. */
ALWAYS_INLINE vi mask_row(const attend_plane *plane, int64_t offset, int64_t keys)
{
    const uint8_t *from = (const uint8_t *)plane->data + offset;
    if (plane->key == 1 && keys >= LANES) return __builtin_convertvector(*(const vb *)from, vi);
    vi v = {0};
    for (int i = 0; i < keys && i < LANES; i++) v[i] = from[i * plane->key];
    return v;
}

/* The visible keys of row i by block mask or list. */
static vi blocks_row(const square *at, int64_t i)
{
    const int64_t size = at->p->block_k;
    vi v = {0};
    for (int64_t k = 0; k < at->keys;) {
        const int64_t block = (at->key + k) / size, end = least((block + 1) * size - at->key, at->keys);
        const int32_t visible = -(int32_t)attend_block_visible(at->x->head[i], at->x->block[i], block);
        if (k == 0 && end == at->keys) return splat_int(visible);
        for (; k < end; k++) v[k] = visible;
    }
    return v;
}

ALWAYS_INLINE void transpose_rows(bool lanes_are_rows, vf tile[LANES])
{
    if (lanes_are_rows) transpose(tile);
}

/* The transposed tile of rows that share one row of a plane. */
ALWAYS_INLINE void spread(vf row, vf tile[LANES])
{
    UNROLL_FOR (16, int i = 0; i < LANES; i++) tile[i] = splat(row[i]);
}

ALWAYS_INLINE void fetch_bias(const square *at, bool lanes_are_rows, vf tile[LANES])
{
    const attend_plane *bias = &at->t->bias;
    const int64_t *rows = at->x->bias + at->row, first = at->key * bias->key;
    if (lanes_are_rows && at->x->one_bias) {
        spread(plane_row(bias, rows[0] + first, at->keys), tile);
        return;
    }
    for (int i = 0; i < vectors_of(at, lanes_are_rows); i++)
        tile[i] = plane_row(bias, rows[i] + first, at->keys);
    transpose_rows(lanes_are_rows, tile);
}

ALWAYS_INLINE int64_t in_table(const square *at, int64_t distance)
{
    return most(least(distance, at->e->reach + 1), -at->e->reach - ATTEND_CPU_RELATIVE_PAD);
}

ALWAYS_INLINE vf reversed(vf v)
{
#if ATTEND_LANES == 4
    return __builtin_shufflevector(v, v, 3, 2, 1, 0);
#elif ATTEND_LANES == 8
    return __builtin_shufflevector(v, v, 7, 6, 5, 4, 3, 2, 1, 0);
#else
    return __builtin_shufflevector(v, v, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#endif
}

ALWAYS_INLINE void fetch_relative(const square *at, bool lanes_are_rows, vf tile[LANES])
{
    const int64_t *position = at->x->position + at->row;
    const float *const *table = at->x->relative + at->row;
    if (lanes_are_rows && at->x->consecutive) { /* distances decrease by one from row to row */
        const int64_t distance = at->key - position[0] - (LANES - 1);
        UNROLL_FOR (16, int i = 0; i < LANES; i++)
            tile[i] = reversed(load(table[0] + in_table(at, distance + i)));
        return;
    }
    for (int i = 0; i < vectors_of(at, lanes_are_rows); i++)
        tile[i] = load(table[i] + in_table(at, at->key - position[i]));
    transpose_rows(lanes_are_rows, tile);
}

/* Mask and block mask: lanes are 0 where a key is masked. */
ALWAYS_INLINE void fetch_mask(const square *at, bool lanes_are_rows, vf tile[LANES])
{
    const attend_cpu_element_rows *x = at->x;
    const attend_plane *mask = &at->t->mask;
    const int64_t first = at->key * mask->key;
    if (!at->p->block_q && lanes_are_rows && x->one_mask) {
        spread((vf)mask_row(mask, x->mask[at->row] + first, at->keys), tile);
        return;
    }
    vi blocks = splat_int(-1);
    for (int64_t i = 0; i < vectors_of(at, lanes_are_rows); i++) {
        const int64_t r = at->row + i;
        vi seen = splat_int(-1);
        if (at->p->block_q > 0 && (i == 0 || x->block_row[r] != x->block_row[r - 1]))
            blocks = blocks_row(at, r);
        if (at->p->mask_axes) seen = mask_row(mask, x->mask[r] + first, at->keys) != 0;
        tile[i] = (vf)(seen & blocks);
    }
    transpose_rows(lanes_are_rows, tile);
}

/* ---- scores ---- */

/* cap·tanh(s/cap). With w = 2|s|/cap, tanh is (e^w - 1) / (e^w + 1), and e^w - 1 = 2^n·(e^v - 1) + (2^n - 1)
   for w = n·ln 2 + v, |v| <= ln 2 / 2, so that small scores keep their digits. The inverse of the cap has two
   parts, since its rounding error would shift all scores alike. The error is at most 4.2·2^-24, and 1.1·2^-24
   in the root mean square; results are at most the cap, and a NaN stays NaN. */
ALWAYS_INLINE vf soft_cap(vf s, float cap, const attend_cpu_element_rows *x)
{
    const vi sign = splat_int(INT32_MIN);
    vf away = maximum(splat(x->cap_end), (vf)((vi)s | sign));
    vf w = multiply_into(away * splat(x->cap_by[1]), away, splat(x->cap_by[0])),
       shifted = w * splat(0x1.715476p+0f) + splat(ROUNDER);
    vf v = multiply_into(w, shifted - splat(ROUNDER), splat(-0x1.62e430p-1f));
    vf y = splat(0x1.6b9c66p-10f);
    y = y * v + splat(0x1.12254ap-7f);
    y = y * v + splat(0x1.5556f2p-5f);
    y = y * v + splat(0x1.5554b4p-3f);
    y = y * v + splat(0x1.fffffep-2f);
    vf power = (vf)(((vi)shifted << 23) + splat_int(127 << 23));
    vf e = multiply_into(power - splat(1), power, multiply_into(v, v * v, y));
    return (vf)((vi)(splat(cap) * (e / (e + splat(2)))) | ((vi)s & sign));
}

/* Distances of a vector: of LANES rows from one key, or of one row from LANES keys. Exact below 2^24. */
ALWAYS_INLINE vf distance_of(const square *at, bool lanes_are_rows, int64_t i, vf first)
{
    vf iota;
    UNROLL_FOR (16, int k = 0; k < LANES; k++) iota[k] = (float)k;
    return lanes_are_rows ? first + splat((float)i)
                          : splat((float)(at->key - at->x->position[at->row + i])) + iota;
}

ALWAYS_INLINE void add_alibi(const square *at, bool lanes_are_rows, vf s[LANES])
{
    vf first = splat(0), slope = load(at->x->slope + at->row);
    if (lanes_are_rows)
        for (int i = 0; i < LANES; i++) first[i] = (float)(at->key - at->x->position[at->row + i]);
    for (int i = 0; i < vectors_of(at, lanes_are_rows); i++) {
        vf far = distance_of(at, lanes_are_rows, i, first);
        if (at->p->alibi == ATTEND_ALIBI_SYMMETRIC) far = (vf)((vi)far | splat_int(INT32_MIN));
        s[i] = multiply_into(s[i], lanes_are_rows ? slope : splat(slope[i]), far);
    }
}

/* Returns lanes that are not 0 where a bias of -infinity masks a key. */
ALWAYS_INLINE vi make_scores(const square *at, bool lanes_are_rows, vf s[LANES])
{
    const int vectors = vectors_of(at, lanes_are_rows);
    const vf scale = load(at->x->scale + at->row);
    vi hides = splat_int(0);
    vf term[LANES];
    for (int i = 0; i < vectors; i++) s[i] *= lanes_are_rows ? scale : splat(scale[i]);
    if (at->p->softcap > 0)
        for (int i = 0; i < vectors; i++) s[i] = soft_cap(s[i], at->p->softcap, at->x);
    if (at->p->alibi) add_alibi(at, lanes_are_rows, s);
    if (at->p->relative_buckets > 0) {
        fetch_relative(at, lanes_are_rows, term);
        for (int i = 0; i < vectors; i++) s[i] += term[i];
    }
    if (at->p->bias_axes) {
        fetch_bias(at, lanes_are_rows, term);
        for (int i = 0; i < vectors; i++) {
            vi hidden = term[i] == splat(-INFINITY);
            s[i] = choose(hidden, term[i], s[i] + term[i]);
            hides |= hidden;
        }
    }
    return hides;
}

/* A key counted from the square's first, clamped to [0, LANES]. */
ALWAYS_INLINE int32_t within(const square *at, int64_t key)
{
    return (int32_t)least(most(key - at->key, 0), LANES);
}

ALWAYS_INLINE vi count_up(void)
{
    vi v;
    UNROLL_FOR (16, int k = 0; k < LANES; k++) v[k] = k;
    return v;
}

ALWAYS_INLINE void hide_gap(const square *at, bool lanes_are_rows, vf s[LANES])
{
    const attend_sequence *sequence = &at->e->heads->sequence;
    const vi begin = splat_int(within(at, sequence->start + at->p->prefix));
    vi end;
    for (int i = 0; i < LANES; i++) end[i] = within(at, at->x->gap_end[at->row + i]);
    for (int i = 0; i < vectors_of(at, lanes_are_rows); i++) {
        vi key = lanes_are_rows ? splat_int(i) : count_up();
        s[i] = choose((begin <= key) & (key < (lanes_are_rows ? end : splat_int(end[i]))), splat(-INFINITY),
                      s[i]);
    }
}

ALWAYS_INLINE void hide_segments(const square *at, bool lanes_are_rows, vf s[LANES])
{
    const attend_plane *segments = &at->t->segments_k;
    const attend_sequence *sequence = &at->e->heads->sequence;
    const int32_t *rows = at->x->segment + at->row;
    vi keys = {0};
    for (int i = 0; i < at->keys; i++)
        keys[i] = attend_segment(segments, sequence, (sequence->first_k + at->key + i) * segments->key);
    for (int i = 0; i < vectors_of(at, lanes_are_rows); i++) {
        vi same = lanes_are_rows ? splat_int(keys[i]) == *(const vi *)rows : keys == splat_int(rows[i]);
        s[i] = choose(same, s[i], splat(-INFINITY));
    }
}

ALWAYS_INLINE void hide(const square *at, bool lanes_are_rows, vf s[LANES])
{
    if (at->p->mask_axes || at->p->block_q > 0) {
        vf seen[LANES];
        fetch_mask(at, lanes_are_rows, seen);
        for (int i = 0; i < vectors_of(at, lanes_are_rows); i++)
            s[i] = choose((vi)seen[i] == 0, splat(-INFINITY), s[i]);
    }
    if (at->p->segments) hide_segments(at, lanes_are_rows, s);
    if (attend_has_gap(at->p)) hide_gap(at, lanes_are_rows, s);
}

/* Scores one square. Of the axis without lanes only `lines` entries are valid: memory past them belongs to
   other scores. */
ALWAYS_INLINE vi score_square(const square *at, bool lanes_are_rows, bool partly, float *scores, int64_t step)
{
    vf s[LANES];
    const int64_t lines = lanes_are_rows ? at->keys : at->rows;
    for (int i = 0; i < LANES; i++) s[i] = i < lines ? load(scores + i * step) : splat(0);
    const vi hides = make_scores(at, lanes_are_rows, s);
    if (partly) hide(at, lanes_are_rows, s);
    for (int i = 0; i < LANES && i < lines; i++) store(scores + i * step, s[i]);
    return hides;
}

ALWAYS_INLINE bool score_tile(const attend_cpu_elements *e, const attend_cpu_element_rows *x,
                              const attend_cpu_scores *tile, bool partly, bool lanes_are_rows)
{
    square at = {.e = e, .x = x, .p = e->heads->problem, .t = e->heads->terms};
    vi hides = splat_int(0);
    for (at.row = 0; at.row < x->rows; at.row += LANES) {
        at.rows = least(x->rows - at.row, LANES);
        for (int64_t k = 0; k < tile->keys; k += LANES) {
            at.key = tile->first_key + k, at.keys = least(tile->keys - k, LANES);
            hides |= score_square(&at, lanes_are_rows, partly,
                                  tile->scores + at.row * tile->row_stride + k * tile->key_stride,
                                  lanes_are_rows ? tile->key_stride : tile->row_stride);
        }
    }
    return any(hides);
}

__attribute__((noinline)) static bool score_rows(const attend_cpu_elements *e,
                                                 const attend_cpu_element_rows *x,
                                                 const attend_cpu_scores *tile, bool partly)
{
    return score_tile(e, x, tile, partly, true);
}

__attribute__((noinline)) static bool score_keys(const attend_cpu_elements *e,
                                                 const attend_cpu_element_rows *x,
                                                 const attend_cpu_scores *tile, bool partly)
{
    return score_tile(e, x, tile, partly, false);
}

static bool score(const attend_cpu_elements *e, const attend_cpu_element_rows *x,
                  const attend_cpu_scores *tile, attend_cpu_visibility visibility)
{
    const bool partly = visibility != ATTEND_CPU_VISIBLE;
    return (tile->row_stride == 1 ? score_rows : score_keys)(e, x, tile, partly) || partly;
}

/* attend_softcap_slope() of host/shared/score.h */
static void softcap_slopes(const attend_cpu_elements *e, const attend_cpu_element_rows *x,
                           const attend_cpu_scores *tile)
{
    const float cap = e->heads->problem->softcap;
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t k = 0; k < tile->keys; k += LANES) {
            float *s = tile->scores + r * tile->row_stride + k;
            const vf bent = soft_cap(load(s) * splat(x->scale[r]), cap, x) / splat(cap);
            store(s, multiply_into(splat(1), -bent, bent));
        }
}

const attend_cpu_scorer OF_ISA(attend_cpu_scorer) = {visibility_of_tile, score, softcap_slopes};
