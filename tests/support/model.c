/* One query at a time over tiles of 64 keys: S = Q·Kᵀ in steps of 16 products, online softmax with base-2
   exponentials, P rounded to storage, O += P·V in steps of 16 keys. In 16-bit dtypes each step is added to
   its fp32 accumulator with truncation, as tensor cores do; in fp32 by fused multiply-adds. The exponential
   has an error of up to 2^-22, as ex2.approx. */
#include "support/model.h"
#include "reference/reference.h"
#include "core/arguments.h"
#include "core/problem.h"
#include "shared/relative.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 64, STEP = 16 };

static const char *const names[MODEL_DEFECTS] = {
    "correct",           "narrow accumulation", "output not rescaled", "sum not rescaled",    "key skipped",
    "phantom keys",      "causal one more",     "causal one less",     "causal other corner", "wrong KV head",
    "LSE in base 2",     "LSE of unscaled",     "scale missing",       "length ignored",      "TF32 scores",
    "lazy maximum"};

const char *model_defect_name(model_defect defect) { return names[defect]; }

bool model_defect_applies(model_defect defect, const attend_problem *p, const attend_attention_args *args)
{
    if (p->batch == 0 || p->seqlen_q == 0 || p->seqlen_k == 0) return false;
    switch (defect) {
    case MODEL_LAZY_MAXIMUM: return p->dtype != ATTEND_F32 && p->seqlen_k > TILE;
    case MODEL_NARROW_ACCUMULATION: return p->dtype != ATTEND_F32;
    case MODEL_TF32_SCORES: return p->dtype == ATTEND_F32;
    case MODEL_OUTPUT_NOT_RESCALED:
    case MODEL_SUM_NOT_RESCALED:
    case MODEL_KEY_SKIPPED: return p->seqlen_k > TILE;
    case MODEL_PHANTOM_KEYS: return p->seqlen_k % TILE != 0;
    case MODEL_CAUSAL_ONE_MORE:
    case MODEL_CAUSAL_ONE_LESS: return p->causal != ATTEND_CAUSAL_NONE;
    case MODEL_CAUSAL_OTHER_CORNER: return p->causal != ATTEND_CAUSAL_NONE && p->seqlen_q != p->seqlen_k;
    case MODEL_WRONG_KV_HEAD: return p->num_kv_heads > 1 && p->num_heads > p->num_kv_heads;
    case MODEL_SCALE_MISSING: return p->softmax_scale != 1;
    case MODEL_LENGTH_IGNORED: return args->features->seqlens_k != NULL;
    default: return true;
    }
}

static float cut(double x, int bits) /* rounds towards zero, to `bits` fraction bits of a float */
{
    float f = (float)x;
    uint32_t u;
    if (!isfinite(f)) return f;
    memcpy(&u, &f, sizeof u);
    if (fabs((double)f) > fabs(x)) u--;
    u &= ~0u << (23 - bits);
    memcpy(&f, &u, sizeof u);
    return f;
}

/* Adds one step to an accumulator. */
static float add(float sum, double products, attend_dtype dtype)
{
    return dtype == ATTEND_F32 ? (float)(sum + products) : cut(sum + products, 23);
}

/* sum + Σ a·b in steps; elements of b are `b_stride` apart. */
static float multiply(float sum, const float *a, const float *b, int64_t b_stride, int64_t n, attend_dtype dtype)
{
    int64_t step = dtype == ATTEND_F32 ? 1 : STEP;
    for (int64_t c = 0; c < n; c += step) {
        double products = 0;
        for (int64_t k = c; k < n && k < c + step; k++) products += (double)a[k] * b[k * b_stride];
        sum = add(sum, products, dtype);
    }
    return sum;
}

/* 2^x as the special function unit computes it: the error depends on the argument alone. */
static float exp2_approx(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    double error = ((double)(bits * 2654435761u >> 8) * 0x1p-24 - 0.5) * 0x1p-21;
    return (float)(exp2((double)x) * (1 + error));
}

