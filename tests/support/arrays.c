/* Writes and reads .npy files in the test's folder */
#include "support/arrays.h"
#include "support/files.h"
#include "file/npy.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

void test_write_tensor(const char *name, attend_dtype dtype, int rank, const int64_t *shape, const void *data)
{
    attend_output output;
    assert_int_equal(attend_output_open(test_path(name), &output), ATTEND_OK);
    assert_int_equal(attend_npy_write(&output, dtype, rank, shape, data), ATTEND_OK);
    assert_int_equal(attend_output_finish(&output), ATTEND_OK);
    assert_int_equal(attend_output_commit(&output), ATTEND_OK);
    attend_output_close(&output);
}

void test_write_gauss(const char *name, attend_dtype dtype, int64_t batch, int64_t seqlen, int64_t heads, int64_t dim)
{
    static float memory[1 << 14];
    attend_tensor t = attend_tensor_4d(memory, dtype, batch, seqlen, heads, dim);
    memcpy(t.stride, (int64_t[]){seqlen * heads * dim, heads * dim, dim, 1}, sizeof t.stride);
    attend_values_gauss(strlen(name) + (uint64_t)name[0], 1, &t);
    test_write_tensor(name, dtype, 4, t.shape, memory);
}

void test_write_integers(const char *name, const int64_t *integers, int count)
{
    char shape[24];
    snprintf(shape, sizeof shape, "(%d,)", count);
    test_write_npy(name, "<i8", shape, integers, (size_t)count * sizeof *integers);
}

attend_array test_read_npy(const char *name)
{
    attend_array array;
    if (attend_npy_read(test_path(name), &array) != ATTEND_OK) fail_msg("%s cannot be read", name);
    return array;
}

int test_write_inputs(void **state)
{
    (void)state;
    test_write_gauss("q.npy", ATTEND_F32, 2, 5, 4, 8);
    test_write_gauss("k.npy", ATTEND_F32, 2, 7, 2, 8);
    test_write_gauss("v.npy", ATTEND_F32, 2, 7, 2, 8);
    test_write_gauss("q16.npy", ATTEND_F16, 2, 5, 4, 8);
    test_write_gauss("k16.npy", ATTEND_F16, 2, 7, 2, 8);
    test_write_gauss("v16.npy", ATTEND_F16, 2, 7, 2, 8);
    test_write_integers("lengths.npy", (int64_t[]){7, 3}, 2);
    return 0;
}
