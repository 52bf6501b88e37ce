/* A whole file mapped into memory: its pages come when they are touched, and are the file's, not the
   process's own. For files too large to be read. A file that is truncated meanwhile ends the process by
   SIGBUS, so smaller ones are read (input.h). */
#ifndef ATTEND_FILE_MAPPING_H
#define ATTEND_FILE_MAPPING_H

#include <attend/attend.h>

typedef struct attend_mapping {
    void *base; /* NULL: none */
    size_t bytes;
} attend_mapping;

/* The first `bytes` bytes of an open file, more than none; shared: writes go to the file. `path` is used in
   the message of ATTEND_IO_ERROR. */
attend_status attend_mapping_make(const char *path, int descriptor, int64_t bytes, bool shared,
                                  attend_mapping *mapping);
/* Gives back the memory of all pages that were touched; they come back, with what was written to them, when
   they are touched again. */
void attend_mapping_release(const attend_mapping *mapping);
/* May be called on a cleared mapping. */
void attend_mapping_free(attend_mapping *mapping);

#endif
