/* The CPU as a backend: contexts hold threads and the instruction set, plans hold all memory that a run
   needs. */
#include "cpu/cpu.h"
#include "core/arguments.h"
#include "core/cache.h"
#include "core/feature_set.h"
#include "shared/relative.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static attend_status context_create(const attend_context_options *options, attend_context *context)
{
    const attend_cpu_kernel *kernel;
    bool forced;
    ATTEND_TRY(attend_cpu_kernel_choose(&kernel, &forced));
    attend_cpu_context *cpu = malloc(sizeof *cpu);
    if (!cpu) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a context");
    const int threads = options->threads ? options->threads : attend_cpu_usable_threads();
    *cpu = (attend_cpu_context){
        .threads = threads, .kernel = kernel, .forced = forced, .tracker = &context->tracker};
    attend_status status = attend_pool_create(threads, &cpu->pool);
    if (status) {
        free(cpu);
        return status;
    }
    context->state = cpu;
    snprintf(context->name, sizeof context->name, "CPU, %d thread%s, %s", cpu->threads,
             cpu->threads == 1 ? "" : "s", kernel->name);
    return ATTEND_OK;
}

static void context_destroy(attend_context *context)
{
    attend_cpu_context *cpu = context->state;
    attend_pool_destroy(cpu->pool);
    free(cpu);
}

static attend_status synchronize(attend_context *context)
{
    (void)context;
    return ATTEND_OK;
}

static void plan_destroy(attend_plan *plan)
{
    attend_cpu_plan *cpu = plan->state;
    attend_cpu_layer_destroy(cpu);
    attend_cpu_layer_backward_destroy(cpu);
    attend_cpu_backward_free(cpu);
    free(cpu->keys), free(cpu->values), free(cpu->partials), free(cpu->carried), free(cpu->scratch);
    free(cpu->per_head), free(cpu->elements), free(cpu->relative_buckets), free(cpu->relative),
        free(cpu->ids), free(cpu->finite);
    free(cpu);
}

/* The sizes that a plan's memory grows with, to say which of them to look at. */
static attend_status no_memory(const attend_problem *p, size_t bytes)
{
    char needed[48] = "the plan, more bytes than 63 bits can count";
    if (bytes <= INT64_MAX) snprintf(needed, sizeof needed, "the plan's %zu bytes", bytes);
    return attend_fail(ATTEND_OUT_OF_MEMORY,
                       "no memory for %s: batch is %" PRId64 ", num_heads %" PRId64 ", seqlen_q %" PRId64
                       ", seqlen_k %" PRId64 ", head_dim %" PRId64,
                       needed, p->batch, p->num_heads, p->seqlen_q, p->seqlen_k, p->head_dim);
}

static attend_status check_sizes(const attend_problem *p)
{
    /* wider rows cannot be allocated anyway, and products below do not overflow */
    const int64_t widest = (int64_t)1 << 40;
    if (p->head_dim > widest || p->head_dim_v > widest ||
        attend_cpu_times(p->batch, attend_cpu_times(p->num_heads, p->seqlen_q)) > INT64_MAX / 2 ||
        p->total_k > INT64_MAX / 2 || p->seqlen_k > INT64_MAX / 2 ||
        attend_cpu_times(p->batch, p->seqlen_k + ATTEND_CPU_BLOCK) > INT64_MAX / 2)
        return no_memory(p, SIZE_MAX);
    return ATTEND_OK;
}

/* What does not depend on the box. */
static attend_status reserve(attend_cpu_plan *cpu, bool backward, size_t *bytes)
{
    const attend_problem *p = cpu->problem;
    const attend_cpu_kernel *kernel = cpu->context->kernel;
    ATTEND_TRY(check_sizes(p));
    cpu->blocking = attend_cpu_blocking_for(kernel, p, cpu->context->threads);
    cpu->scratch_floats = kernel->scratch_floats(p, &cpu->blocking);
    const int64_t heads = attend_cpu_times(p->batch, p->num_kv_heads);
    bool complete = (cpu->scratch = attend_cpu_allocate(cpu->context->threads,
                                                        (size_t)cpu->scratch_floats * sizeof(float), bytes));
    cpu->per_head =
        attend_cpu_allocate(attend_cpu_times(p->batch, p->num_heads), sizeof *cpu->per_head, bytes);
    cpu->elements = attend_cpu_allocate(heads, sizeof *cpu->elements, bytes);
    cpu->relative_buckets =
        attend_cpu_allocate(attend_relative_distances(p), sizeof *cpu->relative_buckets, bytes);
    cpu->relative = attend_cpu_allocate(attend_cpu_times(p->num_heads, attend_cpu_relative_floats(p)),
                                        sizeof *cpu->relative, bytes);
    cpu->ids =
        attend_cpu_allocate(attend_cpu_times(p->batch, attend_cpu_id_blocks(p)), sizeof *cpu->ids, bytes);
    complete =
        complete && cpu->per_head && cpu->elements && cpu->relative_buckets && cpu->relative && cpu->ids;
    if (complete) attend_relative_fill(p, cpu->relative_buckets);
    if (backward) complete = attend_cpu_backward_reserve(cpu, bytes) && complete;
    return complete ? ATTEND_OK : no_memory(p, *bytes);
}

