/* The command as scripts use it: exit codes, JSON, results; test_command_refusals.c has what it refuses. */
#include "support/arrays.h"
#include "support/command.h"
#include "support/files.h"
#include "file/npy.h"
#include "file/safetensors.h"
#include "tool/values.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void a_real_layer_gives_what_pytorch_gives(void **state)
{
    (void)state;
    attend_array z, expected;
    cJSON *json = test_json(0, "run " LAYER " --output z.npy --lse l.npy --json --device cpu");
    assert_string_equal(test_json_text(json, "layout"), "bert");
    assert_int_equal(test_json_number(json, "heads"), 12);
    cJSON_Delete(json);
    z = test_read_npy("z.npy");
    assert_int_equal(attend_npy_read(TEST_DATA "/minilm/z.npy", &expected), ATTEND_OK);
    assert_int_equal(z.rank, 3);
    assert_memory_equal(z.shape, expected.shape, sizeof z.shape);
    for (int64_t i = 0; i < attend_array_elements(&z); i++)
        assert_float_equal(((float *)z.data)[i], ((float *)expected.data)[i], 5e-6);
    attend_array_free(&z), attend_array_free(&expected);
    z = test_read_npy("l.npy");
    assert_memory_equal(z.shape, ((int64_t[]){1, 12, 103}), 24);
    attend_array_free(&z);
    json = test_json(0, "compare " LAYER " --json --device cpu --result " TEST_DATA "/minilm/z.npy");
    assert_true(test_json_number(json, "tensors/0/quality_ratio") < 1);
    cJSON_Delete(json);
    json = test_json(0, "compare " LAYER " --json --device cpu --against cpu");
    assert_true(test_json_number(json, "tensors/0/bound_ratio") < 1);
    cJSON_Delete(json);
    /* where two devices differ most, and what each has there */
    json = test_json(0, "compare --random heads=2,seqlen_q=9,head_dim=8 --json --device reference --against cpu");
    assert_string_equal(test_json_text(json, "tensors/4/of"), "between");
    const double most = test_json_number(json, "tensors/4/max_error");
    assert_true(most > 0);
    assert_string_equal(test_json_text(json, "tensors/1/tensor"), "lse"); /* has no rule 2 */
    assert_null(cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "tensors"), 1), "quality_ratio"));
    assert_float_equal(fabs(test_json_number(json, "tensors/4/worst/actual") - test_json_number(json, "tensors/4/worst/expected")) / most, 1, 1e-6);
    cJSON_Delete(json);
    test_expect(0, "", "run " LAYER " --dtype f16 --output z.npy --quiet --device cpu");
    z = test_read_npy("z.npy");
    assert_int_equal(z.type, ATTEND_ARRAY_F16);
    attend_array_free(&z);
    remove(test_path("z.npy")), remove(test_path("l.npy"));
}

/* config.json is found beside the weights, and sentences keep their ends, however long the way there is. */
static void folders_may_have_long_paths(void **state)
{
    static const int letters[] = {500, 1000, 3000};
    char name[201], path[4096];
    (void)state;
    memset(name, 'n', 200), name[200] = 0;
    snprintf(path, sizeof path, "%s", name);
    for (int i = 0; i < 3; i++) {
        while (strlen(path) < (size_t)letters[i])
            snprintf(path + strlen(path), sizeof path - strlen(path), "/%s", name);
        test_process p =
            test_attend("--version && mkdir -p %s && cd %s && ln -s %s/minilm/* .", path, path, TEST_DATA);
        assert_int_equal(p.code, 0);
        test_process_free(&p);
        cJSON *json = test_json(0,
                                "run --weights %s/layer0.safetensors --input " TEST_DATA
                                "/minilm/x.npy --output z.npy --device cpu --json",
                                path);
        assert_int_equal(test_json_number(json, "heads"), 12); /* which config.json alone says */
        cJSON_Delete(json);
        test_expect(2, "missing.npy: No such file",
                    "attention --q %s/missing.npy --k k.npy --v v.npy --output o.npy", path);
        if (i < 2) test_expect(0, "", "attention " QKV " --output %s/o.npy --quiet --device cpu", path);
    }
    remove(test_path("z.npy"));
}

