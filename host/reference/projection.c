/* The layer's projections in fp64, with the dot product's error bound: 2(n+2)ε Σ|x||w| + u|y|. All outputs of
   a token are summed at once, each in plain order. */
#include "reference/reference.h"

#include <math.h>
#include <stdlib.h>

/* W as doubles, transposed: [in][out], and its bias. */
typedef struct matrix {
    int64_t in, out;
    double *w, *bias;
} matrix;

static bool load_matrix(matrix *m, const attend_tensor *weight, const attend_tensor *bias)
{
    m->out = weight->shape[0], m->in = weight->shape[1];
    m->w = malloc((size_t)(m->in * m->out + 1) * sizeof(double));
    m->bias = malloc((size_t)(m->out + 1) * sizeof(double));
    if (!m->w || !m->bias) return false;
    for (int64_t r = 0; r < m->out; r++) {
        m->bias[r] = bias->data ? attend_load(bias, r * bias->stride[0]) : 0;
        for (int64_t c = 0; c < m->in; c++)
            m->w[c * m->out + r] = attend_load(weight, r * weight->stride[0] + c * weight->stride[1]);
    }
    return true;
}

/* Sums of one token: in fp64, of absolute values, and in plain fp32. */
static void sum_token(const matrix *m, const attend_tensor *x, int64_t x_row, double *y, double *magnitude,
                      float *naive)
{
    for (int64_t r = 0; r < m->out; r++) y[r] = magnitude[r] = 0, naive[r] = 0;
    for (int64_t c = 0; c < m->in; c++) {
        double value = attend_load(x, x_row + c * x->stride[2]);
        const double *w = m->w + c * m->out;
        for (int64_t r = 0; r < m->out; r++) {
            y[r] += w[r] * value;
            magnitude[r] += fabs(w[r] * value);
            naive[r] += (float)w[r] * (float)value;
        }
    }
    for (int64_t r = 0; r < m->out; r++)
        y[r] += m->bias[r], magnitude[r] += fabs(m->bias[r]), naive[r] += (float)m->bias[r];
}

static void one_token(const matrix *m, const attend_tensor *x, int64_t token, attend_dtype dtype,
                      double *memory, const attend_reference_projection *to)
{
    int64_t seqlen = x->shape[1], first = token * m->out;
    double *y = memory, *magnitude = memory + m->out, factor = 2 * ((double)m->in + 2) * 0x1p-24;
    float *naive = (float *)(memory + 2 * m->out);
    sum_token(m, x, token / seqlen * x->stride[0] + token % seqlen * x->stride[1], y, magnitude, naive);
    for (int64_t r = 0; r < m->out; r++) {
        if (to->exact) to->exact[first + r] = y[r];
        if (to->magnitude) to->magnitude[first + r] = magnitude[r];
        if (to->bound)
            to->bound[first + r] =
                factor * magnitude[r] + attend_unit_roundoff(dtype) * fabs(y[r]) + attend_half_least(dtype);
        if (to->baseline)
            to->baseline[first + r] = dtype == ATTEND_F32 ? naive[r] : attend_round(y[r], dtype);
    }
}

typedef struct tokens_job {
    const matrix *m;
    const attend_tensor *x;
    attend_dtype dtype;
    attend_progress_tracker *tracker;
    const attend_reference_projection *y;
} tokens_job;

static void project_token(void *job, int64_t token, int thread, double *memory)
{
    const tokens_job *j = job;
    if (!attend_progress_continues(j->tracker)) return;
    one_token(j->m, j->x, token, j->dtype, memory, j->y);
    attend_progress_count(j->tracker, 1, thread == 0);
}

bool attend_reference_project(const attend_tensor *x, const attend_tensor *weight, const attend_tensor *bias,
                              attend_dtype dtype, int threads, attend_progress_tracker *tracker,
                              const attend_reference_projection *y)
{
    matrix m;
    tokens_job job = {&m, x, dtype, tracker, y};
    const int64_t tokens = x->shape[0] * x->shape[1];
    const bool complete =
        load_matrix(&m, weight, bias) &&
        attend_reference_spread(threads, tokens, 2.0 * (double)tokens * (double)m.in * (double)m.out,
                                3 * m.out, project_token, &job);
    free(m.w), free(m.bias);
    return complete;
}
