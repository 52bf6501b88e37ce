/* Timing one problem: attend, and the naive algorithm where it can run. */
#ifndef ATTEND_TOOL_BENCH_H
#define ATTEND_TOOL_BENCH_H

#include "tool/job.h"

typedef struct timing {
    double median, least;
    int runs;
    int64_t peak_bytes; /* beyond what the process held before; -1: unknown */
} timing;

typedef struct point {
    outcome outcome;
    timing attend, naive; /* naive.runs is 0 where it was not run, */
    const char *why;      /* and this says why not */
    double difference;    /* the largest between the two outputs */
    bool on_device;       /* tensors lay in the device's memory, and naive means cuBLAS */
    double score_bytes;   /* the naive algorithm's scores */
} point;

/* The problem's tensors must be loaded or made; results are allocated in the job's pool. */
attend_status bench_point(const options *options, job *job, point *point, report *report);

/* attend bench --sweep: a grid of head dims, lengths and masks, as a table and a picture. */
attend_status bench_sweep(const options *options, report *report);

#endif
