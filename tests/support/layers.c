/* Makes, runs and frees small layers */
#include "support/layers.h"
#include "support/forget.h"
#include "support/plans.h"
#include "core/backend.h"
#include "core/problem.h"
#include "core/tensor.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

attend_tensor test_layer_tensor(test_layer *l, attend_dtype dtype, int rank, const int64_t *shape)
{
    attend_tensor t = {.dtype = dtype, .rank = rank};
    int64_t elements = 1;
    for (int i = rank - 1; i >= 0; i--) t.shape[i] = shape[i], t.stride[i] = elements, elements *= shape[i];
    assert_true(l->count < TEST_LAYER_BLOCKS);
    t.data = l->blocks[l->count++] = calloc((size_t)elements + 1, attend_dtype_bytes(dtype));
    assert_non_null(t.data);
    return t;
}

static attend_tensor filled(test_layer *l, int rank, const int64_t *shape, float deviation)
{
    attend_tensor t = test_layer_tensor(l, l->p.dtype, rank, shape);
    attend_values_gauss((uint64_t)l->count, deviation, &t);
    return t;
}

void test_layer_make(test_layer *l, const attend_problem *problem)
{
    *l = (test_layer){.given = *problem};
    if (attend_problem_resolve(problem, sizeof *problem, ATTEND_LAYER, &l->p))
        fail_msg("%s", attend_error_message());
    const attend_problem *p = &l->p;
    const int64_t q = p->num_heads * p->head_dim, k = p->num_kv_heads * p->head_dim,
                  v = p->num_kv_heads * p->head_dim_v;
    const int64_t source = p->context_hidden_size ? p->context_hidden_size : p->hidden_size,
                  joined = p->num_heads * p->head_dim_v;
    const int64_t batch = attend_tensor_batch(p), rows = attend_rows_q(p);
    attend_layer_weights *w = &l->weights;
    const struct {
        attend_tensor *matrix, *bias;
        int64_t out, in;
    } parts[] = {{&w->wq, &w->bq, q, p->hidden_size},
                 {&w->wk, &w->bk, k, source},
                 {&w->wv, &w->bv, v, source},
                 {&w->wo, &w->bo, p->output_size, joined}};
    for (int i = 0; i < 4; i++) {
        *parts[i].matrix = filled(l, 2, (int64_t[]){parts[i].out, parts[i].in}, 0.2f);
        *parts[i].bias = filled(l, 1, (int64_t[]){parts[i].out}, 0.2f);
    }
    if (p->absolute == ATTEND_ABSOLUTE_LEARNED)
        w->position_table = filled(l, 2, (int64_t[]){p->max_positions, p->hidden_size}, 1);
    l->args.x = filled(l, 3, (int64_t[]){batch, rows, p->hidden_size}, 1);
    if (p->context_hidden_size)
        l->args.context = filled(l, 3, (int64_t[]){batch, attend_rows_k(p), source}, 1);
    l->args.out = test_layer_tensor(l, p->dtype, 3, (int64_t[]){batch, rows, p->output_size});
    l->args.lse = test_layer_tensor(l, ATTEND_F32, 3, (int64_t[]){batch, p->num_heads, rows});
}

void test_layer_free(test_layer *l)
{
    for (int i = 0; i < l->count; i++) free(l->blocks[i]);
}

void test_layer_go_again(const test_layer *l, attend_plan *plan)
{
    const attend_tensor *const results[] = {&l->args.out, &l->args.lse};
    uintptr_t begin, end;
    for (int i = 0; i < 2; i++)
        if (results[i]->data && attend_tensor_extent(results[i], &begin, &end))
            memset((void *)begin, 0xff, end - begin);
    test_forget_runs(plan);
    if (attend_layer_forward(plan, &l->args) || attend_synchronize(plan->context))
        fail_msg("%s", attend_error_message());
}

void test_layer_go(const test_layer *l, attend_context *context)
{
    attend_plan *plan;
    if (test_layer_plan(context, &l->given, &l->weights, &plan)) fail_msg("%s", attend_error_message());
    test_layer_go_again(l, plan);
    attend_plan_destroy(plan);
}
