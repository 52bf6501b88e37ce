/* The command as scripts use it: exit codes, JSON, sentences for bad usage and bad input, results whole or
 * not at all. */
#include "support/command.h"
#include "support/files.h"
#include "file/npy.h"
#include "file/safetensors.h"
#include "values/values.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define LAYER "--weights " TEST_DATA "/minilm/layer0.safetensors --input " TEST_DATA "/minilm/x.npy"

static void write_npy(const char *name, attend_dtype dtype, int rank, const int64_t *shape, const void *data)
{
    attend_output output;
    assert_int_equal(attend_output_open(test_path(name), &output), ATTEND_OK);
    assert_int_equal(attend_npy_write(&output, dtype, rank, shape, data), ATTEND_OK);
    assert_int_equal(attend_output_finish(&output), ATTEND_OK);
    assert_int_equal(attend_output_commit(&output), ATTEND_OK);
    attend_output_close(&output);
}

static void write_gauss(const char *name, attend_dtype dtype, int64_t batch, int64_t seqlen, int64_t heads, int64_t dim)
{
    static float memory[1 << 14];
    attend_tensor t = attend_tensor_4d(memory, dtype, batch, seqlen, heads, dim);
    memcpy(t.stride, (int64_t[]){seqlen * heads * dim, heads * dim, dim, 1}, sizeof t.stride);
    attend_values_gauss(strlen(name) + (uint64_t)name[0], 1, &t);
    write_npy(name, dtype, 4, t.shape, memory);
}

/* int64 lengths: a float file's header with another dtype. */
static void write_lengths(const char *name, const int64_t *lengths, int count)
{
    char file[256];
    int length = snprintf(file + 10, 200, "{'descr': '<i8', 'fortran_order': False, 'shape': (%d,), }", count);
    memcpy(file, "\x93NUMPY\1\0", 8);
    file[8] = (char)length, file[9] = 0;
    memcpy(file + 10 + length, lengths, (size_t)count * 8);
    test_write_file(test_path(name), file, (size_t)(10 + length + 8 * count));
}

static attend_array read_npy(const char *name)
{
    attend_array array;
    if (attend_npy_read(test_path(name), &array) != ATTEND_OK) fail_msg("%s cannot be read", name);
    return array;
}

/* q, k, v in f32 and f16, with two entries, 5 queries, 7 keys, heads 4/2 of 8. */
static int make_inputs(void **state)
{
    (void)state;
    write_gauss("q.npy", ATTEND_F32, 2, 5, 4, 8);
    write_gauss("k.npy", ATTEND_F32, 2, 7, 2, 8);
    write_gauss("v.npy", ATTEND_F32, 2, 7, 2, 8);
    write_gauss("q16.npy", ATTEND_F16, 2, 5, 4, 8);
    write_gauss("k16.npy", ATTEND_F16, 2, 7, 2, 8);
    write_gauss("v16.npy", ATTEND_F16, 2, 7, 2, 8);
    write_lengths("lengths.npy", (int64_t[]){7, 3}, 2);
    return 0;
}
#define QKV "--q q.npy --k k.npy --v v.npy"

static void a_real_layer_gives_what_pytorch_gives(void **state)
{
    (void)state;
    attend_array z, expected;
    cJSON *json = test_json(0, "run " LAYER " --output z.npy --lse l.npy --json --device cpu");
    assert_string_equal(test_json_text(json, "layout"), "bert");
    assert_int_equal(test_json_number(json, "heads"), 12);
    cJSON_Delete(json);
    z = read_npy("z.npy");
    assert_int_equal(attend_npy_read(TEST_DATA "/minilm/z.npy", &expected), ATTEND_OK);
    assert_int_equal(z.rank, 3);
    assert_memory_equal(z.shape, expected.shape, sizeof z.shape);
    for (int64_t i = 0; i < attend_array_elements(&z); i++)
        assert_float_equal(((float *)z.data)[i], ((float *)expected.data)[i], 5e-6);
    attend_array_free(&z), attend_array_free(&expected);
    z = read_npy("l.npy");
    assert_memory_equal(z.shape, ((int64_t[]){1, 12, 103}), 24);
    attend_array_free(&z);
    json = test_json(0, "compare " LAYER " --json --device cpu --result " TEST_DATA "/minilm/z.npy");
    assert_true(test_json_number(json, "tensors/0/quality_ratio") < 1);
    cJSON_Delete(json);
    json = test_json(0, "compare " LAYER " --json --device cpu --against cpu");
    assert_true(test_json_number(json, "tensors/0/bound_ratio") < 1);
    cJSON_Delete(json);
    remove(test_path("z.npy")), remove(test_path("l.npy"));
}

