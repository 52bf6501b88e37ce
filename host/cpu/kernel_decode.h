/* The decode schedule: few rows against many keys. It is bound by reading K and V, which happens once and in
   place. The operands of the micro-kernel swap roles: rows are broadcast, keys (for S) and columns (for O)
   are the lanes. Each score, weight and sum is the same chain of operations as in kernel.c, so the bits are
   the same. */
#ifndef ATTEND_CPU_KERNEL_DECODE_H
#define ATTEND_CPU_KERNEL_DECODE_H

#include "cpu/elements.h"
#include "cpu/kernel_rows.h"

enum {
    FEW_KEYS = ATTEND_CPU_BLOCK,
    FEW_VECTORS = 4, /* the most vectors of keys a part */
    FEW_PART = FEW_VECTORS * LANES,
    FEW_DIMS = 32, /* dims of K transposed at a time: a cache line of 16-bit elements */
    FEW_ROWS = ATTEND_CPU_FEW_ROWS,
    FEW_HEADS = ATTEND_CPU_FEW_HEADS
};

/* Every head processes one part of the block before any head proceeds to the next. Two parts of eight heads
   of 128 dims take 128 KB (AVX2), which stays in L2. */
ALWAYS_INLINE int few_vectors(attend_dtype dtype)
{
    return dtype == ATTEND_F32 ? FEW_VECTORS / 2 : FEW_VECTORS;
}

/* One KV head */
typedef struct few {
    const attend_cpu_task *task;
    int64_t rows, width; /* width: of an output row, padded to vectors */
    float *q;            /* [head_dim][FEW_ROWS], scaled */
    float *kt;           /* [FEW_DIMS][FEW_PART] */
    void *room;          /* a part's rows of K or V, where pages cut them apart */
    attend_cpu_rows v;   /* of the current part; row 0 would be the block's first key */
    /* [FEW_ROWS][FEW_KEYS]: scores, then weights; rows past `rows` pad the micro-kernel */
    float *s;
    /* [FEW_ROWS][width], of the span and of the block; for bf16, pairs of vectors hold even, then odd
       columns */
    float *o, *o_block;
    float m[FEW_ROWS], l[FEW_ROWS], unit[FEW_ROWS]; /* unit: factor from scores to exponents of 2 */
    int64_t begin[FEW_ROWS], end[FEW_ROWS];         /* visible interval of each row */
    int64_t low, high;                              /* keys that some row sees */
    /* the intervals within the current block, counted from its first key */
    int64_t from[FEW_ROWS], to[FEW_ROWS];
    attend_cpu_element_rows element_rows; /* with elementwise features */
    attend_cpu_scores tile;
    attend_cpu_visibility visibility; /* of the current block */
    bool hiding;                      /* keys of it are masked elementwise, and their values are not finite */
} few;

/* Floats that hold a part's rows of K or V, of any dtype. */
static int64_t room_floats(const attend_problem *p)
{
    return FEW_PART / 2 * attend_cpu_round_up(most(p->head_dim, p->head_dim_v), LANES);
}

static int64_t few_floats(const attend_problem *p)
{
    return FEW_DIMS * FEW_PART + room_floats(p) +
           FEW_HEADS *
               (LANES + FEW_ROWS * (FEW_KEYS + p->head_dim + 2 * attend_cpu_round_up(p->head_dim_v, LANES)));
}

/* index: of the task among those that share the scratch */
static void few_begin(few *f, const attend_cpu_task *task, int64_t index)
{
    int64_t d = task->problem->head_dim;
    *f = (few){
        .task = task, .rows = task->rows, .width = attend_cpu_round_up(task->problem->head_dim_v, LANES)};
    f->kt = task->scratch;
    f->room = f->kt + FEW_DIMS * FEW_PART;
    f->s = (float *)f->room + room_floats(task->problem) +
           index * (LANES + FEW_ROWS * (FEW_KEYS + 2 * f->width + d));
    /* the last row of a trimmed tile is scored up to a whole vector */
    f->o = f->s + FEW_ROWS * FEW_KEYS + LANES;
    f->o_block = f->o + FEW_ROWS * f->width;
    f->q = f->o_block + FEW_ROWS * f->width;
    memset(f->q, 0, (size_t)(FEW_ROWS * d) * sizeof *f->q);
    for (int64_t r = 0; r < f->rows; r++) {
        int64_t at = row_offset(task, &task->q, task->first_row + r);
        const row_scale scale = row_scale_of(task, task->first_row + r);
        f->unit[r] = scale.unit;
        for (int64_t c = 0; c < d; c++)
            f->q[c * FEW_ROWS + r] = load_one(task->q.data, at + c, task->problem->dtype) * scale.power;
    }
    f->low = INT64_MAX, f->high = 0;
    for (int64_t r = 0; r < f->rows; r++) {
        visible(task, task->first_row + r, &f->begin[r], &f->end[r]);
        if (f->begin[r] < f->end[r]) f->low = least(f->low, f->begin[r]), f->high = most(f->high, f->end[r]);
    }
    if (task->elements && f->high > 0)
        attend_cpu_prepare_rows(task->elements, task->first_row, task->rows, LANES, &f->element_rows);
}

