/* What the machine can do at most, measured: multiply-adds in registers, and reading memory. */
#ifndef ATTEND_BENCH_PEAK_H
#define ATTEND_BENCH_PEAK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* FLOP/s of `threads` threads that each do nothing but independent multiply-adds on the widest vectors, for about a
   millisecond or two. */
double bench_peak_flops(int threads);

/* Bytes/s of `threads` threads that each read their part of `bytes` bytes once. */
double bench_peak_read(const void *data, size_t bytes, int threads);

/* Seconds: of the wall clock, or CPU time of the calling thread, for one thread on a machine that others use as well. */
extern bool bench_cpu_time;
double bench_now(void);

#endif
