/* attend bench --decode: one query a sequence against batches, lengths and page sizes of keys, each beside
   plain reading of as many bytes. */
#include "tool/bench.h"
#include "tool/device.h"
#include "tool/measure.h"
#include "tool/pages.h"
#include "file/fail.h"
#include "shared/shape.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

static const int64_t batches[] = {1, 8}, lengths[] = {1024, 4096, 16384},
                     page_sizes[] = {0, 64, 16, 1}; /* 0: one piece */

typedef struct decoding {
    const options *options;
    report *report;
    cJSON *rows;
    bool gpu;
    job values;     /* q, k and v of all points: their leading elements */
    double reading; /* bytes per second that the device reads at most; 0: unknown */
    char device[128];
} decoding;

/* What is given alone, or all. */
static bool is_wanted(int64_t given, const int64_t *all, int i, int64_t *value)
{
    *value = given >= 0 ? given : all[i];
    return given < 0 || i == 0;
}

static attend_problem problem_of(const decoding *d, int64_t batch, int64_t seqlen_k)
{
    const options *o = d->options;
    const random_shape *s = &o->shape;
    const int64_t heads = s->heads >= 0 ? s->heads
                          : d->gpu      ? 32
                                        : 8,
                  dim = s->head_dim >= 0 ? s->head_dim : 128;
    return (attend_problem){.batch = batch,
                            .seqlen_q = 1,
                            .seqlen_k = seqlen_k,
                            .num_heads = heads,
                            .num_kv_heads = s->kv_heads >= 0 ? s->kv_heads
                                            : heads % 4 == 0 ? heads / 4
                                                             : heads,
                            .head_dim = dim,
                            .head_dim_v = dim,
                            .dtype = o->dtype_given ? o->dtype : ATTEND_F32,
                            .softmax_scale = o->scale};
}

/* Bytes of K and V. */
static double bytes_of(const attend_problem *p)
{
    return 2.0 * (double)p->batch * (double)p->seqlen_k * (double)p->num_kv_heads * (double)p->head_dim *
           (double)attend_dtype_bytes(p->dtype);
}

/* One pass over memory; a thread that waits for its processor leaves its part to others. */
static uint64_t read_all(const uint64_t *words, int64_t count)
{
    uint64_t sum = 0;
#pragma omp parallel for simd reduction(+ : sum) schedule(dynamic, 1 << 14)
    for (int64_t i = 0; i < count; i++) sum += words[i];
    return sum;
}

static volatile uint64_t sink; /* so that the passes are made */

/* The most bytes per second that passes over K and V of a problem give on the host; 0: unknown. */
static double time_reading(const decoding *d, const attend_problem *p)
{
    const options *o = d->options;
    const double bytes = bytes_of(p);
    const int64_t words = (int64_t)bytes / 2 / (int64_t)sizeof(uint64_t);
    const int passes = o->seconds == 0 ? 1 : bytes > 5e7 ? 5 : bytes < 2.5e6 ? 100 : (int)(2.5e8 / bytes);
    double least = INFINITY;
    omp_set_num_threads(o->threads ? o->threads : omp_get_num_procs());
    for (int i = 0; i < passes; i++) {
        const double begin = seconds_now();
        sink = read_all(d->values.attention.k.data, words) + read_all(d->values.attention.v.data, words);
        least = fmin(least, seconds_now() - begin);
    }
    return least > 0 ? bytes / least : 0;
}

static void add_row(decoding *d, const attend_problem *p, int64_t page_size, double reading,
                    const point *point)
{
    const double seconds = point->attend.median, tokens = (double)p->batch / seconds,
                 traffic = bytes_of(p) / seconds;
    cJSON *row = cJSON_CreateObject();
    cJSON_AddItemToArray(d->rows, row);
    cJSON_AddNumberToObject(row, "batch", (double)p->batch);
    cJSON_AddNumberToObject(row, "seqlen_k", (double)p->seqlen_k);
    cJSON_AddNumberToObject(row, "page_size", (double)page_size);
    cJSON_AddNumberToObject(row, "seconds", seconds);
    cJSON_AddNumberToObject(row, "tokens_per_second", tokens);
    cJSON_AddNumberToObject(row, "gbps", traffic * 1e-9);
    if (reading > 0) {
        cJSON_AddNumberToObject(row, "reading_gbps", reading * 1e-9);
        cJSON_AddNumberToObject(row, "share", traffic / reading);
    }
    cJSON_AddStringToObject(row, "kernel", point->outcome.kernel);
    report *r = d->report;
    report_cell(r, "%" PRId64, p->batch);
    report_cell(r, "%" PRId64, p->seqlen_k);
    report_cell(r, page_size ? "%" PRId64 : "–", page_size);
    report_cell(r, "%s", time_text(seconds));
    report_cell(r, tokens < 100 ? "%.1f" : "%.0f", tokens);
    report_cell(r, "%s", traffic_text(traffic));
    report_cell(r, "%s", reading > 0 ? traffic_text(reading) : "–");
    report_cell(r, reading > 0 ? "%.0f %%" : "–", 100 * traffic / reading);
}

