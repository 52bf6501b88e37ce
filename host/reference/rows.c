/* Walks all rows of an attention problem: keys loaded once per KV head, queries spread over threads. */
#include "reference.h"
#include "../problem.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* One thread's memory: a query, scratch, and the five arrays of a row. */
static double *worker_memory(const attend_problem *p)
{
    int64_t doubles = p->head_dim + attend_reference_scratch(p, p->seqlen_k) + 5 * p->head_dim_v;
    return malloc((size_t)doubles * sizeof(double));
}

static void one_row(const attend_reference_keys *keys, int64_t h, int64_t i, double *memory, attend_reference_take *take, void *job)
{
    const attend_problem *p = keys->problem;
    const attend_tensor *q = &keys->args->q;
    int64_t b = p->packed ? 0 : keys->batch, place = keys->first_q + i; /* in the tensors */
    double *scratch = memory + p->head_dim, *arrays = scratch + attend_reference_scratch(p, p->seqlen_k);
    int64_t dv = p->head_dim_v;
    attend_reference_row row = {.out = arrays, .bound = arrays + dv, .baseline = arrays + 2 * dv, .magnitude = arrays + 3 * dv,
                                .spread = arrays + 4 * dv};
    for (int64_t c = 0; c < p->head_dim && i < keys->seqlen_q; c++) /* q past its length is never read */
        memory[c] = attend_load(q, b * q->stride[0] + place * q->stride[1] + h * q->stride[2] + c * q->stride[3]);
    attend_reference_attend(keys, h, i, memory, scratch, &row);
    take(job, b, h, place, &row);
}

static bool one_kv_head(const attend_problem *p, const attend_attention_args *args, int64_t b, int64_t kv_head, int threads,
                        attend_watch *watch, attend_reference_take *take, void *job)
{
    attend_reference_keys keys;
    bool complete = true;
    if (!attend_reference_keys_load(&keys, p, args, b, kv_head)) return false;
    int64_t group = p->num_heads / p->num_kv_heads, queries = p->packed ? keys.seqlen_q : p->seqlen_q, rows = group * queries;
#pragma omp parallel num_threads(threads) reduction(&& : complete)
    {
        double *memory = worker_memory(p);
        complete = memory != NULL;
#pragma omp for schedule(dynamic, 8)
        for (int64_t r = 0; r < rows; r++) {
            if (!memory || !attend_watch_goes_on(watch)) continue;
            one_row(&keys, kv_head * group + r / queries, r % queries, memory, take, job);
            attend_watch_count(watch, 1, omp_get_thread_num() == 0);
        }
        free(memory);
    }
    attend_reference_keys_free(&keys);
    return complete;
}

bool attend_reference_attention(const attend_problem *p, const attend_attention_args *args, int threads,
                                attend_watch *watch, attend_reference_take *take, void *job)
{
    attend_watch_stage(watch, watch->work.attention, attend_tensor_batch(p) * attend_rows_q(p) * p->num_heads);
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t kv_head = 0; kv_head < p->num_kv_heads && attend_watch_goes_on(watch); kv_head++)
            if (!one_kv_head(p, args, b, kv_head, threads, watch, take, job)) return false;
    return true;
}