/* ---- prefetching ---- */

/* Prefetches the next part's rows of all heads, line by line, while the current part is multiplied: hardware
   prefetchers follow neither rows that lie far apart nor the switches between heads. */
typedef struct stream {
    const char *row, *at; /* the row of the next line, and the line */
    int64_t bytes, stride, element, rows;
    const attend_cpu_task *task;
    const attend_cpu_key_rows *keys;
    int64_t key, end; /* the first key behind `rows`, and behind the stream */
} stream;

/* Proceeds to the keys that lie together from s->key on. */
static void stream_next(stream *s)
{
    if (s->key >= s->end) return;
    s->rows = attend_keys_together(&s->task->part->keys, s->key, s->end - s->key);
    s->at = s->row = s->keys->data + key_offset(s->task, s->keys, s->key) * s->element;
    s->key += s->rows;
}

/* Keys [key, key + keys) of K or V */
ALWAYS_INLINE stream stream_of(const attend_cpu_task *task, const attend_cpu_key_rows *first,
                               const attend_cpu_key_rows *last, int64_t width, int64_t key, int64_t keys,
                               int64_t element)
{
    stream s = {.bytes = last->data - first->data + width * element,
                .stride = first->stride * element,
                .element = element,
                .task = task,
                .keys = first,
                .key = key,
                .end = key + keys};
    stream_next(&s);
    return s;
}

ALWAYS_INLINE void stream_prefetch(stream *s, int64_t lines)
{
    while (lines > 0 && s->rows > 0) {
        const char *at = s->at, *const end = s->row + s->bytes;
        for (; lines > 0 && at < end; lines--, at += 64) __builtin_prefetch(at);
        s->at = at;
        if (at < end) return;
        s->at = s->row += s->stride;
        if (--s->rows == 0) stream_next(s);
    }
}

/* ---- scores ---- */

/* Transposes up to FEW_DIMS columns of up to LANES rows to kt. */
ALWAYS_INLINE void few_transpose(float *kt, const char *rows, int64_t stride, int64_t count, int64_t dims,
                                 attend_dtype dtype)
{
    for (int64_t c = 0; c < dims; c += LANES) {
        vf tile[2 * LANES];
        if (dtype == ATTEND_BF16 && count >= LANES && dims - c >= 2 * LANES) {
            load_transposed_pairs(tile, rows, stride, c);
            UNROLL_FOR (16, int i = 0; i < LANES; i++) store(kt + (c + i) * FEW_PART, tile[i]);
            c += LANES;
            UNROLL_FOR (16, int i = 0; i < LANES; i++) store(kt + (c + i) * FEW_PART, tile[LANES + i]);
            continue;
        }
        load_transposed(tile, rows, stride, count, c, dims, dtype);
        UNROLL_FOR (16, int i = 0; i < LANES; i++) store(kt + (c + i) * FEW_PART, tile[i]);
    }
}

/* K of up to a part, LANES keys each: in place, but for those that pages cut apart. */
ALWAYS_INLINE void few_keys(const few *f, int64_t key, int64_t count, int64_t element,
                            attend_cpu_rows k[FEW_VECTORS])
{
    const int64_t d = f->task->problem->head_dim;
    const bool together = attend_keys_together(&f->task->part->keys, key, count) == count;
    k[0] = even_rows(f->task, &f->task->k, key, together ? count : least(count, LANES), d, element, f->room);
    for (int64_t j = LANES; j < count; j += LANES) {
        attend_cpu_rows *next = &k[j / LANES];
        *next = k[j / LANES - 1];
        if (together)
            next->data = (char *)next->data + LANES * next->stride * element;
        else
            *next = even_rows(f->task, &f->task->k, key + j, least(count - j, LANES), d, element,
                              (char *)f->room + j * d * element);
    }
}

