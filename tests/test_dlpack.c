/* DLPack's tensors become attend's and go back, with the same memory, and what attend does not have is refused in words. */
#include "support/dlpack.h"
#include <attend/attend.h>
#include <attend/dlpack.h>

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static _Alignas(64) char memory[4096];
enum { ABSENT = -7 }; /* strides of a case that are not given */

static const DLDataType f32 = {kDLFloat, 32, 1};
static const DLDevice host = {kDLCPU, 0}, gpu1 = {kDLCUDA, 1};

#define BIG INT64_C(1) << 40
static const struct dlpack_case {
    const char *why; /* NULL: taken */
    attend_status status;
    attend_device device;
    DLDevice at;
    DLDataType dtype;
    int32_t ndim;
    int64_t shape[5], strides[5]; /* strides[0] ABSENT: NULL */
    uint64_t byte_offset;
    attend_dtype expected;
    int64_t stride[4]; /* that come of it */
} cases[] = {
    {NULL, ATTEND_OK, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 32, 1}, 4, {2, 3, 4, 5}, {ABSENT}, 0, ATTEND_F32, {60, 20, 5, 1}},
    {NULL, ATTEND_OK, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 16, 1}, 3, {2, 3, 4}, {1, 2, 8}, 6, ATTEND_F16, {1, 2, 8}},
    {NULL, ATTEND_OK, ATTEND_CPU, {kDLCUDAHost, 0}, {kDLBfloat, 16, 1}, 2, {3, 4}, {0, 1}, 2, ATTEND_BF16, {0, 1}},
    {NULL, ATTEND_OK, ATTEND_CPU, {kDLCUDAManaged, 3}, {kDLUInt, 8, 1}, 1, {7}, {ABSENT}, 3, ATTEND_U8, {1}},
    {NULL, ATTEND_OK, ATTEND_CPU, {kDLCPU, 0}, {kDLBool, 8, 1}, 1, {7}, {2}, 3, ATTEND_U8, {2}},
    {NULL, ATTEND_OK, ATTEND_CPU, {kDLCPU, 0}, {kDLInt, 32, 1}, 1, {7}, {1}, 4, ATTEND_I32, {1}},
    {NULL, ATTEND_OK, ATTEND_AUTO, {kDLCPU, 0}, {kDLInt, 64, 1}, 2, {1, 7}, {-5, 1}, 8, ATTEND_I64, {7, 1}},
    {NULL, ATTEND_OK, ATTEND_AUTO, {kDLCUDA, 1}, {kDLFloat, 32, 1}, 1, {7}, {1}, 0, ATTEND_F32, {1}},
    {NULL, ATTEND_OK, ATTEND_CUDA, {kDLCUDA, 1}, {kDLFloat, 32, 1}, 2, {0, 7}, {-1, BIG}, 0, ATTEND_F32, {1, 1}},
    {NULL, ATTEND_OK, ATTEND_CUDA, {kDLCUDAManaged, 0}, {kDLFloat, 32, 1}, 1, {7}, {1}, 0, ATTEND_F32, {1}},
    {"q has 4 lanes, attend takes 1", ATTEND_UNSUPPORTED, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 32, 4}, 1, {7}, {1}, 0, 0, {0}},
    {"q has 0 lanes, attend takes 1", ATTEND_UNSUPPORTED, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 32, 0}, 1, {7}, {1}, 0, 0, {0}},
    {"q has DLPack's dtype code 2 with 64 bits, which attend does not have", ATTEND_UNSUPPORTED, ATTEND_CPU, {kDLCPU, 0},
     {kDLFloat, 64, 1}, 1, {7}, {1}, 0, 0, {0}},
    {"q has DLPack's dtype code 5 with 32 bits, which attend does not have", ATTEND_UNSUPPORTED, ATTEND_CPU, {kDLCPU, 0},
     {kDLComplex, 32, 1}, 1, {7}, {1}, 0, 0, {0}},
    {"q lies on DLPack's device type 2, id 1, not on the host", ATTEND_UNSUPPORTED, ATTEND_REFERENCE, {kDLCUDA, 1},
     {kDLFloat, 32, 1}, 1, {7}, {1}, 0, 0, {0}},
    {"q lies on DLPack's device type 2, id 0, not on the CUDA device asked for", ATTEND_UNSUPPORTED, ATTEND_CUDA, {kDLCUDA, 0},
     {kDLFloat, 32, 1}, 1, {7}, {1}, 0, 0, {0}},
    {"q lies on DLPack's device type 1, id 0, not on the CUDA device asked for", ATTEND_UNSUPPORTED, ATTEND_CUDA, {kDLCPU, 0},
     {kDLFloat, 32, 1}, 1, {7}, {1}, 0, 0, {0}},
    {"q lies on DLPack's device type 4, id 0, not on the host or the CUDA device asked for", ATTEND_UNSUPPORTED, ATTEND_AUTO,
     {kDLOpenCL, 0}, {kDLFloat, 32, 1}, 1, {7}, {1}, 0, 0, {0}},
    {"q has rank 0, attend takes 1 to 4", ATTEND_UNSUPPORTED, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 32, 1}, 0, {0}, {1}, 0, 0, {0}},
    {"q has rank 5, attend takes 1 to 4", ATTEND_UNSUPPORTED, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 32, 1}, 5, {1, 1, 1, 1, 1},
     {ABSENT}, 0, 0, {0}},
    {"q has a shape[1] of -2", ATTEND_INVALID_ARGUMENT, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 32, 1}, 2, {3, -2}, {ABSENT}, 0, 0, {0}},
    {"q has a stride[0] of -1, attend takes 0 and more", ATTEND_INVALID_ARGUMENT, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 32, 1}, 1, {7},
     {-1}, 0, 0, {0}},
    {"q is larger than addresses count", ATTEND_INVALID_ARGUMENT, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 32, 1}, 2, {BIG, BIG}, {ABSENT},
     0, 0, {0}},
    {"q is larger than addresses count", ATTEND_INVALID_ARGUMENT, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 32, 1}, 2, {3, 2},
     {INT64_MAX / 8, INT64_MAX / 8}, 0, 0, {0}},
    {"q is larger than addresses count", ATTEND_INVALID_ARGUMENT, ATTEND_CPU, {kDLCPU, 0}, {kDLFloat, 32, 1}, 1, {7}, {1},
     UINT64_MAX - 3, 0, {0}},
    {"q lies at an address that is no multiple of its 4 bytes an element", ATTEND_INVALID_ARGUMENT, ATTEND_CPU, {kDLCPU, 0},
     {kDLFloat, 32, 1}, 1, {7}, {1}, 2, 0, {0}},
};

