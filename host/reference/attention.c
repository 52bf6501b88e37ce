/* Attention by its definition, in fp64: every score, every weight, every product, in plain loops. */
#include "reference/reference.h"

#include <math.h>
#include <stdlib.h>

static const double epsilon = 0x1p-24;
/* The ratio of a kernel's fp32 rounding errors to the naive algorithm's: c of rule 2. */
static const double fp32_factor = 1.5;

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

/* An element of a mask, a bias or a block mask; broadcast axes have stride 0. */
static double plane(const attend_reference_keys *x, const attend_tensor *t, int64_t h, int64_t i, int64_t j)
{
    return attend_load(t, x->batch * t->stride[0] + h * t->stride[1] + i * t->stride[2] + j * t->stride[3]);
}

static double by_head(const attend_tensor *t, int64_t h) { return attend_load(t, h * t->stride[0]); }

static double segment(const attend_reference_keys *x, const attend_tensor *t, int64_t at)
{
    return attend_load(t, (x->problem->packed ? 0 : x->batch) * t->stride[0] + at * t->stride[1]);
}

int64_t attend_reference_position(const attend_reference_keys *x, int64_t i)
{
    return x->problem->align_bottom_right ? i + x->seqlen_k - x->seqlen_q : i;
}

/* Whether the list of a block of queries holds a block of keys. */
static bool listed(const attend_reference_keys *x, int64_t h, int64_t block_q, int64_t block_k)
{
    const attend_tensor *offsets = &x->features->block_offsets, *indices = &x->features->block_indices;
    const int64_t end = (int64_t)plane(x, offsets, h, block_q + 1, 0);
    for (int64_t n = (int64_t)plane(x, offsets, h, block_q, 0); n < end; n++)
        if ((int64_t)attend_load(indices, n * indices->stride[0]) == block_k) return true;
    return false;
}

/* Whether key j is visible to query i: stated here a second time, independently of
   host/shared/visibility.h. */
static bool visible(const attend_reference_keys *x, int64_t h, int64_t i, int64_t j)
{
    const attend_problem *p = x->problem;
    const attend_feature_args *a = x->features;
    int64_t at = attend_reference_position(x, i);
    bool near = true;
    if (i >= x->seqlen_q || j < x->start || j >= x->seqlen_k) return false;
    if (j < x->first || j >= x->end) return false;
    if (p->causal) near = near && j <= at;
    if (p->window_left >= 0) near = near && j >= at - p->window_left;
    if (p->window_right >= 0) near = near && j <= at + p->window_right;
    if (p->chunk)
        near = near && floor_divide(j - x->start, p->chunk) == floor_divide(at - x->start, p->chunk);
    if (!near && j - x->start >= p->prefix) return false;
    if (p->segments &&
        segment(x, &a->segments_q, x->first_q + i) != segment(x, &a->segments_k, x->first_k + j))
        return false;
    if (p->mask_axes && plane(x, &a->mask, h, i, j) == 0) return false;
    if (p->block_list && !listed(x, h, i / p->block_q, j / p->block_k)) return false;
    if (p->block_q && !p->block_list && plane(x, &a->block_mask, h, i / p->block_q, j / p->block_k) == 0)
        return false;
    return !p->bias_axes || plane(x, &a->bias, h, i, j) != -INFINITY;
}

/* The paper's slopes, or the caller's. */
static double slope(const attend_reference_keys *x, int64_t h)
{
    int64_t n = 1, heads = x->problem->num_heads;
    if (x->features->alibi_slopes.data) return by_head(&x->features->alibi_slopes, h);
    while (2 * n <= heads) n *= 2;
    return h < n ? exp2(-8.0 * (double)(h + 1) / (double)n)
                 : exp2(-4.0 * (double)(2 * (h - n) + 1) / (double)n);
}

/* The terms that are added to a score. */
typedef struct added {
    double alibi, relative, bias;
} added;

