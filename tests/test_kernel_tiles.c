/* Tiles of keys that no row of a block sees cost nothing: the work that the software device counts for a problem of whose keys
   few are visible is the plain problem's in proportion. Runs of the command, which holds each against the reference as well. */
#include "support/command.h"
#include "support/files.h"

#include <attend/attend.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { DIM = 64, BLOCK = 128, PREFIX = 64, WINDOW = 64, MOST_BLOCKS = 32 };

typedef struct shape {
    int64_t queries, keys;
} shape;
static const shape square = {1024, 1024}, few_queries = {8, 4096}; /* the keys of the second are split */

/* ---- features of which each row sees few keys ---- */

/* An eighth of the blocks of keys, here and there; each row of blocks has others. */
static bool block_shown(const shape *s, int64_t row, int64_t key)
{
    const int64_t blocks = s->keys / BLOCK, i = row / BLOCK, j = key / BLOCK;
    return blocks == 8 ? j == (3 * i + 5) % 8 : j == 1 || j == 9 || j == 10 || j == blocks - 2;
}
/* Documents of an eighth of the keys, which begin in the middle of a span where keys are split; the last is the first's. */
static int64_t document(const shape *s, int64_t key) { return (key + (s->queries < s->keys ? 256 : 0)) / (s->keys / 8) % 8; }
static bool same_document(const shape *s, int64_t row, int64_t key)
{
    return document(s, key) == (s->queries < s->keys ? 3 : document(s, row));
}
static bool in_prefix_or_window(const shape *s, int64_t row, int64_t key)
{
    const int64_t position = row + s->keys - s->queries;
    return key < PREFIX || (key <= position && key > position - WINDOW);
}

static const struct feature {
    const char *name, *options;
    bool (*sees)(const shape *s, int64_t row, int64_t key);
    int bytes_a_key; /* that are read of each, visible or not */
} features[] = {
    {"segments", "--segments-q ids_q.npy --segments-k ids_k.npy", same_document, 4},
    {"block mask", "--blocks 128,128 --block-mask shown.npy", block_shown, 0},
    {"block list", "--blocks 128,128 --block-offsets offsets.npy --block-indices indices.npy", block_shown, 0},
    {"prefix and window", "--causal=bottom-right --prefix 64 --window 63,0", in_prefix_or_window, 0},
};

/* What the options name. Documents are not numbered in their order. */
static void write_files(const shape *s)
{
    static int64_t ids_q[1024], ids_k[4096], offsets[MOST_BLOCKS + 1], indices[MOST_BLOCKS * MOST_BLOCKS];
    static uint8_t shown[MOST_BLOCKS * MOST_BLOCKS];
    const int64_t rows = (s->queries + BLOCK - 1) / BLOCK, blocks = s->keys / BLOCK;
    int64_t count = 0;
    char shape[64];
    for (int64_t i = 0; i < s->keys; i++) ids_k[i] = document(s, i) * 7919 % 31;
    for (int64_t i = 0; i < s->queries; i++) ids_q[i] = (s->queries < s->keys ? 3 : document(s, i)) * 7919 % 31;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < blocks; j++)
            if ((shown[i * blocks + j] = block_shown(s, i * BLOCK, j * BLOCK))) indices[count++] = j;
        offsets[i + 1] = count;
    }
    snprintf(shape, sizeof shape, "(1, %d)", (int)s->queries);
    test_write_npy("ids_q.npy", "<i8", shape, ids_q, (size_t)s->queries * 8);
    snprintf(shape, sizeof shape, "(1, %d)", (int)s->keys);
    test_write_npy("ids_k.npy", "<i8", shape, ids_k, (size_t)s->keys * 8);
    snprintf(shape, sizeof shape, "(1, 1, %d, %d)", (int)rows, (int)blocks);
    test_write_npy("shown.npy", "|u1", shape, shown, (size_t)(rows * blocks));
    snprintf(shape, sizeof shape, "(1, 1, %d)", (int)rows + 1);
    test_write_npy("offsets.npy", "<i8", shape, offsets, (size_t)(rows + 1) * 8);
    snprintf(shape, sizeof shape, "(%d,)", (int)count);
    test_write_npy("indices.npy", "<i8", shape, indices, (size_t)count * 8);
}

/* The part of all pairs of `rows` rows and a tile of keys in which some row sees some key. */
static double share(const struct feature *f, const shape *s, int64_t rows, int64_t tile)
{
    int64_t seen = 0, all = 0;
    for (int64_t row = 0; row < s->queries; row += rows)
        for (int64_t key = 0; key < s->keys; key += tile, all++) {
            bool any = false;
            for (int64_t i = row; i < row + rows && i < s->queries && !any; i++)
                for (int64_t j = key; j < key + tile && !any; j++) any = f->sees(s, i, j);
            seen += any;
        }
    return (double)seen / (double)all;
}

/* ---- counting ---- */

typedef struct work {
    double products, bytes; /* tensor_flops, or instructions of the FMA pipe; of global memory */
} work;

