/* The reference as a backend: exact fp64 results, rounded once to storage; for layers after each stage, as
   callers see the stages. */
#include "core/positions.h"
#include "shared/absolute.h"
#include "core/append.h"
#include "core/arguments.h"
#include "core/layer_arguments.h"
#include "core/backend.h"
#include "core/cache.h"
#include "reference/reference.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A context's state pointer holds its number of threads. */
static int threads_of(const attend_plan *plan) { return (int)(intptr_t)plan->context->state; }

static attend_status context_create(const attend_context_options *options, attend_context *context)
{
    int threads = options->threads ? options->threads : omp_get_num_procs();
    context->state = (void *)(intptr_t)threads;
    snprintf(context->name, sizeof context->name, "fp64 reference, %d thread%s", threads,
             threads == 1 ? "" : "s");
    return ATTEND_OK;
}

static void context_destroy(attend_context *context) { (void)context; }

static attend_status synchronize(attend_context *context)
{
    (void)context;
    return ATTEND_OK;
}

static attend_status plan_create(attend_plan *plan)
{
    snprintf(plan->kernel, sizeof plan->kernel, "reference_f64");
    return ATTEND_OK;
}

static void plan_destroy(attend_plan *plan) { (void)plan; }

static void store_row(const attend_tensor *out, const attend_tensor *lse, int64_t columns, int64_t b,
                      int64_t h, int64_t i, const double *values, double row_lse)
{
    int64_t at = b * out->stride[0] + i * out->stride[1] + h * out->stride[2];
    for (int64_t c = 0; c < columns; c++) attend_store(out, at + c * out->stride[3], values[c]);
    if (lse->data) attend_store(lse, b * lse->stride[0] + h * lse->stride[1] + i * lse->stride[2], row_lse);
}

typedef struct attention_job {
    const attend_attention_args *args;
    const attend_problem *problem; /* with its sinks */
    const attend_key_part *part;
} attention_job;

static void store_result(void *job, int64_t b, int64_t h, int64_t i, const attend_reference_row *row)
{
    const attention_job *j = job;
    store_row(&j->args->out, &j->args->lse, j->problem->head_dim_v, b, h, i, row->out, row->lse);
}

/* A row of a run that begins with a state or stores one. The row does not include the sink yet; its other
   arrays are used as scratch. */
static void store_partial(void *job, int64_t b, int64_t h, int64_t i, const attend_reference_row *row)
{
    const attention_job *j = job;
    const attend_attention_args *a = j->args;
    const attend_feature_args *f = a->features;
    const attend_key_part *part = j->part;
    const int64_t dv = j->problem->head_dim_v;
    const bool there = !f->seqlens_q || part->first_query + i < f->seqlens_q[b];
    attend_reference_sums sums = {row->baseline, -INFINITY, 0};
    for (int64_t c = 0; c < dv; c++) sums.out[c] = 0;
    if (part->from.out.data && there) attend_reference_take_up(&sums, dv, &part->from, b, i, h, row->bound);
    attend_reference_join(
        &sums, dv, &(attend_reference_sums){row->out, attend_reference_carried(row->max), row->log_sum});
    if (part->into.out.data) {
        attend_reference_leave(&sums, dv, &part->into, b, i, h);
        return;
    }
    if (j->problem->sinks && there)
        attend_reference_sink(&sums, dv, attend_load(&f->sinks, h * f->sinks.stride[0]));
    store_row(&a->out, &a->lse, dv, b, h, i, sums.out, sums.max + sums.log_sum);
}

static attend_status attention_forward(attend_plan *plan, const attend_attention_args *args,
                                       const attend_key_part *part, const attend_run *run)
{
    (void)run;
    const attend_problem *p = &plan->problem;
    const bool carries = part->from.out.data || part->into.out.data;
    attend_problem without_sinks = *p;
    attention_job job = {args, p, part};
    attend_progress_tracker *tracker = &plan->context->tracker;
    ATTEND_TRY(attend_lists_check(p, args->features));
    ATTEND_TRY(attend_key_layout_check(p, args->features->seqlens_k, part));
    without_sinks.sinks = false;
    if (!attend_reference_attention(carries ? &without_sinks : p, args, part, threads_of(plan), tracker,
                                    carries ? store_partial : store_result, &job))
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's copy of K and V");
    return attend_progress_status(tracker);
}

