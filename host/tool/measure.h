/* Clock, memory of this process, and numbers with units. */
#ifndef ATTEND_TOOL_MEASURE_H
#define ATTEND_TOOL_MEASURE_H

#include <stdint.h>

double seconds_now(void);

/* "1.24 ms", "3.5 GB", "56.2 GFLOP": three digits and a unit; valid for the next seven calls. */
const char *time_text(double seconds);
const char *bytes_text(double bytes);
const char *flop_text(double flop);
/* The same with a unit per second. */
const char *speed_text(double flop_per_second);
const char *traffic_text(double bytes_per_second);

/* The process's peak resident memory since the last memory_peak_reset(), or since its start if the system has
   no reset. */
void memory_peak_reset(void);
int64_t memory_peak_bytes(void);
int64_t memory_now_bytes(void);

#endif