static void shapes_and_dtypes_follow_the_input(void **state)
{
    (void)state;
    attend_array o;
    test_expect(0, "", "attention " QKV " --output o.npy --lse l.npy --quiet");
    o = read_npy("o.npy");
    assert_int_equal(o.type, ATTEND_ARRAY_F32);
    assert_memory_equal(o.shape, ((int64_t[]){2, 5, 4, 8}), 32);
    attend_array_free(&o);
    o = read_npy("l.npy");
    assert_int_equal(o.type, ATTEND_ARRAY_F32);
    assert_memory_equal(o.shape, ((int64_t[]){2, 4, 5}), 24);
    attend_array_free(&o);
    test_expect(0, "", "attention --q q16.npy --k k16.npy --v v16.npy --output o.npy --lse l.npy --quiet");
    o = read_npy("o.npy");
    assert_int_equal(o.type, ATTEND_ARRAY_F16);
    attend_array_free(&o);
    test_expect(0, "", "attention --q q16.npy --k k.npy --v v16.npy --dtype f32 --output o.npy --quiet");
    o = read_npy("o.npy");
    assert_int_equal(o.type, ATTEND_ARRAY_F32);
    attend_array_free(&o);
    test_expect(0, "", "attention " QKV " --dtype bf16 --output o.safetensors --quiet");
    test_expect(0, "",
                "attention --q o.safetensors --k o.safetensors:output --v o.safetensors --output "
                "o.safetensors --quiet");
    attend_safetensors file;
    assert_int_equal(attend_safetensors_open(test_path("o.safetensors"), &file), ATTEND_OK);
    assert_string_equal(file.entries[0].dtype, "BF16");
    attend_safetensors_close(&file);
    remove(test_path("o.npy")), remove(test_path("l.npy")), remove(test_path("o.safetensors"));
}

static void a_missing_batch_axis_is_one(void **state)
{
    (void)state;
    static float data[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    write_npy("flat.npy", ATTEND_F32, 3, (int64_t[]){3, 2, 2}, data);
    test_expect(0, "", "attention --q flat.npy --k flat.npy --v flat.npy --output o.npy --lse l.npy --quiet --causal");
    attend_array o = read_npy("o.npy"), l = read_npy("l.npy");
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
    attend_array o = read_npy("o.npy"), l = read_npy("l.npy");
    ((float *)o.data)[((1 * 5 + 2) * 4 + 3) * 8 + 6] += 0.01f;
    ((float *)l.data)[(1 * 4 + 2) * 5 + 4] = NAN;
    write_npy("wrong.npy", ATTEND_F32, 4, o.shape, o.data);
    write_npy("wrong_lse.npy", ATTEND_F32, 3, l.shape, l.data);
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

static void a_sweep_writes_a_table_and_a_picture(void **state)
{
    (void)state;
    size_t size;
    cJSON *json = test_json(0, "bench --sweep --device cpu --random heads=1,head_dim=64,seqlen_q=512 --output sweep.png --json");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "sweep")), 2); /* full and causal */
    assert_true(test_json_number(json, "sweep/0/tflops") > 0);
    assert_true(test_json_number(json, "sweep/1/naive_tflops") > 0);
    cJSON_Delete(json);
    char *png = test_read_file(test_path("sweep.png"), &size);
    assert_memory_equal(png, "\x89PNG\r\n\x1a\n", 8);
    assert_memory_equal(png + size - 8, "IEND", 4);
    free(png);
    remove(test_path("sweep.png"));
    test_expect(2, "no point of the sweep is left", "bench --sweep --random head_dim=65");
    test_expect(2, "--output is the picture of --sweep", "bench --output o.npy");
}

