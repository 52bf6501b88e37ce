/* JSON that is not believed, and memory that may lack. */
#ifndef ATTEND_FILE_JSON_H
#define ATTEND_FILE_JSON_H

#include <attend/attend.h>
#include <cjson/cJSON.h>

/* Parses `length` bytes and the NUL behind them. Sets *end behind the value, or with end NULL lets nothing
 * but blanks follow it. ATTEND_BAD_FILE says "PATH is not JSON", or with a part ": its header" behind the
 * path, ATTEND_OUT_OF_MEMORY that memory lacked.
 */
attend_status attend_json_parse(const char *path, const char *part, const char *text, size_t length,
                                const char **end, cJSON **json);

/* Reads and parses a whole file of at most 64 MiB, which must hold an object. cJSON_Delete() it; NULL on
 * failure. */
attend_status attend_json_read(const char *path, cJSON **json);

#endif