static work count(const attend_kernel_info *row, const char *counter, const shape *s, const char *options)
{
    char number[64];
    size_t size;
    work sum = {0, 0};
    setenv("ATTEND_KERNEL", row->name, 1);
    setenv("SOFTGPU_REPORT", "json", 1), setenv("SOFTGPU_REPORT_FILE", test_path("report.json"), 1);
    test_expect(0, "",
                "compare --device cuda --quiet --dtype %s --random heads=1,seqlen_q=%d,seqlen_k=%d,head_dim=%d %s >compared",
                row->dtype == ATTEND_F32 ? "f32" : "f16", (int)s->queries, (int)s->keys, DIM, options);
    unsetenv("SOFTGPU_REPORT"), unsetenv("SOFTGPU_REPORT_FILE"), unsetenv("ATTEND_KERNEL");
    char *text = test_read_file(test_path("report.json"), &size);
    cJSON *report = cJSON_Parse(text);
    const int kernels = cJSON_GetArraySize(cJSON_GetObjectItem(report, "kernels"));
    assert_true(kernels > 0);
    for (int i = 0; i < kernels; i++) {
        snprintf(number, sizeof number, "kernels/%d/%s", i, counter);
        sum.products += test_json_number(report, number);
        snprintf(number, sizeof number, "kernels/%d/sectors", i);
        sum.bytes += 32 * test_json_number(report, number);
    }
    cJSON_Delete(report), free(text);
    return sum;
}

/* `rows` share their products: a warp of the tensor cores, a block of CUDA cores. What is read beside Q, K and V, and the search,
   may add a part to what is left of the plain problem. */
static void check(const char *name, const char *counter, int64_t rows, const shape *s, double more_products, double more_bytes)
{
    int failures = 0;
    attend_kernel_info row;
    for (size_t i = 0; attend_kernel(i, &row) && strcmp(row.name, name); i++) continue;
    assert_string_equal(row.name, name);
    if (!rows) rows = row.tile_q;
    write_files(s);
    const work plain = count(&row, counter, s, "");
    const double blocks = (double)((s->queries + row.tile_q - 1) / row.tile_q), element = row.dtype == ATTEND_F32 ? 4 : 2;
    const double keys_and_values = blocks * (double)s->keys * 2 * DIM * element;
    assert_true(plain.products > 0 && plain.bytes > keys_and_values);
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        const struct feature *f = &features[i];
        const work few = count(&row, counter, s, f->options);
        const double products = share(f, s, rows, row.tile_k) * plain.products;
        const double bytes = plain.bytes - (1 - share(f, s, row.tile_q, row.tile_k)) * keys_and_values +
                             (double)(f->bytes_a_key * s->keys);
        if (few.products <= (1 + more_products) * products && few.bytes <= (1 + more_bytes) * bytes) continue;
        print_error("%s, %s: %.0f of %s and %.0f bytes of global memory, expected %.0f and %.0f\n", name,
                    f->name, few.products, counter, few.bytes, products, bytes);
        failures++;
    }
    assert_int_equal(failures, 0);
}

static void tensor_cores(void **state) { (void)state, check("flash_mma_f16_d64", "tensor_flops", 32, &square, 0, 0.1); }
static void tensor_cores_with_split_keys(void **state)
{
    (void)state, check("flash_mma_f16_d64", "tensor_flops", 32, &few_queries, 0, 0.1);
}
/* Keys are split as the plan's longest sequence needs it; parts that no row sees any key of are neither written nor read. */
static void splits_without_keys_cost_nothing(void **state)
{
    (void)state;
    static const int64_t start = 8192 - 1100;
    static const shape planned = {8, 8192}, two_parts = {8, 2048};
    static const struct {
        const char *name, *options, *options_of_two; /* costs as two parts of keys with these options */
    } cases[] = {{"the first keys", "--causal=top-left", "--causal=top-left"},
                 {"a window at the last", "--causal=bottom-right --window 1100,0", ""},
                 {"padding before the last", "--starts-k start.npy", ""}};
    attend_kernel_info row;
    for (size_t i = 0; attend_kernel(i, &row) && strcmp(row.name, "flash_mma_f16_d64"); i++) continue;
    test_write_npy("start.npy", "<i8", "(1,)", &start, sizeof start);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const work few = count(&row, "tensor_flops", &planned, cases[i].options), plain = count(&row, "tensor_flops", &two_parts, cases[i].options_of_two);
        if (few.bytes > 1.1 * plain.bytes || few.products > plain.products)
            fail_msg("%s: %.0f products and %.0f bytes, alone %.0f and %.0f", cases[i].name, few.products, few.bytes, plain.products, plain.bytes);
    }
}
/* A warpgroup computes whatever tile its block visits. */
static void hopper(void **state)
{
    (void)state;
    check("flash_wgmma_f16_d64", "tensor_flops", 0, &square, 0, 0.1);
    check("flash_wgmma_f16_d64", "tensor_flops", 0, &few_queries, 0, 0.1);
}
static void cuda_cores(void **state) { (void)state, check("flash_fma_f32_d64", "pipes/FMA", 0, &square, 0.1, 0.1); }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensor_cores),
        cmocka_unit_test(tensor_cores_with_split_keys),
        cmocka_unit_test(splits_without_keys_cost_nothing),
        cmocka_unit_test(cuda_cores),
    };
    const struct CMUnitTest of_hopper[] = {cmocka_unit_test(hopper)};
    if (argc > 1 && !strcmp(argv[1], "hopper")) return cmocka_run_group_tests(of_hopper, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
