/* Problems whose runs share what memory there is, each run some times over with tensors of its own, on streams of the test's. */
#ifndef SOFTGPU_ATTEND_WORK_H
#define SOFTGPU_ATTEND_WORK_H

#include <attend/attend.h>
#include <attend/attend_cuda.h>

#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define CUDA(call) assert_int_equal(call, cudaSuccess)
#define OK(call)   assert_int_equal(call, ATTEND_OK)

enum { RUNS = 6, STREAMS = 3, PLANS = 2, BATCH = 2, HIDDEN = 32, FLOATS = 1 << 17 };

/* Each case uses some of the memory that runs of a plan share. */
typedef struct work_case {
    const char *name;
    attend_problem problem;
    bool on_host, lists;
} work_case;

enum { SPLIT_KEYS = 0, LAYER = 5, WORK_CASES = 7 };
extern const work_case work_cases[WORK_CASES];

typedef struct work {
    const work_case *c;
    attend_context *context;
    attend_plan *plans[PLANS]; /* of the same problem: they share what belongs to the context */
    float *weights, *in[RUNS], *out[RUNS], *host;
    attend_run how[RUNS];
    int64_t lengths[RUNS][BATCH];
    cudaStream_t streams[STREAMS], own; /* the context's */
} work;

attend_status work_plan(work *w, bool callers, attend_plan **made);
attend_status work_run(work *w, int r, attend_plan *with, const attend_run *how);
/* callers: the runs have workspaces of their own, at how[r]. */
work work_start(const work_case *c, bool callers);
void work_end(work *w);
/* The results of each run alone. */
char *work_expected(work *w);
/* Reads the results of all runs, clears them, and fails the test where they are not as `wanted`. */
void work_expect_equal(work *w, char *wanted);
void work_expect_idle(const work *w);
/* Holds a stream until work_release(), which lets all go. */
void work_hold(cudaStream_t stream);
void work_release(void);

#endif
