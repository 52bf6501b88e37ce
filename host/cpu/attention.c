/* Attention on the CPU: packs each KV head once, then hands (batch, head, query block) tasks to threads. */
#include "cpu.h"
#include "../arguments.h"

#include <omp.h>

typedef struct geometry {
    int64_t keys, v_width, q_blocks; /* padded seqlen_k and head_dim_v; query blocks a head */
} geometry;

static geometry geometry_of(const attend_problem *p)
{
    return (geometry){attend_cpu_padded(p->seqlen_k), attend_cpu_padded(p->head_dim_v),
                      (p->seqlen_q + ATTEND_CPU_TILE_Q - 1) / ATTEND_CPU_TILE_Q};
}

static attend_cpu_keys keys_of(const attend_cpu_plan *plan, int64_t b, int64_t kv_head)
{
    const attend_problem *p = plan->problem;
    geometry g = geometry_of(p);
    int64_t head = b * p->num_kv_heads + kv_head;
    return (attend_cpu_keys){plan->keys + head * g.keys * p->head_dim, plan->values + head * g.keys * g.v_width};
}

/* Packs one panel of keys and values of one KV head. Values past the width are zeros; rows past the length are never read. */
static void pack_panel(const attend_cpu_plan *plan, const attend_attention_args *args, int64_t b, int64_t kv_head, int64_t first)
{
    const attend_problem *p = plan->problem;
    const attend_tensor *k = &args->k, *v = &args->v;
    attend_cpu_keys keys = keys_of(plan, b, kv_head);
    const attend_lists lists = attend_lists_of(args);
    int64_t length = attend_sequence_of(p, &lists, b).seqlen_k, v_width = geometry_of(p).v_width;
    if (first >= length) return;
    const char *k_head = (const char *)k->data + (b * k->stride[0] + kv_head * k->stride[2]) * (int64_t)attend_dtype_bytes(k->dtype);
    plan->context->kernel->pack_keys(keys.k, k_head, p->dtype, k->stride[1], p->head_dim, first, ATTEND_CPU_PANEL, length);
    for (int64_t j = first; j < first + ATTEND_CPU_PANEL && j < length; j++) {
        float *row = keys.v + j * v_width;
        attend_cpu_load_row(row, v->data, b * v->stride[0] + j * v->stride[1] + kv_head * v->stride[2], p->head_dim_v, p->dtype);
        memset(row + p->head_dim_v, 0, (size_t)(v_width - p->head_dim_v) * sizeof *row);
    }
}

static void run_task(const attend_cpu_plan *plan, const attend_attention_args *args, int64_t index, float *scratch)
{
    const attend_problem *p = plan->problem;
    const attend_lists lists = attend_lists_of(args);
    geometry g = geometry_of(p);
    int64_t heads = p->batch * p->num_heads, b = index % heads / p->num_heads, h = index % p->num_heads;
    int64_t query = (g.q_blocks - 1 - index / heads) * ATTEND_CPU_TILE_Q; /* the longest causal rows first */
    const attend_tensor *q = &args->q, *out = &args->out, *lse = &args->lse;
    int64_t bytes = (int64_t)attend_dtype_bytes(p->dtype), rest = p->seqlen_q - query;
    attend_cpu_task task = {
        .problem = p,
        .keys = keys_of(plan, b, h / (p->num_heads / p->num_kv_heads)),
        .sequence = attend_sequence_of(p, &lists, b),
        .query = query,
        .queries = rest < ATTEND_CPU_TILE_Q ? rest : ATTEND_CPU_TILE_Q,
        .q = (const char *)q->data + (b * q->stride[0] + query * q->stride[1] + h * q->stride[2]) * bytes,
        .q_stride = q->stride[1],
        .out = (char *)out->data + (b * out->stride[0] + query * out->stride[1] + h * out->stride[2]) * bytes,
        .out_stride = out->stride[1],
        .lse = lse->data ? (float *)lse->data + b * lse->stride[0] + h * lse->stride[1] + query * lse->stride[2] : NULL,
        .lse_stride = lse->stride[2],
        .scratch = scratch,
    };
    plan->context->kernel->run(&task);
}

attend_status attend_cpu_attention(attend_cpu_plan *plan, const attend_attention_args *args)
{
    const attend_problem *p = plan->problem;
    ATTEND_TRY(attend_lists_check(p, args));
    geometry g = geometry_of(p);
    int64_t panels = g.keys / ATTEND_CPU_PANEL, packs = p->batch * p->num_kv_heads * panels;
    int64_t tasks = p->batch * p->num_heads * g.q_blocks;
#pragma omp parallel num_threads(plan->context->threads)
    {
        float *scratch = plan->scratch + omp_get_thread_num() * attend_cpu_scratch_floats(p);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < packs; i++) {
            int64_t head = i / panels;
            pack_panel(plan, args, head / p->num_kv_heads, head % p->num_kv_heads, i % panels * ATTEND_CPU_PANEL);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < tasks; i++) run_task(plan, args, i, scratch);
    }
    return ATTEND_OK;
}
