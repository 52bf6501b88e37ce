/* attend bench: time, speed and memory of one problem on random tensors, and of the naive algorithm in the
   same process. */
#include "tool/bench.h"
#include "tool/commands.h"
#include "tool/measure.h"
#include "file/fail.h"

static void report_attend(report *r, const attend_problem *p, const point *point)
{
    const attend_plan_memory *m = &point->outcome.memory;
    const timing *t = &point->attend;
    double device = (double)(m->device_workspace_bytes + m->device_staging_bytes);
    double flop = point->outcome.flop / t->median, bytes = point->outcome.bytes / t->median;
    report_number(r, "seconds", "time", t->median, "%s, median of %d (least %s)", time_text(t->median),
                  t->runs, time_text(t->least));
    report_number(r, "seconds_least", NULL, t->least, " ");
    report_number(r, "runs", NULL, t->runs, " ");
    report_number(r, "tflops", "speed", flop * 1e-12, "%s, %s%s", speed_text(flop),
                  flop_text(point->outcome.flop), attend_problem_features(p) ? " on visible keys" : "");
    report_number(r, "gbps", "traffic", bytes * 1e-9, "%s, %s read and written", traffic_text(bytes),
                  bytes_text(point->outcome.bytes));
    report_number(r, "plan_host_bytes", "memory", (double)m->host_bytes,
                  "plan %s on the host, %s on the device%s%s", bytes_text((double)m->host_bytes),
                  bytes_text(device), t->peak_bytes < 0 ? "" : "; process grew by ",
                  t->peak_bytes < 0 ? "" : bytes_text((double)t->peak_bytes));
    report_number(r, "plan_device_bytes", NULL, device, " ");
    if (t->peak_bytes >= 0) report_number(r, "peak_bytes", NULL, (double)t->peak_bytes, " ");
}

static void report_naive(report *r, const attend_problem *p, const point *point)
{
    double scores = point->score_bytes, seconds = point->naive.median,
           speedup = seconds / point->attend.median;
    if (point->why) {
        report_text(r, "naive", "naive", point->why, "not run: %s", point->why);
        return;
    }
    report_number(r, "naive_seconds", "naive", seconds, "%s, Q·Kᵀ, softmax, P·V with %s in %s; scores %s",
                  time_text(seconds), point->on_device ? "cuBLAS" : "oneDNN",
                  point->on_device ? attend_dtype_name(p->dtype) : "fp32", bytes_text(scores));
    report_number(r, "naive_score_bytes", NULL, scores, " ");
    if (point->naive.peak_bytes >= 0)
        report_number(r, "naive_peak_bytes", NULL, (double)point->naive.peak_bytes, " ");
    report_number(r, "speedup", "against naive", speedup,
                  "%.2f times as fast; outputs differ by at most %.2g", speedup, point->difference);
    report_number(r, "difference", NULL, point->difference, " ");
}

static attend_status bench(const options *o, job *job, report *r)
{
    point point;
    ATTEND_TRY(bench_point(o, job, &point, r));
    job_report(job, r);
    report_text(r, "device", "device", point.outcome.device, "%s", point.outcome.device);
    report_text(r, "kernel", "kernel", point.outcome.kernel, "%s", point.outcome.kernel);
    report_attend(r, &job->problem, &point);
    report_naive(r, &job->problem, &point);
    return ATTEND_OK;
}

attend_status command_bench(const options *o, report *r)
{
    job job;
    if (o->sweep) return bench_sweep(o, r);
    if (o->offload) return bench_offload(o, r);
    if (o->decode) return bench_decode(o, r);
    attend_status status = job_load(o, &job);
    if (status == ATTEND_OK) status = bench(o, &job, r);
    job_free(&job);
    return status;
}
