/* What comparing has to say: a line a tensor or stage, and a verdict. */
#ifndef ATTEND_TOOL_COMPARE_REPORT_H
#define ATTEND_TOOL_COMPARE_REPORT_H

#include "tool/report.h"

/* One line of the comparison. What a stage has no figure for is negative, or NULL. */
typedef struct compared {
    const char *side, *tensor;
    double bound_ratio, quality_ratio, max_error, rms_error;
    const attend_element *worst;
} compared;

/* The table's heading; then lines; then whether all held. */
void compare_begin(report *report);
void compare_line(report *report, const compared *line);
void compare_end(report *report, bool passed);

#endif
