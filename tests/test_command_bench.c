/* attend bench beside the naive algorithm, on the device under test: it runs where it can, agrees, and says why where it cannot. */
#include "support/command.h"
#include "support/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *device(void)
{
    const char *name = getenv("ATTEND_TEST_DEVICE");
    return name ? name : "cpu";
}

static cJSON *bench(const char *options)
{
    return test_json(0, "bench --device %s --seconds 0 --json %s", device(), options);
}

/* Rounding 16-bit scores moves an output by less than 2^-6 here; a wrong mask, head or scale by more than 0.1. */
static void the_naive_algorithm_agrees(void **state)
{
    static const char *const problems[] = {
        "--random seqlen_q=40,seqlen_k=70,heads=3,head_dim=32 --dtype f32",
        "--random batch=2,seqlen_q=64,heads=4,kv_heads=2,head_dim=32 --causal=top-left --dtype f32",
        "--random batch=2,seqlen_q=33,seqlen_k=50,heads=2,head_dim=40 --causal=bottom-right --dtype f16",
        "--random seqlen_q=50,seqlen_k=33,heads=4,kv_heads=1,head_dim=16 --causal=top-left --dtype bf16",
        "--random batch=2,seqlen_q=1,seqlen_k=33,heads=4,kv_heads=2,head_dim=16 --dtype f32",
        "--random seqlen_q=20,seqlen_k=33,heads=2,head_dim=32,head_dim_v=8 --dtype f32",
    };
    (void)state;
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
        cJSON *json = bench(problems[i]);
        const double limit = strstr(problems[i], "bf16") ? 0x1p-3 : strstr(problems[i], "f16") ? 0x1p-6 : 0x1p-13;
        assert_true(test_json_number(json, "naive_seconds") > 0);
        assert_true(test_json_number(json, "naive_score_bytes") > 0);
        const double difference =
            test_json_number(json, "difference"); /* in hundreds of roundings, some are not the same */
        if (!(difference > 0 && difference < limit)) fail_msg("%s: off by %g", problems[i], difference);
        cJSON_Delete(json);
    }
}

/* Of outputs of one element, about as many are below the naive one as above. */
static void differences_have_no_sign(void **state)
{
    (void)state;
    enum { SEEDS = 12 };
    int differ = 0;
    if (strcmp(device(), "cpu")) skip(); /* once is enough */
    for (int seed = 1; seed <= SEEDS; seed++) {
        cJSON *json = test_json(0, "bench --device %s --seconds 0 --json --seed %d --random seqlen_q=1,seqlen_k=500,heads=1,head_dim=64,head_dim_v=1", device(), seed);
        differ += test_json_number(json, "difference") > 0;
        cJSON_Delete(json);
    }
    if (differ < 8) fail_msg("only %d of %d outputs differ from the naive one", differ, SEEDS);
}

/* Few tokens make the process grow by little, whatever it held before; and the naive algorithm's few scores by little beside attend's panels
   of many keys, which are gone then. */
static void memory_is_what_a_run_adds(void **state)
{
    (void)state;
    if (strcmp(device(), "cpu")) skip();
    cJSON *json = test_json(0, "bench --device cpu --threads 1 --seconds 0 --json --random seqlen_q=8,heads=1,head_dim=8");
    assert_int_equal((int64_t)test_json_number(json, "peak_bytes") % 4096, 0); /* whole pages */
    assert_true(test_json_number(json, "peak_bytes") < 8e6); /* the naive algorithm starts a thread for each core */
    cJSON_Delete(json);
    json = test_json(0, "bench --device cpu --threads 1 --seconds 0 --json --random seqlen_q=16,seqlen_k=16384,heads=1,head_dim=128");
    assert_true(test_json_number(json, "peak_bytes") > 15e6);
    assert_true(test_json_number(json, "naive_peak_bytes") < 12e6);
    cJSON_Delete(json);
}