static void shapes_and_dtypes_follow_the_input(void **state)
{
    (void)state;
    attend_array o;
    test_expect(0, "", "attention " QKV " --output o.npy --lse l.npy --quiet");
    o = test_read_npy("o.npy");
    assert_int_equal(o.type, ATTEND_ARRAY_F32);
    assert_memory_equal(o.shape, ((int64_t[]){2, 5, 4, 8}), 32);
    attend_array_free(&o);
    o = test_read_npy("l.npy");
    assert_int_equal(o.type, ATTEND_ARRAY_F32);
    assert_memory_equal(o.shape, ((int64_t[]){2, 4, 5}), 24);
    attend_array_free(&o);
    test_expect(0, "", "attention --q q16.npy --k k16.npy --v v16.npy --output o.npy --lse l.npy --quiet");
    o = test_read_npy("o.npy");
    assert_int_equal(o.type, ATTEND_ARRAY_F16);
    attend_array_free(&o);
    test_expect(0, "", "attention --q q16.npy --k k.npy --v v16.npy --dtype f32 --output o.npy --quiet");
    o = test_read_npy("o.npy");
    assert_int_equal(o.type, ATTEND_ARRAY_F32);
    attend_array_free(&o);
    test_expect(0, "", "attention " QKV " --dtype bf16 --output o.safetensors --quiet");
    test_expect(0, "",
                "attention --q o.safetensors --k o.safetensors:output --v o.safetensors --output "
                "p.safetensors --quiet");
    attend_safetensors file;
    assert_int_equal(attend_safetensors_open(test_path("p.safetensors"), &file), ATTEND_OK);
    assert_string_equal(file.entries[0].dtype, "BF16");
    attend_safetensors_close(&file);
    remove(test_path("o.npy")), remove(test_path("l.npy")), remove(test_path("o.safetensors")),
        remove(test_path("p.safetensors"));
}

