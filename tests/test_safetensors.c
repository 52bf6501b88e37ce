/* .safetensors files: tensors are found and read, every lie of a header is refused with a sentence, mutations
 * never harm. */
#include "support/files.h"
#include "file/fail.h"
#include "file/safetensors.h"
#include "shared/splitmix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define TENSOR(name, dtype, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
#define A TENSOR("a", "F32", "[2,2]", "0", "16")
#define B TENSOR("b", "BF16", "[4]", "16", "24")

static size_t make_file(char *file, const char *header, uint64_t promised, size_t data_bytes)
{
    size_t length = strlen(header);
    if (!promised) promised = length;
    memcpy(file, &promised, 8);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++) file[8 + length + i] = (char)i;
    return 8 + length + data_bytes;
}

static void tensors_are_found_and_read(void **state)
{
    (void)state;
    char file[1024];
    attend_safetensors opened;
    attend_array array;
    size_t size =
        make_file(file,
                  "{\"__metadata__\":{\"format\":\"pt\"}," B "," A "," TENSOR("empty", "F16", "[0,7]", "24", "24") "," TENSOR(
                      "number", "I64", "[]", "24", "32") "," TENSOR("odd", "F4", "[2]", "32", "33") "} \t\r\n",
                  0, 33);
    test_write_file(test_path("good.safetensors"), file, size);
    if (attend_safetensors_open(test_path("good.safetensors"), &opened) != ATTEND_OK) fail_msg("%s", attend_file_message());
    assert_int_equal(opened.count, 5);
    assert_null(attend_safetensors_find(&opened, "c"));
    const attend_safetensors_entry *b = attend_safetensors_find(&opened, "b");
    assert_non_null(b);
    assert_int_equal(attend_safetensors_read(&opened, b, &array), ATTEND_OK);
    assert_int_equal(array.type, ATTEND_ARRAY_BF16);
    assert_int_equal(array.rank, 1);
    assert_int_equal(array.shape[0], 4);
    for (int i = 0; i < 8; i++) assert_int_equal(((char *)array.data)[i], 16 + i);
    attend_array_free(&array);
    assert_int_equal(attend_safetensors_read(&opened, attend_safetensors_find(&opened, "empty"), &array), ATTEND_OK);
    assert_int_equal(attend_array_elements(&array), 0);
    attend_array_free(&array);
    assert_int_equal(attend_safetensors_read(&opened, attend_safetensors_find(&opened, "number"), &array), ATTEND_OK);
    assert_int_equal(array.rank, 0);
    attend_array_free(&array);
    assert_int_equal(attend_safetensors_read(&opened, attend_safetensors_find(&opened, "odd"), &array), ATTEND_BAD_FILE);
    assert_non_null(strstr(attend_file_message(), "odd is F4"));
    attend_safetensors_close(&opened);
}