static void bad_usage_is_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"no command", ""},
        {"\"walk\" is not a command", "walk"},
        {"--frobnicate is not an option", "info --frobnicate"},
        {"--weights is not an option of attend attention", "attention --weights x"},
        {"--device needs a value", "info --device"},
        {"--device needs a value", "info --device --json"},
        {"--device is \"gpu\", expected one of auto, cpu, cuda, reference", "info --device gpu"},
        {"--dtype is \"f64\"", "info --dtype=f64"},
        {"--threads is \"4x\"", "info --threads 4x"},
        {"--threads is \"-1\"", "info --threads -1"},
        {"--threads is \"\"", "info --threads ''"},
        {"--threads is \"99999999999999999999\"", "info --threads 99999999999999999999"},
        {"--json takes no value", "info --json=yes"},
        {"--json is given twice", "info --json --json"},
        {"\"extra\" is not an option", "info extra"},
        {"--scale is \"nan\"", "attention " QKV " --output o.npy --scale nan"},
        {"--scale is \"inf\"", "attention " QKV " --output o.npy --scale inf"},
        {"--scale is \"0\"", "attention " QKV " --output o.npy --scale 0"},
        {"--scale is \"1e39\"", "attention " QKV " --output o.npy --scale 1e39"},
        {"--scale is \"0.5 \"", "attention " QKV " --output o.npy --scale '0.5 '"},
        {"--causal is \"left\"", "attention " QKV " --output o.npy --causal=left"},
        {"--causal needs an alignment", "attention " QKV " --output o.npy --causal"},
        {"--causal needs an alignment",
         "attention --q q.npy --k q.npy --v q.npy --seqlens-k lengths.npy --output o.npy --causal"},
        {"--v is missing; attend attention --help", "attention --q q.npy --k k.npy --output o.npy"},
        {"--output is missing; attend attention --help", "attention " QKV},
        {"--input is missing; attend run --help", "run --weights w.safetensors --output z.npy"},
        {"--weights is missing; attend run --help", "run --input x.npy --output z.npy"},
        {"--layer is \"-1\"", "run " LAYER " --output z.npy --layer -1"},
        {"--heads is \"0\"", "run " LAYER " --output z.npy --heads 0"},
        {"--layout is \"bart\"", "run " LAYER " --output z.npy --layout bart"},
        {"give --weights and --input, or --q", "compare"},
        {"exclude each other", "compare " QKV " --random seqlen_q=4"},
        {"exclude each other", "compare " QKV " --heads 4"},
        {"exclude each other", "compare " QKV " --seed 4"},
        {"--against is \"pytorch\"", "compare --random seqlen_q=4 --against pytorch"},
        {"--values is \"normal\", expected one of gauss, sharp, constant", "compare --random seqlen_q=4 --values normal"},
        {"--seed is \"-1\"", "compare --random seqlen_q=4 --seed -1"},
        {"expected key=value", "compare --random seqlen_q"},
        {"unknown key \"seqlen\"", "compare --random seqlen=4"},
        {"--random seqlen_q is \"4.5\"", "compare --random seqlen_q=4.5"},
        {"--random seqlen_q is \"\"", "compare --random seqlen_q="},
        {"--random has seqlen_q twice", "compare --random seqlen_q=4,seqlen_q=5"},
        {"expected key=value", "compare --random seqlen_q=4,"},
        {"--random heads is \"0\"", "compare --random heads=0"},
        {"heads (8) is not a multiple of kv_heads (3)", "compare --random kv_heads=3"},
        {"--result-lse", "compare " QKV " --result-lse l.npy"},
        {"nothing to write", "compare " QKV " --result o.npy --output p.npy"},
        {"leave --against out", "compare " QKV " --result o.npy --against cpu"},
        {"--window is \"5\", expected LEFT,RIGHT", "compare --window 5"},
        {"--window is \"-2\"", "compare --random seqlen_q=4 --window -2,0"},
        {"--window is \"\"", "compare --random seqlen_q=4 --window 4,"},
        {"--softcap is \"-1\"", "compare --random seqlen_q=4 --softcap -1"},
        {"--alibi is \"yes\"", "compare --random seqlen_q=4 --alibi yes"},
        {"--chunk is \"0\"", "compare --random seqlen_q=4 --chunk 0"},
        {"the same file", "attention " QKV " --output o.npy --lse o.npy"},
        {"is empty", "attention " QKV " --output ''"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) test_expect(2, cases[i][0], "%s", cases[i][1]);
    cJSON *json = test_json(2, "info --device gpu --json");
    assert_non_null(strstr(test_json_text(json, "error"), "--device is \"gpu\""));
    assert_string_equal(test_json_text(json, "status"), "ATTEND_INVALID_ARGUMENT");
    cJSON_Delete(json);
    json = test_json(2, "attention --q nowhere.npy --k k.npy --v v.npy --output o.npy --json");
    assert_string_equal(test_json_text(json, "status"), "ATTEND_IO_ERROR");
    cJSON_Delete(json);
    test_expect(2, "o.txt ends neither in .npy nor in .safetensors", "attention " QKV " --output o.txt");
    test_expect(2, "l.text ends neither", "attention " QKV " --output o.npy --lse l.text");
    test_expect(1, "q needs 2048000000000000 bytes, more than there is memory", "compare --random seqlen_q=1000000000000 --quiet");
    test_expect(1, "q has more bytes than 63 bits can count", "compare --random seqlen_q=9223372036854775807 --quiet");
}

