/* A regular file, read piece by piece at given offsets. If it is truncated while it is read, that gives an
   error, not a signal, and data is copied to aligned memory. */
#ifndef ATTEND_FILE_INPUT_H
#define ATTEND_FILE_INPUT_H

#include "file/array.h"

typedef struct attend_input {
    char *path;
    int descriptor;
    int64_t size;
} attend_input;

/* Fails with ATTEND_IO_ERROR, also for folders, pipes and devices; *input is then cleared. */
attend_status attend_input_open(const char *path, attend_input *input);
/* Reads exactly `bytes` bytes at `offset`. The caller has checked both against the size. */
attend_status attend_input_read(const attend_input *input, int64_t offset, void *to, int64_t bytes);
/* Allocates an array's data and reads it; or maps it, if that is wanted and its elements are aligned in the
   file. */
attend_status attend_input_take(const attend_input *input, int64_t offset, int64_t bytes, bool mapped,
                                attend_array *array);
/* May be called on a cleared input. */
void attend_input_close(attend_input *input);

#endif
