/* Memory that a plan keeps between runs; see forget.h. */
#include "support/forget.h"
#include "core/tensor.h"
#include "cpu/cpu.h"
#if ATTEND_HAVE_CUDA
#include "gpu/gpu.h"
#endif

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/* Not what is written when the plan is made: terms, relative_buckets, sinusoids. */
static void forget_cpu(const attend_cpu_plan *p)
{
    const attend_cpu_backward_memory *b = &p->backward;
    const attend_cpu_layer_memory *l = &p->back;
    void *const written[] = {
        p->keys,      p->values,   p->finite,   p->partials, p->carried,       p->scratch,
        p->per_head,  p->elements, p->relative, p->ids,      p->rope_scratch,  p->projection_scratch,
        p->q,         p->k,        p->v,        p->heads,    p->position_rows, p->x_with_positions,
        b->tiles,     b->scratch,  b->passed,   b->sums,     b->head_sums,     l->dheads,
        l->dy,        l->dy_kv,    l->dx,       l->lse,      l->y_q,           l->y_k,
        l->norm_sums,
    };
    for (size_t i = 0; i < sizeof written / sizeof *written; i++)
        if (written[i]) memset(written[i], 0xff, malloc_usable_size(written[i]));
}

#if ATTEND_HAVE_CUDA
static void forget_cuda(const attend_gpu_plan *p)
{
    const attend_tensor *const staged[] = {&p->out, &p->lse, &p->layer.out};
    uintptr_t begin, end;
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess); /* runs may go on */
    if (p->workspace) assert_int_equal(cudaMemset(p->workspace, 0xff, p->run_memory.bytes), cudaSuccess);
    for (size_t i = 0; i < sizeof staged / sizeof *staged; i++)
        if (staged[i]->data && attend_tensor_extent(staged[i], &begin, &end))
            assert_int_equal(cudaMemset((void *)begin, 0xff, end - begin), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
}
#endif

void test_forget_runs(const attend_plan *plan)
{
    if (attend_context_device(plan->context) == ATTEND_CPU) forget_cpu(plan->state);
#if ATTEND_HAVE_CUDA
    if (attend_context_device(plan->context) == ATTEND_CUDA) forget_cuda(plan->state);
#endif
}
