/* The command's positions, on the fp64 reference: attend rotary turns and judges, and a layer's input gets absolute positions from a kind or a
   table; what does not fit together is refused before a file is opened. Layers of models with such positions: test_models. */
#include "support/command.h"
#include "support/files.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 5, HEADS = 2, DIM = 4, WIDTH = HEADS * DIM };

static int make_inputs(void **state)
{
    (void)state;
    static float x[ROWS * WIDTH], table[7 * WIDTH];
    attend_tensor a = attend_tensor_1d(x, ATTEND_F32, ROWS * WIDTH), b = attend_tensor_1d(table, ATTEND_F32, 7 * WIDTH);
    a.stride[0] = b.stride[0] = 1;
    attend_values_gauss(1, 1, &a), attend_values_gauss(2, 1, &b);
    test_write_npy("q.npy", "<f4", "(1, 5, 2, 4)", x, sizeof x);
    test_write_npy("unbatched.npy", "<f4", "(5, 2, 4)", x, sizeof x);
    test_write_npy("x.npy", "<f4", "(5, 8)", x, sizeof x);
    test_write_npy("table.npy", "<f4", "(7, 8)", table, sizeof table);
    test_write_npy("counted.npy", "<i4", "(1, 5)", (int32_t[]){3, 4, 5, 6, 7}, 20);
    return 0;
}

#define ROTARY "rotary --device reference --quiet --rotary halves "

static void expect_files(const char *one, const char *other, bool equal)
{
    size_t sizes[2];
    char *a = test_read_file(test_path(one), &sizes[0]), *b = test_read_file(test_path(other), &sizes[1]);
    assert_int_equal(sizes[0] == sizes[1] && !memcmp(a, b, sizes[0]), equal);
    free(a), free(b);
}

static void rotary_turns_what_is_given(void **state)
{
    (void)state;
    test_expect(0, "", ROTARY "--input q.npy --output a.npy --first-position 3");
    test_expect(0, "", ROTARY "--input q.npy --output b.npy --positions counted.npy");
    expect_files("a.npy", "b.npy", true);
    test_expect(0, "", ROTARY "--input q.npy --output b.npy");
    expect_files("a.npy", "b.npy", false);
    test_expect(0, "", ROTARY "--input q.npy --output a.npy --first-position 300 --rotary-base 2k --rotary-scaling yarn,2,1k");
    test_expect(0, "", ROTARY "--input q.npy --output b.npy --first-position 300 --rotary-base 2048 --rotary-scaling yarn,2,1024");
    expect_files("a.npy", "b.npy", true);
    test_expect(0, "", ROTARY "--input unbatched.npy --output c.npy");
    cJSON *json = test_json(0, "rotary --device reference --json --rotary halves --input unbatched.npy --output c.npy");
    assert_string_equal(test_json_text(json, "rotary"), "halves");
    assert_string_equal(test_json_text(json, "output"), "c.npy");
    cJSON_Delete(json);
    test_expect(0, "", ROTARY "--input q.npy --output a.safetensors --dtype bf16 --qk-norm rms");
}

static void rotary_judges_what_others_turned(void **state)
{
    (void)state;
    test_expect(0, "", ROTARY "--input q.npy --output a.npy --rotary-base 500 --rotary-dim 2 --first-position 100");
    test_expect(0, "", ROTARY "--input q.npy --result a.npy --rotary-base 500 --rotary-dim 2 --first-position 100");
    test_expect(3, "", ROTARY "--input q.npy --result a.npy --rotary-base 500 --rotary-dim 2 --first-position 101");
    test_expect(3, "", ROTARY "--input q.npy --result a.npy --rotary-base 500 --first-position 100");
    test_expect(3, "", ROTARY "--input q.npy --result a.npy --rotary-base 500 --rotary-dim 2 --first-position 100 --backward");
    cJSON *json = test_json(3, "rotary --json --rotary halves --input q.npy --result a.npy");
    assert_true(test_json_number(json, "tensors/0/bound_ratio") > 1);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(json, "passed")));
    cJSON_Delete(json);
}

