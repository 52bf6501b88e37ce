/* .npy files: what numpy writes is read bit by bit, what lies is refused with a sentence, and nothing partial
 * is left behind. */
#include "support/files.h"
#include "file/fail.h"
#include "file/npy.h"
#include "shared/splitmix.h"
#include "tool/values.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* A file of version `major` with this header text and `data_bytes` bytes of 0, 1, 2, … behind it. */
static size_t make_file(unsigned char *file, int major, const char *header, int64_t promised, size_t data_bytes)
{
    size_t begin = major == 1 ? 10 : 12, length = strlen(header);
    if (promised < 0) promised = (int64_t)length;
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (unsigned char)major, file[7] = 0;
    for (size_t i = 8; i < begin; i++) file[i] = (unsigned char)(promised >> 8 * (i - 8));
    memcpy(file + begin, header, length);
    for (size_t i = 0; i < data_bytes; i++) file[begin + length + i] = (unsigned char)i;
    return begin + length + data_bytes;
}

static void what_numpy_writes_is_read(void **state)
{
    (void)state;
    static const struct {
        int major;
        const char *header;
        size_t data_bytes;
        attend_array_type type;
        int rank;
        int64_t shape[4];
    } cases[] = {
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 24, ATTEND_ARRAY_F32, 2, {2, 3}},
        {1, "{'descr': '<f2', 'fortran_order': False, 'shape': (5,), }          \n", 10, ATTEND_ARRAY_F16, 1, {5}},
        {2, "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }\n", 16, ATTEND_ARRAY_I64, 1, {2}},
        {3, "{'descr': '<i4', 'fortran_order': False, 'shape': (), }\n", 4, ATTEND_ARRAY_I32, 0, {0}},
        {1, "{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }\n", 3, ATTEND_ARRAY_U8, 1, {3}},
        {1, "{'shape': (1, 2, 3, 4), 'fortran_order': False, 'descr': \"<f4\"}", 96, ATTEND_ARRAY_F32, 4, {1, 2, 3, 4}},
        {1,
         "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807), }\n",
         0,
         ATTEND_ARRAY_F32,
         2,
         {0, INT64_MAX}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char file[512];
        attend_array array;
        size_t size = make_file(file, cases[i].major, cases[i].header, -1, cases[i].data_bytes);
        test_write_file(test_path("good.npy"), file, size);
        if (attend_npy_read(test_path("good.npy"), &array) != ATTEND_OK)
            fail_msg("%s: %s", cases[i].header, attend_file_message());
        assert_int_equal(array.type, cases[i].type);
        assert_int_equal(array.rank, cases[i].rank);
        assert_memory_equal(array.shape, cases[i].shape, sizeof(int64_t) * (size_t)array.rank);
        for (size_t b = 0; b < cases[i].data_bytes; b++) assert_int_equal(((unsigned char *)array.data)[b], b);
        attend_array_free(&array);
    }
}

