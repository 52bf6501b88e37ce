/* The table of options, by which options.c reads a command line. */
#ifndef ATTEND_TOOL_OPTIONS_TABLE_H
#define ATTEND_TOOL_OPTIONS_TABLE_H

#include "tool/options.h"

/* The sources of a problem. Options of two of the first three groups exclude each other. */
typedef enum group { OF_LAYER = 1, OF_TENSORS = 2, OF_RANDOM = 4, OF_ANY = 8 } group;

typedef struct option_row {
    const char *name, *argument; /* argument NULL: a flag; "[=…": an optional value */
    int commands;
    group group;
    attend_status (*read)(const struct option_row *row, const char *text, options *options);
    size_t offset; /* of the field of `options` that it sets */
    const char *help;
} option_row;

/* Beside a row's commands: the option also applies to attend bench --sweep, or --decode. */
enum { WITH_SWEEP = 1 << 16, WITH_DECODE = 1 << 17, WITH_TABLES = WITH_SWEEP | WITH_DECODE };
enum { MOST_OPTIONS = 128 };
extern const option_row option_rows[];
extern const int option_row_count;

/* Whether the option names a file to read, or a file to write. */
bool option_is_input(const option_row *row);
bool option_is_output(const option_row *row);

#endif
