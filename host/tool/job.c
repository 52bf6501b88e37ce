/* Loads a problem from options and runs it. */
#include "tool/job.h"
#include "tool/library.h"
#include "tool/explain.h"
#include "tool/features.h"
#include "tool/measure.h"
#include "tool/pages.h"
#include "tool/progress.h"
#include "file/fail.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The causal alignment of the options. --causal without a value is accepted only if both alignments are the
   same. */
static attend_status choose_causal(const options *o, attend_causal usual, const attend_problem *p,
                                   attend_causal *causal)
{
    bool agree =
        p->seqlen_q == p->seqlen_k && !o->seqlens_k && !o->features.seqlens_q && !o->features.cu_seqlens_k;
    attend_causal bare = o->features.align_bottom_right ? ATTEND_CAUSAL_BOTTOM_RIGHT : ATTEND_CAUSAL_TOP_LEFT;
    *causal = o->causal_choice == CAUSAL_NAMED ? o->causal : o->causal_choice == CAUSAL_BARE ? bare : usual;
    if (o->causal_choice != CAUSAL_BARE || agree || o->features.align_bottom_right) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "--causal needs an alignment here, since the numbers of "
                                                     "queries and keys differ: --causal=top-left or "
                                                     "--causal=bottom-right");
}

/* Sets the remaining fields of a problem whose sizes are known. */
static attend_status settle(const options *o, attend_causal usual, job *job)
{
    ATTEND_TRY(choose_causal(o, usual, &job->problem, &job->problem.causal));
    features_set(o, &job->problem);
    return features_load(o, &job->pool, &job->problem, &job->features);
}

/* With a memory limit inputs are mapped, so that they come part by part. */
static attend_status take_array(const options *o, const char *path, attend_array *array)
{
    return o->memory_limit ? array_map(path, array) : array_load(path, array);
}

static attend_status load_layer(const options *o, job *job)
{
    attend_array array;
    attend_problem *p = &job->problem;
    attend_dtype dtype = ATTEND_F32;
    ATTEND_TRY(layer_find(o, &job->layer));
    ATTEND_TRY(take_array(o, o->input, &array));
    attend_status status = attend_array_dtype(o->input, &array, &dtype);
    if (o->dtype_given) dtype = o->dtype;
    if (status == ATTEND_OK) status = layer_load(dtype, &job->layer);
    if (status != ATTEND_OK) {
        attend_array_free(&array);
        return status;
    }
    *p = job->layer.read->problem;
    ATTEND_TRY(load_batched(&job->pool, o->input, &array, p->dtype, 3, &job->inputs.x, &job->batched));
    const attend_tensor *x = &job->inputs.x;
    p->batch = x->shape[0], p->seqlen_q = p->seqlen_k = x->shape[1];
    ATTEND_TRY(features_pack(o, &job->pool, p, &job->features));
    if (x->shape[2] != p->hidden_size)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s has %" PRId64 " columns, but the layer takes %" PRId64, o->input,
                                x->shape[2], p->hidden_size);
    ATTEND_TRY(layer_load_table(o->features.position_table, &job->pool, p, &job->layer));
    job->features.sinks = job->layer.read->sinks;
    job->features.alibi_slopes = job->layer.read->alibi_slopes;
    job->features.relative_table = job->layer.read->relative_table;
    return settle(o, p->causal, job);
}

static attend_status load_tensors(const options *o, job *job)
{
    const char *const paths[] = {o->q, o->k, o->v};
    attend_tensor *const tensors[] = {&job->attention.q, &job->attention.k, &job->attention.v};
    attend_problem *p = &job->problem;
    for (int i = 0; i < (o->v ? 3 : 2); i++) {
        attend_array array;
        attend_dtype dtype = p->dtype;
        bool given;
        ATTEND_TRY(take_array(o, paths[i], &array));
        attend_status status = attend_array_dtype(paths[i], &array, &dtype);
        if (i == 0) p->dtype = o->dtype_given ? o->dtype : dtype;
        if (status == ATTEND_OK && !o->dtype_given && dtype != p->dtype)
            status =
                attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is %s, but %s is %s; --dtype converts",
                                 paths[i], attend_dtype_name(dtype), paths[0], attend_dtype_name(p->dtype));
        if (status != ATTEND_OK) {
            attend_array_free(&array);
            return status;
        }
        ATTEND_TRY(load_batched(&job->pool, paths[i], &array, p->dtype, 4, tensors[i], &given));
        if (i == 0) job->batched = given;
    }
    const int64_t *q = job->attention.q.shape, *k = job->attention.k.shape, *v = job->attention.v.shape;
    p->batch = q[0], p->seqlen_q = q[1], p->num_heads = q[2], p->head_dim = q[3];
    p->seqlen_k = k[1], p->num_kv_heads = k[2], p->head_dim_v = o->v ? v[3] : q[3];
    p->softmax_scale = o->scale;
    ATTEND_TRY(features_pack(o, &job->pool, p, &job->features));
    if (p->num_kv_heads == 0 || p->head_dim_v == 0) /* the library reads 0 as the default */
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has no %s",
                                p->num_kv_heads ? (o->v ? o->v : o->q) : o->k,
                                p->num_kv_heads ? "columns" : "heads");
    return settle(o, ATTEND_CAUSAL_NONE, job);
}

