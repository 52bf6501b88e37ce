/* attend bench --offload: what a limit of memory costs. Tensors resident on the device come first, then those
   on the host within all the memory that they can use, then ever less, down to the least that will do. */
#include "tool/bars.h"
#include "tool/bench.h"
#include "tool/measure.h"
#include "file/fail.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LIMITS = 8 };

typedef struct offload {
    const options *options;
    report *report;
    cJSON *rows;
    job job;
    outcome results; /* where results lie, the same for all points */
    void *resident;  /* the first output */
    size_t out_bytes;
    double seconds; /* of the resident run */
    int count;
    char labels[MOST_LIMITS][16];
    double speeds[MOST_LIMITS], gigabytes[MOST_LIMITS]; /* in TFLOP/s, and moved */
    double resident_speed;
    char device[128];
    bool gpu;
} offload;

static double memory_of(const outcome *outcome, bool gpu)
{
    const attend_plan_memory *m = &outcome->memory;
    return (double)(gpu ? m->device_workspace_bytes + m->device_staging_bytes : m->host_bytes);
}

static void add_row(offload *s, const char *tensors, int64_t limit, const point *point, bool same_bits)
{
    const outcome *outcome = &point->outcome;
    const attend_explanation *e = &outcome->explanation;
    const bool streamed = s->gpu && e->query_blocks > 0;
    const double speed = outcome->flop / point->attend.median, moved = e->bytes_to_device + e->bytes_to_host,
                 memory = memory_of(outcome, s->gpu);
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"limit_bytes", (double)limit},
                   {"plan_bytes", memory},
                   {"seconds", point->attend.median},
                   {"tflops", speed * 1e-12},
                   {"share", s->seconds / point->attend.median},
                   {"bytes_to_device", streamed ? e->bytes_to_device : 0},
                   {"bytes_to_host", streamed ? e->bytes_to_host : 0},
                   {"query_blocks", (double)e->query_blocks},
                   {"key_parts", (double)e->key_parts},
                   {"transfer_seconds", e->transfer_seconds}};
    cJSON *row = cJSON_CreateObject();
    cJSON_AddItemToArray(s->rows, row);
    cJSON_AddStringToObject(row, "tensors", tensors);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cJSON_AddNumberToObject(row, numbers[i].key, numbers[i].value);
    cJSON_AddBoolToObject(row, "same_bits", same_bits);
    report *r = s->report;
    report_cell(r, "%s", tensors);
    report_cell(r, "%s", limit ? bytes_text((double)limit) : "–");
    report_cell(r, "%s", bytes_text(memory));
    report_cell(r, "%s", streamed ? bytes_text(moved) : "–");
    report_cell(r, e->query_blocks ? "%" PRId64 : "–", e->query_blocks);
    report_cell(r, e->query_blocks ? "%" PRId64 : "–", e->key_parts);
    report_cell(r, "%s", time_text(point->attend.median));
    report_cell(r, "%s", speed_text(speed));
    report_cell(r, "%.0f %%", 100 * s->seconds / point->attend.median);
    report_cell(r, "%s", same_bits ? "same" : "OTHER");
}

static wanted wanted_of(const offload *s, bool resident, int64_t limit)
{
    const options *o = s->options;
    return (wanted){.device = o->device,
                    .threads = o->threads,
                    .strict = o->strict,
                    .memory_limit = limit,
                    .resident = resident,
                    .timed = true};
}

static attend_status run_resident(offload *s)
{
    const wanted wanted = wanted_of(s, true, 0);
    const attend_tensor *out = &s->results.out;
    ATTEND_TRY(job_allocate(&s->job, &wanted, &s->results));
    point point = {.outcome = s->results};
    ATTEND_TRY(bench_attend(s->options, &s->job, &wanted, &point));
    s->gpu = point.on_device;
    s->seconds = point.attend.median, s->resident_speed = point.outcome.flop / s->seconds;
    s->out_bytes = attend_dtype_bytes(out->dtype);
    for (int axis = 0; axis < out->rank; axis++) s->out_bytes *= (size_t)out->shape[axis];
    s->resident = malloc(s->out_bytes + 1);
    if (!s->resident) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for a copy of the output");
    memcpy(s->resident, out->data, s->out_bytes);
    snprintf(s->device, sizeof s->device, "%s", point.outcome.device);
    add_row(s, s->gpu ? "on the device" : "no limit", 0, &point, true);
    return ATTEND_OK;
}

