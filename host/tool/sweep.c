/* attend bench --sweep: head dims by lengths, full and causal, each against the naive algorithm. */
#include "tool/sweep.h"
#include "tool/bench.h"
#include "tool/measure.h"
#include "file/fail.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* On a GPU the load of FlashAttention's benchmarks: 16384 tokens of width 2048 at every length, and four
   times as many keys in decoding, which reads each key once. On a CPU one sequence of width 512. */
enum { GPU_TOKENS = 16384, GPU_WIDTH = 2048, CPU_WIDTH = 512, DECODE = 4 };

typedef struct sweep {
    const options *options;
    report *report;
    cJSON *rows;
    bool gpu;
    job values;             /* its q, k and v are shared by all points */
    sweep_series series[2]; /* attend, naive */
    char device[128];
} sweep;

static int64_t given_or(int64_t value, int64_t usual) { return value >= 0 ? value : usual; }

static const char *dtype_of(const options *o)
{
    return attend_dtype_name(o->dtype_given ? o->dtype : ATTEND_F32);
}

static void set_problem(const sweep *s, int64_t dim, int64_t seqlen, bool causal, attend_problem *p)
{
    const options *o = s->options;
    int64_t heads = (s->gpu ? GPU_WIDTH : CPU_WIDTH) / dim;
    bool decode = o->shape.seqlen_q == 1;
    *p = (attend_problem){.seqlen_q = decode ? 1 : seqlen,
                          .seqlen_k = seqlen,
                          .head_dim = dim,
                          .head_dim_v = dim,
                          .dtype = o->dtype_given ? o->dtype : ATTEND_F32,
                          .causal = causal ? ATTEND_CAUSAL_TOP_LEFT : ATTEND_CAUSAL_NONE,
                          .softmax_scale = o->scale};
    p->batch = given_or(o->shape.batch, s->gpu ? (decode ? DECODE : 1) * GPU_TOKENS / seqlen : 1);
    p->num_heads = given_or(o->shape.heads, heads);
    p->num_kv_heads = given_or(o->shape.kv_heads, p->num_heads);
}

/* Whether the options include this point. */
static bool wanted_point(const options *o, int64_t dim, int64_t seqlen, bool causal)
{
    bool decode = o->shape.seqlen_q == 1, causal_given = o->causal_choice != CAUSAL_NOT_GIVEN || decode,
         wants_causal = !decode && (o->causal_choice == CAUSAL_BARE || o->causal);
    int64_t asked = decode ? o->shape.seqlen_k : o->shape.seqlen_q;
    return (o->shape.head_dim < 0 || o->shape.head_dim == dim) && (asked < 0 || asked == seqlen) &&
           (!causal_given || wants_causal == causal);
}

static void add_row(sweep *s, const attend_problem *p, const point *point, double tflops, double naive)
{
    cJSON *row = cJSON_CreateObject();
    const char *causal = p->seqlen_q == 1 ? "decode" : p->causal ? "causal" : "full";
    cJSON_AddItemToArray(s->rows, row);
    cJSON_AddNumberToObject(row, "head_dim", (double)p->head_dim);
    cJSON_AddStringToObject(row, "kernel", point->outcome.kernel);
    cJSON_AddNumberToObject(row, "seqlen", (double)p->seqlen_k);
    cJSON_AddNumberToObject(row, "queries", (double)p->seqlen_q);
    cJSON_AddBoolToObject(row, "causal", p->causal != ATTEND_CAUSAL_NONE);
    cJSON_AddNumberToObject(row, "batch", (double)p->batch);
    cJSON_AddNumberToObject(row, "heads", (double)p->num_heads);
    cJSON_AddNumberToObject(row, "kv_heads", (double)p->num_kv_heads);
    cJSON_AddNumberToObject(row, "gbps", point->outcome.bytes / point->attend.median * 1e-9);
    cJSON_AddNumberToObject(row, "difference", point->difference);
    cJSON_AddNumberToObject(row, "seconds", point->attend.median);
    cJSON_AddNumberToObject(row, "tflops", tflops);
    if (!point->why) {
        cJSON_AddNumberToObject(row, "naive_seconds", point->naive.median);
        cJSON_AddNumberToObject(row, "naive_tflops", naive);
        cJSON_AddNumberToObject(row, "speedup", point->naive.median / point->attend.median);
    } else {
        cJSON_AddStringToObject(row, "naive", point->why);
    }
    report *r = s->report;
    report_cell(r, "%" PRId64, p->head_dim);
    report_cell(r, "%" PRId64, p->seqlen_k);
    report_cell(r, "%s", causal);
    report_cell(r, "%" PRId64, p->batch);
    report_cell(r, "%" PRId64, p->num_heads);
    report_cell(r, "%s", time_text(point->attend.median));
    report_cell(r, "%s", speed_text(tflops * 1e12));
    report_cell(r, "%s", point->why ? "–" : time_text(point->naive.median));
    report_cell(r, point->why ? "–" : "%.2f", point->naive.median / point->attend.median);
}

