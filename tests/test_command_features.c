/* The command's features, on the fp64 reference: each reaches the problem it names, and says the same as another way to say it.
 */
#include "support/arrays.h"
#include "support/command.h"
#include "support/files.h"
#include "file/npy.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 2, ROWS = 6, HEADS = 4, DIM = 8 };

static int make_inputs(void **state)
{
    (void)state;
    static float data[BATCH * ROWS * HEADS * DIM];
    const char *const names[] = {"q.npy", "k.npy", "v.npy"};
    for (int i = 0; i < 3; i++) {
        attend_tensor t = attend_tensor_1d(data, ATTEND_F32, BATCH * ROWS * HEADS * DIM);
        t.stride[0] = 1;
        attend_values_gauss((uint64_t)i + 5, 1, &t);
        test_write_tensor(names[i], ATTEND_F32, 4, (int64_t[]){BATCH, ROWS, HEADS, DIM}, data);
    }
    return 0;
}

#define ATTENTION "attention --q q.npy --k k.npy --v v.npy --device reference --quiet "

/* Two command lines with the same result, and neither the plain one. */
static void expect_same(const char *one, const char *other)
{
    size_t sizes[3];
    test_expect(0, "", ATTENTION "--output a.npy %s", one);
    test_expect(0, "", ATTENTION "--output b.npy %s", other);
    test_expect(0, "", ATTENTION "--output plain.npy");
    char *a = test_read_file(test_path("a.npy"), &sizes[0]), *b = test_read_file(test_path("b.npy"), &sizes[1]);
    char *plain = test_read_file(test_path("plain.npy"), &sizes[2]);
    assert_int_equal(sizes[0], sizes[1]);
    if (memcmp(a, b, sizes[0]) != 0) fail_msg("\"%s\" and \"%s\" give different results", one, other);
    if (!memcmp(a, plain, sizes[0])) fail_msg("\"%s\" gives the plain result", one);
    free(a), free(b), free(plain);
}

static void two_ways_to_say_one_thing(void **state)
{
    (void)state;
    unsigned char window[ROWS * ROWS];
    float bias[ROWS * ROWS], slopes[HEADS] = {0.25f, 0.0625f, 0.015625f, 0.00390625f}, twos[HEADS] = {2, 2, 2, 2};
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < ROWS; j++) {
            window[i * ROWS + j] = j >= i - 2 && j <= i + 1;
            bias[i * ROWS + j] = -0.5f * (float)abs(i - j);
        }
    test_write_npy("window.npy", "|b1", "(6, 6)", window, sizeof window);
    test_write_npy("lengths.npy", "<i4", "(2,)", (int32_t[]){6, 4}, 8);
    test_write_npy("starts.npy", "<i8", "(2,)", (int64_t[]){0, 0}, 16);
    unsigned char padded[2 * ROWS];
    for (int j = 0; j < 2 * ROWS; j++) padded[j] = j < 10;
    test_write_npy("padded.npy", "|u1", "(2, 1, 1, 6)", padded, sizeof padded);
    test_write_tensor("bias.npy", ATTEND_F32, 2, (int64_t[]){ROWS, ROWS}, bias);
    test_write_tensor("slopes.npy", ATTEND_F32, 1, (int64_t[]){HEADS}, slopes);
    for (int h = 0; h < HEADS; h++) slopes[h] = 0.5f;
    test_write_tensor("halves.npy", ATTEND_F32, 1, (int64_t[]){HEADS}, slopes);
    test_write_tensor("twos.npy", ATTEND_F32, 1, (int64_t[]){HEADS}, twos);
    expect_same("--window 2,1", "--mask window.npy");
    expect_same("--causal", "--window -1,0");
    expect_same("--causal=bottom-right", "--align bottom-right --causal");
    expect_same("--seqlens-k lengths.npy", "--mask padded.npy");
    expect_same("--seqlens-k lengths.npy", "--seqlens-k lengths.npy --starts-k starts.npy");
    expect_same("--alibi symmetric", "--alibi symmetric --alibi-slopes slopes.npy");
    expect_same("--alibi symmetric --alibi-slopes halves.npy", "--bias bias.npy");
    expect_same("--head-scales twos.npy --scale 0.25", "--scale 0.5");
    expect_same("--chunk 2 --causal", "--window -1,0 --chunk 2");
    expect_same("--causal --prefix 3", "--window -1,0 --prefix 3");
}

