/* Parses untrusted JSON. cJSON returns NULL both for invalid text and for a failed allocation; a hook on
   malloc() tells them apart. */
#include "file/json.h"
#include "file/fail.h"
#include "file/input.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 64 << 20 };

attend_status attend_json_parse(const char *path, const char *part, const char *text, size_t length,
                                const char **end, cJSON **json)
{
    errno = 0;
    *json = cJSON_ParseWithLengthOpts(text, length + 1, end, end == NULL);
    if (*json) return ATTEND_OK;
    if (errno == ENOMEM)
        return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s%s: no memory for its JSON", path, part);
    return attend_file_fail(ATTEND_BAD_FILE, "%s%s is not JSON", path, part);
}

static attend_status read_text(const char *path, char **text, size_t *length)
{
    attend_input input;
    attend_status status = ATTEND_OK;
    *text = NULL;
    ATTEND_TRY(attend_input_open(path, &input));
    *length = (size_t)input.size;
    if (input.size > MAX_BYTES)
        status = attend_file_fail(ATTEND_BAD_FILE, "%s has %" PRId64 " bytes, the limit is %d", path,
                                  input.size, MAX_BYTES);
    else if (!(*text = malloc(*length + 1)))
        status = attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s: no memory for its text", path);
    else
        status = attend_input_read(&input, 0, *text, input.size);
    attend_input_close(&input);
    if (status == ATTEND_OK) (*text)[*length] = 0;
    return status;
}

/* A NUL, also an escaped one, would truncate names. */
static bool holds_nul(const char *text, size_t length)
{
    return memchr(text, 0, length) || strstr(text, "\\u0000");
}

attend_status attend_json_read(const char *path, cJSON **json)
{
    char *text;
    size_t length = 0;
    *json = NULL;
    attend_status status = read_text(path, &text, &length);
    if (status == ATTEND_OK)
        status = holds_nul(text, length) ? attend_file_fail(ATTEND_BAD_FILE, "%s has a NUL in it", path)
                                         : attend_json_parse(path, "", text, length, NULL, json);
    if (status == ATTEND_OK && !cJSON_IsObject(*json))
        status = attend_file_fail(ATTEND_BAD_FILE, "%s is not a JSON object", path);
    if (status != ATTEND_OK) cJSON_Delete(*json), *json = NULL;
    free(text);
    return status;
}
