/* How reading and writing files fails: a status upwards, its sentence kept for the calling thread. The
   command keeps its own failures here too; the library's stay in attend_error_message(). */
#ifndef ATTEND_FILE_FAIL_H
#define ATTEND_FILE_FAIL_H

#include "core/status.h" /* ATTEND_TRY */

/* Records the sentence, with control characters of hostile names replaced, and returns the status. */
attend_status attend_file_fail(attend_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for an input that cannot be read, ATTEND_IO_ERROR; and whether the thread's last failure was one:
   the caller's to change, unlike a full disk. */
attend_status attend_file_fail_input(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool attend_file_failed_on_input(void);

/* The sentence of the calling thread's last failure. */
const char *attend_file_message(void);

#endif
