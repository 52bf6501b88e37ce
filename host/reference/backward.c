/* Gradients by their definition, in fp64. With dS = p·(dP - Σ p·dP + dlse), and dT = dS times the softcap's
   derivative:

       dV_j = Σ_i p_ij dO_i     dQ_i = scale Σ_j dT_ij k_j     dK_j = scale Σ_i dT_ij q_i     dbias_ij = dS_ij

   and so on: each gradient is a sum of products of p, dS or dT with the caller's tensors. p, dS and dT carry
   their error bounds (`uncertain`), and one function, add(), accumulates all sums. docs/numerics.md derives
   the errors. */
#include "reference/reference.h"
#include "core/problem.h"

#include <math.h>
#include <stdlib.h>

static const double epsilon = 0x1p-24, half_float = 0x1p-150;
static const double rounded_square =
    0x1p-48 / 6; /* the expected square of the fp32 rounding error of a number near 1 */

/* A number of a (query, key) pair: its exact value; the error bound of a correct one; its value in the
   baseline; and the expected squares of the baseline's errors: `fp32` from rounding to fp32, `narrow` from
   rounding to 16 bits. */
typedef struct uncertain {
    double exact, error, baseline, fp32, narrow;
    double least; /* of the error: what fp32 loses where weights are too small for it */
} uncertain;

/* One KV head of one batch entry, and one of its queries */
typedef struct backward_job {
    const attend_problem *p;
    const attend_attention_args *args;
    const attend_gradients *given;
    attend_reference_gradient *of;
    bool judged;
    attend_reference_keys keys;
    int64_t head, query;
    double *q, *dout, *key; /* the query's q and dO; the current key */
    double *weighed; /* [head_dim]: scale Σ_j p_ij k_j, the factor from an error of the row's Σ p·dP to dq */
    double *dp, *dp_square, *size, *dot; /* [seqlen_k]; size: Σ|dO||v| */
    uncertain *weight, *ds, *dt;         /* [seqlen_k] */
    struct shared_errors *buckets;       /* [relative_buckets] */
    float *scores;                       /* the baseline's scores, then the squares of their errors */
    double *scratch;
    attend_reference_weights w;
    double dlse, delta, delta_error, delta_baseline, delta_square,
        common; /* common: square of the relative error that all weights of the row share */
} backward_job;

static bool wants(const backward_job *x, attend_gradient g) { return x->of[g].exact != NULL; }

/* g[at …] += a·factor[0 … count). The spread includes the rounding of the naive sum at each step. */
static void add(const backward_job *x, attend_gradient gradient, int64_t at, const uncertain *a,
                const double *factor, int64_t count)
{
    const attend_reference_gradient *g = &x->of[gradient];
    for (int64_t c = 0; c < count; c++) g->exact[at + c] += a->exact * factor[c];
    if (!x->judged) return;
    for (int64_t c = 0; c < count; c++) {
        const double sum = g->exact[at + c], product = a->exact * factor[c], f = fabs(factor[c]);
        g->bound[at + c] += a->error * f;
        g->baseline[at + c] += a->baseline * factor[c];
        g->spread[at + c] +=
            (a->fp32 + a->narrow) * (f * f) + rounded_square * (sum * sum + product * product);
        g->magnitude[at + c] += fabs(product) + a->least * f / epsilon;
    }
}

static double round_as(const backward_job *x, double value) { return attend_round(value, x->p->dtype); }
static bool in_f32(const backward_job *x) { return x->p->dtype == ATTEND_F32; }
static double unit(const backward_job *x) { return attend_unit_roundoff(x->p->dtype); }

/* The factor of squares of fp32 rounding errors, which every algorithm makes: c² of rule 2 in 16-bit dtypes,
   whose baseline does not make them; otherwise 1. */
static double fp32_squares(const backward_job *x) { return in_f32(x) ? 1 : 1.5 * 1.5; }

/* ---- p, dP, dS and dT of a row ---- */

