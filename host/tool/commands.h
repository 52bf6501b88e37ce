/* The commands. Each fills a report; what it returns besides is a status with its sentence. */
#ifndef ATTEND_TOOL_COMMANDS_H
#define ATTEND_TOOL_COMMANDS_H

#include "tool/report.h"

/* attend run and attend attention: compute and write. */
attend_status command_compute(const options *options, report *report);
/* *passed: both rules hold. */
attend_status command_compare(const options *options, report *report, bool *passed);
attend_status command_bench(const options *options, report *report);
attend_status command_inspect(const options *options, report *report);
/* Turns a tensor of heads and writes it, or judges how it was turned: *passed as above. */
attend_status command_rotary(const options *options, report *report, bool *passed);
attend_status command_info(const options *options, report *report);

#endif
