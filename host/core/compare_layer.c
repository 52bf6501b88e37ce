/* Compares a layer with the fp64 reference: by rule 1 each stage, given the actual output of the stage before
   it; by rule 2 the whole layer, with a baseline that rounds Q, K, V, P, heads and result to the storage
   dtype. */
#include "core/compare.h"
#include "core/append.h"
#include "core/cache.h"
#include "core/positions.h"
#include "shared/absolute.h"
#include "core/layer_arguments.h"
#include "core/backend.h"
#include "core/count.h"
#include "core/struct.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One projection and its actual result. */
typedef struct projection {
    const attend_tensor *x, *weight, *bias;
    attend_tensor y;        /* actual, as [batch, seqlen, heads, dim] */
    const int64_t *lengths; /* rows past them are not compared */
    attend_dtype dtype;
    /* Q and K: rotary embedding and norm that follow; problem NULL: none. */
    const attend_problem *problem;
    const attend_row_positions *row_positions;
    const attend_tensor *norm, *norm_bias;
    const attend_tensor *x_bound; /* error bound of x; NULL: x is exact */
} projection;

static double actual_at(const attend_tensor *t, int64_t b, int64_t i, int64_t row)
{
    int64_t h = row / t->shape[3], c = row % t->shape[3];
    return attend_load(t, b * t->stride[0] + i * t->stride[1] + h * t->stride[2] + c * t->stride[3]);
}

/* Rule 1 of a projection: the worst ratio and its element. */
static void judge_bound(const projection *p, const double *exact, const double *bound, double *ratio,
                        attend_element *worst)
{
    const attend_tensor *y = &p->y;
    int64_t seqlen = y->shape[1], rows = y->shape[2] * y->shape[3];
    for (int64_t b = 0; b < y->shape[0]; b++)
        for (int64_t i = 0; i < (p->lengths ? p->lengths[b] : seqlen); i++)
            for (int64_t r = 0; r < rows; r++) {
                int64_t at = (b * seqlen + i) * rows + r;
                double actual = actual_at(y, b, i, r), error = fabs(actual - exact[at]);
                attend_note_worst(error == 0 ? 0 : error / bound[at],
                                  (attend_element){b, -1, i, r, actual, exact[at], bound[at]}, ratio, worst);
            }
}

/* An error of x reaches y as Σ|w||error|. */
static bool add_bound_of_x(const projection *p, int threads, size_t elements, double *bound)
{
    const attend_tensor none = {0};
    attend_progress_tracker nobody = {0};
    double *more = malloc(elements * sizeof *more);
    attend_reference_projection to = {.magnitude = more};
    bool complete =
        more && attend_reference_project(p->x_bound, p->weight, &none, p->dtype, threads, &nobody, &to);
    for (size_t i = 0; complete && i + 1 < elements; i++) bound[i] += more[i];
    free(more);
    return complete;
}

static attend_status compare_projection(const projection *p, int index, attend_judge *judge, double *ratio,
                                        attend_element *worst)
{
    size_t elements = (size_t)(p->y.shape[0] * p->y.shape[1] * p->y.shape[2] * p->y.shape[3]) + 1;
    double *exact = malloc(elements * sizeof *exact), *bound = malloc(elements * sizeof *bound);
    attend_reference_projection to = {.exact = exact, .bound = bound};
    attend_progress_tracker *tracker = &judge->tracker;
    attend_progress_stage(tracker, tracker->work.projections[index], p->x->shape[0] * p->x->shape[1]);
    bool complete =
        exact && bound &&
        attend_reference_project(p->x, p->weight, p->bias, p->dtype, judge->threads, tracker, &to);
    if (complete && p->x_bound) complete = add_bound_of_x(p, judge->threads, elements, bound);
    if (complete && p->problem)
        attend_reference_rope_all(p->problem, p->row_positions, p->norm, p->norm_bias, p->y.shape[2], false,
                                  exact, bound);
    if (complete) judge_bound(p, exact, bound, ratio, worst);
    free(exact), free(bound);
    ATTEND_TRY(attend_progress_status(tracker));
    return complete ? ATTEND_OK
                    : attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's projection");
}

/* A copy of the heads' output as rows [batch, seqlen, heads·dim], for any strides; data is NULL if memory is
   exhausted. */
static attend_tensor join_heads(const attend_tensor *heads)
{
    int64_t columns = heads->shape[2] * heads->shape[3], tokens = heads->shape[0] * heads->shape[1];
    double *rows = malloc((size_t)(tokens * columns + 1) * sizeof *rows);
    for (int64_t t = 0; rows && t < tokens; t++)
        for (int64_t c = 0; c < columns; c++)
            rows[t * columns + c] = actual_at(heads, t / heads->shape[1], t % heads->shape[1], c);
    return attend_reference_view(rows, heads->shape[0], heads->shape[1], 1, columns);
}

