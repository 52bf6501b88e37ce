/* A file that appears whole or not at all: written beside its place under another name, then renamed. Opening
   finds out early whether the place can be written. */
#ifndef ATTEND_FILE_OUTPUT_H
#define ATTEND_FILE_OUTPUT_H

#include <attend/attend.h>

typedef struct attend_output {
    char *path;      /* where it shall be, links followed; NULL: cleared */
    char *temporary; /* where it is until then; NULL where `path` is a device or a pipe, which is written
                        directly */
    int descriptor;
    int slot; /* among those that attend_output_remove_all() knows */
} attend_output;

/* All failures of this file are ATTEND_IO_ERROR. */
attend_status attend_output_open(const char *path, attend_output *output);
attend_status attend_output_write(attend_output *output, const void *data, int64_t bytes);
/* All is written: waits until it is on the disk, so that a full one shows here. */
attend_status attend_output_finish(attend_output *output);
/* Gives a finished file its name, replacing what was there. */
attend_status attend_output_commit(attend_output *output);
/* Frees it; what is not committed goes. Fine on a cleared one. */
void attend_output_close(attend_output *output);

/* Removes all that is not committed; safe in a signal handler. */
void attend_output_remove_all(void);

#endif
