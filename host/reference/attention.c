/* Attention by its definition, in fp64: every score, every weight, every product, in plain loops. */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

static const double epsilon = 0x1p-24;

/* Whether query i sees key j: stated here a second time, independently of host/visibility.h. */
static bool visible(const attend_problem *p, int64_t i, int64_t j, int64_t seqlen_q, int64_t seqlen_k)
{
    if (i >= seqlen_q || j >= seqlen_k) return false;
    switch (p->causal) {
    case ATTEND_CAUSAL_NONE: return true;
    case ATTEND_CAUSAL_TOP_LEFT: return j <= i;
    case ATTEND_CAUSAL_BOTTOM_RIGHT: return j <= i + seqlen_k - seqlen_q;
    }
    return false;
}

bool attend_reference_keys_load(attend_reference_keys *keys, const attend_problem *p, const attend_tensor *k,
                                const attend_tensor *v, int64_t batch, int64_t kv_head, int64_t seqlen_q, int64_t seqlen_k)
{
    int64_t d = p->head_dim, dv = p->head_dim_v, n = seqlen_k;
    size_t k_elements = (size_t)(n * d) + 1, v_elements = (size_t)(n * dv) + 1;
    *keys = (attend_reference_keys){.problem = p, .seqlen_q = seqlen_q, .seqlen_k = seqlen_k};
    keys->k = malloc(k_elements * sizeof(double));
    keys->v = malloc(v_elements * sizeof(double));
    keys->k32 = malloc(k_elements * sizeof(float));
    keys->v32 = malloc(v_elements * sizeof(float));
    if (!keys->k || !keys->v || !keys->k32 || !keys->v32) {
        attend_reference_keys_free(keys);
        return false;
    }
    int64_t k_head = batch * k->stride[0] + kv_head * k->stride[2], v_head = batch * v->stride[0] + kv_head * v->stride[2];
    for (int64_t j = 0; j < n; j++) {
        for (int64_t c = 0; c < d; c++) {
            keys->k[c * n + j] = attend_load(k, k_head + j * k->stride[1] + c * k->stride[3]);
            keys->k32[c * n + j] = (float)keys->k[c * n + j];
        }
        for (int64_t c = 0; c < dv; c++) {
            keys->v[j * dv + c] = attend_load(v, v_head + j * v->stride[1] + c * v->stride[3]);
            keys->v32[j * dv + c] = (float)keys->v[j * dv + c];
        }
    }
    return true;
}

void attend_reference_keys_free(attend_reference_keys *keys)
{
    free(keys->k), free(keys->v), free(keys->k32), free(keys->v32);
    *keys = (attend_reference_keys){0};
}

int64_t attend_reference_scratch(const attend_problem *p, int64_t seqlen_k) { return 3 * seqlen_k + 2 * p->head_dim_v; }

/* Query, weights and errors of one row while it is worked on. */
typedef struct row_work {
    double *p;         /* scores, then weights exp(s - max), zero where not visible */
    double *magnitude; /* Σ_c |q_c||k_jc| */
    bool *sees;
    double max, max_magnitude, sum; /* of the visible scores, their absolute values, their weights */
    int64_t count;                  /* of the visible keys */
} row_work;

static void score(const attend_reference_keys *keys, int64_t query, const double *q, row_work *w)
{
    const attend_problem *p = keys->problem;
    int64_t n = keys->seqlen_k;
    for (int64_t j = 0; j < n; j++) w->p[j] = w->magnitude[j] = 0;
    for (int64_t c = 0; c < p->head_dim; c++)
        for (int64_t j = 0; j < n; j++) {
            w->p[j] += q[c] * keys->k[c * n + j];
            w->magnitude[j] += fabs(q[c] * keys->k[c * n + j]);
        }
    w->max = -INFINITY, w->max_magnitude = 0, w->sum = 0, w->count = 0;
    for (int64_t j = 0; j < n; j++) {
        w->sees[j] = visible(p, query, j, keys->seqlen_q, n);
        if (!w->sees[j]) continue;
        w->p[j] *= p->softmax_scale;
        w->count++;
        w->max = fmax(w->max, w->p[j]); /* a NaN among the scores reaches the sum, and with it the whole row */
        w->max_magnitude = fmax(w->max_magnitude, fabs(w->p[j]));
    }
    for (int64_t j = 0; j < n; j++) {
        w->p[j] = w->sees[j] ? exp(w->p[j] - w->max) : 0;
        w->sum += w->p[j];
    }
}

