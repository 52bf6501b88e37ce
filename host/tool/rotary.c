/* attend rotary: applies rotary embedding and QK-norm to a given Q or K, or judges another program's
   result. */
#include "tool/commands.h"
#include "tool/library.h"
#include "tool/compare_report.h"
#include "tool/features.h"
#include "tool/job.h"
#include "tool/measure.h"
#include "tool/progress.h"
#include "file/fail.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct rotation {
    pool pool;
    bool batched; /* the input has a batch axis */
    attend_problem problem;
    attend_rotary_args args;
} rotation;

static attend_status load(const options *o, rotation *r)
{
    attend_array array;
    attend_feature_args given = {0};
    attend_problem *p = &r->problem;
    ATTEND_TRY(array_load(o->input, &array));
    attend_status status = attend_array_dtype(o->input, &array, &p->dtype);
    if (status != ATTEND_OK) {
        attend_array_free(&array);
        return status;
    }
    if (o->dtype_given) p->dtype = o->dtype;
    ATTEND_TRY(load_batched(&r->pool, o->input, &array, p->dtype, 4, &r->args.q, &r->batched));
    const int64_t *shape = r->args.q.shape;
    p->batch = shape[0], p->seqlen_q = p->seqlen_k = shape[1], p->num_heads = shape[2],
    p->head_dim = shape[3];
    ATTEND_TRY(features_pack(o, &r->pool, p, &given));
    ATTEND_TRY(features_load(o, &r->pool, p, &given));
    const rope_options *t = &o->rope;
    p->rotary = t->rotary, p->rotary_dim = t->dim, p->rotary_base = t->base, p->rotary_scaling = t->scaling,
    p->rotary_factor = t->factor;
    p->rotary_original_seqlen = t->original_seqlen, p->rotary_low = t->low, p->rotary_high = t->high;
    p->rotary_attention_factor = t->attention_factor, p->rotary_untruncated = t->untruncated;
    p->qk_norm = t->norm, p->qk_norm_epsilon = t->norm_epsilon, p->first_position = t->first_position;
    r->args.seqlens_q = given.seqlens_q, r->args.starts_k = given.starts_k,
    r->args.cu_seqlens_q = given.cu_seqlens_q, r->args.positions = given.positions;
    r->args.backward = o->backward;
    return ATTEND_OK;
}

static void report_problem(const options *o, const rotation *t, report *r)
{
    static const char *const kinds[] = {"none", "halves", "interleaved"};
    const attend_problem *p = &t->problem;
    report_text(r, "dtype", "problem", attend_dtype_name(p->dtype),
                "%s, batch %" PRId64 ", %" PRId64 " tokens, %" PRId64 " heads of %" PRId64,
                attend_dtype_name(p->dtype), p->batch, p->seqlen_q, p->num_heads, p->head_dim);
    report_text(r, "rotary", "rotary", kinds[p->rotary], "%s%s", kinds[p->rotary],
                o->backward ? ", backward" : "");
}

static attend_status apply(attend_context *context, const rotation *t, double *seconds)
{
    const double begin = seconds_now();
    ATTEND_TRY(from_library(attend_rotary_apply(context, &t->problem, &t->args)));
    ATTEND_TRY(from_library(attend_synchronize(context)));
    *seconds = seconds_now() - begin;
    return ATTEND_OK;
}

static attend_status compute(const options *o, rotation *t, result_file *output, report *r)
{
    const attend_context_options options = {.device = o->device, .threads = o->threads};
    attend_context *context;
    double seconds = 0;
    ATTEND_TRY(result_open(o->output, t->problem.dtype, output));
    ATTEND_TRY(pool_tensor(&t->pool, "the output", t->problem.dtype, 4, t->args.q.shape, &t->args.q_out));
    ATTEND_TRY(from_library(attend_context_create(&options, &context)));
    progress_stage("rotary on %s", attend_context_device_name(context));
    attend_status status = apply(context, t, &seconds);
    report_text(r, "device", "device", attend_context_device_name(context), "%s",
                attend_context_device_name(context));
    attend_context_destroy(context);
    ATTEND_TRY(status);
    report_number(r, "seconds", "time", seconds, "%s", time_text(seconds));
    report_text(r, "output", "output", o->output, "%s", o->output);
    ATTEND_TRY(result_write(output, "output", &t->args.q_out, t->batched));
    return results_commit(&output, 1);
}

static attend_status judge(const options *o, rotation *t, report *r, bool *passed)
{
    const attend_compare_options by = {.progress = progress_show};
    attend_rotary_comparison c;
    ATTEND_TRY(result_load(&t->pool, o->result, t->problem.dtype, 4, &t->args.q_out));
    progress_stage("fp64 reference");
    ATTEND_TRY(from_library(attend_rotary_compare(&t->problem, &t->args, &by, &c)));
    report_text(r, "result", "result", o->result, "%s", o->result);
    compare_begin(r);
    compare_line(r, &(compared){"result", "out", c.bound_ratio, c.quality_ratio, c.max_error, c.rms_error,
                                c.elements ? &c.worst : NULL});
    compare_end(r, *passed = c.passed);
    return ATTEND_OK;
}

attend_status command_rotary(const options *o, report *r, bool *passed)
{
    rotation t = {.batched = false};
    result_file output = {0};
    progress_stage("reading");
    attend_status status = load(o, &t);
    if (status == ATTEND_OK) report_problem(o, &t, r);
    if (status == ATTEND_OK) status = o->result ? judge(o, &t, r, passed) : compute(o, &t, &output, r);
    result_close(&output);
    pool_free(&t.pool);
    return status;
}