static added added_terms(const attend_reference_keys *x, int64_t h, int64_t i, int64_t j)
{
    const attend_problem *p = x->problem;
    const attend_tensor *table = &x->features->relative_table;
    int64_t distance = j - attend_reference_position(x, i);
    added t = {0, 0, 0};
    if (p->alibi)
        t.alibi =
            slope(x, h) * (double)(p->alibi == ATTEND_ALIBI_CAUSAL || distance < 0 ? distance : -distance);
    if (p->relative_buckets)
        t.relative = attend_load(table, h * table->stride[0] +
                                            attend_reference_bucket(p, distance) * table->stride[1]);
    if (p->bias_axes) t.bias = plane(x, &x->features->bias, h, i, j);
    return t;
}

double attend_reference_scale(const attend_reference_keys *x, int64_t h)
{
    return x->problem->head_scales ? (double)x->problem->softmax_scale * by_head(&x->features->head_scales, h)
                                   : x->problem->softmax_scale;
}

/* Finds a batch entry's rows and keys in the tensors. */
static void locate(attend_reference_keys *keys)
{
    const attend_problem *p = keys->problem;
    const attend_feature_args *a = keys->features;
    int64_t b = keys->batch;
    keys->seqlen_q = a->seqlens_q ? a->seqlens_q[b] : p->seqlen_q;
    keys->seqlen_k = a->seqlens_k ? a->seqlens_k[b] : p->seqlen_k;
    keys->start = a->starts_k ? a->starts_k[b] : 0;
    if (!p->packed) return;
    keys->first_q = a->cu_seqlens_q[b], keys->seqlen_q = a->cu_seqlens_q[b + 1] - keys->first_q;
    keys->first_k = a->cu_seqlens_k[b], keys->seqlen_k = a->cu_seqlens_k[b + 1] - keys->first_k;
}