/* Pages are views of the same values, so that which keys a page holds depends on its size. */
static attend_status run_point(decoding *d, const attend_problem *p, int64_t page_size, double reading)
{
    const options *o = d->options;
    const wanted wanted = {
        .device = o->device, .threads = o->threads, .strict = o->strict, .resident = true, .timed = true};
    const attend_attention_args *values = &d->values.attention;
    job job = {.batched = true, .problem = *p};
    point point = {0};
    const int64_t rows = page_size ? page_size : p->seqlen_k,
                  columns = page_size ? attend_parts_of(p->seqlen_k, rows) : 1, entries = p->batch * columns;
    const attend_tensor k = attend_tensor_4d(values->k.data, p->dtype, entries, rows, p->num_kv_heads,
                                             p->head_dim),
                        v = attend_tensor_4d(values->v.data, p->dtype, entries, rows, p->num_kv_heads,
                                             p->head_dim);
    attend_status status = ATTEND_OK;
    job.attention.q = attend_tensor_4d(values->q.data, p->dtype, p->batch, 1, p->num_heads, p->head_dim);
    job.cache = (attend_cache){.k = k, .v = v};
    if (page_size) status = pages_table(&job.pool, o->seed, p->batch, columns, &job.cache.block_table);
    if (status == ATTEND_OK) status = job_allocate(&job, &wanted, &point.outcome);
    if (status == ATTEND_OK) status = bench_attend(o, &job, &wanted, &point);
    pool_free(&job.pool);
    ATTEND_TRY(status);
    snprintf(d->device, sizeof d->device, "%s", point.outcome.device);
    add_row(d, p, page_size, reading, &point);
    return ATTEND_OK;
}

/* Calls run_point() for all points; or without `run` finds the most keys that one has, padding of its last
   pages included. */
static attend_status for_points(decoding *d, bool run, int64_t *most_keys)
{
    const options *o = d->options;
    int64_t batch, seqlen_k, page_size;
    for (int b = 0; b < 2; b++)
        for (int n = 0; n < 3 && is_wanted(o->shape.batch, batches, b, &batch); n++) {
            if (!is_wanted(o->shape.seqlen_k, lengths, n, &seqlen_k)) continue;
            const attend_problem p = problem_of(d, batch, seqlen_k);
            const double reading = !run ? 0 : d->gpu ? d->reading : time_reading(d, &p);
            for (int i = 0; i < 4; i++) {
                if (!is_wanted(o->page_size ? o->page_size : -1, page_sizes, i, &page_size)) continue;
                int64_t keys;
                if (run) ATTEND_TRY(run_point(d, &p, page_size, reading));
                if (__builtin_add_overflow(seqlen_k, page_size, &keys) ||
                    __builtin_mul_overflow(batch, keys, &keys))
                    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                            "--decode asks for more keys than 63 bits can count");
                if (keys > *most_keys) *most_keys = keys;
            }
        }
    return ATTEND_OK;
}

/* Random q, k and v for the largest point, as one sequence. */
static attend_status make_values(decoding *d)
{
    options one = *d->options;
    int64_t keys = 0;
    ATTEND_TRY(for_points(d, false, &keys));
    const attend_problem p = problem_of(d, 1, keys);
    const int64_t batch = one.shape.batch >= 0 ? one.shape.batch : batches[1];
    one.shape = (random_shape){1, p.num_heads, p.num_kv_heads, batch, keys, p.head_dim, p.head_dim, -1};
    one.causal_choice = CAUSAL_NOT_GIVEN, one.page_size = 0;
    return job_load(&one, &d->values);
}

attend_status bench_decode(const options *o, report *r)
{
    static const char *const heads[] = {"batch",    "keys",    "page",    "time",
                                        "tokens/s", "K and V", "reading", "share"};
    decoding d = {.options = o, .report = r};
    int64_t unused = 0;
    ATTEND_TRY(bench_on_gpu(o, &d.gpu));
    if (d.gpu) d.reading = device_bytes_per_second(0);
    d.rows = cJSON_AddArrayToObject(r->object, "decode");
    report_table(r, "rrrrrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) report_cell(r, "%s", heads[i]);
    attend_status status = make_values(&d);
    if (status == ATTEND_OK) status = for_points(&d, true, &unused);
    job_free(&d.values);
    ATTEND_TRY(status);
    const attend_problem p = problem_of(&d, 1, 1);
    report_text(r, "device", "device", d.device, "%s", d.device);
    report_text(r, "dtype", "dtype", attend_dtype_name(p.dtype), "%s", attend_dtype_name(p.dtype));
    report_number(r, "heads", "heads", (double)p.num_heads, "%" PRId64 " on %" PRId64 " of %" PRId64,
                  p.num_heads, p.num_kv_heads, p.head_dim);
    report_number(r, "kv_heads", NULL, (double)p.num_kv_heads, " ");
    report_number(r, "head_dim", NULL, (double)p.head_dim, " ");
    return ATTEND_OK;
}
