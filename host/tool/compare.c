/* attend compare: runs a problem, or loads another program's result, and compares it with the fp64 reference
   by both rules of docs/numerics.md. */
#include "tool/commands.h"
#include "tool/library.h"
#include "tool/compare_report.h"
#include "tool/gradients.h"
#include "tool/job.h"
#include "tool/progress.h"
#include "file/fail.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stddef.h>
#include <string.h>

static void add_attention(report *r, const char *side, const char *tensor, const attend_comparison *c,
                          bool lse)
{
    compare_line(r, &(compared){side, tensor, c->bound_ratio, c->quality_ratio, c->max_error, c->rms_error,
                                c->elements ? &c->worst : NULL});
    if (lse)
        compare_line(
            r, &(compared){side, "lse", c->lse_bound_ratio, -1, -1, -1, c->elements ? &c->worst_lse : NULL});
}

static attend_status judge_attention(const options *o, const job *job, const outcome *outcome,
                                     const char *side, report *r, bool *passed)
{
    const attend_attention_args args = job_attention_args(job, outcome);
    const attend_compare_options by = {.threads = o->threads, .progress = progress_show};
    attend_comparison c;
    progress_stage("fp64 reference");
    ATTEND_TRY(from_library(attend_compare(&job->problem, &args, &by, &c)));
    add_attention(r, side, "out", &c, args.lse.data != NULL);
    *passed &= c.passed;
    return ATTEND_OK;
}

static attend_status judge_layer(const options *o, const job *job, const outcome *outcome, const char *side,
                                 report *r, bool *passed)
{
    static const char *const projections[] = {"q", "k", "v"};
    const attend_layer_args args = job_layer_args(job, outcome);
    const attend_compare_options by = {.threads = o->threads, .progress = progress_show};
    attend_layer_comparison c;
    progress_stage("fp64 reference");
    ATTEND_TRY(from_library(attend_layer_compare(&job->problem, &job->layer.weights, &args, &by, &c)));
    for (int i = 0; i < 3; i++)
        compare_line(r, &(compared){side, projections[i], c.projection_ratio[i], -1, -1, -1, NULL});
    add_attention(r, side, "heads", &c.attention, args.lse.data != NULL);
    compare_line(r, &(compared){side, "out", c.output_ratio, c.quality_ratio, c.max_error, c.rms_error,
                                c.attention.elements ? &c.worst : NULL});
    *passed &= c.passed;
    return ATTEND_OK;
}

/* The element where two contiguous results differ most. NaN equals only NaN. */
static double largest_difference(const attend_tensor *a, const attend_tensor *b, attend_element *where)
{
    int64_t elements = 1, worst = 0;
    double largest = 0;
    for (int axis = 0; axis < a->rank; axis++) elements *= a->shape[axis];
    for (int64_t i = 0; i < elements; i++) {
        double x = tensor_element(a, i), y = tensor_element(b, i),
               difference = x == y || (isnan(x) && isnan(y)) ? 0 : fabs(x - y);
        if (isnan(difference)) difference = INFINITY;
        if (difference > largest) largest = difference, worst = i;
    }
    int64_t columns = elements ? a->shape[a->rank - 1] : 1,
            heads = a->rank == 4 && elements ? a->shape[2] : 1;
    int64_t row = worst / columns / heads, rows = elements ? a->shape[1] : 1;
    *where = (attend_element){.batch = row / rows,
                              .head = a->rank == 4 ? worst / columns % heads : -1,
                              .row = row % rows,
                              .column = worst % columns,
                              .bound = -1};
    if (elements) where->actual = tensor_element(a, worst), where->expected = tensor_element(b, worst);
    return largest;
}

typedef attend_status judge(const options *o, const job *job, const outcome *outcome, const char *side,
                            report *r, bool *passed);

static const char *device_key(attend_device device)
{
    return device == ATTEND_CUDA        ? "cuda"
           : device == ATTEND_CPU       ? "cpu"
           : device == ATTEND_REFERENCE ? "reference"
                                        : "auto";
}