/* S of up to a part of the block, keys [key, key + count); s: [FEW_ROWS][FEW_KEYS]. */
ALWAYS_INLINE void few_score(few *f, int64_t key, int64_t count, float *s, stream *ahead, attend_dtype dtype)
{
    int64_t d = f->task->problem->head_dim, element = attend_dtypes[dtype].bytes;
    attend_cpu_rows k[FEW_VECTORS];
    few_keys(f, key, count, element, k);
    for (int64_t c0 = 0; c0 < d; c0 += FEW_DIMS) {
        int64_t dims = least(d - c0, FEW_DIMS), lines = (dims * element + 63) / 64 * LANES;
        for (int64_t j = 0; j < count; j += LANES) {
            const attend_cpu_rows *rows = &k[j / LANES];
            few_transpose(f->kt + j, (const char *)rows->data + c0 * element, rows->stride, count - j, dims,
                          dtype);
            stream_prefetch(ahead, lines);
        }
        steps at = {1, FEW_ROWS, FEW_PART, FEW_KEYS};
        for (int64_t r = 0; r < f->rows;) {
            const float *q = f->q + c0 * FEW_ROWS + r;
            float *to = s + r * FEW_KEYS;
            int64_t rest = f->rows - r;
            if (rest >= 3) {
                for (int64_t j = 0; j < count; j += 2 * LANES)
                    multiply(4, 2, at, q, f->kt + j, dims, to + j, c0 ? CONTINUED : FRESH);
                r += 4;
            } else if (rest == 2) {
                multiply(2, few_vectors(dtype), at, q, f->kt, dims, to, c0 ? CONTINUED : FRESH);
                r += 2;
            } else {
                multiply(1, few_vectors(dtype), at, q, f->kt, dims, to, c0 ? CONTINUED : FRESH);
                r += 1;
            }
        }
    }
}

/* ---- weights ---- */

/* Weights of row r, for which keys [from, to) of the block are visible; all others become 0. */
static void few_weigh(few *f, int64_t r)
{
    float *s = f->s + r * FEW_KEYS;
    for (int64_t j = 0; j < f->from[r]; j++) s[j] = -INFINITY;
    for (int64_t j = f->to[r]; j < FEW_KEYS; j++) s[j] = -INFINITY;
    vf top = splat(-INFINITY), factor, m = splat(f->m[r]), unit = splat(f->unit[r]);
    for (int64_t j = 0; j < FEW_KEYS; j += LANES) top = maximum(load(s + j), top);
    top = splat(max_lanes(top));
    if (any(may_raise(m, top, unit))) {
        m = raise(m, top, unit, &factor);
        f->m[r] = m[0], f->l[r] *= factor[0];
        float *o = f->o + r * f->width;
        for (int64_t c = 0; c < f->width; c += LANES) store(o + c, load(o + c) * factor);
    }
    const weigher w = weigher_of(finite_max(m), unit);
    subtract_base(s, LANES, 0, FEW_KEYS / LANES, &w);
    for (int64_t j = 0; j < FEW_KEYS; j += LANES) store(s + j, weigh(load(s + j), &w));
}

/* Weights of all rows and their sums. Sums are chains from key to key; four at once hide their latency. */
static void few_fold(few *f)
{
    for (int64_t r = 0; r < f->rows; r++) few_weigh(f, r);
    for (int64_t r = 0; r < f->rows; r += 4) {
        const float *s = f->s + r * FEW_KEYS;
        float l[4] = {0};
        int64_t rows = least(f->rows - r, 4);
        if (rows == 1)
            for (int64_t j = 0; j < FEW_KEYS; j++) l[0] += s[j];
        else
            for (int64_t j = 0; j < FEW_KEYS; j++)
                UNROLL_FOR (4, int i = 0; i < 4; i++) l[i] += s[i * FEW_KEYS + j];
        for (int64_t i = 0; i < rows; i++) f->l[r + i] += l[i];
    }
}

/* ---- output ---- */