/* Rule 1: see docs/numerics.md for each term. */
static void bound_row(const attend_reference_keys *keys, const row_work *w, double *absolute_v, attend_reference_row *row)
{
    const attend_problem *p = keys->problem;
    double u = attend_unit_roundoff(p->dtype), m = (double)w->count, weighted_eta = 0, largest_eta = 0, largest_p = 0;
    double accumulation = 2 * epsilon * (ceil(m / 16) + m / 64 + 8);
    for (int64_t c = 0; c < p->head_dim_v; c++) row->bound[c] = row->magnitude[c] = absolute_v[c] = 0;
    for (int64_t j = 0; j < keys->seqlen_k; j++) {
        if (!w->sees[j]) continue;
        double weight = w->p[j] / w->sum;
        double delta = 2 * fabs(p->softmax_scale) * ((double)p->head_dim + 2) * epsilon * w->magnitude[j];
        double eta = delta + 4 * epsilon * w->max_magnitude + 0x1p-22;
        weighted_eta += weight * eta;
        largest_eta = fmax(largest_eta, eta);
        largest_p = fmax(largest_p, weight);
        for (int64_t c = 0; c < p->head_dim_v; c++) {
            double v = fabs(keys->v[j * p->head_dim_v + c]);
            row->bound[c] += weight * (eta + u + accumulation) * v;
            row->magnitude[c] += weight * v;
            absolute_v[c] += v;
        }
    }
    for (int64_t c = 0; c < p->head_dim_v; c++) {
        row->bound[c] += fabs(row->out[c]) * (weighted_eta + (m + 8) * epsilon + u) + attend_half_least(p->dtype);
        if (p->dtype == ATTEND_F16) row->bound[c] += 0x1p-25 * largest_p * absolute_v[c];
    }
    row->lse_bound = largest_eta + (m + 8) * epsilon + 4 * epsilon * fabs(row->lse);
}

/* Rule 2 for 16-bit dtypes: fp64, but the weights are rounded before they meet V, and so is the result. */
static void baseline_rounded(const attend_reference_keys *keys, const row_work *w, attend_reference_row *row)
{
    const attend_problem *p = keys->problem;
    for (int64_t c = 0; c < p->head_dim_v; c++) row->baseline[c] = 0;
    for (int64_t j = 0; j < keys->seqlen_k; j++) {
        if (!w->sees[j]) continue;
        double weight = attend_round(w->p[j], p->dtype) / w->sum;
        for (int64_t c = 0; c < p->head_dim_v; c++) row->baseline[c] += weight * keys->v[j * p->head_dim_v + c];
    }
    for (int64_t c = 0; c < p->head_dim_v; c++) row->baseline[c] = attend_round(row->baseline[c], p->dtype);
}

/* Rule 2 for fp32: the naive algorithm in fp32, three plain loops and libm's exp. */
static void baseline_naive(const attend_reference_keys *keys, const double *q, const row_work *w, float *s, float *o,
                           attend_reference_row *row)
{
    const attend_problem *p = keys->problem;
    int64_t n = keys->seqlen_k, dv = p->head_dim_v;
    float max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) s[j] = 0;
    for (int64_t c = 0; c < p->head_dim; c++)
        for (int64_t j = 0; j < n; j++) s[j] += (float)q[c] * keys->k32[c * n + j];
    for (int64_t j = 0; j < n; j++) {
        s[j] *= p->softmax_scale;
        if (w->sees[j]) max = fmaxf(max, s[j]);
    }
    for (int64_t c = 0; c < dv; c++) o[c] = 0;
    for (int64_t j = 0; j < n; j++) {
        if (!w->sees[j]) continue;
        float weight = expf(s[j] - max);
        sum += weight;
        for (int64_t c = 0; c < dv; c++) o[c] += weight * keys->v32[j * dv + c];
    }
    for (int64_t c = 0; c < dv; c++) row->baseline[c] = o[c] / sum;
}

void attend_reference_attend(const attend_reference_keys *keys, int64_t query, const double *q, double *scratch,
                             attend_reference_row *row)
{
    const attend_problem *p = keys->problem;
    int64_t n = keys->seqlen_k, dv = p->head_dim_v;
    row_work w = {.p = scratch, .magnitude = scratch + n, .sees = (bool *)(scratch + 2 * n)};
    double *spare = scratch + 3 * n;
    score(keys, query, q, &w);
    for (int64_t c = 0; c < dv; c++) row->out[c] = row->bound[c] = row->baseline[c] = row->magnitude[c] = 0;
    row->lse = -INFINITY, row->lse_bound = 0;
    if (w.count == 0) return; /* nothing is seen: zeros */
    for (int64_t j = 0; j < n; j++)
        for (int64_t c = 0; w.sees[j] && c < dv; c++) row->out[c] += w.p[j] / w.sum * keys->v[j * dv + c];
    row->lse = w.max + log(w.sum);
    bound_row(keys, &w, spare, row);
    if (p->dtype == ATTEND_F32)
        baseline_naive(keys, q, &w, (float *)w.magnitude, (float *)spare, row);
    else
        baseline_rounded(keys, &w, row);
}