/* Runs forward and backward, and judges every gradient that the problem has. */
static attend_status compare_gradients(const options *o, job *job, report *r, bool *passed)
{
    static const size_t of[GRADIENTS] = {offsetof(attend_backward_comparison, dq),
                                         offsetof(attend_backward_comparison, dk),
                                         offsetof(attend_backward_comparison, dv),
                                         offsetof(attend_backward_comparison, bias),
                                         offsetof(attend_backward_comparison, alibi_slopes),
                                         offsetof(attend_backward_comparison, relative_table),
                                         offsetof(attend_backward_comparison, head_scales),
                                         offsetof(attend_backward_comparison, sinks)};
    const wanted wanted = {
        .device = o->device, .threads = o->threads, .strict = o->strict, .lse = true, .backward = true};
    const attend_compare_options by = {.threads = o->threads, .progress = progress_show};
    outcome outcome;
    gradients g;
    running running;
    attend_backward_comparison c;
    ATTEND_TRY(gradients_make(o, job, true, &g));
    ATTEND_TRY(job_allocate(job, &wanted, &outcome));
    attend_status status = job_open(job, &wanted, &running, &outcome);
    if (status == ATTEND_OK) status = job_run(job, &running, &outcome);
    if (status == ATTEND_OK) status = gradients_run(job, &running, &outcome, &g);
    job_close(&running);
    ATTEND_TRY(status);
    const attend_attention_args args = job_attention_args(job, &outcome);
    progress_stage("fp64 reference");
    ATTEND_TRY(from_library(attend_backward_compare(&job->problem, &args, &g.grads, &by, &c)));
    for (int i = 0; i < GRADIENTS; i++) {
        const attend_gradient_comparison *l = (const void *)((const char *)&c + of[i]);
        if (gradients_row(o, &g, i).tensor->data)
            compare_line(r,
                         &(compared){"result", gradients_row(o, &g, i).name, l->bound_ratio, l->quality_ratio,
                                     l->max_error, l->rms_error, l->elements ? &l->worst : NULL});
    }
    *passed = *passed && c.passed;
    return ATTEND_OK;
}

/* Runs on --device, and on --against if that is a device, and judges each result. */
static attend_status compare_runs(const options *o, job *job, report *r, bool *passed)
{
    outcome first, second;
    const wanted here = {.device = o->device,
                         .threads = o->threads,
                         .strict = o->strict,
                         .memory_limit = o->memory_limit,
                         .lse = true,
                         .stages = true,
                         .explain = o->explain ? r : NULL};
    const wanted there = {
        .device = o->against, .threads = o->threads, .strict = o->strict, .lse = true, .stages = true};
    judge *judge = job->is_layer ? judge_layer : judge_attention;
    ATTEND_TRY(job_compute_files(o, job, &here, &first));
    report_text(r, "device", "device", first.device, "%s", first.device);
    report_text(r, "kernel", "kernel", first.kernel, "%s", first.kernel);
    if (o->against == ATTEND_REFERENCE) return judge(o, job, &first, "result", r, passed);
    ATTEND_TRY(job_compute(job, &there, &second));
    report_text(r, "against_device", "against", second.device, "%s", second.device);
    ATTEND_TRY(judge(o, job, &first, o->device == o->against ? "result" : device_key(o->device), r, passed));
    ATTEND_TRY(judge(o, job, &second, device_key(o->against), r, passed));
    attend_element where;
    double largest = largest_difference(&first.out, &second.out, &where);
    compare_line(r, &(compared){"between", "out", -1, -1, largest, -1, &where});
    return ATTEND_OK;
}

/* Another program's result of a layer comes without its stages (Q, K, V, heads), so only rule 2 from end to
   end applies. */
static attend_status judge_layer_result(const options *o, job *job, const attend_tensor *result, report *r,
                                        bool *passed)
{
    outcome reference;
    const attend_compare_options by = {.threads = o->threads, .progress = progress_show};
    attend_layer_comparison c;
    attend_element where;
    const wanted exact = {.device = ATTEND_REFERENCE, .threads = o->threads, .stages = true};
    ATTEND_TRY(job_compute(job, &exact, &reference));
    attend_layer_args args = job_layer_args(job, &reference);
    args.out = *result;
    ATTEND_TRY(from_library(attend_layer_compare(&job->problem, &job->layer.weights, &args, &by, &c)));
    largest_difference(result, &reference.out, &where);
    compare_line(r, &(compared){"result", "out", -1, c.quality_ratio, c.max_error, c.rms_error, &where});
    *passed = c.quality_ratio <= 1;
    return ATTEND_OK;
}

static attend_status compare_result(const options *o, job *job, report *r, bool *passed)
{
    outcome given = {0};
    ATTEND_TRY(result_load(&job->pool, o->result, job->problem.dtype, job->is_layer ? 3 : 4, &given.out));
    report_text(r, "result", "result", o->result, "%s", o->result);
    if (job->is_layer) return judge_layer_result(o, job, &given.out, r, passed);
    if (o->result_lse) ATTEND_TRY(result_load(&job->pool, o->result_lse, ATTEND_F32, 3, &given.lse));
    return judge_attention(o, job, &given, "result", r, passed);
}

static attend_status compare(const options *o, job *job, report *r, bool *passed)
{
    job_report(job, r);
    if (!o->weights && !o->q)
        report_text(r, "values", "values", attend_values_name(o->values), "%s, seed %" PRIu64,
                    attend_values_name(o->values), o->seed);
    compare_begin(r);
    ATTEND_TRY(o->result ? compare_result(o, job, r, passed) : compare_runs(o, job, r, passed));
    if (o->backward) ATTEND_TRY(compare_gradients(o, job, r, passed));
    report_text(r, "against", NULL, device_key(o->against), " ");
    compare_end(r, *passed);
    return ATTEND_OK;
}

attend_status command_compare(const options *o, report *r, bool *passed)
{
    job job;
    attend_status status = job_load(o, &job);
    if (status == ATTEND_OK) status = compare(o, &job, r, passed);
    job_free(&job);
    return status;
}
