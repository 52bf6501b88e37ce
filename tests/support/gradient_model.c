/* One query after the other: weights from the LSE, P rounded to storage before Pᵀ·dO, dS before its products with K and Q. */
#include "support/gradient_model.h"
#include "core/problem.h"
#include "reference/reference.h"

#include <math.h>
#include <stdlib.h>

enum { TILE = 64 };

static const char *const names[GRADIENT_DEFECTS] = {"correct",          "no delta",      "rounded delta",  "no scale on dK", "unmasked tail", "dropped tail",
                                                    "narrow group", "bias not reduced", "dlse ignored",   "wrong KV head"};

const char *gradient_defect_name(gradient_defect defect) { return names[defect]; }

bool gradient_defect_applies(gradient_defect defect, const attend_problem *p, const attend_attention_grads *grads)
{
    switch (defect) {
    case GRADIENT_UNMASKED_TAIL: return p->causal != ATTEND_CAUSAL_NONE;
    case GRADIENT_DROPPED_TAIL: return p->seqlen_k % TILE != 0;
    case GRADIENT_ROUNDED_DELTA: return p->dtype != ATTEND_F32;
    case GRADIENT_NARROW_GROUP: return p->dtype != ATTEND_F32 && p->num_heads > p->num_kv_heads;
    case GRADIENT_BIAS_NOT_REDUCED: return p->bias_axes && !(p->bias_axes & ATTEND_PER_BATCH) && p->batch > 1;
    case GRADIENT_DLSE_IGNORED: return grads->dlse.data;
    case GRADIENT_WRONG_KV_HEAD: return p->num_kv_heads > 1 && p->num_heads > p->num_kv_heads;
    default: return true;
    }
}

/* One gradient's sums, [elements] without gaps. */
typedef struct model {
    gradient_defect defect;
    const attend_problem *p;
    const attend_attention_args *a;
    const attend_attention_grads *g;
    attend_head head;
    float *dq, *dk, *dv, *bias;
    int64_t b, h, kv;
} model;

static double at(const attend_tensor *t, int64_t b, int64_t i, int64_t h, int64_t c)
{
    return attend_load(t, b * t->stride[0] + i * t->stride[1] + h * t->stride[2] + c);
}

static float dot(const attend_tensor *x, int64_t i, int64_t hx, const attend_tensor *y, int64_t j, int64_t hy, int64_t b)
{
    float sum = 0;
    for (int64_t c = 0; c < x->shape[3]; c++) sum += (float)at(x, b, i, hx, c) * (float)at(y, b, j, hy, c);
    return sum;
}

static float narrow(const model *m, float x) { return (float)attend_round(x, m->p->dtype); }

