/* One problem with its inputs (a layer's files, tensors, or random) and its run on a device. Shared by run,
   attention, compare, bench and inspect. */
#ifndef ATTEND_TOOL_JOB_H
#define ATTEND_TOOL_JOB_H

#include "tool/device.h"
#include "tool/layer.h"
#include "tool/report.h"
#include "tool/tensors.h"

typedef struct job {
    pool pool;
    bool is_layer, batched; /* batched: the inputs have a batch axis */
    attend_problem problem;
    attend_feature_args features;    /* of both operations */
    attend_attention_args attention; /* q, k and v; inspect may leave out v */
    attend_cache cache;              /* k and v once more, in pages; absent: k.data is NULL */
    attend_layer_args inputs;        /* a layer's input x */
    layer layer;
} job;

/* Loads what the options name. Call job_free() after success and failure. */
attend_status job_load(const options *options, job *job);
void job_free(job *job);

/* The results of one run. Absent tensors have data NULL. */
typedef struct outcome {
    attend_tensor out, lse;
    attend_tensor q, k, v, heads; /* a layer's stages, if wanted */
    attend_plan_memory memory;
    double plan_seconds, seconds;
    double flop, bytes; /* of attention, visible pairs only, and of a layer's projections */
    attend_explanation explanation;
    size_t least_bytes; /* of a memory limit */
    char device[128], kernel[128];
} outcome;

typedef struct wanted {
    attend_device device;
    int threads;
    bool strict, lse, stages;
    bool backward; /* the plan runs backwards, too */
    int64_t memory_limit;
    result_file *files[2]; /* that out and lse lie in, if they can; NULL: in memory */
    bool resident;         /* on a device tensors lie there, and the plan takes no others */
    bool timed;            /* runs are timed, so no progress callback, which would make them wait */
    report *explain;       /* NULL: no --explain */
} wanted;

/* How far the inputs have been passed, in a run with a memory limit. */
typedef struct passing {
    const pool *pool;
    /* that the run moves; after how many the memory of files is given back, 0: never; and was */
    double bytes, each, released;
} passing;

/* Allocates results in the job's pool. */
attend_status job_allocate(job *job, const wanted *wanted, outcome *outcome);
/* A context and a plan for any number of runs; job_close() destroys both. */
typedef struct running {
    attend_context *context;
    attend_plan *plan;
    passing passing;
    device_args pages; /* the job's cache, on a device */
} running;
attend_status job_open(const job *job, const wanted *wanted, running *running, outcome *outcome);
attend_status job_run(const job *job, const running *running, outcome *outcome);
void job_close(running *running);

/* Allocate, open, run, close. */
attend_status job_compute(job *job, const wanted *wanted, outcome *outcome);
/* job_compute() between opening and writing the files of --output and --lse. They are opened first, so that a
   path that cannot be written fails before the computation. */
attend_status job_compute_files(const options *options, job *job, const wanted *wanted, outcome *outcome);

/* The lists of lengths of the job's runs. */
attend_lists job_lists(const job *job);

/* The arguments of a run with its results, for attend_compare(); and for the run itself. */
attend_attention_args job_attention_args(const job *job, const outcome *outcome);
attend_attention_args running_attention_args(const job *job, const running *running, const outcome *outcome);
attend_layer_args job_layer_args(const job *job, const outcome *outcome);

/* Reports shape, dtype and mask of the problem, and a layer's decisions. */
void job_report(const job *job, report *report);

/* Where it ran, by which kernel, for how long and in what memory. */
void outcome_report(const outcome *outcome, double seconds, report *report);

#endif
