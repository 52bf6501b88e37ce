/* Parses values of the command line. Every character must be used. The message of a failure names the
   option. */
#ifndef ATTEND_TOOL_PARSE_H
#define ATTEND_TOOL_PARSE_H

#include "tool/options.h"
#include "tool/suggest.h"

/* 4096, 4k (k, M, G: powers of 1024), 1e3, 1.5M: any text whose value is a whole number. */
attend_status parse_whole(const char *option, const char *text, int64_t least, int64_t most, int64_t *value);
attend_status parse_seed(const char *option, const char *text, uint64_t *value);
/* A number that is finite as a float, and not 0. */
attend_status parse_scale(const char *option, const char *text, float *value);

/* From `least` to `most` finite numbers separated by commas, each with an optional unit. Missing ones keep
   their values. */
attend_status parse_numbers(const char *option, const char *text, int least, int most, double *values);

/* One of `names`, which ends with NULL; *index is its index there. */
attend_status parse_choice(const char *option, const char *text, const char *const *names, int *index);

/* key=value,key=value: each key of random_shape at most once. */
attend_status parse_random(const char *option, const char *text, random_shape *shape);
void parse_suggest_key(suggestion *meant);

#endif
