/* What a long command is doing, on one line of a terminal's stderr; nothing in a pipe, nothing in the first
 * half second. */
#ifndef ATTEND_TOOL_PROGRESS_H
#define ATTEND_TOOL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

void progress_start(bool wanted);
/* What happens now; the time runs on. */
void progress_stage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For attend_context_options: how far the stage is, as a bar; never asks to stop. */
bool progress_show(void *unused, int64_t done, int64_t total);
/* Clears the line. Fine where nothing was started. */
void progress_stop(void);

#endif
