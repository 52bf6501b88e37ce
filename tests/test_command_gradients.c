/* attend gradients and attend compare --backward: from files to files, judged, and refused in words. */
#include "support/arrays.h"
#include "support/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static int make_inputs(void **state)
{
    test_write_gauss("dout.npy", ATTEND_F32, 2, 5, 4, 8);
    test_write_gauss("bias.npy", ATTEND_F32, 1, 4, 5, 7);
    static const float alone[5 * 4 * 8];
    test_write_tensor("q1.npy", ATTEND_F32, 3, (int64_t[]){5, 4, 8}, alone), test_write_tensor("k1.npy", ATTEND_F32, 3, (int64_t[]){5, 4, 8}, alone);
    test_write_gauss("bias1.npy", ATTEND_F32, 1, 4, 5, 5);
    test_write_gauss("wide.npy", ATTEND_F32, 2, 5, 4, 9);
    return test_write_inputs(state);
}

#define GRADIENTS "gradients --device cpu --quiet " QKV " "

static void expect_shape(const char *name, int rank, const int64_t *shape)
{
    attend_array array = test_read_npy(name);
    assert_int_equal(array.rank, rank);
    assert_memory_equal(array.shape, shape, (size_t)rank * sizeof *shape);
    attend_array_free(&array);
}

static void gradients_come_as_files(void **state)
{
    (void)state;
    test_expect(0, "", GRADIENTS "--dout dout.npy --bias bias.npy --dq dq.npy --dk dk.npy --dv dv.npy --dbias dbias.npy");
    expect_shape("dq.npy", 4, (int64_t[]){2, 5, 4, 8});
    expect_shape("dk.npy", 4, (int64_t[]){2, 7, 2, 8});
    expect_shape("dv.npy", 4, (int64_t[]){2, 7, 2, 8});
    expect_shape("dbias.npy", 4, (int64_t[]){1, 4, 5, 7});
    cJSON *json = test_json(0, "gradients --device cpu --json " QKV " --dout dout.npy --alibi causal --dalibi-slopes s.npy");
    assert_string_equal(test_json_text(json, "dalibi_slopes"), "s.npy");
    cJSON_Delete(json);
    expect_shape("s.npy", 1, (int64_t[]){4});
    /* without a batch, what is of Q, K and V has none either */
    test_expect(0, "", "gradients --device cpu --quiet --q q1.npy --k k1.npy --v k1.npy --dout q1.npy --bias bias1.npy --dq dq.npy --dv dv.npy --dbias dbias.npy");
    expect_shape("dq.npy", 3, (int64_t[]){5, 4, 8});
    expect_shape("dv.npy", 3, (int64_t[]){5, 4, 8});
    expect_shape("dbias.npy", 4, (int64_t[]){1, 4, 5, 5});
    /* in 16 bits those of Q, K and V are, too */
    test_expect(0, "", "gradients --device cpu --quiet --q q16.npy --k k16.npy --v v16.npy --dout q16.npy --bias bias.npy --dq dq.npy --dk dk.npy --dv dv.npy "
                       "--dbias dbias.npy");
    static const char *const names[] = {"dq.npy", "dk.npy", "dv.npy", "dbias.npy"};
    for (int i = 0; i < 4; i++) {
        attend_array array = test_read_npy(names[i]);
        assert_int_equal(array.type, i < 3 ? ATTEND_ARRAY_F16 : ATTEND_ARRAY_F32);
        attend_array_free(&array);
    }
}

static void gradients_are_judged(void **state)
{
    (void)state;
    cJSON *json = test_json(0, "compare --backward --device cpu --json " QKV " --dout dout.npy --bias bias.npy --causal=bottom-right");
    static const char *const tensors[] = {"out", "lse", "dq", "dk", "dv", "dbias"};
    for (int i = 0; i < 6; i++) {
        char path[32];
        snprintf(path, sizeof path, "tensors/%d/tensor", i);
        assert_string_equal(test_json_text(json, path), tensors[i]);
    }
    cJSON_Delete(json);
    test_expect(0, "", "compare --backward --device cpu --quiet --random seqlen_q=9,heads=2,head_dim=8 --dtype bf16");
}

static void what_does_not_go_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *arguments, *sentence;
    } cases[] = {
        {QKV " --dq dq.npy", "--dout is missing"},
        {QKV " --dout dout.npy", "give a file for one gradient at least"},
        {QKV " --dout dout.npy --dsinks s.npy", "dsinks is asked for"},
        {QKV " --dout wide.npy --dq dq.npy", "dout"},
        {QKV " --dout dout.npy --dq dout.npy", "would overwrite"},
        {QKV " --dout dout.npy --dtype bf16 --dq d.npy", "d.npy cannot store bf16"},
        {QKV " --dout dout.npy --dtype bf16 --dk d.npy", "d.npy cannot store bf16"},
        {QKV " --dout dout.npy --dtype bf16 --dv d.npy", "d.npy cannot store bf16"},
        {"--q q.npy --k k.npy --dout dout.npy --dq dq.npy", "--v is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) test_expect(2, cases[i].sentence, "gradients --quiet %s", cases[i].arguments);
    test_expect(2, "gradients of attention alone", "compare --backward --quiet " LAYER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients_come_as_files), cmocka_unit_test(gradients_are_judged),
                                       cmocka_unit_test(what_does_not_go_is_refused)};
    return cmocka_run_group_tests(tests, make_inputs, NULL);
}