/* p from the LSE, which is stored in fp32. */
static void weigh(backward_job *x)
{
    const int64_t n = x->keys.seqlen_k;
    attend_reference_weigh(&x->keys, x->head, x->query, x->q, x->scratch, &x->w);
    for (int64_t j = 0; j < n; j++) x->weight[j] = (uncertain){.exact = x->w.p[j]};
    x->common = 0;
    if (!x->judged || x->w.count == 0) return;
    attend_reference_naive_scores(&x->keys, x->head, x->query, x->q, x->w.sees, x->scores);
    const float *square = x->scores + n;
    float max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++)
        if (x->w.sees[j]) max = fmaxf(max, x->scores[j]);
    for (int64_t j = 0; j < n; j++)
        if (x->w.sees[j]) sum += expf(x->scores[j] - max);
    if (x->p->sinks)
        sum +=
            expf((float)attend_load(&x->args->features->sinks, x->head * x->args->features->sinks.stride[0]) -
                 max);
    const float lse = max + logf(sum);
    x->common = rounded_square * (1 + (double)lse * lse + (double)x->w.count / 3);
    for (int64_t j = 0; j < n; j++)
        if (x->w.p[j] > 0) x->common += x->w.p[j] * x->w.p[j] * square[j];
    for (int64_t j = 0; j < n; j++) {
        uncertain *a = &x->weight[j];
        if (!x->w.sees[j]) continue;
        const double p = a->exact, u = unit(x), rounded = round_as(x, p);
        a->least = 0x1p-125;
        a->error = p * (x->w.error[j] + x->w.sum_error + u) + a->least +
                   (in_f32(x) ? 0 : attend_half_least(x->p->dtype));
        a->baseline = in_f32(x) ? expf(x->scores[j] - lse) : rounded;
        a->fp32 = p > 0 ? fp32_squares(x) * p * p * (square[j] + rounded_square) : 0;
        if (!in_f32(x)) a->narrow = (rounded - p) * (rounded - p);
    }
}

/* dP, and its sum over the row. */
static void products(backward_job *x)
{
    const int64_t n = x->keys.seqlen_k, dv = x->p->head_dim_v;
    float sum = 0;
    x->delta = x->delta_error = x->delta_square = 0;
    for (int64_t j = 0; j < n; j++) {
        const double *v = x->keys.v + j * dv;
        float naive = 0;
        double *dp = &x->dp[j], *square = &x->dp_square[j], *size = &x->size[j];
        *dp = *square = *size = 0;
        if (!x->w.sees[j]) continue;
        for (int64_t c = 0; c < dv; c++) *dp += x->dout[c] * v[c], *size += fabs(x->dout[c] * v[c]);
        x->delta += x->w.p[j] * *dp;
        if (!x->judged) continue;
        for (int64_t c = 0; c < dv; c++) {
            const double exact = (double)naive + x->dout[c] * v[c];
            naive += (float)x->dout[c] * (float)v[c];
            *square += (naive - exact) * (naive - exact);
        }
        x->scores[j] = naive; /* the baseline's dP from here on */
        sum += (float)x->weight[j].baseline * naive;
        x->delta_square += x->w.p[j] * x->w.p[j] * (*square + rounded_square * *dp * *dp) +
                           rounded_square * x->delta * x->delta;
    }
    x->delta_square += x->common * x->delta * x->delta;
    for (int64_t j = 0; j < n; j++)
        x->delta_square +=
            x->weight[j].fp32 / fp32_squares(x) * (x->dp[j] - x->delta) * (x->dp[j] - x->delta);
    x->delta_baseline = in_f32(x) ? sum : x->delta;
    for (int64_t j = 0; j < n && x->judged; j++)
        if (x->w.sees[j])
            x->delta_error +=
                x->w.p[j] * x->size[j] *
                (x->w.error[j] + x->w.sum_error + unit(x) + 2 * ((double)(x->w.count + dv) + 10) * epsilon);
}

