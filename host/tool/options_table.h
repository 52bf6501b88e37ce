/* The rows that options.c reads a command line by. */
#ifndef ATTEND_TOOL_OPTIONS_TABLE_H
#define ATTEND_TOOL_OPTIONS_TABLE_H

#include "tool/options.h"

/* What belongs together: options of two of the first three groups are never given at once. */
typedef enum group { OF_LAYER = 1, OF_TENSORS = 2, OF_RANDOM = 4, OF_ANY = 8 } group;

typedef struct option_row {
    const char *name, *argument; /* argument NULL: a flag; "[=…": optional */
    int commands;
    group group;
    attend_status (*read)(const struct option_row *row, const char *text, options *options);
    size_t offset; /* of the field that it fills */
    const char *help;
} option_row;

/* Beside a row's commands: attend bench --sweep heeds it too. */
enum { WITH_SWEEP = 1 << 16 };
enum { MOST_OPTIONS = 128 };
extern const option_row option_rows[];
extern const int option_row_count;

/* Whether it names a file that is read, or one that is written. */
bool option_is_input(const option_row *row);
bool option_is_output(const option_row *row);

#endif