static void rotary_refuses_what_does_not_fit(void **state)
{
    (void)state;
    test_expect(2, "--input is missing", ROTARY "--output a.npy");
    test_expect(2, "there is nothing to apply", "rotary --input q.npy --output a.npy");
    test_expect(2, "there is nothing to apply", "rotary --rotary auto --input q.npy --output a.npy");
    test_expect(2, "give either --output, the file to write, or --result", ROTARY "--input q.npy");
    test_expect(2, "give either --output, the file to write, or --result", ROTARY "--input q.npy --output a.npy --result b.npy");
    test_expect(2, "--weights is not an option of attend rotary", ROTARY "--weights w.safetensors");
    test_expect(2, "has 2 axes, expected 4, or 3 without the batch", ROTARY "--input x.npy --output a.npy");
    test_expect(2, "rotary_dim is 6, expected an even number up to head_dim (4)", ROTARY "--input q.npy --output a.npy --rotary-dim 6");
    test_expect(2, "backward is set, but qk_norm is too", ROTARY "--input q.npy --output a.npy --backward --qk-norm rms");
    test_expect(2, "but the problem is bf16; a result is not converted before it is judged", ROTARY "--input q.npy --result q.npy --dtype bf16");
}

#define LAYER "run --device reference --quiet --weights " TEST_DATA "/models/gpt1/layer.safetensors --input " TEST_DATA "/models/gpt1/x.npy "
#define TABLE TEST_DATA "/models/gpt1/layer.safetensors:positions_embed.weight "

/* GPT-1's 37 tokens and 41 positions. */
static void a_layer_gets_its_positions(void **state)
{
    (void)state;
    int32_t positions[37];
    for (int i = 0; i < 37; i++) positions[i] = i + 4;
    test_write_npy("last.npy", "<i4", "(1, 37)", positions, sizeof positions);
    test_expect(0, "", LAYER "--output a.npy --position-table " TABLE "--first-position 4");
    test_expect(0, "", LAYER "--output b.npy --position-table " TABLE "--positions last.npy");
    expect_files("a.npy", "b.npy", true);
    test_expect(0, "", LAYER "--output b.npy --position-table " TABLE);
    expect_files("a.npy", "b.npy", false);
    test_expect(0, "", LAYER "--output a.npy --absolute sinusoidal --absolute-base 10000");
    test_expect(0, "", LAYER "--output b.npy --absolute sinusoidal");
    expect_files("a.npy", "b.npy", true);
    test_expect(0, "", LAYER "--output b.npy --absolute sinusoidal-halves");
    expect_files("a.npy", "b.npy", false);
    test_expect(0, "", LAYER "--output a.npy --absolute none");
    test_expect(0, "", LAYER "--output b.npy");
    expect_files("a.npy", "b.npy", true);
    cJSON *json = test_json(0, "run --json --device reference --weights " TEST_DATA "/models/gpt1/layer.safetensors --input " TEST_DATA
                               "/models/gpt1/x.npy --output a.npy --position-table " TABLE);
    assert_string_equal(test_json_text(json, "absolute"), "learned");
    assert_string_equal(test_json_text(json, "features/0"), "absolute positions");
    cJSON_Delete(json);
}

static void a_layer_refuses_what_does_not_fit(void **state)
{
    (void)state;
    test_expect(2, "--absolute and --position-table exclude each other", LAYER "--output a.npy --absolute sinusoidal --position-table table.npy");
    test_expect(2, "--absolute-base needs --absolute", LAYER "--output a.npy --absolute-base 5");
    test_expect(2, "--absolute is \"rotary\"", LAYER "--output a.npy --absolute rotary");
    test_expect(2, "are given, but there is none", LAYER "--output a.npy --first-position 5");
    test_expect(2, "table.npy: expected a table [positions, 64], as wide as the layer's input", LAYER "--output a.npy --position-table table.npy");
    test_expect(2, "missing.npy", LAYER "--output a.npy --position-table missing.npy");
    test_expect(2, "goes beyond position_table, which has max_positions (41) rows", LAYER "--output a.npy --first-position 5 --position-table " TABLE);
    test_expect(2, "--position-table is not an option of attend attention", "attention --position-table table.npy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotary_turns_what_is_given),       cmocka_unit_test(rotary_judges_what_others_turned),
        cmocka_unit_test(rotary_refuses_what_does_not_fit), cmocka_unit_test(a_layer_gets_its_positions),
        cmocka_unit_test(a_layer_refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, make_inputs, NULL);
}
