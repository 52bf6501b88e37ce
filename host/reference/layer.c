/* A whole layer by its definition: three projections, attention, one more projection. */
#include "reference/reference.h"
#include "core/arguments.h"
#include "core/cache.h"
#include "core/problem.h"
#include "shared/positions.h"

#include <stdlib.h>
#include <string.h>

attend_tensor attend_reference_view(double *data, int64_t batch, int64_t seqlen, int64_t heads, int64_t dim)
{
    attend_tensor t = attend_tensor_4d(data, ATTEND_REFERENCE_F64, batch, seqlen, heads, dim);
    memcpy(t.stride, (int64_t[]){seqlen * heads * dim, heads * dim, dim, 1}, sizeof t.stride);
    return t;
}

/* Heads concatenated: [batch, seqlen, heads·dim]. */
static attend_tensor join(const attend_tensor *t)
{
    attend_tensor rows =
        attend_tensor_3d(t->data, t->dtype, t->shape[0], t->shape[1], t->shape[2] * t->shape[3]);
    memcpy(rows.stride, (int64_t[]){t->stride[0], t->stride[1], 1, 0}, sizeof rows.stride);
    return rows;
}

static bool allocate(attend_tensor *t, int64_t batch, int64_t seqlen, int64_t heads, int64_t dim)
{
    double *data = malloc((size_t)(batch * seqlen * heads * dim + 1) * sizeof(double));
    *t = attend_reference_view(data, batch, seqlen, heads, dim);
    return data != NULL;
}

typedef struct attention_job {
    const attend_reference_layer *layer;
    attend_reference_rounding rounding;
    attend_dtype dtype;
    int64_t columns;
} attention_job;

static void round_all(double *y, int64_t count, attend_dtype dtype)
{
    for (int64_t i = 0; i < count; i++) y[i] = attend_round(y[i], dtype);
}

static void store_row(void *job, int64_t b, int64_t h, int64_t i, const attend_reference_row *row)
{
    const attention_job *j = job;
    const attend_tensor *heads = &j->layer->heads, *lse = &j->layer->lse;
    int64_t at = b * heads->stride[0] + i * heads->stride[1] + h * heads->stride[2];
    double *to = (double *)heads->data + at;
    memcpy(to, j->rounding == ATTEND_REFERENCE_BASELINE ? row->baseline : row->out,
           (size_t)j->columns * sizeof(double));
    if (j->rounding == ATTEND_REFERENCE_STORED) round_all(to, j->columns, j->dtype);
    if (lse->data) attend_store(lse, b * lse->stride[0] + h * lse->stride[1] + i * lse->stride[2], row->lse);
}

/* What the stages of one run share */
typedef struct running {
    const attend_problem *problem;
    attend_reference_rounding rounding;
    int threads;
    attend_progress_tracker *tracker;
} running;

static bool project(const running *run, int index, const attend_tensor *x, const attend_tensor *weight,
                    const attend_tensor *bias, const attend_tensor *y, double *magnitude)
{
    const bool baseline = run->rounding == ATTEND_REFERENCE_BASELINE;
    attend_reference_projection to = {
        .exact = baseline ? NULL : y->data, .baseline = baseline ? y->data : NULL, .magnitude = magnitude};
    attend_progress_stage(run->tracker, run->tracker->work.projections[index], x->shape[0] * x->shape[1]);
    return attend_reference_project(x, weight, bias, run->problem->dtype, run->threads, run->tracker, &to);
}

static int64_t elements(const attend_tensor *t)
{
    return t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3];
}

static void copy_row(const attend_tensor *to, int64_t b, int64_t i, const attend_tensor *from,
                     attend_key_slot row)
{
    for (int64_t h = 0; h < to->shape[2]; h++)
        for (int64_t c = 0; c < to->shape[3]; c++)
            ((double *)to->data)[b * to->stride[0] + i * to->stride[1] + h * to->stride[2] + c] = attend_load(
                from, row.entry * from->stride[0] + row.row * from->stride[1] + h * from->stride[2] + c);
}