/* dS, and dT before the softcap. */
static void differentiate(backward_job *x)
{
    const attend_problem *p = x->p;
    const int64_t n = x->keys.seqlen_k;
    const double scale = attend_reference_scale(&x->keys, x->head), u = unit(x);
    for (int64_t j = 0; j < n; j++) {
        uncertain *s = &x->ds[j], *t = &x->dt[j];
        *s = *t = (uncertain){0};
        if (!x->w.sees[j]) continue;
        x->dot[j] = 0;
        for (int64_t c = 0; c < p->head_dim; c++) x->dot[j] += x->q[c] * x->keys.k[c * n + j];
        const double tau = p->softcap > 0 ? tanh(scale * x->dot[j] / p->softcap) : 0, slope = 1 - tau * tau,
                     weight = x->w.p[j], d = x->dp[j] - x->delta + x->dlse;
        s->exact = weight * d, t->exact = s->exact * slope;
        if (!x->judged) continue;
        const double eta = x->w.error[j] + x->w.sum_error, fp32 = x->weight[j].fp32,
                     dp_error = 2 * ((double)p->head_dim_v + 2) * epsilon * x->size[j];
        s->least = 0x1p-125 * fabs(d) + half_float, t->least = s->least * slope;
        s->error = weight * ((eta + u + 4 * epsilon) * fabs(d) + dp_error + x->delta_error +
                             3 * epsilon * (fabs(x->dp[j]) + fabs(x->delta) + fabs(x->dlse))) +
                   s->least + (in_f32(x) ? 0 : attend_half_least(p->dtype));
        s->baseline =
            in_f32(x)
                ? (float)(x->weight[j].baseline * (float)((float)x->scores[j] - x->delta_baseline + x->dlse))
                : s->exact;
        /* 16-bit weights are used for dV alone; dS is computed from fp32 weights */
        s->fp32 = fp32 * d * d + fp32_squares(x) * (weight * weight * x->dp_square[j] +
                                                    3 * rounded_square * s->exact * s->exact);
        const double tau_error = p->softcap > 0 ? slope * eta / p->softcap + 8 * epsilon * fabs(tau) : 0;
        t->error =
            s->error * slope + fabs(s->exact) * (2 * fabs(tau) * tau_error + 6 * epsilon * (p->softcap > 0));
        t->fp32 = s->fp32 * slope * slope;
        if (p->softcap > 0) {
            const double moved = 2 * tau * s->exact, bent = weight > 0 ? slope / (p->softcap * weight) : 0;
            t->fp32 +=
                moved * moved * (bent * bent * fp32 + fp32_squares(x) * 4 * rounded_square * tau * tau) +
                fp32_squares(x) * 2 * rounded_square * s->exact * s->exact;
        }
        t->baseline = in_f32(x) ? (float)(s->baseline * slope) : round_as(x, t->exact);
        if (!in_f32(x)) t->narrow = (t->baseline - t->exact) * (t->baseline - t->exact);
    }
}

/* ---- sums over queries and keys ---- */

static int64_t query_at(const backward_job *x) { return x->keys.first_q + x->query; } /* row in the tensors */
static int64_t batch_at(const backward_job *x) { return x->p->packed ? 0 : x->keys.batch; }

static void add_qkv(backward_job *x)
{
    const attend_problem *p = x->p;
    const int64_t n = x->keys.seqlen_k, d = p->head_dim, dv = p->head_dim_v,
                  kv_head = x->head / (p->num_heads / p->num_kv_heads);
    const double scale = attend_reference_scale(&x->keys, x->head), common = fp32_squares(x) * x->common,
                 delta = fp32_squares(x) * x->delta_square;
    const int64_t dq = ((batch_at(x) * attend_rows_q(p) + query_at(x)) * p->num_heads + x->head) * d;
    for (int64_t c = 0; c < d; c++) x->weighed[c] = 0;
    for (int64_t j = 0; j < n; j++) {
        if (!x->w.sees[j]) continue;
        const int64_t key =
            (batch_at(x) * attend_rows_k(p) + x->keys.first_k + j) * p->num_kv_heads + kv_head;
        uncertain t = x->dt[j], w = x->weight[j];
        t.exact *= scale, t.least *= fabs(scale), t.error *= fabs(scale), t.baseline *= scale;
        t.fp32 *= scale * scale, t.narrow *= scale * scale;
        if (wants(x, ATTEND_GRADIENT_Q)) {
            for (int64_t c = 0; c < d; c++) x->key[c] = x->keys.k[c * n + j];
            add(x, ATTEND_GRADIENT_Q, dq, &t, x->key, d);
            const double slope = x->ds[j].exact != 0 ? x->dt[j].exact / x->ds[j].exact : 1;
            for (int64_t c = 0; c < d && x->judged; c++)
                x->weighed[c] += scale * x->w.p[j] * slope * x->key[c];
        }
        /* dK and dV sum over rows: there, the errors common to one row count as independent */
        t.fp32 += common * t.exact * t.exact + delta * scale * scale * x->w.p[j] * x->w.p[j];
        w.fp32 += common * w.exact * w.exact;
        if (wants(x, ATTEND_GRADIENT_K)) add(x, ATTEND_GRADIENT_K, key * d, &t, x->q, d);
        if (wants(x, ATTEND_GRADIENT_V)) add(x, ATTEND_GRADIENT_V, key * dv, &w, x->dout, dv);
    }
    if (!wants(x, ATTEND_GRADIENT_Q) || !x->judged) return;
    for (int64_t c = 0; c < d; c++) {
        const double exact = x->of[ATTEND_GRADIENT_Q].exact[dq + c];
        x->of[ATTEND_GRADIENT_Q].spread[dq + c] +=
            common * exact * exact + delta * x->weighed[c] * x->weighed[c];
    }
}