/* The rest, within the limit. */
static attend_status reserve_box(attend_cpu_plan *cpu, const attend_plan_options *options, size_t *bytes)
{
    const size_t limit = options->memory_limit_bytes ? options->memory_limit_bytes : SIZE_MAX, fixed = *bytes;
    void **const all[ATTEND_CPU_RESERVATIONS] = {(void **)&cpu->keys, (void **)&cpu->values,
                                                 (void **)&cpu->finite, (void **)&cpu->partials,
                                                 (void **)&cpu->carried};
    attend_cpu_reservation sizes[ATTEND_CPU_RESERVATIONS];
    size_t least = fixed;
    if (__builtin_add_overflow(least, attend_cpu_choose_box(cpu, 0), &least)) least = SIZE_MAX;
    if (options->least_bytes) *options->least_bytes = least;
    if (limit < least)
        return attend_fail(ATTEND_OUT_OF_MEMORY,
                           "memory_limit_bytes is %zu, but the plan needs at least %zu bytes", limit, least);
    attend_cpu_choose_box(cpu, options->memory_limit_bytes ? limit - fixed : SIZE_MAX);
    attend_cpu_reservations(cpu, sizes);
    bool complete = true; /* bytes are counted to the end, for the sentence */
    for (int i = 0; i < ATTEND_CPU_RESERVATIONS; i++) {
        if (sizes[i].elements > 0) *all[i] = attend_cpu_allocate(sizes[i].elements, sizes[i].bytes, bytes);
        complete = complete && (sizes[i].elements <= 0 || *all[i]);
    }
    return complete ? ATTEND_OK : no_memory(cpu->problem, *bytes);
}

static attend_status plan_create(attend_plan *plan)
{
    const attend_problem *p = &plan->problem;
    ATTEND_TRY(attend_features_check(p, ATTEND_CPU_FEATURES, "the CPU kernel"));
    attend_cpu_plan *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a plan");
    plan->state = cpu;
    cpu->context = plan->context->state;
    cpu->problem = p;
    snprintf(plan->kernel, sizeof plan->kernel, "cpu_%s", cpu->context->kernel->name);
    attend_status status = reserve(cpu, plan->options.backward, &plan->memory.host_bytes);
    if (!status && plan->operation == ATTEND_LAYER) status = attend_cpu_layer_create(plan);
    if (!status && plan->operation == ATTEND_LAYER && plan->options.backward)
        status = attend_cpu_layer_backward_create(plan);
    if (!status) status = reserve_box(cpu, &plan->options, &plan->memory.host_bytes);
    if (status) plan_destroy(plan);
    return status;
}

/* A run ends before it returns, so all runs use the plan's own scratch. */
static attend_status attention_forward(attend_plan *plan, const attend_attention_args *args,
                                       const attend_key_part *part, const attend_run *run)
{
    (void)run;
    ATTEND_TRY(attend_lists_check(&plan->problem, args->features));
    ATTEND_TRY(attend_key_layout_check(&plan->problem, args->features->seqlens_k, part));
    return attend_cpu_attention(plan->state, args, part);
}

static int64_t key_span(const attend_plan *plan)
{
    (void)plan;
    return ATTEND_CPU_SPAN;
}

static attend_status layer_forward(attend_plan *plan, const attend_layer_args *args, const attend_run *run)
{
    (void)run;
    return attend_cpu_layer_forward(plan, args);
}

const attend_backend attend_cpu_backend = {
    .device = ATTEND_CPU,
    .context_create = context_create,
    .context_destroy = context_destroy,
    .synchronize = synchronize,
    .plan_create = plan_create,
    .plan_destroy = plan_destroy,
    .attention_forward = attention_forward,
    .attention_backward = attend_cpu_backward,
    .key_span = key_span,
    .merge = attend_cpu_merge,
    .layer_forward = layer_forward,
    .layer_backward = attend_cpu_layer_backward,
    .layer_reload = attend_cpu_layer_reload,
    .explain = attend_cpu_explain,
    .choice = attend_cpu_kernel_choice,
    .kernel = attend_cpu_kernel_info,
    .inspect = attend_cpu_inspect,
    .rotary = attend_cpu_rotary,
    .append = attend_cpu_append,
};
