/* Numbers, choices and shapes of the command line. */
#include "parse.h"
#include "file/fail.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool only_digits(const char *text) { return *text && text[strspn(text, "0123456789")] == 0; }

attend_status parse_whole(const char *option, const char *text, int64_t least, int64_t most, int64_t *value)
{
    errno = 0;
    *value = strtoll(text, NULL, 10);
    if (!only_digits(text + (*text == '-')) || errno || *value < least || *value > most)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected a whole number from %" PRId64 " to %" PRId64,
                                option, text, least, most);
    return ATTEND_OK;
}

attend_status parse_seed(const char *option, const char *text, uint64_t *value)
{
    errno = 0;
    *value = strtoull(text, NULL, 10);
    if (!only_digits(text) || errno)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected a whole number below 2^64", option, text);
    return ATTEND_OK;
}

attend_status parse_scale(const char *option, const char *text, float *value)
{
    char *end;
    *value = (float)strtod(text, &end);
    if (end == text || *end || strchr(" \t\n", *text) || !isfinite(*value) || *value == 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected a number other than 0 that a float holds",
                                option, text);
    return ATTEND_OK;
}

attend_status parse_numbers(const char *option, const char *text, int least, int most, double *values)
{
    const char *at = text;
    int count = 0;
    for (;; count++, at++) {
        char *end;
        if (count == most) break;
        values[count] = strtod(at, &end);
        if (end == at || strchr(" \t\n", *at) || !isfinite(values[count]) || (*end && *end != ',')) break;
        at = end;
        if (!*at && count + 1 >= least) return ATTEND_OK;
        if (!*at) break;
    }
    if (least == most)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected %d number%s", option, text, least,
                                least == 1 ? "" : "s with commas between");
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected %d to %d numbers with commas between", option, text,
                            least, most);
}

attend_status parse_choice(const char *option, const char *text, const char *const *names, int *index)
{
    char list[256] = "";
    for (*index = 0; names[*index]; ++*index) {
        if (!strcmp(text, names[*index])) return ATTEND_OK;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", names[*index]);
    }
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected one of %s", option, text, list);
}

static attend_status parse_pair(const char *option, const char *pair, size_t length, random_shape *shape)
{
    const struct {
        const char *name;
        int64_t least, *value;
    } keys[] = {
        {"batch", 0, &shape->batch},           {"heads", 1, &shape->heads},       {"kv_heads", 1, &shape->kv_heads},
        {"seqlen_q", 0, &shape->seqlen_q},     {"seqlen_k", 0, &shape->seqlen_k}, {"head_dim", 1, &shape->head_dim},
        {"head_dim_v", 1, &shape->head_dim_v},
    };
    char text[64], name[64];
    if (length >= sizeof text) length = sizeof text - 1;
    snprintf(text, sizeof text, "%.*s", (int)length, pair);
    char *value = strchr(text, '=');
    if (!value) return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has \"%s\", expected key=value", option, text);
    *value++ = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(text, keys[i].name) != 0) continue;
        if (*keys[i].value >= 0) return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has %s twice", option, text);
        snprintf(name, sizeof name, "%s %s", option, keys[i].name);
        return parse_whole(name, value, keys[i].least, INT64_MAX, keys[i].value);
    }
    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                            "%s has an unknown key \"%s\"; batch, heads, kv_heads, seqlen_q, seqlen_k, "
                            "head_dim, head_dim_v are known",
                            option, text);
}

attend_status parse_random(const char *option, const char *text, random_shape *shape)
{
    for (;;) {
        size_t length = strcspn(text, ",");
        ATTEND_TRY(parse_pair(option, text, length, shape));
        if (!text[length]) return ATTEND_OK;
        text += length + 1;
    }
}
