/* What a command has to say, once: as an aligned table for a person, or as one JSON object. Keys are the
 * interface. */
#ifndef ATTEND_TOOL_REPORT_H
#define ATTEND_TOOL_REPORT_H

#include "tool/options.h"

#include <cjson/cJSON.h>

/* Cells of a table, row by row, each with its width on the screen. */
typedef struct grid {
    char **cells;
    int count, columns;
    const char *alignment; /* one of l, r a column */
} grid;

typedef struct report {
    bool json, quiet, broken; /* broken: memory lacked somewhere */
    cJSON *object;
    grid facts; /* label, text */
    grid table;
    char *explanation; /* a block of lines below all */
} report;

void report_begin(report *report, const options *options);

/* One fact: `key` with its value in JSON, `label` with the formatted text for a person. label NULL: JSON
 * alone. */
void report_text(report *report, const char *key, const char *label, const char *value, const char *format,
                 ...) __attribute__((format(printf, 5, 6)));
void report_number(report *report, const char *key, const char *label, double value, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* For a person alone. */
void report_fact(report *report, const char *label, const char *text);

/* A table below the facts; cells are appended row by row, the first row is the heading. */
void report_table(report *report, const char *alignment);
void report_cell(report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A line on stderr when the report is printed, also with --quiet, and in JSON's "warnings". */
void report_warning(report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Numbers in JSON; what is not finite becomes "inf", "-inf" or "nan". */
void report_json_number(cJSON *object, const char *key, double value);

/* Prints all. Fails where stdout cannot be written. */
attend_status report_print(report *report);
void report_end(report *report);

#endif
