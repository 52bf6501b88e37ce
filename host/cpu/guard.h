/* Calls oneDNN without letting exceptions through. */
#ifndef ATTEND_CPU_GUARD_H
#define ATTEND_CPU_GUARD_H

#include <dnnl.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Returns what call(data) returns, or a status for what it throws. Objects that it made must be reachable
   from data: nothing else is freed. */
dnnl_status_t attend_cpu_guard(dnnl_status_t (*call)(void *), void *data);

#ifdef __cplusplus
}
#endif

#endif