static void lies_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *sentence, *header;
        uint64_t promised; /* header length in the file; 0: the true one */
        size_t data_bytes;
    } cases[] = {
        {"has a header length of 18446744073709551615", "{" A "}", UINT64_MAX, 16},
        {"has a header length of 18446744073709551608", "{" A "}", UINT64_MAX - 7, 16},
        {"has a header length of 9223372036854775807", "{" A "}", INT64_MAX, 16},
        {"has a header length of 9223372036854775808", "{" A "}", (uint64_t)INT64_MAX + 1, 16},
        {"has a header length of 4294967296", "{" A "}", (uint64_t)1 << 32, 16},
        {"has a header length of 74; 73 bytes follow", "{" A "}", 74, 16},
        {"header is not JSON", "{" A "}", 56, 16},
        {"header is not a JSON object", "", 0, 0},
        {"header is not a JSON object",
         "["
         "1"
         "]",
         0, 0},
        {"header is not a JSON object", " {}", 0, 0},
        {"header is not JSON", "{" A ",}", 0, 16},
        {"header is not JSON", "{\"a\"", 0, 16},
        {"goes on after the JSON object", "{" A "} {}", 0, 16},
        {"goes on after the JSON object", "{" A "}}", 0, 16},
        {"goes on after the JSON object", "{" A "}\v", 0, 16},
        {"NUL in its header", "{" A "}", 60, 16},
        {"NUL in its header", "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4},
        {"is truncated: its tensors need 16 bytes, it has 15", "{" A "}", 0, 15},
        {"has 1 bytes after its last tensor", "{" A "}", 0, 17},
        {"has 4 bytes after its last tensor", "{}", 0, 4},
        {"\"c\" overlaps another one", "{" A "," TENSOR("c", "F32", "[1]", "12", "16") "}", 0, 16},
        {"\"c\" overlaps another one", "{" A "," TENSOR("c", "F32", "[2,2]", "0", "16") "}", 0, 16},
        {"\"b\" leaves a gap before it", "{" TENSOR("a", "F32", "[1]", "0", "4") "," B "}", 0, 24},
        {"\"a\" leaves a gap before it", "{" TENSOR("a", "F32", "[1]", "4", "8") "}", 0, 8},
        {"\"a\" is in the header twice", "{" A "," A "}", 0, 16},
        {"\"a\" is in the header twice", "{" A "," TENSOR("a", "F32", "[1]", "16", "20") "}", 0, 20},
        {"\"a\" is in the header twice", "{" A "," B "," TENSOR("a", "F32", "[1]", "24", "28") "}", 0, 28},
        {"\"a\" ends before it begins", "{" TENSOR("a", "F32", "[2,2]", "16", "0") "}", 0, 16},
        {"has 16 bytes, but its shape and dtype need 12", "{" TENSOR("a", "F32", "[3]", "0", "16") "}", 0, 16},
        {"has 16 bytes, but its shape and dtype need 8", "{" TENSOR("a", "F16", "[2,2]", "0", "16") "}", 0, 16},
        {"has 1 bytes, but its shape and dtype need 2", "{" TENSOR("a", "F4", "[3]", "0", "1") "}", 0, 1},
        {"more bits than 63 bits", "{" TENSOR("a", "F32", "[4294967296,4294967296]", "0", "0") "}", 0, 0},
        {"more bits than 63 bits", "{" TENSOR("a", "F32", "[4503599627370496,128]", "0", "0") "}", 0, 0},
        {"need 1152921504606846720", "{" TENSOR("a", "F32", "[4503599627370495,64]", "0", "0") "}", 0, 0},
        {"entry that is not a whole number", "{" TENSOR("a", "F32", "[-2,-2]", "0", "16") "}", 0, 16},
        {"entry that is not a whole number", "{" TENSOR("a", "F32", "[2.5]", "0", "10") "}", 0, 10},
        {"entry that is not a whole number", "{" TENSOR("a", "F32", "[1e300]", "0", "16") "}", 0, 16},
        {"entry that is not a whole number", "{" TENSOR("a", "F32", "[18446744073709551616]", "0", "0") "}", 0, 0},
        {"entry that is not a whole number", "{" TENSOR("a", "F32", "[\"4\"]", "0", "16") "}", 0, 16},
        {"entry that is not a whole number", "{" TENSOR("a", "F32", "[[4]]", "0", "16") "}", 0, 16},
        {"shape that is not a list", "{" TENSOR("a", "F32", "4", "0", "16") "}", 0, 16},
        {"data_offsets that are not two whole numbers", "{" TENSOR("a", "F32", "[4]", "-16", "0") "}", 0, 16},
        {"data_offsets that are not two whole numbers", "{" TENSOR("a", "F32", "[4]", "0", "18446744073709551615") "}", 0, 16},
        {"data_offsets that are not two whole numbers", "{" TENSOR("a", "F32", "[4]", "0", "16,16") "}", 0, 16},
        {"data_offsets that are not two whole numbers", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[]}}", 0, 16},
        {"data_offsets that are not two whole numbers", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":{}}}", 0, 16},
        {"unknown dtype \"F33\"", "{" TENSOR("a", "F33", "[4]", "0", "16") "}", 0, 16},
        {"unknown dtype \"f32\"", "{" TENSOR("a", "f32", "[4]", "0", "16") "}", 0, 16},
        {"dtype that is not a string", "{\"a\":{\"dtype\":4,\"shape\":[4],\"data_offsets\":[0,16]}}", 0, 16},
        {"lacks its dtype", "{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}", 0, 16},
        {"lacks its dtype", "{\"a\":{}}", 0, 0},
        {"field twice", "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,16]}}", 0, 16},
        {"field that is not", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16],\"x\":1}}", 0, 16},
        {"not described by an object", "{\"a\":[1,2]}", 0, 0},
        {"not described by an object", "{\"a\":null}", 0, 0},
        {"__metadata__ is not a map", "{\"__metadata__\":{\"a\":1}}", 0, 0},
        {"__metadata__ is not a map", "{\"__metadata__\":[]}", 0, 0},
        {"__metadata__ twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char file[1024] = {0};
        attend_safetensors opened = {.count = 7};
        size_t size = make_file(file, cases[i].header, cases[i].promised, cases[i].data_bytes);
        test_write_file(test_path("bad.safetensors"), file, size);
        attend_status status = attend_safetensors_open(test_path("bad.safetensors"), &opened);
        if (status != ATTEND_BAD_FILE || !strstr(attend_file_message(), cases[i].sentence))
            fail_msg("case %zu: %s \"%s\", expected \"…%s…\"", i, attend_status_name(status), attend_file_message(),
                     cases[i].sentence);
        assert_non_null(strstr(attend_file_message(), "bad.safetensors"));
        assert_null(opened.header);
        assert_null(opened.entries);
    }
    attend_safetensors opened;
    test_write_file(test_path("short"), "\2\0\0\0\0\0\0", 7);
    assert_int_equal(attend_safetensors_open(test_path("short"), &opened), ATTEND_BAD_FILE);
    assert_int_equal(attend_safetensors_open(test_path("missing"), &opened), ATTEND_IO_ERROR);
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    char *file = malloc(8 + 6 + DEPTH);
    attend_safetensors opened;
    uint64_t length = 5 + DEPTH;
    assert_non_null(file);
    memcpy(file, &length, 8);
    memcpy(file + 8, "{\"a\":", 5);
    memset(file + 13, '[', DEPTH);
    test_write_file(test_path("deep"), file, 13 + DEPTH);
    assert_int_equal(attend_safetensors_open(test_path("deep"), &opened), ATTEND_BAD_FILE);
    free(file);
}