/* One gradient to where it belongs. */
static void store_gradient(const attend_tensor *t, const double *exact, bool accumulate)
{
    const attend_tensor dense = attend_tensor_row_major(*t);
    int64_t elements = 1;
    for (int i = 0; i < t->rank; i++) elements *= t->shape[i];
    for (int64_t n = 0; n < elements; n++) {
        int64_t at = 0;
        for (int i = 0; i < t->rank; i++) at += n / dense.stride[i] % t->shape[i] * t->stride[i];
        attend_store(t, at, exact[n] + (accumulate ? attend_load(t, at) : 0));
    }
}

static attend_status attention_backward(attend_plan *plan, const attend_attention_args *args,
                                        const attend_gradients *gradients, const attend_run *run)
{
    attend_reference_gradient of[ATTEND_GRADIENTS];
    attend_progress_tracker *tracker = &plan->context->tracker;
    (void)run;
    ATTEND_TRY(attend_lists_check(&plan->problem, args->features));
    const bool complete =
        attend_reference_backward(&plan->problem, args, gradients, false, threads_of(plan), tracker, of);
    for (int g = 0; g < ATTEND_GRADIENTS && complete && attend_progress_continues(tracker); g++)
        if (of[g].exact) store_gradient(&gradients->of[g], of[g].exact, gradients->accumulate);
    attend_reference_backward_free(of);
    if (!complete) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's gradients");
    return attend_progress_status(tracker);
}

static int64_t key_span(const attend_plan *plan)
{
    (void)plan;
    return 1;
}

static attend_status merge(attend_context *context, const attend_problem *p, const attend_merge_args *a,
                           const attend_run *run)
{
    const int64_t dv = p->head_dim_v;
    (void)context, (void)run;
    double *out = malloc((size_t)(2 * dv) * sizeof *out);
    if (!out) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a row");
    for (int64_t row = 0; row < p->batch * p->seqlen_q * p->num_heads; row++) {
        const int64_t h = row % p->num_heads, i = row / p->num_heads % p->seqlen_q,
                      b = row / p->num_heads / p->seqlen_q;
        attend_reference_sums sums = {out, -INFINITY, 0};
        for (int64_t c = 0; c < dv; c++) out[c] = 0;
        for (int64_t n = 0; n < a->count; n++)
            attend_reference_take_up(&sums, dv, &a->states[n], b, i, h, out + dv);
        if (a->into) {
            attend_reference_leave(&sums, dv, a->into, b, i, h);
            continue;
        }
        if (p->sinks) attend_reference_sink(&sums, dv, attend_load(&a->sinks, h * a->sinks.stride[0]));
        store_row(&a->out, &a->lse, dv, b, h, i, sums.out, sums.max + sums.log_sum);
    }
    free(out);
    return ATTEND_OK;
}

/* All heads of row i of entry b, to a row of `to`. */
static void copy_row(const attend_tensor *from, int64_t b, int64_t i, const attend_tensor *to,
                     attend_key_slot row)
{
    for (int64_t h = 0; h < to->shape[2]; h++)
        for (int64_t c = 0; c < to->shape[3]; c++)
            attend_store(
                to,
                row.entry * to->stride[0] + row.row * to->stride[1] + h * to->stride[2] + c * to->stride[3],
                attend_load(from, b * from->stride[0] + i * from->stride[1] + h * from->stride[2] + c));
}

static void copy_out(const attend_tensor *from, const attend_tensor *to)
{
    for (int64_t b = 0; to->data && b < to->shape[0]; b++)
        for (int64_t i = 0; i < to->shape[1]; i++) copy_row(from, b, i, to, (attend_key_slot){b, i});
}

/* A layer's new keys and values, which are rotated already, to their slots. */
static void store_new(const attend_reference_layer *layer, const attend_appending *a)
{
    for (int64_t b = 0; b < layer->k.shape[0]; b++)
        for (int64_t i = 0; i < layer->k.shape[1]; i++) {
            const attend_key_slot slot = attend_append_slot(&a->append, &a->rows, b, i);
            if (slot.entry < 0) continue;
            copy_row(&layer->k, b, i, &a->k.to, slot);
            copy_row(&layer->v, b, i, &a->append.cache_v, slot);
        }
}