static attend_status compare_output(const attend_problem *p, const attend_layer_weights *w,
                                    const attend_layer_args *args, attend_judge *judge,
                                    attend_layer_comparison *result)
{
    attend_tensor heads = join_heads(&args->heads), rows = heads;
    if (!heads.data) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a copy of the heads' output");
    rows.rank = 3, rows.shape[2] = heads.shape[3], rows.stride[2] = 1;
    const projection output = {&rows, &w->wo,   &w->bo, attend_tensor_one_head(&args->out),
                               NULL,  p->dtype, NULL,   NULL,
                               NULL,  NULL,     NULL};
    attend_status status = compare_projection(&output, 3, judge, &result->output_ratio, &result->worst);
    free(heads.data);
    return status;
}

/* What the run wrote to its cache, as [batch, seqlen_q, heads, dim]; data is NULL if memory is exhausted. */
static attend_tensor take_new(const attend_appending *a, const attend_tensor *pool, const attend_problem *p)
{
    const int64_t heads = pool->shape[2], dim = pool->shape[3], row = heads * dim;
    double *rows = calloc((size_t)(p->batch * p->seqlen_q * row + 1), sizeof *rows);
    for (int64_t n = 0; rows && n < p->batch * p->seqlen_q; n++) {
        const attend_key_slot slot =
            attend_append_slot(&a->append, &a->rows, n / p->seqlen_q, n % p->seqlen_q);
        for (int64_t c = 0; slot.entry >= 0 && c < row; c++)
            rows[n * row + c] = actual_at(pool, slot.entry, slot.row, c);
    }
    return attend_reference_view(rows, p->batch, p->seqlen_q, heads, dim);
}

static attend_status compare_projections(const attend_problem *p, const attend_layer_weights *w,
                                         const attend_layer_args *args, const attend_tensor *k,
                                         const attend_tensor *v, attend_judge *judge,
                                         attend_layer_comparison *result)
{
    const attend_feature_args *f = args->features;
    const attend_row_positions at = attend_row_positions_of(p, f, args->cache);
    const int64_t *lengths_k = args->cache ? f->seqlens_q : f->seqlens_k;
    attend_tensor x = args->x, x_bound = {0};
    attend_status status = ATTEND_OK;
    if (p->absolute && !attend_reference_add_positions(p, w, args, false, &x, &x_bound))
        status = attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for x with its positions");
    const attend_tensor *source = attend_problem_is_cross(p) ? &args->context : &x,
                        *off = p->absolute ? &x_bound : NULL;
    const projection projections[] = {
        {&x, &w->wq, &w->bq, args->q, f->seqlens_q, p->dtype, p, &at, &w->q_norm, &w->q_norm_bias, off},
        {source, &w->wk, &w->bk, *k, lengths_k, p->dtype, p, &at, &w->k_norm, &w->k_norm_bias, off},
        {source, &w->wv, &w->bv, *v, lengths_k, p->dtype, NULL, NULL, NULL, NULL, off},
    };
    attend_element ignored;
    for (int i = 0; i < 3 && !status; i++)
        status = compare_projection(&projections[i], i, judge, &result->projection_ratio[i], &ignored);
    if (p->absolute) free(x.data), free(x_bound.data);
    return status;
}

/* The same, of K and V in a cache. */
static attend_status compare_appended(const attend_problem *p, const attend_layer_weights *w,
                                      const attend_layer_args *args, attend_judge *judge,
                                      attend_layer_comparison *result)
{
    const attend_appending a = attend_layer_appending(p, w, args, &args->k, &args->v);
    attend_tensor k = take_new(&a, &args->cache->k, p), v = take_new(&a, &args->cache->v, p);
    const attend_status status =
        k.data && v.data ? compare_projections(p, w, args, &k, &v, judge, result)
                         : attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a copy of the new keys");
    free(k.data), free(v.data);
    return status;
}

static attend_status compare_stages(const attend_problem *p, const attend_layer_weights *w,
                                    const attend_layer_args *args, attend_judge *judge,
                                    attend_layer_comparison *result)
{
    attend_attention_args attention = {.q = args->q,
                                       .k = args->k,
                                       .v = args->v,
                                       .out = args->heads,
                                       .lse = args->lse,
                                       .features = args->features};
    attend_key_part all = attend_all_keys(p);
    ATTEND_TRY(args->cache ? compare_appended(p, w, args, judge, result)
                           : compare_projections(p, w, args, &args->k, &args->v, judge, result));
    ATTEND_TRY(compare_output(p, w, args, judge, result));
    if (args->cache) attend_layer_keys_locate(args->cache, &attention, &all);
    return attend_compare_resolved(p, &attention, &all, judge, &result->attention);
}