static void lists_and_tables_say_what_masks_and_biases_do(void **state)
{
    (void)state;
    unsigned char segments[2 * ROWS * ROWS], blocks[ROWS * ROWS];
    float bias[HEADS * ROWS * ROWS], table[HEADS * 4], transposed[4 * HEADS];
    const int32_t ids[2 * ROWS] = {7, 7, 7, -2, -2, 5, 1, 1, 1, 1, 1, 1};
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < ROWS; j++) segments[(b * ROWS + i) * ROWS + j] = ids[b * ROWS + i] == ids[b * ROWS + j];
    test_write_npy("segments.npy", "|u1", "(2, 1, 6, 6)", segments, sizeof segments);
    test_write_npy("ids.npy", "<i4", "(2, 6)", ids, sizeof ids);
    const unsigned char shown[6] = {1, 0, 0, 1, 1, 1}; /* blocks of 2 queries by 3 keys */
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < ROWS; j++) blocks[i * ROWS + j] = shown[i / 2 * 2 + j / 3];
    test_write_npy("shown.npy", "|b1", "(3, 2)", shown, sizeof shown);
    test_write_npy("blocks.npy", "|u1", "(6, 6)", blocks, sizeof blocks);
    /* Two buckets each way: the key itself or one side, and all that is farther. */
    for (int h = 0; h < HEADS; h++)
        for (int n = 0; n < 4; n++) table[h * 4 + n] = transposed[n * HEADS + h] = (float)(h - n) / 4;
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < ROWS; j++) bias[(h * ROWS + i) * ROWS + j] = table[h * 4 + (j > i ? 2 : 0) + (i != j)];
    test_write_tensor("table.npy", ATTEND_F32, 2, (int64_t[]){HEADS, 4}, table);
    test_write_tensor("buckets.npy", ATTEND_F32, 3, (int64_t[]){HEADS, ROWS, ROWS}, bias);
    expect_same("--segments-q ids.npy", "--mask segments.npy");
    expect_same("--segments-q ids.npy --segments-k ids.npy", "--mask segments.npy");
    expect_same("--blocks 2,3 --block-mask shown.npy", "--mask blocks.npy");
    test_write_npy("offsets.npy", "<i8", "(1, 1, 4)", (int64_t[]){0, 1, 2, 4}, 32);
    test_write_npy("indices.npy", "<i4", "(4,)", (int32_t[]){0, 1, 0, 1}, 16);
    expect_same("--blocks 2,3 --block-offsets offsets.npy --block-indices indices.npy", "--mask blocks.npy");
    expect_same("--relative both,2 --relative-table table.npy", "--bias buckets.npy");
    test_expect(2, "give --blocks with --block-mask", ATTENTION "--output o.npy --blocks 2,3");
    test_expect(2, "give both --relative and --relative-table, or neither", ATTENTION "--output o.npy --relative both,2");
    test_expect(2, "--blocks is \"2\", expected 2 numbers", ATTENTION "--output o.npy --blocks 2");
    test_expect(2, "block_mask has shape [1, 1, 3, 2], expected", ATTENTION "--output o.npy --blocks 1,3 --block-mask shown.npy");
}

