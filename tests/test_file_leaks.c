/* What files take is given back: every operation on files, whether it succeeds, is refused or lacks memory at any
   of its allocations, leaves no block, descriptor, mapping or temporary file, and no name that a signal would
   remove. */
#include "support/allocator.h"
#include "support/files.h"
#include "file/fail.h"
#include "file/npy.h"
#include "file/safetensors.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { SIGNALLED = 16 }; /* files at once that a signal removes */
enum { BIG = 600000 }; /* floats: more than what is allocated without asking how much memory there is */

/* ---- what is done ---- */

static const char *at, *now; /* the operation's path and name */
static const float data[4] = {1, 2, 3, 70000};

static void expect_cleared(const void *memory, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (((const unsigned char *)memory)[i]) fail_msg("%s: byte %d is not cleared after a failure", now, (int)i);
}

static attend_status took(attend_status status, attend_array *array)
{
    if (status)
        expect_cleared(array, sizeof *array);
    else
        attend_array_free(array);
    return status;
}

static attend_status npy_read(void)
{
    attend_array array;
    return took(attend_npy_read(at, &array), &array);
}

static attend_status npy_map(void)
{
    attend_array array;
    return took(attend_npy_map(at, &array), &array);
}

static attend_status npy_convert(void)
{
    attend_array array;
    ATTEND_TRY(attend_npy_read(at, &array));
    const attend_status status = attend_array_convert("x", &array, ATTEND_F16);
    attend_array_free(&array);
    return status;
}

/* The status of the last tensor. */
static attend_status safetensors(void)
{
    attend_safetensors file;
    attend_array array;
    attend_status status = attend_safetensors_open(at, &file);
    if (status) expect_cleared(&file, sizeof file);
    for (int64_t i = 0; !status && i < file.count; i++) {
        took(attend_safetensors_map(&file, &file.entries[i], &array), &array);
        status = took(attend_safetensors_read(&file, &file.entries[i], &array), &array);
    }
    attend_safetensors_close(&file);
    return status;
}

static attend_status write_some(bool mapped, bool commit, attend_output *output)
{
    attend_mapping mapping;
    void *memory;
    ATTEND_TRY(attend_npy_write(output, ATTEND_F32, 1, (int64_t[]){4}, mapped ? NULL : data));
    if (mapped) {
        ATTEND_TRY(attend_output_map(output, sizeof data, &mapping, &memory));
        memcpy(memory, data, sizeof data);
        attend_mapping_free(&mapping);
    }
    ATTEND_TRY(attend_output_finish(output));
    return commit ? attend_output_commit(output) : ATTEND_OK;
}

static attend_status write_file(bool mapped, bool commit)
{
    attend_output output;
    ATTEND_TRY(attend_output_open(at, &output));
    const attend_status status = write_some(mapped, commit, &output);
    attend_output_close(&output);
    unlink(at);
    return status;
}

static attend_status write_committed(void) { return write_file(false, true); }
static attend_status write_dropped(void) { return write_file(false, false); }
static attend_status write_mapped(void) { return write_file(true, true); }

/* A folder takes the name meanwhile. */
static attend_status write_refused(void)
{
    attend_output output;
    ATTEND_TRY(attend_output_open(at, &output));
    assert_int_equal(mkdir(at, 0700), 0);
    const attend_status status = write_some(false, true, &output);
    attend_output_close(&output);
    assert_int_equal(rmdir(at), 0);
    return status;
}

static attend_status write_unopened(void)
{
    attend_output output;
    return attend_output_open(at, &output);
}

#define TENSOR(name, dtype, begin, end) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[2],\"data_offsets\":[" begin "," end "]}"
static const struct {
    const char *name, *path;
    const char *header; /* of a .safetensors file to be there */
    attend_status (*run)(void);
    attend_status status;
} cases[] = {
    {"an array", "good.npy", NULL, npy_read, ATTEND_OK},
    {"an array mapped", "good.npy", NULL, npy_map, ATTEND_OK},
    {"a large array", "big.npy", NULL, npy_read, ATTEND_OK},
    {"an array that overflows", "good.npy", NULL, npy_convert, ATTEND_INVALID_ARGUMENT},
    {"a large array converted", "big.npy", NULL, npy_convert, ATTEND_OK},
    {"no array", "bad.npy", NULL, npy_read, ATTEND_BAD_FILE},
    {"no file", "missing", NULL, npy_read, ATTEND_IO_ERROR},
    {"a folder", ".", NULL, npy_read, ATTEND_IO_ERROR},
    {"tensors", "good", TENSOR("a", "F32", "0", "8") "," TENSOR("b", "F16", "8", "12"), safetensors, ATTEND_OK},
    {"a tensor of no known type", "odd", TENSOR("a", "F64", "0", "16"), safetensors, ATTEND_BAD_FILE},
    {"tensors that overlap", "overlap", TENSOR("a", "F32", "0", "8") "," TENSOR("b", "F16", "4", "8"), safetensors,
     ATTEND_BAD_FILE},
    {"a tensor without a type", "lacks", "\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}", safetensors, ATTEND_BAD_FILE},
    {"no JSON", "text", "\"a\":", safetensors, ATTEND_BAD_FILE},
    {"no tensors", "good.npy", NULL, safetensors, ATTEND_BAD_FILE},
    {"no file of tensors", "missing", NULL, safetensors, ATTEND_IO_ERROR},
    {"a file written", "out.npy", NULL, write_committed, ATTEND_OK},
    {"a file dropped", "out.npy", NULL, write_dropped, ATTEND_OK},
    {"a file mapped and written", "out.npy", NULL, write_mapped, ATTEND_OK},
    {"a file that cannot be renamed", "out.npy", NULL, write_refused, ATTEND_IO_ERROR},
    {"a file in no folder", "no/out.npy", NULL, write_unopened, ATTEND_IO_ERROR},
    {"a folder to write to", ".", NULL, write_unopened, ATTEND_IO_ERROR},
};
enum { CASES = sizeof cases / sizeof *cases };

