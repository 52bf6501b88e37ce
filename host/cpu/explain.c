/* The CPU's rows of the kernel table, and the plan's entries of attend_explain. */
#include "cpu/cpu.h"

#include <stdio.h>

static const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

bool attend_cpu_kernel_info(size_t index, attend_kernel_info *info)
{
    const attend_cpu_kernel *row = attend_cpu_kernel_row(index / DTYPES);
    if (!row) return false;
    *info = (attend_kernel_info){.name = row->name,
                                 .device = ATTEND_CPU,
                                 .dtype = dtypes[index % DTYPES],
                                 .head_dim_max = INT64_MAX,
                                 .head_dim_v_max = INT64_MAX,
                                 .tile_q = row->lanes * row->vectors,
                                 .tile_k = row->rows,
                                 .threads = 1,
                                 .features = ATTEND_CPU_FEATURES};
    return true;
}

bool attend_cpu_kernel_choice(const attend_plan *plan, size_t index, attend_kernel_choice *choice)
{
    const attend_cpu_plan *own = plan->state;
    const attend_cpu_kernel *row = attend_cpu_kernel_row(index / DTYPES), *chosen = own->context->kernel;
    const attend_dtype wanted = plan->problem.dtype;
    if (!row) return false;
    choice->name = row->name, choice->dtype = dtypes[index % DTYPES];
    choice->chosen = row == chosen && choice->dtype == wanted;
    if (choice->chosen) return true;
    if (choice->dtype != wanted)
        snprintf(choice->reason, sizeof choice->reason, "takes %s, the problem is %s",
                 attend_dtype_name(choice->dtype), attend_dtype_name(wanted));
    else if (!row->runs_here())
        snprintf(choice->reason, sizeof choice->reason, "needs instructions that this processor lacks");
    else
        snprintf(choice->reason, sizeof choice->reason,
                 own->context->forced ? "would fit, but ATTEND_CPU_ISA forces %s"
                                      : "would fit, but %s comes first in the table",
                 chosen->name);
    return true;
}

attend_status attend_cpu_explain(const attend_plan *plan, attend_explanation *e)
{
    const attend_cpu_plan *own = plan->state;
    const attend_cpu_kernel *row = own->context->kernel;
    e->kernel = row->name;
    e->grouped = true;
    if (own->schedule != ATTEND_CPU_DECODE) e->tile_q = row->lanes * row->vectors, e->tile_k = row->rows;
    e->threads = 1;
    e->splits = own->schedule == ATTEND_CPU_WHOLE ? 1 : attend_cpu_spans(plan->problem.seqlen_k);
    const int64_t heads = plan->problem.batch * plan->problem.num_kv_heads;
    e->blocks = attend_cpu_units(own, heads, attend_cpu_spans(plan->problem.seqlen_k), 1);
    e->blocks_at_once = own->context->threads;
    if (own->box.is_part) {
        e->query_blocks = attend_parts_of(heads, own->box.heads) *
                          attend_parts_of(plan->problem.seqlen_q, own->box.queries);
        e->key_parts = e->query_blocks * attend_parts_of(plan->problem.seqlen_k, own->box.keys);
    }
    e->projection_library = "oneDNN, in fp32";
    for (int i = 0; i < 4; i++) e->projections[i].call = i;
    return ATTEND_OK;
}
