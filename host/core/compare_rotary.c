/* Compares rotated Q and K with fp64: rule 1 with the bound of the reference's own steps, rule 2 with a
   baseline that rounds the exact result once. */
#include "core/arguments.h"
#include "core/backend.h"
#include "core/compare.h"
#include "core/struct.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct judging {
    const attend_problem *problem;
    attend_reference_rotation rope;
    attend_row_positions row_positions;
    attend_rotary_comparison *result;
    attend_group tensor;
    bool finite;
} judging;

/* The size of what the element's sum adds up: a rotation keeps the length of its pair. */
static void fill_magnitudes(const attend_reference_rotation *t, int64_t d, const double *y, double *magnitude)
{
    for (int64_t c = 0; c < d; c++) magnitude[c] = fabs(y[c]);
    for (int64_t i = 0; i < t->dims / 2; i++) {
        int64_t a, b;
        attend_reference_pair(t, i, &a, &b);
        magnitude[a] = magnitude[b] = hypot(y[a], y[b]);
    }
}

static void judge_row(judging *j, const attend_rope_tensor *tensor, int64_t first_head, int64_t b, int64_t h,
                      int64_t i, double *memory, attend_group *tile)
{
    const attend_tensor *from = &tensor->from, *to = &tensor->to;
    const attend_dtype dtype = j->problem->dtype;
    int64_t d = from->shape[3], at = b * to->stride[0] + i * to->stride[1] + h * to->stride[2];
    double *y = memory, *bound = memory + d, *magnitude = memory + 2 * d;
    attend_group row = {0};
    for (int64_t c = 0; c < d; c++)
        y[c] = attend_load(from, b * from->stride[0] + i * from->stride[1] + h * from->stride[2] + c),
        bound[c] = 0;
    attend_reference_rope(&j->rope, d, &tensor->weight, &tensor->bias,
                          attend_row_position(&j->row_positions, b, i), y, bound);
    fill_magnitudes(&j->rope, d, y, magnitude);
    for (int64_t c = 0; c < d; c++) {
        double actual = attend_load(to, at + c), error = fabs(actual - y[c]);
        bound[c] += attend_unit_roundoff(dtype) * fabs(y[c]) + attend_half_least(dtype);
        j->finite &= isfinite(y[c]) != 0;
        attend_note_worst(error == 0 ? 0 : error / bound[c],
                          (attend_element){b, first_head + h, i, c, actual, y[c], bound[c]},
                          &j->result->bound_ratio, &j->result->worst);
        j->result->max_error = isnan(error) ? INFINITY : fmax(j->result->max_error, error);
        double baseline = attend_round(y[c], dtype);
        attend_group_element(&row, error, baseline, (baseline - y[c]) * (baseline - y[c]), y[c],
                             magnitude[c]);
    }
    attend_group_add_row(tile, &row, dtype, dtype);
}

/* All rows of one head of one entry. */
static void judge_head(judging *j, const attend_rope_tensor *tensor, int64_t first_head, int64_t b, int64_t h,
                       double *memory)
{
    attend_group head = {0}, tile = {0};
    double *quality = &j->result->quality_ratio;
    int64_t rows = tensor->from.shape[1];
    for (int64_t i = 0; i < rows; i++) {
        if (attend_is_there(&j->row_positions, b, i))
            judge_row(j, tensor, first_head, b, h, i, memory, &tile);
        if ((i + 1) % ATTEND_TILE_ROWS && i + 1 < rows) continue;
        *quality = fmax(*quality, attend_quality_ratio(&tile, j->problem->dtype, j->problem->dtype));
        attend_group_add(&head, &tile);
        tile = (attend_group){0};
    }
    *quality = fmax(*quality, attend_quality_ratio(&head, j->problem->dtype, j->problem->dtype));
    attend_group_add(&j->tensor, &head);
}

static attend_status judge(const attend_problem *p, const attend_rotary_args *args,
                           attend_progress_tracker *tracker, attend_rotary_comparison *result)
{
    judging j = {p,
                 attend_reference_rotation_of(p, args->backward),
                 attend_rotary_row_positions(p, args),
                 result,
                 {.elements = 0},
                 true};
    attend_rope_tensor tensors[2];
    double *memory = malloc((size_t)p->head_dim * 3 * sizeof *memory);
    if (!memory) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's copy of a head");
    int count = attend_rotary_tensors(args, tensors);
    attend_progress_stage(tracker, tracker->work.attention,
                          attend_tensor_batch(p) *
                              ((args->q.data ? p->num_heads : 0) + (args->k.data ? p->num_kv_heads : 0)));
    for (int s = 0; s < count; s++)
        for (int64_t b = 0; b < tensors[s].from.shape[0]; b++)
            for (int64_t h = 0; h < tensors[s].from.shape[2] && attend_progress_continues(tracker); h++) {
                judge_head(&j, &tensors[s], s == 0 && args->q.data ? 0 : p->num_heads, b, h, memory);
                attend_progress_count(tracker, 1, true);
            }
    free(memory);
    ATTEND_TRY(attend_progress_status(tracker));
    result->quality_ratio = fmax(result->quality_ratio, attend_quality_ratio(&j.tensor, p->dtype, p->dtype));
    result->elements = j.tensor.elements;
    result->rms_error = j.tensor.elements ? sqrt(j.tensor.error / (double)j.tensor.elements) : 0;
    result->passed = result->bound_ratio <= 1 && result->quality_ratio <= 1;
    if (j.finite) return ATTEND_OK;
    return attend_fail(ATTEND_INVALID_ARGUMENT, "the reference itself is not finite: q, k or the norms' "
                                                "parameters hold NaN, infinity or values that overflow");
}

attend_status attend_rotary_compare_sized(const attend_problem *problem, size_t problem_bytes,
                                          const attend_rotary_args *args, size_t args_bytes,
                                          const attend_compare_options *options, size_t options_bytes,
                                          attend_rotary_comparison *comparison, size_t comparison_bytes)
{
    attend_problem p;
    attend_rotary_args r;
    attend_judge watched;
    attend_rotary_comparison result = {0};
    ATTEND_TRY(attend_struct_check(ATTEND_STRUCT(attend_rotary_comparison), "comparison", comparison,
                                   comparison_bytes));
    ATTEND_TRY(attend_judge_make(options, options_bytes, &watched));
    ATTEND_TRY(attend_problem_resolve(problem, problem_bytes, ATTEND_ROTATION, &p));
    ATTEND_TRY(attend_rotary_args_resolve(&p, args, args_bytes, &r));
    if ((r.q.data && r.q_out.data == r.q.data) || (r.k.data && r.k_out.data == r.k.data))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s is missing: a result computed in place has no input to compare with",
                           r.q.data && r.q_out.data == r.q.data ? "q_out" : "k_out");
    ATTEND_TRY(attend_rotary_lists_check(&p, &r));
    ATTEND_TRY(attend_progress_begin(&watched.tracker, &(attend_work){.attention = 1}));
    ATTEND_TRY(judge(&p, &r, &watched.tracker, &result));
    attend_progress_end(&watched.tracker);
    attend_struct_write(ATTEND_STRUCT(attend_rotary_comparison), comparison, comparison_bytes, &result);
    return ATTEND_OK;
}
