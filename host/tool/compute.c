/* attend run, attend attention: from files to files. Results get their names together, after all is computed
 * and written. */
#include "commands.h"
#include "job.h"
#include "measure.h"
#include "progress.h"
#include "file/fail.h"

static attend_status write_results(const options *o, const job *job, const outcome *outcome, result_file *output,
                                   result_file *lse)
{
    progress_stage("writing %s", o->output);
    ATTEND_TRY(result_write(output, "output", &outcome->out, job->batched));
    ATTEND_TRY(result_write(lse, "lse", &outcome->lse, job->batched));
    return results_commit((result_file *const[]){output, lse}, 2);
}

static attend_status compute(const options *o, job *job, outcome *outcome, report *r)
{
    const wanted wanted = {.device = o->device, .threads = o->threads, .strict = o->strict, .lse = o->lse != NULL, .explain = o->explain ? r : NULL};
    result_file output = {0}, lse = {0};
    attend_status status = result_open(o->output, job->problem.dtype, &output);
    if (status == ATTEND_OK) status = result_open(o->lse, ATTEND_F32, &lse);
    if (status == ATTEND_OK) status = job_compute(job, &wanted, outcome);
    if (status == ATTEND_OK) status = write_results(o, job, outcome, &output, &lse);
    result_close(&output);
    result_close(&lse);
    return status;
}

attend_status command_compute(const options *o, report *r)
{
    job job;
    outcome outcome;
    attend_status status = job_load(o, &job);
    if (status == ATTEND_OK) status = compute(o, &job, &outcome, r);
    if (status == ATTEND_OK) {
        job_report(&job, r);
        report_text(r, "device", "device", outcome.device, "%s", outcome.device);
        report_text(r, "kernel", "kernel", outcome.kernel, "%s", outcome.kernel);
        report_number(r, "seconds", "time", outcome.seconds, "%s", time_text(outcome.seconds));
        report_number(r, "workspace_bytes", NULL, (double)(outcome.memory.host_bytes + outcome.memory.device_workspace_bytes),
                      " ");
        report_text(r, "output", "output", o->output, "%s%s%s", o->output, o->lse ? ", log-sum-exp in " : "",
                    o->lse ? o->lse : "");
        if (o->lse) report_text(r, "lse", NULL, o->lse, " ");
    }
    job_free(&job);
    return status;
}
