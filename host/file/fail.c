/* Keeps the message of the calling thread's last failure. */
#include "file/fail.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[8192]; /* room for two paths and a reason */
static _Thread_local bool of_input;

static void keep(const char *format, va_list arguments)
{
    vsnprintf(message, sizeof message, format, arguments);
    for (char *c = message; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
}

attend_status attend_file_fail(attend_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    keep(format, arguments);
    va_end(arguments);
    of_input = false;
    return status;
}

attend_status attend_file_fail_input(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    keep(format, arguments);
    va_end(arguments);
    of_input = true;
    return ATTEND_IO_ERROR;
}

bool attend_file_failed_on_input(void) { return of_input; }

const char *attend_file_message(void) { return message; }
