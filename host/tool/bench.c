/* attend bench: median time of a problem on made-up tensors, in the units of the field, beside the naive
 * algorithm in the same run. */
#include "commands.h"
#include "job.h"
#include "measure.h"
#include "naive.h"
#include "progress.h"
#include "file/fail.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 101 };

/* Five runs at least, two seconds of them; of long ones three must do. */
static bool enough(int runs, double seconds)
{
    return runs == MAX_RUNS || (runs >= 5 && seconds >= 2) || (runs >= 3 && seconds >= 10);
}

typedef struct timing {
    double median, least;
    int runs;
    int64_t peak_bytes; /* beyond what the process held before; -1: unknown */
} timing;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* One run, which says how long it took. */
typedef attend_status once(void *state, double *seconds);

static attend_status time_runs(const char *name, once *once, void *state, timing *timing)
{
    double seconds[MAX_RUNS], total = 0;
    int64_t before = memory_now_bytes();
    int runs = 0;
    memory_peak_reset();
    progress_stage("%s, warming up", name);
    ATTEND_TRY(once(state, &seconds[0]));
    while (!enough(runs, total)) {
        progress_stage("%s, run %d", name, runs + 1);
        ATTEND_TRY(once(state, &seconds[runs]));
        total += seconds[runs++];
    }
    int64_t peak = memory_peak_bytes();
    qsort(seconds, (size_t)runs, sizeof *seconds, by_value);
    double median = runs % 2 ? seconds[runs / 2] : (seconds[runs / 2 - 1] + seconds[runs / 2]) / 2;
    *timing = (struct timing){median, seconds[0], runs, peak < 0 || before < 0 ? -1 : peak > before ? peak - before : 0};
    return ATTEND_OK;
}

typedef struct attend_run {
    const job *job;
    const running *running;
    outcome *outcome;
} attend_run;

static attend_status run_attend(void *state, double *seconds)
{
    attend_run *run = state;
    ATTEND_TRY(job_run(run->job, run->running, run->outcome));
    *seconds = run->outcome->seconds;
    return ATTEND_OK;
}

typedef struct naive_run {
    const attend_problem *problem;
    const float *q, *k, *v;
    float *scores, *out;
    int threads;
} naive_run;

static attend_status run_naive(void *state, double *seconds)
{
    const naive_run *n = state;
    double begin = seconds_now();
    ATTEND_TRY(naive_attention(n->problem, n->q, n->k, n->v, n->scores, n->out, n->threads));
    *seconds = seconds_now() - begin;
    return ATTEND_OK;
}

/* A copy in fp32, which is what the naive algorithm computes in. */
static float *as_floats(pool *pool, const attend_tensor *t)
{
    attend_tensor copy;
    int64_t elements = t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3];
    if (t->dtype == ATTEND_F32) return t->data;
    if (pool_tensor(pool, "a copy in fp32", ATTEND_F32, 4, t->shape, &copy) != ATTEND_OK) return NULL;
    for (int64_t i = 0; i < elements; i++) ((float *)copy.data)[i] = tensor_element(t, i);
    return copy.data;
}

/* Times the naive algorithm; *why says in words why not, if not. */
static attend_status time_naive(const options *o, job *job, const attend_tensor *expected, timing *timing, double *difference,
                                const char **why)
{
    attend_problem p = job->problem;
    attend_tensor out;
    const int64_t shape[] = {p.batch, p.seqlen_q, p.num_heads, p.head_dim_v};
    int64_t bytes = naive_score_bytes(&p);
    *why = NULL;
    if (p.softmax_scale == 0) p.softmax_scale = (float)(1 / sqrt((double)p.head_dim));
    if (attend_problem_features(&p) & ~(uint64_t)ATTEND_FEATURE_CAUSAL || job->attention.seqlens_q || job->attention.seqlens_k)
        *why = "it knows causal attention alone";
    if (bytes == 0) *why = "there are no scores";
    if (bytes < 0 || bytes > attend_memory_available() / 10 * 9) *why = "its scores do not fit in memory";
    if (*why) return ATTEND_OK;
    ATTEND_TRY(pool_tensor(&job->pool, "the naive output", ATTEND_F32, 4, shape, &out));
    naive_run run = {.problem = &p, .out = out.data, .threads = o->threads ? o->threads : omp_get_num_procs()};
    run.q = as_floats(&job->pool, &job->attention.q);
    run.k = as_floats(&job->pool, &job->attention.k);
    run.v = as_floats(&job->pool, &job->attention.v);
    run.scores = malloc((size_t)bytes);
    if (!run.q || !run.k || !run.v || !run.scores) {
        free(run.scores);
        *why = "memory lacks";
        return ATTEND_OK;
    }
    omp_set_num_threads(run.threads);
    attend_status status = time_runs("naive", run_naive, &run, timing);
    free(run.scores);
    *difference = 0;
    for (int64_t i = 0; i < shape[0] * shape[1] * shape[2] * shape[3]; i++)
        *difference = fmax(*difference, fabs((double)tensor_element(expected, i) - (double)run.out[i]));
    return status;
}