static int64_t bias_at(const backward_job *x, int64_t j)
{
    const attend_expected e = attend_gradient_expected(x->p, ATTEND_GRADIENT_BIAS);
    const int64_t at[4] = {x->keys.batch, x->head, x->query, j};
    int64_t offset = 0;
    for (int i = 0; i < 4; i++) offset = offset * e.shape[i] + (e.shape[i] > 1 ? at[i] : 0);
    return offset;
}

/* The errors of a row's LSE and of its Σ p·dP reach all of its keys alike: where they are summed into one
   element they are squared after the sum. */
typedef struct shared_errors {
    double ds, p; /* Σ dS and Σ p, each times what the gradient multiplies it by */
} shared_errors;

static void share(shared_errors *sums, const backward_job *x, double ds, int64_t j, double by)
{
    sums->ds += ds * by, sums->p += x->w.p[j] * by;
}

static void add_shared(const backward_job *x, attend_gradient gradient, int64_t at, const shared_errors *sums)
{
    if (wants(x, gradient) && x->judged)
        x->of[gradient].spread[at] +=
            fp32_squares(x) * (x->common * sums->ds * sums->ds + x->delta_square * sums->p * sums->p);
}

static void add_features(backward_job *x)
{
    const attend_problem *p = x->p;
    const double one = 1;
    const bool by_key = p->bias_axes & ATTEND_PER_KEY;
    shared_errors bias = {0}, slope = {0}, scale = {0};
    for (int i = 0; i < p->relative_buckets; i++) x->buckets[i] = (shared_errors){0};
    for (int64_t j = 0; j < x->keys.seqlen_k; j++) {
        if (!x->w.sees[j]) continue;
        const int64_t distance = j - attend_reference_position(&x->keys, x->query);
        const uncertain *s = &x->ds[j], *t = &x->dt[j];
        if (wants(x, ATTEND_GRADIENT_BIAS)) {
            if (by_key) bias = (shared_errors){0};
            add(x, ATTEND_GRADIENT_BIAS, bias_at(x, j), s, &one, 1);
            share(&bias, x, s->exact, j, 1);
            if (by_key) add_shared(x, ATTEND_GRADIENT_BIAS, bias_at(x, j), &bias);
        }
        if (wants(x, ATTEND_GRADIENT_RELATIVE_TABLE)) {
            const int64_t bucket = attend_reference_bucket(p, distance);
            add(x, ATTEND_GRADIENT_RELATIVE_TABLE, x->head * p->relative_buckets + bucket, s, &one, 1);
            share(&x->buckets[bucket], x, s->exact, j, 1);
        }
        if (wants(x, ATTEND_GRADIENT_SLOPES)) {
            const double by = p->alibi == ATTEND_ALIBI_CAUSAL ? (double)distance : -fabs((double)distance);
            add(x, ATTEND_GRADIENT_SLOPES, x->head, s, &by, 1);
            share(&slope, x, s->exact, j, by);
        }
        if (wants(x, ATTEND_GRADIENT_HEAD_SCALES)) {
            const double by = p->softmax_scale * x->dot[j];
            double size = 0;
            for (int64_t c = 0; c < p->head_dim; c++)
                size += fabs(x->q[c] * x->keys.k[c * x->keys.seqlen_k + j]);
            add(x, ATTEND_GRADIENT_HEAD_SCALES, x->head, t, &by, 1);
            share(&scale, x, t->exact, j, by);
            if (!x->judged) continue;
            /* may be computed as q·(Σ_j dT k), where rounding errors scale with |q||k| */
            const attend_reference_gradient *g = &x->of[ATTEND_GRADIENT_HEAD_SCALES];
            const double more = fabs((double)p->softmax_scale) * size - fabs(by);
            g->bound[x->head] += t->error * more;
            g->magnitude[x->head] += fabs(t->exact) * more;
        }
    }
    if (!by_key && p->bias_axes) add_shared(x, ATTEND_GRADIENT_BIAS, bias_at(x, 0), &bias);
    for (int i = 0; i < p->relative_buckets; i++)
        add_shared(x, ATTEND_GRADIENT_RELATIVE_TABLE, x->head * p->relative_buckets + i, &x->buckets[i]);
    add_shared(x, ATTEND_GRADIENT_SLOPES, x->head, &slope);
    add_shared(x, ATTEND_GRADIENT_HEAD_SCALES, x->head, &scale);
}