/* ---- what is left ---- */

typedef struct left {
    long blocks;
    int descriptors, mappings, files;
} left;

static left left_now(void)
{
    left l = {.blocks = allocator.live, .files = test_count_files()};
    char line[1024];
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder)) l.descriptors++;
    closedir(folder);
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) l.mappings += strstr(line, test_folder()) != NULL;
    fclose(maps);
    return l;
}

static void expect_left(const left *before, const char *name, int failing)
{
    const left l = left_now();
    if (l.blocks != before->blocks || l.descriptors != before->descriptors || l.mappings != before->mappings ||
        l.files != before->files)
        fail_msg("%s, allocation %d fails: leaves %ld blocks, %d descriptors, %d mappings, %d files", name, failing,
                 l.blocks - before->blocks, l.descriptors - before->descriptors, l.mappings - before->mappings,
                 l.files - before->files);
}

/* A signal removes as many new files as ever, of which one more is complete. */
static void expect_removed_by_signals(const left *before, const char *name)
{
    attend_output complete, outputs[SIGNALLED];
    assert_int_equal(attend_output_open(test_path("complete"), &complete), ATTEND_OK);
    assert_int_equal(write_some(false, true, &complete), ATTEND_OK);
    for (int i = 0; i < SIGNALLED; i++)
        assert_int_equal(attend_output_open(test_path("signal"), &outputs[i]), ATTEND_OK);
    attend_output_remove_all();
    if (test_count_files() != before->files + 1) fail_msg("%s: a signal leaves a new temporary file", name);
    for (int i = 0; i < SIGNALLED; i++) attend_output_close(&outputs[i]);
    attend_output_close(&complete);
    assert_int_equal(unlink(test_path("complete")), 0);
}

static void write_inputs(void)
{
    float *big = calloc(BIG, sizeof *big);
    char file[512];
    assert_non_null(big);
    test_write_npy("good.npy", "<f4", "(4,)", data, sizeof data);
    test_write_npy("big.npy", "<f4", "(600000,)", big, BIG * sizeof *big);
    test_write_npy("bad.npy", "<c8", "(2,)", data, sizeof data);
    free(big);
    for (int n = 0; n < CASES; n++) {
        if (!cases[n].header) continue;
        const uint64_t length = (uint64_t)snprintf(file + 8, 400, "{%s}", cases[n].header);
        memcpy(file, &length, 8), memset(file + 8 + length, 0, 16);
        const size_t data_bytes = strstr(cases[n].header, "F64") ? 16 : strstr(cases[n].header, "[8,12]") ? 12 : 8;
        test_write_file(test_path(cases[n].path), file, 8 + length + data_bytes);
    }
}

static void nothing_is_left(void **state)
{
    (void)state;
    write_inputs();
    for (int n = 0; n < CASES; n++) {
        char path[512];
        snprintf(path, sizeof path, "%s", test_path(cases[n].path));
        at = path, now = cases[n].name;
        cases[n].run(); /* what is kept for good is kept now */
        const left before = left_now();
        for (int i = 0; i <= SIGNALLED; i++) assert_int_equal(cases[n].run(), cases[n].status);
        expect_left(&before, cases[n].name, 0);
        bool reached = !TEST_SANITIZED;
        for (int failing = 1; reached; failing++) {
            atomic_store(&allocator.countdown, failing);
            cases[n].run();
            reached = atomic_exchange(&allocator.countdown, -1) <= 0;
            expect_left(&before, cases[n].name, failing);
        }
        expect_removed_by_signals(&before, cases[n].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_left)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