/* One KV head of one batch entry as floats */
typedef struct keys {
    const attend_problem *p;
    model_defect defect;
    attend_sequence s;
    attend_head head;
    float unit; /* factor from scores and m to exponents of 2 */
    float *k, *v;
} keys;

static float *load_head(const attend_tensor *t, const attend_sequence *s, int64_t h, int64_t n)
{
    int64_t d = t->shape[3], b = s->batch;
    float *rows = malloc((size_t)(n * d + 1) * sizeof *rows);
    for (int64_t j = 0; j < n; j++)
        for (int64_t c = 0; c < d; c++)
            rows[j * d + c] = (float)attend_load(t, b * t->stride[0] + (s->first_k + j) * t->stride[1] + h * t->stride[2] + c);
    return rows;
}

static int64_t visible_end(const keys *x, int64_t i)
{
    attend_problem p = *x->p;
    if (x->defect == MODEL_CAUSAL_OTHER_CORNER && p.causal) p.causal = ATTEND_CAUSAL_TOP_LEFT + ATTEND_CAUSAL_BOTTOM_RIGHT - p.causal;
    p.align_bottom_right = p.causal == ATTEND_CAUSAL_NONE ? p.align_bottom_right : p.causal == ATTEND_CAUSAL_BOTTOM_RIGHT;
    int64_t end = attend_visible_end(&p, &x->s, i);
    if (x->defect == MODEL_CAUSAL_ONE_MORE && p.causal) end++;
    if (x->defect == MODEL_CAUSAL_ONE_LESS && p.causal) end--;
    return attend_clamp(end, 0, x->s.seqlen_k);
}

/* A query's state: running max, sum, output. */
typedef struct state {
    float m, l, *o;
} state;

static void rescale(const keys *x, state *s, float m)
{
    float alpha = s->m == -INFINITY ? 0 : exp2_approx((s->m - m) * x->unit);
    if (x->defect != MODEL_SUM_NOT_RESCALED) s->l *= alpha;
    for (int64_t c = 0; c < x->p->head_dim_v && x->defect != MODEL_OUTPUT_NOT_RESCALED; c++) s->o[c] *= alpha;
    s->m = m;
}

static void fold_tile(const keys *x, int64_t i, const float *q, float factor, int64_t first, int64_t end, state *s)
{
    const attend_problem *p = x->p;
    int64_t count = end - first < TILE ? end - first : TILE, phantom = 0;
    float score[TILE], weight[TILE], m = s->m;
    for (int64_t j = 0; j < count; j++) {
        score[j] = multiply(0, q, x->k + (first + j) * p->head_dim, 1, p->head_dim, p->dtype);
        score[j] = attend_is_elementwise(p) ? attend_element_score(&x->head, i, first + j, score[j]) : score[j] * factor;
        if (x->defect == MODEL_KEY_SKIPPED && first == TILE && j == TILE - 1) score[j] = -INFINITY;
        m = fmaxf(m, score[j]);
    }
    if (x->defect == MODEL_PHANTOM_KEYS && end == x->s.seqlen_k) phantom = TILE - count;
    if (phantom) m = fmaxf(m, 0);
    const float slack = x->defect == MODEL_LAZY_MAXIMUM ? 8 : 0; /* binary digits */
    if ((m - s->m) * x->unit > slack) rescale(x, s, m);
    if (m == -INFINITY) return;
    for (int64_t j = 0; j < count; j++) {
        weight[j] = exp2_approx((score[j] - s->m) * x->unit);
        s->l += weight[j];
        if (p->dtype != ATTEND_F32) weight[j] = (float)attend_round(weight[j], p->dtype);
    }
    if (phantom) s->l += (float)phantom * exp2_approx((0 - s->m) * x->unit);
    for (int64_t c = 0; c < p->head_dim_v; c++) {
        float column[TILE];
        for (int64_t j = 0; j < count; j++) column[j] = score[j] == -INFINITY ? 0 : x->v[(first + j) * p->head_dim_v + c];
        s->o[c] = multiply(s->o[c], weight, column, 1, count, p->dtype);
        if (x->defect == MODEL_NARROW_ACCUMULATION) s->o[c] = (float)attend_round(s->o[c], p->dtype);
    }
}