static void lies_are_refused(void **state)
{
    (void)state;
#define HEAD(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }\n"
    static const struct {
        const char *sentence;
        int major;
        const char *header;
        int64_t promised; /* header length in the file; -1: the true one */
        size_t data_bytes;
    } cases[] = {
        {"truncated: its shape needs 24 bytes of data, it has 23", 1, HEAD("'<f4'", "False", "(2, 3)"), -1, 23},
        {"has 1 bytes more than the 24", 1, HEAD("'<f4'", "False", "(2, 3)"), -1, 25},
        {"Fortran order", 1, HEAD("'<f4'", "True", "(2, 3)"), -1, 24},
        {"dtype '<f8'", 1, HEAD("'<f8'", "False", "(2, 3)"), -1, 48},
        {"dtype '|i1'", 1, HEAD("'|i1'", "False", "(2, 3)"), -1, 6},
        {"big-endian", 1, HEAD("'>f4'", "False", "(2, 3)"), -1, 24},
        {"no bfloat16", 1, HEAD("'|V2'", "False", "(2, 3)"), -1, 12},
        {"structured", 1, HEAD("[('a', '<f4')]", "False", "(2, 3)"), -1, 24},
        {"dtype ''", 1, HEAD("''", "False", "(2, 3)"), -1, 24},
        {"more bytes than 63 bits", 1, HEAD("'<f4'", "False", "(4611686018427387904, 2)"), -1, 0},
        {"more bytes than 63 bits", 1, HEAD("'<f4'", "False", "(4294967296, 4294967296)"), -1, 0},
        {"shape[1] does not fit in 63 bits", 1, HEAD("'<f4'", "False", "(0, 9223372036854775808)"), -1, 0},
        {"shape[0] does not fit in 63 bits", 1, HEAD("'<f4'", "False", "(99999999999999999999999,)"), -1, 0},
        {"truncated", 1, HEAD("'<f4'", "False", "(2305843009213693951,)"), -1, 4},
        {"not the dict", 1, HEAD("'<f4'", "False", "(-2, 3)"), -1, 24},
        {"not the dict", 1, HEAD("'<f4'", "False", "(2.0, 3)"), -1, 24},
        {"not the dict", 1, HEAD("'<f4'", "False", "(6)"), -1, 24},
        {"not the dict", 1, HEAD("'<f4'", "False", "[2, 3]"), -1, 24},
        {"not the dict", 1, HEAD("'<f4'", "False", "(2 3)"), -1, 24},
        {"not the dict", 1, HEAD("'<f4'", "0", "(2, 3)"), -1, 24},
        {"dtype '<f4, '", 1, HEAD("'<f4", "False", "(2, 3)"), -1, 24},
        {"not the dict", 1, HEAD("<f4", "False", "(2, 3)"), -1, 24},
        {"more than 8 axes", 1, HEAD("'<f4'", "False", "(1, 1, 1, 1, 1, 1, 1, 1, 1)"), -1, 4},
        {"lacks 'shape'", 1, "{'descr': '<f4', 'fortran_order': False}", -1, 24},
        {"lacks 'descr'", 1, "{'shape': (2, 3), 'fortran_order': False}", -1, 24},
        {"lacks 'fortran_order'", 1, "{'shape': (2, 3), 'descr': '<f4'}", -1, 24},
        {"'shape' twice", 1, "{'shape': (2, 3), 'shape': (1,), 'descr': '<f4', 'fortran_order': False}", -1, 24},
        {"unknown key 'extra'", 1, "{'extra': 1, 'shape': (2, 3), 'descr': '<f4', 'fortran_order': False}", -1, 24},
        {"not the dict", 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} junk", -1, 24},
        {"not the dict", 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)", -1, 24},
        {"not the dict", 1, "", -1, 24},
        {"not the dict", 1, HEAD("'<f4'", "False", "(2, 3)"), 30, 24},
        {"NUL in its header", 1, HEAD("'<f4'", "False", "(2, 3)"), 63, 24},
        {"has a header length of 65535", 1, HEAD("'<f4'", "False", "(2, 3)"), 65535, 24},
        {"has a header length of 4294967295", 2, HEAD("'<f4'", "False", "(2, 3)"), 4294967295, 24},
        {"version 4.0", 4, HEAD("'<f4'", "False", "(2, 3)"), -1, 24},
        {"version 0.0", 0, HEAD("'<f4'", "False", "(2, 3)"), -1, 24},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char file[512];
        attend_array array = {.rank = 7};
        size_t size = make_file(file, cases[i].major, cases[i].header, cases[i].promised, cases[i].data_bytes);
        test_write_file(test_path("bad.npy"), file, size);
        attend_status status = attend_npy_read(test_path("bad.npy"), &array);
        if (status != ATTEND_BAD_FILE || !strstr(attend_file_message(), cases[i].sentence))
            fail_msg("case %zu: %s \"%s\", expected \"…%s…\"", i, attend_status_name(status), attend_file_message(),
                     cases[i].sentence);
        assert_non_null(strstr(attend_file_message(), "bad.npy"));
        assert_null(array.data);
    }
}

