/* Files for tests. */
#include "support/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[256];
static pid_t owner;

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *walk)
{
    (void)about, (void)type, (void)walk;
    return remove(path);
}

static void remove_folder(void)
{
    if (getpid() == owner) nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *test_folder(void)
{
    if (!folder[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/attend-test-XXXXXX", base ? base : "/tmp");
        if (!mkdtemp(folder)) fail_msg("cannot make %s", folder);
        owner = getpid();
        atexit(remove_folder);
    }
    return folder;
}

const char *test_path(const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder(), name);
    return path;
}

void test_write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

void test_write_npy(const char *name, const char *descr, const char *shape, const void *data, size_t bytes)
{
    char header[200], *file = malloc(sizeof header + bytes);
    int length = snprintf(header + 10, sizeof header - 10, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape);
    assert_in_range(length, 1, 189);
    memcpy(header, "\x93NUMPY\1\0", 8);
    header[8] = (char)length, header[9] = 0;
    memcpy(file, header, (size_t)(10 + length));
    memcpy(file + 10 + length, data, bytes);
    test_write_file(test_path(name), file, (size_t)(10 + length) + bytes);
    free(file);
}

char *test_read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s is not there", path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = calloc(*size + 1, 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

const char *test_device(const char *name)
{
    const char *path = test_path(name);
    dev_t device = makedev(1, !strcmp(name, "full") ? 7 : 3);
    if (geteuid() != 0) return !strcmp(name, "full") ? "/dev/full" : "/dev/null";
    if (access(path, F_OK) && mknod(path, S_IFCHR | 0666, device)) skip();
    int descriptor = open(path, O_WRONLY);
    if (descriptor < 0) skip(); /* mounted without devices */
    close(descriptor);
    return path;
}

int test_count_files(void)
{
    int count = 0;
    DIR *handle = opendir(test_folder());
    assert_non_null(handle);
    for (struct dirent *entry; (entry = readdir(handle));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(handle);
    return count;
}