bool attend_reference_keys_load(attend_reference_keys *keys, const attend_problem *p,
                                const attend_attention_args *args, const attend_key_part *part, int64_t batch,
                                int64_t kv_head)
{
    const attend_tensor *k = &args->k, *v = &args->v;
    *keys = (attend_reference_keys){.problem = p,
                                    .args = args,
                                    .features = args->features,
                                    .batch = batch,
                                    .first = part->first,
                                    .end = part->end};
    locate(keys);
    const attend_sequence sequence = {
        .batch = p->packed ? 0 : batch, .first_k = keys->first_k, .seqlen_k = keys->seqlen_k};
    int64_t d = p->head_dim, dv = p->head_dim_v, n = keys->seqlen_k;
    size_t k_elements = (size_t)(n * d) + 1, v_elements = (size_t)(n * dv) + 1;
    keys->k = calloc(k_elements, sizeof(double));
    keys->v = calloc(v_elements, sizeof(double));
    keys->k32 = calloc(k_elements, sizeof(float));
    keys->v32 = calloc(v_elements, sizeof(float));
    if (!keys->k || !keys->v || !keys->k32 || !keys->v32) {
        attend_reference_keys_free(keys);
        return false;
    }
    for (int64_t j = keys->first; j < n && j < keys->end; j++) {
        const attend_key_slot slot = attend_slot_of(&part->keys, &sequence, j);
        const int64_t k_row = slot.entry * k->stride[0] + slot.row * k->stride[1] + kv_head * k->stride[2],
                      v_row = slot.entry * v->stride[0] + slot.row * v->stride[1] + kv_head * v->stride[2];
        for (int64_t c = 0; c < d; c++) {
            keys->k[c * n + j] = attend_load(k, k_row + c * k->stride[3]);
            keys->k32[c * n + j] = (float)keys->k[c * n + j];
        }
        for (int64_t c = 0; c < dv && v->data; c++) {
            keys->v[j * dv + c] = attend_load(v, v_row + c * v->stride[3]);
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

int64_t attend_reference_scratch(const attend_problem *p, int64_t seqlen_k)
{
    return 3 * seqlen_k + 2 * p->head_dim_v;
}

/* Working memory of one row. */
typedef struct row_work {
    int64_t head, query;
    double *p;     /* scores, then weights exp(s - max), 0 where masked */
    double *delta; /* Σ_c |q_c||k_jc|, then the bound of the score's error; 0 for a score of -infinity */
    bool *sees;
    /* the maximum of visible scores, of their magnitudes, and the sum of weights; the latter two include the
       sink */
    double max, max_magnitude, sum;
    double sink, lse,
        log_sum;   /* sink: its weight, at most 1; log_sum: the LSE less the larger of max and sink */
    int64_t count; /* visible keys */
} row_work;

/* Makes q·k a score, and Σ|q||k| the bound of its error: docs/numerics.md derives each term. */
static void finish_score(const attend_reference_keys *keys, row_work *w, int64_t j, double scale)
{
    const attend_problem *p = keys->problem;
    added t = added_terms(keys, w->head, w->query, j);
    double s = w->p[j] * scale, delta = 2 * fabs(scale) * ((double)p->head_dim + 2) * epsilon * w->delta[j];
    if (p->head_scales) delta += epsilon * fabs(s);
    if (p->softcap > 0) s = p->softcap * tanh(s / p->softcap), delta += 8 * epsilon * fabs(s);
    int additions = (p->alibi != 0) + (p->relative_buckets > 0) + (p->bias_axes != 0);
    double sum = fabs(s) + fabs(t.alibi) + fabs(t.relative) + fabs(t.bias);
    w->p[j] = s + t.alibi + t.relative + t.bias;
    w->delta[j] = delta + epsilon * (8 * fabs(t.alibi) + additions * sum);
}

static void score(const attend_reference_keys *keys, const double *q, row_work *w)
{
    const attend_problem *p = keys->problem;
    int64_t n = keys->seqlen_k;
    double scale = attend_reference_scale(keys, w->head);
    for (int64_t j = 0; j < n; j++) w->p[j] = w->delta[j] = 0;
    for (int64_t c = 0; c < p->head_dim; c++)
        for (int64_t j = 0; j < n; j++) {
            w->p[j] += q[c] * keys->k[c * n + j];
            w->delta[j] += fabs(q[c] * keys->k[c * n + j]);
        }
    w->max = -INFINITY, w->max_magnitude = 0, w->sum = 0, w->count = 0;
    for (int64_t j = 0; j < n; j++) {
        w->sees[j] = visible(keys, w->head, w->query, j);
        if (!w->sees[j]) continue;
        finish_score(keys, w, j, scale);
        w->count++;
        /* fmax ignores NaN scores; they enter the sum, and with it the whole row */
        w->max = fmax(w->max, w->p[j]);
        if (w->p[j] == -INFINITY)
            w->delta[j] = 0; /* its weight is exactly 0 */
        else
            w->max_magnitude = fmax(w->max_magnitude, fabs(w->p[j]));
    }
    for (int64_t j = 0; j < n; j++) {
        w->p[j] = w->sees[j] ? exp(w->p[j] - w->max) : 0;
        w->sum += w->p[j];
    }
    double sink = p->sinks ? by_head(&keys->features->sinks, w->head) : -INFINITY;
    double top = fmax(w->max, sink), all = w->sum * exp(w->max - top) + exp(sink - top);
    w->log_sum = log(all), w->lse = top + w->log_sum, w->sink = exp(sink - top) / all;
    /* infinite where the sink leaves the keys less than e^-709; NaN by a sink of infinity, as by a score */
    w->sum += sink == INFINITY ? NAN : exp(sink - w->max);
    if (sink != -INFINITY) w->max_magnitude = fmax(w->max_magnitude, fabs(sink));
}

/* The bound of the relative error of a key's weight before the division by their sum. */
static double weight_error(const row_work *w, int64_t j)
{
    return w->delta[j] + 4 * epsilon * w->max_magnitude + 0x1p-22;
}

static double sink_error(const row_work *w) { return 4 * epsilon * w->max_magnitude + 0x1p-22; }

static double lse_error(const row_work *w, double largest_error, double lse)
{
    return largest_error + ((double)w->count + 8) * epsilon + 4 * epsilon * fabs(lse);
}

/* Rule 1: docs/numerics.md derives each term. */
static void bound_row(const attend_reference_keys *keys, const row_work *w, double *absolute_v,
                      attend_reference_row *row)
{
    const attend_problem *p = keys->problem;
    double u = attend_unit_roundoff(p->dtype), m = (double)w->count, weighted_eta = 0, largest_eta = 0,
           largest_p = 0;
    double accumulation = 2 * epsilon * (ceil(m / 16) + m / 64 + 8);
    for (int64_t c = 0; c < p->head_dim_v; c++) row->bound[c] = row->magnitude[c] = absolute_v[c] = 0;
    for (int64_t j = 0; j < keys->seqlen_k; j++) {
        if (!w->sees[j]) continue;
        double weight = w->p[j] / w->sum;
        double eta = weight_error(w, j);
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
    if (p->sinks) {
        double eta = sink_error(w);
        weighted_eta += w->sink * eta;
        largest_eta = fmax(largest_eta, eta), largest_p = fmax(largest_p, w->sink);
    }
    for (int64_t c = 0; c < p->head_dim_v; c++) {
        double underflow = largest_p * (0x1p-125 * absolute_v[c] + 0x1p-149 * m);
        row->bound[c] += fabs(row->out[c]) * (weighted_eta + (m + 8) * epsilon + u) + underflow +
                         attend_half_least(p->dtype);
        if (p->dtype == ATTEND_F16) row->bound[c] += 0x1p-25 * largest_p * absolute_v[c];
        row->magnitude[c] += underflow / epsilon;
    }
    row->lse_bound = lse_error(w, largest_eta, row->lse);
}

/* A run of adjacent keys with equal scores: their weights have the same rounding error, which multiplies the
   sum of a column over the run. */
typedef struct alike {
    double score, square, *sums; /* square of the error */
} alike;

static void end_alike(const alike *a, int64_t columns, double *spread)
{
    for (int64_t c = 0; c < columns; c++) spread[c] += a->square * (a->sums[c] * a->sums[c]), a->sums[c] = 0;
}

static void begin_alike(alike *a, double score, double square, int64_t columns, double *spread)
{
    if (score == a->score) return;
    end_alike(a, columns, spread);
    a->score = score, a->square = square;
}

/* One step of the naive algorithm. result: the step's result in fp32, exact: without rounding. *square: Σ of
   squares of all rounding errors so far, each as it affects the result; slope: the derivative of the step. */
static float rounding(float result, double exact, double slope, float *square)
{
    const double off = result - exact;
    *square = (float)(slope * slope * *square + off * off);
    return result;
}

/* The naive algorithm's score, in fp32 throughout. *square: of the dot product's rounding errors, then of the
   score's. */
static float naive_score(const attend_reference_keys *keys, const row_work *w, int64_t j, float dot,
                         float *square)
{
    const attend_problem *p = keys->problem;
    added t = added_terms(keys, w->head, w->query, j);
    double scale = attend_reference_scale(keys, w->head);
    float s = rounding(dot * (float)scale, dot * scale, scale, square);
    if (p->softcap > 0) {
        s = rounding(s / p->softcap, (double)s / p->softcap, 1 / (double)p->softcap, square);
        const double bent = tanh(s);
        const float before = *square;
        s = rounding(tanhf(s), bent, 1 - bent * bent, square);
        /* tanh is never exact but at 0: at least the expected square of its rounding error, whatever the
           actual one */
        const double least = epsilon * epsilon / 12 * bent * bent;
        *square = fmaxf(*square, (float)((1 - bent * bent) * (1 - bent * bent) * before + least));
        s = rounding(p->softcap * s, (double)p->softcap * s, p->softcap, square);
    }
    if (p->alibi) s = rounding(s + (float)t.alibi, s + t.alibi, 1, square);
    if (p->relative_buckets) s = rounding(s + (float)t.relative, s + t.relative, 1, square);
    if (p->bias_axes) s = rounding(s + (float)t.bias, s + t.bias, 1, square);
    if (s == -INFINITY) *square = 0;
    return s;
}

/* s[seqlen_k]: the naive algorithm's scores of the visible keys, followed by the squares of their errors. */
static void naive_scores(const attend_reference_keys *keys, const double *q, const row_work *w, float *s)
{
    const int64_t n = keys->seqlen_k;
    float *square = s + n;
    for (int64_t j = 0; j < n; j++) s[j] = square[j] = 0;
    for (int64_t c = 0; c < keys->problem->head_dim; c++)
        for (int64_t j = 0; j < n; j++) {
            double exact = s[j] + q[c] * keys->k[c * n + j];
            s[j] += (float)q[c] * keys->k32[c * n + j];
            float off = (float)(s[j] - exact);
            square[j] += off * off;
        }
    for (int64_t j = 0; j < n; j++)
        if (w->sees[j]) s[j] = naive_score(keys, w, j, s[j], &square[j]);
}

/* The square of a weight's error from its score's error; 0 for a weight of 0, even if the score is
   infinite. */
static double carried(double weight, float square) { return weight == 0 ? 0 : weight * weight * square; }

/* Rule 2 for 16-bit dtypes: fp64, but weights are rounded before the product with V, and the result is
   rounded. The spread also includes the naive algorithm's rounding errors of scores, which every algorithm
   keeps in fp32: they are small beside those of weights, except for very large scores. */
static void baseline_rounded(const attend_reference_keys *keys, const double *q, const row_work *w, float *s,
                             double *sums, attend_reference_row *row)
{
    const attend_problem *p = keys->problem;
    const int64_t dv = p->head_dim_v;
    const float *square = s + keys->seqlen_k;
    alike weights = {.sums = sums}, scores = {.sums = sums + dv};
    naive_scores(keys, q, w, s);
    for (int64_t c = 0; c < dv; c++) row->baseline[c] = sums[c] = sums[dv + c] = 0;
    for (int64_t j = 0; j < keys->seqlen_k; j++) {
        if (!w->sees[j]) continue;
        double exact = w->p[j] / w->sum, weight = attend_round(w->p[j], p->dtype) / w->sum;
        double off = weight - exact;
        begin_alike(&weights, w->p[j], off * off, dv, row->spread);
        begin_alike(&scores, w->p[j], fp32_factor * fp32_factor * carried(exact, square[j]), dv, row->spread);
        for (int64_t c = 0; c < dv; c++) {
            double v = keys->v[j * dv + c];
            row->baseline[c] += weight * v;
            weights.sums[c] += v;
            scores.sums[c] += v - row->out[c];
        }
    }
    end_alike(&weights, dv, row->spread);
    end_alike(&scores, dv, row->spread);
    for (int64_t c = 0; c < dv; c++) {
        double off = attend_round(row->out[c], p->dtype) - row->out[c];
        row->baseline[c] = attend_round(row->baseline[c], p->dtype);
        row->spread[c] += off * off;
    }
}

/* Rule 2 for fp32: the naive algorithm in fp32, three plain loops and libm's functions; and the rounding
   error of each step. */
static void baseline_naive(const attend_reference_keys *keys, const double *q, const row_work *w, float *s,
                           double *sums, float *o, attend_reference_row *row)
{
    const attend_problem *p = keys->problem;
    alike same = {.score = INFINITY, .sums = sums};
    int64_t n = keys->seqlen_k, dv = p->head_dim_v;
    float max = -INFINITY, sum = 0, *square = s + n;
    naive_scores(keys, q, w, s);
    for (int64_t j = 0; j < n; j++)
        if (w->sees[j]) max = fmaxf(max, s[j]);
    for (int64_t c = 0; c < dv; c++) o[c] = 0, sums[c] = 0;
    for (int64_t j = 0; j < n; j++) {
        if (!w->sees[j]) continue;
        float weight = expf(s[j] - max);
        double off = weight - exp((double)s[j] - max), lost = (double)sum + weight;
        sum += weight;
        lost = sum - lost;
        begin_alike(&same, s[j], carried(weight, square[j]) + off * off, dv, row->spread);
        for (int64_t c = 0; c < dv; c++) {
            double v = keys->v[j * dv + c], step = o[c] + weight * v;
            o[c] += weight * keys->v32[j * dv + c];
            /* numerator and normaliser: their errors cancel for a constant V */
            step = o[c] - step - row->out[c] * lost;
            sums[c] += v - row->out[c];
            row->spread[c] += step * step;
        }
    }
    end_alike(&same, dv, row->spread);
    if (p->sinks) sum += expf((float)by_head(&keys->features->sinks, w->head) - max);
    for (int64_t c = 0; c < dv; c++) {
        double exact = (double)o[c] / sum;
        float rounded = o[c] / sum;
        row->baseline[c] = rounded;
        row->spread[c] = row->spread[c] / ((double)sum * sum) + (rounded - exact) * (rounded - exact);
    }
}

void attend_reference_attend(const attend_reference_keys *keys, int64_t head, int64_t query, const double *q,
                             double *scratch, attend_reference_row *row)
{
    const attend_problem *p = keys->problem;
    int64_t n = keys->seqlen_k, dv = p->head_dim_v;
    row_work w = {
        .head = head, .query = query, .p = scratch, .delta = scratch + n, .sees = (bool *)(scratch + 2 * n)};
    double *spare = scratch + 3 * n;
    for (int64_t c = 0; c < dv; c++)
        row->out[c] = row->bound[c] = row->baseline[c] = row->spread[c] = row->magnitude[c] = 0;
    row->lse = row->max = -INFINITY, row->log_sum = 0, row->lse_bound = 0;
    if (query >= keys->seqlen_q) return; /* padding: zeros */
    score(keys, q, &w);
    if (w.count == 0) { /* no visible key: zeros, and the LSE of the sink alone */
        if (p->sinks)
            row->lse = by_head(&keys->features->sinks, head), row->lse_bound = 4 * epsilon * fabs(row->lse);
        return;
    }
    for (int64_t j = 0; j < n; j++)
        for (int64_t c = 0; w.sees[j] && c < dv; c++) row->out[c] += w.p[j] / w.sum * keys->v[j * dv + c];
    row->lse = w.lse, row->log_sum = w.log_sum;
    row->max = isnan(w.lse) ? w.lse : w.max; /* NaN scores are no maximum */
    bound_row(keys, &w, spare, row);
    if (p->dtype == ATTEND_F32)
        baseline_naive(keys, q, &w, (float *)w.delta, spare, (float *)(spare + dv), row);
    else
        baseline_rounded(keys, q, &w, (float *)w.delta, spare, row);
}

void attend_reference_naive_scores(const attend_reference_keys *keys, int64_t head, int64_t query,
                                   const double *q, bool *sees, float *s)
{
    naive_scores(keys, q, &(row_work){.head = head, .query = query, .sees = sees}, s);
}

void attend_reference_weigh(const attend_reference_keys *keys, int64_t head, int64_t query, const double *q,
                            double *scratch, attend_reference_weights *weights)
{
    int64_t n = keys->seqlen_k;
    row_work w = {
        .head = head, .query = query, .p = scratch, .delta = scratch + n, .sees = (bool *)(scratch + 2 * n)};
    bool sinks = keys->problem->sinks;
    *weights = (attend_reference_weights){.p = w.p, .error = w.delta, .sees = w.sees};
    if (query >= keys->seqlen_q) return; /* padding: q is not read */
    score(keys, q, &w);
    double largest = sinks ? sink_error(&w) : 0;
    if (w.count == 0) {
        weights->sink = sinks;
        return;
    }
    for (int64_t j = 0; j < n; j++) {
        w.delta[j] = weight_error(&w, j);
        if (w.sees[j]) largest = fmax(largest, w.delta[j]);
        w.p[j] = w.sees[j] ? w.p[j] / w.sum : 0;
    }
    weights->count = w.count;
    weights->sink = w.sink, weights->sink_error = sink_error(&w);
    weights->sum_error = lse_error(&w, largest, w.lse);
}
