/* attend inspect: what it says of a real layer, its files and pictures, and its sentences. */
#include "support/arrays.h"
#include "support/command.h"
#include "support/files.h"
#include "file/npy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MINILM "inspect --weights " TEST_DATA "/minilm/layer0.safetensors --input " TEST_DATA "/minilm/x.npy"
#define TOKENS " --tokens " TEST_DATA "/minilm/tokens.txt"

/* As scripts/demo finds by full softmax: head 2 looks at the word before; "bank" looks at "old". */
static void the_real_layer_shows_what_it_does(void **state)
{
    (void)state;
    static const char *const devices[] = {"cpu", "reference"};
    for (int i = 0; i < 2; i++) {
        cJSON *json = test_json(0, MINILM TOKENS " --queries 3 --json --device %s", devices[i]);
        assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "heads_seen")), 12);
        assert_float_equal(test_json_number(json, "heads_seen/2/distance"), 1, 0.05);
        assert_float_equal(test_json_number(json, "heads_seen/2/keys"), 1, 0.05);
        assert_true(test_json_number(json, "heads_seen/2/mass/previous") > 0.98);
        assert_true(test_json_number(json, "heads_seen/2/strongest/weight") > 0.99);
        assert_float_equal(test_json_number(json, "heads_seen/7/most_like"), 11, 0);
        assert_string_equal(test_json_text(json, "queries/0/token"), "bank");
        assert_string_equal(test_json_text(json, "queries/0/keys/0/token"), "old");
        assert_float_equal(test_json_number(json, "queries/0/keys/0/weight"), 0.10, 0.01);
        cJSON_Delete(json);
    }
}