static void bad_input_is_refused(void **state)
{
    (void)state;
    const float large[4] = {1, 2, 7e4f, 4}, nan[4] = {1, NAN, 3, 4};
    write_npy("large.npy", ATTEND_F32, 4, (int64_t[]){1, 1, 1, 4}, large);
    write_npy("nan.npy", ATTEND_F32, 4, (int64_t[]){1, 1, 1, 4}, nan);
    write_npy("rank2.npy", ATTEND_F32, 2, (int64_t[]){2, 2}, large);
    write_npy("headless.npy", ATTEND_F32, 4, (int64_t[]){2, 7, 0, 8}, large);
    write_lengths("long.npy", (int64_t[]){7, 8}, 2);
    write_lengths("negative.npy", (int64_t[]){-1, 7}, 2);
    write_lengths("three.npy", (int64_t[]){1, 2, 3}, 3);
    test_write_file(test_path("text.npy"), "this is not an array", 20);
    test_write_file(test_path("text.safetensors"), "this is not a checkpoint", 24);
    static const char *const cases[][2] = {
        {"missing.npy: No such file", "attention --q missing.npy --k k.npy --v v.npy --output o.npy"},
        {"text.npy is not a .npy file", "attention --q text.npy --k k.npy --v v.npy --output o.npy"},
        {"rank2.npy has 2 axes, expected 4, or 3", "attention --q rank2.npy --k k.npy --v v.npy --output o.npy"},
        {"v has shape [2, 5, 4, 8], expected [2, 7, 2, 8]", "attention --q q.npy --k k.npy --v q.npy --output o.npy"},
        {"headless.npy has no heads", "attention --q q.npy --k headless.npy --v v.npy --output o.npy"},
        {"k16.npy is f16, but q.npy is f32; --dtype converts", "attention --q q.npy --k k16.npy --v v.npy --output o.npy"},
        {"lengths.npy holds integers or truth values", "attention --q lengths.npy --k k.npy --v v.npy --output o.npy"},
        {"seqlens_k[1] is 8, expected 0 to 7", "attention " QKV " --seqlens-k long.npy --output o.npy"},
        {"seqlens_k[0] is -1", "attention " QKV " --seqlens-k negative.npy --output o.npy"},
        {"three.npy: expected 2 integers", "attention " QKV " --seqlens-k three.npy --output o.npy"},
        {"q.npy: expected integers (int32 or int64) along 1 axis", "attention " QKV " --seqlens-k q.npy --output o.npy"},
        {"element 2 is 70000, which f16 cannot hold",
         "attention --q large.npy --k large.npy --v large.npy --dtype f16 --output o.npy"},
        {"o.npy would hold bf16", "attention " QKV " --dtype bf16 --output o.npy"},
        {"the reference itself is not finite", "compare --q nan.npy --k nan.npy --v nan.npy --device cpu"},
        {"q16.npy is f16, but the problem is f32", "compare " QKV " --result q16.npy"},
        {"out has shape", "compare " QKV " --result k.npy"},
        {"promises a header", "run --weights text.safetensors --input x.npy --output z.npy"},
        {"missing: No such file", "run --weights missing --input x.npy --output z.npy"},
        {"q.npy has 4 axes, expected 3, or 2",
         "run --weights " TEST_DATA "/minilm/layer0.safetensors --input q.npy --output z.npy"},
        {"rank2.npy has 2 columns, but the layer takes 384",
         "run --weights " TEST_DATA "/minilm/layer0.safetensors --input rank2.npy --output z.npy"},
    };
    int before = test_count_files();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) test_expect(2, cases[i][0], "%s", cases[i][1]);
    assert_int_equal(test_count_files(), before);
}