static void what_it_cannot_do_it_says(void **state)
{
    static const struct {
        const char *options, *why;
    } cases[] = {{"--random seqlen_q=32,heads=2,head_dim=16 --window 7,0", "of all features it supports only a causal mask"},
                 {"--random seqlen_q=0,heads=2,head_dim=16", "there are no scores"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *json = bench(cases[i].options);
        assert_string_equal(test_json_text(json, "naive"), cases[i].why);
        cJSON_Delete(json);
    }
}

/* Of made-up weights: the projections and the attention of 5 tokens are counted, and their bytes. */
static void a_layer_is_timed_too(void **state)
{
    (void)state;
    cJSON *json = bench("--random seqlen_q=5,heads=4,kv_heads=2,head_dim=16,hidden=24 --dtype f32");
    const double flop = 2 * 5 * 24 * (64 + 32 + 32 + 64) + 4.0 * 4 * 5 * 5 * 16;
    const double bytes = 4 * (24 * (64 + 32 + 32 + 64) + 5 * (4 * 24 + 64 + 32 + 32 + 64) + 5 * 16 * (8 + 4));
    const double seconds = test_json_number(json, "seconds");
    if (!strcmp(device(), "cuda")) /* products of 24 and of 64, each rounded to fp32 */
        assert_true(test_json_number(json, "difference") > 0 && test_json_number(json, "difference") < 0x1p-16);
    else
        assert_string_equal(test_json_text(json, "naive"), "it has no projections on a CPU");
    assert_int_equal(test_json_number(json, "hidden_size"), 24);
    assert_float_equal(test_json_number(json, "tflops") * 1e12 * seconds / flop, 1, 1e-6);
    assert_float_equal(test_json_number(json, "gbps") * 1e9 * seconds / bytes, 1, 1e-6);
    cJSON_Delete(json);
}

/* --sweep with one query: each length of keys, with the key heads that were asked for. */
static void a_sweep_decodes(void **state)
{
    (void)state;
    cJSON *json = bench("--sweep --output sweep.png --dtype f16 --random "
                        "batch=1,heads=4,kv_heads=2,head_dim=64,seqlen_q=1,seqlen_k=512");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "sweep")), 1);
    assert_int_equal(test_json_number(json, "sweep/0/queries"), 1);
    assert_int_equal(test_json_number(json, "sweep/0/seqlen"), 512);
    assert_int_equal(test_json_number(json, "sweep/0/kv_heads"), 2);
    assert_true(test_json_number(json, "sweep/0/naive_seconds") > 0);
    assert_true(test_json_number(json, "sweep/0/difference") < 0x1p-6);
    cJSON_Delete(json);
}

/* Tensors on the host within ever less memory: the limits fall to the least, plans keep them, and no bit changes. */
static void an_offload_bench_falls_to_the_least(void **state)
{
    static const char shape[] = "--random seqlen_q=40,seqlen_k=2100,heads=2,kv_heads=1,head_dim=16 --dtype f16";
    const bool cuda = !strcmp(device(), "cuda");
    size_t size;
    (void)state;
    cJSON *json = test_json(0, "bench --offload --device %s --seconds 0 %s --output offload.png --json", device(), shape);
    const cJSON *rows = cJSON_GetObjectItem(json, "offload");
    const int count = cJSON_GetArraySize(rows);
    double limit = 0, moved = 0;
    assert_in_range(count, 3, 9);
    for (int i = 0; i < count; i++) {
        const cJSON *row = cJSON_GetArrayItem(rows, i);
        const double now = test_json_number(row, "limit_bytes"), bytes = test_json_number(row, "bytes_to_device") + test_json_number(row, "bytes_to_host");
        assert_true(cJSON_IsTrue(cJSON_GetObjectItem(row, "same_bits")));
        assert_true(test_json_number(row, "seconds") > 0);
        assert_true(i < 2 ? now == 0 : now < limit || limit == 0); /* no limit at first */
        if (now > 0) assert_true(test_json_number(row, "plan_bytes") <= now);
        assert_true(cuda && i > 0 ? bytes >= moved && bytes > 0 : bytes == 0); /* less memory moves no less */
        limit = now, moved = bytes;
    }
    cJSON_Delete(json);
    char *png = test_read_file(test_path("offload.png"), &size);
    assert_memory_equal(png, "\x89PNG\r\n\x1a\n", 8);
    free(png);
    /* the last is the least: a byte less is refused */
    test_expect(1, "the plan needs at least", "bench --device %s --seconds 0 %s --memory-limit %.0f", device(), shape, limit - 1);
    test_expect(2, "--memory-limit and it exclude each other", "bench --offload --memory-limit 1M");
    test_expect(2, "--random hidden and it exclude each other", "bench --offload --random hidden=8");
    test_expect(2, "--offload and --sweep exclude each other", "bench --offload --sweep");
}

