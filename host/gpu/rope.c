/* A layer's rotary embedding and QK-norm on the device: the norms' parameters are uploaded with the plan,
   and one small kernel rotates and normalizes Q and K. */
#include "gpu/gpu.h"
#include "gpu/range.h"

static const attend_tensor *norm_of(const attend_plan *plan, int i) { return &(&plan->weights.q_norm)[i]; }

attend_status attend_gpu_reserve_rope(attend_plan *plan, attend_gpu_arenas *arenas)
{
    static const char *const names[] = {"q_norm", "k_norm", "q_norm_bias", "k_norm_bias"};
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    for (int i = 0; i < 4; i++) {
        attend_tensor *t = &own->norms[i];
        bool on_host;
        *t = *norm_of(plan, i);
        ATTEND_TRY(attend_gpu_is_on_host(own->gpu, names[i], t->data, &on_host));
        if (!t->data || !on_host) continue;
        t->stride[0] = 1;
        attend_gpu_reserve(&arenas->constants, &t->data, p->head_dim, attend_dtype_bytes(p->dtype));
    }
    return ATTEND_OK;
}

attend_status attend_gpu_upload_norms(const attend_plan *plan)
{
    const attend_gpu_plan *own = plan->state;
    for (int i = 0; i < 4; i++)
        if (own->norms[i].data != norm_of(plan, i)->data)
            ATTEND_TRY(attend_gpu_copy(own->gpu, &own->norms[i], norm_of(plan, i), cudaMemcpyHostToDevice));
    return ATTEND_OK;
}

attend_status attend_gpu_rope(const attend_plan *plan, const attend_row_positions *row_positions,
                              const attend_tensor *q, const attend_tensor *k)
{
    const attend_gpu_plan *own = plan->state;
    const attend_tensor *norms = own->norms;
    if (!attend_has_rope_or_norm(&plan->problem)) return ATTEND_OK;
    attend_rope_tensor tensors[2] = {{*q, *q, norms[0], norms[2]}};
    if (k) tensors[1] = (attend_rope_tensor){*k, *k, norms[1], norms[3]};
    attend_range_begin("attend: rotate Q and K");
    attend_status status = attend_gpu_check(
        attend_rope_heads(&own->rope, row_positions, tensors, k ? 2 : 1, NULL, own->gpu->stream),
        "cudaLaunchKernel of rope_heads");
    attend_range_end();
    return status;
}
