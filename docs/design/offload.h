/* Design: several devices. Budgets and tensors on the host are in attend/plan.h. */
#ifndef ATTEND_DESIGN_OFFLOAD_H
#define ATTEND_DESIGN_OFFLOAD_H

#include <attend/context.h>
#include <attend/plan.h>
#include <attend/problem.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Stands for attend_attention_plan_with(). */
ATTEND_API attend_status attend_attention_plan_in(attend_context *context, const attend_problem *problem,
                                                  const attend_plan_options *options, attend_plan **plan);

/* A context over several devices: batch entries and heads are shared out, then blocks of queries. The bits
 * are those of one device. Tensors on a device lie on the first; its streams order the runs. Everything else
 * is as with attend_context_create(). */
ATTEND_API attend_status attend_context_create_group(const attend_context_options *options,
                                                     size_t options_bytes, const int *devices,
                                                     int device_count, attend_context **context);

#ifdef __cplusplus
}
#endif

#endif