static void report_naive(report *r, const attend_problem *p, const timing *attend, const timing *naive, double difference)
{
    double scores = (double)naive_score_bytes(p);
    report_number(r, "naive_seconds", "naive", naive->median, "%s, Q·Kᵀ, softmax, P·V with oneDNN in fp32; scores %s",
                  time_text(naive->median), bytes_text(scores));
    report_number(r, "naive_score_bytes", NULL, scores, " ");
    if (naive->peak_bytes >= 0) report_number(r, "naive_peak_bytes", NULL, (double)naive->peak_bytes, " ");
    report_number(r, "speedup", "against naive", naive->median / attend->median,
                  "%.2f times as fast; outputs differ by at most %.2g", naive->median / attend->median, difference);
    report_number(r, "difference", NULL, difference, " ");
}

static void report_attend(report *r, const attend_problem *p, const outcome *outcome, const timing *t, bool on_device)
{
    double pairs = (double)p->seqlen_q * (double)p->seqlen_k * (p->causal ? 0.5 : 1);
    double flop = 2 * pairs * (double)(p->head_dim + p->head_dim_v) * (double)p->num_heads * (double)p->batch;
    double elements = (double)p->batch * ((double)p->seqlen_q * (double)p->num_heads * (double)(p->head_dim + p->head_dim_v) +
                                          (double)p->seqlen_k * (double)p->num_kv_heads * (double)(p->head_dim + p->head_dim_v));
    double bytes = elements * (double)attend_dtype_bytes(p->dtype);
    const attend_plan_memory *m = &outcome->memory;
    report_number(r, "seconds", "time", t->median, "%s, median of %d (least %s)%s", time_text(t->median), t->runs,
                  time_text(t->least), on_device ? ", with copies to and from the device" : "");
    report_number(r, "seconds_least", NULL, t->least, " ");
    report_number(r, "runs", NULL, t->runs, " ");
    report_number(r, "tflops", "TFLOP/s", flop / t->median * 1e-12, "%.4g, of %.4g GFLOP%s", flop / t->median * 1e-12,
                  flop * 1e-9, p->causal ? " (causal: half)" : "");
    report_number(r, "gbps", "GB/s", bytes / t->median * 1e-9, "%.4g, of %s in and out", bytes / t->median * 1e-9,
                  bytes_text(bytes));
    report_number(r, "plan_host_bytes", "memory", (double)m->host_bytes, "plan %s on the host, %s on the device%s%s",
                  bytes_text((double)m->host_bytes), bytes_text((double)(m->device_workspace_bytes + m->device_staging_bytes)),
                  t->peak_bytes < 0 ? "" : "; process grew by ", t->peak_bytes < 0 ? "" : bytes_text((double)t->peak_bytes));
    report_number(r, "plan_device_bytes", NULL, (double)(m->device_workspace_bytes + m->device_staging_bytes), " ");
    if (t->peak_bytes >= 0) report_number(r, "peak_bytes", NULL, (double)t->peak_bytes, " ");
}

static attend_status bench(const options *o, job *job, report *r)
{
    outcome outcome;
    running running = {0};
    timing attend, naive = {0};
    const char *why = "it is not run on CUDA";
    double difference = 0;
    const wanted wanted = {.device = o->device, .threads = o->threads};
    ATTEND_TRY(job_allocate(job, &wanted, &outcome));
    attend_run run = {job, &running, &outcome};
    attend_status status = job_open(job, &wanted, &running, &outcome);
    bool on_device = status == ATTEND_OK && attend_context_device(running.context) == ATTEND_CUDA;
    if (status == ATTEND_OK) status = time_runs("attend", run_attend, &run, &attend);
    job_close(&running);
    ATTEND_TRY(status);
    if (!on_device) ATTEND_TRY(time_naive(o, job, &outcome.out, &naive, &difference, &why));
    job_report(job, r);
    report_text(r, "device", "device", outcome.device, "%s", outcome.device);
    report_text(r, "kernel", "kernel", outcome.kernel, "%s", outcome.kernel);
    report_attend(r, &job->problem, &outcome, &attend, on_device);
    if (naive.runs)
        report_naive(r, &job->problem, &attend, &naive, difference);
    else
        report_text(r, "naive", "naive", why, "not run: %s", why);
    return ATTEND_OK;
}

attend_status command_bench(const options *o, report *r)
{
    job job;
    attend_status status = job_load(o, &job);
    if (status == ATTEND_OK) status = bench(o, &job, r);
    job_free(&job);
    return status;
}
