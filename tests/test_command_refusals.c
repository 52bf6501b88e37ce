/* What the command refuses: bad usage and bad input, with a sentence for each, and outputs that cannot be whole. */
#include "support/arrays.h"
#include "support/command.h"
#include "support/files.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

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
        {"--causal needs an alignment", "compare --random batch=2,seqlen_q=8 --causal --seqlens-q lengths.npy"},
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
        {"--values is \"normal\", expected one of gauss, sharp, constant",
         "compare --random seqlen_q=4 --values normal"},
        {"--seed is \"-1\"", "compare --random seqlen_q=4 --seed -1"},
        {"expected key=value", "compare --random seqlen_q"},
        {"unknown key \"seqlen\"", "compare --random seqlen=4"},
        {"--random seqlen_q is \"4.5\"", "compare --random seqlen_q=4.5"},
        {"--random seqlen_q is \"\"", "compare --random seqlen_q="},
        {"--random has seqlen_q twice", "compare --random seqlen_q=4,seqlen_q=5"},
        {"--random has batch twice", "compare --random batch=0,batch=2"},
        {"expected key=value", "compare --random seqlen_q=4,"},
        {"--random heads is \"0\"", "compare --random heads=0"},
        {"--random heads is \"1e30\", expected a whole number from 1 up, below 2^63", "compare --random heads=1e30"},
        {"heads (8) is not a multiple of kv_heads (3)", "compare --random kv_heads=3"},
        {"--result-lse", "compare " QKV " --result-lse l.npy"},
        {"computes nothing that could be written to --output", "compare " QKV " --result o.npy --output p.npy"},
        {"computes nothing that could be written to --lse", "compare " QKV " --result o.npy --lse l.npy"},
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
    test_expect(1, "q needs 2048000000000000 bytes, more than the available memory", "compare --random seqlen_q=1000000000000 --quiet");
    test_expect(1, "q has more bytes than 63 bits can count", "compare --random seqlen_q=9223372036854775807 --quiet");
}