static void a_person_reads_words(void **state)
{
    (void)state;
    test_process p = test_attend(MINILM TOKENS " --queries 3 --top 2 --regions self,-2..-1,@0..0");
    assert_int_equal(p.code, 0);
    assert_non_null(strstr(p.out, "bank     -> old 10 %, [CLS] 8 %\n"));
    assert_non_null(strstr(p.out, "head  distance  keys  self  -2..-1  @0..0  most like  strongest\n"));
    /* The table's numbers are those of the report for programs; head 0 is the most like head 3. */
    cJSON *json = test_json(0, MINILM TOKENS " --queries 3 --top 2 --regions self,-2..-1,@0..0 --json");
    assert_float_equal(test_json_number(json, "heads_seen/3/most_like"), 0, 0);
    for (int head = 0; head < 12; head++) {
        const char *const names[] = {"distance", "keys", "mass/self", "mass/-2..-1", "mass/@0..0", "most_like", "likeness", "strongest/weight"};
        double seen[8];
        char path[64], line[200], written[200];
        for (int i = 0; i < 8; i++) {
            snprintf(path, sizeof path, "heads_seen/%d/%s", head, names[i]);
            seen[i] = test_json_number(json, path);
        }
        snprintf(line, sizeof line, "\n%4d ", head);
        const char *at = strstr(p.out, line);
        assert_non_null(at);
        snprintf(written, sizeof written, "%.*s", (int)strcspn(at + 1, "\n"), at + 1);
        snprintf(line, sizeof line, "%4d  %8.1f  %4.1f  %2.0f %%  %4.0f %%  %3.0f %%  %2.0f (%.2f)  ", head, seen[0], seen[1], 100 * seen[2],
                 100 * seen[3], 100 * seen[4], seen[5], seen[6]);
        assert_memory_equal(written, line, strlen(line));
        snprintf(line, sizeof line, " %.0f %%", 100 * seen[7]);
        assert_string_equal(written + strlen(written) - strlen(line), line);
    }
    cJSON_Delete(json);
    test_process_free(&p);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static int big_endian(const char *bytes)
{
    const unsigned char *b = (const unsigned char *)bytes;
    return b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
}

static void expect_picture(const char *name, int width, int height)
{
    size_t size;
    char *file = test_read_file(test_path(name), &size);
    assert_true(size > 100);
    assert_memory_equal(file, "\x89PNG\r\n\x1a\n", 8);
    assert_int_equal(big_endian(file + 16), width);
    assert_int_equal(big_endian(file + 20), height);
    free(file);
}

/* Margins of 16; a panel is its tiles' boxes, a margin, a title of 34 and the labels; four panels in a row. */
/* An entry's picture is its own: the bytes of the other's where both have changed places. */
static void a_picture_is_of_its_entry(void **state)
{
    (void)state;
    enum { ENTRY = 4 * 2 * 8 };
    static float q[2 * ENTRY], swapped[2 * ENTRY];
    for (int i = 0; i < 2 * ENTRY; i++) q[i] = sinf((float)(i * i));
    memcpy(swapped, q + ENTRY, sizeof q / 2), memcpy(swapped + ENTRY, q, sizeof q / 2);
    test_write_tensor("x.npy", ATTEND_F32, 4, (int64_t[]){2, 4, 2, 8}, q);
    test_write_tensor("y.npy", ATTEND_F32, 4, (int64_t[]){2, 4, 2, 8}, swapped);
    char *file[3];
    size_t size[3];
    static const char *const shown[] = {"x.npy --k x.npy --entry 1", "y.npy --k y.npy --entry 0", "x.npy --k x.npy --entry 0"};
    for (int i = 0; i < 3; i++) {
        test_expect(0, "", "inspect --q %s --device cpu --quiet --output entry.png", shown[i]);
        file[i] = test_read_file(test_path("entry.png"), &size[i]);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(file[0], file[1], size[0]);
    assert_true(size[0] != size[2] || memcmp(file[0], file[2], size[0]));
    for (int i = 0; i < 3; i++) free(file[i]);
    remove(test_path("x.npy")), remove(test_path("y.npy")), remove(test_path("entry.png"));
}

static void pictures_have_a_panel_a_head(void **state)
{
    (void)state;
    test_expect(0, "", MINILM " --quiet --output heads.png");
    expect_picture("heads.png", 32 + 4 * (103 * 2 + 26 + 16), 32 + 3 * (103 * 2 + 26 + 34 + 16));
    test_expect(0, "",
                MINILM TOKENS " --quiet --map 1:6,2:9 --head 4 --output words.png"); /* "stood" and "stood", "where", "river" … */
    expect_picture("words.png", 32 + 7 * 24 + (5 * 6 + 6) + 16, 32 + 5 * 24 + (5 * 6 + 6) + 34 + 16);
    /* "spring" among the queries, then among the keys; the others have four letters at most, or five */
    test_expect(0, "", MINILM TOKENS " --quiet --map 8:13,1:4 --head 4 --output words.png");
    expect_picture("words.png", 32 + 3 * 24 + (6 * 6 + 6) + 16, 32 + 5 * 24 + (6 * 6 + 6) + 34 + 16);
    test_expect(0, "", MINILM TOKENS " --quiet --map 1:4,8:13 --head 4 --output words.png");
    expect_picture("words.png", 32 + 5 * 24 + (6 * 6 + 6) + 16, 32 + 3 * 24 + (6 * 6 + 6) + 34 + 16);
    test_expect(0, "", "inspect --random heads=1,seqlen_q=3000,head_dim=8 --causal --tiles 100 --quiet --output long.png");
    expect_picture("long.png", 32 + 100 * 9 + 26 + 16, 32 + 100 * 9 + 26 + 34 + 16);
}

static void weights_and_maps_are_written_as_numbers(void **state)
{
    (void)state;
    attend_array rows, map;
    test_expect(0, "",
                "inspect --random batch=2,heads=3,kv_heads=1,seqlen_q=40,head_dim=16 --causal --queries 0,7,39 --tiles 4 --quiet "
                "--rows rows.npy --map-output map.npy");
    assert_int_equal(attend_npy_read(test_path("rows.npy"), &rows), ATTEND_OK);
    assert_int_equal(attend_npy_read(test_path("map.npy"), &map), ATTEND_OK);
    const int64_t rows_shape[] = {2, 3, 3, 40}, map_shape[] = {2, 3, 4, 4};
    assert_memory_equal(rows.shape, rows_shape, sizeof rows_shape);
    assert_memory_equal(map.shape, map_shape, sizeof map_shape);
    for (int row = 0; row < 18; row++) {
        const float *weights = (const float *)rows.data + row * 40;
        double sum = 0;
        for (int j = 0; j < 40; j++) sum += weights[j];
        assert_float_equal(sum, 1, 1e-5);
        for (int j = row % 3 == 0 ? 1 : row % 3 == 1 ? 8 : 40; j < 40; j++) assert_true(weights[j] == 0);
    }
    for (int tile = 0; tile < 96; tile++)
        if (tile % 4 > tile / 4 % 4) assert_true(((const float *)map.data)[tile] == 0);
    for (int line = 0; line < 24; line++) { /* a row of tiles holds the weight of its 10 queries */
        const float *tiles = (const float *)map.data + line * 4;
        assert_float_equal((tiles[0] + tiles[1] + tiles[2] + tiles[3]) * 10, 1, 1e-5);
    }
    attend_array_free(&rows), attend_array_free(&map);
}

/* ---- packed sequences, and no values ------------------------------------------------------------------------------- */

/* [rows, 2 heads, 4], and its rows from `first` on as a file of their own. */
static void write_rows(const char *name, int64_t first, int64_t rows, uint64_t seed)
{
    float data[16 * 8];
    for (int i = 0; i < 16 * 8; i++) data[i] = (float)((seed + (uint64_t)i * 7919) % 101) / 25.0f - 2;
    test_write_tensor(name, ATTEND_F32, 3, (int64_t[]){rows, 2, 4}, data + first * 8);
}

/* A member of each head seen: equal in both, to the last digit. */
static void expect_same_heads(const cJSON *a, const cJSON *b)
{
    static const char *const members[] = {"distance", "keys", "mass/self", "mass/previous", "most_like", "likeness", "strongest/query",
                                          "strongest/key", "strongest/weight"};
    char path[64];
    for (int head = 0; head < 2; head++)
        for (size_t m = 0; m < sizeof members / sizeof *members; m++) {
            snprintf(path, sizeof path, "heads_seen/%d/%s", head, members[m]);
            if (test_json_number(a, path) != test_json_number(b, path)) fail_msg("%s differs", path);
        }
}

/* The second of three sequences, and the same rows alone. */
static void a_packed_sequence_is_seen_as_if_it_were_alone(void **state)
{
    (void)state;
    test_write_integers("cu.npy", (int64_t[]){0, 4, 11, 16}, 4);
    const char tokens[] = "a\nb\nc\nd\nE\nF\nG\nH\nI\nJ\nK\nl\nm\nn\no\np\n";
    test_write_file(test_path("packed.txt"), tokens, sizeof tokens - 1);
    write_rows("q.npy", 0, 16, 1), write_rows("k.npy", 0, 16, 2), write_rows("v.npy", 0, 16, 3);
    write_rows("q1.npy", 4, 7, 1), write_rows("k1.npy", 4, 7, 2), write_rows("v1.npy", 4, 7, 3);
    for (int values = 0; values < 2; values++) {
        cJSON *packed = test_json(0, "inspect --q q.npy --k k.npy %s --cu-seqlens-q cu.npy --entry 1 --causal --queries 6,2 --tokens packed.txt "
                                     "--rows r.npy --map-output m.npy --output p.png --json --device cpu", values ? "--v v.npy" : "");
        cJSON *alone = test_json(0, "inspect --q q1.npy --k k1.npy %s --causal --queries 6,2 --rows r1.npy --map-output m1.npy --json --device cpu",
                                 values ? "--v v1.npy" : "");
        expect_same_heads(packed, alone);
        assert_string_equal(test_json_text(packed, "queries/0/token"), "K");
        assert_string_equal(test_json_text(packed, "queries/1/token"), "G");
        assert_true(test_json_number(packed, "queries/0/keys/0/key") == test_json_number(alone, "queries/0/keys/0/key"));
        assert_true(test_json_number(packed, "queries/0/keys/0/weight") == test_json_number(alone, "queries/0/keys/0/weight"));
        assert_int_equal(cJSON_HasObjectItem(packed, "seconds"), values); /* of attention, which needs values */
        attend_array rows, rows_alone, map, map_alone;
        assert_int_equal(attend_npy_read(test_path("r.npy"), &rows), ATTEND_OK);
        assert_int_equal(attend_npy_read(test_path("r1.npy"), &rows_alone), ATTEND_OK);
        assert_int_equal(attend_npy_read(test_path("m.npy"), &map), ATTEND_OK);
        assert_int_equal(attend_npy_read(test_path("m1.npy"), &map_alone), ATTEND_OK);
        assert_memory_equal(rows.shape, ((int64_t[]){1, 2, 2, 7}), sizeof(int64_t[4])); /* the longest has 7 */
        assert_memory_equal(rows.data, rows_alone.data, 2 * 2 * 7 * sizeof(float));
        assert_memory_equal(map.shape, ((int64_t[]){3, 2, 7, 7}), sizeof(int64_t[4]));
        assert_memory_equal((float *)map.data + 2 * 7 * 7, map_alone.data, 2 * 7 * 7 * sizeof(float));
        attend_array_free(&rows), attend_array_free(&rows_alone), attend_array_free(&map), attend_array_free(&map_alone);
        cJSON_Delete(packed), cJSON_Delete(alone);
    }
    expect_picture("p.png", 32 + 2 * (7 * 24 + 26 + 16), 32 + 7 * 24 + 26 + 34 + 16);
    test_expect(2, "--entry is 3, but the last one is 2", "inspect --q q.npy --k k.npy --cu-seqlens-q cu.npy --entry 3");
    test_expect(2, "--queries has 7, but the last query is 6", "inspect --q q.npy --k k.npy --cu-seqlens-q cu.npy --entry 1 --queries 7");
    test_expect(2, "packed.txt has 16 lines, but there are 7 keys", "inspect --q q1.npy --k k1.npy --tokens packed.txt");
    test_expect(2, "--v is missing", "compare --q q.npy --k k.npy");
}

/* The second of two entries. */
static void an_entry_of_a_batch_is_seen_as_if_it_were_alone(void **state)
{
    (void)state;
    float q[2 * 7 * 8], k[2 * 7 * 8];
    for (int i = 0; i < 2 * 7 * 8; i++)
        q[i] = (float)(i * 7919 % 101) / 25.0f - 2, k[i] = (float)(i * 104729 % 103) / 25.0f - 2;
    test_write_tensor("q.npy", ATTEND_F32, 4, (int64_t[]){2, 7, 2, 4}, q);
    test_write_tensor("k.npy", ATTEND_F32, 4, (int64_t[]){2, 7, 2, 4}, k);
    test_write_tensor("q1.npy", ATTEND_F32, 3, (int64_t[]){7, 2, 4}, q + 7 * 8);
    test_write_tensor("k1.npy", ATTEND_F32, 3, (int64_t[]){7, 2, 4}, k + 7 * 8);
    cJSON *batch =
        test_json(0, "inspect --q q.npy --k k.npy --entry 1 --causal --queries 6 --json --device cpu");
    cJSON *alone = test_json(0, "inspect --q q1.npy --k k1.npy --causal --queries 6 --json --device cpu");
    expect_same_heads(batch, alone);
    assert_true(test_json_number(batch, "queries/0/keys/0/weight") ==
                test_json_number(alone, "queries/0/keys/0/weight"));
    cJSON_Delete(batch), cJSON_Delete(alone);
}

/* Eight queries of zeros and four keys: queries 4 to 7 see one to four of them, all weights of a row are the same. */
static void rows_without_keys_and_equal_weights(void **state)
{
    (void)state;
    const float zeros[8 * 4] = {0};
    test_write_tensor("q.npy", ATTEND_F32, 3, (int64_t[]){8, 1, 4}, zeros);
    test_write_tensor("k.npy", ATTEND_F32, 3, (int64_t[]){4, 1, 4}, zeros);
    for (int newline = 0; newline < 2; newline++) { /* behind the last token */
        test_write_file(test_path("four.txt"), "a\nb\nc\nd\n", newline ? 8 : 7);
        cJSON *json = test_json(
            0,
            "inspect --q q.npy --k k.npy --tokens four.txt --causal=bottom-right --queries 7 --top 5 --json");
        assert_float_equal(test_json_number(json, "heads_seen/0/keys"), (1 + 2 + 3 + 4) / 4.0, 1e-4);
        const cJSON *keys =
            cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "queries"), 0), "keys");
        assert_int_equal(cJSON_GetArraySize(keys), 4);
        for (int i = 0; i < 4; i++) assert_int_equal(test_json_number(cJSON_GetArrayItem(keys, i), "key"), i);
        assert_string_equal(test_json_text(json, "queries/0/keys/3/token"), "d");
        cJSON_Delete(json);
    }
}

