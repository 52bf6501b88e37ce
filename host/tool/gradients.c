/* attend gradients: gradients of attention, from files to files. */
#include "tool/gradients.h"
#include "tool/commands.h"
#include "tool/library.h"
#include "tool/measure.h"
#include "tool/progress.h"
#include "file/fail.h"

#include <string.h>

gradient_row gradients_row(const options *o, gradients *g, int index)
{
    const gradient_row rows[GRADIENTS] = {
        {"dq", &g->grads.dq, o->gradients.dq},
        {"dk", &g->grads.dk, o->gradients.dk},
        {"dv", &g->grads.dv, o->gradients.dv},
        {"dbias", &g->features.bias, o->gradients.bias},
        {"dalibi_slopes", &g->features.alibi_slopes, o->gradients.alibi_slopes},
        {"drelative_table", &g->features.relative_table, o->gradients.relative_table},
        {"dhead_scales", &g->features.head_scales, o->gradients.head_scales},
        {"dsinks", &g->features.sinks, o->gradients.sinks},
    };
    return rows[index];
}

static attend_status load(const options *o, job *job, gradients *g)
{
    const attend_tensor *q = &job->attention.q;
    const int64_t shape[] = {q->shape[0], q->shape[1], q->shape[2], job->attention.v.shape[3]};
    attend_array array;
    bool given;
    if (o->gradients.dout) {
        ATTEND_TRY(array_load(o->gradients.dout, &array));
        ATTEND_TRY(load_batched(&job->pool, o->gradients.dout, &array, job->problem.dtype, 4, &g->grads.dout,
                                &given));
    } else {
        ATTEND_TRY(pool_tensor(&job->pool, "dout", job->problem.dtype, 4, shape, &g->grads.dout));
        const attend_tensor t = attend_tensor_row_major(g->grads.dout);
        attend_values_gauss(o->seed + 9, 1, &t);
    }
    if (!o->gradients.dlse) return ATTEND_OK;
    ATTEND_TRY(array_load(o->gradients.dlse, &array));
    return load_batched(&job->pool, o->gradients.dlse, &array, ATTEND_F32, 3, &g->grads.dlse, &given);
}

attend_status gradients_make(const options *o, job *job, bool all, gradients *g)
{
    const attend_problem *p = &job->problem;
    const attend_attention_args *a = &job->attention;
    const int axes = p->bias_axes;
    const int64_t bias[] = {axes & ATTEND_PER_BATCH ? p->batch : 1, axes & ATTEND_PER_HEAD ? p->num_heads : 1,
                            axes & ATTEND_PER_QUERY ? p->seqlen_q : 1,
                            axes & ATTEND_PER_KEY ? p->seqlen_k : 1},
                  table[] = {p->num_heads, p->relative_buckets}, *heads = &p->num_heads;
    const struct {
        bool there;
        int rank;
        const int64_t *shape;
    } expected[GRADIENTS] = {{true, 4, a->q.shape},      {true, 4, a->k.shape},
                             {true, 4, a->v.shape},      {axes != 0, 4, bias},
                             {p->alibi != 0, 1, heads},  {p->relative_buckets > 0, 2, table},
                             {p->head_scales, 1, heads}, {p->sinks, 1, heads}};
    memset(g, 0, sizeof *g);
    if (job->is_layer)
        return attend_file_fail(ATTEND_UNSUPPORTED, "gradients are of attention: layers have none yet");
    ATTEND_TRY(load(o, job, g));
    for (int i = 0; i < GRADIENTS; i++) {
        const gradient_row row = gradients_row(o, g, i);
        if (!row.path && !(all && expected[i].there)) continue;
        if (!expected[i].there)
            return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                    "%s is asked for, but the problem has nothing that it is of", row.name);
        ATTEND_TRY(pool_tensor(&job->pool, row.name, i < 3 ? p->dtype : ATTEND_F32, expected[i].rank,
                               expected[i].shape, row.tensor));
    }
    return ATTEND_OK;
}

attend_status gradients_run(const job *job, const running *running, const outcome *outcome, gradients *g)
{
    const attend_attention_args args = job_attention_args(job, outcome);
    const double begin = seconds_now();
    g->grads.features = &g->features;
    progress_stage("gradients on %s", outcome->device);
    ATTEND_TRY(from_library(attend_attention_backward(running->plan, &args, &g->grads, NULL)));
    ATTEND_TRY(from_library(attend_synchronize(running->context)));
    g->seconds = seconds_now() - begin;
    return ATTEND_OK;
}

static attend_status compute(const options *o, job *job, outcome *outcome, gradients *g)
{
    const wanted wanted = {
        .device = o->device, .threads = o->threads, .strict = o->strict, .lse = true, .backward = true};
    running running;
    ATTEND_TRY(job_allocate(job, &wanted, outcome));
    attend_status status = job_open(job, &wanted, &running, outcome);
    progress_stage("attention on %s", outcome->device);
    if (status == ATTEND_OK) status = job_run(job, &running, outcome);
    if (status == ATTEND_OK) status = gradients_run(job, &running, outcome, g);
    job_close(&running);
    return status;
}

static attend_status to_files(const options *o, job *job, outcome *outcome, gradients *g)
{
    result_file files[GRADIENTS] = {0}, *all[GRADIENTS];
    attend_status status = ATTEND_OK;
    for (int i = 0; i < GRADIENTS && status == ATTEND_OK; i++)
        status = result_open(gradients_row(o, g, i).path, i < 3 ? job->problem.dtype : ATTEND_F32, &files[i]);
    if (status == ATTEND_OK) status = compute(o, job, outcome, g);
    for (int i = 0; i < GRADIENTS && status == ATTEND_OK; i++) {
        const gradient_row row = gradients_row(o, g, i);
        if (row.path) status = result_write(&files[i], row.name, row.tensor, i >= 3 || job->batched);
    }
    for (int i = 0; i < GRADIENTS; i++) all[i] = &files[i];
    if (status == ATTEND_OK) status = results_commit(all, GRADIENTS);
    for (int i = 0; i < GRADIENTS; i++) result_close(&files[i]);
    return status;
}

attend_status command_gradients(const options *o, report *r)
{
    job job;
    outcome outcome;
    gradients g;
    attend_status status = job_load(o, &job);
    if (status == ATTEND_OK) status = gradients_make(o, &job, false, &g);
    if (status == ATTEND_OK) status = to_files(o, &job, &outcome, &g);
    if (status == ATTEND_OK) {
        job_report(&job, r);
        outcome_report(&outcome, g.seconds, r);
        for (int i = 0; i < GRADIENTS; i++) {
            const gradient_row row = gradients_row(o, &g, i);
            if (row.path) report_text(r, row.name, row.name, row.path, "%s", row.path);
        }
    }
    job_free(&job);
    return status;
}
