/* Exact attention by blocks with an online softmax (Milakov & Gimelshein 2018; Dao et al. 2022), in GNU vectors. Compiled once per
   instruction set with ATTEND_ISA, ATTEND_LANES, ATTEND_ROWS, ATTEND_VECTORS; kernel.h is its interface.

   A task holds up to TILE_Q queries. For each block of TILE_K keys: scores S = Q·Kᵀ, the running maximum m and sum l of every
   row, weights P = exp(S - m), and O = O·exp(m_old - m) + P·V. Both products are the same micro-kernel: ATTEND_ROWS rows times
   ATTEND_VECTORS vectors of accumulators in registers, one broadcast and one multiply-add per row and vector. A row's sums
   run over keys and dims in their plain order whatever the rows beside it, so its bits depend on nothing else. */
#include "kernel.h"

#include <math.h>
#include <string.h>

#define CONCAT_(a, b)  a##b
#define CONCAT(a, b)   CONCAT_(a, b)
#define STRING_(a)     #a
#define STRING(a)      STRING_(a)
#define ALWAYS_INLINE  static inline __attribute__((always_inline))

enum { LANES = ATTEND_LANES, ROWS = ATTEND_ROWS, VECTORS = ATTEND_VECTORS, PANEL = LANES * VECTORS };
_Static_assert(ATTEND_CPU_PANEL % PANEL == 0 && ATTEND_CPU_TILE_K % PANEL == 0, "panels tile the padding and the blocks");
_Static_assert(ATTEND_CPU_TILE_Q % ROWS == 0, "rows tile the queries");

typedef float vf __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

