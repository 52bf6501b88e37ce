/* One problem with its inputs, wherever they come from, and running it on a device. What run, attention,
 * compare and bench share. */
#ifndef ATTEND_TOOL_JOB_H
#define ATTEND_TOOL_JOB_H

#include "tool/layer.h"
#include "tool/report.h"
#include "tool/tensors.h"

typedef struct job {
    pool pool;
    bool is_layer, batched; /* batched: the inputs have a batch axis */
    attend_problem problem;
    attend_attention_args attention; /* q, k, v and lengths; v absent where it is only inspected */
    attend_layer_args inputs;        /* of a layer: x */
    layer layer;
} job;

/* Loads what the options name. job_free() is right after success and failure. */
attend_status job_load(const options *options, job *job);
void job_free(job *job);

/* One run's results. Absent ones have data NULL. */
typedef struct outcome {
    attend_tensor out, lse;
    attend_tensor q, k, v, heads; /* of a layer, where stages were asked for */
    attend_plan_memory memory;
    double plan_seconds, seconds;
    double flop, bytes; /* of attention, what is visible counted alone, and a layer's projections */
    char device[128], kernel[128];
} outcome;

typedef struct wanted {
    attend_device device;
    int threads;
    bool strict, lse, stages;
    bool timed;      /* runs are, so nothing may wait for a bar */
    report *explain; /* NULL: not asked for */
} wanted;

/* Allocates results in the job's pool. */
attend_status job_allocate(job *job, const wanted *wanted, outcome *outcome);
/* A context and a plan; run as often as you like; both are destroyed by job_close(). */
typedef struct running {
    attend_context *context;
    attend_plan *plan;
} running;
attend_status job_open(const job *job, const wanted *wanted, running *running, outcome *outcome);
attend_status job_run(const job *job, const running *running, outcome *outcome);
void job_close(running *running);

/* Allocate, open, run, close. */
attend_status job_compute(job *job, const wanted *wanted, outcome *outcome);
/* The same between opening the files of --output and --lse, so that a place that cannot be written shows
 * before the work, and writing them. */
attend_status job_compute_files(const options *options, job *job, const wanted *wanted, outcome *outcome);

/* The lengths that the job's runs bring. */
attend_lists job_lists(const job *job);

/* The arguments of a run, with its results in them: what comparing takes. */
attend_attention_args job_attention_args(const job *job, const outcome *outcome);
attend_layer_args job_layer_args(const job *job, const outcome *outcome);

/* The problem's facts: shape, dtype, mask, and for a layer what was found. */
void job_report(const job *job, report *report);

#endif
