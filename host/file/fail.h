/* Failures of files: functions return a status, and the message is kept for the calling thread. The command's
   own failures are kept here too; the library's are in attend_error_message(). */
#ifndef ATTEND_FILE_FAIL_H
#define ATTEND_FILE_FAIL_H

#include "core/status.h" /* ATTEND_TRY */

/* Sets the message and returns the status. Control characters, which may come from names in files, are
   replaced. */
attend_status attend_file_fail(attend_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same with ATTEND_IO_ERROR for an input that cannot be read, which the caller can correct, unlike a full
   disk. attend_file_failed_on_input(): whether the thread's last failure was one. */
attend_status attend_file_fail_input(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool attend_file_failed_on_input(void);

/* The message of the calling thread's last failure. */
const char *attend_file_message(void);

#endif