/* --decode: a row for each page size, whose numbers are of one query a sequence. */
static void a_decode_bench_has_every_page_size(void **state)
{
    static const int sizes[] = {0, 64, 16, 1};
    static const char shape[] = "batch=2,heads=4,kv_heads=2,head_dim=16,seqlen_k=70";
    (void)state;
    cJSON *json = test_json(0, "bench --decode --device %s --seconds 0 --dtype bf16 --random %s --json", device(), shape);
    const cJSON *rows = cJSON_GetObjectItem(json, "decode");
    assert_int_equal(cJSON_GetArraySize(rows), 4);
    for (int i = 0; i < 4; i++) {
        const cJSON *row = cJSON_GetArrayItem(rows, i);
        const double seconds = test_json_number(row, "seconds");
        assert_int_equal(test_json_number(row, "page_size"), sizes[i]);
        assert_int_equal(test_json_number(row, "batch"), 2);
        assert_int_equal(test_json_number(row, "seqlen_k"), 70);
        assert_float_equal(test_json_number(row, "tokens_per_second") * seconds, 2, 1e-6);
        assert_float_equal(test_json_number(row, "gbps") * 1e9 * seconds, 2 * 2 * 70 * 2 * 16 * 2, 1e-3);
        assert_true(test_json_number(row, "reading_gbps") > 0 && test_json_number(row, "share") > 0);
    }
    cJSON_Delete(json);
    if (strcmp(device(), "cpu")) return;
    json = test_json(0, "bench --decode --device cpu --seconds 0 --page-size 7 --random %s --json", shape);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "decode")), 1);
    assert_int_equal(test_json_number(json, "decode/0/page_size"), 7);
    cJSON_Delete(json);
    test_expect(2, "--explain and --decode exclude each other", "bench --decode --explain");
    test_expect(2, "--decode and --random hidden exclude each other", "bench --decode --random hidden=8");
    test_expect(2, "--decode has one query a sequence", "bench --decode --random seqlen_q=2");
    test_expect(2, "--offload", "bench --decode --offload");
}

/* --page-size: the bits of one tensor, within the rules; a bench says that the naive algorithm reads no pages. */
static void pages_are_compared_and_timed(void **state)
{
    static const char problem[] = "--random batch=2,heads=4,kv_heads=2,head_dim=16,seqlen_q=5,seqlen_k=70 --causal=bottom-right --dtype f16";
    size_t size, paged;
    (void)state;
    cJSON *json = test_json(0, "compare --device %s %s --output whole.npy --json", device(), problem);
    cJSON_Delete(json);
    char *whole = test_read_file(test_path("whole.npy"), &size);
    for (int n = strcmp(device(), "cpu") ? 13 : 1; n < 80; n = strcmp(device(), "cpu") ? 80 : 3 * n + 1) {
        json = test_json(0, "compare --device %s %s --page-size %d --output paged.npy --json", device(), problem, n);
        assert_int_equal(test_json_number(json, "page_size"), n);
        cJSON_Delete(json);
        char *other = test_read_file(test_path("paged.npy"), &paged);
        assert_int_equal(size, paged);
        if (memcmp(whole, other, size)) fail_msg("pages of %d give other bits", n);
        free(other);
    }
    free(whole);
    json = bench("--page-size 16 --random seqlen_q=1,seqlen_k=40,heads=2,head_dim=16");
    assert_string_equal(test_json_text(json, "naive"), "it reads no pages");
    cJSON_Delete(json);
    test_expect(2, "--page-size and --backward exclude each other", "compare --backward --page-size 4 --random seqlen_q=8");
    test_expect(2, "--page-size and --weights exclude each other", "compare --weights w.safetensors --input x.npy --page-size 4");
    test_expect(2, "--page-size and --random hidden exclude each other", "bench --page-size 4 --random hidden=8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_naive_algorithm_agrees), cmocka_unit_test(differences_have_no_sign), cmocka_unit_test(memory_is_what_a_run_adds),
                                       cmocka_unit_test(what_it_cannot_do_it_says),
                                       cmocka_unit_test(a_layer_is_timed_too), cmocka_unit_test(a_sweep_decodes),
                                       cmocka_unit_test(an_offload_bench_falls_to_the_least),
                                       cmocka_unit_test(a_decode_bench_has_every_page_size), cmocka_unit_test(pages_are_compared_and_timed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
