/* The commands. Each fills a report and returns a status; a failure has its message set. */
#ifndef ATTEND_TOOL_COMMANDS_H
#define ATTEND_TOOL_COMMANDS_H

#include "tool/report.h"

/* attend run and attend attention: compute and write results. */
attend_status command_compute(const options *options, report *report);
/* *passed: the result is within both rules of docs/numerics.md. */
attend_status command_compare(const options *options, report *report, bool *passed);
attend_status command_bench(const options *options, report *report);
attend_status command_inspect(const options *options, report *report);
/* Applies rotary embedding and QK-norm to a tensor and writes it, or judges another program's result: *passed
   as above. */
attend_status command_rotary(const options *options, report *report, bool *passed);
/* Computes gradients of attention and writes them. */
attend_status command_gradients(const options *options, report *report);
attend_status command_info(const options *options, report *report);

#endif
