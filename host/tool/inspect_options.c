/* Parses --queries, --regions and --map. */
#include "tool/inspect_options.h"
#include "tool/parse.h"
#include "file/fail.h"

#include <stdio.h>
#include <string.h>

inspect_options inspect_options_usual(void)
{
    inspect_options o = {.top = 5, .tiles = 256, .head = -1};
    parse_regions("", "self,previous,next,first", &o);
    return o;
}

/* Copies the text up to one of the characters in `ends` and moves *text past it; false if it is too long. */
static bool next_part(const char **text, const char *ends, char part[REGION_NAME])
{
    size_t length = strcspn(*text, ends);
    bool fits = length < REGION_NAME;
    snprintf(part, REGION_NAME, "%.*s", (int)length, *text);
    *text += length + ((*text)[length] != 0);
    return fits;
}

attend_status parse_queries(const char *option, const char *text, inspect_options *o)
{
    char part[REGION_NAME], from[REGION_NAME];
    while (*text) {
        const char *rest = part;
        int64_t first, last;
        bool fits = next_part(&text, ",", part) && next_part(&rest, "-", from);
        if (!fits)
            return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has \"%s…\", expected N or N-N", option,
                                    part);
        ATTEND_TRY(parse_whole(option, from, 0, INT64_MAX - 1, &first));
        last = first;
        if (*rest) ATTEND_TRY(parse_whole(option, rest, first, INT64_MAX - 1, &last));
        for (; first <= last; first++) {
            if (o->query_count == INSPECT_MAX_QUERIES)
                return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has more than %d queries", option,
                                        INSPECT_MAX_QUERIES);
            o->queries[o->query_count++] = first;
        }
    }
    return ATTEND_OK;
}

/* self, previous, next, first, A..B, @A..B */
static attend_status parse_region(const char *option, const char *text, attend_key_window *region)
{
    static const struct {
        const char *name;
        attend_key_window region;
    } known[] = {{"self", {.absolute = false}},
                 {"previous", {.first = -1, .last = -1}},
                 {"next", {.first = 1, .last = 1}},
                 {"first", {.absolute = true}}};
    char first[REGION_NAME];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(text, known[i].name)) {
            *region = known[i].region;
            return ATTEND_OK;
        }
    region->absolute = *text == '@';
    text += region->absolute;
    const char *dots = strstr(text, "..");
    if (!dots)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s has \"%s\", expected self, previous, next, first, A..B or @A..B", option,
                                text);
    snprintf(first, sizeof first, "%.*s", (int)(dots - text), text);
    ATTEND_TRY(parse_whole(option, first, INT64_MIN, INT64_MAX, &region->first));
    return parse_whole(option, dots + 2, region->first, INT64_MAX, &region->last);
}

attend_status parse_regions(const char *option, const char *text, inspect_options *o)
{
    for (o->region_count = 0; *text; o->region_count++) {
        if (o->region_count == ATTEND_MAX_KEY_WINDOWS)
            return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has more than %d regions", option,
                                    ATTEND_MAX_KEY_WINDOWS);
        char *name = o->region_names[o->region_count];
        if (!next_part(&text, ",", name))
            return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has \"%s…\", which is too long", option,
                                    name);
        ATTEND_TRY(parse_region(option, name, &o->regions[o->region_count]));
    }
    return ATTEND_OK;
}

static attend_status parse_range(const char *option, const char *text, int64_t *first, int64_t *end)
{
    char from[REGION_NAME];
    const char *rest = text;
    if (!strchr(text, ':') || !next_part(&rest, ":", from))
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s has \"%s\", expected FROM:TO", option, text);
    *first = *end = 0;
    if (*from) ATTEND_TRY(parse_whole(option, from, 0, INT64_MAX - 1, first));
    return *rest ? parse_whole(option, rest, *first + 1, INT64_MAX, end) : ATTEND_OK;
}

attend_status parse_map(const char *option, const char *text, inspect_options *o)
{
    char queries[2 * REGION_NAME];
    const char *comma = strchr(text, ',');
    if (!comma || (size_t)(comma - text) >= sizeof queries)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s is \"%s\", expected queries and keys, FROM:TO,FROM:TO", option, text);
    snprintf(queries, sizeof queries, "%.*s", (int)(comma - text), text);
    ATTEND_TRY(parse_range(option, queries, &o->first_query, &o->end_query));
    return parse_range(option, comma + 1, &o->first_key, &o->end_key);
}