/* Sets what its plan took, and the least limit. */
static attend_status run_streamed(offload *s, int64_t limit, double *taken, double *least)
{
    const wanted wanted = wanted_of(s, false, limit);
    point point = {.outcome = s->results};
    ATTEND_TRY(bench_attend(s->options, &s->job, &wanted, &point));
    const attend_explanation *e = &point.outcome.explanation;
    const int n = s->count++;
    *taken = memory_of(&point.outcome, s->gpu), *least = (double)point.outcome.least_bytes;
    snprintf(s->labels[n], sizeof s->labels[n], "%s", bytes_text(limit ? (double)limit : *taken));
    s->speeds[n] = point.outcome.flop / point.attend.median,
    s->gigabytes[n] = e->bytes_to_device + e->bytes_to_host;
    add_row(s, "on the host", limit, &point, !memcmp(s->resident, s->results.out.data, s->out_bytes));
    return ATTEND_OK;
}

/* Limits fall by one factor, at least 2, from what the plan takes without one to the least. */
static attend_status run_limits(offload *s)
{
    double all, least, taken, unused;
    ATTEND_TRY(run_streamed(s, 0, &all, &least));
    const double factor = fmax(2, pow(all / least, 1.0 / (MOST_LIMITS - 2)));
    for (double limit = all / factor; limit > 1.2 * least && s->count < MOST_LIMITS - 1; limit /= factor)
        ATTEND_TRY(run_streamed(s, (int64_t)limit, &taken, &unused));
    return run_streamed(s, (int64_t)least, &taken, &unused);
}

enum { MARGIN = 20, TITLE = 70 };

/* On a CPU nothing moves over a link, and the title is wider than one panel. */
static int panels_of(const offload *s) { return s->gpu ? 2 : 1; }

static void draw(const offload *s, picture *p)
{
    static const uint32_t ink = 0x202020, speed = 0x1f5fa8, copies = 0xe08a2c;
    const char *labels[MOST_LIMITS];
    char title[256];
    double top[2] = {s->resident_speed, 0};
    for (int i = 0; i < s->count; i++) {
        labels[i] = s->labels[i];
        top[0] = fmax(top[0], s->speeds[i]), top[1] = fmax(top[1], s->gigabytes[i]);
    }
    const double speed_unit = top[0] < 1e12 ? 1e-9 : 1e-12, bytes_unit = top[1] < 1e9 ? 1e-6 : 1e-9;
    const bars panels[] = {
        {.title = speed_unit < 1e-11 ? "TFLOP/s; line: resident" : "GFLOP/s; line: resident",
         .labels = labels,
         .count = s->count,
         .series = 1,
         .values = {s->speeds},
         .colours = {speed},
         .top = fmax(top[0], 1),
         .unit = speed_unit,
         .line = s->resident_speed},
        {.title = bytes_unit < 1e-8 ? "GB moved over the link" : "MB moved over the link",
         .labels = labels,
         .count = s->count,
         .series = 1,
         .values = {s->gigabytes},
         .colours = {copies},
         .top = fmax(top[1], 1),
         .unit = bytes_unit}};
    snprintf(title, sizeof title, "%s, %s: over the memory limit", s->device,
             attend_dtype_name(s->job.problem.dtype));
    picture_text(p, MARGIN, 16, 2, ink, title);
    for (int i = 0; i < panels_of(s); i++) bars_draw(p, MARGIN + i * BARS_WIDTH, TITLE, &panels[i]);
}

static attend_status draw_picture(const offload *s, attend_output *output)
{
    picture picture;
    ATTEND_TRY(picture_begin(&picture, 2 * MARGIN + 2 * BARS_WIDTH, TITLE + BARS_HEIGHT));
    draw(s, &picture);
    attend_status status = picture_write(&picture, output);
    picture_end(&picture);
    return status;
}

static attend_status run_all(offload *s, const char *path)
{
    result_file picture;
    attend_status status = result_open_picture(path, &picture); /* fails before the runs */
    if (status == ATTEND_OK) status = job_load(s->options, &s->job);
    if (status == ATTEND_OK) status = run_resident(s);
    if (status == ATTEND_OK) status = run_limits(s);
    if (status == ATTEND_OK) status = draw_picture(s, &picture.output);
    if (status == ATTEND_OK) status = results_commit((result_file *const[]){&picture}, 1);
    result_close(&picture);
    return status;
}

attend_status bench_offload(const options *o, report *r)
{
    static const char *const heads[] = {"tensors",   "limit", "memory", "moved",        "query blocks",
                                        "key parts", "time",  "speed",  "of the first", "bits"};
    const char *path = o->output ? o->output : "attend-offload.png";
    offload s = {.options = o, .report = r};
    s.rows = cJSON_AddArrayToObject(r->object, "offload");
    report_table(r, "lrrrrrrrrl");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) report_cell(r, "%s", heads[i]);
    attend_status status = run_all(&s, path);
    if (status == ATTEND_OK) {
        job_report(&s.job, r);
        report_text(r, "device", "device", s.device, "%s", s.device);
        report_text(r, "picture", "picture", path, "%s", path);
    }
    free(s.resident);
    job_free(&s.job);
    return status;
}
