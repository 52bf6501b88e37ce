/* Parses numbers, choices and shapes of the command line. */
#include "tool/parse.h"
#include "file/fail.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads a unit, k, M or G (powers of 1024), and moves *text past it; 1 if there is none. */
static uint64_t read_unit(const char **text)
{
    static const char units[] = "kMG";
    const char *unit = **text ? strchr(units, **text) : NULL;
    *text += unit != NULL;
    return unit ? (uint64_t)1 << 10 * (unit - units + 1) : 1;
}

/* Digits with an optional point, exponent of ten and unit, if the value is a whole number: 4096, 4k, 1e9,
   1.5M. */
static bool read_whole(const char *text, uint64_t *value)
{
    int64_t exponent = 0;
    bool digits = false, point = false;
    *value = 0;
    for (; (*text >= '0' && *text <= '9') || (*text == '.' && !point); text++) {
        point |= *text == '.';
        if (*text == '.') continue;
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*text - '0'), value))
            return false;
        digits = true, exponent -= point;
    }
    if (digits && (*text == 'e' || *text == 'E')) {
        const char *begin = text + 1 + (text[1] == '+');
        char *end;
        if (*begin < '0' || *begin > '9') return false;
        exponent += strtoll(begin, &end, 10), text = end; /* INT64_MAX on overflow */
    }
    if (__builtin_mul_overflow(*value, read_unit(&text), value)) return false;
    for (; exponent > 0 && *value; exponent--)
        if (__builtin_mul_overflow(*value, 10, value)) return false;
    for (; exponent < 0 && *value; exponent++, *value /= 10)
        if (*value % 10) return false;
    return digits && !*text;
}

attend_status parse_whole(const char *option, const char *text, int64_t least, int64_t most, int64_t *value)
{
    const bool negative = *text == '-';
    uint64_t size;
    bool whole = read_whole(text + negative, &size) && size <= (uint64_t)INT64_MAX + negative;
    *value = whole ? (int64_t)(negative ? -size : size) : 0;
    if (whole && *value >= least && *value <= most) return ATTEND_OK;
    if (most >= INT64_MAX - 1)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s is \"%s\", expected a whole number from %" PRId64 " up, below 2^63",
                                option, text, least);
    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                            "%s is \"%s\", expected a whole number from %" PRId64 " to %" PRId64, option,
                            text, least, most);
}

attend_status parse_seed(const char *option, const char *text, uint64_t *value)
{
    if (read_whole(text, value)) return ATTEND_OK;
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected a whole number below 2^64",
                            option, text);
}

attend_status parse_scale(const char *option, const char *text, float *value)
{
    char *end;
    *value = (float)strtod(text, &end);
    if (end == text || *end || strchr(" \t\n", *text) || !isfinite(*value) || *value == 0)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s is \"%s\", expected a number other than 0 in the range of a float",
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
        if (end == at || strchr(" \t\n", *at)) break;
        at = end;
        values[count] *= (double)read_unit(&at);
        if (!isfinite(values[count]) || (*at && *at != ',')) break;
        if (!*at && count + 1 >= least) return ATTEND_OK;
        if (!*at) break;
    }
    if (least == most)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected %d number%s", option, text,
                                least, least == 1 ? "" : "s separated by commas");
    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                            "%s is \"%s\", expected %d to %d numbers separated by commas", option, text,
                            least, most);
}

attend_status parse_choice(const char *option, const char *text, const char *const *names, int *index)
{
    char list[512] = "";
    suggestion meant = {.written = text};
    for (*index = 0; names[*index]; ++*index) {
        if (!strcmp(text, names[*index])) return ATTEND_OK;
        suggest(&meant, names[*index]);
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", names[*index]);
    }
    return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is \"%s\", expected one of %s%s%s%s", option, text,
                            list, meant.nearest ? "; did you mean " : "", meant.nearest ? meant.nearest : "",
                            meant.nearest ? "?" : "");
}

#define KEY(name) offsetof(random_shape, name)
static const struct {
    const char *name;
    int64_t least;
    size_t offset;
} random_keys[] = {
    {"batch", 0, KEY(batch)},           {"heads", 1, KEY(heads)},       {"kv_heads", 1, KEY(kv_heads)},
    {"seqlen_q", 0, KEY(seqlen_q)},     {"seqlen_k", 0, KEY(seqlen_k)}, {"head_dim", 1, KEY(head_dim)},
    {"head_dim_v", 1, KEY(head_dim_v)}, {"hidden", 1, KEY(hidden)},
};
enum { RANDOM_KEYS = sizeof random_keys / sizeof *random_keys };

void parse_suggest_key(suggestion *meant)
{
    for (int i = 0; i < RANDOM_KEYS; i++) suggest(meant, random_keys[i].name);
}

static attend_status parse_pair(const char *option, const char *pair, size_t length, random_shape *shape)
{
    char text[64], name[64];
    snprintf(text, sizeof text, "%.*s", (int)length, pair);
    char *value = strchr(text, '=');
    if (!value || length >= sizeof text)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has \"%s\", expected key=value", option, text);
    *value++ = 0;
    for (int i = 0; i < RANDOM_KEYS; i++) {
        int64_t *size = (int64_t *)((char *)shape + random_keys[i].offset);
        if (strcmp(text, random_keys[i].name) != 0) continue;
        if (*size >= 0) return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has %s twice", option, text);
        snprintf(name, sizeof name, "%s %s", option, random_keys[i].name);
        return parse_whole(name, value, random_keys[i].least, INT64_MAX, size);
    }
    suggestion meant = {.written = text};
    parse_suggest_key(&meant);
    if (meant.nearest)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has an unknown key \"%s\"; did you mean %s?",
                                option, text, meant.nearest);
    return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                            "%s has an unknown key \"%s\"; the keys are batch, heads, kv_heads, seqlen_q, "
                            "seqlen_k, head_dim, head_dim_v, hidden",
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
