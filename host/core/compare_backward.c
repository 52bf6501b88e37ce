/* Holds gradients against the fp64 reference by the two rules of docs/numerics.md: element by element, and
   over the tensor, its heads and tiles of 64 rows. */
#include "core/compare.h"
#include "core/backward.h"
#include "core/problem.h"
#include "core/struct.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct gradients_judge {
    const attend_problem *problem;
    const attend_attention_args *args;
    const attend_gradients *given;
    bool finite; /* the reference */
    attend_row_room *rooms;
    uint64_t *queries; /* hashes of those of a KV head */
} gradients_judge;

/* A gradient as [batch][heads][rows][columns]: where the axes lie in the tensor; -1: extent 1. */
typedef struct axes {
    int batch, head, row, column;
} axes;

static axes axes_of(attend_gradient gradient)
{
    switch (gradient) {
    case ATTEND_GRADIENT_Q:
    case ATTEND_GRADIENT_K:
    case ATTEND_GRADIENT_V: return (axes){0, 2, 1, 3};
    case ATTEND_GRADIENT_BIAS: return (axes){0, 1, 2, 3};
    case ATTEND_GRADIENT_RELATIVE_TABLE: return (axes){-1, 0, -1, 1};
    default: return (axes){-1, -1, 0, -1};
    }
}

static int64_t extent(const attend_tensor *t, int axis) { return axis < 0 ? 1 : t->shape[axis]; }
static int64_t step(const attend_tensor *t, int axis) { return axis < 0 ? 0 : t->stride[axis]; }

/* Rows of dq whose queries are the same share the roundings of scores; rows of dk and dv likewise by keys. */
static uint64_t shares(const gradients_judge *j, attend_gradient gradient, int64_t b, int64_t h, int64_t i)
{
    const attend_attention_args *a = j->args;
    if (gradient == ATTEND_GRADIENT_Q)
        return attend_row_hash(&a->q, b, i, h, a->features->cu_seqlens_q, j->problem->batch);
    if (gradient <= ATTEND_GRADIENT_V)
        return attend_row_hash(&a->k, b, i, h, a->features->cu_seqlens_k, j->problem->batch);
    return (uint64_t)i;
}

/* One row, into its tile. */
static void judge_row(gradients_judge *j, attend_gradient gradient, const attend_reference_gradient *g,
                      const int64_t at[3], attend_group *tile, attend_gradient_comparison *r)
{
    const attend_tensor *t = &j->given->of[gradient];
    const axes x = axes_of(gradient);
    const attend_tensor dense = attend_tensor_row_major(*t);
    attend_group sums = {0};
    for (int64_t c = 0; c < extent(t, x.column); c++) {
        const int64_t places[] = {at[0], at[1], at[2], c};
        const int order[] = {x.batch, x.head, x.row, x.column};
        int64_t offset = 0, i = 0;
        for (int n = 0; n < 4; n++)
            offset += places[n] * step(t, order[n]),
                i += places[n] * (order[n] < 0 ? 0 : dense.stride[order[n]]);
        const double actual = attend_load(t, offset), expected = g->exact[i], error = fabs(actual - expected);
        j->finite = j->finite && isfinite(expected);
        attend_note_worst(error == 0 ? 0 : error / g->bound[i],
                          (attend_element){at[0], at[1], at[2], c, actual, expected, g->bound[i]},
                          &r->bound_ratio, &r->worst);
        r->max_error = isnan(error) ? INFINITY : fmax(r->max_error, error);
        attend_group_element(&sums, error, g->baseline[i], g->spread[i], expected, g->magnitude[i]);
    }
    attend_group_add_row(tile, &sums, j->problem->dtype, t->dtype);
    j->rooms[at[2]] = (attend_row_room){shares(j, gradient, at[0], at[1], at[2]), sums.allowed};
}