/* Both batch entries packed end to end are two sequences. */
static void packed_sequences_are_those_of_a_batch(void **state)
{
    (void)state;
    size_t sizes[2], header = 128;
    static const char *const names[] = {"q", "k", "v"};
    char to[32], from[32];
    for (int i = 0; i < 3; i++) {
        size_t size;
        snprintf(from, sizeof from, "%s.npy", names[i]), snprintf(to, sizeof to, "packed_%s.npy", names[i]);
        char *file = test_read_file(test_path(from), &size);
        test_write_tensor(to, ATTEND_F32, 3, (int64_t[]){BATCH * ROWS, HEADS, DIM}, (const float *)(const void *)(file + header));
        free(file);
    }
    test_write_npy("cu.npy", "<i8", "(3,)", (int64_t[]){0, ROWS, 2 * ROWS}, 24);
    test_write_npy("cu3.npy", "<i8", "(4,)", (int64_t[]){0, 3, ROWS, 2 * ROWS}, 32);
    test_write_npy("down.npy", "<i8", "(3,)", (int64_t[]){0, 12, 6}, 24);
#define PACKED "attention --q packed_q.npy --k packed_k.npy --v packed_v.npy --device cpu --quiet --output packed.npy "
    test_expect(0, "", PACKED "--causal --cu-seqlens-q cu.npy --lse packed_lse.npy");
    test_expect(0, "", "attention --q q.npy --k k.npy --v v.npy --device cpu --quiet --causal --output whole.npy");
    char *packed = test_read_file(test_path("packed.npy"), &sizes[0]), *whole = test_read_file(test_path("whole.npy"), &sizes[1]);
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(packed + header, whole + header, sizes[0] - header);
    free(packed), free(whole);
    test_expect(2, "--causal needs an alignment", PACKED "--causal --cu-seqlens-q cu.npy --cu-seqlens-k cu.npy");
    test_expect(2, "cu3.npy has 3 sequences, but cu.npy has 2", PACKED "--cu-seqlens-q cu.npy --cu-seqlens-k cu3.npy");
    test_expect(2, "down.npy: element 2 is less than the previous one", PACKED "--cu-seqlens-q down.npy");
    test_expect(2, "packed and left_padded exclude each other", PACKED "--cu-seqlens-q cu.npy --starts-k lengths.npy");
    cJSON *json = test_json(0, "compare --device cpu --random seqlen_q=99,heads=2,head_dim=8 --cu-seqlens-q cu.npy --json");
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(json, "passed")));
    assert_int_equal(test_json_number(json, "seqlen_q"), ROWS);
    cJSON_Delete(json);
}

static void every_feature_holds_against_the_reference(void **state)
{
    (void)state;
    const float sinks[HEADS] = {0, 1, -2, 3};
    test_write_tensor("sinks.npy", ATTEND_F32, 1, (int64_t[]){HEADS}, sinks);
    cJSON *json = test_json(
        0, "compare --q q.npy --k k.npy --v v.npy --device reference --json --causal --window 3,0 --prefix 1 --softcap 5 "
           "--alibi causal --sinks sinks.npy");
    static const char *const names[] = {"sliding window", "prefix", "softcap", "ALiBi"};
    const cJSON *list = cJSON_GetObjectItem(json, "features");
    for (int i = 0; i < 4; i++) {
        bool found = false;
        const cJSON *item;
        cJSON_ArrayForEach(item, list) found |= strstr(item->valuestring, names[i]) != NULL;
        if (!found) fail_msg("%s is not among the features", names[i]);
    }
    assert_int_equal(cJSON_GetArraySize(list), 5);
    cJSON_Delete(json);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    const float one[1] = {1};
    test_write_tensor("one.npy", ATTEND_F32, 1, (int64_t[]){1}, one);
    test_write_npy("three.npy", "|u1", "(3, 6)", "123456123456123456", 18);
    test_expect(2, "one.npy has one value for all scores", ATTENTION "--output o.npy --bias one.npy");
    test_expect(2, "bias.npy is a mask, but its type is not bool or uint8", ATTENTION "--output o.npy --mask bias.npy");
    test_expect(2, "mask has shape [1, 1, 3, 6]", ATTENTION "--output o.npy --mask three.npy");
    test_expect(2, "sinks has shape [1], expected [4]", ATTENTION "--output o.npy --sinks one.npy");
    test_expect(2, "window.npy has integers or booleans", ATTENTION "--output o.npy --bias window.npy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_ways_to_say_one_thing),
        cmocka_unit_test(lists_and_tables_say_what_masks_and_biases_do),
        cmocka_unit_test(packed_sequences_are_those_of_a_batch),
        cmocka_unit_test(every_feature_holds_against_the_reference),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, make_inputs, NULL);
}