static void a_missing_batch_axis_is_one(void **state)
{
    (void)state;
    static float data[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    test_write_tensor("flat.npy", ATTEND_F32, 3, (int64_t[]){3, 2, 2}, data);
    test_expect(0, "", "attention --q flat.npy --k flat.npy --v flat.npy --output o.npy --lse l.npy --quiet --causal");
    attend_array o = test_read_npy("o.npy"), l = test_read_npy("l.npy");
    assert_int_equal(o.rank, 3);
    assert_memory_equal(o.shape, ((int64_t[]){3, 2, 2}), 24);
    assert_memory_equal(o.data, data, 16); /* the first query sees the first key alone */
    assert_int_equal(l.rank, 2);
    assert_memory_equal(l.shape, ((int64_t[]){2, 3}), 16);
    attend_array_free(&o), attend_array_free(&l);
    remove(test_path("o.npy")), remove(test_path("l.npy"));
}

static void lengths_and_masks_are_applied(void **state)
{
    (void)state;
    test_expect(0, "", "compare " QKV " --seqlens-k lengths.npy --quiet --device cpu");
    test_expect(0, "", "attention " QKV " --seqlens-k lengths.npy --causal=bottom-right --output o.npy --quiet --device cpu");
    test_expect(0, "", "compare " QKV " --seqlens-k lengths.npy --causal=bottom-right --result o.npy --quiet");
    test_expect(3, "", "compare " QKV " --seqlens-k lengths.npy --causal=top-left --result o.npy --quiet");
    test_expect(3, "", "compare " QKV " --causal=bottom-right --result o.npy --quiet");
    test_expect(3, "", "compare " QKV " --seqlens-k lengths.npy --causal=bottom-right --scale 0.2 --result o.npy --quiet");
    remove(test_path("o.npy"));
}

static void the_worst_element_is_located(void **state)
{
    (void)state;
    test_expect(0, "", "attention " QKV " --output o.npy --lse l.npy --quiet --device cpu");
    attend_array o = test_read_npy("o.npy"), l = test_read_npy("l.npy");
    ((float *)o.data)[((0 * 5 + 1) * 4 + 0) * 8 + 0] = -INFINITY;
    test_write_tensor("first.npy", ATTEND_F32, 4, o.shape, o.data);
    cJSON *first = test_json(3, "compare " QKV " --result first.npy --json");
    static const char *const places[] = {"batch", "row", "head", "column"};
    for (int i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "tensors/0/worst/%s", places[i]);
        assert_int_equal(test_json_number(first, path), i == 1);
    }
    assert_string_equal(test_json_text(first, "tensors/0/worst/actual"), "-inf");
    cJSON_Delete(first), remove(test_path("first.npy"));
    test_expect(0, "", "attention " QKV " --output o.npy --quiet --device cpu");
    attend_array_free(&o);
    o = test_read_npy("o.npy");
    ((float *)o.data)[((1 * 5 + 2) * 4 + 3) * 8 + 6] += 0.01f;
    ((float *)l.data)[(1 * 4 + 2) * 5 + 4] = NAN;
    test_write_tensor("wrong.npy", ATTEND_F32, 4, o.shape, o.data);
    test_write_tensor("wrong_lse.npy", ATTEND_F32, 3, l.shape, l.data);
    attend_array_free(&o), attend_array_free(&l);
    cJSON *json = test_json(3, "compare " QKV " --result wrong.npy --result-lse wrong_lse.npy --json");
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(json, "passed")));
    assert_true(test_json_number(json, "tensors/0/bound_ratio") > 100);
    assert_int_equal(test_json_number(json, "tensors/0/worst/batch"), 1);
    assert_int_equal(test_json_number(json, "tensors/0/worst/row"), 2);
    assert_int_equal(test_json_number(json, "tensors/0/worst/head"), 3);
    assert_int_equal(test_json_number(json, "tensors/0/worst/column"), 6);
    assert_float_equal(test_json_number(json, "tensors/0/worst/actual") - test_json_number(json, "tensors/0/worst/expected"),
                       0.01, 1e-5);
    assert_string_equal(test_json_text(json, "tensors/1/worst/actual"), "nan");
    assert_int_equal(test_json_number(json, "tensors/1/worst/row"), 4);
    cJSON_Delete(json);
    test_process p = test_attend("compare " QKV " --result wrong.npy");
    assert_int_equal(p.code, 3);
    assert_non_null(strstr(p.out, "OUTSIDE BOUNDS"));
    assert_non_null(strstr(p.out, "(1, 3, 2, 6)"));
    test_process_free(&p);
    remove(test_path("o.npy")), remove(test_path("l.npy")), remove(test_path("wrong.npy")), remove(test_path("wrong_lse.npy"));
}

static void a_report_has_every_size_under_its_name(void **state)
{
    static const struct {
        const char *name;
        int size;
    } sizes[] = {{"batch", 2},    {"heads", 6},    {"kv_heads", 3},   {"seqlen_q", 4},
                 {"seqlen_k", 5}, {"head_dim", 8}, {"head_dim_v", 16}};
    char random[256] = "";
    (void)state;
    for (int i = 0; i < 7; i++)
        snprintf(random + strlen(random), sizeof random - strlen(random), "%s%s=%d", i ? "," : "",
                 sizes[i].name, sizes[i].size);
    cJSON *json = test_json(0, "compare --device cpu --json --random %s", random);
    for (int i = 0; i < 7; i++) assert_int_equal(test_json_number(json, sizes[i].name), sizes[i].size);
    cJSON_Delete(json);
}

/* The columns of the table are those of JSON, in the order of the heads. */
static void a_table_has_every_number_under_its_head(void **state)
{
    (void)state;
    static const struct {
        const char *head, *field, *format;
    } columns[] = {{"rule 1", "bound_ratio", "%.3f"},  {"rule 2", "quality_ratio", "%.3f"},
                   {"max error", "max_error", "%.2e"}, {"rms error", "rms_error", "%.2e"},
                   {"actual", "worst/actual", "%.9g"}, {"expected", "worst/expected", "%.9g"},
                   {"bound", "worst/bound", "%.2e"}};
    cJSON *json = test_json(0, "compare " QKV " --device cpu --json");
    test_process p = test_attend("compare " QKV " --device cpu");
    const char *head = strstr(p.out, "rule 1"), *cell = strchr(head, '\n');
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        char path[64], text[64];
        snprintf(path, sizeof path, "tensors/0/%s", columns[i].field);
        snprintf(text, sizeof text, columns[i].format, test_json_number(json, path));
        head = strstr(head, columns[i].head), cell = strstr(cell, text);
        if (!head || !cell) fail_msg("no %s of %s where it should be in\n%s", columns[i].head, text, p.out);
        head++, cell += strlen(text);
    }
    test_process_free(&p), cJSON_Delete(json);
}