static int by_value(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Different queries of a KV head: the errors of their LSE reach all rows of dk and dv alike. */
static double draws_of_queries(gradients_judge *j, int64_t b, int64_t kv_head)
{
    const attend_problem *p = j->problem;
    const int64_t group = p->num_heads / p->num_kv_heads, rows = attend_rows_q(p), count = group * rows;
    int64_t different = count > 0;
    for (int64_t n = 0; n < count; n++)
        j->queries[n] = attend_row_hash(&j->args->q, b, n / group, kv_head * group + n % group,
                                        j->args->features->cu_seqlens_q, p->batch);
    qsort(j->queries, (size_t)count, sizeof *j->queries, by_value);
    for (int64_t n = 1; n < count; n++) different += j->queries[n] != j->queries[n - 1];
    return (double)different;
}

/* Rows are at most so many draws. */
static void limit_draws(attend_group *group, double draws)
{
    if (draws > 0)
        group->allowed_squared = fmax(group->allowed_squared, group->allowed * group->allowed / draws);
}

static void judge_gradient(gradients_judge *j, attend_gradient gradient, const attend_reference_gradient *g,
                           attend_gradient_comparison *r)
{
    const attend_tensor *t = &j->given->of[gradient];
    const axes x = axes_of(gradient);
    const int64_t rows = extent(t, x.row);
    const attend_dtype dtype = j->problem->dtype;
    attend_group tensor = {0};
    for (int64_t b = 0; b < extent(t, x.batch); b++)
        for (int64_t h = 0; h < extent(t, x.head); h++) {
            attend_group head = {0};
            const bool of_keys = gradient == ATTEND_GRADIENT_K || gradient == ATTEND_GRADIENT_V;
            const double draws = of_keys ? draws_of_queries(j, b, h) : 0;
            for (int64_t first = 0; first < rows; first += ATTEND_TILE_ROWS) {
                attend_group tile = {0};
                const int64_t end = first + ATTEND_TILE_ROWS < rows ? first + ATTEND_TILE_ROWS : rows;
                for (int64_t i = first; i < end; i++)
                    judge_row(j, gradient, g, (int64_t[]){b, h, i}, &tile, r);
                tile.allowed_squared = attend_squares_of_draws(j->rooms + first, end - first);
                limit_draws(&tile, draws);
                r->quality_ratio = fmax(r->quality_ratio, attend_quality_ratio(&tile, dtype, t->dtype));
                attend_group_add(&head, &tile);
            }
            head.allowed_squared = attend_squares_of_draws(j->rooms, rows);
            limit_draws(&head, draws);
            r->quality_ratio = fmax(r->quality_ratio, attend_quality_ratio(&head, dtype, t->dtype));
            attend_group_add(&tensor, &head);
        }
    r->quality_ratio = fmax(r->quality_ratio, attend_quality_ratio(&tensor, dtype, t->dtype));
    r->elements = tensor.elements;
    r->rms_error = tensor.elements ? sqrt(tensor.error / (double)tensor.elements) : 0;
}

static attend_status compare(gradients_judge *j, attend_judge *judge, attend_backward_comparison *result)
{
    attend_gradient_comparison *const results[ATTEND_GRADIENTS] = {
        &result->dq,          &result->dk,           &result->dv,
        &result->bias,        &result->alibi_slopes, &result->relative_table,
        &result->head_scales, &result->sinks};
    attend_reference_gradient of[ATTEND_GRADIENTS];
    const attend_problem *p = j->problem;
    /* the longest tensor of any: a bias has rows for the longest sequence, which packed ones need not reach
       */
    int64_t rows = attend_rows_q(p) > attend_rows_k(p) ? attend_rows_q(p) : attend_rows_k(p);
    if (p->seqlen_q > rows) rows = p->seqlen_q;
    memset(result, 0, sizeof *result);
    ATTEND_TRY(attend_lists_check(p, j->args->features));
    j->rooms = calloc((size_t)(rows + p->num_heads) + 1, sizeof *j->rooms);
    j->queries = calloc((size_t)(p->num_heads * attend_rows_q(p)) + 1, sizeof *j->queries);
    bool complete =
        attend_reference_backward(p, j->args, j->given, true, judge->threads, &judge->tracker, of) &&
        j->rooms;
    result->passed = true;
    for (int i = 0; i < ATTEND_GRADIENTS && complete; i++) {
        if (!of[i].exact) continue;
        judge_gradient(j, (attend_gradient)i, &of[i], results[i]);
        result->passed = result->passed && results[i]->bound_ratio <= 1 && results[i]->quality_ratio <= 1;
    }
    free(j->rooms), free(j->queries);
    attend_reference_backward_free(of);
    ATTEND_TRY(attend_progress_status(&judge->tracker));
    if (!complete) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's gradients");
    if (!j->finite)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "the reference itself is not finite: q, k, v, dout, dlse "
                                                    "or a feature's tensor hold NaN, infinity or values "
                                                    "that overflow fp64");
    return ATTEND_OK;
}

attend_status attend_backward_compare_sized(const attend_problem *problem, size_t problem_bytes,
                                            const attend_attention_args *args, size_t args_bytes,
                                            size_t features_bytes, const attend_attention_grads *grads,
                                            size_t grads_bytes, size_t feature_grads_bytes,
                                            const attend_compare_options *options, size_t options_bytes,
                                            attend_backward_comparison *comparison, size_t comparison_bytes)
{
    attend_problem p;
    attend_attention_args resolved;
    attend_feature_args features;
    attend_gradients gradients;
    attend_judge judge;
    attend_backward_comparison result;
    ATTEND_TRY(attend_struct_check(ATTEND_STRUCT(attend_backward_comparison), "comparison", comparison,
                                   comparison_bytes));
    ATTEND_TRY(attend_judge_make(options, options_bytes, &judge));
    ATTEND_TRY(attend_problem_resolve(problem, problem_bytes, ATTEND_ATTENTION, &p));
    ATTEND_TRY(attend_attention_args_read(args, args_bytes, features_bytes, &resolved, &features));
    ATTEND_TRY(attend_backward_resolve(&p, grads, grads_bytes, feature_grads_bytes, false, &resolved,
                                       &features, &gradients));
    if (gradients.accumulate)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "accumulate is set: what was there before gradients were added is not known");
    ATTEND_TRY(attend_progress_begin(&judge.tracker, &(attend_work){.attention = 1}));
    gradients_judge j = {.problem = &p, .args = &resolved, .given = &gradients, .finite = true};
    ATTEND_TRY(compare(&j, &judge, &result));
    attend_progress_end(&judge.tracker);
    attend_struct_write(ATTEND_STRUCT(attend_backward_comparison), comparison, comparison_bytes, &result);
    return ATTEND_OK;
}
