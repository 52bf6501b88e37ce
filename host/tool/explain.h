/* --explain: what a plan will do and why, as text and as JSON. */
#ifndef ATTEND_TOOL_EXPLAIN_H
#define ATTEND_TOOL_EXPLAIN_H

#include "tool/report.h"

attend_status explain_report(const attend_plan *plan, const attend_lists *lists, report *report);

#endif
