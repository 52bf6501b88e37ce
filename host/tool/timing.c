/* Times a problem: the median of runs after a warm-up, with attend, then with the naive algorithm on the same
   tensors. */
#include "tool/bench.h"
#include "tool/library.h"
#include "tool/device.h"
#include "tool/measure.h"
#include "tool/naive.h"
#include "tool/naive_device.h"
#include "tool/progress.h"
#include "file/fail.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 101 };

/* At least 5 runs and `wanted` seconds, or 3 runs and 5 times `wanted`; 1 run if `wanted` is 0. */
static bool enough(int runs, double seconds, double wanted)
{
    return runs == MAX_RUNS || (runs >= 5 && seconds >= wanted) || (runs >= 3 && seconds >= 5 * wanted) ||
           (runs >= 1 && wanted == 0);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* One run; *seconds is its time. */
typedef attend_status once(void *state, double *seconds);

static attend_status time_runs(const options *o, const char *name, once *once, void *state, timing *timing)
{
    double seconds[MAX_RUNS], begin;
    int64_t before = memory_now_bytes();
    int runs = 0;
    memory_peak_reset();
    progress_stage("%s, warming up", name);
    ATTEND_TRY(once(state, &seconds[0]));
    begin = seconds_now();
    while (!enough(runs, seconds_now() - begin, o->seconds)) {
        progress_stage("%s, run %d", name, runs + 1);
        ATTEND_TRY(once(state, &seconds[runs++]));
    }
    int64_t peak = memory_peak_bytes();
    qsort(seconds, (size_t)runs, sizeof *seconds, by_value);
    double median = runs % 2 ? seconds[runs / 2] : (seconds[runs / 2 - 1] + seconds[runs / 2]) / 2;
    *timing = (struct timing){median, seconds[0], runs,
                              peak < 0 || before < 0 ? -1
                              : peak > before        ? peak - before
                                                     : 0};
    return ATTEND_OK;
}

typedef struct attend_run_state {
    const running *running;
    attend_attention_args attention;
    attend_layer_args layer;
    bool is_layer;
} attend_run_state;

static attend_status enqueue_attend(const attend_run_state *run)
{
    return from_library(run->is_layer ? attend_layer_forward(run->running->plan, &run->layer)
                                      : attend_attention_forward(run->running->plan, &run->attention));
}

static attend_status run_attend(void *state, double *seconds)
{
    const attend_run_state *run = state;
    double begin = seconds_now();
    ATTEND_TRY(enqueue_attend(run));
    ATTEND_TRY(from_library(attend_synchronize(run->running->context)));
    *seconds = seconds_now() - begin;
    return ATTEND_OK;
}

/* Runs of attend, or of the naive algorithm if `naive` is set. */
typedef struct device_run {
    device_clock clock;
    attend_run_state attend;
    naive_device *naive;
    int repeats; /* enqueued without waiting in between, to hide the launch latency of a short kernel */
} device_run;

static attend_status run_on_device(void *state, double *seconds)
{
    const device_run *run = state;
    ATTEND_TRY(device_clock_begin(&run->clock));
    for (int i = 0; i < run->repeats; i++)
        ATTEND_TRY(run->naive ? naive_device_enqueue(run->naive) : enqueue_attend(&run->attend));
    ATTEND_TRY(device_clock_end(&run->clock));
    ATTEND_TRY(device_clock_seconds(&run->clock, seconds));
    *seconds /= run->repeats;
    return ATTEND_OK;
}

/* Times as many runs together as take two milliseconds of the host's clock, since a software device has a
   clock of its own. */
static attend_status time_bundles(const options *o, const char *name, device_run *run, timing *timing)
{
    double seconds, begin, first = seconds_now();
    run->repeats = 1;
    for (int i = 0; i < 2 && o->seconds > 0; i++) {
        begin = seconds_now();
        ATTEND_TRY(run_on_device(run, &seconds));
        seconds = seconds_now() - begin;
        if (i == 1 && seconds < 2e-3) run->repeats = seconds < 2e-5 ? 100 : (int)(2e-3 / seconds) + 1;
    }
    /* an idle device needs time to raise its clock */
    for (int i = 0; i < 50 && seconds_now() - first < o->seconds / 4; i++)
        ATTEND_TRY(run_on_device(run, &seconds));
    return time_runs(o, name, run_on_device, run, timing);
}

static attend_problem with_scale(const job *job)
{
    attend_problem p = job->problem;
    if (p.softmax_scale == 0) p.softmax_scale = (float)(1 / sqrt((double)p.head_dim));
    return p;
}

/* The largest difference between attend's output and the naive one, which has the same shape. */
static void note_difference(point *point, const attend_tensor *naive)
{
    const attend_tensor *out = &point->outcome.out;
    int64_t elements = 1;
    double largest = 0;
    for (int axis = 0; axis < out->rank; axis++) elements *= out->shape[axis];
#pragma omp parallel for reduction(max : largest)
    for (int64_t i = 0; i < elements; i++)
        largest = fmax(largest, fabs((double)tensor_element(out, i) - (double)tensor_element(naive, i)));
    point->difference = largest;
}

/* Why the naive algorithm cannot do this problem on any device; NULL: it can. */
static const char *why_not_naive(const job *job)
{
    uint64_t others = attend_problem_features(&job->problem) & ~(uint64_t)ATTEND_FEATURE_CAUSAL;
    if (others || job->features.seqlens_q || job->features.seqlens_k)
        return "of all features it supports only a causal mask";
    if (job->cache.k.data) return "it reads no pages";
    return NULL;
}

/* It overwrites attend's output, which has been copied to the host. */
static attend_status time_naive_on_device(const options *o, job *job, const device_args *device,
                                          device_run *run, point *point)
{
    const attend_problem p = with_scale(job);
    attend_tensor out;
    point->why = why_not_naive(job);
    if (point->why) return ATTEND_OK;
    ATTEND_TRY(pool_tensor(&job->pool, "the naive output", p.dtype, point->outcome.out.rank,
                           point->outcome.out.shape, &out));
    attend_status status =
        naive_device_make(&p, &device->attention, &device->layer, job->is_layer ? &job->layer.weights : NULL,
                          run->clock.stream, &run->naive, &point->why);
    if (status != ATTEND_OK || point->why) return status;
    point->score_bytes = (double)naive_score_bytes(&p, attend_dtype_bytes(p.dtype));
    status = time_bundles(o, "naive", run, &point->naive);
    if (status == ATTEND_OK)
        status = device_fetch(job->is_layer ? &device->layer.out : &device->attention.out, &out);
    if (status == ATTEND_OK) note_difference(point, &out);
    naive_device_free(run->naive);
    return status;
}

/* On copies of the tensors; beside the naive algorithm, if that is wanted. */
static attend_status time_on_device(const options *o, const attend_run_state *host, job *job, bool naive,
                                    point *point)
{
    device_args device;
    device_run run = {.attend = *host};
    attend_status status = host->is_layer ? device_layer_make(&host->layer, &device)
                                          : device_attention_make(&host->attention, &device);
    run.attend.attention = device.attention, run.attend.layer = device.layer;
    if (status == ATTEND_OK) status = device_clock_make(host->running->context, &run.clock);
    if (status == ATTEND_OK) status = time_bundles(o, "attend", &run, &point->attend);
    if (status == ATTEND_OK)
        status =
            device_fetch(host->is_layer ? &device.layer.out : &device.attention.out, &point->outcome.out);
    if (status == ATTEND_OK && naive) status = time_naive_on_device(o, job, &device, &run, point);
    device_clock_free(&run.clock);
    device_args_free(&device);
    return status;
}

/* By the device's clock, copies included. */
static attend_status time_streamed(const options *o, const attend_run_state *host, point *point)
{
    device_run run = {.attend = *host};
    attend_status status = device_clock_make(host->running->context, &run.clock);
    if (status == ATTEND_OK) status = time_bundles(o, "streamed", &run, &point->attend);
    device_clock_free(&run.clock);
    return status;
}

typedef enum placement { AS_BENCHED, RESIDENT, STREAMED } placement;

static attend_status time_attend(const options *o, job *job, const wanted *wanted, placement placement,
                                 point *point)
{
    running running;
    attend_status status = job_open(job, wanted, &running, &point->outcome);
    point->on_device = status == ATTEND_OK && attend_context_device(running.context) == ATTEND_CUDA;
    attend_run_state run = {&running, running_attention_args(job, &running, &point->outcome),
                            job_layer_args(job, &point->outcome), job->is_layer};
    if (status == ATTEND_OK)
        status = !point->on_device       ? time_runs(o, "attend", run_attend, &run, &point->attend)
                 : placement == STREAMED ? time_streamed(o, &run, point)
                                         : time_on_device(o, &run, job, placement == AS_BENCHED, point);
    job_close(&running);
    return status;
}

attend_status bench_on_gpu(const options *o, bool *gpu)
{
    attend_context *context = NULL;
    const attend_context_options options = {.device = o->device, .threads = o->threads};
    ATTEND_TRY(from_library(attend_context_create(&options, &context)));
    *gpu = attend_context_device(context) == ATTEND_CUDA;
    attend_context_destroy(context);
    return ATTEND_OK;
}

attend_status bench_attend(const options *o, job *job, const wanted *wanted, point *point)
{
    return time_attend(o, job, wanted, wanted->resident ? RESIDENT : STREAMED, point);
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

/* A copy in fp32, in which the naive algorithm computes. */
static float *as_floats(pool *pool, const attend_tensor *t)
{
    attend_tensor copy;
    int64_t elements = t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3];
    if (t->dtype == ATTEND_F32) return t->data;
    if (pool_tensor(pool, "a copy in fp32", ATTEND_F32, 4, t->shape, &copy) != ATTEND_OK) return NULL;
    for (int64_t i = 0; i < elements; i++) ((float *)copy.data)[i] = tensor_element(t, i);
    return copy.data;
}

static const char *why_no_room(int64_t score_bytes)
{
    if (score_bytes == 0) return "there are no scores";
    if (score_bytes < 0 || score_bytes > attend_memory_available() / 10 * 9)
        return "its scores do not fit in memory";
    return NULL;
}

static attend_status time_naive(const options *o, job *job, point *point)
{
    const attend_problem p = with_scale(job);
    attend_tensor out;
    int64_t bytes = naive_score_bytes(&p, sizeof(float));
    point->why = job->is_layer ? "it has no projections on a CPU" : why_not_naive(job);
    if (!point->why) point->why = why_no_room(bytes);
    if (point->why) return ATTEND_OK;
    point->score_bytes = (double)bytes;
    ATTEND_TRY(pool_tensor(&job->pool, "the naive output", ATTEND_F32, 4, point->outcome.out.shape, &out));
    naive_run run = {
        .problem = &p, .out = out.data, .threads = o->threads ? o->threads : omp_get_num_procs()};
    run.q = as_floats(&job->pool, &job->attention.q);
    run.k = as_floats(&job->pool, &job->attention.k);
    run.v = as_floats(&job->pool, &job->attention.v);
    run.scores = malloc((size_t)bytes);
    if (!run.q || !run.k || !run.v || !run.scores) {
        free(run.scores);
        point->why = "not enough memory";
        return ATTEND_OK;
    }
    omp_set_num_threads(run.threads);
    attend_status status = time_runs(o, "naive", run_naive, &run, &point->naive);
    free(run.scores);
    note_difference(point, &out);
    return status;
}

attend_status bench_point(const options *o, job *job, point *point, report *r)
{
    const wanted wanted = {.device = o->device,
                           .threads = o->threads,
                           .strict = o->strict,
                           .memory_limit = o->memory_limit,
                           .timed = true,
                           .explain = o->explain ? r : NULL};
    memset(point, 0, sizeof *point);
    ATTEND_TRY(job_allocate(job, &wanted, &point->outcome));
    ATTEND_TRY(time_attend(o, job, &wanted, AS_BENCHED, point));
    return point->on_device ? ATTEND_OK : time_naive(o, job, point);
}
