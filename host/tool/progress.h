/* Progress of a long command, on one line of stderr. Prints nothing if stderr is not a terminal, and nothing
   in the first half second. */
#ifndef ATTEND_TOOL_PROGRESS_H
#define ATTEND_TOOL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

void progress_start(bool wanted);
/* Sets the stage; the clock is not reset. */
void progress_stage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Bytes that the stage moves in all. */
void progress_bytes(double bytes);
/* Shows how much of the stage is done, and what follows from it: a bar, the bytes moved, the rate and the
   time that is left. Returns true, as the progress callback of a context that never cancels. */
bool progress_show(void *unused, int64_t done, int64_t total);
/* Clears the line and ends the thread. May be called without a start. */
void progress_stop(void);

#endif