/* Whatever is cut off or overwritten: an array of the file's own bytes, or a sentence. */
static void mutations_never_harm(void **state)
{
    (void)state;
    unsigned char good[512], file[512];
    uint64_t draws = 1;
    int refused = 0;
    size_t size = make_file(good, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", -1, 24);
    for (int round = 0; round < 4000; round++) {
        memcpy(file, good, size);
        size_t length = size;
        for (int change = round % 3; change >= 0; change--) {
            const uint64_t random = attend_draw(&draws);
            size_t at = (size_t)(random >> 33) % (size - 24);
            if ((random >> 20 & 7) == 0)
                length = at;
            else if (random >> 20 & 1)
                file[at] = (unsigned char)(random >> 56);
            else
                file[at] = (unsigned char)"0123456789(),:'{}"[(random >> 56) % 17];
        }
        attend_array array;
        test_write_file(test_path("mutant.npy"), file, length);
        attend_status status = attend_npy_read(test_path("mutant.npy"), &array);
        if (status == ATTEND_OK)
            assert_int_equal(attend_array_elements(&array) * (int64_t)attend_array_type_bytes(array.type), 24);
        else
            assert_int_equal(status, ATTEND_BAD_FILE), refused++;
        attend_array_free(&array);
    }
    assert_true(refused > 3000);
}

static void only_regular_files_are_read(void **state)
{
    (void)state;
    attend_array array;
    assert_int_equal(mkfifo(test_path("pipe"), 0600), 0);
    const char *const paths[] = {test_folder(), test_path("pipe"), "/dev/zero"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(attend_npy_read(paths[i], &array), ATTEND_IO_ERROR);
        assert_non_null(strstr(attend_file_message(), "not a regular file"));
    }
    assert_int_equal(attend_npy_read(test_path("missing.npy"), &array), ATTEND_IO_ERROR);
    assert_non_null(strstr(attend_file_message(), "missing.npy: No such file"));
    unlink(test_path("pipe"));
}

static attend_status write_file(const char *path, const float *data, bool commit)
{
    attend_output output;
    ATTEND_TRY(attend_output_open(path, &output));
    attend_status status = attend_npy_write(&output, ATTEND_F32, 3, (int64_t[]){1, 2, 3}, data);
    if (status == ATTEND_OK) status = attend_output_finish(&output);
    if (status == ATTEND_OK && commit) status = attend_output_commit(&output);
    attend_output_close(&output);
    return status;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    const float data[6] = {1, -2, 0.5f, 1e-40f, 3, 4};
    attend_array array;
    size_t size;
    assert_int_equal(write_file(test_path("out.npy"), data, true), ATTEND_OK);
    assert_int_equal(attend_npy_read(test_path("out.npy"), &array), ATTEND_OK);
    assert_int_equal(array.rank, 3);
    assert_memory_equal(array.shape, ((int64_t[]){1, 2, 3}), 24);
    assert_memory_equal(array.data, data, sizeof data);
    attend_array_free(&array);
    char *bytes = test_read_file(test_path("out.npy"), &size);
    assert_int_equal(size % 64, 24); /* data begins at a multiple of 64 */
    free(bytes);
    struct stat about;
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat(test_path("out.npy"), &about), 0);
    assert_int_equal(about.st_mode & 0777, 0666 & ~mask);
}

static void nothing_partial_is_left(void **state)
{
    (void)state;
    const float data[6] = {1, 2, 3, 4, 5, 6};
    int before = test_count_files();
    assert_int_equal(write_file(test_path("never.npy"), data, false), ATTEND_OK);
    assert_int_equal(access(test_path("never.npy"), F_OK), -1);
    assert_int_equal(write_file(test_path("no/such/folder.npy"), data, true), ATTEND_IO_ERROR);
    assert_non_null(strstr(attend_file_message(), "No such file"));
    assert_int_equal(write_file(test_folder(), data, true), ATTEND_IO_ERROR);
    assert_non_null(strstr(attend_file_message(), "is a folder"));
    attend_output output;
    assert_int_equal(attend_output_open(test_path("signal.npy"), &output), ATTEND_OK);
    assert_int_equal(test_count_files(), before + 1);
    attend_output_remove_all();
    assert_int_equal(test_count_files(), before);
    attend_output_close(&output);
}

static void a_device_is_written_not_replaced(void **state)
{
    (void)state;
    const float data[6] = {1, 2, 3, 4, 5, 6};
    const char *full = test_device("full"), *null = test_device("null");
    struct stat about;
    assert_int_equal(write_file(full, data, true), ATTEND_IO_ERROR);
    assert_non_null(strstr(attend_file_message(), "/full: No space left"));
    assert_int_equal(write_file(null, data, true), ATTEND_OK);
    assert_int_equal(stat(full, &about), 0);
    assert_true(S_ISCHR(about.st_mode));
    assert_int_equal(stat(null, &about), 0);
    assert_true(S_ISCHR(about.st_mode));
}

