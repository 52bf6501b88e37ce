/* The thread's last error message, and names of statuses. */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[512];

attend_status attend_fail(attend_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return status;
}

const char *attend_error_message(void) { return message; }

const char *attend_status_name(attend_status status)
{
    switch (status) {
    case ATTEND_OK: return "ATTEND_OK";
    case ATTEND_INVALID_ARGUMENT: return "ATTEND_INVALID_ARGUMENT";
    case ATTEND_UNSUPPORTED: return "ATTEND_UNSUPPORTED";
    case ATTEND_OUT_OF_MEMORY: return "ATTEND_OUT_OF_MEMORY";
    case ATTEND_NO_DEVICE: return "ATTEND_NO_DEVICE";
    case ATTEND_DEVICE_ERROR: return "ATTEND_DEVICE_ERROR";
    case ATTEND_BAD_FILE: return "ATTEND_BAD_FILE";
    case ATTEND_IO_ERROR: return "ATTEND_IO_ERROR";
    case ATTEND_CANCELLED: return "ATTEND_CANCELLED";
    }
    return "unknown status";
}

const char *attend_version(void)
{
#define TEXT(x)   #x
#define NUMBER(x) TEXT(x)
    return NUMBER(ATTEND_VERSION_MAJOR) "." NUMBER(ATTEND_VERSION_MINOR) "." NUMBER(ATTEND_VERSION_PATCH);
}