/* Columns of the key at `at`. For bf16 whole pairs of vectors are split into even and odd columns. */
ALWAYS_INLINE void few_columns(vf column[4], int vectors, const void *v, int64_t at, int64_t columns,
                               attend_dtype dtype)
{
    if (dtype == ATTEND_BF16 && vectors > 1) {
        UNROLL_FOR (2, int n = 0; n < vectors; n += 2) {
            vi pair = load_pairs((const uint16_t *)v + at + n * LANES);
            column[n] = (vf)(pair << 16), column[n + 1] = (vf)(pair & -0x10000);
        }
        return;
    }
    UNROLL_FOR (4, int n = 0; n < vectors; n++)
        column[n] = load_some(v, at + n * LANES, columns - n * LANES, dtype);
}

/* One key: its weights in `rows` rows, FEW_KEYS apart; its columns at `at` of v. */
ALWAYS_INLINE void few_step(vf sum[4][4], int rows, int vectors, const float *weights, const void *v,
                            int64_t at, int64_t columns, attend_dtype dtype, bool hiding)
{
    vf column[4];
    few_columns(column, vectors, v, at, columns, dtype);
    UNROLL_FOR (4, int i = 0; i < rows; i++) {
        vf weight = splat(weights[i * FEW_KEYS]);
        if (hiding && weight[0] == 0) continue; /* masked: its value, even a NaN, has no effect */
        UNROLL_FOR (4, int n = 0; n < vectors; n++) sum[i][n] = multiply_into(sum[i][n], weight, column[n]);
    }
}

/* Columns [c, c + columns) of O += P·V for `rows` rows from r on and keys [from, to) of the block.
   Two keys an iteration: with one, gcc moves accumulators between registers at its end. */
ALWAYS_INLINE void few_multiply(few *f, int rows, int vectors, int64_t r, int64_t from, int64_t to, int64_t c,
                                int64_t columns, stream *ahead, attend_dtype dtype, bool hiding)
{
    const void *v = f->v.data;
    const float *weights = f->s + r * FEW_KEYS + from;
    int64_t stride = f->v.stride, at = from * stride + c;
    vf sum[4][4];
    float *o = f->o_block + r * f->width + c;
    stream_prefetch(ahead, (to - from) * columns * attend_dtypes[dtype].bytes / 64);
    UNROLL_FOR (4, int i = 0; i < rows; i++)
        UNROLL_FOR (4, int n = 0; n < vectors; n++) sum[i][n] = load(o + i * f->width + n * LANES);
    for (int64_t pairs = (to - from) / 2; pairs > 0; pairs--) {
        few_step(sum, rows, vectors, weights, v, at, columns, dtype, hiding);
        few_step(sum, rows, vectors, weights + 1, v, at + stride, columns, dtype, hiding);
        weights += 2, at += 2 * stride;
    }
    if ((to - from) % 2) few_step(sum, rows, vectors, weights, v, at, columns, dtype, hiding);
    UNROLL_FOR (4, int i = 0; i < rows; i++)
        UNROLL_FOR (4, int n = 0; n < vectors; n++) store(o + i * f->width + n * LANES, sum[i][n]);
}

ALWAYS_INLINE void few_aggregate(few *f, int rows, int vectors, int64_t r, int64_t from, int64_t to,
                                 stream *ahead, attend_dtype dtype, bool hiding)
{
    int64_t dv = f->task->problem->head_dim_v, c = 0;
    if (from >= to) return;
    for (; c + vectors * LANES <= dv; c += vectors * LANES)
        few_multiply(f, rows, vectors, r, from, to, c, vectors * LANES, ahead, dtype, hiding);
    for (; c + 2 * LANES <= dv; c += 2 * LANES)
        few_multiply(f, rows, 2, r, from, to, c, 2 * LANES, ahead, dtype, hiding);
    for (; c < dv; c += LANES) few_multiply(f, rows, 1, r, from, to, c, dv - c, ahead, dtype, hiding);
}

/* Separate functions, so that the compiler optimises small loops. hiding: there are masked keys with values
   that are not finite between a row's visible keys; such rows are computed one by one. */
typedef void few_aggregator(few *f, int64_t r, int64_t from, int64_t to, stream *ahead);
#define FEW_AGGREGATOR(name, rows, vectors, dtype, hiding)                                                 \
    __attribute__((noinline)) static void name(few *f, int64_t r, int64_t from, int64_t to, stream *ahead) \
    {                                                                                                      \
        few_aggregate(f, rows, vectors, r, from, to, ahead, dtype, hiding);                                \
    }