static void add_sink(backward_job *x)
{
    const double one = 1, d = x->dlse - x->delta, sink = x->w.sink, eta = x->w.sink_error + x->w.sum_error;
    const uncertain a = {
        .exact = sink * d,
        .error = sink * ((eta + 4 * epsilon) * fabs(d) + x->delta_error +
                         3 * epsilon * (fabs(x->delta) + fabs(x->dlse))) +
                 0x1p-125 * fabs(d),
        .baseline = in_f32(x) ? sink * (x->dlse - x->delta_baseline) : sink * d,
        .least = 0x1p-125 * fabs(d),
        .fp32 = fp32_squares(x) * (sink * sink * (d * d * (x->common + rounded_square) + x->delta_square)),
    };
    add(x, ATTEND_GRADIENT_SINKS, x->head, &a, &one, 1);
}

static void load(const attend_tensor *t, int64_t b, int64_t i, int64_t h, double *to)
{
    for (int64_t c = 0; c < t->shape[3]; c++)
        to[c] = attend_load(t, b * t->stride[0] + i * t->stride[1] + h * t->stride[2] + c * t->stride[3]);
}

static void one_query(backward_job *x)
{
    const attend_tensor *dlse = &x->given->dlse;
    const int64_t b = batch_at(x), i = query_at(x);
    load(&x->args->q, b, i, x->head, x->q);
    load(&x->given->dout, b, i, x->head, x->dout);
    x->dlse = dlse->data
                  ? attend_load(dlse, b * dlse->stride[0] + x->head * dlse->stride[1] + i * dlse->stride[2])
                  : 0;
    weigh(x);
    products(x);
    if (wants(x, ATTEND_GRADIENT_SINKS)) add_sink(x);
    differentiate(x);
    add_qkv(x);
    add_features(x);
}

/* ---- a whole problem */

/* KV heads that add to the same element of a feature tensor's gradient are computed by one thread. together:
   KV heads a task; apart: number of tasks. */
static void extents(const attend_problem *p, const attend_gradients *given, int64_t *together, int64_t *apart)
{
    bool heads = false, batch = false;
    for (int g = ATTEND_GRADIENT_BIAS; g < ATTEND_GRADIENTS; g++) {
        if (!given->of[g].data) continue;
        batch = batch || g != ATTEND_GRADIENT_BIAS || !(p->bias_axes & ATTEND_PER_BATCH);
        heads = heads || (g == ATTEND_GRADIENT_BIAS && !(p->bias_axes & ATTEND_PER_HEAD));
    }
    *together = heads ? p->batch * p->num_kv_heads : batch ? p->batch : 1;
    *apart = heads ? 1 : batch ? p->num_kv_heads : p->batch * p->num_kv_heads;
}

typedef struct backward_jobs {
    backward_job common;
    int64_t together, apart;
    attend_progress_tracker *tracker;
    int complete;
} backward_jobs;

static int64_t job_doubles(const attend_problem *p)
{
    const int64_t n = p->seqlen_k, uncertain_doubles = (int64_t)(sizeof(uncertain) / sizeof(double));
    return 3 * p->head_dim + p->head_dim_v + 2 * p->relative_buckets + 5 * n + 3 * n * uncertain_doubles + 1 +
           attend_reference_scratch(p, n);
}

static void lay_out_memory(backward_job *x, double *memory)
{
    const int64_t n = x->p->seqlen_k, d = x->p->head_dim;
    x->q = memory, x->weighed = x->q + d, x->key = x->weighed + d, x->dout = x->key + d;
    x->dp = x->dout + x->p->head_dim_v, x->dp_square = x->dp + n, x->size = x->dp_square + n,
    x->dot = x->size + n;
    x->weight = (uncertain *)(x->dot + n), x->ds = x->weight + n, x->dt = x->ds + n;
    x->scores = (float *)(x->dt + n);
    x->buckets = (struct shared_errors *)((double *)x->scores + n + 1);
    x->scratch = (double *)(x->buckets + x->p->relative_buckets);
}