static void every_kind_of_values_compares(void **state)
{
    (void)state;
    for (int kind = 0; kind < ATTEND_VALUES_KINDS; kind++)
        test_expect(0, "",
                    "compare --device cpu --quiet --random "
                    "batch=1,heads=4,kv_heads=2,seqlen_q=33,seqlen_k=70,head_dim=16 --seed 3 "
                    "--values %s --dtype %s --causal=bottom-right",
                    attend_values_name((attend_values)kind), kind % 2 ? "f32" : "bf16");
}

static void bench_and_info_report(void **state)
{
    (void)state;
    cJSON *json = test_json(0, "bench --device cpu --random batch=1,heads=2,seqlen_q=64,head_dim=16 --causal --threads 1 --json");
    assert_true(test_json_number(json, "seconds") > 0);
    assert_true(test_json_number(json, "naive_seconds") > 0);
    assert_true(test_json_number(json, "speedup") > 0);
    /* fp32, values of at most 5: 64 + 16 roundings in each of the two algorithms are 5e-5 */
    assert_true(test_json_number(json, "difference") < 1e-4);
    assert_int_equal(test_json_number(json, "naive_score_bytes"), 2 * 64 * 64 * 4);
    double flop = test_json_number(json, "tflops") * 1e12 * test_json_number(json, "seconds");
    assert_float_equal(flop, 4.0 * (64 * 65 / 2) * 16 * 2, 1); /* what a causal mask leaves */
    cJSON_Delete(json);
    json = test_json(0, "bench --device cpu --random seqlen_q=0 --dtype f16 --json");
    assert_string_equal(test_json_text(json, "naive"), "there are no scores");
    cJSON_Delete(json);
    json = test_json(0, "info --kernels --json");
    assert_string_equal(test_json_text(json, "version"), attend_version());
    assert_string_equal(test_json_text(json, "devices/0/device"), "cpu");
    assert_non_null(test_json_text(json, "kernels/0/name"));
    cJSON_Delete(json);
    test_process p = test_attend("--version");
    assert_int_equal(p.code, 0);
    assert_non_null(strstr(p.out, attend_version()));
    test_process_free(&p);
}

static void explain_says_what_and_why(void **state)
{
    (void)state;
    cJSON *json = test_json(0, "bench --device cpu --random batch=1,heads=2,seqlen_q=64,head_dim=16 --window 7,0 --explain --json");
    assert_int_equal(test_json_number(json, "explain/pairs"), 2 * (64 * 8 - 28));
    assert_int_equal(test_json_number(json, "explain/flops"), 4 * 16 * 2 * (64 * 8 - 28));
    assert_true(strlen(test_json_text(json, "explain/not_chosen/0/reason")) > 10);
    cJSON_Delete(json);
    test_process p = test_attend("bench --device cpu --random batch=1,heads=2,seqlen_q=64,head_dim=16 --explain");
    assert_int_equal(p.code, 0);
    assert_non_null(strstr(p.out, "\nnot chosen  "));
    test_process_free(&p);
    test_expect(2, "--strict needs --device", "bench --strict");
    test_expect(0, "", "bench --strict --device cpu --random seqlen_q=8 --quiet");
    test_expect(2, "--explain and --sweep exclude each other", "bench --sweep --explain");
}

static double of_point(const cJSON *json, int point, const char *field)
{
    char name[48];
    snprintf(name, sizeof name, "sweep/%d/%s", point, field);
    return test_json_number(json, name);
}