#define FEW_AGGREGATORS(name, dtype)                                                            \
    FEW_AGGREGATOR(few_hiding_##name, 1, 4, dtype, true)                                        \
    FEW_AGGREGATOR(few_1_##name, 1, 4, dtype, false)                                            \
    FEW_AGGREGATOR(few_2_##name, 2, 4, dtype, false)                                            \
    FEW_AGGREGATOR(few_4_##name, 4, 2, dtype, false)                                            \
    static few_aggregator *const few_##name[] = {few_hiding_##name, few_1_##name, few_2_##name, \
                                                 few_4_##name, few_4_##name};
FEW_AGGREGATORS(f32, ATTEND_F32)
FEW_AGGREGATORS(f16, ATTEND_F16)
FEW_AGGREGATORS(bf16, ATTEND_BF16)

/* Adds keys [first, end) of the block to every row's output. */
static void few_output(few *f, int64_t first, int64_t end, stream *ahead, few_aggregator *const *aggregators,
                       bool hiding)
{
    few_aggregator *one = aggregators[hiding ? 0 : 1];
    for (int64_t r = 0; r < f->rows;) {
        int64_t rows = hiding ? 1 : least(f->rows - r, 4), low = first, high = end;
        for (int64_t i = r; i < r + rows; i++) low = most(low, f->from[i]), high = least(high, f->to[i]);
        high = most(low, high);
        for (int64_t i = r; i < r + rows; i++)
            one(f, i, most(first, f->from[i]), least(low, least(end, f->to[i])), ahead);
        (hiding ? one : aggregators[rows])(f, r, low, high, ahead);
        for (int64_t i = r; i < r + rows; i++) one(f, i, most(high, f->from[i]), least(end, f->to[i]), ahead);
        r += rows;
    }
}

/* ---- tasks ---- */

/* The visibility of the block at `key`. */
static void few_visible(few *f, int64_t key, int64_t keys)
{
    f->tile = (attend_cpu_scores){f->s, FEW_KEYS, key, keys, 1}, f->visibility = ATTEND_CPU_VISIBLE;
    if (f->task->elements)
        f->visibility =
            OF_ISA(attend_cpu_scorer).visibility_of_tile(f->task->elements, &f->element_rows, &f->tile);
}

/* Whether the values of all keys in the block that have weight 0 in some row are finite. */
ALWAYS_INLINE bool few_finite(const few *f, int64_t key, int64_t keys, attend_dtype dtype)
{
    const attend_cpu_key_rows *v = &f->task->v;
    const int64_t dv = f->task->problem->head_dim_v;
    vf none = splat(0);
    for (int64_t j = 0; j < keys; j++) {
        bool weighs = true;
        for (int64_t r = 0; r < f->rows; r++) weighs = weighs && f->s[r * FEW_KEYS + j] != 0;
        for (int64_t c = 0; c < dv && !weighs; c += LANES)
            none += load_some(v->data, key_offset(f->task, v, key + j) + c, dv - c, dtype) * splat(0);
    }
    return !any(none != none);
}

/* All heads against the block of keys at `key`; more: another block follows. */
ALWAYS_INLINE void few_block(few *f, int64_t count, int64_t key, bool more, attend_dtype dtype)
{
    const attend_cpu_task *first = f->task, *last = f[count - 1].task;
    const attend_problem *p = first->problem;
    int64_t keys = least(FEW_KEYS, first->sequence.seqlen_k - key), element = attend_dtypes[dtype].bytes;
    const int64_t part = few_vectors(dtype) * LANES,
                  next = more ? least(part, first->sequence.seqlen_k - key - FEW_KEYS) : 0;
    few_aggregator *const *aggregators = dtype == ATTEND_F32   ? few_f32
                                         : dtype == ATTEND_F16 ? few_f16
                                                               : few_bf16;
    for (int64_t i = 0; i < count; i++) few_visible(&f[i], key, keys);
    for (int64_t j = 0; j < keys; j += part) {
        stream ahead = j + part < keys ? stream_of(first, &first->k, &last->k, p->head_dim, key + j + part,
                                                   least(keys - j - part, part), element)
                                       : stream_of(first, &first->v, &last->v, p->head_dim_v, key,
                                                   least(keys, part), element);
        for (int64_t i = 0; i < count; i++)
            if (f[i].visibility) few_score(&f[i], key + j, least(keys - j, part), f[i].s + j, &ahead, dtype);
    }
    for (int64_t i = 0; i < count; i++) {
        if (f[i].visibility == ATTEND_CPU_HIDDEN) continue;
        /* all other keys are masked for all rows */
        const int64_t low = f[i].tile.first_key - key, high = low + f[i].tile.keys;
        const bool hides = first->elements &&
                           OF_ISA(attend_cpu_scorer)
                               .score(f[i].task->elements, &f[i].element_rows, &f[i].tile, f[i].visibility);
        for (int64_t r = 0; r < f[i].rows; r++) {
            f[i].from[r] = least(most(f[i].begin[r] - key, low), high);
            f[i].to[r] = least(most(f[i].end[r] - key, f[i].from[r]), high);
        }
        few_fold(&f[i]);
        memset(f[i].o_block, 0, (size_t)(f[i].rows * f[i].width) * sizeof *f[i].o_block);
        f[i].hiding = hides && !few_finite(&f[i], key, keys, dtype);
    }
    for (int64_t j = 0; j < keys; j += part) {
        stream ahead = j + part < keys ? stream_of(first, &first->v, &last->v, p->head_dim_v, key + j + part,
                                                   least(keys - j - part, part), element)
                                       : stream_of(first, &first->k, &last->k, p->head_dim, key + FEW_KEYS,
                                                   next, element);
        for (int64_t i = 0; i < count; i++) {
            if (f[i].visibility == ATTEND_CPU_HIDDEN) continue;
            for (int64_t from = j, end = least(j + part, keys); from < end;) {
                /* in place, page by page, where these are not too short */
                const int64_t run = attend_keys_together(&first->part->keys, key + from, end - from),
                              n = run < LANES ? end - from : run;
                attend_cpu_rows v =
                    even_rows(f[i].task, &f[i].task->v, key + from, n, p->head_dim_v, element, f[i].room);
                v.data = (char *)v.data - from * v.stride * element;
                f[i].v = v;
                few_output(&f[i], from, from + n, &ahead, aggregators, f[i].hiding);
                from += n;
            }
        }
    }
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < f[i].rows * f[i].width && f[i].visibility; c += LANES)
            store(f[i].o + c, load(f[i].o + c) + load(f[i].o_block + c));
}

static void few_span_begin(few *f)
{
    for (int64_t r = 0; r < FEW_ROWS; r++) f->m[r] = -INFINITY, f->l[r] = 0;
    memset(f->o, 0, (size_t)(FEW_ROWS * f->width) * sizeof *f->o);
}

static void few_store_span(const few *f, int64_t span)
{
    int64_t dv = f->task->problem->head_dim_v;
    for (int64_t r = 0; r < f->rows; r++) {
        float *part = partial_of(f->task, f->task->first_row + r, span), *part_m = partial_m(f->task, part),
              *o = f->o + r * f->width;
        int64_t c = 0;
        for (; f->task->problem->dtype == ATTEND_BF16 && c + 2 * LANES <= dv; c += 2 * LANES)
            for (int i = 0; i < LANES; i++)
                part[c + 2 * i] = o[c + i], part[c + 2 * i + 1] = o[c + LANES + i];
        memcpy(part + c, o + c, (size_t)(dv - c) * sizeof *part);
        part_m[0] = f->m[r], part_m[1] = f->l[r];
    }
}

/* Tasks of one batch entry that differ in the KV head alone, interleaved part by part: where heads are
   adjacent, memory is read in ascending order. */
static void run_few(const attend_cpu_task *tasks, int64_t count)
{
    few f[FEW_HEADS];
    for (int64_t i = 0; i < count; i++) few_begin(&f[i], &tasks[i], i);
    for (int64_t span = tasks->first_span; span < tasks->end_span; span++) {
        int64_t start = span * ATTEND_CPU_SPAN, end = least(start + ATTEND_CPU_SPAN, f->high);
        for (int64_t i = 0; i < count; i++) few_span_begin(&f[i]);
        for (int64_t key = most(start, f->low / FEW_KEYS * FEW_KEYS); key < end; key += FEW_KEYS)
            switch (tasks->problem->dtype) {
            case ATTEND_F32: few_block(f, count, key, key + FEW_KEYS < end, ATTEND_F32); break;
            case ATTEND_F16: few_block(f, count, key, key + FEW_KEYS < end, ATTEND_F16); break;
            case ATTEND_BF16: few_block(f, count, key, key + FEW_KEYS < end, ATTEND_BF16); break;
            default: break; /* activations have no other dtype */
            }
        for (int64_t i = 0; i < count; i++) few_store_span(&f[i], span);
    }
}

#endif