static void one_query(const keys *x, const attend_attention_args *args, int64_t h, int64_t i)
{
    const attend_problem *p = x->p;
    const attend_tensor *q = &args->q, *out = &args->out, *lse = &args->lse;
    int64_t b = x->s.batch, at = x->s.first_q + i; /* row in the tensors */
    int64_t begin = attend_visible_begin(p, &x->s, i), end = i < x->s.seqlen_q ? visible_end(x, i) : 0;
    float *memory = calloc((size_t)(p->head_dim + p->head_dim_v), sizeof *memory), *row = memory + p->head_dim_v;
    float scale = x->defect == MODEL_SCALE_MISSING && h == p->num_heads - 1 ? 1 : x->head.scale;
    float normaliser = 0, log_sum = -INFINITY;
    state s = {-INFINITY, 0, memory};
    for (int64_t c = 0; c < p->head_dim && end > 0; c++) {
        row[c] = (float)attend_load(q, b * q->stride[0] + at * q->stride[1] + h * q->stride[2] + c);
        if (x->defect == MODEL_TF32_SCORES) row[c] = cut(row[c], 10);
    }
    for (int64_t first = begin; first < end; first += TILE)
        if (!attend_is_elementwise(p) || !attend_tile_hidden(&x->head, i, 1, first, end - first < TILE ? end - first : TILE))
            fold_tile(x, i, row, scale * 1.44269504f, first, end, &s);
    float sink = p->sinks && i < x->s.seqlen_q ? attend_head_sink(x->head.terms, h) : -INFINITY;
    attend_softmax_finish(s.m * (double)x->unit * 0.69314718056, s.l, sink, &normaliser, &log_sum);
    for (int64_t c = 0; c < p->head_dim_v; c++)
        attend_store(out, b * out->stride[0] + at * out->stride[1] + h * out->stride[2] + c, s.l > 0 ? s.o[c] * normaliser : 0);
    if (x->defect == MODEL_LSE_BASE_2) log_sum = log_sum / 0.693147181f;
    if (x->defect == MODEL_LSE_UNSCALED && s.l > 0) log_sum = s.m * x->unit * 0.693147181f / scale + logf(s.l);
    attend_store(lse, b * lse->stride[0] + h * lse->stride[1] + at * lse->stride[2], log_sum);
    free(memory);
}

void model_run(model_defect defect, const attend_problem *p, const attend_attention_args *args)
{
    const attend_lists lists = attend_lists_of(args->features);
    attend_terms terms = attend_terms_of(args->features);
    int32_t *buckets = malloc((size_t)(attend_relative_distances(p) + 1) * sizeof *buckets);
    attend_relative_fill(p, buckets);
    terms.relative_buckets = buckets;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t h = 0; h < p->num_heads; h++) {
            keys x = {.p = p, .defect = defect, .s = attend_sequence_of(p, &lists, b),
                      .unit = attend_is_elementwise(p) ? 1.44269504f : 1};
            int64_t kv_head = h / (p->num_heads / p->num_kv_heads);
            if (defect == MODEL_WRONG_KV_HEAD) kv_head = h % p->num_kv_heads;
            if (defect == MODEL_LENGTH_IGNORED) x.s.seqlen_k = p->seqlen_k;
            x.head = attend_head_of(p, &terms, &x.s, b, h);
            x.k = load_head(&args->k, &x.s, kv_head, x.s.seqlen_k);
            x.v = load_head(&args->v, &x.s, kv_head, x.s.seqlen_k);
            for (int64_t j = 0; defect == MODEL_TF32_SCORES && j < x.s.seqlen_k * p->head_dim; j++) x.k[j] = cut(x.k[j], 10);
#pragma omp parallel for schedule(dynamic, 8)
            for (int64_t i = 0; i < attend_rows_of(p, &x.s); i++) one_query(&x, args, h, i);
            free(x.k), free(x.v);
        }
    free(buckets);
}