static void a_sweep_writes_a_table_and_a_picture(void **state)
{
    (void)state;
    size_t size;
    cJSON *json = test_json(0, "bench --sweep --device cpu --random head_dim=64,seqlen_q=512 --output sweep.png --json");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "sweep")), 2); /* full and causal */
    for (int i = 0; i < 2; i++) {
        const double flop = 1e-12 * 8 * 4 * 64 * (i ? 512 * 513 / 2 : 512 * 512); /* causal ones leave as much */
        const double seconds = of_point(json, i, "seconds"), naive_seconds = of_point(json, i, "naive_seconds");
        assert_float_equal(seconds * of_point(json, i, "tflops") / flop, 1, 1e-6);
        assert_float_equal(naive_seconds * of_point(json, i, "naive_tflops") / flop, 1, 1e-6);
        assert_float_equal(naive_seconds / seconds / of_point(json, i, "speedup"), 1, 1e-6);
        assert_true(seconds > 0 && of_point(json, i, "seqlen") == 512 && of_point(json, i, "head_dim") == 64);
        assert_true(of_point(json, i, "heads") == 8 /* of a width of 512 */ && of_point(json, i, "batch") == 1);
    }
    cJSON_Delete(json);
    char *png = test_read_file(test_path("sweep.png"), &size);
    assert_memory_equal(png, "\x89PNG\r\n\x1a\n", 8);
    assert_memory_equal(png + size - 8, "IEND", 4);
    free(png);
    remove(test_path("sweep.png"));
    test_expect(2, "the options exclude every point of the sweep", "bench --sweep --random head_dim=65");
    test_expect(2, "--output needs --sweep", "bench --output o.npy");
}

static void nothing_but_the_result_is_printed_in_a_pipe(void **state)
{
    (void)state;
    test_process p = test_attend("compare --random seqlen_q=40 --device cpu");
    assert_int_equal(p.code, 0);
    assert_string_equal(p.err, "");
    assert_null(strchr(p.out, '\033'));
    assert_non_null(strstr(p.out, "within bounds"));
    test_process_free(&p);
    p = test_attend("compare --random seqlen_q=40 --device cpu --quiet");
    assert_string_equal(p.out, "");
    test_process_free(&p);
}

/* What libraries print to a closed stdout goes nowhere, not into the first file that is opened. */
static void closed_descriptors_are_not_written_into_results(void **state)
{
    (void)state;
    size_t size, other_size;
    test_expect(0, "", "run " LAYER " --output z.npy --quiet --device cpu");
    setenv("ONEDNN_VERBOSE", "1", 1);
    test_process p = test_attend("run " LAYER " --output other.npy --quiet --device cpu <&- >&-");
    test_process_free(&p); /* whether it fails depends on what oneDNN prints */
    unsetenv("ONEDNN_VERBOSE");
    char *z = test_read_file(test_path("z.npy"), &size),
         *other = test_read_file(test_path("other.npy"), &other_size);
    assert_int_equal(size, other_size);
    assert_memory_equal(z, other, size);
    free(z), free(other);
    remove(test_path("z.npy")), remove(test_path("other.npy"));
    test_expect(1, "stdout: Bad file descriptor", "info >&-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_layer_gives_what_pytorch_gives),
        cmocka_unit_test(folders_may_have_long_paths),
        cmocka_unit_test(shapes_and_dtypes_follow_the_input),
        cmocka_unit_test(a_missing_batch_axis_is_one),
        cmocka_unit_test(lengths_and_masks_are_applied),
        cmocka_unit_test(the_worst_element_is_located),
        cmocka_unit_test(a_report_has_every_size_under_its_name),
        cmocka_unit_test(a_table_has_every_number_under_its_head),
        cmocka_unit_test(every_kind_of_values_compares),
        cmocka_unit_test(bench_and_info_report),
        cmocka_unit_test(explain_says_what_and_why),
        cmocka_unit_test(a_sweep_writes_a_table_and_a_picture),
        cmocka_unit_test(nothing_but_the_result_is_printed_in_a_pipe),
        cmocka_unit_test(closed_descriptors_are_not_written_into_results),
    };
    return cmocka_run_group_tests(tests, test_write_inputs, NULL);
}