static void a_link_stays_a_link(void **state)
{
    (void)state;
    const float data[6] = {6, 5, 4, 3, 2, 1};
    struct stat about;
    test_write_file(test_path("target.npy"), "old", 3);
    assert_int_equal(chmod(test_path("target.npy"), 0640), 0);
    assert_int_equal(symlink("target.npy", test_path("link.npy")), 0);
    assert_int_equal(write_file(test_path("link.npy"), data, true), ATTEND_OK);
    assert_int_equal(lstat(test_path("link.npy"), &about), 0);
    assert_true(S_ISLNK(about.st_mode));
    assert_int_equal(stat(test_path("target.npy"), &about), 0);
    assert_int_equal(about.st_mode & 0777, 0640);
    assert_true(about.st_size > 64);
}

/* What no dtype of 16 bits holds is refused; what is not finite stays what it is. */
static void floats_become_those_of_another_type(void **state)
{
    (void)state;
    static const struct {
        float value;
        attend_dtype to;
        float is; /* not finite beside a finite value: refused */
    } cases[] = {
        {65504, ATTEND_F16, 65504},       {-65520, ATTEND_F16, -INFINITY}, {INFINITY, ATTEND_F16, INFINITY},
        {-INFINITY, ATTEND_F16, -INFINITY}, {NAN, ATTEND_F16, NAN},         {0.1f, ATTEND_F16, 0.0999755859375f},
        {FLT_MAX, ATTEND_BF16, INFINITY}, {INFINITY, ATTEND_BF16, INFINITY}, {-INFINITY, ATTEND_BF16, -INFINITY},
        {NAN, ATTEND_BF16, NAN},          {0.1f, ATTEND_BF16, 0.10009765625f}, {NAN, ATTEND_F32, NAN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        attend_array array = {.type = ATTEND_ARRAY_F32, .rank = 1, .shape = {2}};
        char sentence[64];
        assert_int_equal(attend_memory_allocate("x", 2 * sizeof(float), &array.data), ATTEND_OK);
        ((float *)array.data)[0] = 1, ((float *)array.data)[1] = cases[i].value;
        const attend_status status = attend_array_convert("x", &array, cases[i].to);
        if (isfinite(cases[i].value) && !isfinite(cases[i].is)) {
            snprintf(sentence, sizeof sentence, "x: element 1 is %g, which overflows %s", (double)cases[i].value,
                     attend_dtype_name(cases[i].to));
            assert_int_equal(status, ATTEND_INVALID_ARGUMENT);
            assert_string_equal(attend_file_message(), sentence);
            assert_int_equal(array.type, ATTEND_ARRAY_F32); /* as it was */
        } else {
            assert_int_equal(status, ATTEND_OK);
            const float is = attend_array_load(array.data, cases[i].to, 1);
            if (isnan(cases[i].is) ? !isnan(is) : is != cases[i].is)
                fail_msg("%g becomes %g, expected %g", (double)cases[i].value, (double)is, (double)cases[i].is);
            assert_true(attend_array_load(array.data, cases[i].to, 0) == 1);
        }
        attend_array_free(&array);
    }
}

/* A result without elements is its header alone, mapped too. */
static void nothing_can_be_mapped(void **state)
{
    (void)state;
    attend_output output;
    attend_mapping mapping;
    void *data;
    size_t size;
    assert_int_equal(attend_output_open(test_path("empty"), &output), ATTEND_OK);
    assert_int_equal(attend_output_write(&output, "header", 6), ATTEND_OK);
    assert_int_equal(attend_output_map(&output, 0, &mapping, &data), ATTEND_OK);
    attend_mapping_free(&mapping);
    assert_int_equal(attend_output_finish(&output), ATTEND_OK);
    assert_int_equal(attend_output_commit(&output), ATTEND_OK);
    attend_output_close(&output);
    char *bytes = test_read_file(test_path("empty"), &size);
    assert_int_equal(size, 6);
    assert_string_equal(bytes, "header");
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_can_be_mapped),
        cmocka_unit_test(what_numpy_writes_is_read),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(mutations_never_harm),
        cmocka_unit_test(only_regular_files_are_read),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(nothing_partial_is_left),
        cmocka_unit_test(a_device_is_written_not_replaced),
        cmocka_unit_test(a_link_stays_a_link),
        cmocka_unit_test(floats_become_those_of_another_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