static attend_status run_point(sweep *s, int dim, int length, int causal)
{
    job job = {.batched = true};
    attend_problem *p = &job.problem;
    point point;
    set_problem(s, sweep_dims[dim], sweep_lengths[length], causal, p);
    job.attention.q = attend_tensor_4d(s->values.attention.q.data, p->dtype, p->batch, p->seqlen_q,
                                       p->num_heads, p->head_dim);
    job.attention.k = attend_tensor_4d(s->values.attention.k.data, p->dtype, p->batch, p->seqlen_k,
                                       p->num_kv_heads, p->head_dim);
    job.attention.v = attend_tensor_4d(s->values.attention.v.data, p->dtype, p->batch, p->seqlen_k,
                                       p->num_kv_heads, p->head_dim);
    attend_status status = bench_point(s->options, &job, &point, s->report);
    pool_free(&job.pool);
    ATTEND_TRY(status);
    const double tflops = point.outcome.flop / point.attend.median * 1e-12,
                 naive = point.why ? 0 : point.outcome.flop / point.naive.median * 1e-12;
    s->series[0].tflops[dim][causal][length] = tflops;
    s->series[1].tflops[dim][causal][length] = naive;
    snprintf(s->device, sizeof s->device, "%s", point.outcome.device);
    add_row(s, p, &point, tflops, naive);
    return ATTEND_OK;
}

/* Makes random values for the largest point; the others use their leading elements. */
static attend_status make_values(sweep *s)
{
    options one = *s->options;
    int64_t most = 0;
    for (int i = 0; i < SWEEP_DIMS * SWEEP_LENGTHS; i++) {
        attend_problem p;
        int64_t dim = sweep_dims[i % SWEEP_DIMS], seqlen = sweep_lengths[i / SWEEP_DIMS], elements;
        if (!wanted_point(s->options, dim, seqlen, false) && !wanted_point(s->options, dim, seqlen, true))
            continue;
        set_problem(s, dim, seqlen, false, &p);
        int64_t rows = p.seqlen_q == 1 ? p.num_kv_heads : p.num_heads; /* of K, the largest tensor */
        if (__builtin_mul_overflow(p.batch * seqlen, rows * dim, &elements))
            return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                    "--random asks for more elements than 63 bits can count");
        if (elements > most) most = elements;
    }
    if (most == 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "the options exclude every point of the sweep: head_dim is 64, 128 or 256, "
                                "seqlen_q 512 to 16384, or 1 and "
                                "seqlen_k 512 to 16384");
    one.shape = (random_shape){1, 1, 1, (most + 63) / 64, (most + 63) / 64, 64, 64, -1};
    one.causal_choice = CAUSAL_NOT_GIVEN;
    return job_load(&one, &s->values);
}

static attend_status run_points(sweep *s)
{
    ATTEND_TRY(make_values(s));
    for (int dim = 0; dim < SWEEP_DIMS; dim++)
        for (int causal = 0; causal < 2; causal++)
            for (int length = 0; length < SWEEP_LENGTHS; length++)
                if (wanted_point(s->options, sweep_dims[dim], sweep_lengths[length], causal))
                    ATTEND_TRY(run_point(s, dim, length, causal));
    return ATTEND_OK;
}

static attend_status run_all(sweep *s, const char *path)
{
    char title[256];
    result_file picture;
    attend_status status =
        result_open_picture(path, &picture); /* fails before the runs, which take minutes */
    if (status == ATTEND_OK) status = run_points(s);
    snprintf(title, sizeof title, "%s, %s", s->device, dtype_of(s->options));
    if (status == ATTEND_OK) status = sweep_draw(s->series, 2, title, &picture.output);
    if (status == ATTEND_OK) status = results_commit((result_file *const[]){&picture}, 1);
    result_close(&picture);
    return status;
}

attend_status bench_sweep(const options *o, report *r)
{
    static const char *const heads[] = {"head_dim", "seqlen", "mask",  "batch",        "heads",
                                        "time",     "speed",  "naive", "times as fast"};
    sweep s = {.options = o,
               .report = r,
               .series = {{.name = "attend", .colour = SWEEP_ATTEND_COLOUR},
                          {.name = "naive: three steps, scores in memory", .colour = SWEEP_NAIVE_COLOUR}}};
    const char *path = o->output ? o->output : "attend-sweep.png", *dtype = dtype_of(o);
    ATTEND_TRY(bench_on_gpu(o, &s.gpu));
    s.rows = cJSON_AddArrayToObject(r->object, "sweep");
    report_table(r, "rrlrrrrrr");
    for (int i = 0; i < 9; i++) report_cell(r, "%s", heads[i]);
    attend_status status = run_all(&s, path);
    job_free(&s.values);
    ATTEND_TRY(status);
    report_text(r, "device", "device", s.device, "%s", s.device);
    report_text(r, "dtype", "dtype", dtype, "%s", dtype);
    report_text(r, "picture", "picture", path, "%s", path);
    return ATTEND_OK;
}