/* A copy of the problem with the batch and lengths of its tensors: packed tensors have one batch entry with
   all rows. */
static attend_problem as_stored(const attend_problem *p)
{
    attend_problem stored = *p;
    if (p->packed) stored.batch = 1, stored.seqlen_q = p->total_q, stored.seqlen_k = p->total_k;
    return stored;
}

/* A random layer of width --random hidden. Weights are scaled so that projections keep the size of their
   input's values. */
static attend_status make_random_layer(const options *o, job *job)
{
    attend_problem *p = &job->problem;
    attend_layer_weights *w = &job->layer.weights;
    const int64_t q = p->num_heads * p->head_dim, k = p->num_kv_heads * p->head_dim,
                  v = p->num_kv_heads * p->head_dim_v, out = p->num_heads * p->head_dim_v;
    const struct {
        const char *name;
        attend_tensor *tensor;
        int64_t rows, columns;
    } weights[] = {{"wq", &w->wq, q, o->shape.hidden},
                   {"wk", &w->wk, k, o->shape.hidden},
                   {"wv", &w->wv, v, o->shape.hidden},
                   {"wo", &w->wo, o->shape.hidden, out}};
    if (p->seqlen_q != p->seqlen_k || p->packed)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "--random hidden is a layer of self-attention: it "
                                "takes seqlen_q, no seqlen_k, and no packed sequences");
    job->is_layer = true;
    p->hidden_size = p->output_size = o->shape.hidden;
    const int64_t x[] = {p->batch, p->seqlen_q, p->hidden_size};
    ATTEND_TRY(pool_tensor(&job->pool, "x", p->dtype, 3, x, &job->inputs.x));
    attend_values_gauss(o->seed, 1, &job->inputs.x);
    for (int i = 0; i < 4; i++) {
        const int64_t shape[] = {weights[i].rows, weights[i].columns};
        ATTEND_TRY(pool_tensor(&job->pool, weights[i].name, p->dtype, 2, shape, weights[i].tensor));
        attend_values_gauss(o->seed + 1 + (uint64_t)i, (float)(1 / sqrt((double)weights[i].columns)),
                            weights[i].tensor);
    }
    return ATTEND_OK;
}

/* Defaults: batch 1, 8 heads of 64, 1024 queries and keys. */
static attend_status make_random(const options *o, job *job)
{
    attend_problem *p = &job->problem;
    const random_shape *s = &o->shape;
    p->dtype = o->dtype_given ? o->dtype : ATTEND_F32;
    p->batch = s->batch >= 0 ? s->batch : 1;
    p->num_heads = s->heads >= 0 ? s->heads : 8;
    p->num_kv_heads = s->kv_heads >= 0 ? s->kv_heads : p->num_heads;
    p->seqlen_q = s->seqlen_q >= 0 ? s->seqlen_q : s->seqlen_k >= 0 ? s->seqlen_k : 1024;
    p->seqlen_k = s->seqlen_k >= 0 ? s->seqlen_k : p->seqlen_q;
    p->head_dim = s->head_dim >= 0 ? s->head_dim : 64;
    p->head_dim_v = s->head_dim_v >= 0 ? s->head_dim_v : p->head_dim;
    p->softmax_scale = o->scale;
    job->batched = true;
    ATTEND_TRY(features_pack(o, &job->pool, p, &job->features));
    if (p->num_heads % p->num_kv_heads)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "--random: heads (%" PRId64 ") is not a multiple of kv_heads (%" PRId64 ")",
                                p->num_heads, p->num_kv_heads);
    ATTEND_TRY(settle(o, ATTEND_CAUSAL_NONE, job));
    if (o->shape.hidden >= 0) return make_random_layer(o, job);
    const attend_problem in = as_stored(p);
    const int64_t q[] = {in.batch, in.seqlen_q, p->num_heads, p->head_dim},
                  k[] = {in.batch, in.seqlen_k, p->num_kv_heads, p->head_dim};
    const int64_t v[] = {in.batch, in.seqlen_k, p->num_kv_heads, p->head_dim_v};
    ATTEND_TRY(pool_tensor(&job->pool, "q", p->dtype, 4, q, &job->attention.q));
    ATTEND_TRY(pool_tensor(&job->pool, "k", p->dtype, 4, k, &job->attention.k));
    ATTEND_TRY(pool_tensor(&job->pool, "v", p->dtype, 4, v, &job->attention.v));
    attend_tensor *const tensors[] = {&job->attention.q, &job->attention.k, &job->attention.v};
    for (int i = 0; i < 3; i++) { /* values_fill() works on any strides */
        attend_tensor *t = tensors[i];
        t->stride[3] = 1;
        for (int axis = 2; axis >= 0; axis--) t->stride[axis] = t->stride[axis + 1] * t->shape[axis + 1];
    }
    attend_values_fill(o->values, o->seed, &in, &job->attention.q, &job->attention.k, &job->attention.v);
    return ATTEND_OK;
}

