/* attend run, attend attention: from files to files. Output files are renamed to their final names together,
   after all are written. */
#include "tool/commands.h"
#include "tool/job.h"
#include "tool/progress.h"
#include "file/fail.h"

attend_status job_compute_files(const options *o, job *job, const wanted *want, outcome *outcome)
{
    result_file output = {0}, lse = {0};
    wanted into_files = *want;
    if (want->memory_limit) into_files.files[0] = &output, into_files.files[1] = &lse;
    attend_status status = result_open(o->output, job->problem.dtype, &output);
    if (status == ATTEND_OK) status = result_open(o->lse, ATTEND_F32, &lse);
    if (status == ATTEND_OK) status = job_compute(job, &into_files, outcome);
    if (status == ATTEND_OK && o->output) progress_stage("writing %s", o->output);
    if (status == ATTEND_OK) status = result_write(&output, "output", &outcome->out, job->batched);
    if (status == ATTEND_OK) status = result_write(&lse, "lse", &outcome->lse, job->batched);
    if (status == ATTEND_OK) status = results_commit((result_file *const[]){&output, &lse}, 2);
    result_close(&output);
    result_close(&lse);
    return status;
}

attend_status command_compute(const options *o, report *r)
{
    job job;
    outcome outcome;
    const wanted wanted = {.device = o->device,
                           .threads = o->threads,
                           .strict = o->strict,
                           .memory_limit = o->memory_limit,
                           .lse = o->lse != NULL,
                           .explain = o->explain ? r : NULL};
    attend_status status = job_load(o, &job);
    if (status == ATTEND_OK) status = job_compute_files(o, &job, &wanted, &outcome);
    if (status == ATTEND_OK) {
        job_report(&job, r);
        outcome_report(&outcome, outcome.seconds, r);
        report_text(r, "output", "output", o->output, "%s%s%s", o->output, o->lse ? ", log-sum-exp in " : "",
                    o->lse ? o->lse : "");
        if (o->lse) report_text(r, "lse", NULL, o->lse, " ");
    }
    job_free(&job);
    return status;
}
