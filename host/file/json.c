/* cJSON returns NULL for bad text and for want of memory alike; malloc() tells them apart. */
#include "json.h"
#include "fail.h"

#include <errno.h>

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
