/* The options of attend inspect. */
#ifndef ATTEND_TOOL_INSPECT_OPTIONS_H
#define ATTEND_TOOL_INSPECT_OPTIONS_H

#include <attend/inspect.h>

enum { INSPECT_MAX_QUERIES = 64, REGION_NAME = 24 };

typedef struct inspect_options {
    const char *tokens, *rows, *map_output; /* files; NULL: not given */
    int64_t top, tiles, entry, head;        /* head -1: all */
    int64_t queries[INSPECT_MAX_QUERIES];
    int query_count;
    attend_key_window regions[ATTEND_MAX_KEY_WINDOWS];
    char region_names[ATTEND_MAX_KEY_WINDOWS][REGION_NAME];
    int region_count;
    int64_t first_query, end_query, first_key, end_key; /* part of the map; an end of 0: up to the last */
} inspect_options;

inspect_options inspect_options_usual(void);

/* The message of each failure names the option. */
attend_status parse_queries(const char *option, const char *text, inspect_options *options);
attend_status parse_regions(const char *option, const char *text, inspect_options *options);
attend_status parse_map(const char *option, const char *text, inspect_options *options);

#endif
