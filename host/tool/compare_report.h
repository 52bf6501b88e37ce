/* The report of a comparison: one line for each tensor or stage, and a verdict. */
#ifndef ATTEND_TOOL_COMPARE_REPORT_H
#define ATTEND_TOOL_COMPARE_REPORT_H

#include "tool/report.h"

/* One line of the comparison. A figure that a stage does not have is negative or NULL. */
typedef struct compared {
    const char *side, *tensor;
    double bound_ratio, quality_ratio, max_error, rms_error;
    const attend_element *worst;
} compared;

/* Call in this order: begin writes the heading, then a call for each line, then the verdict. */
void compare_begin(report *report);
void compare_line(report *report, const compared *line);
void compare_end(report *report, bool passed);

#endif
