/* Parses untrusted JSON, and reports failed allocations. */
#ifndef ATTEND_FILE_JSON_H
#define ATTEND_FILE_JSON_H

#include <attend/attend.h>
#include <cjson/cJSON.h>

/* Parses `length` bytes, which are followed by a NUL. *end is set to the end of the value; if `end` is NULL,
   only blanks may follow the value. `part`, such as ": its header", follows the path in messages. */
attend_status attend_json_parse(const char *path, const char *part, const char *text, size_t length,
                                const char **end, cJSON **json);

/* Reads and parses a file of at most 64 MiB, which must be a JSON object. The caller calls cJSON_Delete();
   *json is NULL on failure. */
attend_status attend_json_read(const char *path, cJSON **json);

#endif