/* The keys that the cache had before the run, and the new ones. */
static void join_cache(const attend_problem *p, const attend_layer_args *args, attend_reference_layer *r)
{
    const attend_cache *cache = args->cache;
    const attend_key_layout slots = attend_key_layout_of(&cache->k, &cache->block_table);
    for (int64_t b = 0; b < p->batch; b++) {
        const int64_t before = cache->seqlens ? cache->seqlens[b] : 0,
                      tokens = attend_length(args->features->seqlens_q, b, p->seqlen_q);
        const attend_sequence s = {.batch = b};
        for (int64_t j = 0; j < before + tokens; j++) {
            const bool is_new = j >= before;
            const attend_key_slot row =
                is_new ? (attend_key_slot){b, j - before} : attend_slot_of(&slots, &s, j);
            copy_row(&r->all_k, b, j, is_new ? &r->k : &cache->k, row);
            copy_row(&r->all_v, b, j, is_new ? &r->v : &cache->v, row);
        }
    }
}

bool attend_reference_run_layer(const attend_problem *p, const attend_layer_weights *w,
                                const attend_layer_args *args, attend_reference_rounding rounding,
                                int threads, attend_progress_tracker *tracker, attend_reference_layer *r)
{
    memset(r, 0, sizeof *r);
    r->lse = args->lse;
    const bool baseline = rounding == ATTEND_REFERENCE_BASELINE;
    int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p), rows_k = attend_rows_projected(p);
    if (!allocate(&r->q, batch, rows_q, p->num_heads, p->head_dim) ||
        !allocate(&r->k, batch, rows_k, p->num_kv_heads, p->head_dim) ||
        !allocate(&r->v, batch, rows_k, p->num_kv_heads, p->head_dim_v) ||
        !allocate(&r->heads, batch, rows_q, p->num_heads, p->head_dim_v) ||
        !allocate(&r->out, batch, rows_q, 1, p->output_size) ||
        !allocate(&r->magnitude, batch, rows_q, 1, p->output_size) ||
        (args->cache && (!allocate(&r->all_k, batch, p->seqlen_k, p->num_kv_heads, p->head_dim) ||
                         !allocate(&r->all_v, batch, p->seqlen_k, p->num_kv_heads, p->head_dim_v))))
        return false;
    if (p->absolute && !attend_reference_add_positions(p, w, args, rounding != ATTEND_REFERENCE_EXACT,
                                                       &r->x_with_positions, NULL))
        return false;
    const attend_tensor *x = p->absolute ? &r->x_with_positions : &args->x,
                        *source = p->context_hidden_size ? &args->context : x;
    const attend_attention_args attention = {.q = r->q,
                                             .k = args->cache ? r->all_k : r->k,
                                             .v = args->cache ? r->all_v : r->v,
                                             .features = args->features};
    const attend_row_positions row_positions = attend_row_positions_of(p, args->features, args->cache);
    attend_tensor joined = join(&r->heads);
    attention_job job = {r, rounding, p->dtype, p->head_dim_v};
    const attend_key_part all = attend_all_keys(p);
    const running run = {p, rounding, threads, tracker};
    bool complete = project(&run, 0, x, &w->wq, &w->bq, &r->q, NULL) &&
                    project(&run, 1, source, &w->wk, &w->bk, &r->k, NULL) &&
                    project(&run, 2, source, &w->wv, &w->bv, &r->v, NULL);
    if (!complete || !attend_progress_continues(tracker)) return complete;
    attend_reference_rope_all(p, &row_positions, &w->q_norm, &w->q_norm_bias, p->num_heads, baseline,
                              r->q.data, NULL);
    attend_reference_rope_all(p, &row_positions, &w->k_norm, &w->k_norm_bias, p->num_kv_heads, baseline,
                              r->k.data, NULL);
    attend_tensor *const stored[] = {&r->q, &r->k, &r->v};
    for (int i = 0; i < 3 && rounding == ATTEND_REFERENCE_STORED; i++)
        round_all(stored[i]->data, elements(stored[i]), p->dtype);
    if (args->cache) join_cache(p, args, r);
    return attend_reference_attention(p, &attention, &all, threads, tracker, store_row, &job) &&
           project(&run, 3, &joined, &w->wo, &w->bo, &r->out, r->magnitude.data);
}

void attend_reference_free_layer(attend_reference_layer *r)
{
    free(r->x_with_positions.data), free(r->q.data), free(r->k.data), free(r->v.data), free(r->heads.data),
        free(r->out.data), free(r->magnitude.data), free(r->all_k.data), free(r->all_v.data);
}
