#include "tool/library.h"
#include "file/fail.h"

attend_status from_library(attend_status status)
{
    return status == ATTEND_OK ? ATTEND_OK : attend_file_fail(status, "%s", attend_error_message());
}