/* It holds little for one query, whatever reading the keys took. */
static void memory_is_what_an_inspection_adds(void **state)
{
    (void)state;
    enum { KEYS = 1 << 15, DIM = 64 };
    float *zeros = calloc(KEYS * DIM, sizeof *zeros);
    test_write_tensor("few.npy", ATTEND_F32, 3, (int64_t[]){1, 1, DIM}, zeros), test_write_tensor("many.npy", ATTEND_F32, 3, (int64_t[]){KEYS, 1, DIM}, zeros);
    free(zeros);
    cJSON *json = test_json(0, "inspect --q few.npy --k many.npy --dtype f16 --json --device cpu --threads 1");
    assert_true(test_json_number(json, "inspect_grew_bytes") < 6e6);
    cJSON_Delete(json);
}

/* ---- sentences --------------------------------------------------------------------------------------------------- */

static void bad_requests_get_a_sentence(void **state)
{
    (void)state;
#define SMALL "inspect --random heads=2,seqlen_q=8,head_dim=8 "
    test_write_file(test_path("two.txt"), "one\ntwo\n", 8);
    const char *const cases[][2] = {
        {"inspect", "give --weights and --input, or --q, --k and --v, or --random"},
        {SMALL "--queries 8", "--queries has 8, but the last query is 7"},
        {SMALL "--queries 5-3", "--queries is \"3\", expected a whole number from 5"},
        {SMALL "--queries x", "--queries is \"x\""},
        {SMALL "--queries 0-64", "--queries has more than 64 queries"},
        {SMALL "--regions near", "--regions has \"near\", expected self, previous, next, first, A..B or @A..B"},
        {SMALL "--regions 4..2", "--regions is \"2\", expected a whole number from 4"},
        {SMALL "--top 65", "--top is \"65\""},
        {SMALL "--head 2", "--head is 2, but the last one is 1"},
        {SMALL "--entry 1", "--entry is 1, but the last one is 0"},
        {SMALL "--map 0:9,:", "--map: the last query is 8, but the last one is 7"},
        {SMALL "--map 3", "--map is \"3\", expected queries and keys, FROM:TO,FROM:TO"},
        {SMALL "--map 3:3,:", "--map is \"3\", expected a whole number from 4"},
        {SMALL "--tokens two.txt", "two.txt has 2 lines, but there are 8 keys"},
        {SMALL "--tokens none.txt", "none.txt: No such file or directory"},
        {SMALL "--rows w.npy", "--rows needs --queries"},
        {"inspect --random heads=1,seqlen_q=0,head_dim=8", "there is nothing to inspect: batch 1, 0 queries"},
        {"run --tokens two.txt", "--tokens is not an option of attend run"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) test_expect(2, cases[i][1], "%s", cases[i][0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_real_layer_shows_what_it_does),
        cmocka_unit_test(a_person_reads_words),
        cmocka_unit_test(pictures_have_a_panel_a_head),
        cmocka_unit_test(a_picture_is_of_its_entry),
        cmocka_unit_test(weights_and_maps_are_written_as_numbers),
        cmocka_unit_test(a_packed_sequence_is_seen_as_if_it_were_alone),
        cmocka_unit_test(an_entry_of_a_batch_is_seen_as_if_it_were_alone),
        cmocka_unit_test(rows_without_keys_and_equal_weights),
        cmocka_unit_test(memory_is_what_an_inspection_adds),
        cmocka_unit_test(bad_requests_get_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