static void one_query(const model *m, int64_t i)
{
    const attend_problem *p = m->p;
    const attend_tensor *lse = &m->a->lse, *dlse = &m->g->dlse;
    const int64_t n = p->seqlen_k, last = (n - 1) / TILE * TILE, d = p->head_dim, dv = p->head_dim_v;
    const float scale = m->head.scale, logsum = (float)attend_load(lse, m->b * lse->stride[0] + m->h * lse->stride[1] + i * lse->stride[2]);
    float *weight = calloc((size_t)(2 * n) + 1, sizeof *weight), *dp = weight + n, delta = 0, of_lse = 0;
    if (dlse->data && m->defect != GRADIENT_DLSE_IGNORED)
        of_lse = (float)attend_load(dlse, m->b * dlse->stride[0] + m->h * dlse->stride[1] + i * dlse->stride[2]);
    for (int64_t j = 0; j < n; j++) {
        const bool unmasked = m->defect == GRADIENT_UNMASKED_TAIL && j >= last;
        if (!unmasked && (j < attend_visible_begin(p, &m->head.sequence, i) || j >= attend_visible_end(p, &m->head.sequence, i))) continue;
        const float s = attend_element_score(&m->head, i, j, dot(&m->a->q, i, m->h, &m->a->k, j, m->kv, m->b));
        weight[j] = s == -INFINITY ? 0 : expf(s - logsum);
        dp[j] = dot(&m->g->dout, i, m->h, &m->a->v, j, m->kv, m->b);
        delta += weight[j] * dp[j];
    }
    if (m->defect == GRADIENT_NO_DELTA) delta = 0;
    for (int64_t c = m->defect == GRADIENT_ROUNDED_DELTA ? 0 : dv; c < dv; c++) {
        float out = 0;
        if (c == 0) delta = 0;
        for (int64_t j = 0; j < n; j++)
            if (weight[j] != 0) out += weight[j] * (float)at(&m->a->v, m->b, j, m->kv, c);
        delta += narrow(m, out) * (float)at(&m->g->dout, m->b, i, m->h, c);
    }
    for (int64_t j = 0; j < n; j++) {
        if (weight[j] == 0) continue;
        const float ds = weight[j] * (dp[j] - delta + of_lse), rounded = narrow(m, ds), w = narrow(m, weight[j]);
        const int64_t key = (m->b * n + j) * p->num_kv_heads + m->kv;
        const bool dropped = m->defect == GRADIENT_DROPPED_TAIL && j >= last;
        for (int64_t c = 0; c < d; c++) {
            if (!dropped) m->dq[((m->b * p->seqlen_q + i) * p->num_heads + m->h) * d + c] += rounded * (float)at(&m->a->k, m->b, j, m->kv, c) * scale;
            float *dk = &m->dk[key * d + c];
            *dk += rounded * (float)at(&m->a->q, m->b, i, m->h, c) * (m->defect == GRADIENT_NO_SCALE_ON_DK ? 1 : scale);
            if (m->defect == GRADIENT_NARROW_GROUP && i % 16 == 15) *dk = narrow(m, *dk);
        }
        for (int64_t c = 0; c < dv; c++) m->dv[key * dv + c] += w * (float)at(&m->g->dout, m->b, i, m->h, c);
        if (!m->bias) continue;
        const int axes = p->bias_axes;
        int64_t e = axes & ATTEND_PER_BATCH ? m->b : 0;
        e = e * (axes & ATTEND_PER_HEAD ? p->num_heads : 1) + (axes & ATTEND_PER_HEAD ? m->h : 0);
        e = e * (axes & ATTEND_PER_QUERY ? p->seqlen_q : 1) + (axes & ATTEND_PER_QUERY ? i : 0);
        e = e * (axes & ATTEND_PER_KEY ? n : 1) + (axes & ATTEND_PER_KEY ? j : 0);
        m->bias[e] = m->defect == GRADIENT_BIAS_NOT_REDUCED ? ds : m->bias[e] + ds;
    }
    free(weight);
}

static float *zeros_of(const test_memory *t) { return t->bytes ? calloc((size_t)attend_tensor_elements(&t->tensor) + 1, sizeof(float)) : NULL; }

static void store(const test_memory *t, float *sums)
{
    for (int64_t n = 0; t->bytes && n < attend_tensor_elements(&t->tensor); n++) {
        int64_t offset = 0, rest = n;
        for (int i = t->tensor.rank - 1; i >= 0; i--) offset += rest % t->tensor.shape[i] * t->tensor.stride[i], rest /= t->tensor.shape[i];
        attend_store(&t->tensor, offset, sums[n]);
    }
    free(sums);
}

void gradient_model_run(gradient_defect defect, const test_fixture *f, test_gradients *g)
{
    const attend_problem *p = &f->problem;
    const attend_lists lists = attend_lists_of(&f->features);
    const attend_terms terms = attend_terms_of(&f->features);
    const int64_t group = p->num_heads / p->num_kv_heads;
    model m = {.defect = defect, .p = p, .a = &f->args, .g = &g->grads, .dq = zeros_of(&g->of[ATTEND_GRADIENT_Q]),
               .dk = zeros_of(&g->of[ATTEND_GRADIENT_K]), .dv = zeros_of(&g->of[ATTEND_GRADIENT_V]), .bias = zeros_of(&g->of[ATTEND_GRADIENT_BIAS])};
    for (m.b = 0; m.b < p->batch; m.b++)
        for (m.h = 0; m.h < p->num_heads; m.h++) {
            const attend_sequence s = attend_sequence_of(p, &lists, m.b);
            m.kv = defect == GRADIENT_WRONG_KV_HEAD ? m.h % p->num_kv_heads : m.h / group;
            m.head = attend_head_of(p, &terms, &s, m.b, m.h);
            for (int64_t i = 0; i < p->seqlen_q; i++) one_query(&m, i);
        }
    store(&g->of[ATTEND_GRADIENT_Q], m.dq), store(&g->of[ATTEND_GRADIENT_K], m.dk), store(&g->of[ATTEND_GRADIENT_V], m.dv);
    store(&g->of[ATTEND_GRADIENT_BIAS], m.bias);
}
