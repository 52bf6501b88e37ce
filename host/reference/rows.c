/* Computes all rows of an attention problem: keys are loaded once a KV head, queries are distributed over
   threads. */
#include "reference/reference.h"
#include "core/problem.h"

#include <stdlib.h>
#include <string.h>

/* One thread's memory: a query, scratch, and the five arrays of a row. */
static int64_t worker_doubles(const attend_problem *p)
{
    return p->head_dim + attend_reference_scratch(p, p->seqlen_k) + 5 * p->head_dim_v;
}

static void one_row(const attend_reference_keys *keys, int64_t first_query, int64_t h, int64_t i,
                    double *memory, attend_reference_take *take, void *job)
{
    const attend_problem *p = keys->problem;
    const attend_tensor *q = &keys->args->q;
    int64_t b = p->packed ? 0 : keys->batch,
            tensor_row = keys->first_q + i - first_query; /* row in the tensors */
    double *scratch = memory + p->head_dim, *arrays = scratch + attend_reference_scratch(p, p->seqlen_k);
    int64_t dv = p->head_dim_v;
    attend_reference_row row = {.out = arrays,
                                .bound = arrays + dv,
                                .baseline = arrays + 2 * dv,
                                .magnitude = arrays + 3 * dv,
                                .spread = arrays + 4 * dv};
    for (int64_t c = 0; c < p->head_dim && i < keys->seqlen_q; c++) /* q past its length is not read */
        memory[c] = attend_load(q, b * q->stride[0] + tensor_row * q->stride[1] + h * q->stride[2] +
                                       c * q->stride[3]);
    attend_reference_attend(keys, h, i, memory, scratch, &row);
    take(job, b, h, tensor_row, &row);
}

/* The rows of one KV head */
typedef struct rows_job {
    attend_reference_keys keys;
    int64_t first_head, first_query, queries;
    attend_progress_tracker *tracker;
    attend_reference_take *take;
    void *job;
} rows_job;

static void compute_row(void *job, int64_t r, int thread, double *memory)
{
    const rows_job *j = job;
    if (!attend_progress_continues(j->tracker)) return;
    one_row(&j->keys, j->first_query, j->first_head + r / j->queries, j->first_query + r % j->queries, memory,
            j->take, j->job);
    attend_progress_count(j->tracker, 1, thread == 0);
}

static bool one_kv_head(const attend_problem *p, const attend_attention_args *args,
                        const attend_key_part *part, int64_t b, int64_t kv_head, int threads,
                        attend_progress_tracker *tracker, attend_reference_take *take, void *job)
{
    rows_job j = {.tracker = tracker, .take = take, .job = job};
    if (!attend_reference_keys_load(&j.keys, p, args, part, b, kv_head)) return false;
    const int64_t group = p->num_heads / p->num_kv_heads;
    j.first_head = kv_head * group, j.first_query = part->first_query;
    j.queries = p->packed ? j.keys.seqlen_q : part->end_query - part->first_query;
    const double work =
        4.0 * (double)(group * j.queries) * (double)p->seqlen_k * (double)(p->head_dim + p->head_dim_v);
    const bool complete =
        attend_reference_spread(threads, group * j.queries, work, worker_doubles(p), compute_row, &j);
    attend_reference_keys_free(&j.keys);
    return complete;
}

bool attend_reference_attention(const attend_problem *p, const attend_attention_args *args,
                                const attend_key_part *part, int threads, attend_progress_tracker *tracker,
                                attend_reference_take *take, void *job)
{
    attend_progress_stage(tracker, tracker->work.attention,
                          attend_tensor_batch(p) * attend_rows_q(p) * p->num_heads);
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t kv_head = 0; kv_head < p->num_kv_heads && attend_progress_continues(tracker); kv_head++)
            if (!one_kv_head(p, args, part, b, kv_head, threads, tracker, take, job)) return false;
    return true;
}