/* Rule 2 from end to end, over tiles of rows and the tensor. False where the reference is not finite. */
static bool judge_end_to_end(const attend_problem *p, const attend_tensor *actual,
                             const attend_reference_layer *exact, const attend_reference_layer *rounded,
                             attend_layer_comparison *result)
{
    attend_group tensor = {0}, tile = {0};
    bool finite = true;
    int64_t rows = attend_rows_q(p);
    for (int64_t t = 0; t < attend_tensor_batch(p) * rows; t++) {
        attend_group row = {0};
        for (int64_t c = 0; c < p->output_size; c++) {
            int64_t at = t * p->output_size + c;
            double expected = ((double *)exact->out.data)[at], baseline = ((double *)rounded->out.data)[at];
            double error = fabs(actual_at(actual, t / rows, t % rows, c) - expected),
                   spread = (baseline - expected) * (baseline - expected);
            attend_group_element(&row, error, baseline, spread, expected,
                                 ((double *)exact->magnitude.data)[at]);
            result->max_error = isnan(error) ? INFINITY : fmax(result->max_error, error);
            finite &= isfinite(expected) != 0;
        }
        attend_group_add_row(&tile, &row, p->dtype, p->dtype);
        if ((t + 1) % rows % ATTEND_TILE_ROWS && (t + 1) % rows) continue;
        result->quality_ratio = fmax(result->quality_ratio, attend_quality_ratio(&tile, p->dtype, p->dtype));
        attend_group_add(&tensor, &tile);
        tile = (attend_group){0};
    }
    result->quality_ratio = fmax(result->quality_ratio, attend_quality_ratio(&tensor, p->dtype, p->dtype));
    result->rms_error = tensor.elements ? sqrt(tensor.error / (double)tensor.elements) : 0;
    return finite;
}

static attend_status compare_end_to_end(const attend_problem *p, const attend_layer_weights *w,
                                        const attend_layer_args *args, attend_judge *judge,
                                        attend_layer_comparison *result)
{
    attend_layer_args inputs = *args;
    inputs.lse = (attend_tensor){0};
    attend_reference_layer exact, rounded = {0};
    attend_progress_tracker *tracker = &judge->tracker;
    attend_tensor actual = attend_tensor_one_head(&args->out);
    bool complete =
        attend_reference_run_layer(p, w, &inputs, ATTEND_REFERENCE_EXACT, judge->threads, tracker, &exact) &&
        (!attend_progress_continues(tracker) ||
         attend_reference_run_layer(p, w, &inputs, ATTEND_REFERENCE_BASELINE, judge->threads, tracker,
                                    &rounded));
    bool finite = complete && attend_progress_continues(tracker) &&
                  judge_end_to_end(p, &actual, &exact, &rounded, result);
    attend_reference_free_layer(&exact);
    attend_reference_free_layer(&rounded);
    ATTEND_TRY(attend_progress_status(tracker));
    if (!complete)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's fp64 intermediates");
    if (!finite)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "the reference itself is not finite: x, context, the "
                           "weights or a feature's tensor hold NaN, infinity or values that overflow");
    return ATTEND_OK;
}

static attend_status check_stages_given(const attend_layer_args *args)
{
    const struct {
        const char *name;
        const void *data;
    } stages[] = {{"q", args->q.data}, {"k", args->k.data}, {"v", args->v.data}, {"heads", args->heads.data}};
    for (int i = 0; i < 4; i++)
        if (!stages[i].data && !(args->cache && (i == 1 || i == 2)))
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "%s is missing: comparing a layer needs its q, k, v and heads",
                               stages[i].name);
    return ATTEND_OK;
}

attend_status attend_layer_compare_sized(const attend_problem *problem, size_t problem_bytes,
                                         const attend_layer_weights *weights, size_t weights_bytes,
                                         const attend_layer_args *args, size_t args_bytes,
                                         size_t features_bytes, const attend_compare_options *options,
                                         size_t options_bytes, attend_layer_comparison *comparison,
                                         size_t comparison_bytes)
{
    attend_problem p;
    attend_layer_weights w;
    attend_layer_args a;
    attend_feature_args features;
    attend_cache cache;
    attend_judge judge;
    attend_layer_comparison result = {0};
    ATTEND_TRY(attend_struct_check(ATTEND_STRUCT(attend_layer_comparison), "comparison", comparison,
                                   comparison_bytes));
    ATTEND_TRY(attend_judge_make(options, options_bytes, &judge));
    ATTEND_TRY(attend_problem_resolve(problem, problem_bytes, ATTEND_LAYER, &p));
    ATTEND_TRY(attend_layer_weights_resolve(&p, weights, weights_bytes, &w));
    ATTEND_TRY(attend_layer_args_read(&p, args, args_bytes, features_bytes, &a, &features, &cache));
    ATTEND_TRY(attend_layer_args_resolve(&p, &w, &a, &features, &cache));
    ATTEND_TRY(check_stages_given(&a));
    ATTEND_TRY(attend_layer_lists_check(&p, &w, &a));
    attend_work work = attend_count_work(&p, true);
    work.rounds = 3; /* exact, rounded, and stage by stage */
    ATTEND_TRY(attend_progress_begin(&judge.tracker, &work));
    ATTEND_TRY(compare_end_to_end(&p, &w, &a, &judge, &result));
    ATTEND_TRY(compare_stages(&p, &w, &a, &judge, &result));
    attend_progress_end(&judge.tracker);
    result.passed = result.attention.passed && result.output_ratio <= 1 && result.quality_ratio <= 1;
    for (int i = 0; i < 3; i++) result.passed &= result.projection_ratio[i] <= 1;
    attend_struct_write(ATTEND_STRUCT(attend_layer_comparison), comparison, comparison_bytes, &result);
    return ATTEND_OK;
}