static attend_status layer_forward(attend_plan *plan, const attend_layer_args *args, const attend_run *run)
{
    (void)run;
    const attend_problem *p = &plan->problem;
    attend_reference_layer layer;
    attend_progress_tracker *tracker = &plan->context->tracker;
    ATTEND_TRY(attend_layer_lists_check(p, &plan->weights, args));
    bool complete = attend_reference_run_layer(p, &plan->weights, args, ATTEND_REFERENCE_STORED,
                                               threads_of(plan), tracker, &layer);
    if (complete && attend_progress_continues(tracker)) {
        attend_tensor out = args->out;
        out.rank = 4, out.shape[2] = 1, out.shape[3] = p->output_size, out.stride[2] = 0, out.stride[3] = 1;
        copy_out(&layer.out, &out);
        copy_out(&layer.q, &args->q);
        copy_out(&layer.k, &args->k);
        copy_out(&layer.v, &args->v);
        copy_out(&layer.heads, &args->heads);
        if (args->cache) {
            const attend_appending a = attend_layer_appending(p, &plan->weights, args, &args->k, &args->v);
            store_new(&layer, &a);
        }
    }
    attend_reference_free_layer(&layer);
    if (!complete)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's fp64 intermediates");
    return attend_progress_status(tracker);
}

static attend_status layer_backward(attend_plan *plan, const attend_layer_args *args,
                                    const attend_layer_gradients *g, const attend_run *run)
{
    attend_reference_layer_gradients of;
    attend_progress_tracker *tracker = &plan->context->tracker;
    (void)run;
    ATTEND_TRY(attend_layer_lists_check(&plan->problem, &plan->weights, args));
    const bool complete = attend_reference_layer_backward(
        &plan->problem, &plan->weights, args, g, ATTEND_REFERENCE_STORED, threads_of(plan), tracker, &of);
    if (complete && attend_progress_continues(tracker)) {
        if (g->dx.data) store_gradient(&g->dx, of.dx, g->accumulate);
        if (g->dcontext.data) store_gradient(&g->dcontext, of.dcontext, g->accumulate);
        for (int i = 0; i < ATTEND_LAYER_WEIGHTS; i++)
            if (of.weights[i]) store_gradient(&(&g->weights.wq)[i], of.weights[i], g->accumulate);
        for (int i = 0; i < ATTEND_GRADIENTS; i++)
            if (of.of[i].exact) store_gradient(&g->of[i], of.of[i].exact, g->accumulate);
    }
    attend_reference_layer_backward_free(&of);
    if (!complete) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's gradients");
    return attend_progress_status(tracker);
}

/* Weights are read by each run. */
static attend_status layer_reload(attend_plan *plan, const attend_run *run)
{
    (void)plan, (void)run;
    return ATTEND_OK;
}

static attend_status inspect(attend_plan *plan, const attend_attention_args *args,
                             const attend_key_part *part, const attend_inspect_request *request)
{
    ATTEND_TRY(attend_lists_check(&plan->problem, args->features));
    ATTEND_TRY(attend_key_layout_check(&plan->problem, args->features->seqlens_k, part));
    if (!attend_reference_inspect(&plan->problem, args, part, request, NULL, threads_of(plan),
                                  &plan->context->tracker))
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's copy of K");
    return attend_progress_status(&plan->context->tracker);
}

static attend_status rotary(attend_context *context, const attend_problem *p, const attend_rotary_args *args)
{
    const attend_reference_rotation rope = attend_reference_rotation_of(p, args->backward);
    const attend_row_positions row_positions = attend_rotary_row_positions(p, args);
    attend_rope_tensor tensors[2];
    ATTEND_TRY(attend_rotary_lists_check(p, args));
    for (int i = attend_rotary_tensors(args, tensors) - 1; i >= 0; i--)
        if (!attend_reference_rope_tensor(&rope, &row_positions, &tensors[i], NULL,
                                          (int)(intptr_t)context->state))
            return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's copy of a head");
    return ATTEND_OK;
}

static attend_status append(attend_context *context, const attend_problem *p, const attend_appending *a,
                            const attend_run *run)
{
    const attend_reference_rotation rope = attend_reference_rotation_of(p, false);
    (void)run;
    ATTEND_TRY(attend_appending_check(p, a));
    if (!attend_reference_rope_tensor(&rope, &a->rows, &a->k, &a->append, (int)(intptr_t)context->state))
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the reference's copy of a head");
    return ATTEND_OK;
}

static bool kernel(size_t index, attend_kernel_info *info)
{
    (void)index, (void)info;
    return false;
}

const attend_backend attend_reference_backend = {
    .device = ATTEND_REFERENCE,
    .context_create = context_create,
    .context_destroy = context_destroy,
    .synchronize = synchronize,
    .plan_create = plan_create,
    .plan_destroy = plan_destroy,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .key_span = key_span,
    .merge = merge,
    .layer_forward = layer_forward,
    .layer_backward = layer_backward,
    .layer_reload = layer_reload,
    .inspect = inspect,
    .rotary = rotary,
    .append = append,
    .kernel = kernel,
};