attend_status job_load(const options *o, job *job)
{
    memset(job, 0, sizeof *job);
    progress_stage("reading");
    if (o->weights) {
        job->is_layer = true;
        return load_layer(o, job);
    }
    ATTEND_TRY(o->q ? load_tensors(o, job) : make_random(o, job));
    return o->page_size ? pages_make(o, job) : ATTEND_OK;
}

void job_free(job *job)
{
    layer_free(&job->layer);
    pool_free(&job->pool);
}

/* In its file, or in memory. */
static attend_status make_result(job *job, result_file *file, const char *name, attend_dtype dtype, int rank,
                                 const int64_t *shape, attend_tensor *tensor)
{
    bool made = false;
    if (file) ATTEND_TRY(result_map(file, &job->pool, name, dtype, rank, shape, job->batched, tensor, &made));
    return made ? ATTEND_OK : pool_tensor(&job->pool, name, dtype, rank, shape, tensor);
}

attend_status job_allocate(job *job, const wanted *wanted, outcome *outcome)
{
    const attend_problem stored = as_stored(&job->problem), *p = &stored;
    const int64_t lse[] = {p->batch, p->num_heads, p->seqlen_q},
                  out[] = {p->batch, p->seqlen_q, p->output_size};
    const int64_t q[] = {p->batch, p->seqlen_q, p->num_heads, p->head_dim},
                  k[] = {p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim};
    const int64_t v[] = {p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim_v},
                  heads[] = {p->batch, p->seqlen_q, p->num_heads, p->head_dim_v};
    memset(outcome, 0, sizeof *outcome);
    if (wanted->lse) ATTEND_TRY(make_result(job, wanted->files[1], "lse", ATTEND_F32, 3, lse, &outcome->lse));
    ATTEND_TRY(job->is_layer
                   ? make_result(job, wanted->files[0], "output", p->dtype, 3, out, &outcome->out)
                   : make_result(job, wanted->files[0], "output", p->dtype, 4, heads, &outcome->out));
    if (!job->is_layer || !wanted->stages) return ATTEND_OK;
    ATTEND_TRY(pool_tensor(&job->pool, "q", p->dtype, 4, q, &outcome->q));
    ATTEND_TRY(pool_tensor(&job->pool, "k", p->dtype, 4, k, &outcome->k));
    ATTEND_TRY(pool_tensor(&job->pool, "v", p->dtype, 4, v, &outcome->v));
    return pool_tensor(&job->pool, "heads", p->dtype, 4, heads, &outcome->heads);
}

/* What lies behind is no longer needed in memory, and what lies ahead is not there yet; where a file is read
   several times, it comes again. */
static bool pass(void *user, int64_t done, int64_t total)
{
    passing *p = user;
    const double passed = p->bytes * (double)done / (double)total;
    if (p->each > 0 && passed - p->released >= p->each) {
        pool_release(p->pool);
        p->released = passed;
    }
    return progress_show(NULL, done, total);
}

