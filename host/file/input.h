/* A regular file that is read piece by piece at known places. Not mapped: a file that somebody cuts while it
   is read gives a sentence, not a signal, and what is read is copied to aligned memory on the way. */
#ifndef ATTEND_FILE_INPUT_H
#define ATTEND_FILE_INPUT_H

#include <attend/attend.h>

typedef struct attend_input {
    char *path;
    int descriptor;
    int64_t size;
} attend_input;

/* Fails with ATTEND_IO_ERROR, also on folders, pipes and devices; *input is cleared then. */
attend_status attend_input_open(const char *path, attend_input *input);
/* Reads exactly `bytes` bytes at `offset`, which the caller has checked against the size. */
attend_status attend_input_read(const attend_input *input, int64_t offset, void *to, int64_t bytes);
/* Fine on a cleared one. */
void attend_input_close(attend_input *input);

#endif
