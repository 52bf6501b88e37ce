/* What the machine can do at most, measured: multiply-adds in registers, and reading memory. */
#ifndef ATTEND_TEST_BENCH_PEAK_H
#define ATTEND_TEST_BENCH_PEAK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* FLOP/s of `threads` threads that each do nothing but independent multiply-adds on the widest vectors, for about a
   millisecond or two. */
double bench_peak_flops(int threads);

/* Cycles a second of the cores that `threads` threads run on: a chain of additions, each waiting for the one before, takes a cycle an addition
   whatever shares the core. The best of a few short chains, the mean over threads. */
double bench_clock(int threads);

/* FLOP that one core can begin in a cycle: the widest vectors times the multiply-adds that it was ever seen to begin at once, a whole number. */
double bench_flop_a_cycle(int threads);

/* Bytes/s of `threads` threads that each read their part of `bytes` bytes once. */
double bench_peak_read(const void *data, size_t bytes, int threads);

/* Seconds: of the wall clock, or CPU time of the calling thread, for one thread on a machine that others use as well. */
extern bool bench_cpu_time;
double bench_now(void);

#endif
