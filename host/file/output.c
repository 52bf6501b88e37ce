/* Writes files such that no partial file is left after a failure or a signal. */
#include "file/output.h"
#include "file/fail.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names that a signal handler removes. A slot is set when its string is complete, and cleared before the
   string is freed. */
enum { SLOTS = 16 };
static char *volatile live[SLOTS];

void attend_output_remove_all(void)
{
    for (int i = 0; i < SLOTS; i++)
        if (live[i]) unlink(live[i]);
}

static void remember(attend_output *output)
{
    output->slot = -1;
    for (int i = 0; i < SLOTS && output->slot < 0; i++)
        if (!live[i]) {
            output->slot = i;
            live[i] = output->temporary;
        }
}

static void forget(attend_output *output)
{
    if (output->slot >= 0) live[output->slot] = NULL;
    output->slot = -1;
}

/* "FOLDER/.attend-XXXXXX" in the folder of `path`; NULL: out of memory. */
static char *temporary_name(const char *path)
{
    static const char name[] = "/.attend-XXXXXX";
    char *copy = strdup(path), *result = NULL;
    const char *folder = copy ? dirname(copy) : NULL;
    if (folder) result = malloc(strlen(folder) + sizeof name);
    if (result) strcat(strcpy(result, folder), name);
    free(copy);
    return result;
}

static attend_status open_temporary(attend_output *output, mode_t mode)
{
    output->temporary = temporary_name(output->path);
    if (!output->temporary)
        return attend_file_fail(ATTEND_IO_ERROR, "%s: no memory for its name", output->path);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* blocks signals until the new file is in a slot */
    output->descriptor = mkostemp(output->temporary, O_CLOEXEC);
    int error = errno;
    if (output->descriptor >= 0) remember(output);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (output->descriptor >= 0) {
        fchmod(output->descriptor, mode); /* not checked: some file systems have no modes */
        return ATTEND_OK;
    }
    free(output->temporary);
    output->temporary = NULL;
    return attend_file_fail(ATTEND_IO_ERROR, "%s cannot be written: %s", output->path, strerror(error));
}

static attend_status open_existing(attend_output *output, const struct stat *about)
{
    if (S_ISDIR(about->st_mode)) return attend_file_fail(ATTEND_IO_ERROR, "%s is a folder", output->path);
    if (access(output->path, W_OK))
        return attend_file_fail(ATTEND_IO_ERROR, "%s cannot be written: %s", output->path, strerror(errno));
    if (S_ISREG(about->st_mode)) return open_temporary(output, about->st_mode & 07777);
    output->descriptor = open(output->path, O_WRONLY | O_CLOEXEC);
    if (output->descriptor < 0)
        return attend_file_fail(ATTEND_IO_ERROR, "%s cannot be written: %s", output->path, strerror(errno));
    return ATTEND_OK;
}

attend_status attend_output_open(const char *path, attend_output *output)
{
    struct stat about;
    char *target = realpath(path, NULL);
    memset(output, 0, sizeof *output);
    output->descriptor = output->slot = -1;
    output->path = target ? target : strdup(path);
    if (!output->path) return attend_file_fail(ATTEND_IO_ERROR, "%s: no memory for its name", path);
    mode_t mask = umask(0);
    umask(mask);
    attend_status status =
        stat(output->path, &about) ? open_temporary(output, 0666 & ~mask) : open_existing(output, &about);
    if (status != ATTEND_OK) attend_output_close(output);
    return status;
}

attend_status attend_output_write(attend_output *output, const void *data, int64_t bytes)
{
    for (int64_t done = 0; done < bytes;) {
        ssize_t wrote = write(output->descriptor, (const char *)data + done, (size_t)(bytes - done));
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return attend_file_fail(ATTEND_IO_ERROR, "%s: %s", output->path, strerror(errno));
        done += wrote;
    }
    return ATTEND_OK;
}

attend_status attend_output_map(const attend_output *output, int64_t bytes, attend_mapping *mapping,
                                void **data)
{
    const int64_t begin = lseek(output->descriptor, 0, SEEK_CUR);
    const int error = begin < 0 ? errno : bytes > 0 ? posix_fallocate(output->descriptor, begin, bytes) : 0;
    if (error) return attend_file_fail(ATTEND_IO_ERROR, "%s: %s", output->path, strerror(error));
    ATTEND_TRY(attend_mapping_make(output->path, output->descriptor, begin + bytes, true, mapping));
    *data = (char *)mapping->base + begin;
    return ATTEND_OK;
}

attend_status attend_output_finish(attend_output *output)
{
    int failed = output->temporary ? fsync(output->descriptor) : 0;
    int error = errno;
    if (close(output->descriptor) && !failed) failed = -1, error = errno;
    output->descriptor = -1;
    if (failed) return attend_file_fail(ATTEND_IO_ERROR, "%s: %s", output->path, strerror(error));
    return ATTEND_OK;
}

attend_status attend_output_commit(attend_output *output)
{
    if (!output->temporary) return ATTEND_OK;
    if (rename(output->temporary, output->path))
        return attend_file_fail(ATTEND_IO_ERROR, "%s cannot be written: %s", output->path, strerror(errno));
    forget(output);
    free(output->temporary);
    output->temporary = NULL;
    return ATTEND_OK;
}

void attend_output_close(attend_output *output)
{
    if (!output->path) return;
    if (output->descriptor >= 0) close(output->descriptor);
    if (output->temporary) unlink(output->temporary);
    forget(output);
    free(output->temporary);
    free(output->path);
    memset(output, 0, sizeof *output);
}
