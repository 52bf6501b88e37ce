/* Times one problem with attend and, if it can run, with the naive algorithm. */
#ifndef ATTEND_TOOL_BENCH_H
#define ATTEND_TOOL_BENCH_H

#include "tool/job.h"

typedef struct timing {
    double median, least;
    int runs;
    int64_t peak_bytes; /* growth of the process's memory during the runs; -1: unknown */
} timing;

typedef struct point {
    outcome outcome;
    timing attend, naive; /* naive.runs is 0 if it was not run, */
    const char *why;      /* and `why` is the reason */
    double difference;    /* the largest absolute difference of the two outputs */
    bool on_device;       /* tensors were in device memory, and naive used cuBLAS */
    double score_bytes;   /* size of the naive algorithm's score matrices */
} point;

/* The job's tensors must be loaded; results are allocated in its pool. */
attend_status bench_point(const options *options, job *job, point *point, report *report);

/* Times attend alone, into point->attend, with the results that point->outcome has: on a device with tensors
   there if they are wanted resident, else on the host. */
attend_status bench_attend(const options *options, job *job, const wanted *wanted, point *point);

/* Whether the device that the options name is a CUDA device. */
attend_status bench_on_gpu(const options *options, bool *gpu);

/* attend bench --decode: batches, lengths and page sizes, as a table. */
attend_status bench_decode(const options *options, report *report);

/* attend bench --offload: tensors on the device, and on the host within ever lower limits of memory, as a
   table and a picture. */
attend_status bench_offload(const options *options, report *report);

/* attend bench --sweep: a grid of head dims, lengths and masks, as a table and a picture. */
attend_status bench_sweep(const options *options, report *report);

#endif
