/* Opens and reads regular files. */
#include "file/input.h"
#include "file/fail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

attend_status attend_input_open(const char *path, attend_input *input)
{
    struct stat about;
    memset(input, 0, sizeof *input);
    /* O_NONBLOCK: opening a pipe without a writer would block */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return attend_file_fail_input("%s: %s", path, strerror(errno));
    if (fstat(descriptor, &about) || !S_ISREG(about.st_mode)) {
        close(descriptor);
        return attend_file_fail_input("%s is not a regular file", path);
    }
    *input = (attend_input){strdup(path), descriptor, about.st_size};
    if (input->path) return ATTEND_OK;
    *input = (attend_input){0};
    close(descriptor);
    return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s: no memory for its name", path);
}

attend_status attend_input_read(const attend_input *input, int64_t offset, void *to, int64_t bytes)
{
    for (int64_t done = 0; done < bytes;) {
        ssize_t got = pread(input->descriptor, (char *)to + done, (size_t)(bytes - done), offset + done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return attend_file_fail_input("%s: %s", input->path, strerror(errno));
        if (got == 0)
            return attend_file_fail_input("%s ends at byte %" PRId64 ": it was truncated while it was read",
                                          input->path, offset + done);
        done += got;
    }
    return ATTEND_OK;
}

attend_status attend_input_take(const attend_input *input, int64_t offset, int64_t bytes, bool mapped,
                                attend_array *array)
{
    if (mapped && offset % (int64_t)attend_array_type_bytes(array->type) == 0) {
        ATTEND_TRY(attend_mapping_make(input->path, input->descriptor, input->size, false, &array->mapping));
        array->data = (char *)array->mapping.base + offset;
        return ATTEND_OK;
    }
    ATTEND_TRY(attend_memory_allocate(input->path, bytes, &array->data));
    return attend_input_read(input, offset, array->data, bytes);
}

void attend_input_close(attend_input *input)
{
    if (!input->path) return;
    close(input->descriptor);
    free(input->path);
    memset(input, 0, sizeof *input);
}