static void control_characters_stay_out_of_sentences(void **state)
{
    (void)state;
    char file[256];
    attend_safetensors opened;
    size_t size = make_file(file, "{\"\\u001b[31m\":{}}", 0, 0);
    test_write_file(test_path("escape"), file, size);
    assert_int_equal(attend_safetensors_open(test_path("escape"), &opened), ATTEND_BAD_FILE);
    assert_null(strchr(attend_file_message(), 0x1b));
    assert_non_null(strstr(attend_file_message(), "\"?[31m\""));
}

/* Whatever the header becomes: either everything in it is true of the file, or it is refused. */
static void mutations_never_harm(void **state)
{
    (void)state;
    static const char replacements[] = "0123456789[]{},:\"\\-.eFB ";
    char good[512], file[512];
    uint64_t draws = 7;
    int refused = 0;
    size_t size = make_file(good, "{" A "," B "," TENSOR("c", "F16", "[2,1]", "24", "28") "}", 0, 28);
    for (int round = 0; round < 6000; round++) {
        memcpy(file, good, size);
        size_t length = size;
        for (int change = round % 4; change >= 0; change--) {
            const uint64_t random = attend_draw(&draws);
            size_t at = (size_t)(random >> 33) % (size - 28);
            switch (random >> 20 & 7) {
            case 0: length = at; break;
            case 1: file[at] = (char)(random >> 56); break;
            case 2: memmove(file + at, file + at + 1, size - at - 1); break;
            default: file[at] = replacements[(random >> 56) % (sizeof replacements - 1)];
            }
        }
        attend_safetensors opened;
        test_write_file(test_path("mutant"), file, length);
        if (attend_safetensors_open(test_path("mutant"), &opened) != ATTEND_OK) {
            refused++;
            continue;
        }
        int64_t bytes = 0;
        for (int64_t i = 0; i < opened.count; i++) {
            attend_array array;
            bytes += opened.entries[i].end - opened.entries[i].begin;
            if (attend_safetensors_read(&opened, &opened.entries[i], &array) == ATTEND_OK) attend_array_free(&array);
        }
        assert_int_equal(opened.data + bytes, length);
        attend_safetensors_close(&opened);
    }
    assert_true(refused > 4000 && refused < 6000);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    const uint16_t data[6] = {0x3f80, 0x4000, 0xc000, 0, 0x7f80, 1};
    attend_output output;
    attend_safetensors opened;
    attend_array array;
    assert_int_equal(attend_output_open(test_path("out.safetensors"), &output), ATTEND_OK);
    assert_int_equal(attend_safetensors_write(&output, "output", ATTEND_BF16, 2, (int64_t[]){3, 2}, data), ATTEND_OK);
    assert_int_equal(attend_output_finish(&output), ATTEND_OK);
    assert_int_equal(attend_output_commit(&output), ATTEND_OK);
    attend_output_close(&output);
    assert_int_equal(attend_safetensors_open(test_path("out.safetensors"), &opened), ATTEND_OK);
    assert_int_equal(opened.data % 8, 0);
    assert_int_equal(opened.count, 1);
    assert_int_equal(attend_safetensors_read(&opened, attend_safetensors_find(&opened, "output"), &array), ATTEND_OK);
    assert_int_equal(array.type, ATTEND_ARRAY_BF16);
    assert_memory_equal(array.shape, ((int64_t[]){3, 2}), 16);
    assert_memory_equal(array.data, data, sizeof data);
    attend_array_free(&array);
    attend_safetensors_close(&opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_and_read), cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(deep_nesting_is_refused),    cmocka_unit_test(control_characters_stay_out_of_sentences),
        cmocka_unit_test(mutations_never_harm),       cmocka_unit_test(what_is_written_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
