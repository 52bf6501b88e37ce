/* Counters of every instruction of every kernel that ran. The executor fills one array for each host thread and merges it when a block
   is done; names, places and counts outlive the module, for the report. */
#ifndef SOFTGPU_ENGINE_COUNTS_H
#define SOFTGPU_ENGINE_COUNTS_H

#include "engine/engine.h"

/* The pipe that a warp instruction occupies. */
typedef enum pipe {
    PIPE_TENSOR, PIPE_FMA, PIPE_ALU, PIPE_HALF, PIPE_FP64, PIPE_MUFU, PIPE_CONVERT, PIPE_SHARED, PIPE_GLOBAL, PIPE_LOCAL, PIPE_ASYNC,
    PIPE_ATOMIC, PIPE_SHUFFLE, PIPE_BARRIER, PIPE_CONTROL, PIPES
} pipe;

typedef struct counts {
    int64_t warps, lanes;          /* executions by a warp; lanes active in them */
    int64_t wavefronts, ideal_wavefronts, sectors, ideal_sectors, bytes;
    int64_t divergent;             /* branches whose lanes parted */
} counts;

typedef struct counted_insn {
    const char *file;              /* NULL: no line known */
    int line;
    pipe pipe;
    int64_t tensor_flops;          /* of one execution by a warp */
    int flops;                     /* of one active lane */
    bool branch;
    bool warpgroup;                /* a product of four warps: wgmma */
    bool copies;                   /* a mov */
} counted_insn;

typedef struct counted_kernel {
    char *name;
    const sg_function *function;   /* identity only: may be gone */
    int instructions;
    counted_insn *insns;           /* the executor fills these once, after counts_kernel; file names are copied by it */
    counts *totals;
    int64_t launches, blocks, busy_blocks /* that had work */, threads, dynamic_shared_bytes;
    sg_resources resources;
    sg_properties device;          /* of the last launch */
    int blocks_per_sm;             /* occupancy of the last launch */
    double seconds;                /* modelled, all launches */
    struct counted_kernel *next;
} counted_kernel;

/* The kernel's record, made at first use (then *fresh). NULL if memory ran out. Thread-safe, as all of these. */
counted_kernel *counts_kernel(const sg_function *function, const char *name, int instructions, bool *fresh);
const char *counts_file(const char *name); /* a copy that stays */
void counts_launch(counted_kernel *kernel, const sg_properties *device, const sg_launch *launch, const sg_resources *resources,
                   int blocks_per_sm);
void counts_busy(counted_kernel *kernel, int64_t blocks); /* of a launch that has ended */
void counts_merge(counted_kernel *kernel, const counts *local);
/* A function is going: its address may come again for another. */
void counts_forget(const sg_function *function);

counted_kernel *counts_first(void); /* in the order of first launches */

#endif