static void bad_input_is_refused(void **state)
{
    (void)state;
    const float large[4] = {1, 2, 7e4f, 4}, nan[4] = {1, NAN, 3, 4};
    test_write_tensor("large.npy", ATTEND_F32, 4, (int64_t[]){1, 1, 1, 4}, large);
    test_write_tensor("nan.npy", ATTEND_F32, 4, (int64_t[]){1, 1, 1, 4}, nan);
    test_write_tensor("sinks.npy", ATTEND_F32, 1, (int64_t[]){2}, (const float[]){1, INFINITY});
    test_write_tensor("rank2.npy", ATTEND_F32, 2, (int64_t[]){2, 2}, large);
    test_write_tensor("headless.npy", ATTEND_F32, 4, (int64_t[]){2, 7, 0, 8}, large);
    test_write_integers("long.npy", (int64_t[]){7, 8}, 2);
    test_write_integers("negative.npy", (int64_t[]){-1, 7}, 2);
    test_write_integers("three.npy", (int64_t[]){1, 2, 3}, 3);
    test_write_file(test_path("text.npy"), "this is not an array", 20);
    test_write_file(test_path("text.safetensors"), "this is not a checkpoint", 24);
    const int64_t far[] = {7, (int64_t)INT32_MAX + 1}, low[] = {7, (int64_t)INT32_MIN - 1};
    test_write_npy("far.npy", "<i8", "(1, 2)", far, sizeof far), test_write_npy("low.npy", "<i8", "(1, 2)", low, sizeof low);
    static const char *const cases[][2] = {
        {"far.npy: element 1 is 2147483648, which does not fit in 32 bits", "compare --random seqlen_q=2 --segments-q far.npy"},
        {"low.npy: element 1 is -2147483649, which does not fit in 32 bits", "compare --random seqlen_q=2 --segments-q low.npy"},
        {"missing.npy: No such file", "attention --q missing.npy --k k.npy --v v.npy --output o.npy"},
        {"text.npy is not a .npy file", "attention --q text.npy --k k.npy --v v.npy --output o.npy"},
        {"rank2.npy has 2 axes, expected 4, or 3", "attention --q rank2.npy --k k.npy --v v.npy --output o.npy"},
        {"v has shape [2, 5, 4, 8], expected [2, 7, 2, 8]", "attention --q q.npy --k k.npy --v q.npy --output o.npy"},
        {"layer0.safetensors has 8 tensors; name one",
         "attention --q " TEST_DATA "/minilm/layer0.safetensors --k k.npy --v v.npy --output o.npy"},
        {"headless.npy has no heads", "attention --q q.npy --k headless.npy --v v.npy --output o.npy"},
        {"k16.npy is f16, but q.npy is f32; --dtype converts", "attention --q q.npy --k k16.npy --v v.npy --output o.npy"},
        {"lengths.npy has integers or booleans", "attention --q lengths.npy --k k.npy --v v.npy --output o.npy"},
        {"seqlens_k[1] is 8, expected 0 to 7", "attention " QKV " --seqlens-k long.npy --output o.npy"},
        {"seqlens_k[0] is -1", "attention " QKV " --seqlens-k negative.npy --output o.npy"},
        {"three.npy: expected 2 integers", "attention " QKV " --seqlens-k three.npy --output o.npy"},
        {"q.npy: expected integers (int32 or int64) along 1 axis", "attention " QKV " --seqlens-k q.npy --output o.npy"},
        {"element 2 is 70000, which overflows f16",
         "attention --q large.npy --k large.npy --v large.npy --dtype f16 --output o.npy"},
        {"o.npy cannot store bf16", "attention " QKV " --dtype bf16 --output o.npy"},
        {"the reference itself is not finite: q, k, v or a feature's tensor hold NaN, infinity",
         "compare --random heads=2,seqlen_q=4,seqlen_k=9 --sinks sinks.npy --device cpu"},
        {"the reference itself is not finite", "compare --q nan.npy --k nan.npy --v nan.npy --device cpu"},
        {"q16.npy is f16, but the problem is f32", "compare " QKV " --result q16.npy"},
        {"out has shape", "compare " QKV " --result k.npy"},
        {"has a header length of", "run --weights text.safetensors --input x.npy --output z.npy"},
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

static void outputs_are_never_written_over_inputs_or_each_other(void **state)
{
    static const char *const cases[][2] = {
        {"--output would overwrite q.npy, which --q reads", "attention " QKV " --output q.npy"},
        {"--output would overwrite ./k.npy, which --k reads", "attention " QKV " --output ./k.npy"},
        {"--output would overwrite folder/../v.npy, which --v reads",
         "attention " QKV " --output folder/../v.npy"},
        {"which --k reads", "attention --q q.npy --k o.safetensors:output --v v.npy --output o.safetensors"},
        {"--output would overwrite link.npy, which --q reads", "attention " QKV " --output link.npy"},
        {"--lse would overwrite lengths.npy, which --seqlens-k reads",
         "attention " QKV " --seqlens-k lengths.npy --output p.npy --lse lengths.npy"},
        {"which --weights reads", "run --weights o.safetensors --input x.npy --output o.safetensors"},
        {"which --weights reads", "run --weights folder --input x.npy --output folder/part-2.safetensors"},
        {"which --weights reads", "run --weights folder/model.safetensors.index.json --input x.npy --output "
                                  "folder/part-2.safetensors"},
        {"which --weights reads", "run --weights . --input x.npy --output ./model.safetensors"},
        {"which --input reads", "rotary --rotary halves --input q.npy --output q.npy"},
        {"which --tokens reads", "inspect " QKV " --tokens lengths.npy --output lengths.npy"},
        {"which --mask reads", "compare --random seqlen_q=4 --mask v.npy --output v.npy"},
        {"--output and --lse are the same file", "attention " QKV " --output p.npy --lse ./p.npy"},
        {"--rows and --map-output are the same file",
         "inspect " QKV " --queries 0 --rows folder/p.npy --map-output folder/../folder/p.npy"},
    };
    (void)state;
    assert_int_equal(mkdir(test_path("folder"), 0700), 0);
    assert_int_equal(symlink("q.npy", test_path("link.npy")), 0);
    static const char index[] =
        "{\"weight_map\": {\"a\": \"part-1.safetensors\", \"b\": \"part-2.safetensors\"}}";
    static const char *const files[] = {"o.safetensors", "model.safetensors", "folder/part-2.safetensors"};
    for (int i = 0; i < 3; i++) test_write_file(test_path(files[i]), "as good as any other", 20);
    test_write_file(test_path("folder/model.safetensors.index.json"), index, strlen(index));
    int before = test_count_files();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) test_expect(2, cases[i][0], "%s", cases[i][1]);
    test_expect(0, "",
                "attention " QKV " --output folder/q.npy --quiet"); /* of the same name, but another file */
    assert_int_equal(test_count_files(), before);
    for (int i = 0; i < 3; i++) remove(test_path(files[i]));
    remove(test_path("folder/q.npy")), remove(test_path("link.npy")),
        remove(test_path("folder/model.safetensors.index.json"));
    rmdir(test_path("folder"));
}

/* What comes after the output is opened would fail as well: the first sentence tells which came first. */
static void outputs_are_opened_before_the_work(void **state)
{
    static const char *const cases[][2] = {
        {"compare " QKV " --seqlens-k long.npy", " --output /no/such/folder/o.npy"},
        {"compare " QKV " --seqlens-k long.npy", " --lse /no/such/folder/o.npy"},
        {"inspect " QKV " --seqlens-k long.npy", " --queries 0 --rows /no/such/folder/o.npy"},
        {"inspect " QKV " --seqlens-k long.npy", " --output /no/such/folder/o.png"},
        {"bench --sweep --random heads=3,kv_heads=2", " --output /no/such/folder/o.png"},
    };
    (void)state;
    test_write_integers("long.npy", (int64_t[]){7, 8}, 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_expect(1, "cannot be written: No such file", "%s%s", cases[i][0], cases[i][1]);
    }
    test_expect(2, "o.txt does not end in .png", "inspect " QKV " --output o.txt");
    test_expect(2, "s.npy does not end in .png", "bench --sweep --output s.npy");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_usage_is_refused),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(outputs_are_whole_or_absent),
        cmocka_unit_test(outputs_are_never_written_over_inputs_or_each_other),
        cmocka_unit_test(outputs_are_opened_before_the_work),
        cmocka_unit_test(a_full_disk_is_an_error),
    };
    return cmocka_run_group_tests(tests, test_write_inputs, NULL);
}