static void outputs_are_whole_or_absent(void **state)
{
    (void)state;
    assert_int_equal(mkdir(test_path("folder"), 0700), 0);
    int before = test_count_files();
    test_expect(1, "/no/such/folder/o.npy cannot be written: No such file", "attention " QKV " --output /no/such/folder/o.npy");
    test_expect(1, "folder is a folder", "attention " QKV " --output folder");
    test_expect(1, "stdout", "info --json >/dev/full");
    struct rlimit limit, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit, small.rlim_cur = 512;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    test_expect(1, "o.npy: File too large", "attention " QKV " --output o.npy --quiet");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(test_count_files(), before);
    rmdir(test_path("folder"));
}

static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    char full[512], null[512];
    snprintf(full, sizeof full, "%s", test_device("full"));
    snprintf(null, sizeof null, "%s", test_device("null"));
    int before = test_count_files();
    test_expect(1, "/full: No space left", "attention " QKV " --output %s", full);
    test_expect(1, "/full: No space left", "attention " QKV " --output o.npy --lse %s", full);
    test_expect(1, "No space left", "attention " QKV " --output %s >/dev/full", null);
    test_expect(0, "", "attention " QKV " --output %s --lse %s", null, null);
    assert_int_equal(test_count_files(), before);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_layer_gives_what_pytorch_gives),
        cmocka_unit_test(shapes_and_dtypes_follow_the_input),
        cmocka_unit_test(a_missing_batch_axis_is_one),
        cmocka_unit_test(lengths_and_masks_are_applied),
        cmocka_unit_test(the_worst_element_is_located),
        cmocka_unit_test(every_kind_of_values_compares),
        cmocka_unit_test(bench_and_info_report),
        cmocka_unit_test(explain_says_what_and_why),
        cmocka_unit_test(a_sweep_writes_a_table_and_a_picture),
        cmocka_unit_test(bad_usage_is_refused),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(outputs_are_whole_or_absent),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(nothing_but_the_result_is_printed_in_a_pipe),
    };
    return cmocka_run_group_tests(tests, make_inputs, NULL);
}
