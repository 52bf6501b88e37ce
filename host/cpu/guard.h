/* Calls into oneDNN from which nothing is thrown. */
#ifndef ATTEND_CPU_GUARD_H
#define ATTEND_CPU_GUARD_H

#include <dnnl.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What call(data) returns, or the status of what it throws. What it made so far must be reachable from data:
 * nothing else is freed. */
dnnl_status_t attend_cpu_guard(dnnl_status_t (*call)(void *), void *data);

#ifdef __cplusplus
}
#endif

#endif
