/* Failures: functions return a status, and the message is kept for the calling thread. */
#ifndef ATTEND_CORE_STATUS_H
#define ATTEND_CORE_STATUS_H

#include <attend/attend.h>

/* Sets the message and returns the status, for `return attend_fail(...)`. */
attend_status attend_fail(attend_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The only control-flow macro: passes a failure on to the caller. */
#define ATTEND_TRY(expression)                                        \
    do {                                                              \
        attend_status attend_try_status = (expression);               \
        if (attend_try_status != ATTEND_OK) return attend_try_status; \
    } while (0)

#endif
