/* attend inspect: runs a layer or attention once, inspects its weights, reports and draws them. */
#include "tool/inspect.h"
#include "tool/library.h"
#include "tool/commands.h"
#include "tool/measure.h"
#include "tool/progress.h"
#include "file/fail.h"

#include <inttypes.h>

/* The rows of a batch entry or packed sequence; `entry` is in range. */
static entry_rows find_entry(const job *job, int64_t entry)
{
    const attend_problem *p = &job->problem;
    const int64_t *cu_q = job->features.cu_seqlens_q, *cu_k = job->features.cu_seqlens_k;
    if (!p->packed) return (entry_rows){p->batch, p->seqlen_q, entry, 0, 0, p->seqlen_q, p->seqlen_k};
    return (entry_rows){1,
                        p->total_q,
                        0,
                        cu_q[entry],
                        cu_k[entry],
                        cu_q[entry + 1] - cu_q[entry],
                        cu_k[entry + 1] - cu_k[entry]};
}

static attend_status check_place(const char *option, int64_t value, int64_t limit)
{
    if (value < limit) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is %" PRId64 ", but the last one is %" PRId64,
                            option, value, limit - 1);
}

/* Checks that the requested entry, head, queries and part of the map exist; finds the entry's rows. */
static attend_status check(const options *o, inspection *s)
{
    const inspect_options *i = &o->inspect;
    const attend_problem *p = &s->job.problem;
    const entry_rows *e = &s->entry;
    if (p->batch > 0) ATTEND_TRY(check_place("--entry", i->entry, p->batch));
    if (p->batch > 0) s->entry = find_entry(&s->job, i->entry);
    if (e->queries == 0 || e->keys == 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "there is nothing to inspect: batch %" PRId64 ", %" PRId64
                                " queries, %" PRId64 " keys",
                                p->batch, e->queries, e->keys);
    ATTEND_TRY(check_place("--head", i->head, p->num_heads));
    ATTEND_TRY(check_place("--map: the first query", i->first_query, e->queries));
    ATTEND_TRY(check_place("--map: the first key", i->first_key, e->keys));
    ATTEND_TRY(check_place("--map: the last query", i->end_query - 1, e->queries));
    ATTEND_TRY(check_place("--map: the last key", i->end_key - 1, e->keys));
    for (int n = 0; n < i->query_count; n++) {
        if (i->queries[n] >= e->queries)
            return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                    "--queries has %" PRId64 ", but the last query is %" PRId64,
                                    i->queries[n], e->queries - 1);
        s->queries[n] = e->first_q + i->queries[n];
    }
    if (i->rows && i->query_count == 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--rows needs --queries");
    return ATTEND_OK;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static attend_status allocate(inspection *s, attend_inspection *want)
{
    const attend_problem *p = &s->job.problem;
    const inspect_options *o = s->options;
    const entry_rows *e = &s->entry;
    pool *pool = &s->job.pool;
    int64_t map_queries = (o->end_query ? o->end_query : e->queries) - o->first_query;
    int64_t map_keys = (o->end_key ? o->end_key : e->keys) - o->first_key;
    const int64_t top[] = {e->batch, p->num_heads, e->rows, o->top},
                  mass[] = {e->batch, p->num_heads, e->rows, o->region_count};
    const int64_t weights[] = {e->batch, p->num_heads, o->query_count, p->seqlen_k},
                  distance[] = {p->batch, p->num_heads};
    const int64_t map[] = {p->batch, p->num_heads, least(o->tiles, map_queries), least(o->tiles, map_keys)};
    ATTEND_TRY(pool_tensor(pool, "the top keys", ATTEND_I64, 4, top, &s->top_keys));
    ATTEND_TRY(pool_tensor(pool, "their weights", ATTEND_F32, 4, top, &s->top_weights));
    ATTEND_TRY(pool_tensor(pool, "the entropy", ATTEND_F32, 3, top, &s->entropy));
    ATTEND_TRY(pool_tensor(pool, "the regions' mass", ATTEND_F32, 4, mass, &s->mass));
    ATTEND_TRY(pool_tensor(pool, "the distances", ATTEND_F32, 2, distance, &s->distance));
    ATTEND_TRY(pool_tensor(pool, "the queries' weights", ATTEND_F32, 4, weights, &s->weights));
    ATTEND_TRY(pool_tensor(pool, "the map", ATTEND_F32, 4, map, &s->map));
    *want = (attend_inspection){.top_keys = s->top_keys,
                                .top_weights = s->top_weights,
                                .entropy = s->entropy,
                                .mass = s->mass,
                                .windows = o->regions,
                                .num_windows = o->region_count,
                                .distance = s->distance,
                                .weights = s->weights,
                                .queries = s->queries,
                                .num_queries = o->query_count,
                                .map = s->map,
                                .first_query = o->first_query,
                                .map_queries = map_queries,
                                .first_key = o->first_key,
                                .map_keys = map_keys};
    return ATTEND_OK;
}

static attend_status inspect_outcome(inspection *s, const wanted *wanted)
{
    running running;
    attend_inspection want;
    const bool runs =
        s->job.is_layer || s->job.attention.v.data; /* without V there is no output to compute */
    ATTEND_TRY(allocate(s, &want));
    if (runs) ATTEND_TRY(job_allocate(&s->job, wanted, &s->outcome));
    attend_status status = job_open(&s->job, wanted, &running, &s->outcome);
    progress_stage("attention on %s", s->outcome.device);
    if (status == ATTEND_OK && runs) status = job_run(&s->job, &running, &s->outcome);
    if (status == ATTEND_OK) {
        const attend_attention_args attention = job_attention_args(&s->job, &s->outcome);
        const attend_layer_args layer = job_layer_args(&s->job, &s->outcome);
        double begin = seconds_now();
        int64_t before = memory_now_bytes();
        memory_peak_reset();
        progress_stage("inspection");
        status = from_library(s->job.is_layer ? attend_layer_inspect(running.plan, &layer, &want)
                                              : attend_attention_inspect(running.plan, &attention, &want));
        s->seconds = seconds_now() - begin;
        s->grew_bytes = memory_peak_bytes() - before;
    }
    job_close(&running);
    return status;
}

typedef struct inspection_files {
    result_file rows, map, picture;
} inspection_files;

static attend_status open_files(const options *o, inspection_files *f)
{
    ATTEND_TRY(result_open(o->inspect.rows, ATTEND_F32, &f->rows));
    ATTEND_TRY(result_open(o->inspect.map_output, ATTEND_F32, &f->map));
    return result_open_picture(o->output, &f->picture);
}

static attend_status write_files(const inspection *s, inspection_files *f)
{
    ATTEND_TRY(result_write(&f->rows, "weights", &s->weights, true));
    ATTEND_TRY(result_write(&f->map, "map", &s->map, true));
    if (f->picture.path) ATTEND_TRY(inspect_draw(s, &f->picture.output));
    return results_commit((result_file *const[]){&f->rows, &f->map, &f->picture}, 3);
}

static void close_files(inspection_files *f)
{
    result_close(&f->rows);
    result_close(&f->map);
    result_close(&f->picture);
}

static attend_status inspect(const options *o, inspection *s, report *r)
{
    const attend_problem *p = &s->job.problem;
    const wanted wanted = {.device = o->device,
                           .threads = o->threads,
                           .strict = o->strict,
                           .lse = true,
                           .stages = s->job.is_layer};
    inspection_files files = {.rows = {0}};
    ATTEND_TRY(check(o, s));
    if (o->inspect.tokens)
        ATTEND_TRY(tokens_load(o->inspect.tokens, p->packed ? p->total_k : p->seqlen_k, s));
    attend_status status = open_files(o, &files);
    if (status == ATTEND_OK) status = inspect_outcome(s, &wanted);
    if (status == ATTEND_OK) status = write_files(s, &files);
    close_files(&files);
    ATTEND_TRY(status);
    job_report(&s->job, r);
    inspect_report(s, r);
    if (o->output) report_text(r, "output", "picture", o->output, "%s", o->output);
    return ATTEND_OK;
}

attend_status command_inspect(const options *o, report *r)
{
    inspection s = {.options = &o->inspect};
    attend_status status = job_load(o, &s.job);
    if (status == ATTEND_OK) status = inspect(o, &s, r);
    job_free(&s.job);
    return status;
}