static void each_case_is_taken_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct dlpack_case *c = &cases[i];
        int64_t shape[5], strides[5];
        char why[ATTEND_DLPACK_BYTES] = "";
        memcpy(shape, c->shape, sizeof shape), memcpy(strides, c->strides, sizeof strides);
        const DLTensor from = {memory, c->at, c->ndim, c->dtype, shape, strides[0] == ABSENT ? NULL : strides, c->byte_offset};
        attend_tensor to = {.rank = -1};
        const attend_status status = attend_tensor_from_dlpack(&from, "q", c->device, 1, &to, why);
        if (status != c->status || strcmp(why, c->why ? c->why : "")) fail_msg("case %zu: %d, \"%s\"", i, (int)status, why);
        assert_int_equal(attend_tensor_from_dlpack(&from, "q", c->device, 1, &to, NULL), c->status);
        if (c->why) {
            assert_int_equal(to.rank, -1);
            continue;
        }
        assert_ptr_equal(to.data, memory + c->byte_offset);
        assert_int_equal(to.dtype, c->expected);
        assert_int_equal(to.rank, c->ndim);
        assert_memory_equal(to.shape, shape, (size_t)c->ndim * sizeof *shape);
        assert_memory_equal(to.stride, c->stride, (size_t)c->ndim * sizeof *shape);
        DLTensor back;
        assert_int_equal(attend_tensor_to_dlpack(&to, c->at, &back), ATTEND_OK);
        assert_ptr_equal(back.data, to.data);
        assert_int_equal(back.byte_offset, 0);
        assert_int_equal(back.ndim, c->ndim);
        assert_int_equal(back.dtype.bits, c->dtype.bits);
        assert_int_equal(back.dtype.lanes, 1);
        assert_int_equal(back.dtype.code, c->dtype.code == kDLBool ? kDLUInt : c->dtype.code);
        assert_memory_equal(back.shape, shape, (size_t)c->ndim * sizeof *shape);
        assert_memory_equal(back.strides, c->stride, (size_t)c->ndim * sizeof *shape);
        assert_memory_equal(&back.device, &c->at, sizeof back.device);
    }
}

static void nothing_is_taken_for_a_tensor(void **state)
{
    (void)state;
    int64_t shape[] = {3};
    char why[ATTEND_DLPACK_BYTES];
    attend_tensor to = {.rank = 1};
    DLTensor from = {NULL, host, 1, f32, shape, NULL, 0};
    assert_int_equal(attend_tensor_from_dlpack(NULL, "q", ATTEND_CPU, 0, &to, why), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(why, "q is NULL");
    assert_int_equal(attend_tensor_from_dlpack(&from, "q", ATTEND_CPU, 0, NULL, why), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(why, "to is NULL");
    assert_int_equal(attend_tensor_from_dlpack(&from, "q", ATTEND_CPU, 0, &to, why), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(why, "q has no data");
    shape[0] = 0;
    assert_int_equal(attend_tensor_from_dlpack(&from, "q", ATTEND_CPU, 0, &to, why), ATTEND_OK); /* empty */
    assert_null(to.data);
    from.shape = NULL;
    assert_int_equal(attend_tensor_from_dlpack(&from, "q", ATTEND_CPU, 0, &to, why), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(why, "q has no shape");

    attend_tensor t = attend_tensor_1d(memory, ATTEND_F32, 3);
    assert_int_equal(attend_tensor_to_dlpack(NULL, host, &from), ATTEND_INVALID_ARGUMENT);
    assert_int_equal(attend_tensor_to_dlpack(&t, gpu1, NULL), ATTEND_INVALID_ARGUMENT);
    t.rank = 5;
    assert_int_equal(attend_tensor_to_dlpack(&t, host, &from), ATTEND_INVALID_ARGUMENT);
    t.rank = 1, t.dtype = (attend_dtype)6;
    assert_int_equal(attend_tensor_to_dlpack(&t, host, &from), ATTEND_INVALID_ARGUMENT);
    t.dtype = ATTEND_F32, t.data = NULL;
    assert_int_equal(attend_tensor_to_dlpack(&t, host, &from), ATTEND_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_case_is_taken_or_refused), cmocka_unit_test(nothing_is_taken_for_a_tensor)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