ALWAYS_INLINE vf load(const float *p) { return *(const vf *)p; }
ALWAYS_INLINE void store(float *p, vf v) { *(vf *)p = v; }
ALWAYS_INLINE vf splat(float x) { return x - (vf){0}; }
ALWAYS_INLINE vf select(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
ALWAYS_INLINE vf maximum(vf a, vf b) { return select(a > b, a, b); }

ALWAYS_INLINE float sum_lanes(vf v)
{
    float s = 0;
    for (int i = 0; i < LANES; i++) s += v[i];
    return s;
}

ALWAYS_INLINE float max_lanes(vf v)
{
    float m = v[0];
    for (int i = 1; i < LANES; i++) m = v[i] > m ? v[i] : m;
    return m;
}

/* e^x for x <= 0: x = n·ln2 + r, |r| <= ln2/2, a polynomial of degree 7 for e^r (error below 1 ulp), 2^n by its exponent bits.
   Below -87.3 the result is 0, the true one being under 1.2e-38; a NaN stays. */
ALWAYS_INLINE vf exponential(vf x)
{
    const vf shift = splat(0x1.8p23f);
    vf n = x * splat(0x1.715476p0f) + shift;
    vi exponent = (vi)n << 23;
    n -= shift;
    vf r = x - n * splat(0x1.62e400p-1f);
    r = r - n * splat(0x1.7f7d1cp-20f);
    vf y = splat(0x1.a01a02p-13f); /* 1/5040 … 1/2: Taylor, |r|^8/40320 < 2^-27 */
    y = y * r + splat(0x1.6c16c2p-10f);
    y = y * r + splat(0x1.111112p-7f);
    y = y * r + splat(0x1.555556p-5f);
    y = y * r + splat(0x1.555556p-3f);
    y = y * r + splat(0.5f);
    y = y * (r * r) + r;
    y = y + splat(1);
    y = (vf)((vi)y + exponent);
    return select(x >= splat(-87.3f), y, select(x < splat(-87.3f), splat(0), x));
}

/* C[rows][vectors] (+)= A[rows][depth] · B[depth][vectors]; every accumulator stays in a register. rows and vectors are constants
   where this is inlined. */
ALWAYS_INLINE void multiply(int rows, int vectors, const float *a, int64_t a_stride, const float *b, int64_t b_stride,
                            int64_t depth, float *c, int64_t c_stride, bool accumulate)
{
    vf sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) sum[r][v] = accumulate ? load(c + r * c_stride + v * LANES) : splat(0);
    for (int64_t k = 0; k < depth; k++) {
        vf column[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) column[v] = load(b + k * b_stride + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[r][v] += a[r * a_stride + k] * column[v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) store(c + r * c_stride + v * LANES, sum[r][v]);
}

/* The same for any number of rows, one panel wide. */
static void multiply_rows(int64_t rows, const float *a, int64_t a_stride, const float *b, int64_t b_stride, int64_t depth,
                          float *c, int64_t c_stride, bool accumulate)
{
    int64_t r = 0;
    for (; r + ROWS <= rows; r += ROWS)
        multiply(ROWS, VECTORS, a + r * a_stride, a_stride, b, b_stride, depth, c + r * c_stride, c_stride, accumulate);
    for (; r < rows; r++) multiply(1, VECTORS, a + r * a_stride, a_stride, b, b_stride, depth, c + r * c_stride, c_stride, accumulate);
}

/* What a task works on, in its scratch. */
typedef struct work {
    const attend_cpu_task *task;
    int64_t q_width, v_width; /* padded */
    float *q;                 /* [queries][q_width] */
    float *o;                 /* [queries][v_width] */
    float *s;                 /* [queries][TILE_K]: scores, then weights */
    float m[ATTEND_CPU_TILE_Q], l[ATTEND_CPU_TILE_Q];
    int64_t end[ATTEND_CPU_TILE_Q]; /* keys [0, end) are visible */
} work;

static void begin(work *w, const attend_cpu_task *task)
{
    const attend_problem *p = task->problem;
    w->task = task;
    w->q_width = attend_cpu_padded(p->head_dim), w->v_width = attend_cpu_padded(p->head_dim_v);
    w->q = task->scratch;
    w->o = w->q + ATTEND_CPU_TILE_Q * w->q_width;
    w->s = w->o + ATTEND_CPU_TILE_Q * w->v_width;
    memset(w->o, 0, (size_t)(task->queries * w->v_width) * sizeof *w->o);
    for (int64_t r = 0; r < task->queries; r++) {
        w->m[r] = -INFINITY, w->l[r] = 0;
        int64_t query = task->query + r;
        w->end[r] = query < task->sequence.seqlen_q ? attend_visible_end(p, &task->sequence, query) : 0;
        if (w->end[r] > 0) attend_cpu_load_row(w->q + r * w->q_width, task->q, r * task->q_stride, p->head_dim, p->dtype);
    }
}

/* Scores of rows [r0, r1) against the keys [key, key + count). */
static void score(work *w, int64_t r0, int64_t r1, int64_t key, int64_t count)
{
    int64_t d = w->task->problem->head_dim;
    for (int64_t j = 0; j < count; j += PANEL)
        multiply_rows(r1 - r0, w->q + r0 * w->q_width, w->q_width, w->task->keys.k + (key + j) * d, PANEL, d,
                      w->s + r0 * ATTEND_CPU_TILE_K + j, ATTEND_CPU_TILE_K, false);
}

/* Turns one row of `count` scores into weights and folds them into m and l; rescales the row's output if m grew. */
static void fold(work *w, int64_t r, int64_t count)
{
    float *s = w->s + r * ATTEND_CPU_TILE_K;
    float scale = w->task->problem->softmax_scale;
    vf top = splat(-INFINITY), sum = splat(0);
    int64_t padded = (count + LANES - 1) / LANES * LANES;
    for (int64_t j = 0; j < count; j += LANES) {
        vf x = load(s + j) * splat(scale);
        store(s + j, x);
        if (j + LANES <= count) top = maximum(x, top);
    }
    float m = w->m[r], block = max_lanes(top);
    for (int64_t j = count / LANES * LANES; j < padded; j++) {
        if (j >= count) s[j] = -INFINITY;
        block = s[j] > block ? s[j] : block;
    }
    if (block > m) m = block;
    float base = m == -INFINITY ? 0 : m;
    for (int64_t j = 0; j < padded; j += LANES) {
        vf p = exponential(load(s + j) - splat(base));
        store(s + j, p);
        sum += p;
    }
    if (m > w->m[r] && w->m[r] != -INFINITY) {
        float shrink = exponential(splat(w->m[r] - m))[0];
        float *o = w->o + r * w->v_width;
        for (int64_t c = 0; c < w->v_width; c += LANES) store(o + c, load(o + c) * splat(shrink));
        w->l[r] *= shrink;
    }
    w->l[r] += sum_lanes(sum);
    w->m[r] = m;
}

/* O += P·V for rows [r0, r1), which all see `count` keys of the block. */
static void aggregate(work *w, int64_t r0, int64_t r1, int64_t key, int64_t count)
{
    for (int64_t c = 0; c < w->v_width; c += PANEL)
        multiply_rows(r1 - r0, w->s + r0 * ATTEND_CPU_TILE_K, ATTEND_CPU_TILE_K, w->task->keys.v + key * w->v_width + c, w->v_width,
                      count, w->o + r0 * w->v_width + c, w->v_width, true);
}

/* Keys of the block [key, …) that row r sees. */
static int64_t seen(const work *w, int64_t r, int64_t key)
{
    int64_t count = w->end[r] - key;
    return count < 0 ? 0 : count > ATTEND_CPU_TILE_K ? ATTEND_CPU_TILE_K : count;
}

/* One block of keys. Rows that see the same keys go together; only at the causal edge does each row stand alone. */
static void block(work *w, int64_t key)
{
    int64_t queries = w->task->queries;
    for (int64_t r0 = 0, r1; r0 < queries; r0 = r1) {
        int64_t count = seen(w, r0, key), widest = count;
        bool same = true;
        for (r1 = r0 + 1; r1 < queries && (r1 - r0) % ROWS; r1++) { /* up to ROWS rows share their scores */
            int64_t other = seen(w, r1, key);
            same &= other == count;
            widest = other > widest ? other : widest;
        }
        for (; same && r1 < queries && seen(w, r1, key) == count; r1++) {}
        if (widest == 0) continue;
        score(w, r0, r1, key, widest);
        for (int64_t r = r0; r < r1; r++)
            if (seen(w, r, key)) fold(w, r, seen(w, r, key));
        if (same) aggregate(w, r0, r1, key, count);
        for (int64_t r = r0; !same && r < r1; r++) aggregate(w, r, r + 1, key, seen(w, r, key));
    }
}

static void finish(const work *w)
{
    const attend_cpu_task *task = w->task;
    for (int64_t r = 0; r < task->queries; r++) {
        float *o = w->o + r * w->v_width;
        bool seen_any = w->end[r] > 0;
        for (int64_t c = 0; seen_any && c < w->v_width; c += LANES) store(o + c, load(o + c) / splat(w->l[r]));
        attend_cpu_store_row(task->out, r * task->out_stride, o, task->problem->head_dim_v, task->problem->dtype);
        if (task->lse) task->lse[r * task->lse_stride] = seen_any ? w->m[r] + logf(w->l[r]) : -INFINITY;
    }
}

static void run(const attend_cpu_task *task)
{
    work w;
    int64_t end = 0;
    begin(&w, task);
    for (int64_t r = 0; r < task->queries; r++) end = w.end[r] > end ? w.end[r] : end;
    for (int64_t key = 0; key < end; key += ATTEND_CPU_TILE_K) block(&w, key);
    finish(&w);
}

static void pack_keys(float *packed, const void *k, attend_dtype dtype, int64_t stride, int64_t head_dim, int64_t first,
                      int64_t count, int64_t seqlen_k)
{
    for (int64_t j = first; j < first + count; j += PANEL)
        for (int64_t column = 0; column < PANEL; column++) {
            float row[64];
            float *to = packed + j * head_dim + column;
            for (int64_t c = 0; c < head_dim; c += 64) {
                int64_t part = head_dim - c < 64 ? head_dim - c : 64;
                if (j + column < seqlen_k)
                    attend_cpu_load_row(row, k, (j + column) * stride + c, part, dtype);
                else
                    memset(row, 0, sizeof row);
                for (int64_t i = 0; i < part; i++) to[(c + i) * PANEL] = row[i];
            }
        }
}

static bool runs_here(void) { return ATTEND_RUNS_HERE; }

const attend_cpu_kernel CONCAT(attend_cpu_kernel_, ATTEND_ISA) = {STRING(ATTEND_ISA), runs_here, pack_keys, run};
