/* A command's report: printed as an aligned table, or as one JSON object. Keys of JSON are an interface and
   do not change. */
#ifndef ATTEND_TOOL_REPORT_H
#define ATTEND_TOOL_REPORT_H

#include "tool/options.h"

#include <cjson/cJSON.h>

/* The cells of a table, row by row, each with its width in columns of the terminal. */
typedef struct grid {
    char **cells;
    int count, columns;
    const char *alignment; /* l or r for each column */
} grid;

typedef struct report {
    bool json, quiet, broken; /* broken: an allocation failed */
    cJSON *object;
    grid facts; /* label, text */
    grid table;
    char *explanation; /* lines printed after the tables */
} report;

void report_begin(report *report, const options *options);

/* Adds a fact: `key` and `value` in JSON, `label` and the formatted text in the table. label NULL: JSON
   only. */
void report_text(report *report, const char *key, const char *label, const char *value, const char *format,
                 ...) __attribute__((format(printf, 5, 6)));
void report_number(report *report, const char *key, const char *label, double value, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* In the table only. */
void report_fact(report *report, const char *label, const char *text);

/* Begins a table below the facts. Cells are appended row by row; the first row is the heading. */
void report_table(report *report, const char *alignment);
void report_cell(report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds a warning: a line on stderr, also with --quiet, and an item of JSON's "warnings". */
void report_warning(report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds a number to a JSON object; infinities and NaN become "inf", "-inf" and "nan". */
void report_json_number(cJSON *object, const char *key, double value);

/* Prints the report. Fails if stdout cannot be written. */
attend_status report_print(report *report);
void report_end(report *report);

#endif
