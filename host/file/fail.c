/* The calling thread's last sentence about a file. */
#include "fail.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[1024];

attend_status attend_file_fail(attend_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    for (char *c = message; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    return status;
}

const char *attend_file_message(void) { return message; }
