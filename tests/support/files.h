/* Small files of given bytes in a folder of this process, for tests that read and write files. */
#ifndef ATTEND_TEST_SUPPORT_FILES_H
#define ATTEND_TEST_SUPPORT_FILES_H

#include <stddef.h>
#include <stdint.h>

/* A new folder, the same for the whole process, removed with its contents at exit. */
const char *test_folder(void);
/* "FOLDER/name"; valid for the next seven calls. */
const char *test_path(const char *name);
void test_write_file(const char *path, const void *bytes, size_t size);
/* An .npy file in the folder, of any dtype: `descr` is numpy's name of it, "<i8", and `shape` a tuple, "(2, 6)". */
void test_write_npy(const char *name, const char *descr, const char *shape, const void *data, size_t bytes);
/* The whole file, terminated by a NUL; free() it. Fails the test if it cannot be read. */
char *test_read_file(const char *path, size_t *size);
/* A device like /dev/full or /dev/null that a test may replace or delete: for root a node of the test's own,
   if the file system allows it (otherwise the test is skipped); for others the system's, which only root
   could replace. */
const char *test_device(const char *name);
/* The number of files in the folder, also of those that begin with a dot. */
int test_count_files(void);

#endif
