/* The layer on the CPU: three projections, attention, one more projection. Q, K, V and the heads' output are
   stored in the plan in the storage dtype, or directly in the caller's tensors where given. */
#include "core/positions.h"
#include "shared/absolute.h"
#include "core/layer_arguments.h"
#include "core/append.h"
#include "core/cache.h"
#include "shared/rope.h"
#include "cpu/cpu.h"

#include <stdlib.h>

attend_status attend_cpu_layer_create(attend_plan *plan)
{
    attend_cpu_plan *cpu = plan->state;
    const attend_problem *p = &plan->problem;
    const attend_layer_weights *w = &plan->weights;
    size_t *bytes = &plan->memory.host_bytes, element = attend_dtype_bytes(p->dtype);
    attend_pool *pool = cpu->context->pool;
    int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p), rows_k = attend_rows_projected(p);
    cpu->q = attend_cpu_allocate(batch * rows_q * p->num_heads * p->head_dim, element, bytes);
    cpu->k = attend_cpu_allocate(batch * rows_k * p->num_kv_heads * p->head_dim, element, bytes);
    cpu->v = attend_cpu_allocate(batch * rows_k * p->num_kv_heads * p->head_dim_v, element, bytes);
    cpu->heads = attend_cpu_allocate(batch * rows_q * p->num_heads * p->head_dim_v, element, bytes);
    if (!cpu->q || !cpu->k || !cpu->v || !cpu->heads)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the layer's Q, K, V and heads");
    ATTEND_TRY(attend_cpu_positions_create(plan));
    const struct {
        const attend_tensor *weight, *bias;
        int64_t rows;
    } parts[] = {{&w->wq, &w->bq, batch * rows_q},
                 {&w->wk, &w->bk, batch * rows_k},
                 {&w->wv, &w->bv, batch * rows_k},
                 {&w->wo, &w->bo, batch * rows_q}};
    size_t scratch = 0;
    for (int i = 0; i < 4; i++) {
        ATTEND_TRY(attend_cpu_projection_create(parts[i].weight, parts[i].bias, parts[i].rows, pool, bytes,
                                                &cpu->projections[i]));
        if (attend_cpu_projection_scratch(cpu->projections[i]) > scratch)
            scratch = attend_cpu_projection_scratch(cpu->projections[i]);
    }
    cpu->projection_scratch = attend_cpu_allocate(attend_pool_threads(pool), scratch, bytes);
    cpu->rope_scratch =
        attend_cpu_allocate(attend_problem_is_cross(p) ? 0 : attend_cpu_rope_floats(pool, p->head_dim),
                            sizeof *cpu->rope_scratch, bytes);
    if (!cpu->projection_scratch || !cpu->rope_scratch)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the rows that a layer's threads work on");
    return ATTEND_OK;
}

void attend_cpu_layer_destroy(attend_cpu_plan *cpu)
{
    for (int i = 0; i < 4; i++) attend_cpu_projection_destroy(cpu->projections[i]);
    attend_cpu_positions_destroy(cpu);
    free(cpu->q), free(cpu->k), free(cpu->v), free(cpu->heads), free(cpu->projection_scratch),
        free(cpu->rope_scratch);
}

/* The caller's tensor if given, otherwise the plan's. */
static attend_tensor choose(const attend_tensor *wanted, void *own, const attend_problem *p, int64_t seqlen,
                            int64_t heads, int64_t dim)
{
    if (wanted->data) return *wanted;
    attend_tensor t = attend_tensor_4d(own, p->dtype, attend_tensor_batch(p), seqlen, heads, dim);
    memcpy(t.stride, (int64_t[]){seqlen * heads * dim, heads * dim, dim, 1}, sizeof t.stride);
    return t;
}

/* [batch, seqlen, width] as a tensor with one head. */
static attend_tensor one_head(const attend_tensor *t)
{
    attend_tensor rows = attend_tensor_4d(t->data, t->dtype, t->shape[0], t->shape[1], 1, t->shape[2]);
    memcpy(rows.stride, (int64_t[]){t->stride[0], t->stride[1], t->shape[2], 1}, sizeof rows.stride);
    return rows;
}

static attend_status project(const attend_cpu_plan *cpu, int index, const attend_tensor *x,
                             const attend_tensor *y)
{
    attend_progress_tracker *tracker = cpu->context->tracker;
    return attend_cpu_project(cpu->projections[index], x, y, cpu->projection_scratch,
                              tracker->work.projections[index], tracker);
}

attend_status attend_cpu_layer_forward(attend_plan *plan, const attend_layer_args *args)
{
    attend_cpu_plan *cpu = plan->state;
    const attend_problem *p = &plan->problem;
    const int64_t rows_q = attend_rows_q(p), rows_k = attend_rows_projected(p);
    const attend_tensor new_k = choose(&args->k, cpu->k, p, rows_k, p->num_kv_heads, p->head_dim),
                        new_v = choose(&args->v, cpu->v, p, rows_k, p->num_kv_heads, p->head_dim_v);
    attend_attention_args attention = {
        .q = choose(&args->q, cpu->q, p, rows_q, p->num_heads, p->head_dim),
        .k = new_k,
        .v = new_v,
        .out = choose(&args->heads, cpu->heads, p, rows_q, p->num_heads, p->head_dim_v),
        .lse = args->lse,
        .features = args->features,
    };
    const attend_row_positions row_positions = attend_row_positions_of(p, args->features, args->cache);
    attend_key_part all = attend_all_keys(p);
    attend_appending appending;
    ATTEND_TRY(attend_layer_lists_check(p, &plan->weights, args));
    if (args->cache) {
        appending = attend_layer_appending(p, &plan->weights, args, &new_k, &new_v);
        attend_layer_keys_locate(args->cache, &attention, &all);
    }
    /* Nothing has been written yet. From here on a run fails only if it is cancelled or oneDNN lacks
       memory. */
    const attend_tensor x_with_positions = p->absolute ? attend_cpu_add_positions(plan, args) : args->x,
                        x = one_head(&x_with_positions);
    const attend_tensor source = attend_problem_is_cross(p) ? one_head(&args->context) : x,
                        out = one_head(&args->out);
    ATTEND_TRY(project(cpu, 0, &x, &attention.q));
    ATTEND_TRY(project(cpu, 1, &source, &new_k));
    ATTEND_TRY(project(cpu, 2, &source, &new_v));
    attend_cpu_layer_rope(plan, &row_positions, &attention.q, &new_k, args->cache ? &appending : NULL);
    ATTEND_TRY(attend_cpu_attention(cpu, &attention, &all));
    return project(cpu, 3, &attention.out, &out);
}
