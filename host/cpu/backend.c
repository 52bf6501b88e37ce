/* The CPU as a backend: contexts that know their threads and instruction set, plans that hold all memory they will need. */
#include "cpu.h"
#include "../feature_set.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

static attend_status context_create(const attend_context_options *options, attend_context *context)
{
    const attend_cpu_kernel *kernel;
    ATTEND_TRY(attend_cpu_kernel_choose(&kernel));
    attend_cpu_context *cpu = malloc(sizeof *cpu);
    if (!cpu) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a context");
    *cpu = (attend_cpu_context){options->threads ? options->threads : omp_get_num_procs(), kernel};
    context->state = cpu;
    snprintf(context->name, sizeof context->name, "CPU, %d thread%s, %s", cpu->threads, cpu->threads == 1 ? "" : "s", kernel->name);
    return ATTEND_OK;
}

static void context_destroy(attend_context *context) { free(context->state); }

static attend_status synchronize(attend_context *context)
{
    (void)context;
    return ATTEND_OK;
}

void *attend_cpu_allocate(int64_t elements, size_t bytes, size_t *total)
{
    int64_t size;
    if (!attend_multiply(elements, (int64_t)bytes, &size) || size > INT64_MAX - 64) return NULL;
    size = (size + 64) / 64 * 64;
    *total += (size_t)size;
    return aligned_alloc(64, (size_t)size);
}

static void plan_destroy(attend_plan *plan)
{
    attend_cpu_plan *cpu = plan->state;
    attend_cpu_layer_destroy(cpu);
    free(cpu->keys), free(cpu->values), free(cpu->scratch);
    free(cpu);
}

enum { FEATURES = ATTEND_FEATURE_CAUSAL };

static attend_status plan_create(attend_plan *plan)
{
    const attend_problem *p = &plan->problem;
    ATTEND_TRY(attend_features_check(p, FEATURES, "the CPU kernel"));
    attend_cpu_plan *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a plan");
    plan->state = cpu;
    cpu->context = plan->context->state;
    cpu->problem = p;
    snprintf(plan->kernel, sizeof plan->kernel, "cpu_%s", cpu->context->kernel->name);
    size_t *bytes = &plan->memory.host_bytes;
    int64_t keys;
    if (p->seqlen_k > INT64_MAX - ATTEND_CPU_PANEL || !attend_multiply(p->batch, p->num_kv_heads, &keys) ||
        !attend_multiply(keys, attend_cpu_padded(p->seqlen_k), &keys))
        keys = INT64_MAX; /* more than there is: the allocation below says so */
    cpu->keys = attend_cpu_allocate(keys, (size_t)p->head_dim * sizeof(float), bytes);
    cpu->values = attend_cpu_allocate(keys, (size_t)attend_cpu_padded(p->head_dim_v) * sizeof(float), bytes);
    cpu->scratch = attend_cpu_allocate(attend_cpu_scratch_floats(p) * cpu->context->threads, sizeof(float), bytes);
    attend_status status = ATTEND_OK;
    if (!cpu->keys || !cpu->values || !cpu->scratch)
        status = attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the plan's %zu bytes", *bytes);
    if (!status && plan->operation == ATTEND_LAYER) status = attend_cpu_layer_create(plan);
    if (status) plan_destroy(plan);
    return status;
}

static attend_status attention_forward(attend_plan *plan, const attend_attention_args *args)
{
    return attend_cpu_attention(plan->state, args);
}

static bool kernel(size_t index, attend_kernel_info *info)
{
    static const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};
    const attend_cpu_kernel *row = attend_cpu_kernel_row(index / 3);
    if (!row) return false;
    *info = (attend_kernel_info){.name = row->name, .device = ATTEND_CPU, .dtype = dtypes[index % 3], .head_dim_max = INT64_MAX,
                                 .head_dim_v_max = INT64_MAX, .tile_q = ATTEND_CPU_TILE_Q, .tile_k = ATTEND_CPU_TILE_K, .threads = 1, .features = FEATURES};
    return true;
}

const attend_backend attend_cpu_backend = {
    .device = ATTEND_CPU,
    .context_create = context_create,
    .context_destroy = context_destroy,
    .synchronize = synchronize,
    .plan_create = plan_create,
    .plan_destroy = plan_destroy,
    .attention_forward = attention_forward,
    .layer_forward = attend_cpu_layer_forward,
    .kernel = kernel,
};
