/* A file that appears complete or not at all: it is written to a temporary file in the same folder, then
   renamed. Opening it early shows whether the path can be written. */
#ifndef ATTEND_FILE_OUTPUT_H
#define ATTEND_FILE_OUTPUT_H

#include "file/mapping.h"

#include <attend/attend.h>

typedef struct attend_output {
    char *path;      /* the final path, links resolved; NULL: cleared */
    char *temporary; /* the temporary file; NULL: `path` is a device or a pipe, which is written directly */
    int descriptor;
    int slot; /* its index in attend_output_remove_all()'s list */
} attend_output;

/* All failures of this file are ATTEND_IO_ERROR. */
attend_status attend_output_open(const char *path, attend_output *output);
attend_status attend_output_write(attend_output *output, const void *data, int64_t bytes);
/* Makes the file as long as what was written and `bytes` more, which are zeros and mapped: `data` is the
   first of them. All the disk that they need is taken here. Not of a device or a pipe. */
attend_status attend_output_map(const attend_output *output, int64_t bytes, attend_mapping *mapping,
                                void **data);
/* Call after the last write: waits until the data is on the disk, so that a full disk is noticed here. */
attend_status attend_output_finish(attend_output *output);
/* Renames a finished file to its final path, replacing an existing file. */
attend_status attend_output_commit(attend_output *output);
/* Frees it, and removes the file if it was not committed. May be called on a cleared output. */
void attend_output_close(attend_output *output);

/* Removes all files that were not committed; safe in a signal handler. */
void attend_output_remove_all(void);

#endif
