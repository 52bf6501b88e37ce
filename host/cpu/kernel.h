/* The interface of the CPU kernel: one source (kernel.c and the kernel_*.h that it includes), compiled once
   per instruction set, chosen at run time. docs/cpu.md describes it. */
#ifndef ATTEND_CPU_KERNEL_H
#define ATTEND_CPU_KERNEL_H

#include "cpu/task.h"

typedef struct attend_cpu_kernel {
    const char *name;         /* "avx512" */
    int lanes, rows, vectors; /* floats a vector; the micro-kernel is rows by vectors */
    bool (*runs_here)(void);
    int64_t (*scratch_floats)(const attend_problem *problem, const attend_cpu_blocking *blocking);
    /* Packs one block of keys and values, [first, first + blocking.keys), of the task's KV head. */
    void (*pack)(const attend_cpu_task *task, int64_t first);
    /* Many rows: tiled panels of keys, rows as lanes. */
    void (*run)(const attend_cpu_task *task);
    /* The decode schedule: few rows, many keys. Keys and values are read once, in place; results are always
       partials. The tasks differ in the KV head alone. */
    void (*run_few)(const attend_cpu_task *tasks, int64_t count);
    /* Merges the partials of the task's rows over all spans and writes their output. */
    void (*merge)(const attend_cpu_task *task);
    /* Merges the states of one row (core/backend.h). */
    void (*merge_states)(const attend_problem *problem, const attend_merge_args *args, int64_t batch,
                         int64_t query, int64_t head);
    const struct attend_cpu_inspector *inspector;      /* inspect.h */
    const struct attend_cpu_scorer *scorer;            /* elements.h */
    const struct attend_cpu_backward_kernel *backward; /* backward.h */
} attend_cpu_kernel;

/* Fastest first; ends with the portable one. */
extern const attend_cpu_kernel attend_cpu_kernel_avx512, attend_cpu_kernel_avx2, attend_cpu_kernel_neon,
    attend_cpu_kernel_portable;

/* The fastest that this processor runs, or the one that ATTEND_CPU_ISA names; then *is_forced is true. */
attend_status attend_cpu_kernel_choose(const attend_cpu_kernel **kernel, bool *is_forced);

/* Entry `index` of the list of instruction sets, fastest first; NULL past the last. */
const attend_cpu_kernel *attend_cpu_kernel_row(size_t index);

/* Columns of V in tiled panels */
static inline int64_t attend_cpu_v_width(const attend_cpu_kernel *kernel, const attend_problem *p)
{
    return attend_cpu_round_up(p->head_dim_v, kernel->rows);
}

#endif
