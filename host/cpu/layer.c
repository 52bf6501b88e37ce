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

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

/* One of the products of a layer: `count` weights side by side, and the rows that go through. */
typedef struct product {
    attend_tensor weights[3];
    int count;
    const attend_tensor *bias;
    int64_t rows;
} product;

/* count 0: there is none. */
static product product_of(const attend_plan *plan, int index)
{
    static const attend_tensor no_bias;
    const attend_problem *p = &plan->problem;
    const attend_layer_weights *w = &plan->weights;
    const int64_t batch = attend_tensor_batch(p), q = batch * attend_rows_q(p),
                  k = batch * attend_rows_projected(p);
    const bool backward = plan->options.backward, cross = attend_problem_is_cross(p);
    const attend_tensor wq = attend_tensor_transposed(&w->wq), wk = attend_tensor_transposed(&w->wk),
                        wv = attend_tensor_transposed(&w->wv);
    switch (index) {
    case ATTEND_CPU_Q: return (product){{w->wq}, 1, &w->bq, q};
    case ATTEND_CPU_K: return (product){{w->wk}, 1, &w->bk, k};
    case ATTEND_CPU_V: return (product){{w->wv}, 1, &w->bv, k};
    case ATTEND_CPU_O: return (product){{w->wo}, 1, &w->bo, q};
    case ATTEND_CPU_BACK_TO_HEADS:
        return (product){{attend_tensor_transposed(&w->wo)}, backward ? 1 : 0, &no_bias, q};
    case ATTEND_CPU_BACK_TO_X: return (product){{wq, wk, wv}, !backward ? 0 : cross ? 1 : 3, &no_bias, q};
    default: return (product){{wk, wv}, backward && cross ? 2 : 0, &no_bias, k};
    }
}

/* On failure the caller destroys what was made. */
static attend_status make_products(const attend_plan *plan,
                                   attend_cpu_projection *made[ATTEND_CPU_PROJECTIONS], size_t *bytes)
{
    attend_pool *pool = ((attend_cpu_plan *)plan->state)->context->pool;
    for (int i = 0; i < ATTEND_CPU_PROJECTIONS; i++) {
        const product of = product_of(plan, i);
        if (of.count > 0)
            ATTEND_TRY(
                attend_cpu_projection_create(of.weights, of.count, of.bias, of.rows, pool, bytes, &made[i]));
    }
    return ATTEND_OK;
}

attend_status attend_cpu_layer_reload(attend_plan *plan, const attend_run *run)
{
    attend_cpu_plan *cpu = plan->state;
    attend_cpu_projection *made[ATTEND_CPU_PROJECTIONS] = {0};
    size_t bytes = 0;
    (void)run;
    const attend_status status = make_products(plan, made, &bytes);
    for (int i = 0; i < ATTEND_CPU_PROJECTIONS; i++) {
        attend_cpu_projection *old = status ? made[i] : cpu->projections[i];
        attend_cpu_projection_destroy(old);
        if (!status) cpu->projections[i] = made[i];
    }
    return status;
}

attend_status attend_cpu_layer_create(attend_plan *plan)
{
    attend_cpu_plan *cpu = plan->state;
    const attend_problem *p = &plan->problem;
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
    ATTEND_TRY(make_products(plan, cpu->projections, bytes));
    for (int i = 0; i < ATTEND_CPU_PROJECTIONS; i++)
        if (cpu->projections[i])
            cpu->projection_scratch_bytes =
                most(cpu->projection_scratch_bytes, attend_cpu_projection_scratch(cpu->projections[i]));
    if (plan->options.backward)
        cpu->projection_scratch_bytes =
            most(cpu->projection_scratch_bytes, attend_cpu_weight_gradient_scratch());
    cpu->projection_scratch =
        attend_cpu_allocate(attend_pool_threads(pool), cpu->projection_scratch_bytes, bytes);
    cpu->rope_scratch =
        attend_cpu_allocate(attend_problem_is_cross(p) ? 0 : attend_cpu_rope_floats(pool, p->head_dim),
                            sizeof *cpu->rope_scratch, bytes);
    if (!cpu->projection_scratch || !cpu->rope_scratch)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the rows that a layer's threads work on");
    return ATTEND_OK;
}

void attend_cpu_layer_destroy(attend_cpu_plan *cpu)
{
    for (int i = 0; i < ATTEND_CPU_PROJECTIONS; i++) attend_cpu_projection_destroy(cpu->projections[i]);
    attend_cpu_positions_destroy(cpu);
    free(cpu->q), free(cpu->k), free(cpu->v), free(cpu->heads), free(cpu->projection_scratch),
        free(cpu->rope_scratch);
}

attend_tensor attend_cpu_layer_heads(const attend_problem *p, void *data, int64_t seqlen, int64_t heads,
                                     int64_t dim)
{
    attend_tensor t = attend_tensor_4d(data, p->dtype, attend_tensor_batch(p), seqlen, heads, dim);
    memcpy(t.stride, (int64_t[]){seqlen * heads * dim, heads * dim, dim, 1}, sizeof t.stride);
    return t;
}

/* The caller's tensor if given, otherwise the plan's. */
static attend_tensor choose(const attend_tensor *wanted, void *own, const attend_problem *p, int64_t seqlen,
                            int64_t heads, int64_t dim)
{
    return wanted->data ? *wanted : attend_cpu_layer_heads(p, own, seqlen, heads, dim);
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
                        x = attend_tensor_one_head(&x_with_positions);
    const attend_tensor source = attend_problem_is_cross(p) ? attend_tensor_one_head(&args->context) : x,
                        out = attend_tensor_one_head(&args->out);
    ATTEND_TRY(project(cpu, 0, &x, &attention.q));
    ATTEND_TRY(project(cpu, 1, &source, &new_k));
    ATTEND_TRY(project(cpu, 2, &source, &new_v));
    attend_cpu_layer_rope(plan, &row_positions, &attention.q, &new_k, args->cache ? &appending : NULL);
    ATTEND_TRY(attend_cpu_attention(cpu, &attention, &all));
    return project(cpu, 3, &attention.out, &out);
}