attend_status job_open(const job *job, const wanted *wanted, running *running, outcome *outcome)
{
    const attend_context_options options = {.device = wanted->device,
                                            .threads = wanted->threads,
                                            .strict = wanted->strict,
                                            .progress = wanted->timed ? NULL : pass,
                                            .progress_user = &running->passing};
    const attend_plan_options plan_options = {.backward = wanted->backward,
                                              .host_tensors = wanted->resident ? 0 : ATTEND_HOST_ALL,
                                              .memory_limit_bytes = (size_t)wanted->memory_limit,
                                              .least_bytes = &outcome->least_bytes};
    attend_problem problem = job->problem;
    memset(running, 0, sizeof *running);
    progress_stage("planning");
    ATTEND_TRY(from_library(attend_context_create(&options, &running->context)));
    snprintf(outcome->device, sizeof outcome->device, "%s", attend_context_device_name(running->context));
    if (job->cache.k.data && attend_context_device(running->context) == ATTEND_CUDA)
        ATTEND_TRY(device_cache_make(&job->cache, &running->pages));
    double begin = seconds_now();
    if (job->is_layer)
        ATTEND_TRY(from_library(attend_layer_plan_with(running->context, &problem, &job->layer.weights,
                                                       &plan_options, &running->plan)));
    else
        ATTEND_TRY(from_library(
            attend_attention_plan_with(running->context, &problem, &plan_options, &running->plan)));
    outcome->plan_seconds = seconds_now() - begin;
    snprintf(outcome->kernel, sizeof outcome->kernel, "%s", attend_plan_kernel(running->plan));
    const attend_lists lists = job_lists(job);
    attend_explanation *const e = &outcome->explanation;
    ATTEND_TRY(from_library(attend_plan_explain(running->plan, &lists, e)));
    outcome->flop = e->flops, outcome->bytes = e->bytes;
    for (int i = 0; i < e->projection_count; i++) {
        outcome->flop += e->projections[i].flops;
        outcome->bytes += e->projections[i].bytes;
    }
    const double moved = e->bytes_to_device + e->bytes_to_host;
    running->passing =
        (passing){&job->pool, moved > 0 ? moved : outcome->bytes, (double)wanted->memory_limit / 8, 0};
    if (wanted->explain) ATTEND_TRY(explain_report(running->plan, &lists, wanted->explain));
    return from_library(attend_plan_memory_usage(running->plan, &outcome->memory));
}

attend_status job_run(const job *job, const running *running, outcome *outcome)
{
    const attend_attention_args attention = running_attention_args(job, running, outcome);
    const attend_layer_args layer = job_layer_args(job, outcome);
    double begin = seconds_now();
    if (job->is_layer)
        ATTEND_TRY(from_library(attend_layer_forward(running->plan, &layer)));
    else
        ATTEND_TRY(from_library(attend_attention_forward(running->plan, &attention)));
    ATTEND_TRY(from_library(attend_synchronize(running->context)));
    outcome->seconds = seconds_now() - begin;
    return ATTEND_OK;
}

void job_close(running *running)
{
    attend_plan_destroy(running->plan);
    attend_context_destroy(running->context);
    device_args_free(&running->pages);
    memset(running, 0, sizeof *running);
}

attend_status job_compute(job *job, const wanted *wanted, outcome *outcome)
{
    running running;
    ATTEND_TRY(job_allocate(job, wanted, outcome));
    attend_status status = job_open(job, wanted, &running, outcome);
    progress_stage("attention on %s", outcome->device);
    progress_bytes(running.passing.bytes);
    if (status == ATTEND_OK) status = job_run(job, &running, outcome);
    job_close(&running);
    return status;
}

attend_lists job_lists(const job *job)
{
    const attend_feature_args *a = &job->features;
    return (attend_lists){a->seqlens_q, a->seqlens_k, a->starts_k, a->cu_seqlens_q, a->cu_seqlens_k};
}

attend_attention_args job_attention_args(const job *job, const outcome *outcome)
{
    attend_attention_args args = job->attention;
    args.out = outcome->out, args.lse = outcome->lse;
    args.features = &job->features;
    if (job->cache.k.data) args.k = args.v = (attend_tensor){0}, args.cache = &job->cache;
    return args;
}

attend_attention_args running_attention_args(const job *job, const running *running, const outcome *outcome)
{
    attend_attention_args args = job_attention_args(job, outcome);
    if (running->pages.cache.k.data) args.cache = &running->pages.cache;
    return args;
}

attend_layer_args job_layer_args(const job *job, const outcome *outcome)
{
    attend_layer_args args = job->inputs;
    args.out = outcome->out, args.lse = outcome->lse;
    args.features = &job->features;
    args.q = outcome->q, args.k = outcome->k, args.v = outcome->v, args.heads = outcome->heads;
    return args;
}