static void one_kv_head(backward_jobs *jobs, int64_t index, int thread, double *memory)
{
    backward_job x = jobs->common;
    const attend_problem *p = x.p;
    const int64_t group = p->num_heads / p->num_kv_heads, kv_head = index % p->num_kv_heads;
    const attend_key_part all = attend_all_keys(p);
    if (!attend_reference_keys_load(&x.keys, p, x.args, &all, index / p->num_kv_heads, kv_head)) {
        __atomic_store_n(&jobs->complete, 0, __ATOMIC_RELAXED);
        return;
    }
    lay_out_memory(&x, memory);
    for (int64_t r = 0; r < group * x.keys.seqlen_q && attend_progress_continues(jobs->tracker); r++) {
        x.query = r / group, x.head = kv_head * group + r % group;
        one_query(&x);
    }
    attend_reference_keys_free(&x.keys);
    attend_progress_count(jobs->tracker, 1, thread == 0);
}

/* A task: KV heads that add to the same elements, one after the other. */
static void compute_heads(void *job, int64_t index, int thread, double *memory)
{
    backward_jobs *jobs = job;
    for (int64_t n = 0; n < jobs->together; n++) one_kv_head(jobs, n * jobs->apart + index, thread, memory);
}

static int64_t elements_of(const attend_problem *p, int gradient)
{
    const attend_expected e = attend_gradient_expected(p, (attend_gradient)gradient);
    int64_t elements = 1;
    for (int i = 0; i < e.rank; i++) elements *= e.shape[i];
    return elements;
}

/* Adds the rounding errors of the sums and of the stored result. */
static void finish(const attend_problem *p, const attend_gradients *given, int gradient,
                   const attend_reference_gradient *g)
{
    const attend_dtype stored = given->of[gradient].dtype;
    const int64_t group = p->num_heads / p->num_kv_heads;
    const double depth = gradient == ATTEND_GRADIENT_Q ? (double)p->seqlen_k
                         : gradient <= ATTEND_GRADIENT_V
                             ? (double)(group * p->seqlen_q)
                             : (double)(p->seqlen_k + p->seqlen_q + p->batch * p->num_heads);
    for (int64_t i = 0; i < elements_of(p, gradient); i++) {
        const double exact = g->exact[i], off = attend_round(exact, stored) - exact;
        g->bound[i] += (depth + 12) * epsilon * g->magnitude[i] + depth * half_float +
                       attend_unit_roundoff(stored) * fabs(exact) + attend_half_least(stored);
        g->baseline[i] = attend_round(g->baseline[i], stored);
        g->spread[i] += off * off;
    }
}

bool attend_reference_backward(const attend_problem *p, const attend_attention_args *args,
                               const attend_gradients *gradients, bool judged, int threads,
                               attend_progress_tracker *tracker,
                               attend_reference_gradient of[ATTEND_GRADIENTS])
{
    backward_jobs jobs = {.common = {.p = p, .args = args, .given = gradients, .of = of, .judged = judged},
                          .tracker = tracker,
                          .complete = 1};
    bool complete = true;
    for (int g = 0; g < ATTEND_GRADIENTS; g++) {
        of[g] = (attend_reference_gradient){0};
        if (!gradients->of[g].data) continue;
        double **parts[] = {&of[g].exact, &of[g].bound, &of[g].baseline, &of[g].spread, &of[g].magnitude};
        for (int i = 0; i < (judged ? 5 : 1); i++) {
            *parts[i] = calloc((size_t)elements_of(p, g) + 1, sizeof(double));
            complete = complete && *parts[i];
        }
    }
    extents(p, gradients, &jobs.together, &jobs.apart);
    const double pairs = (double)(p->batch * p->num_heads * p->seqlen_q) * (double)p->seqlen_k;
    attend_progress_stage(tracker, tracker->work.attention, p->batch * p->num_kv_heads);
    complete =
        complete &&
        attend_reference_spread(threads, jobs.apart, 10 * pairs * (double)(p->head_dim + p->head_dim_v),
                                job_doubles(p), compute_heads, &jobs) &&
        jobs.complete;
    for (int g = 0; g < ATTEND_GRADIENTS && complete && judged; g++)
        if (of[g].exact) finish(p, gradients, g, &of[g]);
    return complete;
}

void attend_reference_backward_free(attend_reference_gradient of[ATTEND_GRADIENTS])
{
    for (int g = 0; g < ATTEND_GRADIENTS; g++) {
        free(of[g].exact), free(of[g].bound), free(of[g].baseline), free(of[g].spread), free(of[g].magnitude);
        of[g] = (attend_reference_gradient){0};
    }
}
