/* The layer on the CPU: three projections, attention, one more projection. Q, K, V and the heads' output live in the plan, in the
   storage dtype; where the caller asks for one of them, it is written straight to the caller's tensor. */
#include "../arguments.h"
#include "../turn.h"
#include "cpu.h"

#include <stdlib.h>

attend_status attend_cpu_layer_create(attend_plan *plan)
{
    attend_cpu_plan *cpu = plan->state;
    const attend_problem *p = &plan->problem;
    const attend_layer_weights *w = &plan->weights;
    size_t *bytes = &plan->memory.host_bytes, element = attend_dtype_bytes(p->dtype);
    int threads = cpu->context->threads;
    int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p), rows_k = attend_rows_k(p);
    cpu->q = attend_cpu_allocate(batch * rows_q * p->num_heads * p->head_dim, element, bytes);
    cpu->k = attend_cpu_allocate(batch * rows_k * p->num_kv_heads * p->head_dim, element, bytes);
    cpu->v = attend_cpu_allocate(batch * rows_k * p->num_kv_heads * p->head_dim_v, element, bytes);
    cpu->heads = attend_cpu_allocate(batch * rows_q * p->num_heads * p->head_dim_v, element, bytes);
    if (!cpu->q || !cpu->k || !cpu->v || !cpu->heads)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the layer's Q, K, V and heads");
    ATTEND_TRY(attend_cpu_place_create(plan));
    const struct {
        const attend_tensor *weight, *bias;
        int64_t seqlen;
    } parts[] = {{&w->wq, &w->bq, rows_q}, {&w->wk, &w->bk, rows_k}, {&w->wv, &w->bv, rows_k}, {&w->wo, &w->bo, rows_q}};
    for (int i = 0; i < 4; i++)
        ATTEND_TRY(attend_cpu_projection_create(parts[i].weight, parts[i].bias, batch, parts[i].seqlen, threads, bytes,
                                                &cpu->projections[i]));
    return ATTEND_OK;
}

void attend_cpu_layer_destroy(attend_cpu_plan *cpu)
{
    for (int i = 0; i < 4; i++) attend_cpu_projection_destroy(cpu->projections[i]);
    attend_cpu_place_destroy(cpu);
    free(cpu->q), free(cpu->k), free(cpu->v), free(cpu->heads);
}

/* The caller's tensor if there is one, else the plan's. */
static attend_tensor choose(const attend_tensor *wanted, void *own, const attend_problem *p, int64_t seqlen, int64_t heads, int64_t dim)
{
    if (wanted->data) return *wanted;
    attend_tensor t = attend_tensor_4d(own, p->dtype, attend_tensor_batch(p), seqlen, heads, dim);
    memcpy(t.stride, (int64_t[]){seqlen * heads * dim, heads * dim, dim, 1}, sizeof t.stride);
    return t;
}

/* [batch, seqlen, heads, dim] seen as rows [batch, seqlen, heads·dim]; only if the heads lie side by side. */
static bool join_heads(const attend_tensor *t, attend_tensor *rows)
{
    *rows = attend_tensor_3d(t->data, t->dtype, t->shape[0], t->shape[1], t->shape[2] * t->shape[3]);
    memcpy(rows->stride, (int64_t[]){t->stride[0], t->stride[1], 1, 0}, sizeof rows->stride);
    return t->shape[2] == 1 || t->stride[2] == t->shape[3];
}

static attend_status project_heads(const attend_cpu_plan *cpu, int index, const attend_tensor *x, const char *name, const attend_tensor *y)
{
    attend_watch *watch = cpu->context->watch;
    attend_tensor rows;
    if (!join_heads(y, &rows))
        return attend_fail(ATTEND_UNSUPPORTED, "%s: the CPU writes a layer's heads side by side; its stride[2] must be its last extent", name);
    return attend_cpu_project(cpu->projections[index], x, &rows, watch->work.projections[index], watch);
}

attend_status attend_cpu_layer_forward(attend_plan *plan, const attend_layer_args *args)
{
    attend_cpu_plan *cpu = plan->state;
    const attend_problem *p = &plan->problem;
    attend_tensor x = args->x;
    attend_attention_args attention = {
        .q = choose(&args->q, cpu->q, p, attend_rows_q(p), p->num_heads, p->head_dim),
        .k = choose(&args->k, cpu->k, p, attend_rows_k(p), p->num_kv_heads, p->head_dim),
        .v = choose(&args->v, cpu->v, p, attend_rows_k(p), p->num_kv_heads, p->head_dim_v),
        .out = choose(&args->heads, cpu->heads, p, attend_rows_q(p), p->num_heads, p->head_dim_v),
        .lse = args->lse,
    };
    attend_side_copy(&attention, args);
    attend_tensor joined;
    if (p->absolute) ATTEND_TRY(attend_cpu_place(plan, args, &x));
    const attend_tensor *source = attend_problem_is_cross(p) ? &args->context : &x;
    ATTEND_TRY(project_heads(cpu, 0, &x, "q", &attention.q));
    ATTEND_TRY(project_heads(cpu, 1, source, "k", &attention.k));
    ATTEND_TRY(project_heads(cpu, 2, source, "v", &attention.v));
    if (attend_problem_turns(p)) ATTEND_TRY(attend_cpu_layer_turn(plan, args, &attention));
    ATTEND_TRY(attend_cpu_attention(cpu, &attention));
    if (!join_heads(&attention.out, &joined))
        return attend_fail(ATTEND_UNSUPPORTED, "heads: the CPU reads a layer's heads side by side; its stride[2] must be its last extent");
    return attend_cpu_project(cpu->projections[3], &joined, &args->out, cpu->context->watch->work.projections[3], cpu->context->watch);
}
